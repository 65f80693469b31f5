"""The exported graphs: what they hold, what they are called, what they do not say."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import onnx
import pytest

from p3m_edge.export import graph
from p3m_edge.targets import ARCHS
from tests.conftest import ROOT

IR_FORBIDDEN = {"ScatterUpdate", "ScatterNDUpdate", "ScatterElementsUpdate", "NonZero", "MaxUnpool"}


@pytest.mark.parametrize("arch", ARCHS)
def test_no_scatter_no_unpool_no_high_rank(onnx_model, arch):
    model = onnx_model(arch)
    found = graph.operators(model)
    assert not graph.SCATTERING & set(found)
    assert not [name for name in found if "Scatter" in name or "Unpool" in name]
    # Four unpoolings, put together in the order of blocks (no transposition for engines with channels last), one head.
    modes = [onnx.helper.get_node_attr_value(n, "mode") for n in model.graph.node if n.op_type == "DepthToSpace"]
    assert Counter(modes) == {b"DCR": 4, b"CRD": 1}
    entries = (*model.graph.value_info, *model.graph.output)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in entries}
    assert {name for node in model.graph.node for name in node.output if name} <= set(ranks)
    assert max(ranks.values()) <= 5


@pytest.mark.parametrize("target", ["openvino-fp32", "openvino-fp16"])
def test_the_ir_holds_none_either(artefacts, target):
    layers = ET.parse(artefacts / target / "model.xml").getroot().findall("./layers/layer")
    types = {layer.get("type") for layer in layers}
    assert "DepthToSpace" in types
    assert not IR_FORBIDDEN & types


@pytest.mark.parametrize("arch", ARCHS)
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
    for module in ("encoder.", "global_decoder.", "local_decoder.", "stem/"):
        assert any(name.startswith(module) for name in names)
    assert not [name for name in names if "_empty_nn_module" in name]
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert all(re.fullmatch(r"[\w.]+/Conv(_\d+)?", node.name) for node in convolutions)
    assert "encoder.stem.conv.weight" not in {tensor.name for tensor in model.graph.initializer}  # the phases' own
    assert not [tensor.name for tensor in model.graph.initializer if ".side." in tensor.name]


@pytest.mark.parametrize("arch", ARCHS)
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
