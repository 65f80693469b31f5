"""An artefact of a small network for the tests of streams and files, opened once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p3m_edge.runtimes import Matting
from tests.artefacts import make_artefact


@pytest.fixture(scope="session")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    return make_artefact(tmp_path_factory.mktemp("video") / "artefact", size=(64, 96))


@pytest.fixture(scope="session")
def matting(artefact: Path) -> Iterator[Matting]:
    with Matting(artefact, threads=1) as opened:
        yield opened
