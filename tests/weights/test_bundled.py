"""The artefact in the package: of the shipped weights, sound, small, and for every machine with ONNX Runtime."""

from __future__ import annotations

import pytest

from p3m_edge import manifest, shipped
from p3m_edge.runtimes import Matting, default

pytest.importorskip("onnxruntime")

MOST = 9_000_000


def test_it_is_of_the_shipped_weights() -> None:
    made, weights = manifest.read(default.bundled()), shipped.read_header()
    assert made.model.checkpoint_sha256 == manifest.sha256(shipped.weights_path()), "run tools/bundle_artefact.py"
    assert (made.model.arch, made.model.licence, made.model.provenance) == (
        shipped.DEFAULT, weights.licence, weights.provenance,
    )  # fmt: skip
    assert (made.target, made.input.width, made.input.height) == (default.bundled().name, *default.SIZE)
    assert made.model.trained
    assert made.verified.level == "device"


def test_it_passes_its_golden_vectors() -> None:
    with Matting(default.bundled(), threads=1) as matting:
        test = matting.selftest()
    assert test.passed, test.failures


def test_it_is_small() -> None:
    files = [path for path in default.bundled().iterdir() if path.is_file()]
    assert {path.name for path in files} == {"manifest.json", "model.onnx", "golden.npz"}
    assert sum(path.stat().st_size for path in files) <= MOST
