"""The module p3m-edge.js in a real headless Chromium: preprocessing and figures as Python's, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

if os.name != "posix":
    pytest.skip("the browser's pipe needs POSIX", allow_module_level=True)
pytest.importorskip("onnxruntime")

from p3m_edge.preprocess import Resize, fit, from_network, to_network
from p3m_edge.refine import guide, refine
from p3m_edge.runtimes import golden
from p3m_edge.runtimes.size import fitting_size
from tests.browser import Browser
from tests.web.pages import FRAME, bytes_of, noise, open_bare

CASES: list[tuple[int, int, int, int, Resize]] = [
    (320, 240, 256, 288, "stretch"), (700, 300, 256, 256, "letterbox"), (177, 301, 128, 96, "letterbox"),
    (192, 256, 96, 128, "stretch"), (128, 128, 128, 128, "stretch"), (1, 1, 64, 64, "stretch"),
    (2, 5, 64, 64, "letterbox"), (900, 40, 96, 64, "letterbox"),
]  # fmt: skip
"""Width and height of the frame and of the network."""


def test_preprocessing_is_that_of_python(browser: Browser, tiny: tuple[Path, str]) -> None:
    open_bare(browser, tiny[1])
    for width, height, across, down, resize in CASES:
        found = browser.js(
            f"import('../preprocess.js').then((p) => {{ const frame = {FRAME}({{width: {width}, height: {height}}});"
            f"const place = p.fit(frame, {across}, {down}, '{resize}'), image = p.toNetwork(frame, place);"
            f"const ramp = (v, at) => Math.min(1, (at % {across}) * v / 9000);"
            f"const alpha = Float32Array.from(noise({across * down}), ramp);"
            "const ways = [p.fromNetwork(alpha, place, 255), p.refine(alpha, frame, image, place, 255)];"
            "return [image.data, ...ways].map(text); })"
        )
        frame = noise(width * height * 4).reshape(height, width, 4)[..., :3]
        image, geometry = to_network(frame, down, across, resize)
        ramp = (np.arange(across * down) % across) * noise(across * down).astype(np.float64) / 9000
        alpha = np.minimum(1, ramp).astype(np.float32).reshape(down, across)
        assert geometry == fit(height, width, down, across, resize)
        assert (bytes_of(found[0]).reshape(image.shape) == image).all(), (width, height, across, down)
        ways = (
            from_network(alpha, geometry, np.uint8),
            refine(alpha, geometry, guide(frame, image, geometry, "RGB"), np.uint8),
        )
        for text, wanted in zip(found[1:], ways, strict=True):
            apart = np.abs(bytes_of(text).reshape(wanted.shape).astype(int) - wanted)
            assert apart.max() <= 1, (width, height, across, down)
            assert (apart > 0).mean() <= 0.01
    sizes = [(w, h) for w in (7, 96, 640, 1080, 3840) for h in (9, 240, 480, 1920, 2160)]
    found = browser.js(
        f"import('../preprocess.js').then((p) => {json.dumps(sizes)}.map((s) => p.fittingSize(...s, 32)))"
    )
    assert found == [list(fitting_size(*size, 32)) for size in sizes]


def test_the_figures_of_a_difference_are_those_of_python(browser: Browser, tiny: tuple[Path, str]) -> None:
    """Of arrays, so that no engine is in between."""
    open_bare(browser, tiny[1])
    shapes = {"alpha": 1, "local_alpha": 1, "global_logits": 3}
    sides = (24, 40)

    def values(channels: int, scale: int) -> NDArray[np.float32]:
        plain = noise(channels * sides[0] * sides[1] + scale)[scale:].astype(np.float64) / 255
        return plain.astype(np.float32).reshape(1, channels, *sides)

    reference, found = ({name: values(count, scale) for name, count in shapes.items()} for scale in (0, 5))
    wanted = golden.compare("x", reference, found, 0.1)
    item = browser.js(
        f"import('../golden.js').then((g) => {{ const of = (s, c) => Float32Array.from(noise(c * 960 + s).slice(s),"
        f"(v) => v / 255); const shapes = Object.entries({json.dumps(shapes)});"
        "const reference = Object.fromEntries(shapes.map(([n, c]) => [n, {data: of(0, c), shape: [1, c, 24, 40]}]));"
        "const found = Object.fromEntries(shapes.map(([n, c]) => [n, of(5, c)]));"
        "return g.compare(reference, found, 0.1); })"
    )
    for name, value in item.items():
        assert value == pytest.approx(getattr(wanted, name), rel=1e-4), name
    assert wanted.flips is not None
    assert wanted.flips > 0.01


def test_the_module_has_the_names_of_python_and_refuses_what_it_cannot_take(
    browser: Browser, tiny: tuple[Path, str]
) -> None:
    open_bare(browser, tiny[1])

    def tried(body: str) -> Any:
        return browser.js(
            f"import('../p3m-edge.js').then(async ({{Matting}}) => {{ {body} }})"
            ".catch((e) => [e.name, e.message, e.hint])"
        )

    kinds = tried(
        f"const m = await Matting.load('../artefact', {{dtype: 'float32', resize: 'letterbox', refine: false}});"
        f"const two = await Promise.all([20, 30].map((height) => m.matte({FRAME}({{width: 40, height}}))));"
        "const verdict = await m.selftest(); await m.close(); await m.close();"
        "const after = await m.matte({width: 1, height: 1, data: new Uint8Array(4)}).catch((e) => e.message);"
        "return [two.map((a) => [a.constructor.name, a.length, Math.max(...a) <= 1]), verdict.passed, after];"
    )
    assert kinds == [[["Float32Array", 800, True], ["Float32Array", 1200, True]], True, "it has been closed"]
    bad = {
        "await Matting.load('../artefact', {provider: 'cuda'})": "unknown provider cuda",
        "await Matting.load('../artefact', {resize: 'fill'})": "unknown resize fill",
        "await Matting.load('nowhere')": "404",
        "await Matting.load('../artefact', {runtime: 'nowhere/'})": "ONNX Runtime Web cannot be loaded",
        "await (await Matting.load('../artefact')).matte({width: 2, height: 2, data: [0]})": "a frame is",
        "await (await Matting.load('../artefact')).matte()": "a frame is",
        "WebAssembly.validate = () => false; await Matting.load('../artefact')": "no WebAssembly SIMD",
    }
    for body, message in bad.items():
        name, told, _ = tried(body)
        assert (name, message in told) == ("ProviderError" if "ONNX" in message else "MattingError", True), told
