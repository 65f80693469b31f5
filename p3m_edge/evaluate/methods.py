"""From what a user writes after ``--model`` to a method: a checkpoint, an artefact, a description, or a name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from numpy.typing import NDArray

from p3m_edge.errors import InputError, MissingError, UsageError, suggestion
from p3m_edge.evaluate.baselines import BASELINES, PYMATTING, BackgroundMethod, FaceBoxMethod, PymattingMethod
from p3m_edge.evaluate.method import Image, Method, MethodInfo, Predict, file_hash, kind_of_path
from p3m_edge.evaluate.onnx_model import OnnxMethod
from p3m_edge.preprocess import from_network, to_network

if TYPE_CHECKING:
    import torch

Strategy = Literal["resize", "hybrid", "deployed"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
NAMES = (*BASELINES, *PYMATTING)
"""What ``--model`` may name instead of a file."""

# The publication gives small pictures a least side for Swin-T, on this set alone.
_LEAST_SIDE_SETS = ("realworldportrait-636", "rwp-636")


@dataclass(frozen=True)
class Options:
    """How methods are run.

    Attributes
    ----------
    strategy
        Of checkpoints: ``resize`` or ``hybrid`` as published (:mod:`p3m_edge.evaluate.strategies`), or ``deployed``:
        at one size, ``(width, height)``, prepared as apps do (:mod:`p3m_edge.preprocess`).
    device, threads
        Of checkpoints and artefacts, None: the processor; None: the engine's choice.
    """

    strategy: Strategy = "resize"
    size: tuple[int, int] = (512, 512)
    device: str | None = None
    threads: int | None = None


def open_method(text: str, options: Options) -> Method:
    """A method: one of :data:`NAMES`, an artefact's folder, a TOML description of an ONNX model, or a checkpoint.

    :class:`UsageError` if there is no such thing, another :class:`P3MEdgeError` if it cannot be loaded.
    """
    if text in PYMATTING:
        return PymattingMethod(text)
    if text in BASELINES:
        return BackgroundMethod() if text == "background" else FaceBoxMethod()
    path = Path(text).expanduser()
    there = kind_of_path(path)
    if there is None:
        hint = suggestion(text, NAMES) or "a file, a folder, or one of " + ", ".join(NAMES)
        raise UsageError(f"there is no model {text!r}", hint=hint)
    if there == "folder":
        return ArtefactMethod(path, options)
    if path.suffix == ".toml":
        if options.device not in (None, "cpu"):
            raise UsageError(f"{path}: models with a description run on the processor, not on {options.device!r}")
        return OnnxMethod(path, options.threads)
    if path.suffix == ".onnx":
        raise UsageError(f"{path}: an ONNX model needs a description", hint="write a TOML file: docs/evaluation.md")
    return CheckpointMethod(path, options)


class CheckpointMethod(Method):
    """P3M-Net in PyTorch."""

    def __init__(self, path: Path, options: Options) -> None:
        from p3m_edge.model import read_checkpoint
        from p3m_edge.model.deploy import Deploy

        network, info = read_checkpoint(path)
        if options.threads is not None:
            import torch

            torch.set_num_threads(options.threads)
        self._device = _torch_device(options.device)
        self._where = "" if self._device.type == "cpu" else f", on {self._device.type}"
        self._arch, self._options = info.arch, options
        if options.strategy == "deployed":
            self._deployed = Deploy(network, outputs="alpha").to(self._device)
        else:
            self._network = network.to(self._device)
        self.info = MethodInfo(path.stem, "checkpoint", False, info.sha256, info.trained)

    def prepare(self, set_name: str) -> tuple[str, Predict]:
        strategy = self._options.strategy
        if strategy == "deployed":
            width, height = self._options.size
            return f"deployed, {width}x{height}{self._where}", self._predict_deployed
        from p3m_edge.evaluate import strategies

        small = self._arch == "swin-t" and set_name.lower() in _LEAST_SIDE_SETS
        minimum = strategies.SWIN_MINIMUM if small else None

        def predict(rgb: Image, _trimap: Image) -> NDArray[Any]:
            with _memory_errors():
                return strategies.predict(self._network, rgb, strategy, minimum_side=minimum)

        least = f", sides of at least {minimum}" if minimum else ""
        return f"{strategy.upper()}{least}{self._where}", predict

    def _predict_deployed(self, rgb: Image, _trimap: Image) -> NDArray[Any]:
        import torch

        width, height = self._options.size
        image, geometry = to_network(rgb, height, width)
        with _memory_errors(), torch.inference_mode():
            alpha = self._deployed(torch.from_numpy(image)[None].to(self._device))
        return from_network(alpha[0, 0].cpu().numpy(), geometry)


class ArtefactMethod(Method):
    """An exported artefact, run as apps run it."""

    def __init__(self, folder: Path, options: Options) -> None:
        from p3m_edge.runtimes import Matting

        self._matting = Matting(folder, device=options.device, threads=options.threads)
        info = self._matting.info
        size = "" if info.width is None else f", {info.width}x{info.height}"
        self._how = f"artefact {info.target}{size}, {info.engine.device}"
        identity = file_hash(folder / "manifest.json")
        self.info = MethodInfo(folder.resolve().name, "artefact", False, identity, info.trained)

    def prepare(self, set_name: str) -> tuple[str, Predict]:
        return self._how, lambda rgb, _trimap: self._matting(rgb)

    def close(self) -> None:
        self._matting.close()


def _torch_device(name: str | None) -> torch.device:
    import torch

    try:
        device = torch.device(name or "cpu")
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}", hint="for example cpu, cuda, cuda:1, mps") from error
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise MissingError(f"the device {name!r} is not here: {str(error).splitlines()[0]}") from error
    return device


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn PyTorch's own errors about memory into one of the picture."""
    try:
        yield
    except RuntimeError as error:
        if "memory" not in str(error).lower():
            raise
        raise InputError("the picture does not fit into memory at this strategy's size") from error
