"""What the stabiliser of streams does to mattes: flicker, error, lag, and how fast a person is there who appears.

    python -m p3m_edge.benchmarks.stabiliser ARTEFACT [--data DATA [--strip PNG]] [--json]

Every sequence is matted by the artefact and steadied as a stream does it; all is measured at the frames' size, before
and after that. Goals are those of the project, and ``reached`` says whether they are.

* ``call``: a person in a video call, drawn (:func:`p3m_edge.data.synth.clip.draw_call`), with a camera that stands
  still. That is what a webcam sees, and what the stabiliser is for. 8 clips of 90 frames.
* ``glide``: a person who moves evenly all the time, before a background that pans by itself
  (:func:`p3m_edge.data.synth.clip.draw_clip`). Nothing stands still: the stabiliser should do no harm. 8 clips of 16.
* ``appears``: a call whose person is there from one frame to the next: the share of the network's alpha, where the
  person is, that the first such frame has after the stabiliser.
* ``far``: a person who walks by and is small in a frame of 1280x720, 8 clips of 20. ``before`` is a stream of whole
  frames, and ``after`` one that follows the person (``MattingStream(follow=True)``), neither steadied.
* ``real``: the clips ``asl_*`` in DATA, without true mattes: their flicker (:func:`p3m_edge.metrics.flicker`).

dtSSD is the instability and SAD the error against the true alphas, means of the clips (``far``: medians, because a
wall that the network takes for a person would outweigh all else). ``lag`` says by how many frames the changes of the
mattes come after those of the truth: the maximum of their cross-correlation. ``--strip`` draws frames of one real clip,
and below them the person before a plain colour, with both kinds of mattes; the face is hidden, the credit below.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge import metrics
from p3m_edge.benchmarks import quality
from p3m_edge.benchmarks.clips import Strip, clips, read_frames, read_marks
from p3m_edge.data.anonymize.hide import anonymize
from p3m_edge.data.detect import Box
from p3m_edge.data.sample import Image
from p3m_edge.data.sheet import sheet
from p3m_edge.data.synth.clip import MOST, RATE, draw_call, draw_clip, draw_far
from p3m_edge.errors import UsageError
from p3m_edge.imageio import write_png
from p3m_edge.runtimes import Matting
from p3m_edge.table import Table
from p3m_edge.video import MattingStream, Stabiliser

Mattes = Sequence[NDArray[np.float32]]

SEED = 10_000  # of the first clip of each kind; thresholds were set on these
CALL, ENTERS = 90, 15
"""Frames of a call; the first frame with the person who appears."""
FAR_FRAMES = 20
CREDIT = (
    "Frames: asl_gestures/sister.mkv, github.com/intel-iot-devkit/sample-videos, CC BY 4.0 "
    "(creativecommons.org/licenses/by/4.0); cut, the face hidden, the background replaced below"
)
_FURTHEST = 3  # frames of lag, either way, that are looked for
_DRAWN = (("dtSSD", -0.3), ("SAD", 0.02), ("lag", 0.25))
_FLICKER, _APPEARS = -0.3, 0.95


@dataclass(frozen=True)
class Figure:
    """A figure of all clips of a kind, before and after; ``change`` is a share of the first, None where none is meant.

    The goal is one for the change where there is one, else for ``after``.
    """

    clips: str
    what: str
    before: float | None
    after: float
    change: float | None
    goal: str
    reached: bool


def mattes(matting: Matting, frames: Iterable[Image]) -> tuple[Mattes, Mattes]:
    """The alphas of a sequence, float32 ``[H, W]``: of each frame by itself, and steadied."""
    stabiliser, raw, steadied = Stabiliser(), list[NDArray[np.float32]](), list[NDArray[np.float32]]()
    for number, frame in enumerate(frames):
        image, place = matting.prepare(frame)
        alpha = matting.engine.collect(matting.begin(image))["alpha"][0, 0]
        held = stabiliser(alpha, image, number / RATE)
        raw.append(metrics.as_float32("the alpha", matting.finish(alpha, place)))
        steadied.append(metrics.as_float32("the alpha", matting.finish(held, place)))
    return raw, steadied


def lag(alphas: Mattes, truths: Mattes) -> float:
    """By how many frames changes come late; NaN where nothing changes. At least 8 frames are needed."""
    found, true = ([after - before for before, after in pairwise(each)] for each in (alphas, truths))
    likeness = [
        fmean(float(np.vdot(found[index + late], true[index])) for index in range(_FURTHEST, len(true) - _FURTHEST))
        for late in range(-_FURTHEST, _FURTHEST + 1)
    ]
    peak = min(max(int(np.argmax(likeness)), 1), 2 * _FURTHEST - 1)
    before, most, after = likeness[peak - 1 : peak + 2]
    bend = before - 2 * most + after
    return peak - _FURTHEST + 0.5 * (before - after) / bend if bend else float("nan")


def drawn(kind: str, matting: Matting, seeds: Iterable[int]) -> Iterator[Figure]:
    """dtSSD, SAD and lag of the clips ``call`` or ``glide``."""
    draw = partial(draw_call, count=CALL) if kind == "call" else partial(draw_clip, count=MOST)
    rows = []
    for clip in map(draw, seeds):
        for alphas in mattes(matting, clip.frames):
            sad = fmean(
                float(np.abs(alpha - true).sum()) / 1000 for alpha, true in zip(alphas, clip.alphas, strict=True)
            )
            rows.append((metrics.dtssd(alphas, clip.alphas), sad, lag(alphas, clip.alphas)))
    raw, steadied = np.mean(rows[::2], axis=0).tolist(), np.mean(rows[1::2], axis=0).tolist()
    for (what, goal), before, after in zip(_DRAWN, raw, steadied, strict=True):
        if what == "lag":
            yield Figure(kind, what, before, after, None, f"at most {goal}", after <= goal)
        else:
            yield _change(kind, what, before, after, goal)


def appears(matting: Matting, seeds: Iterable[int]) -> Figure:
    """How much of a person is there at once: of all clips, the one of which least is."""
    shares = []
    for seed in seeds:
        clip = draw_call(seed, ENTERS + 1, ENTERS)
        raw, steadied = mattes(matting, clip.frames)
        there = clip.alphas[-1] >= 0.5
        shares.append(float(steadied[-1][there].sum()) / max(float(raw[-1][there].sum()), 1e-9))
    return Figure("appears", "share", None, min(shares), None, f"at least {_APPEARS:.0%}", min(shares) >= _APPEARS)


def far(matting: Matting, seeds: Iterable[int]) -> Iterator[Figure]:
    """SAD and GRAD of a person who is small in the frame, without and with ``follow``."""
    found: dict[bool, list[Sequence[float]]] = {False: [], True: []}
    for clip in map(partial(draw_far, count=FAR_FRAMES), seeds):
        for follow, means in found.items():
            errors = []
            stream = MattingStream(clip.frames, matting, stabilise=False, follow=follow)
            for (_, alpha), true in zip(stream, clip.alphas, strict=True):
                matte = metrics.as_float32("the alpha", alpha)
                errors.append((float(np.abs(matte - true).sum()) / 1000, metrics.gradient_error(matte, true)))
            means.append(np.mean(errors, axis=0).tolist())
    whole, part = (np.median(found[follow], axis=0).tolist() for follow in (False, True))
    for what, before, after in zip(("SAD", "GRAD"), whole, part, strict=True):
        yield _change("far", what, before, after, 0.0)


def real(matting: Matting, files: Iterable[Path]) -> Figure:
    """The flicker of clips without a true matte."""
    rows = []
    for frames in map(read_frames, files):
        rows.append([metrics.flicker(alphas, frames) for alphas in mattes(matting, frames)])
    before, after = np.mean(rows, axis=0).tolist()
    return _change("real", "flicker", before, after, _FLICKER)


def draw_strip(frames: Sequence[Image], kinds: Mapping[str, Mattes], shown: Strip) -> Image:
    """Frames above, below them the person before a plain colour, in a row for the mattes of each kind, and the credit.

    The face is hidden; the mattes are those of the frames as they are.
    """
    x, y, x_end, y_end = shown.face
    face = Box(x, y, x_end - x, y_end - y, 1.0, "hand")
    left, top, right, bottom = shown.window
    hidden = {number: anonymize(frames[number], [face]).image for number in shown.frames}
    rows = [[(f"frame {number}", picture[top:bottom, left:right]) for number, picture in hidden.items()]]
    for kind, alphas in kinds.items():
        plain = (quality.on_plain(picture, alphas[number]) for number, picture in hidden.items())
        rows.append([("" if place else kind, each[top:bottom, left:right]) for place, each in enumerate(plain)])
    picture = cv2.copyMakeBorder(sheet(rows, 200), 0, 12, 0, 0, cv2.BORDER_CONSTANT, value=(250,) * 3)
    place = (4, picture.shape[0] - 10)
    cv2.putText(picture, CREDIT, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (60, 60, 60), 1, cv2.LINE_AA)
    return np.asarray(picture, dtype=np.uint8)


def _change(kind: str, what: str, before: float, after: float, goal: float) -> Figure:
    change = after / before - 1 if before else 0.0
    return Figure(kind, what, before, after, change, f"at most {goal:+.0%}", change <= goal)


def report(arguments: argparse.Namespace) -> tuple[object, Iterable[Table]]:
    """The document and the table."""
    files, shown, seeds = {}, read_marks().strip, range(arguments.seed, arguments.seed + arguments.count)
    if arguments.seed < 0:
        raise UsageError(f"a seed is at least 0, not {arguments.seed}")
    if arguments.data is not None:
        files = clips(arguments.data)
    if arguments.strip is not None and shown.clip not in files:
        raise UsageError(f"--strip shows {shown.clip}, which --data DIR must hold")
    with quality.opened(arguments.artefact, arguments.threads) as matting:
        rows = [*drawn("call", matting, seeds), *drawn("glide", matting, seeds), appears(matting, seeds)]
        rows += far(matting, seeds)
        rows += [real(matting, files.values())] if files else []
        if arguments.strip is not None:
            frames = read_frames(files[shown.clip])
            raw, steadied = mattes(matting, frames)
            write_png(arguments.strip, draw_strip(frames, {"each frame alone": raw, "steadied": steadied}, shown))
    formats = {"before": ".3f", "after": ".3f", "change": "+.1%"}
    return list(map(asdict, rows)), (quality.table("", rows, "clips what before after change goal reached", **formats),)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = quality.parser(__doc__)
    parser.add_argument("artefact", type=Path, metavar="ARTEFACT")
    parser.add_argument("--data", type=Path, metavar="DIR", help="holds clips/asl_*")
    parser.add_argument("--strip", type=Path, metavar="PNG", help="draw frames of one clip with both kinds of mattes")
    parser.add_argument("--count", type=int, choices=range(1, 9), default=8, help="clips of each kind (default: 8)")
    parser.add_argument("--seed", type=int, default=SEED, metavar="N", help="of the first clip (default: %(default)s)")
    return quality.run(parser, report, arguments)


if __name__ == "__main__":
    sys.exit(main())
