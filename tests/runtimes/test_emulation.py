"""Self-tests on emulated ARM processors, in the emulation that tools/emulation.py sets up; most of it needs none."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from p3m_edge import manifest as manifests
from p3m_edge.cli import main
from p3m_edge.errors import MissingError, UsageError
from p3m_edge.manifest_schema import EmulatedRecord, Level, VerifiedRecord
from p3m_edge.runtimes import emulation
from p3m_edge.runtimes.emulation import EMULATOR, ENGINES, PROCESSORS, RECORD, Emulation, EmulationRecord
from tests.artefacts import make_artefact, scale_constant

HERE = os.environ.get("P3M_EDGE_EMULATION")
"""The folder of an emulation that is set up, for tests: those of others have a cache folder of their own."""
needs_emulation = pytest.mark.skipif(not HERE, reason="P3M_EDGE_EMULATION names no folder of tools/emulation.py")

posix = pytest.mark.skipif(os.name != "posix", reason="programs without a suffix")


@pytest.fixture(scope="module")
def arm() -> Emulation:
    return emulation.open_emulation(Path(HERE or ""))


@pytest.mark.parametrize(
    ("text", "processors"),
    [
        ("aarch64", PROCESSORS),
        ("aarch64:cortex-a72", ("cortex-a72",)),
        ("aarch64:max,sme=off,sve=off,neoverse-v1", ("max,sme=off,sve=off", "neoverse-v1")),
        ("aarch64:max,max,max,sme=off", ("max", "max,sme=off")),
    ],
)
def test_processors_are_read_with_what_is_switched(text: str, processors: tuple[str, ...]) -> None:
    assert emulation.parse(text) == processors


@pytest.mark.parametrize("text", ["", "arm", "riscv64:max", "aarch64:", "aarch64:sme=off", "aarch64:a b", "aarch64:,"])
def test_what_names_no_processor_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be emulated|names no processor"):
        emulation.parse(text)


def unfinished(folder: Path, **changes: object) -> Path:
    """A folder with the record of an emulation alone."""
    folder.mkdir()
    record = EmulationRecord("aarch64", "0" * 64, "qemu-aarch64 10.0.2", "3.11", {}, {})
    document = msgspec.to_builtins(record) | changes
    (folder / RECORD).write_text(json.dumps(document))
    return folder


def test_no_emulation_and_half_of_one_say_what_sets_it_up(tmp_path: Path) -> None:
    for folder, told in (
        (tmp_path / "absent", "there is no emulation"),
        (unfinished(tmp_path / "other", architecture="riscv64"), "is of riscv64, not aarch64"),
        (unfinished(tmp_path / "half"), "qemu-aarch64 is missing"),
        (unfinished(tmp_path / "wrong", packages=[]), "cannot be read"),
    ):
        with pytest.raises(MissingError, match=told) as refused:
            emulation.open_emulation(folder)
        assert "tools/emulation.py" in (refused.value.hint or "")


@posix
def test_an_emulator_for_another_machine_is_named(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "foreign")
    for path in (folder / EMULATOR, folder / "root/usr/bin/python3.11"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"\x7fELF\2\1\1" + bytes(57))
        path.chmod(0o755)
    with pytest.raises(MissingError, match="qemu-aarch64 cannot be run: "):
        emulation.open_emulation(folder).check(["cortex-a72"])


def test_the_command_line_says_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artefact, absent = make_artefact(tmp_path / "artefact"), tmp_path / "absent"
    for options, code, told in (
        (["--emulate", "aarch64", "--emulation", absent], 4, "there is no emulation of aarch64"),
        (["--emulate", "mips"], 2, "'mips' cannot be emulated"),
        (["--emulation", absent], 2, "--emulation is for --emulate"),
        (["--emulate", "aarch64", "--device", "cpu"], 2, "leave --device out"),
    ):
        assert main(["verify", str(artefact), *map(str, options)]) == code
        shown = capsys.readouterr().err
        assert told in shown
        assert "Traceback" not in shown


def with_emulator(folder: Path, script: str) -> Path:
    """An emulation whose emulator is a shell script: like QEMU it is given -cpu, a processor, -L, a folder, a program
    and its arguments.
    """
    unfinished(folder, packages={"numpy": "2.3.5"})
    for path, text in ((folder / EMULATOR, f"#!/bin/sh\n{script}\n"), (folder / "root/usr/bin/python3.11", "")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o755)
    return folder


def failing_on_max(folder: Path) -> Path:
    """An emulator that starts this machine's Python, and dies on one of the processors."""
    python = f'unset PYTHONHOME; [ "$2" != max ] || kill -ILL $$; shift 5; exec {shlex.quote(sys.executable)} "$@"'
    return with_emulator(folder, f'[ "$6" != --version ] || exit 0\n{python}')


@posix
def test_what_passes_and_what_fails_is_written_into_the_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = failing_on_max(tmp_path / "emulation")
    folder = make_artefact(tmp_path / "artefact", level="program")
    command = ["verify", str(folder), "--emulation", str(place), "--threads", "1", "--json", "--emulate"]
    assert main([*command, "aarch64:cortex-a72"]) == 0
    (verdict,) = json.loads(capsys.readouterr().out)["artefacts"]
    assert (verdict["status"], verdict["seconds"]) == ("passed", None)  # never a time of an emulator
    assert main([*command, "aarch64:max"]) == 3
    (verdict,) = json.loads(capsys.readouterr().out)["artefacts"]
    assert "it fails on max" in verdict["message"]
    manifest = manifests.read(folder)
    good, bad = manifest.verified.emulated
    assert (manifest.verified.level, good.passed, bad.passed) == ("emulated", True, False)
    assert good.errors["alpha_max"] < 1e-5
    assert "SIGILL" in bad.failures[0]
    assert good.versions["numpy"] == "2.3.5"
    manifests.check_files(manifest, folder)
    assert main(["inspect", str(folder)]) == 0
    assert "SIGILL" in capsys.readouterr().out


@posix
@pytest.mark.full
def test_an_export_says_on_which_processor_its_artefact_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    place = failing_on_max(tmp_path / "emulation")
    command = ["export", "--arch", "mobile", "--standin", "--target", "onnx-fp32", "--size", "64x64"]
    emulated = ["--emulation", str(place), "--emulate", "aarch64:cortex-a72,max"]
    assert main([*command, "--out", str(tmp_path / "out"), *emulated]) == 0
    assert "FAILED on an emulated max: " in capsys.readouterr().err
    good, bad = manifests.read(tmp_path / "out" / "onnx-fp32").verified.emulated
    assert (good.processor, good.passed) == ("cortex-a72", True)
    assert (bad.processor, bad.passed) == ("max", False)


@posix
def test_an_emulation_that_does_not_work_is_no_verdict(tmp_path: Path) -> None:
    place = with_emulator(tmp_path / "emulation", "echo 'no such interpreter' >&2; exit 1")
    with pytest.raises(MissingError, match="does not work: no such interpreter"):
        emulation.open_emulation(place).check(["max"])


def result(processor: str, *, passed: bool) -> EmulatedRecord:
    return EmulatedRecord(processor, "qemu-aarch64 10.0.2", passed, {}, () if passed else ("it died",), {})


def test_the_level_rises_to_emulated_and_never_sinks() -> None:
    good, bad = result("cortex-a72", passed=True), result("max", passed=False)
    cases: list[tuple[Level, list[EmulatedRecord], Level]] = [
        ("program", [good], "emulated"),
        ("typed", [bad, good], "emulated"),
        ("none", [bad], "none"),
        ("device", [good, bad], "device"),
    ]
    for before, found, after in cases:
        assert emulation.merged(VerifiedRecord(before), found).level == after


def test_a_result_replaces_that_of_the_same_processor(tmp_path: Path) -> None:
    folder = make_artefact(tmp_path / "artefact")
    for passed in (False, True):
        tested = manifests.read(folder)
        assert emulation.record(folder, tested, [result("max", passed=passed), result("cortex-a53", passed=True)])
    verified = manifests.read(folder).verified
    assert [(each.processor, each.passed) for each in verified.emulated] == [("max", True), ("cortex-a53", True)]
    (folder / manifests.SIGNATURE).write_text("a signature")
    before = (folder / manifests.MANIFEST).read_bytes()
    assert not emulation.record(folder, manifests.read(folder), [result("max", passed=False)])
    assert (folder / manifests.MANIFEST).read_bytes() == before


@needs_emulation
@pytest.mark.full
@pytest.mark.parametrize("engine", ENGINES)
def test_a_sound_artefact_passes_on_each_kind_of_processor_and_a_broken_one_on_none(
    engine: Literal["onnxruntime", "openvino", "litert"],
    arm: Emulation,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without and with dot products, and with vectors of any length."""
    sound = make_artefact(tmp_path / "sound", engine, level="program")
    command = ["verify", str(sound), "--emulation", str(arm.folder), "--threads", "1", "--json", "--emulate"]
    assert main([*command, "aarch64:cortex-a53,neoverse-n1,neoverse-v1"]) == 0
    (verdict,) = json.loads(capsys.readouterr().out)["artefacts"]
    assert (verdict["status"], verdict["seconds"]) == ("passed", None)  # never a time of an emulator
    verified = manifests.read(sound).verified
    assert verified.level == "emulated"
    assert [each.processor for each in verified.emulated] == ["cortex-a53", "neoverse-n1", "neoverse-v1"]
    assert all(each.errors["alpha_max"] < 1e-5 for each in verified.emulated)
    assert verified.emulated[0].versions[ENGINES[engine]]
    broken = make_artefact(tmp_path / "broken", engine, breaking=scale_constant("local.weight", 1.05))
    found = emulation.selftests(broken, arm, ["cortex-a53"], 1)
    assert not found[0].passed
    assert "local alpha" in found[0].failures[0]


@needs_emulation
def test_a_processor_that_there_is_not_is_refused(arm: Emulation) -> None:
    with pytest.raises(UsageError, match="no processor 'cortex-a7'") as refused:
        arm.check(["cortex-a7"])
    assert "cortex-a7" in (refused.value.hint or "")
    with pytest.raises(UsageError, match="no processor 'max,fly=on'") as refused:
        arm.check(["max,fly=on"])
    assert "fly" in (refused.value.hint or "")


@needs_emulation
@pytest.mark.full
def test_a_package_that_the_emulation_lacks_is_named(arm: Emulation, tmp_path: Path) -> None:
    poor = tmp_path / "poor"
    shutil.copytree(arm.folder, poor, symlinks=True, ignore=shutil.ignore_patterns("onnxruntime*", "openvino*"))
    artefact = make_artefact(tmp_path / "artefact")
    with pytest.raises(MissingError, match="'onnxruntime' cannot be imported") as refused:
        emulation.selftests(artefact, emulation.open_emulation(poor), ["cortex-a72"], 1)
    assert "tools/emulation.py" in (refused.value.hint or "")
