"""Options of another type than documented, and those that count as false: as meant, or a ``UsageError``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p3m_edge.cli import main
from p3m_edge.errors import InputError, UsageError
from p3m_edge.manifest_schema import ProfileRecord
from p3m_edge.preprocess import fit, from_network, to_network
from p3m_edge.runtimes import EngineOptions, Matting, open_engine
from p3m_edge.runtimes.engines.tensorrt.options import BuildOptions
from tests.artefacts import make_artefact, picture

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


class Device:
    """Of another library, as ``torch.device`` is."""

    def __str__(self) -> str:
        return "cpu"


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artefact(tmp_path_factory.mktemp("options") / "artefact", size=(64, 96))


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artefact(tmp_path_factory.mktemp("options") / "dynamic", size=None)


WRONG: dict[str, tuple[Any, ...]] = {
    "device": (0, 1, False, "", " ", b"cpu", [], {}, (), Device(), np.int64(0), np.zeros(3)),
    "threads": (0, -1, False, True, "", "2", 2.0, [], (1,), np.True_, np.array(2), 1025, 10**12, float("nan")),
    "hint": (None, 0, "", False, ["latency"], b"latency", "Latency", np.zeros(2)),
    "resize": (None, 0, "", ["stretch"], np.zeros(2)),
    "colour": (None, 0, "", "rgb", ["RGB"], np.zeros(2)),
    "dtype": (None, 0, "", np.uint8, np.dtype("uint8"), float, np.zeros(2)),
    "size": (
        0, False, (), [], "", 512, "96x64", "ab", (96,), (96, 64, 3), (96.0, 64), ("96", "64"), {96: 64}, (96, None),
    ),
    "cache": (None, 0, 1, "", "no", "off", [], Path()),
    "cache_dir": (0, False, "", b"cache", [], 7, "x" * 300, "a\0b"),
    "sequence": (None, 0, 1, "", "no"),
    "check": (None, 0, 1, "", "no"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WRONG.items() for value in values],
    ids=lambda given: f"{given!r:.20}",
)
def test_matting_takes_an_option_as_it_is_written_or_refuses_it(artefact: Path, name: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        Matting(artefact, **{name: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("folder", [None, 0, "", b"out", [], 3.5, False], ids=repr)
def test_a_folder_that_is_none(folder: Any) -> None:
    with pytest.raises(UsageError, match="an artefact's folder is a path"):
        Matting(folder)


@pytest.mark.parametrize(
    "options",
    [
        {"device": "CPU"}, {"threads": np.int64(1)}, {"size": [96, 64]}, {"size": (np.int32(96), np.uint8(64))},
        {"cache": np.False_}, {"cache_dir": "there"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_meant_is_taken(artefact: Path, options: dict[str, Any]) -> None:
    with Matting(artefact, **options) as matting:
        assert matting(picture(40, 50)).shape == (40, 50)


def test_the_options_of_an_engine(artefact: Path, dynamic: Path) -> None:
    with Matting(artefact, threads=1) as matting:
        engine = matting.engine
        for options in ({}, {"device": "cpu"}, 0, "cpu"):
            with pytest.raises(UsageError, match="an engine's options must be of the class"):
                open_engine(matting.manifest, artefact, options)  # type: ignore[arg-type]  # that is what is tested
        images = np.zeros((1, 64, 96, 3), np.uint8)
        for outputs in (None, 0, (), [], [0], [None], [["alpha"]], b"alpha"):
            with pytest.raises(UsageError):
                engine.infer(images, outputs)  # type: ignore[arg-type]  # that is what is tested
        for ticket in (None, 0, "ticket"):
            with pytest.raises(UsageError, match="a ticket is what submit"):
                engine.collect(ticket)  # type: ignore[arg-type]  # that is what is tested
        for frames in (None, 0, 5):
            with pytest.raises(InputError, match="a batch is a row of frames"):
                matting.batch(frames)  # type: ignore[arg-type]  # that is what is tested
    with Matting(dynamic, threads=1) as matting:
        for size in ((), 0, "", (0, 32), (64.0, 64)):
            with pytest.raises(UsageError):
                matting.prepare(picture(40, 50), size)  # type: ignore[arg-type]  # that is what is tested
    for name in ("device", "threads", "hint", "cache", "cache_dir", "sequence"):
        for value in WRONG[name]:
            with pytest.raises(UsageError):
                EngineOptions(**{name: value})


def test_preprocessing() -> None:
    frame = picture(40, 50)
    for size in ((0, 32), (32.0, 32), ("32", 32), (None, 32), (32, -1)):
        with pytest.raises(UsageError, match="positive whole numbers"):
            to_network(frame, *size)
    for name in ("resize", "colour"):
        for value in WRONG[name]:
            with pytest.raises(UsageError, match="unknown"):
                to_network(frame, 32, 32, **{name: value})
    assert to_network(frame, np.int64(32), np.int32(64))[0].shape == (32, 64, 3)  # type: ignore[arg-type]  # NumPy's count, too
    geometry = fit(40, 50, 32, 64)
    for dtype in (None, "uint8", "f", float, np.dtype("uint8"), np.uint16, 0):
        with pytest.raises(UsageError, match="an alpha can be"):
            from_network(np.zeros((32, 64), np.float32), geometry, dtype)  # type: ignore[arg-type]  # that is what is tested
    for alpha in (None, 0, [[0.5]], "alpha"):
        with pytest.raises(InputError, match="must be float"):
            from_network(alpha, geometry)  # type: ignore[call-overload]  # that is what is tested


@pytest.mark.parametrize(
    "options",
    [
        {"flavour": ""}, {"flavour": 0}, {"compute_capabilities": "8.6"}, {"compute_capabilities": (8.6,)},
        {"compute_capabilities": None}, {"profile": 0}, {"profile": (64, 64)}, {"hardware_compatibility": None},
        {"hardware_compatibility": ""}, {"version_compatible": 0}, {"version_compatible": "no"}, {"level": "3"},
        {"level": 3.0}, {"level": False}, {"level": ""}, {"level": 6}, {"workspace_mb": 0}, {"workspace_mb": "64"},
        {"workspace_mb": True}, {"timing_cache": ""}, {"timing_cache": 0},
    ],
    ids=str,
)  # fmt: skip
def test_the_options_of_a_build(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        BuildOptions(**options)
    BuildOptions(profile=ProfileRecord((32, 32), (64, 64), (96, 96)), level=0, timing_cache=Path("a.cache"))


@pytest.mark.parametrize("words", [["--device", ""], ["--device", "0"], ["--threads", "0"], ["--threads", "5000"]])
def test_the_command_line(artefact: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.png").write_bytes(b"never read")
    assert main(["run", str(artefact), str(tmp_path / "x.png"), "--out", str(tmp_path / "out"), *words]) == 2
    assert "internal error" not in capsys.readouterr().err
