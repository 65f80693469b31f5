"""The demo page in a real headless Chromium: a webcam that plays a clip, pictures, providers, faults, phones, keys."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

if os.name != "posix":
    pytest.skip("the browser's pipe needs POSIX", allow_module_level=True)
pytest.importorskip("onnxruntime")

from p3m_edge.runtimes import Matting, default
from p3m_edge.web.build import build
from tests.artefacts import make_artefact, scale_constant
from tests.browser import CONTRAST, WIDE, Browser, wait_for
from tests.portraits import ASTRONAUT
from tests.web.pages import HEIGHT, WIDTH, Clip, agrees, canvas, choose, drop, give, latest, open_page, said

# What sticks out of its box.
OUTSIDE = """[...document.querySelectorAll("section *, fieldset *")].filter((e) => e.getBoundingClientRect().right
  > e.closest("section, fieldset").getBoundingClientRect().right).map((e) => e.tagName)"""


def test_the_page_mattes_the_webcam_as_python_does(browser: Browser, page: str, clip: Clip, screenshots: Path) -> None:
    open_page(browser, page, providers="webgpu,wasm")
    engine, remarks, problem = said(browser)
    assert "WASM" in engine
    assert "passed its self-test: 2 golden vectors" in engine
    assert browser.js("crossOriginIsolated && demo.choice.info.threads === Math.min(4, navigator.hardwareConcurrency)")
    assert len(remarks) == 1
    assert "shader-f16" in remarks[0]  # the software adapter has no half precision
    assert problem == ""
    with Matting(default.bundled(), threads=1) as matting:
        found = browser.js("demo.choice.verdict.items")
        for item, wanted in zip(found, matting.selftest().items, strict=True):
            assert item["image"] == wanted.image
            assert item["alpha_mean"] == pytest.approx(wanted.alpha_mean, abs=1e-5)
    browser.js("document.getElementById('webcam').click()")
    browser.wait("demo.shown >= 3 && document.getElementById('fps').textContent !== '–'")
    frame, alpha = latest(browser)
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert min(np.abs(frame.astype(int) - each).mean() for each in clip[1]) < 4  # it is of the clip
    agrees(default.bundled(), frame, alpha)
    browser.js("document.getElementById('webcam').click()")
    for effect in ("blur", "colour", "matte", "none"):
        choose(browser, effect)
        browser.picture(screenshots / f"web-{effect}.png")
    shown = browser.js("demo.shown")
    browser.js("document.getElementById('webcam').click()")  # and again
    browser.wait(f"demo.shown > {shown}")
    browser.js("document.getElementById('webcam').click()")
    assert browser.js("document.getElementById('webcam').textContent") == "Use the webcam"
    assert browser.complaints == []
    assert {url for url in browser.requests if not url.startswith(page)} <= {"data:"}


def test_nothing_of_the_last_picture_shows_through_a_transparent_one(
    browser: Browser, page: str, tmp_path: Path
) -> None:
    open_page(browser, page)
    see_through = np.full((40, 60, 4), 200, np.uint8)
    see_through[:, 30:, 3] = 0
    for number, picture in enumerate((np.full((40, 60, 3), 255, np.uint8), see_through), 1):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        give(browser, "file", tmp_path / f"{number}.png")
        browser.wait(f"demo.shown === {number}")
    frame, _ = latest(browser)
    assert (frame[:, 30:] == 0).all()


def test_the_blurred_background_has_no_colour_of_the_subject(browser: Browser, page: str) -> None:
    """A red square before a ramp from dark to light, in a size that the small picture does not divide."""
    open_page(browser, page)
    browser.js(
        """import('./compose.js').then(({draw}) => {
          const [width, height] = [631, 397], data = new Uint8ClampedArray(4 * width * height).fill(255);
          const alpha = new Uint8Array(width * height);
          for (let at = 0; at < alpha.length; at++) {
            const [x, y] = [at % width, Math.floor(at / width)], inside = x > 200 && x < 400 && y > 100 && y < 300;
            data.set(inside ? [255, 0, 0] : Array(3).fill((255 * x) / width), 4 * at);
            alpha[at] = inside ? 255 : 0;
          }
          draw(document.getElementById("result"), {width, height, data}, alpha, {kind: "blur"});
        })"""
    )
    shown = canvas(browser).astype(int)
    assert (shown[101:300, 201:400] == (255, 0, 0)).all()
    behind = np.ones(shown.shape[:2], bool)
    behind[101:300, 201:400] = False
    assert np.ptp(shown, axis=2)[behind].max() <= 2
    ramp = np.broadcast_to(255 * np.arange(631) / 631, behind.shape)
    far = np.zeros_like(behind)
    far[40:60, 60:-60] = far[-60:-40, 60:-60] = True  # neither the frame's edges nor the square in reach
    assert np.abs(shown[..., 0] - ramp)[far].max() <= 4


def test_a_picture_is_matted_composed_and_saved(browser: Browser, page: str, screenshots: Path, tmp_path: Path) -> None:
    open_page(browser, page)
    give(browser, "file", ASTRONAUT)
    browser.wait("demo.shown === 1")
    frame, alpha = latest(browser)
    portrait = cv2.imread(str(ASTRONAUT))
    assert portrait is not None
    assert frame.shape == portrait.shape
    agrees(default.bundled(), frame, alpha)
    solid, empty = alpha == 255, alpha == 0
    choose(browser, "colour")
    browser.js(
        "((e) => { e.value = '#ff0000'; e.dispatchEvent(new Event('input')); })(document.getElementById('colour'))"
    )
    shown = canvas(browser)
    assert np.abs(shown[solid].astype(int) - frame[solid]).max() <= 3
    assert (np.abs(shown[empty].astype(int) - (255, 0, 0)) <= 5).all()
    cv2.imwrite(str(tmp_path / "behind.png"), np.full((30, 90, 3), (200, 60, 20), np.uint8))
    give(browser, "background", tmp_path / "behind.png")
    browser.wait("document.querySelector('[name=effect]:checked').value === 'picture'")
    assert (np.abs(canvas(browser)[empty].astype(int) - (20, 60, 200)) <= 6).all()
    browser.picture(screenshots / "web-picture.png")
    choose(browser, "blur")
    blurred = canvas(browser)
    assert np.abs(blurred[solid].astype(int) - frame[solid]).max() <= 3
    still = cv2.Laplacian(frame, cv2.CV_32F)[empty].std()
    assert cv2.Laplacian(blurred, cv2.CV_32F)[cv2.erode(empty.astype(np.uint8), np.ones((5, 5))) > 0].std() < still / 2
    choose(browser, "matte")
    assert (canvas(browser) == alpha[..., None]).all()
    choose(browser, "none")
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path), eventsEnabled=True)
    browser.js("document.getElementById('save').click()")
    saved = tmp_path / "p3m-edge.png"
    wait_for(saved.is_file, "the picture is saved")
    cutout = cv2.imread(str(saved), cv2.IMREAD_UNCHANGED)
    assert cutout is not None
    assert (cutout[..., 3] == alpha).all()
    (tmp_path / "no.png").write_bytes(b"no picture")
    give(browser, "file", tmp_path / "no.png")
    browser.wait("!document.getElementById('problem').hidden")
    assert "no.png is no picture" in said(browser)[2]
    assert browser.complaints == []


def test_webgpu_passes_the_golden_vectors_and_mattes_as_python_does(
    browser: Browser, tiny: tuple[Path, str], screenshots: Path
) -> None:
    artefact, page = tiny
    open_page(browser, page, providers="webgpu")
    engine, remarks, problem = said(browser)
    assert "WebGPU on" in engine
    assert problem == ""
    assert any("not trained" in remark for remark in remarks)
    assert browser.js("demo.choice.refused") == []
    items = browser.js("demo.choice.verdict.items")
    assert all(item["local_mean"] < 1e-5 and item["flips"] < 1e-4 for item in items)
    drop(browser, ASTRONAUT)
    browser.wait("demo.shown === 1")
    agrees(artefact, *latest(browser))
    browser.picture(screenshots / "web-webgpu.png")
    # Chromium's own, of WebGPU in the worker of a page that was left.
    assert [line for line in browser.complaints if "external Instance reference" not in line] == []


def test_a_provider_that_fails_its_self_test_is_not_used(
    browser: Browser, served: tuple[Path, str], package: Path
) -> None:
    artefact = make_artefact(served[0] / "bad", size=(64, 64), breaking=scale_constant("local.weight", 1.5))
    build(artefact, served[0] / "broken", package)
    open_page(browser, f"{served[1]}broken/")
    engine, _, problem = said(browser)
    assert engine == "Not running."
    assert "wasm: it fails its self-test: golden 0: mean error of the local alpha is" in problem
    assert browser.js("document.getElementById('webcam').disabled && document.getElementById('choose').disabled")


def test_damaged_files_are_noticed_before_they_are_parsed(
    browser: Browser, tiny: tuple[Path, str], served: tuple[Path, str]
) -> None:
    site = served[0] / "damaged"
    shutil.copytree(served[0] / "tiny", site)
    model, vectors, text = (site / "artefact" / name for name in ("model.onnx", "golden.npz", "manifest.json"))
    whole = {path: path.read_bytes() for path in (model, vectors, text)}
    damages = {
        "bytes, the manifest says": (model, whole[model][:-100]),
        "model.onnx was changed: its SHA-256": (model, whole[model][:-1] + b"x"),
        "golden.npz has 0 bytes": (vectors, b""),
        "manifest.json has been changed or damaged": (text, whole[text].replace(b'"r34"', b'"r35"')),
        "manifest.json cannot be read": (text, whole[text][:200]),
    }
    for message, (path, content) in damages.items():
        path.write_bytes(content)
        open_page(browser, f"{served[1]}damaged/")
        engine, _, problem = said(browser)
        assert (engine, message in problem) == ("Not running.", True), problem
        path.write_bytes(whole[path])


def test_it_is_readable_on_a_phone(browser: Browser, tiny: tuple[Path, str], screenshots: Path) -> None:
    open_page(browser, tiny[1])
    for dark in (False, True):
        browser.screen(390, 900, dark=dark)
        browser.picture(screenshots / f"web-phone-{'dark' if dark else 'light'}.png")
        assert browser.js("document.documentElement.scrollWidth") == 390
        assert browser.js(WIDE) == []
        assert browser.js(OUTSIDE) == []
        ratio, where = browser.js(CONTRAST)
        assert ratio >= 4.5, where


def test_every_control_has_a_name_and_the_keyboard_reaches_it(browser: Browser, tiny: tuple[Path, str]) -> None:
    open_page(browser, tiny[1])
    names: dict[str, list[str]] = {}
    for node in browser.call("Accessibility.getFullAXTree")["nodes"]:
        if not node.get("ignored"):
            names.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert len(names["radio"]) == 5
    for role in ("button", "radio", "combobox", "image", "heading"):
        assert all(names.get(role, [])), role
    reached = set()
    for _ in range(10):
        browser.press("Tab")
        reached.add(browser.js("document.activeElement.id || document.activeElement.name"))
    assert {"webcam", "choose", "effect", "colour", "behind", "provider"} <= reached


def test_without_camera_webgpu_or_server_the_page_says_so(
    binary: str, tiny: tuple[Path, str], served: tuple[Path, str], tmp_path: Path
) -> None:
    with Browser(binary, tmp_path / "profile") as browser:
        open_page(browser, tiny[1], providers="webgpu,wasm")
        engine, remarks, _ = said(browser)
        assert "WASM" in engine
        assert any("WebGPU is not used: this browser has no WebGPU here. WASM is." in remark for remark in remarks)
        browser.js("document.getElementById('provider').value = 'webgpu'")
        browser.js("document.getElementById('provider').dispatchEvent(new Event('change'))")
        browser.wait("!document.getElementById('problem').hidden")
        assert "webgpu: this browser has no WebGPU here" in said(browser)[2]
        browser.js("document.getElementById('provider').value = 'wasm'")
        browser.js("document.getElementById('provider').dispatchEvent(new Event('change'))")
        browser.wait("!document.getElementById('webcam').disabled")
        browser.js("document.getElementById('webcam').click()")
        browser.wait("!document.getElementById('problem').hidden")
        assert "There is no camera" in said(browser)[2]
        browser.js(
            "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'))"
        )
        browser.js("document.getElementById('webcam').click()")
        browser.wait("document.getElementById('problem').textContent.includes('The camera was refused')")
        browser.open(served[0] / "tiny" / "index.html")
        assert browser.js("document.getElementById('unserved').checkVisibility()")
        assert "p3m-edge web" in browser.js("document.getElementById('unserved').textContent")
