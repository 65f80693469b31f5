"""INT8: the gate and its figures, the forms of the graph, the traps of unpooling, ranges, the ladder, artefacts."""

from __future__ import annotations

import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from p3m_edge import manifest as manifests
from p3m_edge import shipped, targets
from p3m_edge.data.recipe import numbered
from p3m_edge.data.synth import portrait as synthetic
from p3m_edge.data.synth.clip import draw_clip
from p3m_edge.errors import ArtefactError, InputError, UsageError
from p3m_edge.export import ExportRequest, export, graph, plan
from p3m_edge.export.calibration import MINIMUM, SEEDS, PictureSet, open_measuring
from p3m_edge.export.formats import Built
from p3m_edge.export.formats.onnx import format as onnx_format
from p3m_edge.export.graph.qdq import OPERATORS, QDQ, depthwise, part_name, parts_of, quantised
from p3m_edge.export.graph.ranges import activation_ranges, check_finite
from p3m_edge.export.graph.reference import exact_run
from p3m_edge.export.parity import BETWEEN_PROCESSORS, lasting_limits
from p3m_edge.export.quantize import UnfitError
from p3m_edge.export.quantize.accuracy import (
    CLIPS,
    FRAMES,
    MAX_DIFFERENCE,
    MAX_FLIPS,
    MAX_RISE,
    AccuracyEvaluator,
    Gate,
)
from p3m_edge.export.quantize.sensitivity import Sensitivity, hardest, rank
from p3m_edge.export.session import ExportSession
from p3m_edge.manifest_schema import AccuracyRecord
from p3m_edge.model import build
from p3m_edge.model.deploy import Deploy
from p3m_edge.runtimes import Matting, golden
from tests.calibrating import Given, Ranges
from tests.portraits import portrait, write_set

INT8 = ("onnx-int8", "openvino-int8")
SIDE = 256


def accuracy(rise: float | None = 0.0, difference: float = 0.0, flips: float | None = 0.0) -> AccuracyRecord:
    return AccuracyRecord(
        None if rise is None else 1 + rise, None if rise is None else 1.0, rise, difference, flips, 0.0
    )


def test_the_gate():
    gate = Gate(0.05)
    assert gate.failures(accuracy(0.05, 0.5, MAX_FLIPS)) == ()
    assert "SAD rises by 5.1%" in gate.failures(accuracy(0.051))[0]
    assert "flip between background and foreground" in gate.failures(accuracy(flips=2e-4))[0]
    assert Gate(0.0).failures(accuracy(-0.3, flips=None)) == ()
    assert Gate(0.0).failures(accuracy(None, MAX_DIFFERENCE)) == ()  # no truth: the difference decides
    assert "differs by 0.0060" in gate.failures(accuracy(None, 0.006))[0]
    moved = replace(accuracy(), mse_rise=0.5, grad_rise=MAX_RISE, dtssd_rise=MAX_RISE)
    assert gate.failures(moved) == ()
    assert gate.failures(replace(moved, grad_rise=0.11)) == ("GRAD rises by 11.0%, allowed are 10.0%",)
    assert gate.failures(replace(moved, dtssd_rise=0.11)) == ("dtSSD rises by 11.0%, allowed are 10.0%",)
    assert Gate(0.2).failures(replace(moved, rise=0.2, grad_rise=0.2, dtssd_rise=0.2)) == ()


def test_weights_in_fewer_bits_are_held_to_mse_and_grad_too():
    def risen(mse: float | None, grad: float | None) -> AccuracyRecord:
        return replace(accuracy(), mse_rise=mse, grad_rise=grad)

    edges = Gate(0.05, edges=True)
    assert edges.failures(risen(0.05, 0.05)) == edges.failures(risen(None, None)) == ()
    assert Gate(0.05).failures(risen(0.2, 0.1)) == ()
    assert edges.failures(risen(0.2, -0.1)) == ("MSE rises by 20.0%, allowed are 5.0%",)
    assert edges.failures(risen(0.0, float("nan"))) == ("GRAD rises by nan%, allowed are 5.0%",)


FIGURES = {
    "SAD": "rise", "MSE": "mse_rise", "GRAD": "grad_rise", "dtSSD": "dtssd_rise", "flips": "flips",
    "difference": "mean_difference",
}  # fmt: skip
"""Every figure of the gate, and the field of the record that it comes from."""


@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("truth", [False, True])
def test_whatever_is_judged_is_ranked_by(edges, truth):
    """An attempt that is worse in one figure alone fails by it, loses against the other, and has it as its worst."""
    gate = Gate(0.05, edges)
    good = replace(accuracy(0.0 if truth else None), dtssd_rise=0.0, grad_rise=0.0, mse_rise=0.0 if truth else None)
    judged = {figure.name: figure for figure in gate.figures(good)}
    expected = {"GRAD", "dtSSD", "flips"} | ({"SAD"} | ({"MSE"} if edges else set()) if truth else {"difference"})
    assert set(judged) == expected
    assert gate.failures(good) == ()
    for name, figure in judged.items():
        bad, worse, broken = (
            replace(good, **{FIGURES[name]: value}) for value in (1.5 * figure.limit, 2 * figure.limit, float("nan"))
        )
        assert len(gate.failures(bad)) == len(gate.failures(worse)) == len(gate.failures(broken)) == 1
        multiples = [gate.worst(record).multiple for record in (good, bad, worse, broken)]
        assert multiples == [0, pytest.approx(1.5), pytest.approx(2), np.inf]
        assert gate.worst(bad).name == gate.worst(broken).name == name
        assert gate.worst(bad).criterion == ("flips" if name == "flips" else "error")


@pytest.fixture
def measuring(tmp_path):
    folder = write_set(tmp_path / "measuring", [portrait(120, 160, seed=i) for i in range(3)])
    return open_measuring(folder)


def test_the_figures_of_the_evaluator(measuring, tmp_path):
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
    evaluator = AccuracyEvaluator(measuring, (64, 96), 1, network(1.0), tmp_path / "float")
    same = evaluator.measure(network(1.0))
    expected = np.mean([np.abs(1 - truth).sum() / 1000 for truth in truths.values()])
    assert same.sad == pytest.approx(expected, rel=1e-5)
    assert (same.rise, same.mean_difference, same.flips, same.unknown_flips) == (0, 0, 0, 0)
    assert (same.mse_rise, same.grad_rise) == pytest.approx((0, 0), abs=1e-9)  # sums in another order
    other = evaluator.measure(network(0.75, changed=4))
    assert other.mean_difference == pytest.approx(0.25)
    assert other.sad == pytest.approx(np.mean([np.abs(0.75 - t).sum() / 1000 for t in truths.values()]), rel=1e-5)
    assert other.sad is not None
    assert same.sad is not None
    assert other.rise == pytest.approx(other.sad / same.sad - 1, rel=1e-5)
    before, after = (np.mean([np.square(alpha - t).mean() for t in truths.values()]) for alpha in (1.0, 0.75))
    assert other.mse_rise == pytest.approx(after / before - 1, rel=1e-5)
    assert other.grad_rise == pytest.approx(0, abs=1e-6)  # neither has an edge
    assert other.flips == pytest.approx(3 / 64)  # four rows are background now; one of them was unknown
    assert other.unknown_flips == pytest.approx(2 / 64)
    with pytest.raises(UnfitError, match="not finite"):
        evaluator.measure(network(float("nan")))
    with pytest.raises(InputError, match="float32 network's results are not finite"):
        AccuracyEvaluator(measuring, (64, 96), 1, network(float("inf")), tmp_path / "float")
    without = tmp_path / "without"
    without.mkdir()
    blind = AccuracyEvaluator(measuring, (64, 96), 1, lambda x: {"alpha": network(1.0)(x)["alpha"]}, without)
    assert blind.measure(lambda x: {"alpha": network(0.5)(x)["alpha"]}).flips is None


@pytest.mark.parametrize("truth", [True, False])
def test_flicker_and_edges_are_seen_where_the_mean_difference_is_the_same(truth, measuring, tmp_path):
    """A spot, steady or black and white in turns, in grey. Without mattes, the clips say what it adds in edges."""
    spot = np.zeros((64, 96), np.float32)
    spot[28:33, 40:52] = 0.5

    def network(change: Callable[[bool], np.ndarray]) -> Any:
        turn = iter(range(10**6))
        return lambda images: {"alpha": (0.5 + change(next(turn) % 2 == 0))[None, None].astype(np.float32)}

    if not truth:
        without: Any = tuple(NoTruth(each) for each in measuring.pictures)
        measuring = replace(measuring, pictures=without, has_truth=False)
    evaluator = AccuracyEvaluator(measuring, (64, 96), 1, network(lambda _: 0 * spot), tmp_path)
    steady, blinking = (
        evaluator.measure(network(change)) for change in (lambda _: spot, lambda even: spot if even else -spot)
    )
    assert steady.mean_difference == blinking.mean_difference == pytest.approx(spot.mean())
    assert (steady.sad is None) == (not truth)
    assert steady.dtssd is not None
    assert blinking.dtssd is not None
    assert blinking.float_dtssd is not None
    assert steady.grad_rise is not None
    assert steady.dtssd == pytest.approx(steady.float_dtssd, rel=1e-6)
    assert blinking.dtssd == pytest.approx(np.hypot(steady.dtssd, 100 * np.sqrt((spot > 0).mean())), rel=0.1)
    assert blinking.dtssd_rise == pytest.approx(blinking.dtssd / blinking.float_dtssd - 1)
    assert steady.grad_rise > 0.01
    loose = Gate(0.5)
    for record, failed in ((steady, ()), (blinking, ("dtSSD",))):
        names = tuple(text.split()[0] for text in loose.failures(record))
        assert names == failed


class NoTruth:
    """A picture without its matte."""

    def __init__(self, picture: Any) -> None:
        self.name, self.lines, self.frame = picture.name, picture.lines, picture.frame

    def truth(self) -> None:
        return None


def test_a_perfect_float32_network(tmp_path):
    """Zero cannot rise by a share: what nobody sees is allowed still, and what can be seen is not."""
    pictures = open_measuring(None, count=1)
    clips = [draw_clip(number, FRAMES) for number in numbered(5 * SEEDS, CLIPS)]
    known = {frame.tobytes(): truth for _, frame, truth in pictures.samples() if truth is not None}
    known |= {f.tobytes(): alpha for clip in clips for f, alpha in zip(clip.frames, clip.alphas, strict=True)}
    rng = np.random.default_rng(0)

    def network(levels: float) -> Any:
        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            noise = rng.uniform(-levels / 255, levels / 255, images.shape[1:3])
            return {"alpha": (known[images.tobytes()] + noise)[None, None].astype(np.float32)}

        return run

    evaluator = AccuracyEvaluator(pictures, (512, 512), 1, network(0.0), tmp_path)
    unseen, seen = evaluator.measure(network(0.4)), evaluator.measure(network(4.0))
    assert (unseen.float_dtssd, unseen.dtssd_rise, unseen.grad_rise) == (0, 0, 0)
    assert unseen.dtssd is not None
    assert unseen.dtssd > 0
    failed = {text.split()[0] for text in Gate(0.05).failures(seen)}
    assert {"GRAD", "dtSSD"} < failed


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    """The shipped network at a small size: graph, inputs, ranges."""
    request = ExportRequest(
        ("onnx-int8",), tmp_path_factory.mktemp("unused"), shipped.weights_path(), width=SIDE, height=SIDE
    )
    session = ExportSession(request)
    images = [image for _, image in zip(range(6), open_measuring(None, count=6).images(SIDE, SIDE), strict=False)]
    return session.graph, images, activation_ranges(session.graph, images)


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
    forms: tuple[tuple[QDQ, type], ...] = (("u8s8", np.uint8), ("s8s8", np.int8))
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


def test_parts_that_are_kept_stay_in_float32(mobile, tmp_path):
    model, _, ranges = mobile
    kept = ("network.encoder.neck", "network.local_decoder.head")
    parts = parts_of(model)
    assert "network.encoder.neck_context" in parts  # the name of one part begins with that of another
    session: Any = SimpleNamespace(graph=model, request=SimpleNamespace(qdq="u8s8"))
    given: Any = Ranges(ranges)
    default = onnx_format.FORMAT.candidates(session, targets.get("onnx-int8"), given, tmp_path)[0]
    built = default.build(tmp_path, kept)
    assert set(built.fp32_nodes) == {node for part in kept for node in parts[part]}
    made = onnx.load(tmp_path / "model.onnx")
    makers = {name: node.op_type for node in made.graph.node for name in node.output}
    for node in made.graph.node:
        if node.op_type in OPERATORS:
            assert (makers.get(node.input[1]) == "DequantizeLinear") != (node.name in built.fp32_nodes)


def openvino_int8(
    mobile: Any, measuring: PictureSet, folder: Path, told: list[tuple[str, int, int]] | None = None
) -> tuple[Any, Callable[[Sequence[str]], tuple[Built, Any]]]:
    """The module that quantises for OpenVINO; what builds its first way with parts in float32, and reads the file."""
    pytest.importorskip("nncf")
    openvino = pytest.importorskip("openvino")
    from p3m_edge.export.formats.openvino import format as openvino_format
    from p3m_edge.export.formats.openvino import nncf as post_training

    target = targets.get("openvino-int8")
    openvino.save_model(
        openvino.Core().read_model(mobile[0].SerializeToString()), folder / target.model_file, compress_to_fp16=False
    )
    session: Any = SimpleNamespace(network=SimpleNamespace(arch="mobile"))
    given: Any = Given(measuring, SIDE, told)
    candidate = openvino_format.FORMAT.candidates(session, target, given, folder)[0]

    def build(kept: Sequence[str]) -> tuple[Built, Any]:
        place = Path(tempfile.mkdtemp(dir=folder))
        built = candidate.build(place, kept)
        return built, openvino.Core().read_model(place / target.model_file)

    return post_training, build


@pytest.mark.full
def test_openvinos_parts_that_are_kept_stay_in_float32(mobile, measuring, tmp_path):
    told: list[tuple[str, int, int]] = []
    module, build = openvino_int8(mobile, measuring, tmp_path, told)
    found = {}
    for kept in ((), ("network.encoder.neck", "network.local_decoder.head")):
        built, made = build(kept)
        assert built.fp32_nodes == (*kept, *module.DEPTHWISE, *(module.RESIZING if kept else ()))
        assert told[:2] == [("calibrating, pass 1", number, len(measuring)) for number in (1, 2)]
        told.clear()
        found[kept] = {
            part_name(operation.get_friendly_name())
            for operation in made.get_ops()
            if "Convolution" in operation.get_type_name() and _quantised(operation)
        }
    (before, after), kept = found.values(), list(found)[1]
    assert before - after == set(kept)


def _quantised(operation: Any) -> bool:
    """Whether an operation's weights come as integers, or will when the network is loaded."""
    node = operation.input_value(1).get_node()
    if node.get_type_name() == "FakeQuantize":
        return True
    while node.get_type_name() in ("Reshape", "Multiply", "Subtract", "Convert"):
        node = node.input_value(0).get_node()
    return node.get_element_type().get_type_name() in ("i8", "u8")


def test_comparisons_of_pooling_winners_are_not_quantised(onnx_model, session):
    """Both sides of a comparison come from one tensor; two scales would make the winners random."""
    model = onnx_model("r34")
    ranges = activation_ranges(model, session.network_images())
    made = quantised(model, ranges, "u8s8")
    makers = {name: node for node in made.graph.node for name in node.output}
    compared = [node for node in made.graph.node if node.op_type in ("Greater", "Equal", "Max", "Where")]
    assert len(compared) >= 20
    for node in compared:
        assert "QuantizeLinear" not in {makers[name].op_type for name in node.input if name in makers}
    before, after = (Counter(node.op_type for node in each.graph.node) for each in (model, made))
    for operator in ("Greater", "Max", "Pad", "Mul", "And"):
        assert before[operator] == after[operator]


@pytest.mark.full
def test_openvinos_comparisons_are_left_alone(onnx_model, tmp_path, session):
    """Without the ignored types, fake quantisation appears in front of comparisons: this is what they are there for."""
    nncf = pytest.importorskip("nncf")
    openvino = pytest.importorskip("openvino")
    from p3m_edge.export.formats.openvino import nncf as post_training

    onnx.save(onnx_model("r34"), tmp_path / "model.onnx")
    images = session.network_images()
    found = {}
    for types in (post_training.COMPARING, ()):
        source = openvino.Core().read_model(tmp_path / "model.onnx")
        scope = nncf.IgnoredScope(types=list(types), validate=False)
        made = nncf.quantize(source, nncf.Dataset(images, lambda x: {"image": x}), subset_size=2, ignored_scope=scope)
        found[types] = sum(
            operation.get_type_name() in ("Greater", "Maximum", "Multiply")
            and any(v.get_source_output().get_node().get_type_name() == "FakeQuantize" for v in operation.inputs())
            for operation in made.get_ops()
        )
    assert found[post_training.COMPARING] == 0
    assert found[()] > 0


@pytest.mark.full
def test_where_a_part_is_in_float32_resizes_are_too(mobile, measuring, tmp_path):
    """They belong to no part: in integers, they would change the logits however many parts are in float32."""
    _, build = openvino_int8(mobile, measuring, tmp_path)
    found = {}
    for kept in ((), ("network.encoder.stem",)):
        _, model = build(kept)
        quantisers = [operation for operation in model.get_ops() if operation.get_type_name() == "FakeQuantize"]
        readers = [reader.get_node() for one in quantisers for reader in one.output(0).get_target_inputs()]
        found[kept] = Counter(reader.get_type_name() for reader in readers)
    assert found[()]["Interpolate"] > 0
    assert found[("network.encoder.stem",)]["Interpolate"] == 0
    assert found[("network.encoder.stem",)]["Convolution"] > 20


@pytest.mark.full
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="OpenVINO on x86 is looked at here")
def test_openvino_computes_depthwise_convolutions_in_float32(mobile, measuring, tmp_path, monkeypatch):
    """Quantised or not: so they are not quantised. Where this fails, OpenVINO has become faster than that."""
    openvino = pytest.importorskip("openvino")
    module, build = openvino_int8(mobile, measuring, tmp_path)
    kinds = {}
    for types in (module.DEPTHWISE, ()):
        monkeypatch.setattr(module, "DEPTHWISE", types)
        _, model = build(())
        grouped = [each for each in model.get_ops() if each.get_type_name() == "GroupConvolution"]
        assert len(grouped) > 10
        kinds[types] = sum(map(_quantised, grouped)) / len(grouped)
        network = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        executed = network.get_runtime_model().get_ops()
        told = [{key: value.astype(str) for key, value in node.get_rt_info().items()} for node in executed]
        names = {one.get_friendly_name() for one in grouped}
        precisions = Counter(
            one["runtimePrecision"]
            for one in told
            if one["layerType"] == "Convolution" and names & set(one["originalLayersNames"].split(","))
        )
        assert precisions == {"f32": len(grouped)}
    assert kinds == {(): 1.0, ("GroupConvolution",): 0.0}


def test_a_range_that_is_not_finite_is_named(mobile):
    _, _, ranges = mobile
    name = next(iter(ranges))
    bad = ranges | {name: ranges[name]._replace(high=float("nan"))}
    with pytest.raises(InputError, match=f"{name} is not finite"):
        check_finite(bad)
    check_finite(ranges)


def test_what_stays_in_float32_in_every_part_causes_nothing(mobile, tmp_path):
    model, images, ranges = mobile
    grouped = depthwise(model)
    assert 10 < len(grouped) < sum(map(len, parts_of(model).values()))
    assert {len(names & set(grouped)) > 0 for names in map(set, parts_of(model).values())} == {True, False}
    found = {}
    for kept in ((), tuple(node for nodes in parts_of(model).values() for node in nodes)):
        cache = tmp_path / f"{len(kept)}.json"

        def stop(done: int, _total: int) -> None:
            if done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            rank(model, ranges, images[:1], "digest", kept=kept, cache=cache, progress=stop)
        found[kept] = msgspec.json.decode(cache.read_bytes(), type=Sensitivity)
    (first, second), (one, other) = (each.parts for each in found.values())
    assert first.error > second.error > 0
    assert one.error == other.error == 0
    assert len({each.graph for each in found.values()}) == 2  # results of one are not taken for those of the other


def test_parts_and_what_they_cause(tmp_path):
    """Of the smallest network: each part is a graph of its own."""
    torch.manual_seed(0)
    model = graph.trace(Deploy(build("tiny").eval()), 64, 64)
    images = [portrait(64, 64).image[None]]
    ranges, parts = activation_ranges(model, images), parts_of(model)
    assert sum(map(len, parts.values())) == sum(node.op_type in OPERATORS for node in model.graph.node)
    assert part_name("network.encoder.layer2.1.expand.conv/Conv_2") == "network.encoder.layer2"
    cache = tmp_path / "parts.json"
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rank(model, ranges, images, "digest", cache=cache, progress=stop)
    first = cache.read_bytes()
    found = rank(model, ranges, images, "digest", cache=cache)
    assert {part.name: part.nodes for part in found.parts} == {name: len(nodes) for name, nodes in parts.items()}
    errors = [part.error for part in found.parts]
    assert errors == sorted(errors, reverse=True)
    assert all(0 < part.error <= part.worst for part in found.parts if part.error)
    assert first != cache.read_bytes()
    assert rank(model, ranges, images, "digest", cache=cache) == found  # read, not made again
    assert found.order("error") == tuple(part.name for part in found.parts)
    flips = {part.name: part.flips for part in found.parts}
    by_flips = found.order("flips")
    assert [flips[name] for name in by_flips] == sorted(flips.values(), reverse=True)
    harmless = [name for name in found.order("error") if not flips[name]]
    assert list(by_flips[len(parts) - len(harmless) :]) == harmless  # where nothing flips, the error decides
    cache.write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        rank(model, ranges, images, "digest", cache=cache)
    with pytest.raises(InputError, match="no picture"):
        rank(model, ranges, [], "digest")


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


def built(artefacts: Path, target: str) -> Path:
    """The artefact, whether it met the gate of its accuracy or not."""
    return next(path for path in (artefacts / target, artefacts / f"{target}.rejected") if path.exists())


@pytest.mark.parametrize("target", INT8)
def test_the_manifest_says_how_it_came_about(quantised_artefacts, target):
    folder = built(quantised_artefacts, target)
    manifest = manifests.read(folder, allow_rejected=True)
    record = manifest.quantization
    assert record is not None
    assert record.calibration is not None
    assert manifest.precision == "int8"
    assert (record.calibration.kind, record.calibration.pictures) == ("synthetic", MINIMUM)
    assert (record.measuring.kind, record.measuring.source, record.measuring.pictures) == ("files", "drawn", 6)
    assert record.calibration.digest != record.measuring.digest
    assert any("synthetic" in remark for remark in record.calibration.remarks)
    assert record.chosen in {rung.name for rung in record.rungs}
    chosen = next(rung for rung in record.rungs if rung.name == record.chosen)
    assert record.passed == (not chosen.failures) == (folder.name == target)
    for rung in record.rungs:
        assert rung.accuracy is not None
        assert rung.accuracy.sad is not None
        assert rung.accuracy.float_sad is not None
        assert rung.accuracy.rise == pytest.approx(rung.accuracy.sad / rung.accuracy.float_sad - 1)
        assert 0 < rung.accuracy.mean_difference < 0.05  # without VNNI, sums of products saturate
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


WORST = ("local_mean", "local_share", "flips", "alpha_mean", "mse", "grad_mean")


@pytest.mark.parametrize("target", INT8)
def test_the_limits_of_an_artefact_are_a_little_above_its_own_errors(quantised_artefacts, target):
    manifest = manifests.read(built(quantised_artefacts, target), allow_rejected=True)
    assert manifest.parity is not None
    limits, table = manifest.parity.limits, targets.INT8
    worst = {name: max(getattr(item, name) for item in manifest.parity.items) for name in WORST}
    assert (limits.pixel_tolerance, limits.logits_mean) == (table.pixel_tolerance, None)
    for name, error in (("local_mean", "local_mean"), ("pixel_share", "local_share"), ("flips", "flips")):
        assert worst[error] < getattr(limits, name) <= getattr(table, name)
    for name in ("alpha_mean", "mse", "grad_mean"):
        assert getattr(limits, name) == BETWEEN_PROCESSORS * worst[name] + getattr(targets.FP16, name)


Change = Callable[[np.ndarray], np.ndarray]
WRONG: dict[str, tuple[str, Change]] = {
    "red for blue": ("network.encoder.stem.", lambda values: values[:, ::-1]),
    "channels moved": ("network.global_decoder.stage4.", lambda values: np.roll(values, 1, axis=0)),
    "kernels mirrored": ("network.global_decoder.stage3.", lambda values: values[..., ::-1]),
}
"""What engines do wrong in a convolution of a part, and the weights with which a sound one does the same."""


def with_weights(model: onnx.ModelProto, part: str, change: Change) -> onnx.ModelProto:
    """A graph whose first convolution of a part, with kernels of more than one pixel, has changed weights."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    constants = {each.name: each for each in changed.graph.initializer}
    source = {each.output[0]: each.input[0] for each in changed.graph.node if each.op_type == "DequantizeLinear"}
    names = [
        source.get(node.input[1], node.input[1])
        for node in changed.graph.node if node.op_type == "Conv" and node.name.startswith(part)
    ]  # fmt: skip
    name = next(name for name in names if constants[name].dims[-1] > 1)
    values = numpy_helper.to_array(constants[name])
    constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(values)), name))
    return changed


def test_the_limits_tell_a_wrong_engine_from_one_that_rounds_otherwise(mobile):
    """Decoders in 8 bits. The errors are those of the exact form of the graph, as on a processor that has no 8-bit
    products; those of this processor are within the limits, and a wrong engine's are not, which the table's limits let
    pass.
    """
    model, images, ranges = mobile
    kept = [node for part, nodes in parts_of(model).items() if ".encoder." in part for node in nodes]
    eight = quantised(model, ranges, "u8s8", kept, seven_bits=True)
    noise = np.random.default_rng(0).integers(0, 256, images[0].shape, dtype=np.uint8)
    reference = exact_run(model.SerializeToString())

    def items(run: Callable[[np.ndarray], Any]) -> tuple[golden.Difference, ...]:
        pictures = {"portrait": images[0], "noise": noise}
        return tuple(golden.compare(name, reference(each), run(each), 0.1) for name, each in pictures.items())

    def here(graph: onnx.ModelProto) -> tuple[golden.Difference, ...]:
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return items(lambda image: dict(zip(names, session.run(None, {"image": image}), strict=True)))

    table = targets.INT8
    limits = lasting_limits(targets.get("onnx-int8"), table, items(exact_run(eight.SerializeToString())))
    assert golden.judge(here(eight), limits).failures == ()
    for how, (part, change) in WRONG.items():
        found = here(with_weights(eight, part, change))
        assert golden.judge(found, table).passed, how
        assert not golden.judge(found, limits).passed, how


@pytest.mark.parametrize("name", ["onnx-fp16", "coreml-w8a8", "coreml-int8", "trt-int8"])
def test_other_targets_keep_the_limits_of_their_gate(name):
    """Errors of half precision are granted already; how much those of other devices differ is not known."""
    item = golden.Difference("x", None, 0.01, 0.01, 0.01, 0.01, 1.0, 0.01, 0.01, 0.01)
    limits = targets.get(name).limits
    assert lasting_limits(targets.get(name), limits, (item,)) == limits


def test_an_artefact_of_alpha_alone_has_narrower_limits_of_it():
    item = golden.Difference("x", None, None, None, None, 0.01, 1.0, 0.02, 0.001, 0.0001)
    limits = lasting_limits(targets.get("litert-int8"), targets.INT8, (item,))
    assert (limits.pixel_share, limits.flips) == (targets.INT8.pixel_share, targets.INT8.flips)
    assert limits.alpha_mean == pytest.approx(0.022)
    assert limits.mse == pytest.approx(0.003)


def test_the_hardest_pictures(mobile):
    model, images, ranges = mobile
    changed = quantised(model, ranges, "u8s8")
    run, other = exact_run(model.SerializeToString()), exact_run(changed.SerializeToString())
    errors = [float(np.abs(run(image)["alpha"] - other(image)["alpha"]).mean()) for image in images]
    told: list[tuple[int, int]] = []
    found = hardest(model, changed, iter(images), 2, "error", lambda done, total: told.append((done, total)), 6)
    expected = sorted(range(len(images)), key=lambda index: -errors[index])[:2]
    assert [next(i for i, image in enumerate(images) if image is each) for each in found] == expected
    assert told == [(number, 6) for number in range(1, 7)]


def test_basic_optimisation_is_how_onnx_is_judged(mobile, tmp_path):
    model, images, ranges = mobile
    onnx.save(quantised(model, ranges, "u8s8"), tmp_path / "model.onnx")
    outputs = exact_run(tmp_path / "model.onnx")(images[0])
    assert set(outputs) == {"alpha", "local_alpha", "global_logits"}
    onnx.save(model, tmp_path / "float.onnx")
    wanted = exact_run(tmp_path / "float.onnx")(images[0])
    assert 0 < np.abs(outputs["alpha"] - wanted["alpha"]).mean() < 0.02


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
    bad: tuple[dict[str, Any], ...] = (
        {"calibration_count": 0}, {"max_drop": -1.0}, {"max_drop": float("nan")},
        {"budget": 0.0}, {"budget": float("nan")}, {"attempts": 0},
    )  # fmt: skip
    for options in bad:
        with pytest.raises(UsageError):
            plan(ExportRequest(("onnx-int8",), tmp_path / "out", arch="mobile", **options))
    assert not list((tmp_path / "out").glob("*int8*")) if (tmp_path / "out").exists() else True
