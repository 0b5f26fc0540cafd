"""A daemon whose configuration file can be written anew while it runs, and what it then tells systemd."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captiond.config import Config
from captiond_engine.engine import Engine
from captiond_engine.progress import Progress

from tests.daemon.house import House, house, scripted_engine
from tests.daemon.service_manager import ServiceManager
from tests.sim.scripted import Script


@dataclass
class Renewed:
    """A configuration file that can be written anew."""

    home: House
    wanted: list[Any]
    manager: ServiceManager

    async def reload(self, config: Config | Exception) -> None:
        """Until systemd has heard that the reload is over."""
        self.wanted[0] = config
        self.manager.forget()
        self.home.app.reload()
        await self.manager.until("READY=1")
        assert [line.partition("=")[0] for line in self.manager.told("RELOADING", "READY")] == [
            "RELOADING",
            "READY",
        ]

    async def state(self) -> dict[str, Any]:
        answer = await self.home.get("/readyz")
        return {"status": answer.status, **answer.json()}


@asynccontextmanager
async def renewed(
    tmp_path: Path, config: Config, script: Script | Mapping[int, Script] = ()
) -> AsyncIterator[Renewed]:
    """A daemon that is ready, with ``config`` in its file."""
    wanted: list[Any] = [config]

    def reread() -> Config:
        if isinstance(wanted[0], Exception):
            raise wanted[0]
        return wanted[0]  # type: ignore[no-any-return]

    def load(progress: Progress) -> Engine:
        return scripted_engine(script)

    with ServiceManager(tmp_path) as manager:
        async with house(config=config, load=load, reread=reread, notifier=manager.notifier) as home:
            await manager.until("READY=1")
            yield Renewed(home, wanted, manager)
