"""Make the weights that the package ships: pictures, then the training, then a mean with what it started from.

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
from pathlib import Path

import cv2
import numpy as np
from heads_turned import turn_heads

import p3m_edge
from p3m_edge.data.picture_list import Entry, read_list
from p3m_edge.imageio import read_image, write_png
from p3m_edge.manifest import sha256
from p3m_edge.model import inspect_checkpoint, load_checkpoint, save_checkpoint
from p3m_edge.train.curve import CURVE, write_curve

LIST = Path(p3m_edge.__file__).parent / "weights" / "training-list.csv"
DRAWN, SEED = 1000, 2027
POSED, POSED_SEED = 247, 3031
PEOPLE = ("pif", "f18", "dc")
DRAWN_FACES = 12
MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}
"""Memory that PyTorch gives back and takes again in every step costs a third of the time with glibc's defaults."""
COMPOSED = (
    "-n", 5000, "--seed", 31, "--vary", 0.6, "--whole", 0.25, "--empty", 0.02,
)  # fmt: skip
SHARES = {
    "anonymous": 2.2, "pif": 2, "f18": 2, "dc": 0.1, "faceless": 1.6, "drawn": 0.8, "posed": 0.8,
}  # fmt: skip
"""How often the sets of portraits are used."""
TRAINING = (
    "--steps", 700, "--lr", 6e-4, "--batch", 8, "--set", "data.size=512", "--set", "data.crops=[384,448,512,512]",
    "--set", "data.colour=0.7", "--set", "data.grey=0.12", "--set", "data.blur=0.2", "--set", "optim.warmup_steps=40",
    "--set", "optim.ema=0.995", "--set", "run.half_weights=true", "--cp", "icp", "--workers", 1,
)  # fmt: skip
KEPT = 0.35
"""How much of the weights that the training started from is in the result."""
LICENCE = (
    "Apache-2.0 (p3m-edge). Trained on generated portraits and on anonymised photographs of people (eight of the "
    "P3M-Net repository, MIT; 388 of three public-domain collections, CC0); P3M-CP source faces: generated ones and "
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
    make_pictures(arguments.data, arguments.people, out, arguments.wallpapers)
    if arguments.only is None:
        train(out, arguments.weights)
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
    for name in PEOPLE:
        number = turn_heads(out / name, out / "faceless", number)
    command(
        "data", "compose", out / "composed", *COMPOSED, "--foregrounds", out / "foregrounds",
        *(part for name, share in SHARES.items() for part in ("--portraits", f"{out / name}:{share}")),
        "--backgrounds", f"{out / 'places'}:2", "--backgrounds", out / "drawn" / "bg",
    )  # fmt: skip


def train(out: Path, first: Path) -> None:
    """From weights that are there; the result is a mean with them."""
    folder = out / "stage"
    if (folder / "state.pt").exists():
        command("train", "--out", folder, "--resume")
    else:
        command(
            "train", "--preset", "mobile", "--data", out / "composed", "--out", folder, "--weights", first,
            "--faces", out / "faces", *TRAINING, "--licence", LICENCE,
        )  # fmt: skip
    write_curve(out / CURVE, [folder])
    average({first: KEPT, folder / "last.safetensors": 1 - KEPT}, out / "mobile.safetensors")


def average(shares: dict[Path, float], out: Path) -> None:
    """The weighted mean of checkpoints of one training: better on pictures unlike those of the training than each."""
    networks = {file: load_checkpoint(file) for file in shares}
    states = {file: network.state_dict() for file, network in networks.items()}
    last = next(reversed(shares))
    mean = {
        name: sum(states[file][name].double() * share for file, share in shares.items()).to(value.dtype)
        if value.is_floating_point() else value
        for name, value in states[last].items()
    }  # fmt: skip
    networks[last].load_state_dict(mean)
    names = ", ".join(f"{share:g} of {file.name} (sha256 {sha256(file)})" for file, share in shares.items())
    provenance = f"mean of {names}; the last of them: {inspect_checkpoint(last).provenance}"
    save_checkpoint(networks[last], out, licence=LICENCE, provenance=provenance, trained=True, half=True)


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
