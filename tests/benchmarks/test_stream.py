"""The benchmark of streams: what it computes, and that its runs are of real streams and files."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from p3m_edge.benchmarks import stream
from tests.artefacts import make_artefact
from tests.benchmarks.helpers.scripts import runs

pytest.importorskip("av")
pytest.importorskip("onnxruntime")


def test_frames_move_and_come_back() -> None:
    frames = stream.moving_portrait(4)
    assert {frame.shape for frame in frames} == {(720, 1280, 3)}
    assert all(frame.std() > 20 for frame in frames)
    assert not any(np.array_equal(one, other) for one, other in pairwise(frames))


def test_the_bound_is_cores_by_processor_time() -> None:
    costs = dict.fromkeys(("prepare", "infer", "stabilise", "refine"), 4.0) | dict.fromkeys(("colours", "compose"), 2.0)
    costs |= {"decode": 1.0, "encode": 4.0}
    medians = {"parts": costs, "decoded": {"fps": 90.0}, "file": {"fps": 40.0}}
    decoded, file = stream.throughputs("x", medians, 2)
    assert decoded.bound == pytest.approx(100)
    assert decoded.share == pytest.approx(0.9)
    assert file.bound == pytest.approx(80)
    assert file.share == pytest.approx(0.5)


def test_ages_of_a_queue_that_grows_differ_between_the_halves() -> None:
    steady, growing = (stream.ages("x", values, 0.0) for values in ([20.0] * 40, list(range(40))))
    assert steady.first_half == steady.second_half == steady.median == 20
    assert growing.second_half > 2 * growing.first_half


def test_tasks_take_turns_and_figures_are_medians() -> None:
    order: list[str] = []
    values = {"a": iter((1.0, 9.0, 2.0)), "b": iter((5.0, 5.0, 6.0))}

    def task(name: str) -> stream.Figures:
        order.append(name)
        return {"fps": next(values[name])}

    found = stream.in_turns({name: partial(task, name) for name in values}, 3)
    assert found == {"a": {"fps": 2.0}, "b": {"fps": 5.0}}
    assert sorted(order[:2]) == sorted(order[2:4]) == sorted(order[4:]) == ["a", "b"]


def test_the_script_measures_an_artefact(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_artefact(tmp_path / "artefact", size=(64, 96))
    done = runs(stream.main, capsys, folder, "--rounds", "1", "--frames", "20", "--camera", "2", "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert [row["what"] for row in document["throughput"]][:2] == ["decoded", "file"]
    assert {row["part"] for row in document["parts"]} >= {"infer", "decode", "encode"}
    assert all(row["cpu_ms"] > 0 for row in document["parts"])
    assert document["camera"][0]["median"] > 0
    refused = runs(stream.main, capsys, folder, "--rounds", "0")
    assert (refused.code, len(refused.err.strip().splitlines())) == (2, 1)
    assert runs(stream.main, capsys, tmp_path / "absent").code == 5
