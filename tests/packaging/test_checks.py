"""The summary of ``make.py test`` and the table of the full tier, from reports that pytest itself wrote."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging import checks, full_tier
from tests.packaging.sources import ROOT

SAMPLE = """
import pytest

@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp16"])
@pytest.mark.parametrize("arch", ["r34", "swin-t"])
def test_pair(arch, target):
    if (arch, target) == ("r34", "openvino-fp16"):
        pytest.skip("this engine is not here")
    assert (arch, target) != ("swin-t", "openvino-fp16")

def test_alone():
    pass

@pytest.fixture
def broken():
    raise ValueError("broken")

def test_with_a_broken_fixture(broken):
    pass
"""


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[checks.Case]:
    folder = tmp_path_factory.mktemp("sample")
    (folder / "test_sample.py").write_text(SAMPLE)
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--junitxml", str(report), str(folder)]
    assert subprocess.run(command, cwd=folder, capture_output=True).returncode == 1
    return checks.read_cases(report)


def test_cases_have_outcome_reason_and_parameters(cases: list[checks.Case]) -> None:
    assert sorted(case.outcome for case in cases) == ["failed", "failed", "passed", "passed", "passed", "skipped"]
    (skipped,) = [case for case in cases if case.outcome == "skipped"]
    assert skipped.skip_reason == "this engine is not here"
    assert skipped.properties == {"arch": "r34", "target": "openvino-fp16"}


def test_summary_counts_checks_and_ends_with_the_plain_line(
    cases: list[checks.Case], capsys: pytest.CaptureFixture[str]
) -> None:
    results = {
        "ruff check": checks.Result(True, 0.5),
        "mypy": checks.Result(False, 2),
        "pytest": checks.Result(False, 3),
    }
    assert checks.summarise(results, cases) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "4 passed, 3 failed, 1 skipped"
    assert "skipped 1 x this engine is not here" in lines
    assert [line.split()[0] for line in lines if line.endswith(("ruff check", "mypy"))] == ["ok", "FAILED"]


def test_pytest_that_breaks_is_a_failure_even_without_failed_tests(capsys: pytest.CaptureFixture[str]) -> None:
    assert checks.summarise({"pytest": checks.Result(False, 1.0)}, []) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"
    assert checks.summarise({"pytest": checks.Result(True, 1.0)}, [checks.Case("passed", "", {})]) == 0


def test_checks_that_fail_or_are_not_there_do_not_raise() -> None:
    assert checks.run_check("good", [sys.executable, "-c", "pass"]).passed
    assert not checks.run_check("bad", [sys.executable, "-c", "raise SystemExit(3)"]).passed
    assert not checks.run_check("absent", [str(Path("no") / "such" / "tool")]).passed


def test_full_tier_is_recorded_between_the_markers(cases: list[checks.Case], tmp_path: Path) -> None:
    page = tmp_path / full_tier.PAGE
    page.parent.mkdir()
    page.write_text(f"before\n{full_tier.BEGIN}\nold\n{full_tier.END}\nafter\n")
    for _ in range(2):  # a second record replaces the first
        full_tier.record([(case.outcome, case.properties) for case in cases], 90.0, root=tmp_path)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[1], lines[-2], lines[-1]) == ("before", full_tier.BEGIN, full_tier.END, "after")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d, commit unknown \(no git here\): 3 passed, 2 failed, 1 skipped in 1\.5 minutes\.", lines[2]
    )
    assert "| architecture | onnx-fp32 | openvino-fp16 |" in lines
    assert "| r34 | passed (1) | skipped |" in lines
    assert "| swin-t | passed (1) | FAILED (1 of 1) |" in lines
    assert sum(line.startswith("Machine: ") for line in lines) == 1
    assert "old" not in lines


def test_a_page_without_markers_is_refused_and_kept(tmp_path: Path) -> None:
    page = tmp_path / full_tier.PAGE
    page.parent.mkdir()
    page.write_text("no markers\n")
    with pytest.raises(ValueError, match="markers"):
        full_tier.record([], 1.0, root=tmp_path)
    assert page.read_text() == "no markers\n"


def test_the_commit_and_its_changes(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git("init")
    (tmp_path / "file").write_text("a")
    git("add", ".")
    git("commit", "-m", "a")
    assert re.fullmatch(r"`[0-9a-f]{12}`", full_tier.commit(tmp_path))
    (tmp_path / "file").write_text("b")
    assert full_tier.commit(tmp_path).endswith(" with uncommitted changes")


def test_the_page_has_the_markers() -> None:
    text = (ROOT / full_tier.PAGE).read_text(encoding="utf-8")
    assert text.count(full_tier.BEGIN) == text.count(full_tier.END) == 1
    assert text.index(full_tier.BEGIN) < text.index(full_tier.END)
