"""The inventory of an artefact is valid by CycloneDX's own schema and says what the manifest does."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from p3m_edge import manifest as manifests
from p3m_edge.cli import main
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import ModelRecord, PicturesRecord, QuantizationRecord
from tests.artefacts import make_artefact
from tests.core.test_targets_manifest import example

PICTURES = PicturesRecord("files", "portraits", 40, "a" * 64, 3)
MODEL = ModelRecord("mobile", 4_000_000, True, "b" * 64, "CC-BY-4.0", "trained on photographs ☂")
QUANTIZED = example(
    model=MODEL,
    quantization=QuantizationRecord("nncf", PICTURES, dataclasses.replace(PICTURES, source=""), 0.05, (), "x", True),
)


@pytest.mark.parametrize(
    "manifest",
    [
        example(), QUANTIZED, example(p3m_edge="", parity=None),
        example(model=dataclasses.replace(MODEL, licence="none, for tests \x07", checkpoint_sha256="", provenance="")),
        example(model=dataclasses.replace(MODEL, licence="MIT AND Apache-2.0")),
    ],
    ids=["stand-in", "quantized", "bare", "odd texts", "two licences"],
)  # fmt: skip
def test_it_is_valid_by_the_schema(manifest: Manifest) -> None:
    pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is not installed")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    from p3m_edge.inventory import inventory

    text = inventory(manifest).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_it_says_what_the_manifest_does(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is not installed")
    from p3m_edge.inventory import inventory

    folder = make_artefact(tmp_path / "artefact")
    manifest = dataclasses.replace(QUANTIZED, files=manifests.record_files(folder))
    document = json.loads(inventory(manifest))
    network: dict[str, Any] = document["metadata"]["component"]
    assert (network["type"], network["name"]) == ("machine-learning-model", "P3M-Net mobile")
    assert network["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}]
    assert network["licenses"] == [{"license": {"id": "CC-BY-4.0"}}]
    facts = {each["name"]: each["value"] for each in network["properties"]}
    assert (facts["p3m-edge:trained"], facts["p3m-edge:parity"]) == ("True", "passed")
    parts = {part["bom-ref"]: part for part in document["components"]}
    for name, file in manifest.files.items():
        assert parts[f"file:{name}"]["hashes"][0]["content"] == file.sha256
    assert parts["package:onnx"]["purl"] == "pkg:pypi/onnx@1.23.2"
    assert parts["package:p3m-edge"]["version"] == manifest.p3m_edge
    assert parts["pictures:calibration"]["hashes"][0]["content"] == PICTURES.digest
    (needs,) = (each for each in document["dependencies"] if each["ref"] == "network")
    assert set(needs["dependsOn"]) == set(parts)
    again = json.loads(inventory(manifest))
    assert {**again, "metadata": None} == {**document, "metadata": None}


def test_inspect_writes_it(tmp_path, capsys, monkeypatch):
    folder = make_artefact(tmp_path / "artefact")
    command = ["inspect", str(folder), "--bom"]
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "p3m_edge.inventory", raising=False)
        patch.setitem(sys.modules, "cyclonedx.model.bom", None)
        assert main([*command, str(tmp_path / "bom.json")]) == 4
        assert "p3m-edge[sign]" in capsys.readouterr().err
    assert not (tmp_path / "bom.json").exists()
    pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is not installed")
    assert main([*command, str(tmp_path / "bom.json")]) == 0
    assert json.loads((tmp_path / "bom.json").read_bytes())["specVersion"] == "1.6"
    assert main([*command, str(tmp_path / "none" / "bom.json")]) == 1
    assert main(["inspect", str(tmp_path / "bom.json"), "--bom", str(tmp_path / "other.json")]) == 2
