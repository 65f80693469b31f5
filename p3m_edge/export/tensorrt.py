"""The TensorRT targets: one ONNX graph whose types are the precision, for every version that builds strongly typed.

An engine is built of it by :mod:`p3m_edge.runtimes.engines.tensorrt.builder`, here or on the device. TensorRT 11 knows
no other precision than that of the graph, and TensorRT 10 and TensorRT for RTX take the same file.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3m_edge.errors import ArtefactError, MissingError, P3MEdgeError, UsageError
from p3m_edge.export import graph, parity, quantize_onnx, tensorrt_lint
from p3m_edge.export.calibration import PictureSet, open_calibration
from p3m_edge.export.describe import frame
from p3m_edge.export.ladder import Rung
from p3m_edge.export.precision import half_quantised, staying, to_half
from p3m_edge.export.ranges import Range, activation_ranges
from p3m_edge.export.request import ExportRequest
from p3m_edge.export.workbench import Built, Workbench
from p3m_edge.manifest import TYPED, Manifest
from p3m_edge.records import BuildRecord, ParityRecord
from p3m_edge.runtimes import cuda
from p3m_edge.runtimes.engines import tensorrt
from p3m_edge.runtimes.engines.tensorrt.builder import Tell, build_into, choose
from p3m_edge.runtimes.engines.tensorrt.compatibility import check_gpu, check_trust
from p3m_edge.runtimes.engines.tensorrt.options import check_profile, commands
from p3m_edge.targets import Target

MINIMUM_VERSION = "10.0"
"""The oldest TensorRT that builds strongly typed."""
RANGED = 32
"""Calibration pictures that the search for overflow looks at, at most, besides those of the parity gate.

The chance that one more picture of their kind leaves a range that 32 have shown is 3 %, and it may by a factor of four
before anything overflows (:data:`p3m_edge.export.precision.HEADROOM`)."""


def check(target: Target, request: ExportRequest) -> None:
    """Whether a request fits a TensorRT target.

    Raises
    ------
    UsageError
        The sizes that the engine is for do not fit the input.
    MissingError
        AutoCast is wanted and not installed.
    """
    if target.engine != "tensorrt":
        return
    profile, size = request.engine.profile, (request.width, request.height)
    check_profile(profile, frame(request))
    if profile is not None and not all(
        low <= side <= high for low, side, high in zip(profile.minimum, size, profile.maximum, strict=True)
    ):
        raise UsageError(
            f"{target.name} is verified with {size[0]}x{size[1]}, which its engine would not take",
            hint="give a --size from --min to --max",
        )
    if target.precision == "fp16" and request.half == "autocast" and not importlib.util.find_spec("modelopt"):
        raise _no_autocast()


def check_builder(request: ExportRequest) -> None:
    """Whether the options fit the builder that is here, before anything is made.

    Raises
    ------
    UsageError
        They do not.
    MissingError
        None is here, and the request asks for the engine.
    """
    try:
        choose(request.engine)
    except MissingError:
        if request.require_engine:
            raise


def open_pictures(targets: Sequence[Target], request: ExportRequest) -> PictureSet | None:
    """What is looked at for overflow besides the parity pictures; None: no target needs it.

    Raises
    ------
    UsageError, InputError
        As :func:`p3m_edge.export.calibration.open_calibration`.
    """
    if request.half != "own" or not any(one.engine == "tensorrt" and one.precision == "fp16" for one in targets):
        return None
    return open_calibration(request.calibration, count=min(request.calibration_count, RANGED), seed=request.seed)


def build(bench: Workbench, target: Target, folder: Path) -> Built:
    """Write the typed graph of ``trt-fp32`` or ``trt-fp16`` into ``folder``; for the errors see :func:`write`."""
    model = source(bench)
    kept: tuple[str, ...] = ()
    analysed = target.precision == "fp16" and bench.request.half == "own"
    if analysed:
        model, kept = to_half(model, bench.images_for_ranges())
    elif target.precision == "fp16":
        model = autocast(model, bench.network_images()[0])
        kept = single_nodes(model)
    write(model, bench.request, folder)
    return Built(MINIMUM_VERSION, kept, "typed", looked_at=analysed)


def source(bench: Workbench) -> Any:
    """The float32 graph, with the frame cast before it is transposed: TensorRT takes uint8 into a cast alone."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(bench.graph())
    nodes = list(model.graph.node)
    transpose = next(node for node in nodes if graph.INPUT in node.input)
    cast = next(node for node in nodes if transpose.output[0] in node.input)
    first, last = transpose.input[0], cast.output[0]
    cast.input[0], cast.output[0] = first, f"{cast.name}:0"
    transpose.input[0], transpose.output[0] = cast.output[0], f"{transpose.name}:0"
    others = [node for node in nodes if node not in (transpose, cast)]
    for node in others:
        node.input[:] = [transpose.output[0] if name == last else name for name in node.input]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend([cast, transpose, *others])
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def write(model: Any, request: ExportRequest, folder: Path) -> None:
    """Look at a typed graph as TensorRT would, and write it.

    Raises
    ------
    P3MEdgeError
        TensorRT would refuse it; the message names a node and its module.
    """
    findings = tensorrt_lint.lint(model, profile=request.engine.profile is not None)
    bad = [finding for finding in findings if finding.severity == "error"]
    if bad:
        more = f", and {len(bad) - 1} more findings" if len(bad) > 1 else ""
        raise P3MEdgeError(f"TensorRT would refuse the graph: {bad[0]}{more}", hint=bad[0].advice)
    graph.save(model, folder / TYPED)


def rungs(bench: Workbench, ranges: Mapping[str, Range]) -> tuple[Rung, ...]:
    """The ways to make ``trt-int8``: Q/DQ nodes round what is weighted, always symmetric, and half precision elsewhere.

    ``ranges`` are those of the float32 graph's activations on the calibration pictures.
    """
    model = source(bench)
    own = activation_ranges(model, bench.network_images())
    kept = {*staying(model, ranges), *staying(model, own)}

    def save(quantised: Any, nodes: Sequence[str], folder: Path) -> Built:
        typed, single = half_quantised(quantised, kept)
        write(typed, bench.request, folder)
        return Built(MINIMUM_VERSION, single, "typed")

    return quantize_onnx.rungs(model, ranges, "s8s8", save, inputs_alone=True)


def build_engine(
    bench: Workbench, manifest: Manifest, folder: Path, record: ParityRecord, tell: Tell
) -> tuple[Manifest, ParityRecord]:
    """Build the engine of a verified graph, where that can be done, and verify it too, where it runs.

    Parameters
    ----------
    bench, manifest, folder
        The artefact; the folder gets the engine.
    record
        The parity of the graph.
    tell
        Told of the builder's progress, and of what in the graph is slow.

    Returns
    -------
    tuple
        The manifest with what became of the engine, and the parity of what was run at last.

    Raises
    ------
    MissingError
        No builder for it is here, and the request asks for the engine.
    P3MEdgeError
        As :func:`p3m_edge.runtimes.engines.tensorrt.builder.build_into`.
    """
    request = bench.request
    for line in tensorrt_lint.advice(tensorrt_lint.lint_file(folder / TYPED, profile=True)):
        tell(line)
    try:
        built = build_into(manifest, folder, request.engine, tell)
    except MissingError as error:
        if request.require_engine:
            raise
        engine = replace(manifest.engine, reason=str(error), commands=commands(manifest, request.engine))
        return replace(manifest, engine=engine), record
    build = built.engine.build
    if build is None or build.gpu is None:
        return built, record
    running = replace(built, verified=replace(built.verified, level="device"))
    try:
        fits_here(build, folder / built.model_file)
    except (ArtefactError, MissingError) as error:
        tell(f"the engine was built and not run: {error}")
        return built, record
    return running, parity.check(bench, running, folder, record.limits, record.loosened)


def fits_here(build: BuildRecord, model: Path) -> None:
    """Whether the engine that was built can be run on this machine too.

    Raises
    ------
    ArtefactError
        It is for other GPUs, or brings code that nobody trusts.
    MissingError
        What runs engines is not here.
    """
    tensorrt.require()
    check_gpu(build, cuda.find(0), model)
    check_trust(build, model)


def autocast(model: Any, image: NDArray[np.uint8]) -> Any:
    """Half precision where NVIDIA's AutoCast (ModelOpt) wants it, by what the network makes of a picture.

    It is not a dependency; its test is skipped where it is not installed. The gates judge what it gives as they judge
    our own.
    Without a picture it would draw random numbers, of another shape where a size is open.

    Parameters
    ----------
    model
        A float32 ``onnx.ModelProto``.
    image
        Network input, uint8 ``[N, H, W, 3]``.

    Raises
    ------
    MissingError
        ModelOpt cannot be imported.
    P3MEdgeError
        It fails.
    """
    module = _autocast()
    with tempfile.TemporaryDirectory(prefix="p3m-edge-") as temporary:
        path, pictures = Path(temporary) / "model.onnx", Path(temporary) / "pictures.npz"
        graph.save(model, path)
        np.savez(pictures, allow_pickle=False, **{graph.INPUT: image})
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)  # it sets up its own loggers, and tells them of each step
        try:
            return module.convert_to_mixed_precision(
                onnx_path=str(path), low_precision_type="fp16", keep_io_types=True, calibration_data=str(pictures)
            )
        except Exception as error:  # ModelOpt's own, ONNX Runtime's, ...
            raise P3MEdgeError(
                f"AutoCast failed: {' '.join(str(error).split())}",
                hint="leave out --fp16-backend: our own analysis needs nothing",
            ) from error
        finally:
            logging.disable(before)


def single_nodes(model: Any) -> tuple[str, ...]:
    """The names of the nodes that compute in float32."""
    import onnx

    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    single = {
        entry.name
        for entry in (*typed.value_info, *typed.output)
        if entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    return tuple(n.name for n in typed.node if n.op_type != "Cast" and single.intersection([*n.input, *n.output]))


def _autocast() -> ModuleType:
    try:
        return importlib.import_module("modelopt.onnx.autocast")
    except ImportError as error:
        raise _no_autocast(error) from error


def _no_autocast(cause: ImportError | None = None) -> MissingError:
    because = f" ({cause})" if cause is not None else ""
    return MissingError(f"NVIDIA's AutoCast cannot be imported{because}", hint='pip install "nvidia-modelopt[onnx]"')
