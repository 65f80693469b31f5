"""A manifest notices its damage and thoughtless edits, and what contradicts itself is refused however it was sealed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p3m_edge import manifest, manifest_schema
from p3m_edge.cli import main
from p3m_edge.errors import ArtefactError
from p3m_edge.runtimes import Matting
from p3m_edge.targets import FP32
from tests.artefacts import edit_manifest, make_artefact
from tests.core.test_targets_manifest import example, item


def with_figures(folder: Path) -> Path:
    """An artefact with figures in its manifest, as an export leaves it."""
    make_artefact(folder)
    parity = manifest_schema.ParityRecord(True, FP32, (item(), item("noise")), headroom=4.5)
    machine = {"cpu": "some CPU ☂", "cores": 2, "memory": 3.1e10}
    verified = manifest_schema.VerifiedRecord("device", machine, {"onnxruntime": "1.32.0"})
    manifest.write(dataclasses.replace(manifest.read(folder), parity=parity, verified=verified), folder)
    return folder


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_figures(tmp_path_factory.mktemp("artefacts") / "onnx-fp32")


@pytest.fixture
def raw(artefact: Path) -> bytes:
    return (artefact / manifest.MANIFEST).read_bytes()


def refused(folder: Path, data: bytes) -> str:
    (folder / manifest.MANIFEST).write_bytes(data)
    with pytest.raises(ArtefactError) as caught:
        manifest.read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_flipped_bit_in_any_byte_is_noticed(raw, tmp_path):
    rng = random.Random(28)
    for position in range(len(raw)):
        flipped = bytearray(raw)
        flipped[position] ^= 1 << rng.randrange(8)
        refused(tmp_path, bytes(flipped))
    (tmp_path / manifest.MANIFEST).write_bytes(raw)
    manifest.read(tmp_path)


def test_a_manifest_cut_short_or_with_more_at_its_end_is_noticed(raw, tmp_path):
    for cut in range(0, len(raw) - 1, 7):
        refused(tmp_path, raw[:cut])
    for more in (b"x", b"{}", b"\0", raw):
        refused(tmp_path, raw + more)


def test_white_space_is_no_change(raw, artefact, tmp_path):
    """What formatters, editors and version control do to text files."""
    known = manifest.read(artefact)
    for text in (
        raw.replace(b"\n", b"\r\n"), raw.strip(), b"\xef\xbb\xbf" + raw, raw.replace(b"  ", b"\t"),
        msgspec.json.format(raw, indent=-1), msgspec.json.format(raw, indent=7),
    ):  # fmt: skip
        assert text != raw
        (tmp_path / manifest.MANIFEST).write_bytes(text)
        assert manifest.read(tmp_path) == known


def test_the_digest_is_what_the_page_says(raw):
    """White space outside of strings goes, then the digest's own characters become zeros."""
    compact = re.sub(rb'("(?:[^"\\]|\\.)*")|\s+', rb"\1", raw)
    written = json.loads(raw)["sha256"].encode()
    assert hashlib.sha256(compact.replace(written, b"0" * 64, 1)).hexdigest().encode() == written


EDITS: dict[str, tuple[str, Any]] = {
    **{f"limit {n}": (f"parity.limits.{n}", 1.0) for n in ("logits_mean", "local_mean", "pixel_share", "flips")},
    **{f"no limit {n}": (f"parity.limits.{n}", 1e9) for n in ("pixel_tolerance", "mse", "grad_mean")},
    "no parity": ("parity", None), "a loosened limit": ("parity.loosened", ["flips: 1 instead of 0.0001"]),
    "no failures": ("parity.failures", ["noise: flips is 1"]), "other figures": ("parity.items", []),
    "failed": ("parity.passed", False), "headroom": ("parity.headroom", 1e6),
    "trained": ("model.trained", True), "licence": ("model.licence", "MIT"), "provenance": ("model.provenance", "P3M"),
    "checkpoint": ("model.checkpoint_sha256", "1" * 64), "arch": ("model.arch", "swin-t"),
    "parameters": ("model.parameters", 1),
    "target": ("target", "onnx-fp16"), "precision": ("precision", "fp16"), "unknown target": ("target", "onnx-fp8"),
    "engine": ("engine.name", "tensorrt"), "unknown engine": ("engine.name", "x"), "no engine": ("engine.name", ""),
    "not built": ("engine.status", "not-built"), "minimum version": ("engine.minimum_version", "0.1"),
    "no version": ("engine.minimum_version", "abc"), "versions": ("engine.versions", {"onnx": "9"}),
    "reason": ("engine.reason", "x"), "commands": ("engine.commands", ["rm -r /"]),
    "model file": ("model_file", "golden.npz"), "a file's hash": ("files.model\\.onnx.sha256", "0" * 64),
    "a file's size": ("files.model\\.onnx.bytes", 1), "files": ("files", {}),
    "width": ("input.width", 32), "height": ("input.height", None), "batch": ("input.batch", 2),
    "multiple": ("input.multiple_of", 0), "input": ("input.name", "frame"), "colour": ("input.colour", "BGR"),
    "outputs": ("outputs", []), "unpool": ("unpool", "nearest"), "smoothing": ("smoothing", 0.5),
    "functions": ("functions", [{"name": "a", "width": 96, "height": 64}]),
    "level": ("verified.level", "none"), "machine": ("verified.machine", {}), "with": ("verified.versions", {}),
    "units": ("verified.units", [{"unit": "NE", "errors": {}}]), "fp32 nodes": ("fp32_nodes", ["Conv"]),
    "version": ("p3m_edge", "9.0"), "quantization": ("quantization.passed", True), "schema": ("schema", 1),
    "a field of nobody": ("remark", "checked by hand"), "digest": ("sha256", "0" * 64), "no digest": ("sha256", None),
}  # fmt: skip


def edited(raw: bytes, name: str, value: Any) -> bytes:
    """The manifest with a value at a dotted name."""
    document = msgspec.json.decode(raw)
    *parents, last = (part.replace("\0", ".") for part in name.replace("\\.", "\0").split("."))
    place = document
    for parent in parents:
        place[parent] = place.get(parent) or {}
        place = place[parent]
    place[last] = value
    return msgspec.json.encode(document)  # which writes numbers as we do, so that nothing else is changed


@pytest.mark.parametrize(("name", "value"), EDITS.values(), ids=EDITS)
def test_an_edit_is_noticed(raw, tmp_path, name, value):
    same = edited(raw, "target", "onnx-fp32")
    (tmp_path / manifest.MANIFEST).write_bytes(same)
    manifest.read(tmp_path)
    assert edited(raw, name, value) != same
    refused(tmp_path, edited(raw, name, value))


def test_apps_and_verify_notice_it_too(artefact, tmp_path, capsys):
    folder = make_artefact(tmp_path / "edited")
    path = folder / manifest.MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"flips": 0.0001', b'"flips": 1.0001'))
    with pytest.raises(ArtefactError, match="has been changed or damaged since it was written"):
        Matting(folder)
    assert main(["verify", str(folder), "--json"]) == 5
    assert "has been changed" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_manifest_without_a_digest(raw, tmp_path):
    document = json.loads(raw)
    del document["sha256"]
    assert "has no digest" in refused(tmp_path, json.dumps(document).encode())


# --- what contradicts itself, sealed or not --------------------------------------------------------------------------


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"engine__name": "tensorrt"}, "the engine of onnx-fp32 is onnxruntime, not 'tensorrt'"),
    ({"target": "onnx-fp16"}, "the precision of onnx-fp16 is fp16, not 'fp32'"),
    ({"target": "trt-fp32"}, "the engine of trt-fp32 is tensorrt, not 'onnxruntime'"),
    ({"model_file": "golden.npz"}, r"the model file of onnx-fp32 is model\.onnx, not 'golden\.npz'"),
    ({"target": "onnx-fp23"}, "there is no target 'onnx-fp23': did you mean 'onnx-fp32'"),
    ({"engine__minimum_version": "abc"}, "its oldest engine 'abc' is no version"),
    ({"engine__minimum_version": ""}, "its oldest engine '' is no version"),
    ({"engine__minimum_version": "9" * 5000}, "its oldest engine '99*[^ ]* is no version"),
    ({"input__multiple_of": 0}, "multiples of 0"),
    ({"input__multiple_of": -32}, "multiples of -32"),
    ({"input__width": 97}, "its width 97 is no positive multiple of 32"),
    ({"input__width": 0}, "its width 0 is no positive multiple"),
    ({"input__height": -64}, "its height -64 is no positive multiple"),
    ({"input__batch": 0}, "its batch of 0 frames"),
    ({"input__batch": -1}, "its batch of -1 frames"),
    ({"input__batch": 10**12}, "its batch of 1000000000000 frames"),
    ({"input__width": 32 * 10**12}, "its batch of 1 frames"),
    ({"outputs": []}, "its outputs are none, and one of them must be alpha"),
    ({"outputs": [{"name": "local_alpha", "channels": 1}]}, "its outputs are local_alpha, and one"),
    ({"outputs": [{"name": "alpha", "channels": 1}] * 2}, "its outputs are alpha, alpha"),
    ({"outputs": [{"name": "alpha", "channels": 3}]}, "its output alpha has 3 channels, not 1"),
    ({"functions": [{"name": "a", "width": 32, "height": 32}]}, "none of its functions takes its input"),
    ({"parity__failures": ["noise: flips is 1"]}, "its parity gate passed, and failed: noise: flips is 1"),
]


@pytest.mark.parametrize(("changes", "message"), CONTRADICTIONS, ids=lambda value: str(value)[:50])
def test_a_manifest_that_contradicts_itself_is_refused_though_it_is_sealed(
    artefact, tmp_path, changes, message, capsys
):
    folder = tmp_path / "artefact"
    folder.mkdir()
    (folder / manifest.MANIFEST).write_bytes((artefact / manifest.MANIFEST).read_bytes())
    edit_manifest(folder, **changes)
    with pytest.raises(ArtefactError, match=message):
        Matting(folder)
    assert main(["verify", str(folder)]) == 5
    assert "internal error" not in capsys.readouterr().err


def test_sealing_again_changes_nothing():
    """The digest is the first entry, and that of the rest, whatever stood there before."""
    text = manifest.encode(example())
    assert next(iter(json.loads(text))) == manifest.DIGEST
    assert manifest.seal(text) == text
    assert manifest.seal(text.replace(b"r34", b"r43")) == manifest.encode(
        example(model=dataclasses.replace(example().model, arch="r43"))
    )
