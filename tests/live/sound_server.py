"""A PulseAudio of the test's own, with a room in it: what is played there is what its microphone hears.

Takes: nothing of the machine's sound. Gives: the environment in which ALSA, and so PortAudio, has one device,
"pulse", which is also its default; playing, hanging, dying and coming back. As root PulseAudio warns that it
should not run so, and runs. It needs no D-Bus, no system-wide instance and no sound card.
"""

from __future__ import annotations

import asyncio
import ctypes.util
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import soundfile
from captiond_engine.types import Float32Array

PLUGIN = "alsa-lib/libasound_module_pcm_pulse.so"
# Debian's ALSA has "pulse" only where a server of the user's is found in the usual place.
ALSA = """\
</usr/share/alsa/alsa.conf>
pcm.pulse { type pulse }
ctl.pulse { type pulse }
pcm.!default { type pulse }
ctl.!default { type pulse }
"""
# The sink's monitor is the microphone; it runs at the rate of most sound cards.
ROOM = """\
load-module module-native-protocol-unix socket={socket} auth-anonymous=1
load-module module-null-sink sink_name=room rate=48000 channels=2
set-default-sink room
set-default-source room.monitor
"""


def missing() -> str:
    """What must be installed, or ''."""
    needed = {"pulseaudio": shutil.which("pulseaudio"), "pulseaudio-utils": shutil.which("paplay")}
    needed["libportaudio2"] = ctypes.util.find_library("portaudio")
    needed["libasound2-plugins"] = next(map(str, Path("/usr/lib").glob(f"*/{PLUGIN}")), None)
    packages = [package for package, found in needed.items() if not found]
    return f"needs the Debian packages {', '.join(packages)}" if packages else ""


@dataclass
class SoundServer:
    """``environment``: for whoever is to hear and to be heard here."""

    folder: Path
    environment: dict[str, str]
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Run it, until it answers."""
        plain = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        own = dict.fromkeys(
            ("HOME", "XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH", "PULSE_STATE_PATH"), str(self.folder)
        )
        self.process = await asyncio.create_subprocess_exec(
            *("pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"),
            *("--realtime=no", "--high-priority=no", "-F", str(self.folder / "room.pa")),
            env=plain | own,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        while await self._run("pactl", "info"):
            assert self.process.returncode is None, "pulseaudio does not run"
            await asyncio.sleep(0.05)

    async def play(self, pcm: Float32Array) -> None:
        """16 kHz sound in the room; returns when all of it has been heard, or the server has died."""
        with tempfile.NamedTemporaryFile(suffix=".wav", dir=self.folder) as file:
            soundfile.write(file.name, pcm, 16_000)
            await self._run("paplay", "--device=room", file.name)

    def hang(self) -> None:
        """It answers nobody any more, and closes nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    async def die(self) -> None:
        """At once, as in a crash."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self._signal(signal.SIGKILL)
            await self.process.wait()

    def _signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def _run(self, *command: str) -> int:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=os.environ | self.environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await process.wait()


@asynccontextmanager
async def sound_server() -> AsyncIterator[SoundServer]:
    """One that runs; its files are in a short path, as a socket's name has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="room-") as name:
        folder = Path(name)
        (folder / "asound.conf").write_text(ALSA)
        (folder / "room.pa").write_text(ROOM.format(socket=folder / "native"))
        server = SoundServer(
            folder,
            {
                "PULSE_SERVER": f"unix:{folder / 'native'}",
                "PULSE_COOKIE": str(folder / "cookie"),
                "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
            },
        )
        await server.start()
        try:
            yield server
        finally:
            await server.die()
