"""A headless Chromium over its own debugging websocket: open a page, ask it things, take its picture.

No driver package: the protocol is JSON over a websocket, and websockets is here anyway.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)


def chromium_path() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._count = 0

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        self._count += 1
        await self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            answer = json.loads(await self._socket.recv())
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return dict(answer["result"])

    async def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, expression: str, timeout_s: float = 20.0) -> None:
        """Waits until the expression is true."""
        async with asyncio.timeout(timeout_s):
            while not await self.value(expression):  # noqa: ASYNC110 (the page is asked from outside)
                await asyncio.sleep(0.05)

    async def look(self, *, dark: bool = True, width: int = 1280, height: int = 720) -> None:
        """Sets the window's size and the colour scheme that the page is told."""
        scheme = "dark" if dark else "light"
        feature = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=feature)
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def picture(self) -> bytes:
        """What the page looks like, as PNG."""
        taken = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(taken["data"])

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")


@asynccontextmanager
async def chromium_page(url: str) -> AsyncIterator[Page]:
    """A page showing ``url``. The browser and its folder are gone afterwards."""
    path = chromium_path()
    assert path is not None, "chromium_path() is asked first"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = await asyncio.create_subprocess_exec(
            path,
            *FLAGS,
            f"--user-data-dir={folder}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert browser.stderr is not None
        try:
            async with asyncio.timeout(60):
                while b"DevTools listening on " not in (line := await browser.stderr.readline()):
                    assert line, "chromium ended"
            drain = asyncio.ensure_future(browser.stderr.read())
            address = line.decode().split(" on ", 1)[1].strip()
            async with connect(address, proxy=None, max_size=None, compression=None) as control:
                targets = await Page(control).call("Target.getTargets")
            tab = next(target for target in targets["targetInfos"] if target["type"] == "page")
            tab_address = address.split("/devtools/")[0] + f"/devtools/page/{tab['targetId']}"
            async with connect(tab_address, proxy=None, max_size=None, compression=None) as socket:
                page = Page(socket)
                await page.go(url)
                yield page
        finally:
            browser.kill()
            await browser.wait()
            drain.cancel()
