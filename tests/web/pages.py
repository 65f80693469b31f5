"""What the tests of pages do with one: open it, choose files, read what it says, shows and hands out."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3m_edge.runtimes import Matting
from tests.browser import Browser

WIDTH, HEIGHT = 640, 480
"""Of the clip that the camera plays."""
Clip = tuple[Path, list[NDArray[np.uint8]]]
"""Its file, and its frames."""

# Bytes to text and back; and the same noise as `noise` makes.
TOOLS = """
globalThis.text = (values) => { const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let found = ""; for (let at = 0; at < bytes.length; at += 32768)
    found += String.fromCharCode(...bytes.subarray(at, at + 32768)); return btoa(found); };
globalThis.noise = (length) => { const found = new Uint8ClampedArray(length);
  for (let at = 0; at < length; at++) found[at] = (at * 7919 + (at >> 5) * 31) & 255; return found; };
"""
FRAME = "((f) => ({...f, data: noise(f.width * f.height * 4)}))"


def noise(length: int) -> NDArray[np.uint8]:
    at = np.arange(length)
    return (at * 7919 + (at >> 5) * 31 & 255).astype(np.uint8)


def bytes_of(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(text), np.uint8)


def open_page(browser: Browser, page: str, *, providers: str = "wasm") -> None:
    """Open a page and wait until it has chosen one of the providers, or given up."""
    browser.complaints.clear()
    browser.requests.clear()
    browser.screen(1280, 900)
    browser.open(f"{page}?provider={providers}")
    browser.wait("globalThis.demo && !document.getElementById('provider').disabled")
    browser.js(TOOLS)


def open_bare(browser: Browser, page: str) -> None:
    """Open the place of a page, without the page: modules can be imported, and nothing runs by itself."""
    browser.open(f"{page}ort/LICENSE.txt")
    browser.js(TOOLS)


def said(browser: Browser) -> tuple[str, list[str], str]:
    """What the page says of the engine, its remarks, and its problem."""
    texts: list[Any] = browser.js(
        "[document.getElementById('engine').textContent, [...document.querySelectorAll('#remarks li')]"
        ".map((e) => e.textContent), document.getElementById('problem').textContent]"
    )
    return texts[0], texts[1], texts[2]


def latest(browser: Browser) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The frame that was matted last, RGB, and its alpha."""
    found = browser.js("((l) => [l.frame.width, l.frame.height, text(l.frame.data), text(l.alpha)])(demo.latest)")
    width, height = found[:2]
    rgba, alpha = (bytes_of(text) for text in found[2:])
    frame = rgba.reshape(height, width, 4)
    assert (frame[..., 3] == 255).all()
    return np.ascontiguousarray(frame[..., :3]), alpha.reshape(height, width)


def agrees(artefact: Path, frame: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> None:
    """Whether Python mattes the frame in the same way, and finds somebody in it."""
    with Matting(artefact, threads=1, dtype="uint8") as matting:
        wanted = matting(frame).astype(int)
    apart = np.abs(wanted - alpha)
    assert apart.mean() <= 0.5
    assert (apart <= 4).mean() >= 0.999
    assert np.ptp(wanted) > 200


def choose(browser: Browser, effect: str) -> None:
    browser.js(f"document.querySelector('[name=effect][value={effect}]').click()")


def give(browser: Browser, field: str, path: Path) -> None:
    """Choose a file, as by a dialog."""
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector=f"#{field}")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


def drop(browser: Browser, path: Path) -> None:
    """Drop a file on the page."""
    text = base64.b64encode(path.read_bytes()).decode()
    browser.js(
        f"((dropped) => {{ const bytes = Uint8Array.from(atob('{text}'), (c) => c.charCodeAt(0));"
        "dropped.items.add(new File([bytes], 'dropped')); dispatchEvent(new DragEvent('drop',"
        "{dataTransfer: dropped, cancelable: true})); })(new DataTransfer())"
    )


def canvas(browser: Browser) -> NDArray[np.uint8]:
    """What the canvas shows, RGB."""
    found = browser.js(
        "((shown) => { const {width, height} = shown, copy = new OffscreenCanvas(width, height).getContext('2d',"
        "{willReadFrequently: true}); copy.drawImage(shown, 0, 0);"
        "return [width, height, text(copy.getImageData(0, 0, width, height).data)]; })"
        "(document.getElementById('result'))"
    )
    return bytes_of(found[2]).reshape(found[1], found[0], 4)[..., :3]
