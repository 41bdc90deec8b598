"""A real Chromium for tests, driven over its DevTools protocol: pages, keys, screenshots, and all that it complains of.

The program is the system's (`chromium`, `chromium-browser`, `google-chrome`), headless, with a profile in a temporary
folder. Whatever a page logs as a warning or error, every exception and every request that fails is kept, for a test to
hold against nothing.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

NO_PROGRAM: Final = "no Chromium: install the distribution's package `chromium`"
STARTS_WITHIN_S: Final = 60.0
ANSWERS_WITHIN_S: Final = 60.0
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
_FLAGS: Final = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-sandbox",  # which containers do not allow; it opens our own pages alone
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-features=Translate,MediaRouter,OptimizationHints",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
_KEYS: Final = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    " ": (32, " "),
}


def find_chromium() -> str | None:
    """The path of a Chromium; None where there is none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


@dataclass
class Page:
    """One tab. `complaints` are what its console, its scripts and its network said went wrong."""

    browser: Browser
    session: str
    complaints: list[str] = field(default_factory=list)
    loaded: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return await self.browser.call(method, self.session, **parameters)

    async def open(self, url: str) -> None:
        """Go there, and wait until it and what it needs is loaded."""
        self.loaded.clear()
        answer = await self.call("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        await asyncio.wait_for(self.loaded.wait(), ANSWERS_WITHIN_S)

    async def run(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise. An exception in it fails the test."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        script = f"""new Promise((found, missed) => {{
            const ends = performance.now() + {1000 * ANSWERS_WITHIN_S / 2};
            const never = () => missed(new Error("never: " + {json.dumps(condition)}));
            const look = () => ({condition}) ? found(true) : performance.now() > ends ? never() : setTimeout(look, 20);
            look();
        }})"""
        await self.run(script)

    async def click_and_load(self, selector: str) -> None:
        """Click what leads to another page, and wait for that page."""
        self.loaded.clear()
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")
        await asyncio.wait_for(self.loaded.wait(), ANSWERS_WITHIN_S)

    async def press(self, key: str, *, shift: bool = False) -> None:
        code, text = _KEYS[key]
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    async def type(self, text: str) -> None:
        await self.call("Input.insertText", text=text)

    async def text(self, selector: str) -> str:
        """What is seen of the first element that matches, spaces as one."""
        found: str = await self.run(f"document.querySelector({json.dumps(selector)}).innerText")
        return " ".join(found.split())

    async def look(self, width: int, height: int = 900, *, scheme: str = "light", phone: bool = False) -> None:
        """Have a screen of that size, and a system of that colour scheme that moves nothing smoothly."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def screenshot(self, path: Path) -> None:
        """A PNG of the whole page."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        answer = await self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))

    async def printed(self) -> bytes:
        """The page on paper, as a PDF: of the size that it asks for, without backgrounds, which printers leave out."""
        answer = await self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        return base64.b64decode(answer["data"])

    def heard(self, method: str, said: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self.loaded.set()
            case "Runtime.exceptionThrown":
                self.complaints.append(f"exception: {said['exceptionDetails']}")
            case "Runtime.consoleAPICalled" if said["type"] in ("error", "warning", "assert"):
                self.complaints.append(f"console: {[one.get('value') for one in said['args']]}")
            case "Log.entryAdded" if said["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"log: {said['entry']['text']} {said['entry'].get('url', '')}")


class Browser:
    """One Chromium process and the socket that it is driven by."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._reader = asyncio.create_task(self._read())

    async def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(message if session is None else {**message, "sessionId": session})
        return await asyncio.wait_for(answer, ANSWERS_WITHIN_S)

    async def _read(self) -> None:
        async for raw in self._socket:
            message = json.loads(raw.data)
            waiting = self._waiting.pop(message.get("id", 0), None)
            if waiting is not None and not waiting.done():
                if "error" in message:
                    waiting.set_exception(AssertionError(message["error"]))
                else:
                    waiting.set_result(message["result"])
            elif "method" in message and (page := self._pages.get(message.get("sessionId", ""))):
                page.heard(message["method"], message["params"])

    @contextlib.asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        """A tab with cookies and storage of its own."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = (await self.call("Target.createTarget", url="about:blank", browserContextId=context))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.call(f"{domain}.enable")
        try:
            yield page
        finally:
            await self.call("Target.disposeBrowserContext", browserContextId=context)
            del self._pages[session]

    async def close(self) -> None:
        self._reader.cancel()
        await self._socket.close()


@contextlib.asynccontextmanager
async def driving(address: str) -> AsyncIterator[Browser]:
    """Drive the browser that listens at an address for as long as the block runs."""
    async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
        browser = Browser(socket)
        yield browser
        await browser.close()


@contextlib.contextmanager
def running_chromium(program: str) -> Iterator[str]:
    """The address of a browser that has ended, and left nothing, when the block is over."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile, "DBUS_SESSION_BUS_ADDRESS": "disabled:"},
            start_new_session=True,
        )
        try:
            yield _address(process, Path(profile) / "DevToolsActivePort")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _address(process: subprocess.Popen[bytes], said: Path) -> str:
    """Where it listens: it writes its port and its path into a file of the profile."""
    ends_s = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < ends_s and process.poll() is None:
        lines = said.read_text().split() if said.is_file() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise AssertionError(f"Chromium did not listen within {STARTS_WITHIN_S:.0f} s; it ended with {process.poll()}")
