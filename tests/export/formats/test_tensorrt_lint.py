"""The lint of TensorRT graphs: each rule on a small graph, and what a real parser says of the same graph."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from p3m_edge.export.formats.tensorrt.lint import UNSUPPORTED, advice, lint
from tests.typed import CUSTOM, typed_model

Parsed = Callable[[Any], tuple[list[str], list[str]]]
FLOAT, HALF, UINT8, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT64


def graph(*nodes: Any, given: int = FLOAT, gives: int = FLOAT, **constants: Any) -> Any:
    """From ``x`` to ``y``; nodes are named after modules."""
    for number, node in enumerate(nodes):
        node.name = f"network.part{number}/{node.op_type}"
    return helper.make_model(
        helper.make_graph(
            nodes, "small",
            [helper.make_tensor_value_info("x", given, [1, 4, 8, 8])],
            [helper.make_tensor_value_info("y", gives, None)],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=8,
    )  # fmt: skip


def quantised(zero: np.generic) -> Any:
    names = ["scale", "zero"]
    return graph(
        helper.make_node("QuantizeLinear", ["x", *names], ["q"]),
        helper.make_node("DequantizeLinear", ["q", *names], ["y"]),
        scale=np.float32(0.5), zero=zero,
    )  # fmt: skip


def with_bias() -> Any:
    return graph(
        helper.make_node("DequantizeLinear", ["bias", "scale"], ["b"]), helper.make_node("Add", ["x", "b"], ["y"]),
        bias=np.ones((1, 4, 1, 1), np.int32), scale=np.float32(0.5),
    )  # fmt: skip


def resized(number: type) -> Any:
    return graph(
        helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest"), scales=np.array([1, 1, 2, 2], number)
    )


def transposed_first() -> Any:
    return graph(
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["t"], ["y"], to=FLOAT), given=UINT8,
    )  # fmt: skip


def unpooled() -> Any:
    return graph(
        helper.make_node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("MaxUnpool", ["p", "i"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    )


def scattered() -> Any:
    return graph(
        helper.make_node("ScatterND", ["x", "places", "new"], ["y"]),
        places=np.array([[0, 0]], np.int64), new=np.ones((1, 8, 8), np.float32),
    )  # fmt: skip


def counted() -> Any:
    return graph(helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Reshape", ["x", "s"], ["y"]))


@pytest.fixture(scope="module")
def parsed() -> Parsed:
    """What a strongly typed parser says against a model, and the types of what its layers give."""
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")

    class Silent(trt.ILogger):  # type: ignore[name-defined, misc]  # the base is the package's, which need not be here
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            pass

    logger = Silent()
    builder = trt.Builder(logger)

    def ask(model: Any) -> tuple[list[str], list[str]]:
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        parser.parse(model.SerializeToString())
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        return errors, [layer.get_output(0).dtype.name for layer in layers]

    return ask


ERRORS = [
    (quantised(np.int8(3)), "without zero points", "network.part0/QuantizeLinear"),
    (transposed_first(), "uint8 into a cast alone", "network.part0/Transpose"),
    (with_bias(), "no int32", "network.part0/DequantizeLinear"),
    (unpooled(), "no such operator", "network.part1/MaxUnpool"),
    (typed_model("fp16", custom=True), "needs a plugin", CUSTOM),
]


@pytest.mark.parametrize(("model", "rule", "node"), ERRORS, ids=[rule for _, rule, _ in ERRORS])
def test_what_the_parser_refuses_is_an_error(parsed, model, rule, node):
    assert parsed(model)[0]
    found = [finding for finding in lint(model) if finding.severity == "error"]
    (first,) = {finding.node: finding for finding in found if rule in finding.rule and finding.node == node}.values()
    assert first.module == node.rpartition("/")[0]
    assert first.operator == node.rpartition("/")[2]
    assert node in str(first)
    assert first.advice


def test_unsigned_numbers_are_an_error_that_the_parser_keeps_to_itself(parsed):
    model = quantised(np.uint8(0))
    errors, types = parsed(model)
    assert errors == []
    assert "INT8" in types
    assert {(found.operator, found.severity) for found in lint(model)} == {
        ("QuantizeLinear", "error"), ("DequantizeLinear", "error"),
    }  # fmt: skip


def test_scales_of_a_resize_in_half_precision_are_an_error(parsed):
    assert "scales of a Resize" in lint(resized(np.float16))[0].rule
    assert not [finding for finding in lint(resized(np.float32)) if finding.severity == "error"]
    assert parsed(resized(np.float32))[0] == []
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(resized(np.float16), full_check=True)


@pytest.mark.parametrize(("model", "rule"), [(scattered(), "scattering"), (counted(), "integers")])
def test_what_is_slow_is_advice(parsed, model, rule):
    assert parsed(model)[0] == []
    found = lint(model)
    assert {finding.severity for finding in found} == {"advice"}
    (line,) = [line for line in advice(found) if rule in line]
    assert "1 times, first network.part0/" in line


def test_an_open_size_needs_a_profile():
    model = typed_model("fp16", None)
    (finding,) = lint(model)
    assert (finding.severity, finding.node, finding.operator) == ("error", "image", "")
    assert lint(model, profile=True) == ()


@pytest.mark.parametrize("kind", ["fp16", "int8"])
def test_nothing_is_said_of_what_the_parser_takes(parsed, kind):
    assert lint(typed_model(kind)) == ()
    assert parsed(typed_model(kind))[0] == []


def test_operators_that_the_parser_does_not_know():
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert [name for name in UNSUPPORTED if parser.supports_operator(name)] == []
