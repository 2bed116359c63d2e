"""Chromium without a window, by its DevTools protocol: what a page logs, asks for, looks like."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


_KEYS = {"Tab": (9, ""), "Enter": (13, "\r")}  # their codes and texts


@dataclass(frozen=True)
class Key:
    """A key that is pressed among the scripts; it has no answer."""

    name: str


@dataclass
class Visit:
    """What happened while a page was open."""

    problems: list[str] = field(default_factory=list)  # errors, warnings and exceptions
    requests: list[str] = field(default_factory=list)  # URLs
    answers: list[Any] = field(default_factory=list)  # values of the scripts
    screenshot: bytes = b""


def visit(
    page: Path, scripts: Sequence[str | Key], folder: Path, width: int = 1280, dark: bool = False
) -> Visit:
    """Open a page, run scripts and press keys in it, and take its picture.

    The folder is for the browser's files.
    """
    with _browser(folder) as address:
        return asyncio.run(_visit(address, page.as_uri(), scripts, width, dark))


@contextmanager
def _browser(folder: Path) -> Iterator[str]:
    """A browser; yields the address of its protocol."""
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    command = [str(CHROMIUM), *flags, f"--user-data-dir={folder}", "about:blank"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            lines = (line.split() for line in process.stderr)
            address = next(words[-1] for words in lines if words[:2] == ["DevTools", "listening"])
            yield "http://" + address.split("/")[2]
        finally:
            process.terminate()


async def _visit(
    address: str, url: str, scripts: Sequence[str | Key], width: int, dark: bool
) -> Visit:
    found = Visit()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{address}/json") as answer:
            tabs = json.loads(await answer.text())
        socket_url = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        async with session.ws_connect(socket_url, max_msg_size=0) as socket:
            tab = _Tab(socket, found)
            for domain in ("Page", "Runtime", "Log", "Network"):
                await tab.call(f"{domain}.enable")
            await tab.call(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=900,
                deviceScaleFactor=1,
                mobile=width < 600,
            )
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            await tab.call("Emulation.setEmulatedMedia", features=[scheme])
            await tab.call("Page.navigate", url=url)
            await tab.until("Page.loadEventFired")
            for script in scripts:
                if isinstance(script, Key):
                    await tab.press(script.name)
                    continue
                done = await tab.call(
                    "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
                )
                found.answers.append(done["result"].get("value"))
            image = await tab.call("Page.captureScreenshot", captureBeyondViewport=True)
            found.screenshot = base64.b64decode(image["data"])
    return found


class _Tab:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse, found: Visit) -> None:
        self.socket, self.found, self.number = socket, found, 0

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        await self.socket.send_json({"id": self.number, "method": method, "params": params})
        while True:
            message = await self._receive()
            if message.get("id") == self.number:
                assert "result" in message, message
                return dict(message["result"])

    async def press(self, key: str) -> None:
        code, text = _KEYS[key]
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, **about)

    async def until(self, event: str) -> None:
        while (await self._receive()).get("method") != event:
            pass

    async def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = await self.socket.receive_json()
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.found.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.found.problems.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.found.problems.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.found.problems.append(json.dumps(params["entry"]))
        return message
