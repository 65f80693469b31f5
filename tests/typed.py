"""Artefacts for TensorRT without an engine: a small network as typed ONNX, with the names that ours have."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from p3m_edge import manifest as manifests
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import EngineRecord, InputRecord, ModelRecord, OutputRecord, ParityRecord, VerifiedRecord
from p3m_edge.targets import FP16
from tests.artefacts import picture

Kind = Literal["fp32", "fp16", "int8"]
HELPERS = Path(__file__).parent / "runtimes" / "helpers"
CUSTOM = "network.fancy.part/FancyOp"


def typed_model(
    kind: Kind, size: tuple[int, int] | None = (64, 64), *, custom: bool = False, asymmetric: bool = False
) -> Any:
    """Two convolutions, an ``onnx.ModelProto``.

    Parameters
    ----------
    kind
        Its types: half precision, or explicit Q/DQ (s8s8) around the first convolution.
    size
        ``(height, width)``; None: dynamic.
    custom
        With an operator between them that nobody knows.
    asymmetric
        Quantise with a zero point that is not 0.
    """
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    number = np.float16 if kind == "fp16" else np.float32
    element = TensorProto.FLOAT16 if kind == "fp16" else TensorProto.FLOAT
    constants: dict[str, Any] = {
        "first.weight": rng.normal(0, 0.01, (8, 3, 3, 3)).astype(number),
        "second.weight": rng.normal(0, 0.1, (1, 8, 3, 3)).astype(number),
    }
    node = helper.make_node
    same: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        node("Cast", ["image"], ["pixels"], name="network/Cast", to=element),
        node("Transpose", ["pixels"], ["planes"], name="network/Transpose", perm=[0, 3, 1, 2]),
    ]
    taken, weight = "planes", "first.weight"
    if kind == "int8":
        zero = np.int8(3 if asymmetric else 0)
        constants |= {"scale": np.float32(2), "zero": zero, "fine": np.float32(0.001), "nought": np.int8(0)}
        nodes += [
            node("QuantizeLinear", ["planes", "scale", "zero"], ["planes.q"], name="network.first.conv/Quantize"),
            node("DequantizeLinear", ["planes.q", "scale", "zero"], ["planes.d"], name="network.first.conv/Dequantize"),
            node("QuantizeLinear", [weight, "fine", "nought"], ["weight.q"], name="network.first.conv/QuantizeWeight"),
            node("DequantizeLinear", ["weight.q", "fine", "nought"], ["weight.d"], name="network.first.conv/Weight"),
        ]
        taken, weight = "planes.d", "weight.d"
    nodes += [
        node("Conv", [taken, weight], ["first"], name="network.first.conv/Conv", **same),
        node("Relu", ["first"], ["features"], name="network.first/Relu"),
    ]
    if custom:
        nodes.append(node("FancyOp", ["features"], ["fancied"], name=CUSTOM, domain="acme"))
    nodes += [
        node(
            "Conv", ["fancied" if custom else "features", "second.weight"], ["second"],
            name="network.second.conv/Conv", **same,
        ),
        node("Sigmoid", ["second"], ["matte"], name="network/Sigmoid"),
        node("Cast", ["matte"], ["alpha"], name="network/Cast_1", to=TensorProto.FLOAT),
    ]  # fmt: skip
    sides: tuple[int | str, int | str] = size or ("height", "width")
    graph = helper.make_graph(
        nodes,
        "typed",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *sides, 3])],
        [helper.make_tensor_value_info("alpha", TensorProto.FLOAT, [1, 1, *sides])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    domains = [helper.make_opsetid("", 18), *([helper.make_opsetid("acme", 1)] if custom else [])]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def make_typed(
    folder: Path,
    kind: Kind = "fp16",
    size: tuple[int, int] | None = (64, 64),
    *,
    model: Any = None,
    fp32_nodes: tuple[str, ...] = (),
) -> Path:
    """Write the artefact ``folder``, as it is where no builder was; ``model``: its graph instead of one of ``kind``."""
    import onnx

    folder.mkdir(parents=True)
    onnx.save(model or typed_model(kind, size), folder / manifests.TYPED)
    height, width = size or (None, None)
    frame = picture(*(size or (64, 64)))[None]
    np.savez_compressed(folder / manifests.GOLDEN, allow_pickle=False, image_0=frame)
    manifests.write(
        Manifest(
            schema=manifests.SCHEMA_VERSION,
            target=f"trt-{kind}",
            precision=kind,
            model_file="model.engine",
            engine=EngineRecord("tensorrt", "not-built", "10.0", {}, "no builder is here", ("p3m-edge build DIR",)),
            model=ModelRecord("r34", 300, False, "0" * 64, "none", "random weights for tests"),
            input=InputRecord("image", 1, height, width),
            outputs=(OutputRecord("alpha", 1),),
            unpool="select",
            files=manifests.record_files(folder),
            parity=ParityRecord(True, FP16, ()),
            verified=VerifiedRecord("typed"),
            fp32_nodes=fp32_nodes,
        ),
        folder,
    )
    return folder


def change(folder: Path, **changes: Any) -> None:
    """Replace fields of the manifest."""
    manifests.write(dataclasses.replace(manifests.read(folder), **changes), folder)


def gpu_machine(version: Literal["10", "11"] | None, calls: Path, behaviour: str = "") -> dict[str, str]:
    """Environment of processes that find a GPU (9.0) and the recorded shape of a TensorRT; None: there is none yet.

    What is called is noted in ``calls``; ``behaviour`` is what goes wrong (``helpers/recorded``).
    """
    shape = [HELPERS / f"tensorrt{version}"] if version else []
    folders = [*shape, HELPERS / "recorded", HELPERS / "gpu", Path(__file__).parent.parent]
    return {
        "STAND_IN": json.dumps({"gpus": [["NVIDIA Test GPU", "9.0", 80_000_000_000]], "driver": 13010}),
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "TENSORRT_BEHAVIOUR": behaviour,
        "TENSORRT_CALLS": str(calls),
    }
