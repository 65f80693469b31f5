"""Flicker and hands on real video: the clips ``asl_*``, a webcam and people who sign, without mattes.

    python -m p3m_edge.benchmarks.clips ARTEFACT --data DATA [--json]

Every frame is matted by itself, without a stabiliser, as :class:`~p3m_edge.runtimes.Matting` does it; where MediaPipe
is installed, its Selfie Segmentation is measured too (see :mod:`p3m_edge.benchmarks.photographs`). Two measures:

* flicker as :func:`p3m_edge.metrics.flicker` gives it, which needs no true matte: how the alpha changes where the
  picture does not. It knows nothing of the mattes themselves: one that is 0 everywhere does not flicker at all.
* the share of the pixels of moving hands that are kept (alpha of at least 0.5), and how many hands are whole (95 % of
  their pixels kept), on 20 frames. ``asl_hands.json`` beside this file has the hands and says how they were marked.
  Most of them are in front of the body, where a matte is easily whole; those before the wall are the harder ones.

DATA holds ``clips/asl_*/clip.mkv``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from p3m_edge.benchmarks import quality
from p3m_edge.benchmarks.quality import Predict
from p3m_edge.data.sample import Image
from p3m_edge.errors import InputError
from p3m_edge.metrics import flicker
from p3m_edge.table import Table

ClipHands = Mapping[int, Sequence[Sequence[tuple[int, int]]]]
"""Of a clip: the number of a frame to its hands, each a polygon of pixel positions ``(x, y)``."""
Edges = tuple[int, int, int, int]
"""Left, top, right and lower edge, in pixels."""

KEPT = 0.5
"""The alpha from which on a pixel counts as kept."""
WHOLE = 0.95
"""The share of a hand's pixels that must be kept for it to count as whole."""


@dataclass(frozen=True)
class Strip:
    """What a strip shows: a clip, the numbers of its frames, their part, and the face in them."""

    clip: str
    frames: tuple[int, ...]
    window: Edges
    face: Edges


@dataclass(frozen=True)
class Marks:
    """The file ``asl_hands.json``."""

    hands: dict[str, dict[int, list[list[tuple[int, int]]]]]
    strip: Strip


@dataclass(frozen=True)
class Hand:
    """One marked hand: its pixels, and the share of them that is kept."""

    frame: int
    pixels: int
    kept: float


@dataclass(frozen=True)
class ClipScore:
    """Of one method on one clip, or on all: flicker, marked hands, how many are whole, the share of their pixels kept.

    ``kept`` and ``worst``, the share of the hand of which least is kept, are None where no hand is marked.
    """

    method: str
    clip: str
    frames: int
    flicker: float
    hands: int
    whole: int
    kept: float | None
    worst: float | None


def read_marks() -> Marks:
    """The hands of each clip, and what a strip shows."""
    return msgspec.json.decode(Path(__file__).with_name("asl_hands.json").read_bytes(), type=Marks)


def clips(data: Path) -> dict[str, Path]:
    """The clips by name; raises :class:`InputError` where there are none."""
    found = {path.parent.name: path for path in sorted(data.glob("clips/asl_*/clip.mkv"))}
    if not found:
        raise InputError(f"{data} has no clips/asl_*/clip.mkv")
    return found


def read_frames(file: Path) -> list[Image]:
    """All frames of a clip, uint8 ``[H, W, 3]``, RGB; raises :class:`InputError` where it cannot be decoded."""
    capture, frames = cv2.VideoCapture(str(file)), []
    while (read := capture.read())[0]:
        frames.append(np.asarray(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB), dtype=np.uint8))
    capture.release()
    if not frames:
        raise InputError(f"{file} cannot be decoded as a video")
    return frames


def hands(alphas: Sequence[NDArray[np.float32]], marks: ClipHands) -> Iterator[Hand]:
    """What is kept of the marked hands.

    Raises
    ------
    InputError
        A marked frame is not there, or a hand is none of its pixels: it is another clip.
    """
    for number, polygons in marks.items():
        for polygon in polygons:
            inside = np.zeros(alphas[0].shape, np.uint8)
            cv2.fillPoly(inside, [np.array(polygon, np.int32)], 1)
            if number >= len(alphas) or not inside.any():
                raise InputError(f"the marks of hands are of another clip: frame {number} of {len(alphas)}")
            values = alphas[number][inside != 0]
            yield Hand(number, values.size, float((values >= KEPT).mean()))


def measure(
    methods: Mapping[str, Predict], files: Mapping[str, Path], marks: Mapping[str, ClipHands]
) -> Iterator[ClipScore]:
    """Each method on each clip, then on all: the mean of the clips' flicker, and the hands of all.

    Raises
    ------
    InputError
        A clip cannot be decoded, the marks are of another one, or no pixel stands still in it.
    """
    for method, predict in methods.items():
        every: list[Hand] = []
        scores: list[ClipScore] = []
        for clip, file in files.items():
            frames = read_frames(file)
            alphas = [predict(frame) for frame in frames]
            found = list(hands(alphas, marks.get(clip, {})))
            every += found
            scores.append(_score(method, clip, len(frames), flicker(alphas, frames), found))
        yield from scores
        flickers = [score.flicker for score in scores]
        yield _score(method, "all", sum(score.frames for score in scores), float(np.mean(flickers)), every)


def _score(method: str, clip: str, frames: int, flickers: float, found: Sequence[Hand]) -> ClipScore:
    kept = [hand.kept for hand in found]
    share = float(np.average(kept, weights=[hand.pixels for hand in found])) if found else None
    whole = sum(share >= WHOLE for share in kept)
    return ClipScore(method, clip, frames, flickers, len(found), whole, share, min(kept, default=None))


def report(arguments: argparse.Namespace) -> tuple[object, Iterable[Table]]:
    """The document and the table."""
    files, marks = clips(arguments.data), read_marks()
    own = quality.artefact(arguments.artefact, arguments.threads)
    scores = list(measure({str(arguments.artefact): own} | quality.selfie(), files, marks.hands))
    formats = {"flicker": ".3f", "kept": ".1%", "worst": ".1%"}
    table = quality.table("", scores, "method clip frames flicker hands whole kept worst", **formats)
    return list(map(asdict, scores)), [table]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = quality.parser(__doc__)
    parser.add_argument("artefact", type=Path, metavar="ARTEFACT")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds clips/asl_*")
    return quality.run(parser, report, arguments)


if __name__ == "__main__":
    sys.exit(main())
