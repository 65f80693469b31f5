"""How many pictures a minute ``p3m-edge data anonymize`` does: ``python tools/measure_anonymising.py``."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.cli import main, ui
from p3m_edge.cli.options import argument, option
from p3m_edge.cli.options.shared import workers
from p3m_edge.data import detect
from p3m_edge.data.anonymize.folder import Job, Output, Settings
from p3m_edge.data.anonymize.run import anonymize_all
from p3m_edge.data.sample import Image
from p3m_edge.data.sets import find_items
from p3m_edge.errors import P3MEdgeError
from p3m_edge.imageio import read_image
from p3m_edge.resources import usable_cores

EXAMPLES = """
python tools/measure_anonymising.py photos/ --verify
"""


@dataclass(frozen=True)
class Arguments:
    """Anonymise the pictures of a folder into a temporary one, from files to files, with the processes' start counted
    in. Then look for each picture's faces in this process, by one thread, as the command does it and with
    scikit-image's own evaluation of the same cascade: the time of the processor that either takes, and whether they
    find the same boxes.
    """

    pictures: Path = argument("a folder of pictures, or a data set's", "PICTURES")
    workers: int | None = workers()
    verify: bool = option("look at each result again", default=False)


@dataclass(frozen=True)
class Speed:
    """What was measured: the whole by the wall clock, looking for one picture's faces in seconds of the processor."""

    pictures: int
    workers: int
    verified: bool
    minutes: float
    pictures_a_minute: float
    looking: float
    looking_by_skimage: float
    equal: bool


def run(args: Arguments, console: ui.Console) -> None:
    """Measure and print."""
    cv2.setNumThreads(1)
    speed = measure(args.pictures, args.workers or usable_cores(), verify=args.verify)
    again = ", each looked at again" if speed.verified else ""
    rate = f"{speed.pictures} pictures in {speed.workers} processes{again}: {speed.pictures_a_minute:.1f} a minute"
    looking = (
        f"looking for faces: {speed.looking:.2f} s of the processor's time a picture, by scikit-image's evaluation "
        f"{speed.looking_by_skimage:.2f} s ({'the same' if speed.equal else 'OTHER'} boxes)"
    )
    console.emit(speed, [rate, looking])


def measure(folder: Path, workers: int, *, verify: bool) -> Speed:
    """Anonymise the pictures of a folder, and look for their faces in both ways.

    A :class:`P3MEdgeError` says that the folder holds no pictures, or one of them cannot be used.
    """
    jobs = [Job(item) for item in find_items(folder)]
    with tempfile.TemporaryDirectory() as temporary:
        output = Output(Path(temporary) / "out")
        output.prepare(folder, alphas=any(job.item.alpha is not None for job in jobs))
        start = time.perf_counter()
        records = anonymize_all(jobs, output, Settings(verifier=detect.CASCADE if verify else None), workers)
        minutes = (time.perf_counter() - start) / 60
    for record in records:
        if record.status == "failed":
            raise P3MEdgeError(f"{record.source}: {record.reason}")
    pictures, count = [read_image(job.item.image).visible for job in jobs], len(jobs)
    ours = detect.cascade()
    (seconds, boxes), (theirs, expected) = (
        _looked(one, pictures) for one in (ours, replace(ours, find=detect.faces_of(_skimage_windows)))
    )
    return Speed(count, workers, verify, minutes, count / minutes, seconds / count, theirs / count, boxes == expected)


def _looked(detector: detect.Detector, pictures: Sequence[Image]) -> tuple[float, list[tuple[detect.Box, ...]]]:
    """Seconds of the processor's time, and the boxes."""
    detector.detect(pictures[0])  # what is compiled at the first call is no part of it
    start = time.process_time()
    boxes = [detector.detect(picture) for picture in pictures]
    return time.process_time() - start, boxes


@cache
def _skimage_cascade() -> Any:
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    return Cascade(cast("Callable[[], str]", lbp_frontal_face_cascade_filename)())


def _skimage_windows(grey: Image) -> NDArray[np.int64]:
    """As :func:`p3m_edge.data.lbp.windows` with the settings of :func:`p3m_edge.data.detect.cascade`."""
    largest = min(grey.shape)
    found = _skimage_cascade().detect_multi_scale(grey, 1.15, 1.1, (24, 24), (largest, largest), min_neighbor_number=4)
    return np.array([(one["r"], one["c"], one["width"]) for one in found], np.int64).reshape(-1, 3)


if __name__ == "__main__":
    sys.exit(main(tool=sys.modules[__name__]))
