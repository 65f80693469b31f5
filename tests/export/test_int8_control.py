"""INT8 under a budget: the search, accuracy control, what an interruption leaves, and the command line around it."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from p3m_edge import manifest as manifests
from p3m_edge import shipped
from p3m_edge.errors import ArtefactError, InputError, OutputError, P3MEdgeError
from p3m_edge.export.calibration import MINIMUM, open_measuring
from p3m_edge.export.formats import Built, QuantizationTraits
from p3m_edge.export.quantize import UnfitError
from p3m_edge.export.quantize.accuracy import CLIPS, AccuracyEvaluator, Gate
from p3m_edge.export.quantize.resume import Attempts, BudgetSpent
from p3m_edge.export.quantize.search import Candidate, Search, fewest
from p3m_edge.export.quantize.sensitivity import Sensitivity
from p3m_edge.imageio import write_png
from p3m_edge.manifest_schema import AttemptRecord
from p3m_edge.model.checkpoint import load_checkpoint, save_checkpoint
from p3m_edge.runtimes import Matting
from tests.portraits import portrait, write_set

PARTS = tuple("abcdefgh")


@pytest.mark.parametrize("count", [0, 1, 2, 7, 29])
def test_the_fewest_parts_are_found_in_few_attempts(count):
    order = [str(number) for number in range(count)]
    for needed in range(1, count + 1):
        tried: list[int] = []

        def passes(kept: Sequence[str], needed: int = needed, tried: list[int] = tried) -> bool:
            assert list(kept) == order[: len(kept)]
            tried.append(len(kept))
            return len(kept) >= needed

        fewest(order, passes)
        assert len(tried) <= count.bit_length()
        assert 0 not in tried  # that is what was tried before
        assert count not in tried  # that is the float32 network
        passed = [number for number in tried if number >= needed]
        assert passed == sorted(passed, reverse=True)
        assert (passed or [count])[-1] == needed


def seconds(folder: Path) -> float:
    """What all attempts have taken, as it is on disc."""
    found: float = msgspec.json.decode((folder / "attempts.json").read_bytes())["seconds"]
    return found


def attempts_in(folder: Path, key: str = "key", minutes: float = 60, limit: int = 99) -> Attempts:
    return Attempts(folder, key, minutes, limit)


def test_a_budget_of_attempts_and_of_time(tmp_path):
    record = AttemptRecord("a", "way a", None, ("it does not work",), None, None, 0, 0.0)
    attempts_in(tmp_path / "timed", minutes=1e-9).check_budget()  # the first attempt is always made
    with attempts_in(tmp_path, limit=2) as found:
        for _ in range(2):
            found.check_budget()
            found.add(record, None, tmp_path, better=False)
        with pytest.raises(BudgetSpent):
            found.check_budget()
        assert found.budget.startswith("2 of 2 attempts, 0.0 of 60 minutes")
    index = msgspec.json.decode((tmp_path / "attempts.json").read_bytes())
    (tmp_path / "attempts.json").write_bytes(msgspec.json.encode(index | {"seconds": 61.0}))
    attempts_in(tmp_path, minutes=2).check_budget()
    with pytest.raises(BudgetSpent):
        attempts_in(tmp_path, minutes=1).check_budget()  # what an interrupted export has used counts


class Ways:
    """Candidates that write their error and what is kept; parts in float32 take their share of the error away."""

    def __init__(self, folder: Path, *, parts: Sequence[str] = PARTS, clips: int = 1, **errors: float) -> None:
        self.errors, self.parts, self.folder = errors, parts, folder
        for part in ("measuring", "float"):
            (folder / part).mkdir(parents=True)
        for index in range(2):  # without mattes: what counts is the difference from float32, at most 0.005
            write_png(folder / "measuring" / f"{index}.png", portrait(96, 96, seed=index).image)
        measuring = open_measuring(folder / "measuring")
        evaluator = AccuracyEvaluator(measuring, (64, 64), 1, self.network(0.0), folder / "float", clips)
        self.evaluator, self.image = evaluator, np.zeros((1, 64, 64, 3), np.uint8)
        self.built: list[str] = []
        self.told: list[str] = []
        self.ordered = 0
        self.raised: BaseException | None = None

    def network(self, error: float) -> Any:
        """Alpha is off by ``error`` everywhere; by half of a negative one in a tenth, in turns the other way."""
        turns = count()

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            alpha = np.full((1, 1, *images.shape[1:3]), 0.5 + max(error, 0), np.float32)
            if error < 0:
                alpha[..., :6, :] += error / 2 * (-1) ** next(turns)
            return {"alpha": alpha}

        return run

    def order(self, figure: str) -> Sequence[str]:
        assert figure == "error"
        self.ordered += 1
        return self.parts

    @contextmanager
    def open(self, place: Path) -> Iterator[Any]:
        yield self.network(float((place / "model.onnx").read_text()))

    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(Candidate(name, f"way {name}", self.build(name)) for name in self.errors)

    def build(self, name: str) -> Callable[[Path, Sequence[str]], Built]:
        def build(folder: Path, kept: Sequence[str]) -> Built:
            assert not list(folder.iterdir())
            if self.raised is not None:
                raise self.raised
            if np.isinf(self.errors[name]):
                raise UnfitError(f"{name} does not work")
            self.built.append(name + "".join(kept))
            (folder / "model.onnx").write_text(str(self.errors[name] * (1 - len(kept) / len(self.parts))))
            return Built("1", tuple(kept))

        return build

    def search(self, key: str = "key", limit: int = 99) -> Any:
        """The attempts, the best one, what was built for it, and why the search ended."""
        out = self.folder / "out"
        out.mkdir(exist_ok=True)
        with attempts_in(self.folder / "attempts", key, limit=limit) as tried:
            search = Search(
                self.evaluator, Gate(0.05), lambda built, place: self.open(place), self.order, self.network(0.0),
                self.image, "model.onnx", QuantizationTraits(), tried, lambda told: self.told.append(str(told)),
            )  # fmt: skip
            best, spent = search.run(self.candidates(), out)
            return SimpleNamespace(
                rungs=tried.rungs, chosen=best.name, passed=not best.failures, built=tried.copy_best(out),
                budget_spent=spent,
            )  # fmt: skip


def test_the_first_rung_that_passes_wins(tmp_path):
    ways = Ways(tmp_path, bad=0.4, broken=np.inf, good=1e-4, later=0.0)
    found = ways.search()
    assert (found.passed, found.chosen, found.budget_spent) == (True, "good", False)
    assert ways.built == ["bad", "good"]
    assert [rung.name for rung in found.rungs] == ["bad", "broken", "good"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.onnx"]
    assert (tmp_path / "out/model.onnx").read_text() == "0.0001"
    bad, broken, good = found.rungs
    assert bad.failures
    assert (broken.failures, broken.accuracy, broken.speed) == (("broken does not work",), None, None)
    assert good.speed[1] <= good.speed[0] <= good.speed[2]
    assert not ways.ordered


def test_parts_stay_in_float32_where_no_rung_passes(tmp_path):
    """Those of the best rung, and as few as will do: 0.012 less five eighths of it is below 0.005."""
    ways = Ways(tmp_path, worse=0.3, better=0.012)
    found = ways.search()
    assert ways.ordered == 1
    assert ways.built == ["worse", "better", "betterabcd", "betterabcdef", "betterabcde"]
    assert [not rung.failures for rung in found.rungs] == [False, False, False, True, True]
    assert (found.passed, found.chosen) == (True, "better, 5 parts in float32")
    assert found.built.fp32_nodes == found.rungs[-1].fp32 == PARTS[:5]
    assert found.rungs[-1].what == "way better; in float32: a, b, c, d, e"
    assert float((tmp_path / "out/model.onnx").read_text()) == pytest.approx(0.0045)


def test_where_nothing_passes_the_best_is_kept(tmp_path):
    ways = Ways(tmp_path, worst=0.5, best=0.3, middle=0.4, parts=("a",))
    found = ways.search()
    assert (found.passed, found.chosen, found.budget_spent) == (False, "best", False)
    assert (tmp_path / "out/model.onnx").read_text() == "0.3"


def test_an_attempt_that_flickers_loses(tmp_path):
    """Both are off by as much on average, and neither has more edges than the other."""
    ways = Ways(tmp_path, clips=CLIPS, flickers=-0.1, steady=0.0045)
    found = ways.search()
    assert (found.passed, found.chosen) == (True, "steady")
    flickers, steady = found.rungs
    assert "dtSSD" in flickers.failures[0]
    assert flickers.accuracy.mean_difference <= 0.005
    assert steady.accuracy.dtssd_rise == 0
    worse = Ways(tmp_path / "worse", clips=CLIPS, flickers=-0.1, steady=0.006, parts=("a",)).search()
    assert (worse.passed, worse.chosen) == (False, "steady")


def test_time_is_counted_however_an_attempt_ends(tmp_path):
    """An error and Ctrl-C: the next export has that much less. Where the pictures must change, nothing goes on."""

    def spent(folder: Path) -> tuple[float, int]:
        found = attempts_in(folder / "attempts")
        return seconds(folder / "attempts"), len(found.rungs)

    ways = Ways(tmp_path, bad=0.4, good=0.0)
    ways.raised = InputError("a picture has changed")
    with pytest.raises(InputError):
        ways.search()
    assert not (tmp_path / "attempts").exists()
    before = 0.0
    for error in (KeyboardInterrupt(), MemoryError(), OutputError("the disc is full"), P3MEdgeError("it crashed")):
        ways.raised = error
        with pytest.raises(type(error)):
            ways.search()
        now, rungs = spent(tmp_path)
        assert rungs == 0
        assert now > before
        before = now
    ways.raised = None
    found = ways.search()
    assert found.passed
    assert spent(tmp_path)[0] > before + sum(rung.seconds for rung in found.rungs)


def test_nothing_that_works_is_an_error(tmp_path):
    with pytest.raises(P3MEdgeError, match="no way to quantise this network: one does not work"):
        Ways(tmp_path, one=np.inf, two=np.inf).search()


def test_a_spent_budget_leaves_the_best_and_more_goes_on(tmp_path):
    ways = Ways(tmp_path, worse=0.3, better=0.012)
    first = ways.search(limit=1)
    assert (first.chosen, first.passed, first.budget_spent) == ("worse", False, True)
    second = ways.search(limit=3)
    assert ways.told.count("goes on after 1 attempts of an earlier export") == 1
    assert second.rungs[:1] == first.rungs
    assert len(second.rungs) == 3
    built = len(ways.built)
    assert ways.search(limit=3) == second  # nothing is left to do
    assert len(ways.built) == built
    whole = ways.search()
    other = Ways(tmp_path / "other", worse=0.3, better=0.012).search()
    assert [rung.name for rung in whole.rungs] == [rung.name for rung in other.rungs]
    assert whole.chosen == other.chosen == "better, 5 parts in float32"
    ways.search("another key", limit=1)
    assert len(attempts_in(tmp_path / "attempts", "another key").rungs) == 1


def test_only_what_is_whole_is_read(tmp_path):
    ways = Ways(tmp_path, worse=0.3, better=0.2)
    ways.search(limit=2)
    folder = tmp_path / "attempts"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "attempts.json"]
    (folder / "7").mkdir()  # moved there, and killed before it was recorded
    assert len(attempts_in(folder).rungs) == 2
    assert not (folder / "7").exists()
    found = attempts_in(folder)
    before = seconds(folder)
    assert found.remember("numbers", tuple[int, ...], lambda: (1, 2)) == (1, 2)
    assert seconds(folder) > before > 0
    assert attempts_in(folder).remember("numbers", tuple[int, ...], lambda: (3,)) == (1, 2)
    (folder / "numbers.json").write_text("[1, ")
    assert attempts_in(folder).remember("numbers", tuple[int, ...], lambda: (3,)) == (3,)
    (folder / "1/model.onnx").write_text("0.2 and more")
    assert not attempts_in(folder).rungs
    assert not folder.exists()
    folder.write_text("a file")
    with pytest.raises(OutputError, match="attempts"):
        attempts_in(folder).remember("numbers", tuple[int, ...], lambda: (3,))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder to calibrate with, and one to measure with."""
    folder = tmp_path_factory.mktemp("pictures")
    samples = [portrait(64, 64, seed=i) for i in range(MINIMUM + 6)]
    return write_set(folder / "calib", samples[:MINIMUM]), write_set(folder / "measure", samples[MINIMUM:])


def command(out: Path, pictures: tuple[Path, Path], *options: str, target: str = "onnx-int8") -> list[str]:
    """An export of the shipped network that cannot meet its gate at once: no rise at all is allowed."""
    return [
        "export", "--target", target, "--size", "64x64", "--out", str(out), "--calib", str(pictures[0]), "--measure",
        str(pictures[1]), "--calib-count", str(MINIMUM), "--max-drop", "0", *options,
    ]  # fmt: skip


def one_error(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that tells what went wrong."""
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    return line


@pytest.mark.parametrize("target", ["onnx-int8", pytest.param("openvino-int8", marks=pytest.mark.full)])
def test_a_gate_that_is_not_met_within_the_budget(target, pictures, tmp_path, command_line):
    if target == "openvino-int8":
        pytest.importorskip("nncf")
    options = ("--arch", "mobile", "--standin", "--json")
    done = command_line(*command(tmp_path, pictures, "--attempts", "1", *options, target=target))
    assert done.returncode == 3, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert result["status"] == "rejected"
    record = result["quantization"]
    assert (record["passed"], record["budget_spent"], len(record["rungs"])) == (False, True, 1)
    folder = tmp_path / f"{target}.rejected"
    assert manifests.read(folder, allow_rejected=True).quantization is not None
    with pytest.raises(ArtefactError, match="rejected"):
        Matting(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{target}.attempts", folder.name]


def started(arguments: list[str], sign: str) -> subprocess.Popen[str]:
    """A process that has said this on stderr."""
    command = [sys.executable, "-m", "p3m_edge", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if sign in line:
            return process
    raise AssertionError("".join(seen))


@pytest.mark.parametrize(
    ("interruption", "number"), [(signal.SIGKILL, 2), pytest.param(signal.SIGINT, 5, marks=pytest.mark.full)]
)  # fmt: skip
def test_the_same_line_goes_on_after_an_interruption(interruption, number, pictures, tmp_path, command_line):
    """Attempts 1 to 3 are ways to quantise; those after them belong to accuracy control, with its ranking."""
    line = command(tmp_path, pictures, "--attempts", str(number), "--arch", "mobile", "--standin", "--json")
    attempts = tmp_path / ".onnx-int8.attempts"
    with started(line, f"attempt {number}: ") as process:
        counted = msgspec.json.decode((attempts / "attempts.json").read_bytes())["seconds"]
        process.send_signal(interruption)
        code = process.wait(60)
    index = msgspec.json.decode((attempts / "attempts.json").read_bytes())
    before = index["rungs"]
    ranges = (attempts / "ranges.json").stat().st_mtime_ns
    assert len(before) == number - 1
    if interruption == signal.SIGINT:
        assert code == 130
        assert index["seconds"] > counted
        assert [path.name for path in tmp_path.iterdir()] == [attempts.name]
    done = command_line(*line)
    assert done.returncode == 3, done.stderr
    assert f"goes on after {number - 1} attempts of an earlier export" in done.stderr
    assert done.stderr.count(": attempt ") == 1
    assert "ranking" not in done.stderr
    after = json.loads(done.stdout)["results"][0]["quantization"]["rungs"]
    assert after[:-1] == before  # to the last digit of their seconds
    assert len(after) == number
    assert (attempts / "ranges.json").stat().st_mtime_ns == ranges


@pytest.mark.full
def test_parts_are_ranked_as_the_format_quantises_them(pictures, tmp_path):
    """OpenVINO's depthwise convolutions are in float32 in every part, so that the two rankings are of two networks."""
    pytest.importorskip("nncf")
    ranked = []
    for target, first in (("onnx-int8", 4), ("openvino-int8", 3)):  # the first attempt with parts in float32
        line = command(tmp_path, pictures, "--arch", "mobile", "--standin", target=target)
        with started(line, f"attempt {first}: ") as process:
            process.kill()
        (path,) = (tmp_path / f".{target}.attempts").glob("parts-*.json")
        ranked.append(msgspec.json.decode(path.read_bytes(), type=Sensitivity))
    onnx, openvino = ranked
    assert onnx.graph != openvino.graph
    assert {part.name for part in onnx.parts} == {part.name for part in openvino.parts}


def test_another_request_begins_anew_and_success_leaves_nothing_behind(pictures, tmp_path, command_line):
    old = attempts_in(tmp_path / ".onnx-int8.attempts", "of another request")
    assert old.remember("ranges", dict[str, float], lambda: {"image": 1.0}) == {"image": 1.0}
    # The trained network, any rise of the SAD, and no logits, so that no pixel's class can change.
    done = command_line(*command(tmp_path, pictures, "--max-drop", "9", "--outputs", "alpha"))
    assert done.returncode == 0, done.stderr
    assert "goes on" not in done.stderr
    assert "measuring ranges: 32 of 32, 0 s left" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["onnx-int8"]


_OTHERS = [pytest.param(target, marks=pytest.mark.full) for target in ("openvino-int8", "coreml-w8a8")]


@pytest.mark.parametrize("target", ["onnx-int8", *_OTHERS])
def test_activations_that_are_not_finite(target, pictures, tmp_path, command_line):
    """Weights are finite, their products are not: the network overflows."""
    pytest.importorskip({"openvino-int8": "nncf", "coreml-w8a8": "coremltools"}.get(target, "onnxruntime"))
    network = load_checkpoint(shipped.weights_path())
    with torch.no_grad():
        weight = network.get_parameter("global_decoder.head.weight")
        weight.mul_(3e38 / weight.abs().max())
    path = tmp_path / "large.safetensors"
    save_checkpoint(network, path, licence="none", provenance="a test", trained=False)
    done = command_line(*command(tmp_path / "out", pictures, "--checkpoint", str(path), target=target))
    assert done.returncode == 1, done.stderr
    assert "not finite" in one_error(done)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the limit of a running process is Linux's")
@pytest.mark.full
@pytest.mark.parametrize("target", ["onnx-int8", "openvino-int8"])
def test_a_disc_that_fills_up_between_two_attempts(target, pictures, tmp_path):
    """A limit on the size of files stands for the disc that is full."""
    if target == "openvino-int8":
        pytest.importorskip("nncf")
    line = command(tmp_path, pictures, "--arch", "mobile", "--standin", target=target)
    process = started(line, "attempt 2: ")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2**16, 2**16))
    _, stderr = process.communicate(timeout=300)
    done = subprocess.CompletedProcess(process.args, process.returncode, "", stderr)
    assert done.returncode == 1, stderr
    assert "cannot be written" in one_error(done)
    assert [path.name for path in tmp_path.iterdir()] == [f".{target}.attempts"]
    kept = msgspec.json.decode((tmp_path / f".{target}.attempts/attempts.json").read_bytes())
    assert (len(kept["rungs"]), kept["best"]["number"]) == (1, 0)
