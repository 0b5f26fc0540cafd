"""A headless Chromium over its own debugging websocket: open a page, ask it things, take its picture.

No driver package: the protocol is JSON over a websocket, and websockets is here anyway.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
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


LOADED = "document.readyState === 'complete'"


def chromium_path() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab. ``complaints``: what the page's own code and its policy had to say against it."""

    def __init__(self, socket: ClientConnection, profile: str | None = None) -> None:
        self.complaints: list[str] = []
        self._socket = socket
        self._profile = profile
        self._count = 0

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        self._count += 1
        if method.startswith("Browser.") and self._profile:
            parameters["browserContextId"] = self._profile
        await self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            answer = json.loads(await self._socket.recv())
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif event.get("method") == "Log.entryAdded":
            entry = parameters["entry"]
            if entry["level"] == "error" and entry["source"] != "network":
                self.complaints.append(f"{entry['source']}: {entry['text']}")

    async def value(self, expression: str) -> Any:
        """The value of a JavaScript expression; of a promise, what it comes to."""
        result = await self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def press(self, key: str, *, modifiers: int = 0) -> None:
        """One key, as a person presses it."""
        text = {"text": key} if len(key) == 1 else {}
        code = {"Enter": 13, "Escape": 27, "Tab": 9}.get(key, 0)
        common = {"key": key, "modifiers": modifiers, "windowsVirtualKeyCode": code}
        if key == "Enter":
            text = {"text": "\r"}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    async def tree(self) -> list[dict[str, Any]]:
        """What screen readers are told: nodes that are not ignored, with role, name and live state."""
        nodes = (await self.call("Accessibility.getFullAXTree"))["nodes"]
        return [
            {
                "role": node["role"]["value"],
                "name": node.get("name", {}).get("value", ""),
                **{each["name"]: each["value"].get("value") for each in node.get("properties", [])},
            }
            for node in nodes
            if not node["ignored"]
        ]

    async def until(self, expression: str, timeout_s: float = 60.0) -> None:
        """Waits until the expression is true."""
        async with asyncio.timeout(timeout_s):
            while not await self.value(expression):  # noqa: ASYNC110 (the page is asked from outside)
                await asyncio.sleep(0.05)

    async def look(self, *, dark: bool = True, width: int = 1280, height: int = 720, **features: str) -> None:
        """Sets the window's size, the colour scheme and other media ``features`` that the page is told."""
        wanted = {"prefers-color-scheme": "dark" if dark else "light"}
        wanted |= {name.replace("_", "-"): value for name, value in features.items()}
        await self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": name, "value": value} for name, value in wanted.items()],
        )
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
        await self.until(f"location.href !== 'about:blank' && {LOADED}" if "://" in url else LOADED)

    async def reload(self) -> None:
        await self.value("window.old = true")
        await self.call("Page.reload")
        await self.until(f"!window.old && {LOADED}")


class Browser:
    """One running Chromium. Tests with the same flags share it; each has a profile of its own in it."""

    def __init__(self, flags: tuple[str, ...]) -> None:
        path = chromium_path()
        assert path is not None, "chromium_path() is asked first"
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [path, *FLAGS, *flags, f"--user-data-dir={self._folder.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    async def address(self) -> str:
        """Of its debugging websocket, once it is there."""
        file = Path(self._folder.name) / "DevToolsActivePort"
        async with asyncio.timeout(60):
            while True:
                assert self._process.poll() is None, "chromium ended"
                port, _, path = (file.read_text() if file.exists() else "").partition("\n")
                if path:
                    return f"ws://127.0.0.1:{port}{path.strip()}"
                await asyncio.sleep(0.05)  # it tells nobody but this file

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


@cache
def browser_with(flags: tuple[str, ...]) -> Browser:
    """The browser of these flags, until the tests are over."""
    browser = Browser(flags)
    atexit.register(browser.close)
    return browser


@asynccontextmanager
async def chromium_page(url: str, *flags: str) -> AsyncIterator[Page]:
    """A page showing ``url``, in a profile that nobody had before and nobody has afterwards.

    Flags with a path or an address in them are of one test only: that browser is gone with its page.
    """
    own = any("=" in flag for flag in flags)
    browser = Browser(flags) if own else browser_with(flags)
    try:
        address = await browser.address()
        async with connect(address, proxy=None, max_size=None, compression=None) as socket:
            control = Page(socket)
            profile = (await control.call("Target.createBrowserContext"))["browserContextId"]
            made = await control.call("Target.createTarget", url="about:blank", browserContextId=profile)
            tab_address = address.split("/devtools/")[0] + f"/devtools/page/{made['targetId']}"
            try:
                async with connect(tab_address, proxy=None, max_size=None, compression=None) as tab:
                    page = Page(tab, profile)
                    for domain in ("Runtime", "Log", "Page"):
                        await page.call(f"{domain}.enable")
                    await page.go(url)
                    yield page
            finally:
                await control.call("Target.disposeBrowserContext", browserContextId=profile)
    finally:
        if own:
            browser.close()
