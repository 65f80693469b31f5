"""Any other ONNX matting model, described by a small TOML file; ``docs/evaluation.md`` shows some."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import DTypeLike

from p3m_edge.arrays import Array
from p3m_edge.errors import InputError, UsageError
from p3m_edge.evaluate.method import Image, Method, MethodInfo, alpha_at_size, file_hash
from p3m_edge.metrics import BACKGROUND, FOREGROUND
from p3m_edge.preprocess import scale_to
from p3m_edge.resources import thread_limit
from p3m_edge.smallfile import read_toml

_SLACK = 0.01  # what rounding and resampling inside a model may leave outside of 0..1
_NEARLY = 1.0  # a model that ends without a limit leaves no more outside
_LIKELY = (
    (1 + _NEARLY, 'an alpha without a limit: values = "clipped" limits it, as such models do themselves'),
    (255 * (1 + _SLACK), 'levels of 0 to 255: values = "levels"'),
)
"""What values are that reach so far above, and no further below than an alpha's; all others are logits."""
_LOGITS = 'logits, of which a sigmoid makes an alpha: values = "logits"'
_TYPES = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8,
}  # fmt: skip

_LEVELS = {"unit": (0, 0.5, 1), "levels": (0, 128, 255), "classes": (0, 1, 2)}


class PictureInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the model wants the picture: ``(pixel * scale - mean) / std``; integer inputs get the pixels as they are."""

    name: str | None = None
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channels: Literal["RGB", "BGR"] = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


Side = Annotated[int, msgspec.Meta(ge=1)]


class InputSize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model's input size.

    ``fixed``: ``width`` x ``height``. ``short``: the shorter side becomes ``side``, the aspect stays; a picture with
    one side above and one below keeps its size. ``own``: the picture's. The last two are then rounded down to
    ``multiple_of``.
    """

    rule: Literal["fixed", "short", "own"] = "own"
    width: Side | None = None
    height: Side | None = None
    side: Side | None = None
    multiple_of: Side = 1

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the input for a picture."""
        if self.width is not None and self.height is not None:
            return self.height, self.width
        if self.side is not None and not min(height, width) <= self.side <= max(height, width):
            ratio = self.side / min(height, width)
            height, width = int(height * ratio + 1e-6), int(width * ratio + 1e-6)
        step = self.multiple_of
        return max(step, height - height % step), max(step, width - width % step)

    @property
    def words(self) -> str:
        """For the protocol."""
        step = f", multiples of {self.multiple_of}" if self.multiple_of > 1 else ""
        if self.rule == "fixed":
            return f"{self.width}x{self.height}"
        return (f"shorter side {self.side}" if self.rule == "short" else "full size") + step


class Trimap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The second input of a trimap-based model: one channel of :data:`_LEVELS`, or ``onehot``, three.

    These are background, unknown and foreground.
    """

    name: str
    encoding: Literal["unit", "levels", "classes", "onehot"] = "unit"


class Constant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A further input that is always the same, or the factor that brings the longer side to ``longest_side``."""

    shape: tuple[int, ...] = (1,)
    value: float = 0.0
    longest_side: int | None = None

    def of(self, height: int, width: int, dtype: DTypeLike) -> Array:
        """The input for a network size."""
        scaled = None if self.longest_side is None else min(1.0, self.longest_side / max(height, width))
        return np.full(self.shape, self.value if scaled is None else scaled, dtype)


Values = Literal["unit", "clipped", "levels", "logits"]
"""What a model gives: 0..1; the same, to be limited to it; 0..255; or what a sigmoid makes 0..1 of."""


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The TOML file."""

    file: str
    name: str | None = None
    input: PictureInput = PictureInput()
    size: InputSize = InputSize()
    output: str | None = None
    values: Values = "unit"
    trimap: Trimap | None = None
    constants: dict[str, Constant] = msgspec.field(default_factory=dict)


def describe(path: Path) -> Description:
    """Read a description; :class:`InputError` if that cannot be done, :class:`UsageError` if it is none."""
    try:
        found = msgspec.convert(read_toml(path), Description)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {error}", hint="docs/evaluation.md describes the keys") from error
    given = [name for name in ("height", "width", "side") if getattr(found.size, name) is not None]
    wanted = {"fixed": ["height", "width"], "short": ["side"], "own": []}[found.size.rule]
    if given != wanted:
        need = " and ".join(wanted) or "neither width, height nor side"
        raise UsageError(f"{path}: the size rule {found.size.rule!r} takes {need}")
    if 0 in found.input.std:
        raise UsageError(f"{path}: std must not be 0")
    return found


def onnx_method(path: Path, threads: int | None = None) -> Method:
    """An ONNX model with one input (or two, with the trimap), run on the processor by ONNX Runtime.

    Raises
    ------
    InputError, UsageError, MissingError
        The description or the model cannot be read, or they do not fit; ONNX Runtime is not installed.
    """
    text = describe(path)
    identity = file_hash(path, path.parent / text.file)
    model = _OnnxModel(path, text, threads)
    info = MethodInfo(text.name or path.stem, "onnx", trimap_based=text.trimap is not None, identity=identity)
    return Method(info, lambda _set: (f"{text.size.words}, bilinear", model.predict))


class _OnnxModel:
    def __init__(self, path: Path, text: Description, threads: int | None) -> None:
        from p3m_edge.runtimes.engines import onnxruntime as onnxrt

        self._text, model = text, path.parent / text.file
        ort = onnxrt.require()
        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        settings.intra_op_num_threads = threads or thread_limit() or 0
        try:
            self._session = ort.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputError(f"{model} cannot be loaded: {' '.join(str(error).split())}") from error
        self._types = {value.name: value.type for value in self._session.get_inputs()}
        self._input, self._output = self._names(path)

    def _names(self, path: Path) -> tuple[str, str]:
        """The picture's input and the alpha's output; every input of the model must be accounted for."""
        text = self._text
        further = {*text.constants, *([text.trimap.name] if text.trimap else [])}
        left = [name for name in self._types if name not in further]
        picture = text.input.name or (left[0] if len(left) == 1 else None)
        if picture is None or {picture, *further} != set(self._types):
            raise UsageError(
                f"{path}: the model's inputs are {', '.join(self._types)}, which the description does not match",
                hint="name the picture's in [input], the trimap's in [trimap], all others in [constants]",
            )
        unknown = sorted({kind for kind in self._types.values() if kind not in _TYPES})
        if unknown:
            raise UsageError(f"{path}: inputs of type {', '.join(unknown)} are not supported")
        outputs = [value.name for value in self._session.get_outputs()]
        output = text.output or outputs[0]
        if output not in outputs or (text.output is None and len(outputs) > 1):
            raise UsageError(f"{path}: name the alpha's output: one of {', '.join(outputs)}", hint='output = "..."')
        return picture, output

    def predict(self, rgb: Image, trimap: Image) -> Array:
        height, width = self._text.size.of(*trimap.shape)
        feed = {self._input: self._picture(scale_to(rgb, height, width))}
        if self._text.trimap is not None:
            resized = cv2.resize(trimap, (width, height), interpolation=cv2.INTER_NEAREST)
            feed[self._text.trimap.name] = self._trimap(self._text.trimap, np.asarray(resized, dtype=np.uint8))
        for name, constant in self._text.constants.items():
            feed[name] = constant.of(height, width, _TYPES[self._types[name]])
        try:
            (alpha,) = self._session.run([self._output], feed)
        except Exception as error:
            raise InputError(f"the model failed at {width}x{height}: {' '.join(str(error).split())}") from error
        return alpha_at_size(_shares(np.asarray(alpha), self._text), *trimap.shape)

    def _picture(self, rgb: Array) -> Array:
        text, dtype = self._text.input, _TYPES[self._types[self._input]]
        pixels: Array = rgb if text.channels == "RGB" else rgb[..., ::-1]
        if dtype is not np.uint8:
            scaled = pixels.astype(np.float32) * np.float32(text.scale)
            pixels = (scaled - np.asarray(text.mean, np.float32)) / np.asarray(text.std, np.float32)
        if text.layout == "NCHW":
            pixels = pixels.transpose(2, 0, 1)
        return np.ascontiguousarray(pixels[None], dtype=dtype)

    def _trimap(self, text: Trimap, trimap: Image) -> Array:
        classes = 1 + (trimap == FOREGROUND).astype(np.int8) - (trimap == BACKGROUND)
        if text.encoding == "onehot":
            planes = np.stack([classes == value for value in range(3)])
        else:
            planes = np.asarray(_LEVELS[text.encoding], np.float32)[classes][None]
        if self._text.input.layout == "NHWC":
            planes = planes.transpose(1, 2, 0)
        return np.ascontiguousarray(planes[None], dtype=_TYPES[self._types[text.name]])


def _shares(values: Array, text: Description) -> Array:
    """What the model gives as shares of 0..1; :class:`UsageError` for something else than its description says."""
    if text.values == "logits":
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-values.astype(np.float64))))
    if text.values == "clipped":
        return np.clip(values, 0, 1)
    if not values.size or not np.isfinite(values).all():
        return values  # which is refused as it is
    limit = 255.0 if text.values == "levels" else 1.0
    low, high = float(values.min()), float(values.max())
    if low < -_SLACK * limit or high > (1 + _SLACK) * limit:
        likely = next((what for most, what in _LIKELY if low >= -_NEARLY and high <= most), _LOGITS)
        raise UsageError(
            f"{text.name or text.file} gives values from {low:.4g} to {high:.4g}, which are no alpha of 0 to {limit:g}",
            hint=f"probably {likely}; see docs/evaluation.md",
        )
    return values / limit
