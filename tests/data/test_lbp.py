"""Our evaluation of the cascade finds the windows that scikit-image's does: all of them, and no others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import lbp_frontal_face_cascade_filename as trained_file

from p3m_edge.data import detect, lbp
from p3m_edge.data.synth import portrait
from p3m_edge.imageio import read_image, write_png

ASTRONAUT = Path(detect.__file__).parents[1] / "assets" / "astronaut.jpg"

# In one thread: with several, scikit-image finds windows in an order that differs each time, and groups them by it.
THEIRS = """
import json, sys
import numpy as np
from skimage.data import lbp_frontal_face_cascade_filename as trained_file
from skimage.feature import Cascade

cascade = Cascade(trained_file())
for path, growth, step, neighbours in json.load(sys.stdin):
    grey = np.load(path)
    size = (min(grey.shape),) * 2
    found = cascade.detect_multi_scale(grey, growth, step, (24, 24), size, min_neighbor_number=neighbours)
    print(json.dumps([(one["r"], one["c"], one["width"], one["height"]) for one in found]))
"""
SETTINGS = ((1.15, 1.1, 4), (1.1, 1.2, 3), (1.3, 1.0, 1))


def pictures() -> dict[str, np.ndarray]:
    """Faces of several sizes, people without any detail, noise that has windows by chance, and odd shapes."""
    astronaut = np.asarray(cv2.cvtColor(read_image(ASTRONAUT).rgb, cv2.COLOR_RGB2GRAY))
    drawn = np.asarray(cv2.cvtColor(portrait(3, 200, 260, frontal=True).image, cv2.COLOR_RGB2GRAY))
    rng = np.random.default_rng(0)
    noise = np.asarray(cv2.GaussianBlur(rng.integers(0, 256, (300, 400), np.uint8), (0, 0), 3))
    return {
        "astronaut": astronaut, "mirrored": np.ascontiguousarray(astronaut[:, ::-1]), "drawn": drawn,
        "small": np.asarray(cv2.resize(astronaut, (128, 96), interpolation=cv2.INTER_AREA)),
        "head": np.ascontiguousarray(astronaut[60:210, 150:290]), "noise": cv2.equalizeHist(noise),
        "narrow": np.ascontiguousarray(astronaut[:, 200:225]), "flat": np.full((80, 90), 140, np.uint8),
    }  # fmt: skip


def test_the_same_windows_as_scikit_image(tmp_path):
    asked = []
    for name, grey in pictures().items():
        np.save(tmp_path / f"{name}.npy", grey)
        asked += [(str(tmp_path / f"{name}.npy"), *setting) for setting in SETTINGS]
    done = subprocess.run(
        [sys.executable, "-c", THEIRS], input=json.dumps(asked), capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    expected = [json.loads(line) for line in done.stdout.splitlines()]
    trained = lbp.load(trained_file())
    assert sum(map(bool, expected)) > 10
    for (path, growth, step, neighbours), theirs in zip(asked, expected, strict=True):
        ours = lbp.windows(np.load(path), trained, growth, step, neighbours).tolist()
        assert [(row, column, side, side) for row, column, side in ours] == [tuple(one) for one in theirs], path


@pytest.mark.parametrize("shape", [(24, 24), (24, 300), (25, 24), (2000, 24)])
def test_pictures_as_small_as_the_window(shape):
    assert lbp.windows(np.zeros(shape, np.uint8), lbp.load(trained_file()), 1.15, 1.1, 1).shape == (0, 3)


def test_where_nothing_can_be_kept(tmp_path):
    """No folder for what was compiled, as in a container without a home: it is compiled again, and works."""
    write_png(tmp_path / "head.png", read_image(ASTRONAUT).rgb[30:190, 150:310])
    code = (
        "from numba.core import caching\n"
        "def none(*_): raise RuntimeError('cannot cache function: no locator available')\n"
        "caching.FunctionCache.__init__ = none\n"
        "from p3m_edge.data import detect\n"
        "from p3m_edge.imageio import read_image\n"
        f"print(len(detect.cascade().detect(read_image({str(tmp_path / 'head.png')!r}).rgb)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1
