"""How many pictures a minute ``p3m-edge data anonymize`` does.

    python tools/measure_anonymising.py PICTURES [--workers N] [--verify] [--json]

The pictures of a folder are anonymised into a temporary folder, from files to files, with the processes' start counted
in. Then each picture's faces are looked for in this process, by one thread, as the command does it and with
scikit-image's own evaluation of the same cascade: the time of the processor that either takes, and whether they find
the same boxes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from p3m_edge.data import detect
from p3m_edge.data.anonymize.folder import Job, Output, Settings
from p3m_edge.data.anonymize.run import anonymize_all
from p3m_edge.data.sample import Image
from p3m_edge.data.sets import find_items
from p3m_edge.errors import P3MEdgeError
from p3m_edge.imageio import read_image
from p3m_edge.resources import usable_cores


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


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, metavar="PICTURES", help="a folder of pictures, or a data set's")
    parser.add_argument("--workers", type=int, default=usable_cores(), metavar="N", help="processes")
    parser.add_argument("--verify", action="store_true", help="look at each result again")
    parser.add_argument("--json", action="store_true", help="one document on the standard output")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        speed = measure(arguments.pictures, arguments.workers, verify=arguments.verify)
    except P3MEdgeError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, emoji=False, soft_wrap=True)
        return error.exit_code
    if arguments.json:
        json.dump(asdict(speed), sys.stdout, indent=1)
        return 0
    again = ", each looked at again" if speed.verified else ""
    Console().print(
        f"{speed.pictures} pictures in {speed.workers} processes{again}: {speed.pictures_a_minute:.1f} a minute\n"
        f"looking for faces: {speed.looking:.2f} s of the processor's time a picture, by scikit-image's evaluation "
        f"{speed.looking_by_skimage:.2f} s ({'the same' if speed.equal else 'OTHER'} boxes)",
        markup=False, emoji=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
