"""From what a user writes after ``--model`` to a method: a checkpoint, an artefact, a description, or a name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from p3m_edge.arrays import Array
from p3m_edge.errors import InputError, MissingError, UsageError, suggestion
from p3m_edge.evaluate.baselines import BASELINES, PYMATTING, background_method, face_box_method, pymatting_method
from p3m_edge.evaluate.method import Image, Method, MethodInfo, Predict, file_hash, kind_of_path
from p3m_edge.evaluate.onnx_model import onnx_method
from p3m_edge.preprocess import to_network
from p3m_edge.refine import guide, refine

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
        return pymatting_method(text)
    if text in BASELINES:
        return background_method() if text == "background" else face_box_method()
    path = Path(text).expanduser()
    there = kind_of_path(path)
    if there is None:
        hint = suggestion(text, NAMES) or "a file, a folder, or one of " + ", ".join(NAMES)
        raise UsageError(f"there is no model {text!r}", hint=hint)
    if there == "folder":
        return artefact_method(path, options)
    if path.suffix == ".toml":
        if options.device not in (None, "cpu"):
            raise UsageError(f"{path}: models with a description run on the processor, not on {options.device!r}")
        return onnx_method(path, options.threads)
    if path.suffix == ".onnx":
        raise UsageError(f"{path}: an ONNX model needs a description", hint="write a TOML file: docs/evaluation.md")
    return checkpoint_method(path, options)


def checkpoint_method(path: Path, options: Options) -> Method:
    """P3M-Net in PyTorch."""
    import torch

    from p3m_edge.evaluate import strategies
    from p3m_edge.model import read_checkpoint
    from p3m_edge.model.deploy import Deploy

    network, info = read_checkpoint(path)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device, (width, height), strategy = _torch_device(options.device), options.size, options.strategy
    where = "" if device.type == "cpu" else f", on {device.type}"
    if strategy == "deployed":
        deployed = Deploy(network, outputs="alpha").to(device)

        def predict(rgb: Image, _trimap: Image) -> Array:
            image, geometry = to_network(rgb, height, width)
            with _memory_errors(), torch.inference_mode():
                alpha = deployed(torch.from_numpy(image)[None].to(device))
            return refine(alpha[0, 0].cpu().numpy(), geometry, guide(rgb, image, geometry, "RGB"))

        def prepare(set_name: str) -> tuple[str, Predict]:
            return f"deployed, {width}x{height}{where}", predict

    else:
        network = network.to(device)

        def prepare(set_name: str) -> tuple[str, Predict]:
            small = info.arch == "swin-t" and set_name.lower() in _LEAST_SIDE_SETS
            minimum = strategies.SWIN_MINIMUM if small else None

            def predict(rgb: Image, _trimap: Image) -> Array:
                with _memory_errors():
                    return strategies.predict(network, rgb, strategy, minimum_side=minimum)

            least = f", sides of at least {minimum}" if minimum else ""
            return f"{strategy.upper()}{least}{where}", predict

    return Method(MethodInfo(path.stem, "checkpoint", False, info.sha256, info.trained), prepare)


def artefact_method(folder: Path, options: Options) -> Method:
    """An exported artefact, run as apps run it."""
    from p3m_edge.runtimes import Matting

    matting = Matting(folder, device=options.device, threads=options.threads)
    info = matting.info
    size = "" if info.width is None else f", {info.width}x{info.height}"
    how = f"artefact {info.target}{size}, {info.engine.device}"
    identity = file_hash(folder / "manifest.json")
    described = MethodInfo(folder.resolve().name, "artefact", False, identity, info.trained)
    return Method(described, lambda _set: (how, lambda rgb, _trimap: matting(rgb)), matting.close)


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
