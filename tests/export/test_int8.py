"""INT8: the gate and its figures, the forms of the graph, the traps of unpooling, ranges, the ladder, artefacts."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from p3m_edge import manifest as manifests
from p3m_edge import shipped, targets
from p3m_edge.data.synth import portrait as synthetic
from p3m_edge.errors import ArtefactError, InputError, UsageError
from p3m_edge.export import ExportRequest, export, plan, quantize_onnx
from p3m_edge.export.accuracy import MAX_DIFFERENCE, MAX_FLIPS, Yardstick, excess, failures
from p3m_edge.export.calibration import MINIMUM, open_measuring
from p3m_edge.export.ladder import Rung, Tools, climb
from p3m_edge.export.quantize_onnx import OPERATORS, end_nodes, judge, quantised
from p3m_edge.export.ranges import activation_ranges
from p3m_edge.export.sensitivity import most_sensitive, part_name, parts_of, rank
from p3m_edge.export.workbench import Built, Workbench
from p3m_edge.manifest import AccuracyRecord
from p3m_edge.runtimes import Matting
from tests.portraits import portrait, write_set

INT8 = ("onnx-int8", "openvino-int8")
SIDE = 256


def accuracy(rise: float | None = 0.0, difference: float = 0.0, flips: float | None = 0.0) -> AccuracyRecord:
    return AccuracyRecord(
        None if rise is None else 1 + rise, None if rise is None else 1.0, rise, difference, flips, 0.0
    )


def test_the_gate():
    assert failures(accuracy(0.05, 0.5, MAX_FLIPS), 0.05) == ()
    assert "SAD rises by 5.1%" in failures(accuracy(0.051), 0.05)[0]
    assert "flip between background and foreground" in failures(accuracy(flips=2e-4), 0.05)[0]
    assert failures(accuracy(-0.3, flips=None), 0.0) == ()
    assert failures(accuracy(None, MAX_DIFFERENCE), 0.0) == ()  # no truth: the difference decides
    assert "differs by 0.0060" in failures(accuracy(None, 0.006), 0.05)[0]
    assert len(failures(accuracy(float("nan"), float("nan"), float("nan")), 0.05)) == 2
    ordered = [
        excess(one, 0.05) for one in (accuracy(0.01), accuracy(0.06), accuracy(flips=9e-4), accuracy(float("nan")))
    ]
    assert ordered == sorted(ordered)
    assert ordered[-1] == float("inf")


@pytest.fixture
def measuring(tmp_path):
    folder = write_set(tmp_path / "measuring", [portrait(120, 160, seed=i) for i in range(3)])
    return open_measuring(folder)


def test_the_figures_of_the_yardstick(measuring, tmp_path):
    truths = {name: truth for name, _, truth in measuring.samples()}

    def network(alpha: float, changed: int = 0) -> Any:
        """The same alpha everywhere; all foreground, but for the first rows: background, and one row unknown."""

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            logits = np.zeros((1, 3, *images.shape[1:3]), np.float32)
            logits[:, 2] = 1
            logits[:, :, :changed] = np.array([5, 0, 0]).reshape(1, 3, 1, 1)
            logits[:, :, changed : changed + 1] = np.array([0, 9, 0]).reshape(1, 3, 1, 1)
            return {"alpha": np.full((1, 1, *images.shape[1:3]), alpha, np.float32), "global_logits": logits}

        return run

    (tmp_path / "float").mkdir()
    yardstick = Yardstick(measuring, (64, 96), 1, network(1.0), tmp_path / "float")
    same = yardstick.measure(network(1.0))
    expected = np.mean([np.abs(1 - truth).sum() / 1000 for truth in truths.values()])
    assert same.sad == pytest.approx(expected, rel=1e-5)
    assert (same.rise, same.mean_difference, same.flips, same.unknown_flips) == (0, 0, 0, 0)
    other = yardstick.measure(network(0.75, changed=4))
    assert other.mean_difference == pytest.approx(0.25)
    assert other.sad == pytest.approx(np.mean([np.abs(0.75 - t).sum() / 1000 for t in truths.values()]), rel=1e-5)
    assert other.sad is not None
    assert same.sad is not None
    assert other.rise == pytest.approx(other.sad / same.sad - 1, rel=1e-5)
    assert other.flips == pytest.approx(3 / 64)  # four rows are background now; one of them was unknown
    assert other.unknown_flips == pytest.approx(2 / 64)
    broken = yardstick.measure(network(float("nan")))
    assert len(failures(broken, 0.05)) == 1
    without = tmp_path / "without"
    without.mkdir()
    blind = Yardstick(measuring, (64, 96), 1, lambda x: {"alpha": network(1.0)(x)["alpha"]}, without)
    assert blind.measure(lambda x: {"alpha": network(0.5)(x)["alpha"]}).flips is None


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    """The shipped network at a small size: graph, inputs, ranges."""
    request = ExportRequest(
        ("onnx-int8",), tmp_path_factory.mktemp("unused"), shipped.weights_path(), width=SIDE, height=SIDE
    )
    bench = Workbench(request)
    images = [image for _, image in zip(range(6), open_measuring(None, count=6).images(SIDE, SIDE), strict=False)]
    return bench.graph(), images, activation_ranges(bench.graph(), images)


def test_ranges_are_those_of_the_activations(mobile):
    model, images, ranges = mobile
    import onnxruntime

    chosen = [node.output[0] for node in model.graph.node if node.op_type == "Conv"][::40]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in chosen)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = [session.run(chosen, {"image": image}) for image in images]
    for index, name in enumerate(chosen):
        values = [result[index] for result in results]
        assert ranges[name].low == pytest.approx(min(v.min() for v in values), rel=1e-3, abs=1e-4)
        assert ranges[name].high == pytest.approx(max(v.max() for v in values), rel=1e-3, abs=1e-4)
        assert ranges[name].mean_low == pytest.approx(np.mean([v.min() for v in values]), rel=1e-3, abs=1e-4)
        assert ranges[name].mean_high == pytest.approx(np.mean([v.max() for v in values]), rel=1e-3, abs=1e-4)
    with pytest.raises(InputError, match="no picture"):
        activation_ranges(model, [])


def scales(model: Any) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_the_two_forms(mobile):
    model, _, ranges = mobile
    weighted = sum(node.op_type in OPERATORS for node in model.graph.node)
    forms: tuple[tuple[quantize_onnx.Form, type], ...] = (("u8s8", np.uint8), ("s8s8", np.int8))
    for form, activation in forms:
        made = quantised(model, ranges, form)
        onnx.checker.check_model(made, full_check=True)
        constants = scales(made)
        quantise = [node for node in made.graph.node if node.op_type == "QuantizeLinear"]
        assert {constants[node.input[2]].dtype.type for node in quantise} == {activation}
        weights = [
            (constants[node.input[0]], constants[node.input[1]])
            for node in made.graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in constants and constants[node.input[0]].ndim == 4
        ]
        assert len(weights) == weighted
        assert all(value.dtype == np.int8 and scale.shape == (value.shape[0],) for value, scale in weights)
        biases = [node for node in made.graph.node if node.op_type == "DequantizeLinear" and _is_bias(node, constants)]
        if form == "s8s8":
            assert not biases
            assert all(not constants[node.input[2]].any() for node in quantise)  # symmetric
        else:
            assert len(biases) == weighted
            assert any(constants[node.input[2]].any() for node in quantise)
        assert quantised(model, ranges, form).SerializeToString(deterministic=True) == made.SerializeToString(
            deterministic=True
        )
    seven = quantised(model, ranges, "u8s8", seven_bits=True)
    values = [v for v in scales(seven).values() if v.dtype == np.int8 and v.ndim == 4]
    assert max(int(np.abs(v.astype(int)).max()) for v in values) <= 64


def _is_bias(node: Any, constants: dict[str, np.ndarray]) -> bool:
    return node.input[0] in constants and constants[node.input[0]].dtype == np.int32


def test_nodes_that_are_kept_stay_in_float32(mobile):
    model, _, ranges = mobile
    ends = end_nodes(model)
    assert {name.rpartition("/")[0] for name in ends} == {
        "network.encoder.detail.conv", "network.encoder.stem.conv", "network.encoder.layer1.0.depthwise.conv",
        "network.global_decoder.head", "network.local_decoder.head",
    }  # fmt: skip
    made = quantised(model, ranges, "u8s8", ends)
    makers = {name: node.op_type for node in made.graph.node for name in node.output}
    for node in made.graph.node:
        if node.op_type in OPERATORS:
            assert (makers.get(node.input[1]) == "DequantizeLinear") != (node.name in ends)


def test_comparisons_of_pooling_winners_are_not_quantised(onnx_model, bench):
    """Both sides of a comparison come from one tensor; two scales would make the winners random."""
    model = onnx_model("r34")
    ranges = activation_ranges(model, bench.network_images())
    made = quantised(model, ranges, "u8s8")
    makers = {name: node for node in made.graph.node for name in node.output}
    compared = [node for node in made.graph.node if node.op_type in ("Greater", "Equal", "Max", "Where")]
    assert len(compared) >= 20
    for node in compared:
        assert "QuantizeLinear" not in {makers[name].op_type for name in node.input if name in makers}
    before, after = (Counter(node.op_type for node in each.graph.node) for each in (model, made))
    for operator in ("Greater", "Max", "Pad", "Mul", "And"):
        assert before[operator] == after[operator]


def test_openvinos_comparisons_are_left_alone(onnx_model, tmp_path, bench):
    """Without the ignored types, fake quantisation appears in front of comparisons: this is what they are there for."""
    nncf = pytest.importorskip("nncf")
    openvino = pytest.importorskip("openvino")
    from p3m_edge.export import quantize_openvino

    onnx.save(onnx_model("r34"), tmp_path / "model.onnx")
    images = bench.network_images()
    found = {}
    for types in (quantize_openvino.COMPARING, ()):
        source = openvino.Core().read_model(tmp_path / "model.onnx")
        scope = nncf.IgnoredScope(types=list(types), validate=False)
        made = nncf.quantize(source, nncf.Dataset(images, lambda x: {"image": x}), subset_size=2, ignored_scope=scope)
        found[types] = sum(
            operation.get_type_name() in ("Greater", "Maximum", "Multiply")
            and any(v.get_source_output().get_node().get_type_name() == "FakeQuantize" for v in operation.inputs())
            for operation in made.get_ops()
        )
    assert found[quantize_openvino.COMPARING] == 0
    assert found[()] > 0


def test_a_range_that_is_not_finite_is_named(mobile):
    model, _, ranges = mobile
    name = next(iter(ranges))
    bad = ranges | {name: ranges[name]._replace(high=float("nan"))}
    with pytest.raises(InputError, match=f"{name} is not finite"):
        next(quantize_onnx.rungs(model, bad, "u8s8", targets.get("onnx-int8"), tuple))


def test_parts_and_what_they_cause(mobile, tmp_path):
    model, images, ranges = mobile
    parts = parts_of(model)
    assert sum(map(len, parts.values())) == sum(node.op_type in OPERATORS for node in model.graph.node)
    assert part_name("network.encoder.layer2.1.expand.conv/Conv_2") == "network.encoder.layer2"
    cache = tmp_path / "parts.json"
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rank(model, ranges, images[:1], "digest", cache=cache, progress=stop)
    first = cache.read_bytes()
    found = rank(model, ranges, images[:1], "digest", cache=cache)
    assert {part.name: part.nodes for part in found.parts} == {name: len(nodes) for name, nodes in parts.items()}
    errors = [part.error for part in found.parts]
    assert errors == sorted(errors, reverse=True)
    assert all(0 < part.error <= part.worst for part in found.parts if part.error)
    assert first != cache.read_bytes()
    assert rank(model, ranges, images[:1], "digest", cache=cache) == found  # read, not made again
    worst = most_sensitive(found, 0.5)
    assert worst[0] == found.parts[0].name
    assert 0.5 * sum(errors) <= sum(errors[: len(worst)])
    assert most_sensitive(found, 0) == ()
    cache.write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        rank(model, ranges, images[:1], "digest", cache=cache)
    with pytest.raises(InputError, match="no picture"):
        rank(model, ranges, [], "digest")


class Ladder:
    """Rungs that write a file with their name; the networks differ from float32 as they are told."""

    def __init__(self, measuring: Any, folder: Path, **shifts: float) -> None:
        self.shifts = shifts
        (folder / "float").mkdir(parents=True)
        yardstick = Yardstick(measuring, (64, 96), 1, self.network(0.0), folder / "float")
        image = np.zeros((1, 64, 96, 3), np.uint8)
        self.tools = Tools(yardstick, 0.05, self.network(0.0), image, lambda built, place: self.open(place))
        self.built: list[str] = []

    def network(self, shift: float) -> Any:
        return lambda images: {"alpha": np.full((1, 1, *images.shape[1:3]), 0.5 + shift, np.float32)}

    @contextmanager
    def open(self, place: Path) -> Any:
        yield self.network(self.shifts[(place / "model.onnx").read_text()])

    def rungs(self) -> Any:
        for name in self.shifts:

            def build(folder: Path, name: str = name) -> Built:
                self.built.append(name)
                (folder / "model.onnx").write_text(name)
                return Built("1", (name,))

            yield Rung(name, f"rung {name}", build)


def test_the_first_rung_that_passes_wins(measuring, tmp_path):
    ladder = Ladder(measuring, tmp_path, bad=0.4, worse=0.5, good=1e-4, later=0.0)
    told: list[str] = []
    (tmp_path / "out").mkdir()
    climbed = climb(ladder.rungs(), ladder.tools, tmp_path / "out", lambda rung: told.append(rung.name))
    assert climbed.passed
    assert climbed.chosen == "good"
    assert climbed.built.fp32_nodes == ("good",)
    assert ladder.built == told == [rung.name for rung in climbed.rungs] == ["bad", "worse", "good"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.onnx"]
    assert (tmp_path / "out/model.onnx").read_text() == "good"
    assert all(rung.failures for rung in climbed.rungs[:2])
    assert climbed.rungs[2].speed[1] <= climbed.rungs[2].speed[0] <= climbed.rungs[2].speed[2]


def test_where_none_passes_the_best_is_kept(measuring, tmp_path):
    ladder = Ladder(measuring, tmp_path, worst=0.5, best=0.3, middle=0.4)
    (tmp_path / "out").mkdir()
    climbed = climb(ladder.rungs(), ladder.tools, tmp_path / "out")
    assert (climbed.passed, climbed.chosen) == (False, "best")
    assert (tmp_path / "out/model.onnx").read_text() == "best"


@pytest.fixture(scope="session")
def quantised_artefacts(once):
    """The shipped weights as INT8, calibrated with synthetic portraits and measured with a few others."""
    pytest.importorskip("nncf")

    def make(out: Path) -> None:
        request = ExportRequest(
            INT8, out, shipped.weights_path(), width=SIDE, height=SIDE, calibration_count=MINIMUM, max_drop=0.25,
            measuring=write_set(out / "drawn", [synthetic(seed, 256, 256) for seed in range(6)]),
        )  # fmt: skip
        for result in export(request):
            (out / f"{result.target}.status").write_text(result.status)

    return once("int8", make)


@pytest.mark.parametrize("target", INT8)
def test_the_manifest_says_how_it_came_about(quantised_artefacts, target):
    folder = next(
        path for path in (quantised_artefacts / target, quantised_artefacts / f"{target}.rejected") if path.exists()
    )
    manifest = manifests.read(folder, allow_rejected=True)
    record = manifest.quantization
    assert record is not None
    assert manifest.precision == "int8"
    assert (record.calibration.kind, record.calibration.pictures) == ("synthetic", MINIMUM)
    assert (record.measuring.kind, record.measuring.source, record.measuring.pictures) == ("files", "drawn", 6)
    assert record.calibration.digest != record.measuring.digest
    assert any("synthetic" in remark for remark in record.calibration.remarks)
    assert record.chosen in {rung.name for rung in record.rungs}
    assert record.passed == (not record.rungs[-1].failures) == (folder.name == target)
    for rung in record.rungs:
        assert rung.accuracy.sad is not None
        assert rung.accuracy.float_sad is not None
        assert rung.accuracy.rise == pytest.approx(rung.accuracy.sad / rung.accuracy.float_sad - 1)
        assert 0 < rung.accuracy.mean_difference < 0.02
        assert (rung.here is None) == (target == "openvino-int8")
    model = folder / ("model.onnx" if target == "onnx-int8" else "model.bin")
    assert model.stat().st_size < 0.45 * 4 * manifest.model.parameters


def test_an_app_runs_it_and_the_golden_vectors_hold(quantised_artefacts):
    for target in INT8:
        folder = quantised_artefacts / target
        if (quantised_artefacts / f"{target}.status").read_text() != "verified":
            with pytest.raises(ArtefactError, match="rejected"):
                Matting(quantised_artefacts / f"{target}.rejected")
            continue
        with Matting(folder, threads=1, cache=False) as matting:
            assert matting.selftest().passed
            alpha = matting(portrait(120, 160).image)
        assert alpha.shape == (120, 160)


def test_basic_optimisation_is_how_onnx_is_judged(mobile, tmp_path):
    model, images, ranges = mobile
    onnx.save(quantised(model, ranges, "u8s8"), tmp_path / "model.onnx")
    outputs = judge(tmp_path / "model.onnx")(images[0])
    assert set(outputs) == {"alpha", "local_alpha", "global_logits"}
    onnx.save(model, tmp_path / "float.onnx")
    wanted = judge(tmp_path / "float.onnx")(images[0])
    assert 0 < np.abs(outputs["alpha"] - wanted["alpha"]).mean() < 0.02


def test_a_gate_that_cannot_be_met_leaves_the_best_attempt_as_rejected(tmp_path):
    """A drop of nothing, with weights that were never trained: no rung can pass."""
    folder = write_set(tmp_path / "portraits", [portrait(96, 96, seed=i) for i in range(MINIMUM + 20)])
    held_out = tmp_path / "held-out"
    for part in ("image", "alpha"):
        (held_out / part).mkdir(parents=True)
        for index in range(MINIMUM, MINIMUM + 20):
            (folder / part / f"portrait{index}.png").rename(held_out / part / f"portrait{index}.png")
    request = ExportRequest(
        ("onnx-int8",), tmp_path / "out", arch="mobile", width=64, height=64, calibration=folder, measuring=held_out,
        calibration_count=MINIMUM, max_drop=0.0,
    )  # fmt: skip
    rungs: list[str] = []
    (result,) = export(request, lambda event: rungs.append(event.rung.name) if event.rung is not None else None)
    assert result.status == "rejected"
    assert result.folder.name == "onnx-int8.rejected"
    assert not (tmp_path / "out/onnx-int8").exists()
    assert result.quantization is not None
    assert not result.quantization.passed
    assert len(rungs) == len(result.quantization.rungs) == 5
    assert result.quantization.measuring.source == "held-out"
    with pytest.raises(ArtefactError, match="rejected"):
        Matting(result.folder)
    renamed = result.folder.rename(tmp_path / "out/onnx-int8")
    with pytest.raises(ArtefactError, match="failed its parity gate"):
        Matting(renamed)


def test_bad_pictures(tmp_path):
    folder = write_set(tmp_path / "few", [portrait(seed=i) for i in range(MINIMUM - 1)])
    request = ExportRequest(("onnx-int8",), tmp_path / "out", arch="mobile", width=64, height=64, calibration=folder)
    with pytest.raises(InputError, match=f"at least {MINIMUM}"):
        export(request)
    enough = write_set(tmp_path / "enough", [portrait(seed=i) for i in range(MINIMUM)])
    with pytest.raises(UsageError, match="portrait"):
        export(
            ExportRequest(
                ("onnx-int8",), tmp_path / "out", arch="mobile", width=64, height=64,
                calibration=enough, measuring=enough, calibration_count=MINIMUM,
            )
        )  # fmt: skip
    for options in ({"calibration_count": 0}, {"max_drop": -1.0}, {"max_drop": float("nan")}):
        with pytest.raises(UsageError):
            plan(ExportRequest(("onnx-int8",), tmp_path / "out", arch="mobile", **options))
    assert not list((tmp_path / "out").glob("*int8*")) if (tmp_path / "out").exists() else True
