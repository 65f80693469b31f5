"""What the benchmarks of mattes share: the networks to be measured, and the command line of a script."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from p3m_edge.data.sample import Image
from p3m_edge.errors import P3MEdgeError
from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.compose import composite
from p3m_edge.runtimes.contract import engine_module
from p3m_edge.table import NONE, Table

Predict = Callable[[Image], NDArray[np.float32]]
"""From a picture, uint8 ``[H, W, 3]``, RGB, to its alpha, float32 ``[H, W]``."""
_PLAIN = (60, 160, 90)


def opened(folder: Path, threads: int | None, dtype: Literal["float32", "uint8"] = "float32") -> Matting:
    """An artefact, as an app opens it, whatever there is to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Matting(folder, threads=threads, dtype=dtype)


def artefact(folder: Path, threads: int | None) -> Predict:
    """As an app runs it."""
    matting = opened(folder, threads)
    return lambda rgb: np.asarray(matting(rgb), dtype=np.float32)


def selfie() -> dict[str, Predict]:
    """MediaPipe's Selfie Segmentation (general, 256x256) by its name; nothing where MediaPipe is not installed."""
    if importlib.util.find_spec("mediapipe") is None:
        return {}
    import mediapipe

    network = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
    return {"MediaPipe Selfie": lambda rgb: np.clip(network.process(rgb).segmentation_mask, 0, 1).astype(np.float32)}


def isnet(file: Path) -> Predict:
    """IS-Net for general use (DIS, ECCV 2022) from an ONNX file, at 1024x1024, in OpenVINO."""
    openvino = engine_module("openvino").require()
    core = openvino.Core()
    model = core.read_model(file)
    compiled = core.compile_model(openvino.Model([model.outputs[0].node], model.get_parameters(), "isnet"), "CPU")

    def predict(rgb: Image) -> NDArray[np.float32]:
        shrinks = max(rgb.shape[:2]) > 1024
        square = cv2.resize(rgb, (1024, 1024), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        tensor = ((square.astype(np.float32) - 128) / 256).transpose(2, 0, 1)[None]
        alpha = np.clip(compiled(tensor)[0][0, 0], 0, 1)
        return np.asarray(cv2.resize(alpha, rgb.shape[1::-1]), dtype=np.float32)

    return predict


def on_plain(rgb: Image, alpha: NDArray[np.float32]) -> Image:
    """The person of a picture before a plain colour."""
    return composite(rgb, alpha, _PLAIN)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every script has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--threads", type=int, metavar="N", help="of the artefacts' engines")
    made.add_argument("--json", action="store_true", help="one document on the standard output")
    return made


def run(
    options: argparse.ArgumentParser, measure: Callable[[argparse.Namespace], tuple[object, Iterable[Table]]],
    given: Sequence[str] | None,
) -> int:  # fmt: skip
    """Parse the words ``given`` (None: the command line's), measure, print the document (``--json``) or the tables.

    Returns
    -------
    int
        The exit code, after one line for an error.
    """
    arguments = options.parse_args(given)
    try:
        document, tables = measure(arguments)
    except P3MEdgeError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, emoji=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        return 130
    if arguments.json:
        json.dump(document, sys.stdout, indent=1)
        return 0
    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in tables:
        if table.rows:
            table.print(console)
    return 0


def table(title: str, rows: Iterable[object], columns: str, **formats: str) -> Table:
    """A table of dataclasses: the fields that ``columns`` names, in their formats; None is shown as ``-``."""
    names = tuple(columns.split())

    def cell(row: object, name: str) -> str:
        value = getattr(row, name)
        return NONE if value in (None, "") else format(value, formats.get(name, ""))

    return Table(title, names, tuple(tuple(cell(row, name) for name in names) for row in rows))
