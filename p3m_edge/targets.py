"""The tables of architectures and targets: which artefacts exist, and what each one must satisfy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from p3m_edge.errors import one_of

EngineName = Literal["onnxruntime", "openvino", "coreml", "coreai", "litert", "tensorrt"]
Precision = Literal["fp32", "fp16", "int8", "pal6", "pal4", "w8a8"]

ARCHS = ("r34", "swin-t", "vitae-s", "mobile")
"""The architectures: the published ones are named by their encoders, ``mobile`` is ours."""


@dataclass(frozen=True)
class Limits:
    """Parity limits against the eager deploy module in float32. None: reported, not gated.

    Attributes
    ----------
    logits_mean
        Mean absolute error of the global logits, as a share of their range (max - min).
    local_mean
        Mean absolute error of the local alpha (0..1).
    pixel_tolerance, pixel_share
        At most ``pixel_share`` of the pixels may have a local alpha off by more than ``pixel_tolerance``.
    flips
        Largest share of pixels whose class (background, unknown, foreground) changes.
    alpha_mean, mse, grad_mean
        Largest SAD, MSE and GRAD between the two alphas, each as a pixel's mean, so that the picture's size does not
        matter.
    """

    logits_mean: float | None
    local_mean: float
    pixel_tolerance: float
    pixel_share: float
    flips: float
    alpha_mean: float | None = None
    mse: float | None = None
    grad_mean: float | None = None


FP32 = Limits(logits_mean=1e-5, local_mean=1e-5, pixel_tolerance=1e-3, pixel_share=1e-3, flips=1e-4)
FP16 = Limits(
    logits_mean=None, local_mean=2e-3, pixel_tolerance=1e-2, pixel_share=1e-2, flips=2e-3,
    alpha_mean=2e-3, mse=1e-3, grad_mean=3.5e-5,
)  # fmt: skip
INT8 = Limits(logits_mean=None, local_mean=1e-1, pixel_tolerance=1e-1, pixel_share=3e-1, flips=3e-1)
"""Wide: what an INT8 artefact is worth is measured on pictures (:mod:`p3m_edge.export.quantize.accuracy`). These limits
tell a broken file from a sound one, of any network. Noise is one of the pictures, which is far from all that INT8 is
calibrated for: sound artefacts flip up to 16 % of its pixels. What tells a broken engine from a sound one are narrower
limits, which an artefact gets from its own errors (:func:`p3m_edge.export.parity.lasting_limits`)."""

CALIBRATION_PICTURES = 128
"""What INT8 is calibrated with, if nothing else is said; of a folder with fewer pictures, all."""
MAX_DROP = 0.05
"""By which share the SAD of an INT8 artefact may rise, if nothing else is said."""
BUDGET_MINUTES, ATTEMPTS = 60, 16
"""How long to look for an INT8 artefact that meets its gate, and in how many attempts, if nothing else is said."""

SYSTEMS = {16: "macOS13", 17: "macOS14", 18: "macOS15"}
"""The releases of iOS that a Core ML package can be made for, and the macOS of the same year."""
SMOOTHING, MAX_SMOOTHING = 0.3, 0.9
"""The weight of the matte before in that of the next frame, if nothing else is said, and the largest: beyond, the last
steps towards the next matte are lost in the rounding of the state. With 0.3, flicker that differs from frame to frame
keeps 73 % of its standard deviation, and an edge that moved is gone by 97 % after three frames."""


@dataclass(frozen=True)
class Target:
    """One row of the table.

    Attributes
    ----------
    name
        ``<engine>-<precision>``, as typed on the command line.
    engine
        The engine of :mod:`p3m_edge.runtimes` that runs the artefact.
    precision
        The precision that lives in the graph.
    model_file
        The file inside the artefact folder that the engine loads.
    build_modules
        Import names that building needs, besides torch.
    extras
        The extras of this package that bring ``build_modules``.
    limits
        The parity gate.
    """

    name: str
    engine: EngineName
    precision: Precision
    model_file: str
    build_modules: tuple[str, ...]
    extras: tuple[str, ...]
    limits: Limits

    @property
    def needs_calibration(self) -> bool:
        """Whether it is calibrated with pictures, and made in several attempts."""
        return self.precision == ("w8a8" if self.engine == "coreml" else "int8")

    @property
    def weight_only(self) -> bool:
        """Whether its weights alone have fewer bits."""
        return self.engine == "coreml" and self.precision in ("int8", "pal6", "pal4")

    @property
    def experimental(self) -> bool:
        """Whether it stands on a package that is not finished, and may change with it."""
        return self.engine == "coreai"


_ONNX = ("onnx", "onnxscript", "onnxruntime")
_OPENVINO = ("onnx", "onnxscript", "openvino")
_LITERT = ("litert_torch", "ai_edge_litert")
_LITERT_FEWER = (*_LITERT, "litert_quantizer")
_LITERT_EXTRAS = ("torch", "litert-export")

TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("onnx-fp32", "onnxruntime", "fp32", "model.onnx", _ONNX, ("torch", "onnx"), FP32),
        Target("onnx-fp16", "onnxruntime", "fp16", "model.onnx", _ONNX, ("torch", "onnx"), FP16),
        Target("onnx-int8", "onnxruntime", "int8", "model.onnx", _ONNX, ("torch", "onnx"), INT8),
        Target("openvino-fp32", "openvino", "fp32", "model.xml", _OPENVINO, ("torch", "openvino"), FP32),
        Target("openvino-fp16", "openvino", "fp16", "model.xml", _OPENVINO, ("torch", "openvino"), FP16),
        Target("openvino-int8", "openvino", "int8", "model.xml", (*_OPENVINO, "nncf"), ("torch", "quantize"), INT8),
        Target("coreml-fp32", "coreml", "fp32", "model.mlpackage", ("coremltools",), ("torch", "coreml"), FP32),
        Target("coreml-fp16", "coreml", "fp16", "model.mlpackage", ("coremltools",), ("torch", "coreml"), FP16),
        Target("coreml-int8", "coreml", "int8", "model.mlpackage", ("coremltools",), ("torch", "coreml"), INT8),
        Target("coreml-pal6", "coreml", "pal6", "model.mlpackage", ("coremltools",), ("torch", "coreml"), INT8),
        Target("coreml-pal4", "coreml", "pal4", "model.mlpackage", ("coremltools",), ("torch", "coreml"), INT8),
        Target("coreml-w8a8", "coreml", "w8a8", "model.mlpackage", (*_ONNX, "coremltools"), ("torch", "coreml"), INT8),
        Target("coreai-fp16", "coreai", "fp16", "model.aimodel", ("coreai_torch",), ("torch", "coreai"), FP16),
        Target("litert-fp32", "litert", "fp32", "model.tflite", _LITERT, _LITERT_EXTRAS, FP32),
        Target("litert-fp16", "litert", "fp16", "model.tflite", _LITERT_FEWER, _LITERT_EXTRAS, FP16),
        Target("litert-int8", "litert", "int8", "model.tflite", (*_ONNX, *_LITERT_FEWER), _LITERT_EXTRAS, INT8),
        Target("trt-fp32", "tensorrt", "fp32", "model.engine", _ONNX, ("torch",), FP32),
        Target("trt-fp16", "tensorrt", "fp16", "model.engine", _ONNX, ("torch",), FP16),
        Target("trt-int8", "tensorrt", "int8", "model.engine", _ONNX, ("torch",), INT8),
    )
}


def get(name: str) -> Target:
    """The target of that name.

    Raises
    ------
    UsageError
        The name is unknown; the hint suggests the closest one.
    """
    return TARGETS[one_of("target", name, TARGETS)]
