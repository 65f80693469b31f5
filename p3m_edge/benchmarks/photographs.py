"""Error on real photographs, picture by picture, with the networks of others beside it.

    python -m p3m_edge.benchmarks.photographs ARTEFACT [ARTEFACT ...] --data DATA [--isnet FILE] [--json]

Everything goes through :class:`~p3m_edge.runtimes.Matting`, as in an app. DATA holds ``portraits/`` (with
``manifest.csv`` beside it, which says what kind of matte each has), ``people-held/``, or both. Where MediaPipe 0.10.21
is installed (it needs NumPy 1, so an environment of its own), its Selfie Segmentation is measured too; IS-Net where
its ONNX file is named.

MAD is the mean absolute difference, 0..1; GRAD as :func:`p3m_edge.metrics.gradient_error` gives it, which grows with a
picture's size; ``unknown`` is MAD in the band around the true matte's edge (a trimap with a kernel of 7 pixels). All at
the picture's own size. The mattes of ``people-held`` were made by IS-Net: they rank nobody.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from p3m_edge.data import sets
from p3m_edge.data.sheet import sheet
from p3m_edge.data.trimap import make_trimap
from p3m_edge.errors import InputError, P3MEdgeError
from p3m_edge.imageio import list_images, read_image, read_mask, write_png
from p3m_edge.metrics import UNKNOWN, evaluate
from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.compose import composite
from p3m_edge.runtimes.contract import engine_module
from p3m_edge.smallfile import read_csv

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
BAND = 7
"""Kernel of the trimap that says where a matte's edge is, in pixels."""
OVER = (0.03, 0.10)
"""MADs above which a matte is counted as bad, and as broken."""
EMPTY = 0.01
"""The mean alpha below which a picture without people is taken for one."""
_PLAIN = (60, 160, 90)


@dataclass(frozen=True)
class Photograph:
    """A picture with a matte; ``group`` is its tier or source."""

    name: str
    set: str
    group: str
    image: Path
    alpha: Path


@dataclass(frozen=True)
class Row:
    """What one method did on one picture; MAD and ``unknown`` 0..1."""

    method: str
    set: str
    group: str
    name: str
    mad: float
    unknown: float
    grad: float


@dataclass(frozen=True)
class Total:
    """Of one method on pictures of one kind; ``over`` counts those with MAD above each of :data:`OVER`."""

    method: str
    kind: str
    pictures: int
    mad: float
    median: float
    unknown: float
    grad: float
    over: tuple[int, ...]


def photographs(data: Path) -> list[Photograph]:
    """What is to be measured; raises :class:`InputError` where there is nothing, or it cannot be read."""
    found: list[Photograph] = []
    if (data / "portraits").is_dir():
        tiers = _tiers(data / "manifest.csv")
        for folder in sorted(path for path in (data / "portraits").iterdir() if (path / "alpha.png").is_file()):
            tier = tiers.get(folder.name, "")
            group = "A/B" if tier in {"A", "B"} else tier
            found.append(Photograph(folder.name, "portraits", group, folder / "image.jpg", folder / "alpha.png"))
    if (data / "people-held").is_dir():
        for item in sets.open_set(data / "people-held").items:
            assert item.alpha is not None  # open_set refuses others
            found.append(Photograph(item.name, "people-held", item.name.partition("_")[0], item.image, item.alpha))
    if not found:
        raise InputError(f"{data} has neither portraits/ nor people-held/ with pictures")
    return found


def _tiers(manifest: Path) -> dict[str, str]:
    """What kind of matte each portrait has."""
    try:
        rows = read_csv(manifest)
        if not {"id", "tier"} <= set(rows.fieldnames or ()):
            raise csv.Error("it has no columns id and tier")
        return {row["id"]: row["tier"] for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{manifest} does not say what tier each portrait is of: {error}") from error


def measure(method: str, predict: Predict, pictures: Sequence[Photograph]) -> Iterator[Row]:
    """One row a picture."""
    for picture in pictures:
        truth, alpha = read_mask(picture.alpha), predict(read_image(picture.image).rgb)
        measures = evaluate(alpha, truth)
        difference = np.abs(alpha - truth / np.float32(255))
        band = make_trimap(truth, BAND) == UNKNOWN
        unknown = float(difference[band].mean()) if band.any() else 0.0
        yield Row(method, picture.set, picture.group, picture.name, measures["MAD"], unknown, measures["GRAD"])


def totals(rows: Sequence[Row]) -> Iterator[Total]:
    """Of each method: each set, each group of it, and the portraits without those of tier C."""
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        for name in dict.fromkeys(row.set for row in own):
            of_set = [row for row in own if row.set == name]
            yield total(method, name, of_set)
            if name == "portraits":
                yield total(method, "portraits without tier C", [row for row in of_set if row.group != "C"])
            for group in sorted({row.group for row in of_set}):
                yield total(method, f"{name}: {group}", [row for row in of_set if row.group == group])


def total(method: str, kind: str, rows: Sequence[Row]) -> Total:
    """The means, and MAD's median."""
    mads = np.array([row.mad for row in rows])
    return Total(
        method, kind, len(rows), float(mads.mean()), float(np.median(mads)),
        float(np.mean([row.unknown for row in rows])), float(np.mean([row.grad for row in rows])),
        tuple(int((mads > limit).sum()) for limit in OVER),
    )  # fmt: skip


def artefact(folder: Path, threads: int | None) -> Predict:
    """As an app runs it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matting = Matting(folder, threads=threads)

    def predict(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(matting(rgb), dtype=np.float32)

    return predict


def selfie() -> Predict | None:
    """MediaPipe's Selfie Segmentation (general, 256x256); None where MediaPipe is not installed."""
    if importlib.util.find_spec("mediapipe") is None:
        return None
    import mediapipe

    network = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)

    def predict(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(np.clip(network.process(rgb).segmentation_mask, 0, 1), dtype=np.float32)

    return predict


def isnet(file: Path) -> Predict:
    """IS-Net for general use (DIS, ECCV 2022) from an ONNX file, at 1024x1024, in OpenVINO."""
    openvino = engine_module("openvino").require()
    core = openvino.Core()
    model = core.read_model(file)
    compiled = core.compile_model(openvino.Model([model.outputs[0].node], model.get_parameters(), "isnet"), "CPU")

    def predict(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        shrinks = max(rgb.shape[:2]) > 1024
        square = cv2.resize(rgb, (1024, 1024), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        tensor = ((square.astype(np.float32) - 128) / 256).transpose(2, 0, 1)[None]
        alpha = np.clip(compiled(tensor)[0][0, 0], 0, 1)
        return np.asarray(cv2.resize(alpha, rgb.shape[1::-1]), dtype=np.float32)

    return predict


def show(predict: Predict, pictures: Sequence[Path], columns: int, captions: Sequence[str]) -> NDArray[np.uint8]:
    """Pictures before a plain colour, each beside its original, numbered: uint8 ``[H, W, 3]``."""
    cells = []
    for number, (path, caption) in enumerate(zip(pictures, captions, strict=True), 1):
        rgb = read_image(path).rgb
        plain = composite(rgb, predict(rgb), _PLAIN)
        cells.append((f"{number}  {caption}", np.hstack([rgb, plain])))
    return sheet([cells[start : start + columns] for start in range(0, len(cells), columns)], side=320)


def worst(rows: Sequence[Row], method: str, count: int) -> list[Row]:
    """The pictures of ``people-held`` with the largest MAD."""
    own = [row for row in rows if row.method == method and row.set == "people-held"]
    return sorted(own, key=lambda row: -row.mad)[:count]


def main() -> int:
    """Measure, print, and draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefacts", nargs="+", type=Path, metavar="ARTEFACT")
    parser.add_argument("--data", type=Path, metavar="DIR", help="portraits/ and people-held/")
    parser.add_argument("--empty", type=Path, metavar="DIR", help="pictures without people: the mean alpha of each")
    parser.add_argument("--isnet", type=Path, metavar="FILE", help="IS-Net as ONNX, to measure beside")
    parser.add_argument("--threads", type=int, metavar="N", help="of the artefacts' engines")
    parser.add_argument("--json", action="store_true", help="one document on the standard output")
    parser.add_argument("--worst", type=Path, metavar="PNG", help="draw the worst twelve of people-held")
    parser.add_argument("--show", type=Path, metavar="DIR", help="pictures to draw before a plain colour, into --sheet")
    parser.add_argument("--sheet", type=Path, metavar="PNG", default=Path("sheet.png"))
    arguments = parser.parse_args()
    try:
        report(arguments)
    except P3MEdgeError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        return error.exit_code
    return 0


def report(arguments: argparse.Namespace) -> None:
    """What :func:`main` does."""
    methods = {str(folder): artefact(folder, arguments.threads) for folder in arguments.artefacts}
    first = next(iter(methods))
    mask = selfie()
    methods |= {} if mask is None else {"MediaPipe Selfie": mask}
    methods |= {} if arguments.isnet is None else {"IS-Net": isnet(arguments.isnet)}
    pictures = [] if arguments.data is None else photographs(arguments.data)
    rows = [row for name, predict in methods.items() for row in measure(name, predict, pictures)]
    empty = [] if arguments.empty is None else list_images(arguments.empty)
    means = {
        name: {path.name: float(predict(read_image(path).rgb).mean()) for path in empty}
        for name, predict in methods.items()
    }
    if arguments.worst is not None:
        chosen = worst(rows, first, 12)
        by_name = {picture.name: picture.image for picture in pictures}
        captions = [f"MAD {row.mad:.3f}" for row in chosen]
        write_png(arguments.worst, show(methods[first], [by_name[row.name] for row in chosen], 3, captions))
    if arguments.show is not None:
        shown = list_images(arguments.show)
        write_png(arguments.sheet, show(methods[first], shown, 4, [path.stem for path in shown]))
    if arguments.json:
        document = {
            "totals": [asdict(row) for row in totals(rows)], "pictures": [asdict(row) for row in rows], "empty": means,
        }  # fmt: skip
        json.dump(document, sys.stdout, indent=1)
    else:
        render(rows, means)


def render(rows: Sequence[Row], means: Mapping[str, Mapping[str, float]]) -> None:
    """Tables: the pictures, the sets, and what stands where nobody is."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    figures = ("MAD", "unknown", "GRAD")
    if rows:
        pictures = Table("method", "set", "group", "picture", *figures)
        for row in rows:
            pictures.add_row(
                _short(row.method), row.set, row.group, row.name, f"{row.mad:.4f}", f"{row.unknown:.3f}",
                f"{row.grad:.1f}",
            )  # fmt: skip
        limits = [f"over {limit:g}" for limit in OVER]
        sums = Table("method", "pictures", "n", "MAD", "median", "unknown", "GRAD", *limits)
        for line in totals(rows):
            sums.add_row(
                _short(line.method), line.kind, str(line.pictures), f"{line.mad:.4f}", f"{line.median:.4f}",
                f"{line.unknown:.3f}", f"{line.grad:.1f}", *map(str, line.over),
            )  # fmt: skip
        console.print(pictures, sums)
    for name, of_pictures in means.items():
        if of_pictures:
            values = np.array(list(of_pictures.values()))
            below, largest = int((values < EMPTY).sum()), float(values.max())
            console.print(
                f"{name}: without people, {below} of {values.size} below a mean of {EMPTY}, the largest {largest:.4f}",
                markup=False, soft_wrap=True,
            )  # fmt: skip


def _short(method: str) -> str:
    """The end of a path says more than its beginning."""
    return method if len(method) <= 28 else f"...{method[-25:]}"


if __name__ == "__main__":
    sys.exit(main())
