"""Everything that ``python3 make.py test`` runs, once the environment is there: all checks, then one summary."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import make
from tests.packaging import full_tier

_SCRIPTS = Path(sys.executable).parent
_LINT_IMPORTS = str(_SCRIPTS / ("lint-imports.exe" if make.WINDOWS else "lint-imports"))
CHECKS: dict[str, list[str]] = {
    "ruff check": [sys.executable, "-m", "ruff", "check", "."],
    "ruff format": [sys.executable, "-m", "ruff", "format", "--check", "."],
    "mypy --strict": [sys.executable, "-m", "mypy", "--strict"],
    "import-linter": [_LINT_IMPORTS],
}
# In the order of their names: else the files of few tests, some of which take a minute, would all come last.
PYTEST = [
    sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "--durations", "10",
]  # fmt: skip


@dataclass(frozen=True)
class Result:
    """How one check ended, and how long it took."""

    passed: bool
    seconds: float


@dataclass(frozen=True)
class Case:
    """One test of pytest's report. ``properties`` are those that tests/conftest.py recorded."""

    outcome: str
    skip_reason: str
    properties: dict[str, str]


def run_check(name: str, command: list[str]) -> Result:
    """Run one check; a tool that is not there is a failed check."""
    print(f"\n== {name}: {' '.join([Path(command[0]).name, *command[1:]])}", flush=True)
    start = time.monotonic()
    try:
        passed = make.run(command) == 0
    except OSError as error:
        print(f"{command[0]} cannot be run: {error.strerror}")
        passed = False
    return Result(passed, time.monotonic() - start)


def read_cases(report: Path) -> list[Case]:
    """The tests of a JUnit report; none when pytest did not come as far as writing it."""
    if not report.exists():
        return []
    return [_case(element) for element in ElementTree.parse(report).iter("testcase")]


def _case(element: ElementTree.Element) -> Case:
    children = {child.tag: child for child in element}
    outcome = "passed"
    if "failure" in children or "error" in children:
        outcome = "failed"
    elif "skipped" in children:
        outcome = "skipped"
    reason = children["skipped"].get("message", "") if outcome == "skipped" else ""
    properties = {p.get("name", ""): p.get("value", "") for p in element.iter("property")}
    return Case(outcome, reason, properties)


def summarise(results: dict[str, Result], cases: list[Case]) -> int:
    """Print the skips, the checks and, as the closing line, the counts: one for each test and each other check."""
    counts = Counter(case.outcome for case in cases)
    if not results["pytest"].passed and not counts["failed"]:
        counts["failed"] += 1  # pytest itself broke, or found no test
    counts.update("passed" if r.passed else "failed" for name, r in results.items() if name != "pytest")
    print("\n== summary")
    for reason, number in sorted(Counter(c.skip_reason for c in cases if c.outcome == "skipped").items()):
        print(f"skipped {number} x {reason}")
    for name, result in results.items():
        tests = f" ({len(cases)} tests)" if name == "pytest" else ""
        print(f"{'ok    ' if result.passed else 'FAILED'} {result.seconds:7.1f} s  {name}{tests}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped", flush=True)
    return 1 if counts["failed"] else 0


def main(arguments: list[str]) -> int:
    """Run every check, also when an earlier one failed."""
    parser = argparse.ArgumentParser(prog="make.py test", allow_abbrev=False, epilog="All else goes to pytest.")
    parser.add_argument("--tier", choices=("fast", "full"), default="fast")
    chosen, rest = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory(prefix="p3m-edge-") as folder:
        report = Path(folder) / "pytest.xml"
        tier = ["-m", "not full"] if chosen.tier == "fast" else []
        commands = {**CHECKS, "pytest": [*PYTEST, "--junitxml", str(report), *tier, *rest]}
        results = {name: run_check(name, command) for name, command in commands.items()}
        cases = read_cases(report)
    if chosen.tier == "full":
        if cases and not rest:
            full_tier.record([(case.outcome, case.properties) for case in cases], results["pytest"].seconds)
        else:
            print(f"\n{full_tier.PAGE} is left as it is: this was not the whole of the full tier")
    return summarise(results, cases)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, make.on_termination)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
