"""Writes the last result of the full tier into docs/testing.md, between its two markers."""

from __future__ import annotations

import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from p3m_edge.benchmarks.fingerprint import Fingerprint, fingerprint
from p3m_edge.table import Table
from p3m_edge.targets import TARGETS

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = Path("docs/testing.md")
BEGIN, END = "<!-- full tier: begin -->", "<!-- full tier: end -->"

Cases = Iterable[tuple[str, Mapping[str, str]]]


def record(cases: Cases, seconds: float, *, root: Path = ROOT) -> None:
    """Replace the result in ``root/docs/testing.md``.

    Parameters
    ----------
    cases
        (``passed``, ``failed`` or ``skipped``, properties) of every test; tests with the properties ``arch``
        and ``target`` make the table.
    seconds
        How long pytest took.
    root
        The project's folder.

    Raises
    ------
    ValueError
        The page lacks the markers.
    """
    page = root / PAGE
    text = page.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks the markers {BEGIN} and {END}")
    cases = list(cases)
    counts = Counter(outcome for outcome, _ in cases)
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit(root)}: {counts['passed']} passed, {counts['failed']} failed, "
        f"{counts['skipped']} skipped in {seconds / 60:.1f} minutes.",
        "",
        table(cases),
        "",
        machine(fingerprint()),
    ]
    page.write_text("\n".join([head + BEGIN, *lines, END + tail]), encoding="utf-8")


def commit(root: Path) -> str:
    """The short name of the commit that was tested, and whether the files differed from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        name = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--", ".", f":!{PAGE.as_posix()}")
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git here)"
    return f"`{name}`" + (" with uncommitted changes" if changed else "")


def table(cases: Cases) -> str:
    """A Markdown table of architectures (rows) and targets (columns): the verdict and the number of tests."""
    cells: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for outcome, properties in cases:
        if {"arch", "target"} <= set(properties):
            cells[properties["arch"], properties["target"]][outcome] += 1
    if not cells:
        return "No test ran an architecture on a target."
    targets = [name for name in TARGETS if any(target == name for _, target in cells)]
    rows = tuple(
        (arch, *(verdict(cells.get((arch, target), Counter())) for target in targets))
        for arch in sorted({arch for arch, _ in cells})
    )
    return Table("full tier", ("architecture", *targets), rows).markdown()


def verdict(counts: Counter[str]) -> str:
    """What the tests of one architecture on one target say together."""
    if counts["failed"]:
        return f"FAILED ({counts['failed']} of {counts.total()})"
    if counts["passed"]:
        return f"passed ({counts['passed']})" + (f", {counts['skipped']} skipped" if counts["skipped"] else "")
    return "skipped" if counts["skipped"] else "not run"


def machine(found: Fingerprint) -> str:
    """One sentence about the machine."""
    packages = ", ".join(f"{name} {version}" for name, version in found.packages.items())
    features = ", ".join(found.features) or "no special features"
    memory = f"{found.memory_bytes / 2**30:.0f} GiB"
    cpu = f"{found.cpu or found.architecture} ({found.usable_cores} usable cores; {features})"
    return f"Machine: {cpu}, {memory}, {found.system}, {found.python}; {packages}."
