"""Error on real photographs, picture by picture, with the networks of others beside it.

    python -m p3m_edge.benchmarks.photographs ARTEFACT [ARTEFACT ...] --data DATA [--isnet FILE] [--json]

Everything goes through :class:`~p3m_edge.runtimes.Matting`, as in an app. DATA holds ``portraits/`` (with
``manifest.csv`` beside it, which says what kind of matte each has), ``people-held/``, or either. Where MediaPipe 0.10.21
is installed (it needs NumPy 1, so an environment of its own), its Selfie Segmentation is measured too; IS-Net where its
ONNX file is named.

MAD is the mean absolute difference, 0..1; GRAD as :func:`p3m_edge.metrics.gradient_error` gives it, which grows with the
picture's size; ``unknown`` is MAD in the band around the true matte's edge (a trimap with a kernel of 7 pixels). All at
the picture's own size. ``people-held`` has mattes that IS-Net made: they rank nobody.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data import sets
from p3m_edge.data.sheet import sheet
from p3m_edge.data.trimap import make_trimap
from p3m_edge.errors import InputError, P3MEdgeError
from p3m_edge.imageio import list_images, read_image, read_mask, write_png
from p3m_edge.metrics import UNKNOWN, evaluate
from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.compose import composite

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
BAND = 7
OVER = (0.03, 0.10)
_PLAIN = (60, 160, 90)


@dataclass(frozen=True)
class Photograph:
    """A picture with a matte; ``group`` is its tier or source."""

    name: str
    set: str
    group: str
    image: Path
    alpha: Path | None


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
    """What is to be measured; raises :class:`InputError` where there is nothing."""
    found: list[Photograph] = []
    if (data / "portraits").is_dir():
        tiers = {}
        with (data / "manifest.csv").open(newline="", encoding="utf-8") as stream:
            tiers = {row["id"]: row["tier"] for row in csv.DictReader(stream)}
        for folder in sorted(path for path in (data / "portraits").iterdir() if (path / "alpha.png").is_file()):
            tier = tiers.get(folder.name, "")
            group = "A/B" if tier in {"A", "B"} else tier
            found.append(Photograph(folder.name, "portraits", group, folder / "image.jpg", folder / "alpha.png"))
    if (data / "people-held").is_dir():
        for item in sets.open_set(data / "people-held").items:
            group = item.name.partition("_")[0]
            found.append(Photograph(item.name, "people-held", group, item.image, item.alpha))
    if not found:
        raise InputError(f"{data} has neither portraits/ nor people-held/")
    return found


def measure(method: str, predict: Predict, pictures: Sequence[Photograph]) -> Iterator[Row]:
    """One row a picture."""
    for picture in pictures:
        assert picture.alpha is not None
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
        return np.clip(network.process(rgb).segmentation_mask, 0, 1).astype(np.float32)

    return predict


def isnet(file: Path) -> Predict:
    """IS-Net for general use (DIS, ECCV 2022) from an ONNX file, at 1024x1024, in OpenVINO."""
    import openvino

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


def show(predict: Predict, pictures: Sequence[Photograph], columns: int, captions: Sequence[str]) -> NDArray[np.uint8]:
    """Pictures before a plain colour, each beside its original, numbered."""
    cells = []
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True), 1):
        rgb = read_image(picture.image).rgb
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
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--isnet", type=Path, metavar="FILE", help="IS-Net as ONNX, to measure beside")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--empty", type=Path, metavar="DIR", help="pictures without people: the mean alpha of each")
    parser.add_argument("--worst", type=Path, metavar="PNG", help="draw the worst twelve of people-held")
    parser.add_argument("--show", type=Path, metavar="DIR", help="draw these pictures instead of measuring")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="where --show goes", default=Path("sheet.png"))
    arguments = parser.parse_args()
    try:
        return report(arguments)
    except P3MEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def report(arguments: argparse.Namespace) -> int:
    """What :func:`main` does."""
    methods = {str(folder): artefact(folder, arguments.threads) for folder in arguments.artefacts}
    first = next(iter(methods))
    if arguments.show is not None:
        found = [Photograph(path.stem, "", "", path, None) for path in list_images(arguments.show)]
        write_png(arguments.sheet, show(methods[first], found, 6, [picture.name for picture in found]))
        return 0
    mask = selfie()
    methods |= {} if mask is None else {"MediaPipe Selfie": mask}
    methods |= {} if arguments.isnet is None else {"IS-Net": isnet(arguments.isnet)}
    pictures = photographs(arguments.data)
    rows: list[Row] = []
    for name, predict in methods.items():
        rows += measure(name, predict, pictures)
        print(f"{name}: {len(pictures)} pictures", file=sys.stderr)
    summary = list(totals(rows))
    empty: dict[str, Any] = {}
    if arguments.empty is not None:
        for name, predict in methods.items():
            empty[name] = {path.name: float(predict(read_image(path).rgb).mean()) for path in list_images(arguments.empty)}
    if arguments.worst is not None:
        chosen = worst(rows, first, 12)
        by_name = {picture.name: picture for picture in pictures}
        captions = [f"MAD {row.mad:.3f}" for row in chosen]
        write_png(arguments.worst, show(methods[first], [by_name[row.name] for row in chosen], 3, captions))
    if arguments.json:
        document = {"totals": [asdict(row) for row in summary], "pictures": [asdict(row) for row in rows], "empty": empty}
        json.dump(document, sys.stdout, indent=1)
        return 0
    for row in rows:
        print(f"{row.method[-24:]:24}  {row.set:12} {row.group:10} {row.name:28} {row.mad:.4f} {row.unknown:.3f} {row.grad:7.1f}")
    print(f"\n{'method':24}  {'pictures':32} {'n':>4} {'MAD':>7} {'median':>7} {'unknown':>8} {'GRAD':>6}  over {OVER}")
    for line in summary:
        print(
            f"{line.method[-24:]:24}  {line.kind:32} {line.pictures:4} {line.mad:7.4f} {line.median:7.4f} "
            f"{line.unknown:8.3f} {line.grad:6.1f}  {line.over}"
        )
    for name, means in empty.items():
        values = np.array(list(means.values()))
        print(f"{name[-24:]:24}  no person: {(values < 0.01).sum()} of {values.size} below 0.01, the largest {values.max():.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
