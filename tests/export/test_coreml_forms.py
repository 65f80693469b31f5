"""The forms of a Core ML package: the oldest system, alpha as a multi-array, and what does not go together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("coremltools")

from p3m_edge import manifest as manifests
from p3m_edge import shipped
from p3m_edge.cli.forms import deployment_target
from p3m_edge.errors import UsageError
from p3m_edge.export import ExportRequest, export, forms, pipeline
from p3m_edge.export.mil.package import read
from p3m_edge.targets import ARCHS, TARGETS
from tests.export.test_coreml import FULL, HALF, elsewhere

SIDE = 64


def request_for(out: Path, *names: str, **options: Any) -> ExportRequest:
    given: dict[str, Any] = {"checkpoint": shipped.weights_path(), "width": SIDE, "height": SIDE}
    return ExportRequest(names, out, **given | options)


@pytest.fixture(scope="session")
def newer(once):
    """For iOS 17, alpha as a multi-array."""
    return once("coreml-newer", lambda out: export(request_for(out, HALF, minimum_ios=17, alpha="array"))) / HALF


@elsewhere
def test_for_a_newer_system_with_alpha_as_a_multi_array(newer):
    """The operators are those of iOS 17; the parity gate has seen them."""
    manifest = manifests.read(newer)
    description = read(newer / manifest.model_file).specification
    assert manifest.parity is not None
    assert manifest.parity.passed
    assert manifest.engine.minimum_version == "17"
    assert description.specificationVersion == 8  # that of iOS 17
    kinds = {output.name: output.type.WhichOneof("Type") for output in description.description.output}
    assert kinds["alpha"] == "multiArrayType"
    assert {output.name: output.form for output in manifest.outputs}["alpha"] == "array"
    swift = (newer / "Matte.swift").read_text()
    assert "@available(iOS 17, macOS 14, *)" in swift
    assert 'featureValue(for: "alpha")?.multiArrayValue' in swift
    assert f"`[1, 1, {SIDE}, {SIDE}]`, half precision" in swift


@elsewhere
@pytest.mark.full
@pytest.mark.parametrize("arch", ARCHS)
def test_every_network_for_the_newest_system(arch, tmp_path):
    """In float32: Core ML's operators of iOS 18 give what those of iOS 16 do."""
    (result,) = export(request_for(tmp_path, FULL, checkpoint=None, arch=arch, minimum_ios=18))
    assert result.parity.failures == ()
    assert manifests.read(result.folder).engine.minimum_version == "18"


@pytest.mark.parametrize(
    ("text", "release"),
    [("iOS16", 16), ("ios17", 17), ("18", 18), ("macOS13", 16), ("macos14", 17), ("macOS15", 18)],
)
def test_names_of_systems(text, release):
    assert deployment_target(text) == release


@pytest.mark.parametrize("text", ["iOS15", "15", "13", "macOS16", "macOS", "", "iOS 17.0", "android"])
def test_other_systems_are_refused(text):
    with pytest.raises(UsageError, match="no deployment target") as caught:
        deployment_target(text)
    assert "macOS13" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        ([HALF], {"minimum_ios": 15}, "iOS 15 is no deployment target"),
        ([FULL], {"alpha": "image"}, "half precision at most"),
        (["onnx-fp32"], {"alpha": "array"}, "--alpha is for Core ML targets"),
        (["onnx-fp32"], {"minimum_ios": 17}, "--deployment-target is for Core ML targets"),
    ],
)
def test_forms_that_do_not_exist_are_refused_before_anything_is_built(targets, options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        pipeline.plan(request_for(tmp_path / "out", *targets, **options))
    assert not (tmp_path / "out").exists()


def test_without_a_wish_it_is_the_oldest_system_and_an_image(tmp_path):
    request = request_for(tmp_path, HALF)
    assert forms.minimum(TARGETS[HALF], request) == 16
    assert [forms.alpha(TARGETS[name], None) for name in (HALF, FULL, "onnx-fp16")] == ["image", "array", "array"]


def test_the_command_line_refuses_in_one_line(tmp_path):
    line = [sys.executable, "-m", "p3m_edge", "export", "--target", HALF, "--out", str(tmp_path / "out")]
    for options, message in (
        (["--deployment-target", "iOS15"], "'iOS15' is no deployment target"),
        (["--alpha", "video"], "invalid choice"),
    ):
        done = subprocess.run([*line, *options], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
