"""``p3m-edge verify`` and ``inspect`` on good, damaged, rejected and foreign artefacts, and on checkpoints."""

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

from p3m_edge import manifest as manifests
from p3m_edge import shipped
from p3m_edge.cli import main
from tests.artefacts import edit_manifest, make_artefact, rehash, scale_constant


def call(capsys, *arguments) -> tuple[int, dict[str, Any], str]:
    code = main([*map(str, arguments), "--json"])
    shown = capsys.readouterr()
    return code, json.loads(shown.out), shown.err


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_good_artefact_passes_with_its_figures(engine, tmp_path, capsys):
    folder = make_artefact(tmp_path / "good", engine)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, document, _ = call(capsys, "verify", folder, "--threads", "1")
    assert code == 0
    (verdict,) = document["artefacts"]
    assert (verdict["status"], verdict["exit_code"], verdict["message"]) == ("passed", 0, None)
    assert verdict["engine"]["name"] == engine
    assert len(verdict["selftest"]["items"]) == 2
    assert "error" not in document
    assert main(["verify", str(folder)]) == 0
    shown = capsys.readouterr().out
    for output in ("global_logits", "local_alpha", "alpha"):
        assert output in shown
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_broken_weight_is_a_failed_gate(tmp_path, capsys):
    folder = make_artefact(tmp_path / "broken", breaking=scale_constant("local.weight", 1.05))
    code, document, err = call(capsys, "verify", folder)
    assert code == 3
    assert document["error"]["exit_code"] == 3
    assert document["artefacts"][0]["status"] == "failed"
    assert any("local alpha" in failure for failure in document["artefacts"][0]["selftest"]["failures"])
    assert err.startswith("error: ")
    assert main(["verify", str(folder)]) == 3
    assert "EXCEEDED" in capsys.readouterr().out


def damage_byte(folder):
    path = folder / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_golden(folder):
    path = folder / "golden.npz"
    path.write_bytes(path.read_bytes()[:200])
    rehash(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_byte, "was changed"),
        (lambda folder: (folder / "golden.npz").unlink(), "is missing"),
        (cut_golden, "cannot be read"),
        (lambda folder: edit_manifest(folder, schema=99), "schema 99"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "not a valid manifest"),
        (lambda folder: (folder / "manifest.json").unlink(), "not an artefact"),
        (lambda folder: edit_manifest(folder, engine__minimum_version="999.0"), "999.0"),
    ],
)
def test_a_damaged_artefact_is_refused(damage, message, tmp_path, capsys):
    folder = make_artefact(tmp_path / "art")
    damage(folder)
    code, document, err = call(capsys, "verify", folder)
    assert code == 5
    assert document["artefacts"][0]["status"] == "error"
    assert message in document["error"]["message"]
    assert "Traceback" not in err


def test_several_artefacts_are_all_verified_and_the_worst_decides(artefact, tmp_path, capsys):
    broken = make_artefact(tmp_path / "broken", breaking=scale_constant("mean", 1.2))
    code, document, _ = call(capsys, "verify", tmp_path / "absent", artefact, broken)
    assert code == 5
    assert [verdict["exit_code"] for verdict in document["artefacts"]] == [5, 0, 3]
    assert document["error"]["message"].startswith("2 of 3 artefacts did not pass; ")
    code, document, _ = call(capsys, "verify", artefact, broken)
    assert code == 3


def test_verifying_is_what_an_unverified_artefact_needs(tmp_path, capsys):
    folder = make_artefact(tmp_path / "art", level="program")
    code, document, err = call(capsys, "verify", folder)
    assert (code, document["artefacts"][0]["status"], err) == (0, "passed", "")


def test_inspect_shows_the_manifest(artefact, capsys):
    code, document, err = call(capsys, "inspect", artefact)
    assert (code, err) == (0, "")
    manifest = manifests.read(artefact)
    assert document["status"] == "built"
    assert document["manifest"]["target"] == manifest.target
    assert document["bytes"] == sum(record.bytes for record in manifest.files.values())
    assert main(["inspect", str(artefact)]) == 0
    shown = capsys.readouterr().out
    expected = (manifest.model.licence, manifest.model.provenance, "NOT TRAINED", "[1, 64, 96, 3]", "limits:")
    assert all(text in shown for text in (*expected, *manifest.files))


def test_inspect_shows_a_rejected_artefact_and_a_missing_file(artefact, tmp_path, capsys):
    folder = shutil.copytree(artefact, tmp_path / "onnx-fp32.rejected")
    edit_manifest(folder, parity__passed=False, parity__failures=["portrait: flips is 0.5, limit 0.0001"])
    (folder / "model.onnx").unlink()
    code, document, err = call(capsys, "inspect", folder)
    assert (code, document["status"], document["absent"]) == (0, "rejected", ["model.onnx"])
    assert "missing" in err
    assert main(["inspect", str(folder)]) == 0
    assert "failed: portrait: flips is 0.5" in capsys.readouterr().out
    code, document, _ = call(capsys, "verify", folder)
    assert code == 5
    assert "rejected" in document["error"]["message"]


def test_inspect_shows_the_weights_of_the_package_without_torch():
    arguments = ["inspect", str(shipped.weights_path())]
    for options in ([], ["--json"]):
        words = [*arguments, *options]
        code = f"import sys; sys.modules['torch'] = None; from p3m_edge.cli import main; sys.exit(main({words!r}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=300)
        assert (done.returncode, done.stderr) == (0, "")
        assert "mobile" in done.stdout
    document, header = json.loads(done.stdout), shipped.read_header()
    assert (document["arch"], document["format"], document["trained"]) == ("mobile", "p3m-edge", True)
    assert (document["licence"], document["provenance"]) == (header.licence, header.provenance)
    assert document["sha256"] == manifests.sha256(shipped.weights_path())
    assert document["bytes"] == shipped.weights_path().stat().st_size


def test_inspect_of_a_changed_checkpoint(tmp_path, capsys):
    changed = bytearray(shipped.weights_path().read_bytes())
    changed[-1] ^= 1
    (tmp_path / "changed.safetensors").write_bytes(changed)
    code, document, _ = call(capsys, "inspect", tmp_path / "changed.safetensors")
    assert code == document["error"]["exit_code"] == 5
    assert "has been changed or damaged" in document["error"]["message"]


def test_inspect_of_something_else(tmp_path, capsys):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file", tmp_path / "absent"):
        code, document, _ = call(capsys, "inspect", path)
        assert (code, document["error"]["exit_code"]) == (5, 5)
