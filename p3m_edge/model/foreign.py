"""What is found under a checkpoint's name and is none, and what training scripts put around a state dict."""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from p3m_edge.errors import CheckpointError, shown

T = TypeVar("T")

NESTED = ("state_dict", "model_state_dict", "model", "net", "network")
"""Where in a dictionary a state dict may be."""

# PyTorch's own, which may stand anywhere in a name: of torch.compile, FSDP and activation checkpointing.
_WRAPPER = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Attributes that hold the network: of DataParallel, of Lightning's modules and of other people's.
_PREFIXES = ("module.", "model.", "net.", "network.")
_MOST_KINDS = 64  # of objects that are no tensors, in one file
_TERMINAL = re.compile(r"\x1b\[[0-9;]*m")
_REFUSED = re.compile(r"Unsupported global: GLOBAL ([\w.]+)")
_TEXTS = (
    (rb"version https://git-lfs\.github\.com/spec/", "a Git LFS pointer, not the file itself",
     "git lfs pull fetches the file"),
    (rb"<(!doctype html|html|head|body|\?xml)", "a web page, not a checkpoint",
     "the download failed, or needs a sign-in; a browser shows what the server said"),
)  # fmt: skip
UNREADABLE = (
    pickle.UnpicklingError, zipfile.BadZipFile, ArithmeticError, AssertionError, AttributeError, EOFError, ImportError,
    LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What ``torch.load`` raises on bytes that are not its own."""


class Unread:
    """Stands for whatever else is in a file: NumPy's numbers, paths, options of a script."""

    def __init__(self, *_values: object) -> None:
        return

    def __setstate__(self, _state: object) -> None:
        return


def without_wrappers(state: Mapping[str, T]) -> dict[str, T]:
    """The state without what wrappers of the network put before and between its names."""
    found = {_WRAPPER.sub("", key): value for key, value in state.items()}
    while prefix := next((one for one in _PREFIXES if found and all(key.startswith(one) for key in found)), None):
        found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found if len(found) == len(state) else dict(state)  # two of them may have one name


def unpickle(data: bytes, name: str) -> object:
    """What is in a file of ``torch.save``: tensors, numbers, texts and containers; all else is left out, and never run.

    Raises
    ------
    CheckpointError
        It is no such file, or is truncated.
    """
    _refuse_text(data, name)
    passed_over: list[str] = []
    while True:
        known: list[Any] = [(Unread, each) for each in passed_over]
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(known):
                warnings.simplefilter("ignore")  # about old ways to pickle, and about scripted archives
                return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except UNREADABLE as error:
            refused = _REFUSED.search(str(error))
            if refused and refused[1] not in passed_over and len(passed_over) < _MOST_KINDS:
                passed_over.append(refused[1])
                continue
            raise CheckpointError(
                f"{name} is not a PyTorch checkpoint, or is truncated: {_why(error)}",
                hint="expected safetensors, or a file of torch.save that holds tensors only",
            ) from error


def _refuse_text(data: bytes, name: str) -> None:
    """Name what is no checkpoint at all: a web page, a pointer of Git LFS, or another text."""
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for pattern, what, hint in _TEXTS:
        if re.match(pattern, start):
            raise CheckpointError(f"{name} is {what}", hint=hint)
    text = data[:512].decode("ascii", "replace")
    if len(data) > 8 and all(letter.isprintable() or letter in "\t\r\n" for letter in text) and "\ufffd" not in text:
        raise CheckpointError(f"{name} is a text, not a checkpoint; it begins with {shown(text[:50])}")


def _why(error: Exception) -> str:
    """Why a file could not be read, without PyTorch's advice to trust it."""
    text = _TERMINAL.sub("", " ".join(str(error).split()))
    if refused := _REFUSED.search(text):
        return f"it holds {refused[1]}, which is not read"
    inner = text.partition("WeightsUnpickler error: ")[2].partition(" Check the documentation")[0] or text
    foreign = "weights_only" in inner or inner.startswith("Unsupported operand")
    return "it is no pickle of tensors" if foreign else inner[:160] or type(error).__name__
