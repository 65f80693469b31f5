"""A real headless Chromium over the DevTools protocol, through a pipe: no port, no package."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 240.0  # a busy machine is no failure
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run",
    "--no-default-browser-check", "--disable-extensions", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--force-color-profile=srgb", "--remote-debugging-pipe",
)  # fmt: skip

# The contrast of every visible text against what lies behind it (WCAG 2.2, 1.4.3); the lowest, and where.
CONTRAST = """(() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = (c) => { const l = c.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92
    : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2]; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c[3] > 0.5) return c; } return [255, 255, 255, 1]; };
  let worst = [99, ""];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest("svg, script, .tag, noscript")) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, e.className + ": " + e.textContent.slice(0, 40)];
  }
  return worst;
})()"""

# Elements that stick out of the window, and what they are.
WIDE = """[...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() && !e.closest(".skip, .wide > *")
  && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.tagName + "." + e.className)"""


def find() -> str | None:
    """The browser on PATH; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Until a condition is true."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"never true: {what}"
        time.sleep(0.05)


class Browser:
    """One browser with one tab. Everything that the tab and its workers complain about or ask the network for is kept.

    ``flags`` are more of the command line's.

    Attributes
    ----------
    complaints
        Errors and warnings of the console, exceptions, and what the browser logs (such as violations of the policy).
    requests
        The address of every request, data URIs shortened to their kind.
    """

    def __init__(self, binary: str, profile: Path, flags: Sequence[str] = ("--disable-gpu",)) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._session: str | None = None
        self._number = 0
        from_us, self._out = os.pipe()
        self._in, to_us = os.pipe()
        # The protocol wants descriptors 3 and 4; high ones first, so that the shell's moves cannot collide.
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (from_us, to_us)]
        command = f'exec "$0" "$@" 3<&{theirs[0]} 4>&{theirs[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, binary, *_FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=theirs, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        for end in (from_us, to_us, *theirs):
            os.close(end)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")
        self.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        self._reader.join(10)

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command, and its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._answers.get(timeout=SECONDS)
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result

    def screen(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the size of the window, as a phone's below 600 pixels, and the colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, page: Path | str) -> None:
        """Load a file or an address and wait until it is there."""
        url = page if isinstance(page, str) else page.resolve().as_uri()
        self.call("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && location.protocol === {json.dumps(url.split('/')[0])}")

    def js(self, expression: str) -> Any:
        """The value of an expression; promises are awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression is true."""
        wait_for(lambda: self.js(f"Boolean({condition})"), condition)

    def press(self, key: str, times: int = 1) -> None:
        """Press and release a key, such as ``ArrowRight``, in whatever has the focus."""
        code = {
            "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35, "Enter": 13,
            "Tab": 9,
        }  # fmt: skip
        for _ in range(times):
            for kind in ("rawKeyDown", "keyUp"):
                self.call(
                    "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code[key],
                    nativeVirtualKeyCode=code[key],
                )  # fmt: skip

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """With the left mouse button, in pixels of the window."""
        for kind, (x, y), buttons in (("mousePressed", start, 1), ("mouseMoved", end, 1), ("mouseReleased", end, 0)):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=buttons, clickCount=1)

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element in the window, after scrolling it to the middle."""
        found = self.js(
            f"((element) => {{ element.scrollIntoView({{block: 'center'}}); const b = element.getBoundingClientRect();"
            f"return [b.left, b.top, b.width, b.height]; }})(document.querySelector({json.dumps(selector)}))"
        )
        return (found[0], found[1], found[2], found[3])

    def pixels(self, selector: str) -> NDArray[np.uint8]:
        """What an element shows in the window, ``[H, W, 3]``."""
        left, top, width, height = self.box(selector)
        x, y = self.js("[scrollX, scrollY]")
        clip = {"x": left + x, "y": top + y, "width": width, "height": height, "scale": 1}
        found = self.call("Page.captureScreenshot", format="png", clip=clip)
        shown = cv2.imdecode(np.frombuffer(base64.b64decode(found["data"]), np.uint8), cv2.IMREAD_COLOR)
        assert shown is not None
        return np.asarray(shown[..., ::-1], dtype=np.uint8)

    def picture(self, path: Path) -> bytes:
        """The whole page as PNG, written and returned."""
        self.call("Page.bringToFront")
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        data = base64.b64decode(found["data"])
        path.write_bytes(data)
        return data

    def _read(self) -> None:
        buffer = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(self._in, 1 << 20):
                *messages, buffer = (buffer + chunk).split(b"\0")
                for message in messages:
                    self._sort(json.loads(message))
        os.close(self._in)

    def _tell(self, session: str, method: str, **parameters: object) -> None:
        """A command to a worker, whose answer nobody waits for."""
        message = {"id": 0, "method": method, "params": parameters, "sessionId": session}
        with contextlib.suppress(OSError):  # it is being closed
            os.write(self._out, json.dumps(message).encode() + b"\0")

    def _sort(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers.put(message)
            return
        method, found = message["method"], message["params"]
        if method == "Target.attachedToTarget" and self._session is not None:
            for command in ("Runtime.enable", "Log.enable", "Network.enable"):
                self._tell(found["sessionId"], command)
            self._tell(
                found["sessionId"], "Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True
            )
        elif method == "Runtime.consoleAPICalled" and found["type"] in ("error", "warning", "assert"):
            self.complaints.append(f"console: {found['args']}")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(f"exception: {found['exceptionDetails']}")
        elif method == "Log.entryAdded" and found["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"log: {found['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            url: str = found["request"]["url"]
            self.requests.append(url.split(",")[0] if url.startswith("data:") else url)
