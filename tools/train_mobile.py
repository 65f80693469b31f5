"""Make the weights that the package ships: pictures, and the last stage of the training.

    python tools/train_mobile.py DATA PEOPLE WEIGHTS OUT [--only pictures]

DATA holds ``portraits/<name>/image.jpg`` with ``alpha.png`` for the portraits of P3M-Net's repository in
``p3m_edge/weights/training-list.csv``, and ``faces/`` with ``faces.csv`` for the source faces of P3M-ICP. PEOPLE is
what ``label_portraits.py`` made: the other portraits of the list. WEIGHTS is the checkpoint of the stages before, which
docs/mobile.md names. Everything goes to OUT; a run that was interrupted is continued by the same line. It needs the
extras ``train`` and ``bodies``, the photographs of scikit-learn (from PyPI) and of Debian's package
lomiri-wallpapers-16.04 (installed, or unpacked at ``--wallpapers``), and about two hours on two CPU cores.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from hats import put_on_hat
from heads_turned import turn_head
from slim_mobile import slim

import p3m_edge
from p3m_edge.data.picture_list import Entry, read_list
from p3m_edge.errors import P3MEdgeError
from p3m_edge.imageio import read_image, read_mask, write_png
from p3m_edge.manifest import sha256
from p3m_edge.train.curve import CURVE, write_curve

LIST = Path(p3m_edge.__file__).parent / "weights" / "training-list.csv"
DRAWN, SEED = 1000, 2027
POSED, POSED_SEED = 247, 3031
PEOPLE = ("pif", "f18", "dc", "cio")
TURNED = ("pif", "f18", "dc")
"""Whose heads are turned."""
DRAWN_FACES = 12
MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}
"""Memory that PyTorch gives back and takes again in every step costs a third of the time with glibc's defaults."""

Redraw = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray] | None]


class Composed(NamedTuple):
    """A set of composites: how many, and how often each set of portraits and of backgrounds is used."""

    pictures: int
    seed: int
    portraits: Mapping[str, float]
    backgrounds: Mapping[str, float]
    vary: float = 0.6
    whole: float = 0.25
    empty: float = 0.02


PLAIN = {"places": 2, "drawn/bg": 1}
FILLED = {"places": 1, "filled": 4, "drawn/bg": 1}
COMPOSED = {
    "turned": Composed(
        3542, 41, {"anonymous": 3, "pif": 2, "f18": 2, "dc": 0.1, "faceless": 3, "drawn": 1, "posed": 1}, PLAIN
    ),
    "flags": Composed(
        3600, 71,
        {"cio": 3, "anonymous": 2.2, "pif": 2, "f18": 2, "dc": 0.1, "faceless": 1.6, "drawn": 0.8, "posed": 0.8},
        PLAIN, whole=0.3,
    ),
    "filled": Composed(
        4200, 81,
        {"cio": 1.6, "anonymous": 1.8, "pif": 2.2, "f18": 2.4, "dc": 0.1, "faceless": 1.5, "drawn": 0.8, "posed": 0.8},
        FILLED, vary=0.5, whole=0.22, empty=0.04,
    ),
    "hats": Composed(
        1000, 91, {"hats/cio": 1, "hats/anonymous": 2, "hats/pif": 2, "hats/f18": 2, "hats/dc": 0.5},
        FILLED, vary=0.5, whole=0, empty=0,
    ),
}  # fmt: skip
TRAINING = (
    "--preset", "mobile", "--steps", 600, "--lr", 1e-3, "--batch", 8, "--cp", "icp", "--workers", 1,
    "--set", "data.size=512", "--set", "data.crops=[384,448,512,512]", "--set", "data.colour=0.7",
    "--set", "data.grey=0.12", "--set", "data.blur=0.2", "--set", "optim.warmup_steps=30", "--set", "optim.ema=0.99",
    "--set", 'optim.frozen=["encoder","global_decoder"]', "--set", "run.half_weights=true",
)  # fmt: skip
LICENCE = (
    "Apache-2.0 (p3m-edge). Trained on generated portraits and on anonymised photographs of people (eight of the "
    "P3M-Net repository, MIT; 481 of four public-domain collections, CC0); P3M-CP source faces: generated ones and "
    "three public portraits (see training-list.csv beside the file)"
)


def main() -> int:
    """Make the pictures, and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("people", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=("pictures",), help="stop before the training")
    parser.add_argument("--wallpapers", type=Path, default=Path("/usr/share/backgrounds"), help="photographs of Debian")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    try:
        make_pictures(arguments.data, arguments.people, out, arguments.wallpapers)
        if arguments.only is None:
            train(out, arguments.weights)
    except P3MEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def make_pictures(data: Path, people: Path, out: Path, wallpapers: Path) -> None:
    """Anonymous and drawn portraits, places, source faces, composites."""
    entries = read_list(LIST)
    link_portraits([entry for entry in entries if entry.kind == "portrait"], data, out / "tier-p")
    command("data", "anonymize", out / "tier-p", out / "anonymous", "--boxes", LIST.with_name("boxes.csv"), "--verify")
    for name in PEOPLE:
        command("data", "anonymize", people / name, out / name, "--boxes", people / f"{name}.csv", "--verify")
    command("data", "synth", out / "drawn", "-n", DRAWN, "--seed", SEED)
    command("data", "synth", out / "posed", "-n", POSED, "--seed", POSED_SEED, "--posed", 1)
    for name in ("anonymous", "pif"):
        command("data", "places", out / name, out / "places")
    listed = {entry.name for entry in entries if entry.kind == "background"}
    for place in (out / "places").rglob("*.png"):
        if place.stem not in listed:  # nobody looked at it
            place.unlink()
    copy_photographs(entries, wallpapers, out / "places")
    make_faces(data / "faces", out / "drawn", out / "faces")
    number = 0
    for name in TURNED:
        number = redraw(out / name, out / "faceless", turn_head, number)
    number = 0
    for name in (*PEOPLE, "anonymous"):
        number = redraw(out / name, out / "hats" / name, put_on_hat, number)
        command("data", "places", out / name, out / "filled", "--filled")
    for name, composed in COMPOSED.items():
        compose(out, name, composed)


def redraw(portraits: Path, out: Path, draw: Redraw, first: int) -> int:
    """Draw on every portrait of a set that ``data anonymize`` made, where that can be done.

    Parameters
    ----------
    portraits
        With ``blurred_image/``, ``alpha/`` and ``facemask/``.
    out
        Gets ``image/`` and ``alpha/``.
    draw
        Makes a picture and its matte of a picture, its matte, the mask of its faces and random numbers.
    first
        The number of the first picture, of which its random numbers come.

    Returns
    -------
    int
        The number after the last picture.
    """
    number = first
    for path in sorted((portraits / "blurred_image").iterdir()):
        alpha = read_mask(portraits / "alpha" / path.name)
        face = read_mask(portraits / "facemask" / path.name) > 0
        made = draw(read_image(path).rgb, alpha, face, np.random.default_rng(number))
        if made is not None:
            for folder, picture in zip(("image", "alpha"), made, strict=True):
                (out / folder).mkdir(parents=True, exist_ok=True)
                write_png(out / folder / path.name, picture)
            number += 1
    return number


def compose(out: Path, name: str, composed: Composed) -> None:
    """One set of composites."""
    sources = (
        part
        for option, shares in (("--portraits", composed.portraits), ("--backgrounds", composed.backgrounds))
        for folder, share in shares.items()
        for part in (option, f"{out / folder}:{share}")
    )
    command(
        "data", "compose", out / "composed" / name, "-n", composed.pictures, "--seed", composed.seed,
        "--vary", composed.vary, "--whole", composed.whole, "--empty", composed.empty,
        "--foregrounds", out / "foregrounds", *sources,
    )  # fmt: skip


def train(out: Path, before: Path) -> None:
    """Make the local decoder slimmer, and train that alone: the classes stay what they were."""
    run, start, pictures = out / "stage-16", out / "slim.safetensors", out / "pictures"
    if (run / "state.pt").exists():
        command("train", "--out", run, "--resume")
    else:
        for name in COMPOSED:
            link_set(out / "composed" / name, pictures)
        slim(before, pictures, start)
        command(
            "train", "--data", pictures, "--out", run, "--weights", start, "--faces", out / "faces", *TRAINING,
            "--licence", LICENCE,
        )  # fmt: skip
    write_curve(out / CURVE, [run])
    shutil.copy(run / "last.safetensors", out / "mobile.safetensors")


def link_portraits(entries: list[Entry], data: Path, out: Path) -> None:
    """The portraits of P3M-Net's repository as a set, by links."""
    for entry in entries:
        if entry.name.split("_")[0] in PEOPLE:
            continue
        for folder, file in (("image", "image.jpg"), ("alpha", "alpha.png")):
            source = (data / "portraits" / entry.name / file).resolve(strict=True)
            link = out / folder / f"{entry.name}{source.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(source)


def copy_photographs(entries: list[Entry], wallpapers: Path, out: Path) -> None:
    """The photographs of the list that come with packages; each must be the very file that the list names."""
    folders = {
        "PyPI scikit-image": _package("skimage"), "PyPI scikit-learn": _package("sklearn"),
        "Debian lomiri-wallpapers-16.04": wallpapers,
    }  # fmt: skip
    for entry in entries:
        folder = next((path for start, path in folders.items() if entry.source.startswith(start)), None)
        if entry.kind != "background" or folder is None:
            continue
        file = next(folder.rglob(Path(entry.source).name), None)
        if file is None or sha256(file) != entry.sha256:
            sys.exit(f"{entry.name} is missing or another picture: {entry.source}")
        shutil.copy(file, out / f"{entry.name}{file.suffix}")


def link_set(source: Path, out: Path) -> None:
    """Add a set to another, by links, under names that begin with the set's."""
    for file in (file for kind in ("image", "alpha", "facemask") for file in (source / kind).iterdir()):
        link = out / file.parent.name / f"{source.name}_{file.name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(file.resolve())


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        sys.exit(f"the package {name} is not installed")
    return Path(spec.origin).parent


def make_faces(real: Path, drawn: Path, out: Path) -> None:
    """Real faces, of which the list says who they are, as ellipses in their boxes; and the first drawn ones."""
    with (real / "faces.csv").open(newline="", encoding="utf-8") as stream:
        boxes = {f"face_{row['id']}": row for row in csv.DictReader(stream)}
    for entry in read_list(LIST):
        if entry.kind == "face source":
            row = boxes[entry.name]
            image = read_image(real / row["file"]).rgb
            left, top, right, bottom = (int(row[key]) for key in ("x0", "y0", "x1", "y1"))
            mask = np.zeros(image.shape[:2], np.uint8)
            middle, axes = ((left + right) // 2, (top + bottom) // 2), ((right - left) // 2, (bottom - top) // 2)
            cv2.ellipse(mask, middle, axes, 0, 0, 360, 255, -1)
            write_face(out, entry.name, image, mask)
    (out / "LICENCE").write_text("generated faces, no rights reserved; three public portraits, see training-list.csv\n")
    large = sorted((drawn / "facemask").glob("*.png"))[:200]
    large.sort(key=lambda path: -int((read_image(path).rgb[..., 0] > 0).sum()))
    for path in large[:DRAWN_FACES]:
        write_face(out, path.stem, read_image(drawn / "image" / path.name).rgb, read_image(path).rgb[..., 0])


def write_face(out: Path, name: str, image: np.ndarray, mask: np.ndarray) -> None:
    """A picture and the mask of its face."""
    for folder, picture in (("image", image), ("facemask", mask)):
        (out / folder).mkdir(parents=True, exist_ok=True)
        write_png(out / folder / f"{name}.png", np.ascontiguousarray(picture))


def command(*arguments: object) -> None:
    """One command of the package; its error ends this script with its exit code."""
    line = [sys.executable, "-m", "p3m_edge", *map(str, arguments)]
    print("+", *line[1:], flush=True)
    code = subprocess.run(line, env={**os.environ, **MEMORY}).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())
