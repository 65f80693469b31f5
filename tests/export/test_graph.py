"""The exported graphs: what they hold, what they are called, what they do not say."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from p3m_edge.export import graph
from p3m_edge.model.deploy import Deploy
from p3m_edge.model.standin import standin
from p3m_edge.targets import ARCHS
from tests.conftest import ROOT
from tests.export.conftest import SIZE

# What the engines have fast kernels for; Slice takes the three classes apart.
FAST = {
    "Add", "And", "Cast", "Clip", "Concat", "Conv", "DepthToSpace", "Greater", "GreaterOrEqual", "MaxPool", "Mul",
    "Not", "Or", "Relu", "Resize", "Sigmoid", "Slice", "Sub", "Transpose",
}  # fmt: skip
# Tracing takes long; the parity of every artefact is in the full tier too.
TRACED = [pytest.param(arch, marks=pytest.mark.full) if arch == "vitae-s" else arch for arch in ARCHS]
SCATTERING = {"ScatterND", "ScatterElements", "Scatter", "MaxUnpool", "NonZero"}
IR_FORBIDDEN = {"ScatterUpdate", "ScatterNDUpdate", "ScatterElementsUpdate", "NonZero", "MaxUnpool"}


@pytest.mark.parametrize("arch", TRACED)
def test_no_scatter_no_unpool_no_high_rank(onnx_model, arch):
    model = onnx_model(arch)
    found = Counter(node.op_type for node in model.graph.node)
    assert not SCATTERING & set(found)
    assert not [name for name in found if "Scatter" in name or "Unpool" in name]
    # Four unpoolings, put together in the order of blocks (no transposition for engines with channels last), one head.
    # The mobile network puts its cells together, of the local and of the fused alpha.
    modes = [onnx.helper.get_node_attr_value(n, "mode") for n in model.graph.node if n.op_type == "DepthToSpace"]
    assert Counter(modes) == ({b"CRD": 2} if arch == "mobile" else {b"DCR": 4, b"CRD": 1})
    entries = (*model.graph.value_info, *model.graph.output)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in entries}
    assert {name for node in model.graph.node for name in node.output if name} <= set(ranks)
    assert max(ranks.values()) <= 5


@pytest.mark.parametrize(("height", "width"), [(SIZE, SIZE), (96, 160)])
def test_the_mobile_network_holds_fast_operators_alone(onnx_model, height, width):
    """Also where 1/64 of a side is no whole number."""
    model = onnx_model("mobile") if width == SIZE else graph.trace(Deploy(standin("mobile")), height, width)
    assert set(Counter(node.op_type for node in model.graph.node)) == FAST
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    entries = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    types = {entry.name: entry.type.tensor_type for entry in entries}
    for node in model.graph.node:
        attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        first = types[node.input[0]]
        for name in node.output:
            assert len(types[name].shape.dim) == 4, name
            assert all(dim.dim_value > 0 for dim in types[name].shape.dim), name
        match node.op_type:
            case "Conv":
                assert attributes["group"] in {1, first.shape.dim[1].dim_value}, node.name
                assert attributes["dilations"] == [1, 1]
            case "MaxPool":
                assert (attributes["strides"], len(node.output)) == ([2, 2], 1)
            case "Resize" | "Slice":
                assert all(name in constants for name in node.input[1:] if name), node.name
            case "Transpose":
                assert list(node.input) == ["image"]
            case "Cast":  # nothing goes from one kind of float to another
                assert first.elem_type in {onnx.TensorProto.UINT8, onnx.TensorProto.BOOL}, node.name
    slices = [node for node in model.graph.node if node.op_type == "Slice"]
    assert [constants[node.input[3]].tolist() for node in slices] == [[1]] * 3  # of channels


@pytest.mark.parametrize("target", ["openvino-fp32", "openvino-fp16"])
def test_the_ir_holds_none_either(artefacts, target):
    layers = ET.parse(artefacts / target / "model.xml").getroot().findall("./layers/layer")
    types = {layer.get("type") for layer in layers}
    assert "DepthToSpace" in types
    assert not IR_FORBIDDEN & types


@pytest.mark.parametrize("arch", TRACED)
def test_version_checker_and_names(onnx_model, arch):
    model = onnx_model(arch)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    assert not model.functions
    assert not model.metadata_props
    assert all(not tensor.external_data for tensor in model.graph.initializer)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    for module in ("encoder.", "global_decoder.", "local_decoder.", "encoder.stem." if arch == "mobile" else "stem/"):
        assert any(name.startswith(f"network.{module}") for name in names)
    assert not [name for name in names if "_empty_nn_module" in name]
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert all(re.fullmatch(r"[\w.]+/Conv(_\d+)?", node.name) for node in convolutions)
    assert not [tensor.name for tensor in model.graph.initializer if re.search(r"\.side\d?\.", tensor.name)]


@pytest.mark.parametrize("arch", TRACED)
def test_it_says_nothing_about_the_machine_that_made_it(onnx_model, arch):
    bare = onnx.ModelProto()
    bare.CopyFrom(onnx_model(arch))
    for tensor in bare.graph.initializer:
        tensor.ClearField("raw_data")
    text = bare.SerializeToString()
    for secret in (str(ROOT), str(Path.home()), "site-packages", ".py", "stack_trace", "pkg.torch"):
        assert secret.encode() not in text, secret


def test_the_inputs_and_outputs(onnx_model):
    model = onnx_model("r34")
    shapes = {
        value.name: (value.type.tensor_type.elem_type, [d.dim_value for d in value.type.tensor_type.shape.dim])
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "image": (onnx.TensorProto.UINT8, [1, 64, 64, 3]),
        "alpha": (onnx.TensorProto.FLOAT, [1, 1, 64, 64]),
        "local_alpha": (onnx.TensorProto.FLOAT, [1, 1, 64, 64]),
        "global_logits": (onnx.TensorProto.FLOAT, [1, 3, 64, 64]),
    }
