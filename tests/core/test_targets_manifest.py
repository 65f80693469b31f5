"""The tree of errors, the table of targets, and the manifest: what is written is read, and nothing else is."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_edge import errors, manifest, manifest_schema, targets
from p3m_edge.errors import ArtefactError, MissingError, P3MEdgeError, UsageError
from p3m_edge.targets import FP16, FP32, INT8, TARGETS

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, P3MEdgeError)]


# --- errors ----------------------------------------------------------------------------------------------------------


def test_the_drawn_tree_is_the_real_one():
    drawn = re.findall(r"^\s*([\s│├└─]*)(\w+Error) \((\d)\)", errors.__doc__ or "", re.MULTILINE)
    assert {(name, int(code)) for _, name, code in drawn} == {(c.__name__, c.exit_code) for c in CLASSES}
    depth = {name: len(branch) // 4 for branch, name, _ in drawn}
    for c in CLASSES:
        assert depth[c.__name__] == len([base for base in c.__mro__ if base in CLASSES]) - 1, c


def test_exit_codes_are_those_that_the_command_line_promises():
    assert {c.exit_code for c in CLASSES} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_has_a_message_and_a_hint(error):
    assert str(error("wrong", hint="do that")) == "wrong"
    assert error("wrong", hint="do that").hint == "do that"
    assert error("wrong").hint is None


def test_a_missing_package_names_the_extra():
    error = errors.missing_package("openvino", "openvino")
    assert isinstance(error, MissingError)
    assert error.hint == 'pip install "p3m-edge[openvino]"'
    assert "openvino" in str(error)
    broken = errors.missing_package("openvino", "openvino", ImportError("libtbb.so: no such file"))
    assert "libtbb.so" in str(broken)
    absent = errors.missing_package("openvino", "openvino", ModuleNotFoundError("No module named 'openvino'"))
    assert str(absent) == str(error)


def test_suggestions():
    assert errors.suggestion("strech", ["stretch", "letterbox"]) == "did you mean 'stretch'?"
    assert errors.suggestion("xyz", ["b", "a"]) == "choose from: a, b"
    assert errors.suggestion("xyz", []) is None


# --- targets ---------------------------------------------------------------------------------------------------------

DESIGNED = (
    "onnx-fp32 onnx-fp16 onnx-int8 openvino-fp32 openvino-fp16 openvino-int8 coreml-fp32 coreml-fp16 coreml-int8 "
    "coreml-pal6 coreml-pal4 coreml-w8a8 coreai-fp16 trt-fp32 trt-fp16 trt-int8"
)


def test_the_table_holds_the_designed_targets():
    assert sorted(TARGETS) == sorted(DESIGNED.split())
    for name, target in TARGETS.items():
        assert target.name == name
        assert name.split("-")[1] == target.precision
        assert target.engine in get_args(targets.EngineName)
        assert target.precision in get_args(targets.Precision)
        assert target.build_modules


def test_one_engine_per_name_and_one_file_per_engine():
    for part in (lambda t: t.engine, lambda t: t.model_file):
        by_prefix = {(t.name.split("-")[0], part(t)) for t in TARGETS.values()}
        assert len(by_prefix) == len({prefix for prefix, _ in by_prefix})


def test_the_extras_of_the_table_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {extra for target in TARGETS.values() for extra in target.extras}
    assert named <= set(project["optional-dependencies"])


def test_limits_follow_the_precision():
    built = {name: target.limits for name, target in TARGETS.items()}
    assert {"onnx-fp32", "onnx-fp16", "openvino-fp32", "openvino-fp16"} <= set(built)
    for name, limits in built.items():
        if name.endswith("fp32"):
            assert limits == FP32
        if name.endswith("fp16"):
            assert limits == FP16
        if name.endswith("int8"):
            assert limits == INT8
    assert FP32.local_mean < FP16.local_mean < INT8.local_mean
    assert FP32.flips < FP16.flips


def test_get():
    for name in TARGETS:
        assert targets.get(name).name == name
    with pytest.raises(UsageError, match="onx-fp32") as caught:
        targets.get("onx-fp32")
    assert caught.value.hint == "did you mean 'onnx-fp32'?"
    with pytest.raises(UsageError):
        targets.get("")


# --- manifest --------------------------------------------------------------------------------------------------------


def item(image: str = "portrait 0") -> manifest_schema.ParityItem:
    return manifest_schema.ParityItem(
        **{f.name: 0.5 for f in dataclasses.fields(manifest_schema.ParityItem) if f.name != "image"}, image=image
    )


def example(**changes: Any) -> manifest.Manifest:
    complete = manifest.Manifest(
        schema=manifest.SCHEMA_VERSION,
        target="onnx-fp16",
        precision="fp16",
        model_file="model.onnx",
        engine=manifest_schema.EngineRecord("onnxruntime", "built", "1.20", {"onnx": "1.23.2"}),
        model=manifest_schema.ModelRecord("r34", 39_477_000, False, "0" * 64, "MIT", "deterministic, seed 0"),
        input=manifest_schema.InputRecord("image", 1, 512, 512),
        outputs=(manifest_schema.OutputRecord("alpha", 1), manifest_schema.OutputRecord("global_logits", 3)),
        unpool="select",
        files={},
        parity=manifest_schema.ParityRecord(True, FP16, (item(),), loosened=("flips",)),
        verified=manifest_schema.VerifiedRecord("device", {"cpu": "some", "cores": 2}, {"onnxruntime": "1.32.0"}),
        fp32_nodes=("Softmax_7",),
        p3m_edge="0.1.0",
    )
    return dataclasses.replace(complete, **changes)


def test_figures_that_are_no_numbers_can_be_read_back(tmp_path):
    names = ("logits_mean", "local_mean", "alpha_mean", "alpha_max", "mse", "grad_mean")
    nan: dict[str, Any] = dict.fromkeys(names, float("nan"))
    none: dict[str, Any] = dict.fromkeys(names)
    broken = dataclasses.replace(item(), **nan)
    manifest.write(example(parity=manifest_schema.ParityRecord(False, FP16, (broken,), ("not finite",))), tmp_path)
    found = manifest.read(tmp_path, allow_rejected=True).parity
    assert found is not None
    assert found.items == (dataclasses.replace(item(), **none),)


def artefact(folder: Path, **changes: Any) -> manifest.Manifest:
    """An artefact with a file in a folder of its own, as Core ML packages have."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(bytes(range(256)) * 4)
    (folder / manifest.GOLDEN).write_bytes(b"golden")
    (folder / "weights").mkdir()
    (folder / "weights" / manifest.MANIFEST).write_bytes(b"not the manifest")
    record = example(files=manifest.record_files(folder), **changes)
    manifest.write(record, folder)
    return record


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / manifest.MANIFEST
    path.write_bytes(manifest.seal(json.dumps(json.loads(path.read_text()) | changes).encode()))


def test_what_is_written_is_read(tmp_path):
    record = artefact(tmp_path / "a")
    assert manifest.read(tmp_path / "a") == record
    manifest.check_files(record, tmp_path / "a")
    assert list(record.files) == sorted(["golden.npz", "model.onnx", "weights/manifest.json"])
    assert record.files["model.onnx"].bytes == 1024


def test_without_parity_and_with_a_dynamic_size(tmp_path):
    record = artefact(tmp_path / "a", parity=None, input=manifest_schema.InputRecord("image", 1, None, None))
    assert manifest.read(tmp_path / "a") == record


def test_the_schema_accepts_what_is_written_and_rejects_what_is_not(tmp_path):
    artefact(tmp_path / "a")
    document = json.loads((tmp_path / "a" / manifest.MANIFEST).read_text())
    validator = jsonschema.Draft202012Validator(dict(manifest.json_schema()))
    validator.check_schema(dict(manifest.json_schema()))
    assert validator.is_valid(document)
    assert not validator.is_valid(document | {"unpool": "scatter"})
    assert not validator.is_valid({k: v for k, v in document.items() if k != "files"})


def test_fields_of_the_same_schema_that_are_not_known_are_passed_over(tmp_path):
    record = artefact(tmp_path / "a")
    rewrite(tmp_path / "a", remark="added by a later version of the same schema")
    assert manifest.read(tmp_path / "a") == record


def test_no_artefact(tmp_path):
    with pytest.raises(ArtefactError, match="does not exist"):
        manifest.read(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ArtefactError, match="not a folder"):
        manifest.read(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtefactError, match=r"no manifest\.json"):
        manifest.read(tmp_path / "empty")
    (tmp_path / "empty" / manifest.MANIFEST).mkdir()
    with pytest.raises(ArtefactError, match="cannot be read"):
        manifest.read(tmp_path / "empty")


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{", b"null", b"[]", b"{}", b"text", b"\xff\xfe\0", b"\0" * 100, b"[" * 100_000),
        *(b'{"schema": "2"}', b'{"schema": true}', b'{"schema": NaN}', b'{"schema": 2}'),
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_an_invalid_manifest(tmp_path, raw):
    (tmp_path / manifest.MANIFEST).write_bytes(raw)
    with pytest.raises(ArtefactError, match="not a valid manifest") as caught:
        manifest.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_manifest_cut_short(tmp_path):
    artefact(tmp_path / "a")
    path = tmp_path / "a" / manifest.MANIFEST
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ArtefactError, match="not a valid manifest"):
        manifest.read(tmp_path / "a")


def test_an_enormous_manifest_is_not_read(tmp_path):
    with (tmp_path / manifest.MANIFEST).open("wb") as stream:
        stream.truncate(10**10)  # sparse: it takes no space
    with pytest.raises(ArtefactError, match="too large"):
        manifest.read(tmp_path)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(manifest.Manifest)])
def test_every_field_has_a_type_and_the_required_ones_are_required(tmp_path, name):
    artefact(tmp_path / "a")
    rewrite(tmp_path / "a", **{name: 3.5})
    with pytest.raises(ArtefactError, match="not a valid manifest"):
        manifest.read(tmp_path / "a")
    document = json.loads((tmp_path / "a" / manifest.MANIFEST).read_text())
    del document[name]
    (tmp_path / "a" / manifest.MANIFEST).write_bytes(manifest.seal(json.dumps(document).encode()))
    if name in ("fp32_nodes", "p3m_edge", "quantization", "functions", "smoothing", "looked_at"):
        manifest.read(tmp_path / "a")
    else:
        with pytest.raises(ArtefactError, match=name):
            manifest.read(tmp_path / "a")


def test_another_schema_says_what_to_do(tmp_path):
    artefact(tmp_path / "a")
    rewrite(tmp_path / "a", schema=manifest.SCHEMA_VERSION + 1, files="an unknown form")
    with pytest.raises(ArtefactError, match="schema 3") as caught:
        manifest.read(tmp_path / "a")
    assert caught.value.hint == "upgrade p3m-edge, or export the artefact again"
    artefact(tmp_path / "b")
    rewrite(tmp_path / "b", schema=1)
    with pytest.raises(ArtefactError, match="schema 1; this version of p3m-edge reads 2") as caught:
        manifest.read(tmp_path / "b")
    assert caught.value.hint == "export the artefact again"


def test_a_rejected_artefact_is_refused_under_any_name(tmp_path):
    folder = tmp_path / f"a{manifest.REJECTED_SUFFIX}"
    failed = manifest_schema.ParityRecord(False, FP16, (item(),), failures=("flips 0.3 > 0.002",))
    record = artefact(folder, parity=failed)
    link, renamed = tmp_path / "link", tmp_path / "renamed"
    link.symlink_to(folder, target_is_directory=True)
    for path in (folder, link):
        with pytest.raises(ArtefactError, match="rejected"):
            manifest.read(path)
        assert manifest.read(path, allow_rejected=True) == record
    folder.rename(renamed)
    with pytest.raises(ArtefactError, match="failed its gate"):
        manifest.read(renamed)
    assert manifest.read(renamed, allow_rejected=True) == record


# --- files -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(0, 1023), st.integers(1, 255))
def test_any_changed_byte_is_found(tmp_path_factory, position, change):
    folder = tmp_path_factory.mktemp("changed") / "a"
    record = artefact(folder)
    data = bytearray((folder / "model.onnx").read_bytes())
    data[position] ^= change
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(ArtefactError, match=r"model\.onnx was changed"):
        manifest.check_files(record, folder)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "weights/manifest.json"])
def test_a_missing_longer_or_shorter_file_is_found(tmp_path, name):
    record = artefact(tmp_path / "a")
    path = tmp_path / "a" / name
    data = path.read_bytes()
    for changed in (data + b"x", data[:-1], b""):
        path.write_bytes(changed)
        with pytest.raises(ArtefactError, match=f"{len(changed)} bytes"):
            manifest.check_files(record, tmp_path / "a")
    path.unlink()
    with pytest.raises(ArtefactError, match="is missing"):
        manifest.check_files(record, tmp_path / "a")
    path.mkdir()
    with pytest.raises(ArtefactError, match="is missing"):
        manifest.check_files(record, tmp_path / "a")


@pytest.mark.parametrize("name", ["model.data", ".hidden", "weights/extra.bin", "new/folder/file", "link", "links"])
def test_an_added_file_is_found(tmp_path, name):
    record = artefact(tmp_path / "a")
    path = tmp_path / "a" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.startswith("link"):
        path.symlink_to(tmp_path if name == "links" else tmp_path / "nowhere")
    else:
        path.touch()
    with pytest.raises(ArtefactError, match="is not listed"):
        manifest.check_files(record, tmp_path / "a")


def test_what_operating_systems_add_is_overlooked(tmp_path):
    record = artefact(tmp_path / "a")
    for name in (".DS_Store", "weights/.DS_Store", "._model.onnx", "Thumbs.db", "desktop.ini"):
        (tmp_path / "a" / name).write_bytes(b"system")
    (tmp_path / "a" / "empty").mkdir()
    manifest.check_files(record, tmp_path / "a")
    assert manifest.record_files(tmp_path / "a") == record.files


def test_the_model_file_may_be_a_folder(tmp_path):
    record = artefact(tmp_path / "a", model_file="weights")
    manifest.check_files(record, tmp_path / "a")
    for changed in ("weight", "weights/", "weights/manifest"):
        with pytest.raises(ArtefactError, match="does not list"):
            manifest.check_files(dataclasses.replace(record, model_file=changed), tmp_path / "a")
    (tmp_path / "a" / "weights" / manifest.MANIFEST).write_bytes(b"NOT the manifest")
    with pytest.raises(ArtefactError, match="was changed"):
        manifest.check_files(record, tmp_path / "a")


@pytest.mark.parametrize("name", ["../outside", "weights/../../outside", "ABSOLUTE"])
def test_a_manifest_cannot_point_outside_its_folder(tmp_path, name):
    record = artefact(tmp_path / "a")
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    name = str(outside) if name == "ABSOLUTE" else name
    own = manifest_schema.FileRecord(manifest.sha256(outside), 6)
    with pytest.raises(ArtefactError, match="outside"):
        manifest.check_files(dataclasses.replace(record, files={**record.files, name: own}), tmp_path / "a")


@pytest.mark.parametrize("name", ["model.onnx", manifest.GOLDEN])
def test_model_and_golden_frames_must_be_recorded(tmp_path, name):
    record = artefact(tmp_path / "a")
    files = {k: v for k, v in record.files.items() if k != name}
    with pytest.raises(ArtefactError, match=f"does not list {name}"):
        manifest.check_files(dataclasses.replace(record, files=files), tmp_path / "a")


def test_an_artefact_whose_engine_is_not_built_may_lack_them(tmp_path):
    engine = manifest_schema.EngineRecord("tensorrt", "not-built", "10.0", {}, reason="no device")
    record = artefact(tmp_path / "a", engine=engine)
    rest = {name: file for name, file in record.files.items() if name not in ("model.onnx", manifest.GOLDEN)}
    for name in record.files.keys() - rest.keys():
        (tmp_path / "a" / name).unlink()
    manifest.check_files(dataclasses.replace(record, files=rest), tmp_path / "a")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_an_artefact_error(tmp_path):
    record = artefact(tmp_path / "a")
    (tmp_path / "a" / "model.onnx").chmod(0)
    with pytest.raises(ArtefactError, match="cannot be read"):
        manifest.check_files(record, tmp_path / "a")


def test_the_schema_is_what_the_module_prints():
    printed = subprocess.run(
        [sys.executable, "-m", "p3m_edge.manifest"], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(printed.stdout) == json.loads(msgspec.json.encode(manifest.json_schema()))
