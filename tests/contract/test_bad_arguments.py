"""The Python API, given what it does not take: an error of the package on one line, and nothing changed on the disc.

A fault that is found elsewhere becomes a row of one of the tables.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from p3m_edge import imageio, metrics, remove
from p3m_edge import manifest as manifests
from p3m_edge.data.faces import open_faces, synthetic_faces
from p3m_edge.data.foreground import estimate, fused
from p3m_edge.data.lists import read_list
from p3m_edge.data.sets import open_set
from p3m_edge.data.trimap import make_trimap
from p3m_edge.errors import ArtefactError, CheckpointError, InputError, P3MEdgeError, UsageError
from p3m_edge.preprocess import from_network, to_network
from p3m_edge.runtimes import EngineOptions, Matting, open_engine
from p3m_edge.runtimes.compose import blur_background, composite, cutout, foreground
from p3m_edge.targets import get
from tests.artefacts import picture
from tests.bad import BAD, NAMES, NO_NAME, guarded, make_world, snapshot

pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch", reason="torch is not installed")

from p3m_edge.evaluate.strategies import predict  # noqa: E402 - they need torch
from p3m_edge.export import ExportRequest, export, plan  # noqa: E402 - they need torch
from p3m_edge.model import build, inspect_checkpoint, load_checkpoint, save_checkpoint, standin  # noqa: E402 - they need torch

FRAME = picture(8, 10)
ALPHA = np.linspace(0, 1, 80, dtype=np.float32).reshape(8, 10)
EIGHT_BITS = (ALPHA * 255).astype(np.uint8)
NETWORK, GEOMETRY = to_network(FRAME, 64, 96)
EXPORT = ExportRequest(("onnx-fp32",), Path("out"), arch="mobile", width=64, height=64)


class Given(NamedTuple):
    """What calls are made with: an artefact, opened, and a network."""

    matting: Matting
    network: Any


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def given(world: Path) -> Given:
    return Given(Matting(world / "art", threads=1), standin("mobile"))


@pytest.fixture(autouse=True)
def inside(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)


Errors = type[P3MEdgeError] | tuple[type[P3MEdgeError], ...]


def refused(call: Callable[[Any], object], values: Mapping[str, Any], expected: Errors) -> None:
    """With each of the values, the call ends with one of the errors; all together change no file."""
    before = snapshot(Path())
    wrong = {}
    with guarded():
        for name, value in values.items():
            try:
                call(value)
                wrong[name] = "it was taken"
            except P3MEdgeError as error:
                if not isinstance(error, expected) or not all(map(is_one_line, (str(error), error.hint or "none"))):
                    wrong[name] = repr(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is wrong
                wrong[name] = repr(error)[:200]
    assert not wrong
    out = Path("out")
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    assert snapshot(Path()) == before


def is_one_line(text: str) -> bool:
    long_name = "n" * 300 in text or "d/" * 300 in text
    return bool(text.strip()) and "\n" not in text and (len(text) < 400 or long_name)


def numbered(values: Iterable[Any]) -> dict[str, Any]:
    return {f"{index}: {value!r:.40}": value for index, value in enumerate(values)}


# --- files -----------------------------------------------------------------------------------------------------------

FILES: dict[str, tuple[Callable[[Path], object], type[P3MEdgeError]]] = {
    "Matting": (Matting, ArtefactError),
    "manifest.read": (manifests.read, ArtefactError),
    "load_checkpoint": (load_checkpoint, CheckpointError),
    "inspect_checkpoint": (inspect_checkpoint, CheckpointError),
    "export: checkpoint": (lambda path: export(replace(EXPORT, checkpoint=path, arch=None)), CheckpointError),
    "export: calibration": (
        lambda path: export(replace(EXPORT, targets=("openvino-int8",), calibration=path)), InputError,
    ),
    "plan: sign": (lambda path: plan(replace(EXPORT, sign=path)), InputError),
    "read_image": (imageio.read_image, InputError),
    "read_mask": (imageio.read_mask, InputError),
    "remove": (remove, InputError),
    "remove: background": (lambda path: remove(FRAME, background=path), InputError),
    "count_frames": (imageio.count_frames, InputError),
    "list_images": (lambda path: imageio.list_images(path)[0] or None, InputError),
    "open_set": (open_set, InputError),
    "open_faces": (open_faces, InputError),
    "read_list": (read_list, InputError),
}  # fmt: skip
"""Calls that are given a path, and the error."""
ALSO_USAGE = {"plan: sign", "export: calibration", "open_set"}
"""Those that call some files a wrong request: a key of another kind, a name that no file can have."""
TAKEN = {("list_images", "folder")}
"""An empty folder has no pictures, which is no fault."""


@pytest.mark.skipif(os.name == "nt", reason="names and devices of POSIX systems")
@pytest.mark.parametrize("call", FILES)
def test_files(call: str) -> None:
    function, error = FILES[call]
    given = {name: Path(bad.name) for name, bad in (BAD | NAMES).items() if (call, name) not in TAKEN}
    names = given.keys() if call in ALSO_USAGE else NO_NAME
    refused(function, {name: path for name, path in given.items() if name in names}, (error, UsageError))
    refused(function, {name: path for name, path in given.items() if name not in names}, error)


def selftest(folder: Path) -> None:
    with Matting(folder, threads=1, check=False) as matting:
        matting.selftest()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _data: b"", "half": lambda data: data[: len(data) // 2],
    "noise": lambda _data: BAD["noise"].content or b"", "a page": lambda _data: BAD["page"].content or b"",
    "one byte more": lambda data: data + b"\0",
}  # fmt: skip


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "golden.npz"])
def test_artefacts_that_are_damaged(name: str, world: Path, tmp_path: Path) -> None:
    folders = {}
    for damage, change in DAMAGE.items():
        folders[damage] = shutil.copytree(world / "art", tmp_path / damage)
        path = folders[damage] / name
        path.write_bytes(change(path.read_bytes()))
    refused(Matting, folders, ArtefactError)
    refused(lambda folder: manifests.check_files(manifests.read(folder), folder), folders, ArtefactError)
    del folders["one byte more"]  # which the hash alone shows
    refused(selftest, folders, ArtefactError)


# --- arrays ----------------------------------------------------------------------------------------------------------


def with_values(like: np.ndarray, *values: float) -> np.ndarray:
    changed = np.full(like.shape, 0.5, np.float32)
    changed.flat[: len(values)] = values
    return changed


def of_no_form(shape: tuple[int, ...]) -> dict[str, Any]:
    """No arrays, and arrays of that shape with values that are neither brightness nor alpha."""
    like = np.zeros(shape)
    return {
        "None": None, "a number": 7, "text": "frame.png", "bytes": b"frame", "lists": like.tolist(),
        "path": Path("ok.png"), "dictionary": {}, "no axis": np.array(3, np.uint8), "one axis": np.zeros(5, np.uint8),
        "int8": like.astype(np.int8), "int64": like.astype(np.int64), "uint32": like.astype(np.uint32),
        "complex": like.astype(np.complex64), "objects": np.empty(shape, object), "letters": np.full(shape, "a"),
        "dates": np.zeros(shape, "datetime64[s]"), "records": np.zeros(shape, [("a", "u1")]),
        "NaN": with_values(like, np.nan), "infinity": with_values(like, np.inf), "0..255": with_values(like, 255),
        "negative": with_values(like, -1), "NaN of the other order": with_values(like, np.nan).astype(">f4"),
        "long NaN": with_values(like, np.nan).astype(np.longdouble), "empty": np.zeros((0, *shape[1:]), np.uint8),
        "no columns": np.zeros((shape[0], 0, *shape[2:]), np.uint8),
    }  # fmt: skip


FRAMES: dict[str, Any] = {
    **of_no_form((8, 10, 3)), "grey": EIGHT_BITS, "two channels": FRAME[..., :2],
    "RGBA": np.dstack([FRAME, EIGHT_BITS]), "planar": FRAME.transpose(2, 0, 1), "batch": FRAME[np.newaxis],
    "bool": FRAME > 0,
}  # fmt: skip
ALPHAS: dict[str, Any] = {
    **of_no_form((8, 10)), "colours": FRAME, "a channel": ALPHA[..., np.newaxis], "of another size": ALPHA.T,
    "16 bits": EIGHT_BITS.astype(np.uint16),
}  # fmt: skip

OF_FRAMES: dict[str, Callable[[Given, Any], object]] = {
    "Matting()": lambda given, frame: given.matting(frame),
    "Matting.batch": lambda given, frame: given.matting.batch([FRAME, frame]),
    "Matting.submit": lambda given, frame: given.matting.submit(frame),
    "Matting.prepare": lambda given, frame: given.matting.prepare(frame),
    "Engine.infer": lambda given, frame: given.matting.engine.infer(frame),
    "Engine.submit": lambda given, frame: given.matting.engine.submit(frame),
    "to_network": lambda _, frame: to_network(frame, 64, 96),
    "cutout": lambda _, frame: cutout(frame, ALPHA),
    "foreground": lambda _, frame: foreground(frame, ALPHA),
    "composite": lambda _, frame: composite(frame, ALPHA, (0, 0, 0)),
    "composite: background": lambda _, frame: composite(FRAME, ALPHA, frame),
    "composite: foreground": lambda _, frame: composite(FRAME, ALPHA, (0, 0, 0), foreground=frame),
    "blur_background": lambda _, frame: blur_background(frame, ALPHA),
    "write_png": lambda _, frame: imageio.write_png("new.png", frame),
    "remove": lambda _, frame: remove(frame),
    "remove: background": lambda _, frame: remove(FRAME, background=frame),
    "flicker": lambda _, frame: metrics.flicker([ALPHA] * 2, [frame] * 2),
    "predict": lambda given, frame: predict(given.network, frame),
    "estimate": lambda _, frame: estimate(frame, EIGHT_BITS),
    "fused": lambda _, frame: fused(frame, EIGHT_BITS),
}
OF_ALPHAS: dict[str, Callable[[Given, Any], object]] = {
    "cutout": lambda _, alpha: cutout(FRAME, alpha),
    "foreground": lambda _, alpha: foreground(FRAME, alpha),
    "composite": lambda _, alpha: composite(FRAME, alpha, (0, 0, 0)),
    "blur_background": lambda _, alpha: blur_background(FRAME, alpha),
    "evaluate": lambda _, alpha: metrics.evaluate(alpha, ALPHA),
    "evaluate: truth": lambda _, alpha: metrics.evaluate(ALPHA, alpha),
    "evaluate: trimap": lambda _, alpha: metrics.evaluate(ALPHA, ALPHA, alpha),
    "evaluate: face": lambda _, alpha: metrics.evaluate(ALPHA, ALPHA, None, alpha),
    "gradient_error": lambda _, alpha: metrics.gradient_error(alpha, ALPHA),
    "connectivity_error": lambda _, alpha: metrics.connectivity_error(alpha, ALPHA),
    "dtssd": lambda _, alpha: metrics.dtssd([alpha] * 2, [ALPHA] * 2),
    "dtssd: truth": lambda _, alpha: metrics.dtssd([ALPHA] * 2, [alpha] * 2),
    "flicker": lambda _, alpha: metrics.flicker([alpha] * 2, [FRAME] * 2),
    "from_network": lambda _, alpha: from_network(alpha, GEOMETRY),
    "Matting.finish": lambda given, alpha: given.matting.finish(alpha, given.matting.prepare(FRAME)[1]),
    "make_trimap": lambda _, alpha: make_trimap(alpha, 15),
    "estimate": lambda _, alpha: estimate(FRAME, alpha),
    "fused": lambda _, alpha: fused(FRAME, alpha),
}
MEANT = {
    ("composite: foreground", "None"), ("evaluate: trimap", "None"), ("evaluate: face", "None"),  # left out
    *product(("write_png", "remove", "remove: background"), ("grey", "RGBA")),
    ("remove", "path"), ("remove: background", "None"), ("remove: background", "path"),
    *product(("gradient_error", "connectivity_error"), ("NaN", "infinity", "0..255", "negative")),
}  # fmt: skip
"""What is as documented."""


@pytest.mark.parametrize("call", OF_FRAMES)
def test_frames(call: str, given: Given) -> None:
    frames = {name: frame for name, frame in FRAMES.items() if (call, name) not in MEANT}
    error = (InputError, UsageError) if call.startswith("remove") else InputError  # which takes more than frames
    refused(lambda frame: OF_FRAMES[call](given, frame), frames, error)


@pytest.mark.parametrize("call", OF_ALPHAS)
def test_alphas(call: str, given: Given) -> None:
    alphas = {name: alpha for name, alpha in ALPHAS.items() if (call, name) not in MEANT}
    refused(lambda alpha: OF_ALPHAS[call](given, alpha), alphas, InputError)


# --- other arguments -------------------------------------------------------------------------------------------------

NAN = float("nan")
NO_PATHS: tuple[Any, ...] = (None, 0, "", [], {}, 1.5, True, object(), np.zeros(3), b"ok.png")
NO_NAMES: tuple[Any, ...] = (None, 0, "", "no such name", [], {}, 1.5, True, object(), np.zeros(3), b"mobile")
NO_NUMBERS: tuple[Any, ...] = ("", "7", [], {}, 1.5, NAN, -1, True, object(), np.zeros(3), b"7", 10**12)

ARGUMENTS: dict[str, tuple[Callable[[Given, Any], object], tuple[Any, ...]]] = {
    "Matting": (lambda _, value: Matting(value), NO_PATHS),
    "Matting.batch": (lambda given, value: given.matting.batch(value), (None, 0, 1.5, object())),
    "Matting.prepare: size": (
        lambda given, value: given.matting.prepare(FRAME, value),
        ((), (0, 32), (64.0, 64), (64, 64, 3), "64x64", 64, NAN),
    ),
    "Engine.infer: outputs": (lambda given, value: given.matting.engine.infer(NETWORK[None], value), NO_NAMES),
    "Engine.collect": (lambda given, value: given.matting.engine.collect(value), NO_PATHS),
    "open_engine: manifest": (lambda _, value: open_engine(value, Path("art"), EngineOptions()), NO_PATHS),
    "open_engine: folder": (lambda given, value: open_engine(given.matting.manifest, value), NO_PATHS),
    "open_engine: options": (
        lambda given, value: open_engine(given.matting.manifest, Path("art"), value), NO_PATHS[1:],
    ),
    "manifest.read": (lambda _, value: manifests.read(value), NO_PATHS),
    "check_files": (lambda given, value: manifests.check_files(given.matting.manifest, value), NO_PATHS),
    "check_files: manifest": (lambda _, value: manifests.check_files(value, Path("art")), NO_PATHS),
    "targets.get": (lambda _, value: get(value), NO_NAMES),
    "composite: background": (
        lambda _, value: composite(FRAME, ALPHA, value),
        ((0, 0), (0, 0, 0, 0), (0.5, 0, 0), (-1, 0, 0), (256, 0, 0), "red", None, [[0], [0, 1]], {}, (None,) * 3),
    ),
    "blur_background: strength": (
        lambda _, value: blur_background(FRAME, ALPHA, value),
        (None, "", "0.5", [], NAN, -0.1, 1.1, np.zeros(3), object()),
    ),
    "read_image": (lambda _, value: imageio.read_image(value), NO_PATHS),
    "read_image: max_pixels": (
        lambda _, value: imageio.read_image("ok.png", max_pixels=value), (None, 0, *NO_NUMBERS[:-1]),
    ),
    "read_image: frame": (lambda _, value: imageio.read_image("ok.png", frame=value), NO_NUMBERS),
    "read_mask": (lambda _, value: imageio.read_mask(value), NO_PATHS),
    "read_mask: source": (lambda _, value: imageio.read_mask("ok.png", source=value), NO_NAMES),
    "count_frames": (lambda _, value: imageio.count_frames(value), NO_PATHS),
    "list_images": (lambda _, value: imageio.list_images(value), NO_PATHS),
    "remove": (lambda _, value: remove(value), NO_PATHS),
    "remove: background": (
        lambda _, value: remove(FRAME, background=value),
        ("no such colour", (0, 0), (256, 0, 0), (0.5, 0, 0), (None,) * 3, *NO_PATHS[1:]),
    ),
    "remove: only_alpha": (lambda _, value: remove(FRAME, only_alpha=value), (None, 0, "no", [], object())),
    "remove: people": (lambda _, value: remove(FRAME, people=value), NO_NAMES),
    "as_picture: max_pixels": (
        lambda _, value: imageio.as_picture(FRAME, max_pixels=value), (None, 0, *NO_NUMBERS[:-1]),
    ),
    "write_png": (lambda _, value: imageio.write_png(value, FRAME), NO_PATHS),
    "write_png: icc_profile": (
        lambda _, value: imageio.write_png("new.png", FRAME, icc_profile=value), ("sRGB", 0, [], np.zeros(3), object()),
    ),
    "to_network: height": (lambda _, value: to_network(FRAME, value, 96), (None, 0, *NO_NUMBERS[:-1])),
    "to_network: resize": (lambda _, value: to_network(FRAME, 64, 96, value), NO_NAMES),
    "to_network: colour": (lambda _, value: to_network(FRAME, 64, 96, "stretch", value), NO_NAMES),
    "from_network: geometry": (lambda _, value: from_network(np.zeros((64, 96), np.float32), value), NO_PATHS),
    "from_network: dtype": (lambda _, value: from_network(np.zeros((64, 96), np.float32), GEOMETRY, value), NO_NAMES),
    "load_checkpoint": (lambda _, value: load_checkpoint(value), NO_PATHS),
    "inspect_checkpoint": (lambda _, value: inspect_checkpoint(value), NO_PATHS),
    "save_checkpoint": (
        lambda given, value: save_checkpoint(given.network, value, licence="none", provenance="test", trained=False),
        NO_PATHS,
    ),
    "build": (lambda _, value: build(value), NO_NAMES),
    "standin": (lambda _, value: standin(value), NO_NAMES),
    "standin: seed": (lambda _, value: standin("mobile", value), (None, *NO_NUMBERS[:-1])),
    "predict: model": (lambda _, value: predict(value, FRAME), NO_PATHS),
    "predict: strategy": (lambda given, value: predict(given.network, FRAME, value), NO_NAMES),
    "predict: limit": (
        lambda given, value: predict(given.network, FRAME, short_side_limit=value), (0, *NO_NUMBERS[:-1]),
    ),
    "open_set": (lambda _, value: open_set(value), NO_PATHS),
    "open_set: split": (lambda _, value: open_set("set", value), NO_NAMES[1:]),
    "open_faces": (lambda _, value: open_faces(value), NO_PATHS),
    "synthetic_faces: count": (lambda _, value: synthetic_faces(0, value), (None, 0, *NO_NUMBERS[:-1])),
    "plan": (lambda _, value: plan(value), NO_PATHS),
    "export": (lambda _, value: export(value), NO_PATHS),
}  # fmt: skip
WRONG_FIELDS: dict[str, tuple[Any, ...]] = {
    "targets": ((), "onnx-fp32", ("onnx-fp33",), (None,), None, 0, ("onnx-fp32",) * 2), "out": NO_PATHS,
    "checkpoint": NO_PATHS[1:], "arch": NO_NAMES, "width": (None, 0, 65, *NO_NUMBERS),
    "height": (None, 0, 65, *NO_NUMBERS),
    "batch": (None, 0, *NO_NUMBERS), "dynamic": (None, 0, "no", []), "unpool": NO_NAMES, "outputs": NO_NAMES,
    "parity_images": (None, 0, "ok.png", (None,), b"ok.png"), "limits": (None, 0, [], {"no": 1}, {"alpha_mean": "1"}),
    "force": (None, 0, "no"), "calibration": NO_PATHS[1:], "calibration_count": (None, 0, 31, *NO_NUMBERS[:-1]),
    "measuring": NO_PATHS[1:], "seed": (None, *NO_NUMBERS[:6], *NO_NUMBERS[7:-1]),
    "max_drop": (None, "", "1", [], NAN, -1, np.inf),
    "qdq": NO_NAMES, "budget": (None, 0, "", "1", NAN, -1), "attempts": (None, 0, *NO_NUMBERS[:-1]),
    "minimum_ios": (0, *NO_NUMBERS), "alpha": NO_NAMES[1:],
    "more_sizes": (None, 0, "x", (64, 64), ((64,),), ((64, "64"),)),
    "smoothing": ("", "0.3", [], NAN, -1, 2), "engine": NO_PATHS, "require_engine": (None, 0, "no"), "half": NO_NAMES,
    "sign": NO_PATHS[1:], "emulate": (None, 0, "aarch64", (None,)), "emulation": NO_PATHS[1:],
}  # fmt: skip
"""By the fields of an ``ExportRequest``."""


@pytest.mark.parametrize("call", ARGUMENTS)
def test_arguments(call: str, given: Given) -> None:
    function, values = ARGUMENTS[call]
    refused(lambda value: function(given, value), numbered(values), (UsageError, InputError))


@pytest.mark.parametrize("name", [field.name for field in fields(ExportRequest)])
def test_requests(name: str) -> None:
    refused(
        lambda value: plan(replace(EXPORT, **{name: value})), numbered(WRONG_FIELDS[name]), (UsageError, InputError)
    )


def test_requests_are_taken_as_they_are_meant() -> None:
    meant: dict[str, Any] = {"out": "out", "width": np.int64(64), "targets": ["onnx-fp32"], "max_drop": EXPORT.max_drop}
    assert plan(replace(EXPORT, **meant)) == plan(EXPORT)
