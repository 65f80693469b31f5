"""The page of a real run in a real browser: no error, no request, sliders that slide, a phone, light and dark.

``P3M_EDGE_SCREENSHOTS`` names a folder where the screenshots are kept; otherwise they are in pytest's own.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.artefacts import make_artefact, picture, scale_constant

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
if os.name != "posix":
    pytest.skip("file names with <> and the browser's pipe need POSIX", allow_module_level=True)

from tests.browser import CONTRAST, NAMES, WIDE, Browser, find

EVIL = "<img src=x onerror=\"document.title='owned'\">"
TITLE = re.compile("p3m-edge bench: .+")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page that the command line wrote: two artefacts that are fine, one that is not, names that mean harm."""
    home = tmp_path_factory.mktemp("run")
    make_artefact(home / EVIL, size=(32, 32))
    make_artefact(home / "second", "openvino", size=(32, 32), seed=2)
    make_artefact(home / "broken", size=(32, 32), breaking=scale_constant("local.weight", 1.5))
    for folder in ("image", "alpha"):
        (home / "set" / folder).mkdir(parents=True)
    cv2.imwrite(str(home / "set" / "image" / f"{EVIL}.png"), picture(120, 90))
    cv2.imwrite(str(home / "set" / "image" / "wide.png"), picture(60, 160, seed=2))
    cv2.imwrite(str(home / "set" / "alpha" / "wide.png"), np.tile(np.linspace(0, 255, 160).astype(np.uint8), (60, 1)))
    command = [
        sys.executable, "-m", "p3m_edge", "bench", EVIL, "second", "broken", "--rounds", "3", "--iterations", "1",
        "--warmup", "0", "--threads", "1", "--frame-size", "64x48", "--no-throughput", "--html", "page.html",
        "--samples", "set",
    ]  # fmt: skip
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr  # the broken one; the page is written all the same
    return home / "page.html"


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("P3M_EDGE_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    binary = find()
    if binary is None:
        pytest.skip(f"no browser on PATH ({', '.join(NAMES)})")
    with Browser(binary, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def _open(browser: Browser, made: Path, width: int, *, dark: bool = False) -> None:
    browser.screen(width, 900, dark=dark)
    browser.open(made)
    for number in (0, 1):
        browser.js(f"document.querySelector('[data-number=\"{number}\"]').scrollIntoView()")
        browser.wait(f"document.querySelector('[data-number=\"{number}\"]').dataset.ready")


COMPARE, DIFFERENCE = "[data-number='0'] .compare", "[data-number='0'] canvas"


def _inside(browser: Browser, selector: str) -> NDArray[np.int64]:
    """What an element shows, ``[H, W, 3]``, without its round corners and the names at its lower edge."""
    return browser.pixels(selector)[12:-60, 12:-12].astype(np.int64)


def _alike(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    """But for what antialiasing changes."""
    return float(np.abs(one - other).mean()) < 1


def _choose(browser: Browser, name: str, value: str) -> None:
    """As a user does: the option is chosen, and the page hears of it."""
    browser.js(
        f"((select) => {{ select.value = '{value}'; select.dispatchEvent(new Event('change', {{bubbles: true}})); }})"
        f"(document.getElementById('{name}'))"
    )
    # The pictures are decoded first; a frame later they are drawn.
    browser.js("new Promise((done) => setTimeout(done, 300))")


def test_the_page_of_the_run(made: Path) -> None:
    text = made.read_text(encoding="utf-8")
    assert made.stat().st_size < 1_000_000
    assert EVIL not in text
    assert str(made.parent) not in text
    assert "Mean SAD against the true matte" in text
    assert "Not plotted: broken (parity-failed)." in text


def test_no_error_no_request_and_nothing_that_a_name_says_is_done(
    browser: Browser, made: Path, screenshots: Path
) -> None:
    _open(browser, made, 1280)
    assert TITLE.fullmatch(browser.js("document.title"))
    assert browser.js("document.querySelectorAll('[onerror]').length") == 0
    shown = browser.js("[...document.images].map((i) => [i.complete && i.naturalWidth > 0, i.currentSrc.slice(0, 15)])")
    assert shown == [[True, "data:image/svg+"], *[[True, "data:image/jpeg"]] * 4]
    labels = browser.js("[...document.querySelectorAll('#right option')].map((o) => o.textContent)")
    assert labels == [EVIL, "second", "true matte", "photograph"]
    assert browser.js("document.querySelector('.portrait h3').textContent") == f"{EVIL}.png"
    assert browser.js(WIDE) == []
    browser.js("scrollTo(0, 0)")
    data = browser.picture(screenshots / "desktop-light.png")
    assert data.startswith(b"\x89PNG")
    assert browser.complaints == []
    assert {url.split(":")[0] for url in browser.requests} == {"file", "data"}
    assert {url for url in browser.requests if url.startswith("file:")} == {made.resolve().as_uri()}


def test_the_slider_moves_the_divide(browser: Browser, made: Path) -> None:
    _open(browser, made, 1280)
    _choose(browser, "view", "alpha")
    split = "[data-number='0'] .split"
    browser.js(f'document.querySelector("{split}").focus()')
    browser.press("Home")
    right = _inside(browser, COMPARE)
    browser.press("End")
    left = _inside(browser, COMPARE)
    apart = np.abs(left - right).max(axis=2)
    assert (apart > 20).mean() > 0.1
    x, y, width, height = browser.box(split)
    browser.drag((x + width - 8, y + height / 2), (x + width / 2, y + height / 2))
    assert 45 <= int(browser.js(f'document.querySelector("{split}").value')) <= 55
    middle, columns = _inside(browser, COMPARE), left.shape[1]
    quarter, margin = columns // 4, columns // 10
    assert _alike(middle[:, :quarter], left[:, :quarter])
    assert _alike(middle[:, columns - quarter :], right[:, columns - quarter :])
    browser.press("ArrowRight", 20)  # the slider has the focus
    assert 65 <= int(browser.js(f'document.querySelector("{split}").value')) <= 75
    moved = _inside(browser, COMPARE)
    place = slice(columns // 2 + margin // 2, columns // 2 + margin)  # right of the old divide, left of the new one
    assert _alike(moved[:, place], left[:, place])
    assert not _alike(moved[:, place], middle[:, place])
    told = browser.js(f'document.querySelector("{split}").ariaValueText')
    assert re.fullmatch(r"\d+ % .*, \d+ % second", told)
    # The picture itself can be dragged too.
    x, y, width, height = browser.box("[data-number='0'] .compare")
    browser.drag((x + width / 2, y + height / 2), (x + width / 4, y + height / 2))
    assert 23 <= int(browser.js(f'document.querySelector("{split}").value')) <= 27
    assert browser.complaints == []


def test_difference_choices_and_zoom(browser: Browser, made: Path) -> None:
    _open(browser, made, 1280)
    amplified = _inside(browser, DIFFERENCE)
    _choose(browser, "gain", "1")
    plain = _inside(browser, DIFFERENCE)
    assert amplified.sum() > plain.sum() > plain.size * 14
    left = browser.js("document.getElementById('left').value")
    _choose(browser, "right", left)
    assert np.ptp(_inside(browser, DIFFERENCE).reshape(-1, 3), axis=0).max() == 0  # the same on both sides
    _choose(browser, "right", "photo")
    assert "no matte" in browser.js(f'document.querySelector("{DIFFERENCE}").ariaLabel')
    _choose(browser, "right", "truth")  # the first portrait has none
    assert browser.js("document.querySelector('[data-number=\"0\"] .tag.right').textContent") == "no true matte"
    assert "SAD" in browser.js("document.querySelector('[data-number=\"1\"] figcaption').textContent")
    whole = _inside(browser, COMPARE)
    x, y, width, height = browser.box("[data-number='0'] .hair")
    browser.drag((x + width / 2, y + height / 2), (x + width / 2, y + height / 2))  # a click
    assert float(browser.js("document.querySelector('[data-number=\"0\"] .zoom').value")) > 2
    close = _inside(browser, COMPARE)
    assert not _alike(whole, close)
    browser.js(f'document.querySelector("{COMPARE}").focus()')
    browser.press("ArrowDown", 8)
    assert not _alike(close, _inside(browser, COMPARE))
    browser.js("document.querySelector('[data-number=\"0\"] .whole').click()")
    again = _inside(browser, COMPARE)
    assert _alike(whole, again)
    assert browser.complaints == []


def test_every_control_has_a_name_and_the_keyboard_reaches_it(browser: Browser, made: Path) -> None:
    _open(browser, made, 1280)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert len(roles["slider"]) == 4
    assert len(roles["combobox"]) == 5
    for role in ("slider", "combobox", "button", "image", "table", "heading"):
        assert all(roles.get(role, [])), role
    assert browser.js("[...document.querySelectorAll('input, select, button')].every((e) => e.tabIndex === 0)")


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_readable_on_a_phone(browser: Browser, made: Path, screenshots: Path, dark: bool) -> None:
    _open(browser, made, 390, dark=dark)
    scheme = "dark" if dark else "light"
    browser.js("scrollTo(0, 0)")
    browser.picture(screenshots / f"phone-{scheme}.png")
    assert browser.js("document.documentElement.scrollWidth") == 390
    assert browser.js(WIDE) == []
    smallest = browser.js(
        "Math.min(...[...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && e.textContent.trim()"
        "&& !e.closest('svg')).map((e) => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 12
    for width in (390, 1280):
        browser.screen(width, 900, dark=dark)
        ratio, where = browser.js(CONTRAST)
        assert ratio >= 4.5, where
    paper = browser.js("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", paper))) < 60) is dark
    assert browser.complaints == []
