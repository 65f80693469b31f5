"""Small but genuine artefacts for tests: a two-headed convolution network with the input and outputs of P3M-Net.

The network is arithmetic all through (normalisation, 3x3 convolutions, fusion), so a broken weight or constant
changes what comes out; its reference values come from onnx's own evaluator, which no engine shares code with.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import struct
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3m_edge import manifest as manifests
from p3m_edge.manifest import TYPED, Manifest
from p3m_edge.manifest_schema import (
    BuildRecord,
    EngineRecord,
    InputRecord,
    Level,
    ModelRecord,
    OutputRecord,
    ParityRecord,
    ProfileRecord,
    VerifiedRecord,
)
from p3m_edge.runtimes.engines.tensorrt.compatibility import system
from p3m_edge.targets import FP32, TARGETS, EngineName
from tests.litert_model import litert_model

ALL_OUTPUTS = ("alpha", "local_alpha", "global_logits")
_RECORDS = (OutputRecord("alpha", 1), OutputRecord("local_alpha", 1), OutputRecord("global_logits", 3))
_TARGETS = {
    "onnxruntime": "onnx-fp32", "openvino": "openvino-fp32", "coreml": "coreml-fp32", "coreai": "coreai-fp16",
    "litert": "litert-fp32", "tensorrt": "trt-fp32",
}  # fmt: skip
GPUS = ("7.5", "8.0", "8.6", "8.9", "12.0")
"""The compute capabilities that engines of tests are built for: what TensorRT for RTX 1.7 knows."""
PROFILE = ProfileRecord((32, 32), (96, 64), (256, 256))
"""The sizes that an engine of dynamic size takes in tests."""


def make_artefact(
    folder: Path,
    engine: EngineName = "onnxruntime",
    size: tuple[int, int] | None = (64, 96),
    batch: int = 1,
    *,
    outputs: tuple[str, ...] = ALL_OUTPUTS,
    level: Level = "device",
    seed: int = 0,
    breaking: Callable[[Any], None] | None = None,
) -> Path:
    """Write an artefact into the new folder ``folder`` and return it.

    Parameters
    ----------
    folder
        Must not exist.
    engine
        Decides the file's format. The package for ``coreml`` is one for the stand-in in ``benchmarks/helpers/mac``;
        the engine for ``tensorrt`` is built by TensorRT for RTX or, where ``STAND_IN`` is set, one for the stand-in in
        ``runtimes/helpers/gpu``.
    size
        ``(height, width)`` of the network; None: dynamic.
    batch
        Frames in one inference.
    outputs
        The outputs of the model; ``alpha`` must be one.
    level
        What the manifest claims to have been verified.
    seed
        Of the weights.
    breaking
        Damages the ``onnx.ModelProto`` after the reference values have been computed from it; the hashes in the
        manifest are those of the damaged file.
    """
    import onnx

    folder.mkdir(parents=True)
    target = TARGETS[_TARGETS[engine]]
    model = build_model(size, batch, outputs, seed)
    golden = _golden(tuple(size or (64, 96)), batch, tuple(outputs), seed)
    np.savez_compressed(folder / manifests.GOLDEN, allow_pickle=False, **golden)
    if breaking is not None:
        breaking(model)
    if engine == "onnxruntime":
        onnx.save(model, folder / target.model_file)
    elif engine == "coreml":
        (folder / target.model_file).mkdir()
        onnx.save(model, folder / target.model_file / "model.onnx")
    elif engine == "openvino":
        _save_openvino(model, folder / target.model_file)
    elif engine == "tensorrt":
        onnx.save(model, folder / TYPED)
        plan = stand_in_plan if "STAND_IN" in os.environ else build_plan
        (folder / target.model_file).write_bytes(plan(model.SerializeToString(), dynamic=size is None))
    elif engine == "litert":
        (folder / target.model_file).write_bytes(_as_litert(model))
    else:
        _save_coreai(model, folder / target.model_file)
    height, width = size or (None, None)
    manifests.write(
        Manifest(
            schema=manifests.SCHEMA_VERSION,
            target=target.name,
            precision=target.precision,
            model_file=target.model_file,
            engine=EngineRecord(
                engine,
                "built",
                "16" if engine == "coreml" else "1.0",
                {},
                build=_build_record(folder, dynamic=size is None) if engine == "tensorrt" else None,
            ),
            model=ModelRecord("r34", 300, False, "0" * 64, "none", "random weights for tests"),
            input=InputRecord("image", batch, height, width),
            outputs=tuple(record for record in _RECORDS if record.name in outputs),
            unpool="select",
            files=manifests.record_files(folder),
            parity=ParityRecord(True, FP32, ()),  # whatever the target: all are computed in float32
            verified=VerifiedRecord(level),
        ),
        folder,
    )
    return folder


def edit_manifest(folder: Path, **changes: object) -> None:
    """Replace fields of the manifest (by name, nested ones with ``__`` between) with values for JSON; seal it anew."""
    path = folder / manifests.MANIFEST
    document = json.loads(path.read_bytes())
    for name, value in changes.items():
        place = document
        *parents, last = name.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    path.write_bytes(manifests.seal(json.dumps(document).encode()))


def rehash(folder: Path) -> None:
    """Make the hashes in the manifest those of the files as they are now."""
    manifest = dataclasses.replace(manifests.read(folder), files=manifests.record_files(folder))
    manifests.write(manifest, folder)


def picture(height: int, width: int, seed: int = 1) -> NDArray[np.uint8]:
    """A frame ``[height, width, 3]`` with large and small structures."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    phases = rng.uniform(0, 6, 3)
    waves = np.stack([np.sin(x / 9 + p) + np.cos(y / 7 - p) for p in phases], axis=-1)
    noise = rng.normal(0, 0.2, (height, width, 3))
    return np.clip((waves + noise + 2) / 4 * 255, 0, 255).astype(np.uint8)


def build_model(size: tuple[int, int] | None, batch: int, outputs: tuple[str, ...], seed: int = 0) -> Any:
    """The network as ``onnx.ModelProto``: image -> alpha, local_alpha, global_logits."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    mean = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
    deviation = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)
    constants = {
        "full_scale": np.float32(255),
        "mean": mean,
        "deviation": deviation,
        "stem.weight": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "stem.bias": rng.normal(0, 0.1, 8).astype(np.float32),
        "local.weight": rng.normal(0, 0.2, (1, 8, 3, 3)).astype(np.float32),
        "global.weight": rng.normal(0, 0.2, (3, 8, 3, 3)).astype(np.float32),
        "unknown": np.int64(1),
        "foreground": np.int64(2),
    }
    same: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        node("Div", ["planes", "full_scale"], ["scaled"]),
        node("Sub", ["scaled", "mean"], ["centred"]),
        node("Div", ["centred", "deviation"], ["normalised"]),
        node("Conv", ["normalised", "stem.weight", "stem.bias"], ["stem"], **same),
        node("Relu", ["stem"], ["features"]),
        node("Conv", ["features", "local.weight"], ["local"], **same),
        node("Conv", ["features", "global.weight"], ["global_logits"], **same),
        node("Sigmoid", ["local"], ["local_alpha"]),
        node("ArgMax", ["global_logits"], ["class"], axis=1, keepdims=1),
        node("Equal", ["class", "unknown"], ["is_unknown"]),
        node("Equal", ["class", "foreground"], ["is_foreground"]),
        node("Cast", ["is_foreground"], ["solid"], to=TensorProto.FLOAT),
        node("Where", ["is_unknown", "local_alpha", "solid"], ["alpha"]),
    ]
    sides: tuple[int | str, int | str] = size or ("height", "width")
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, *sides, 3])
    results = [
        helper.make_tensor_value_info(record.name, TensorProto.FLOAT, [batch, record.channels, *sides])
        for record in _RECORDS
        if record.name in outputs
    ]
    initialisers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", [image], results, initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def scale_constant(name: str, factor: float) -> Callable[[Any], None]:
    """A way of breaking a model: the constant of that name, times ``factor``."""

    def apply(model: Any) -> None:
        from onnx import numpy_helper

        for constant in model.graph.initializer:
            if constant.name == name:
                value = numpy_helper.to_array(constant) * np.float32(factor)
                constant.CopyFrom(numpy_helper.from_array(np.asarray(value, np.float32), name))
                return
        raise KeyError(name)

    return apply


@cache
def _golden(size: tuple[int, int], batch: int, outputs: tuple[str, ...], seed: int) -> dict[str, NDArray[Any]]:
    """The pictures and what they give, as golden.npz has them; onnx's evaluator takes longer than all else here."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(build_model(size, batch, outputs, seed))
    arrays: dict[str, NDArray[Any]] = {}
    noise = np.random.default_rng(3).integers(0, 256, (batch, *size, 3), dtype=np.uint8)
    pictures = np.stack([picture(*size, seed=index + 1) for index in range(batch)])
    for index, image in enumerate((pictures, noise)):
        arrays[f"image_{index}"] = image
        values = evaluator.run(list(outputs), {"image": image})
        arrays |= {f"{name}_{index}": value for name, value in zip(outputs, values, strict=True)}
    return arrays


def rtx() -> Any:
    """The package of TensorRT for RTX, under either of its names."""
    try:
        return importlib.import_module("tensorrt_rtx")
    except ModuleNotFoundError:
        return importlib.import_module("tensorrt_rtx_bindings")


def build_plan(model: bytes, *, dynamic: bool = False) -> bytes:
    """A genuine engine of TensorRT for RTX, of an ONNX model, for :data:`GPUS`."""
    trt = rtx()
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        raise ValueError(parser.get_error(0).desc())
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(GPUS)
    for index, gpu in enumerate(GPUS):
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{gpu.replace('.', '')}"), index)
    if dynamic:
        sizes = (PROFILE.minimum, PROFILE.optimum, PROFILE.maximum)
        profile = builder.create_optimization_profile()
        profile.set_shape("image", *((1, height, width, 3) for width, height in sizes))
        config.add_optimization_profile(profile)
    return bytes(memoryview(builder.build_serialized_network(network, config)))


def stand_in_plan(model: bytes, *, dynamic: bool = False) -> bytes:
    """An engine for the stand-in of TensorRT: magic, header, sizes, ONNX model."""
    sizes = (PROFILE.minimum, PROFILE.optimum, PROFILE.maximum) if dynamic else ()
    profile = json.dumps([(1, height, width, 3) for width, height in sizes]).encode()
    return b"ftrt".ljust(32, b"\0") + struct.pack("<I", len(profile)) + profile + model


def _build_record(folder: Path, *, dynamic: bool) -> BuildRecord:
    stand_in = "STAND_IN" in os.environ
    return BuildRecord(
        flavour="tensorrt" if stand_in else "tensorrt-rtx",
        version=importlib.import_module("tensorrt").__version__ if stand_in else rtx().__version__,
        compute_capabilities=("8.9",) if stand_in else GPUS,
        gpu="NVIDIA L4" if stand_in else None,
        driver=None,
        cuda=None,
        system=system(),
        onnx_sha256=manifests.sha256(folder / TYPED),
        profile=PROFILE if dynamic else None,
        hardware_compatibility="none",
        version_compatible=False,
        level=None,
        workspace_mb=None,
        types={"FLOAT": 15},
        seconds=1.0,
    )


def _save_openvino(model: Any, path: Path) -> None:
    import openvino

    converted = openvino.Core().read_model(model.SerializeToString())
    openvino.save_model(converted, path, compress_to_fp16=False)


def _as_litert(model: Any) -> bytes:
    from onnx import numpy_helper

    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    shape = [d.dim_value or -1 for d in model.graph.input[0].type.tensor_type.shape.dim]
    return litert_model(constants, shape, [output.name for output in model.graph.output])


def _save_coreai(model: Any, path: Path) -> None:
    """The same network in PyTorch, with the same constants, through Apple's converter."""
    import torch
    from onnx import numpy_helper

    constants = {c.name: torch.from_numpy(numpy_helper.to_array(c).copy()) for c in model.graph.initializer}
    outputs = [output.name for output in model.graph.output]
    sides = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim]

    class Network(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            conv = torch.nn.functional.conv2d
            scaled = image.permute(0, 3, 1, 2).to(torch.float32) / constants["full_scale"]
            normalised = (scaled - constants["mean"]) / constants["deviation"]
            features = torch.relu(conv(normalised, constants["stem.weight"], constants["stem.bias"], padding=1))
            local = torch.sigmoid(conv(features, constants["local.weight"], padding=1))
            logits = conv(features, constants["global.weight"], padding=1)
            chosen = logits.argmax(1, keepdim=True)
            solid = (chosen == constants["foreground"]).to(torch.float32)
            alpha = torch.where(chosen == constants["unknown"], local, solid)
            found = {"alpha": alpha, "local_alpha": local, "global_logits": logits}
            return tuple(found[name] for name in outputs)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which versions of PyTorch it was tested with
        import coreai_torch

        traced = torch.export.export(Network(), (torch.zeros(sides, dtype=torch.uint8),))
        traced = traced.run_decompositions(coreai_torch.get_decomp_table())
        converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)
        converter.add_exported_program(traced, input_names=["image"], output_names=outputs)
        converter.to_coreai().save_asset(path)
