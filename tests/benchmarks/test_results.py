"""Reports: written, read back, refused when damaged, rendered."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from p3m_edge.benchmarks.report import files, schema, tables
from p3m_edge.benchmarks.report import render as rendering
from p3m_edge.benchmarks.report.ranking import failure, ratios, with_baseline
from p3m_edge.benchmarks.report.schema import BenchmarkReport
from p3m_edge.cli import ui
from p3m_edge.errors import ArtefactError, GateError, InputError, OutputError, PartialError
from tests.benchmarks.helpers.samples import eager, report, row

FULL = report(
    row("slow", 20.0),
    row("fast", 10.0, identity="cd" * 32),
    eager("eager r34", 40.0),
    row("dead", None, status="failed"),
)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(files.encode(FULL))
    assert files.read(path) == FULL
    nested = replace(FULL, imported=(report(row("far", 5.0)),))
    path.write_bytes(files.encode(nested))
    assert files.read(path) == nested
    assert list(schema.all_reports(nested)) == [nested, nested.imported[0]]


def test_the_ranking_holds_what_was_measured_and_only_that() -> None:
    assert [r.groups for r in FULL.rankings] == [(("fast",), ("slow",), ("eager r34",))]
    assert report(row("a", 10.0), row("b", 10.05)).rankings[0].groups == (("a", "b"),)
    other = replace(row("big", 5.0), width=128)
    assert {r.shape for r in report(row("a", 10.0), other).rankings} == {"64x32", "128x32"}


def test_ratios_say_how_many_times_faster() -> None:
    assert FULL.baseline == "eager r34"
    assert FULL.ratios["fast"].value == pytest.approx(4)
    assert FULL.ratios["eager r34"].value == 1
    assert "dead" not in FULL.ratios
    assert ratios(FULL, "slow")["fast"].value == pytest.approx(2)
    assert with_baseline(FULL, "slow").ratios["eager r34"].value == pytest.approx(0.5)
    assert with_baseline(FULL, "dead").baseline is None
    assert "big" not in report(replace(row("big", 5.0), width=128), eager("eager", 40.0)).ratios


def test_what_a_failed_row_means_for_the_exit_code() -> None:
    good, dead, wrong = row("good", 1.0), row("dead", None, status="failed"), row("wrong", None, status="parity-failed")
    assert failure(report(good)) is None
    assert isinstance(failure(report(good, dead)), PartialError)
    assert isinstance(failure(report(good, dead, wrong)), GateError)
    assert isinstance(failure(replace(report(good), imported=(report(wrong),))), GateError)


def _tree(change: Callable[[dict[str, Any]], object]) -> bytes:
    tree = msgspec.to_builtins(FULL)
    change(tree)
    return msgspec.json.encode(tree)


def _first(tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = tree["rows"][0]
    return found


DAMAGE: dict[str, bytes] = {
    "empty": b"",
    "text": b"hello",
    "a list": b"[]",
    "binary": bytes(range(256)),
    "cut": files.encode(FULL)[:-200],
    "deep": b"[" * 100_000,
    "newer": _tree(lambda t: t.update(schema=99)),
    "older": _tree(lambda t: t.update(schema=0)),
    "a field missing": _tree(lambda t: t.pop("machine")),
    "another type": _tree(lambda t: t.update(rows="none")),
    "same labels": _tree(lambda t: t["rows"][1].update(label="slow")),
    "no hash": _tree(lambda t: _first(t).update(identity=None)),
    "short hash": _tree(lambda t: _first(t).update(identity="abc")),
    "negative latency": _tree(lambda t: _first(t)["measured"]["latency"].update(minimum=-1.0)),
    "unordered percentiles": _tree(lambda t: _first(t)["measured"]["latency"].update(p90=1.0)),
    "no rounds": _tree(lambda t: _first(t)["measured"]["latency"].update(rounds=[])),
    "ok without parity": _tree(lambda t: _first(t).update(parity=None)),
    "ok with failed parity": _tree(lambda t: _first(t)["parity"].update(passed=False)),
    "failed yet measured": _tree(lambda t: _first(t).update(status="failed")),
    "ranked yet failed": _tree(lambda t: t["rankings"][0].update(groups=[["dead"]])),
    "not ranked": _tree(lambda t: t.update(rankings=[])),
    "foreign ratio": _tree(lambda t: t["ratios"].update(ghost=t["ratios"]["slow"])),
    "no memory": _tree(lambda t: _first(t)["measured"]["memory"].update(running=0)),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_result_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(DAMAGE[name])
    with pytest.raises(ArtefactError, match=r"result\.json"):
        files.read(path)


def test_a_missing_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        files.read(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read"):
        files.read(tmp_path)


def _printed(made: BenchmarkReport) -> str:
    stream = io.StringIO()
    ui.Console().show(rendering.parts(made), Console(file=stream, width=240, markup=False))
    return stream.getvalue()


def test_every_row_and_the_machine_are_shown() -> None:
    for text in (_printed(FULL), rendering.markdown(FULL)):
        for expected in ("slow", "fast", "eager r34", "dead", "Some Board 5", "because of failed", "ondemand", "4.000"):
            assert expected in text
        assert "not ranked" not in text
    tied = report(row("one", 10.0), row("two", 10.05))
    for text in (_printed(tied), rendering.markdown(tied)):
        assert "not ranked, within the noise (64x32): one, two" in text
        assert "1=" in text


def _lines(made: BenchmarkReport) -> list[str]:
    return rendering.markdown(made).splitlines()


def test_markdown_tables_are_regular() -> None:
    odd = report(row("a | b", 10.0), eager("eager", 20.0))
    bars = [len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0 for line in _lines(odd)]
    assert r"a \| b" in rendering.markdown(odd)
    assert sum(bars) > 0
    # Neighbouring lines of a table have the same number of cells.
    assert all(a == b or 0 in (a, b) for a, b in pairwise(bars))
    for table in tables.tables(odd):
        assert all(len(cells) == len(table.columns) for cells in table.rows)


def test_machines_stand_side_by_side() -> None:
    other = replace(report(row("renamed", 7.0), row("x", None, status="failed", identity="ef" * 32)), imported=())
    together = tables.side_by_side(replace(FULL, imported=(other,)))
    assert together is not None
    table = {cells[0]: cells[1:] for cells in together.rows}
    assert table["slow"] == ("20.02", "7.01")  # same content, other label
    assert table["fast"] == ("10.01", "-")
    assert table["x"] == ("-", "failed")
    assert tables.side_by_side(FULL) is None
    assert "Machines side by side" in _printed(replace(FULL, imported=(other,)))


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    made = rendering.write(FULL, tmp_path / "a" / "b")
    assert [path.name for path in made] == ["report.json", "report.md"]
    assert files.read(made[0]) == FULL
    assert sorted(path.name for path in made[0].parent.iterdir()) == ["report.json", "report.md"]
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        rendering.write(FULL, tmp_path / "file")
