"""Synthetic portraits: exact mattes, the same in every process, with fine strands and faces that are found."""

import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from p3m_edge.data.pixels import blend
from p3m_edge.data.sample import Sample
from p3m_edge.data.synth import CLEAN, Look, portrait
from p3m_edge.data.synth.folder import Recipe, hide_face, write_set
from p3m_edge.data.synth.measure import composition_error, face_found, fine_strands, measure, summarise
from p3m_edge.data.trimap import make_trimap
from p3m_edge.errors import InputError, UsageError

SIDE = 256


@pytest.fixture(scope="module")
def clean():
    return [portrait(seed, SIDE, SIDE, CLEAN) for seed in range(8)]


def test_image_is_composed_of_its_parts(clean):
    for sample in clean:
        assert composition_error(sample) <= 1
        assert sample.foreground is not None
        assert sample.background is not None
        mixed = (sample.alpha > 40) & (sample.alpha < 215)
        # A wrong matte shows there: the colours differ, and the mixture is neither of them.
        assert mixed.any()
        alpha = np.where(mixed, 0, sample.alpha).astype(np.uint8)
        wrong = blend(sample.foreground, sample.background, alpha)
        assert np.abs(wrong[mixed].astype(int) - sample.image[mixed]).max() > 20


def behind(sample: Sample) -> bytes:
    assert sample.background is not None
    return sample.background.tobytes()


def light(sample: Sample) -> float:
    assert sample.foreground is not None
    return float((sample.alpha[..., None] / 255 * sample.foreground).sum())


def test_motion_moves_matte_and_colours_together():
    look = Look(motion=1, motion_length=0.04, soft=0, grade=0, grey=0, noise=0, jpeg=0)
    pairs = ((portrait(seed, SIDE, SIDE, look), portrait(seed, SIDE, SIDE, CLEAN)) for seed in range(20))
    # A blur that would leave too much unknown brings another scene: take one that stayed.
    moved, still = next(pair for pair in pairs if behind(pair[0]) == behind(pair[1]))
    assert composition_error(moved) <= 1
    mixed = [np.count_nonzero((sample.alpha > 0) & (sample.alpha < 255)) for sample in (moved, still)]
    assert mixed[0] > 1.4 * mixed[1]
    # Light is neither made nor lost, but at the border: premultiplied colours and matte keep their sums.
    assert moved.alpha.mean() == pytest.approx(still.alpha.mean(), rel=0.02)
    assert light(moved) == pytest.approx(light(still), rel=0.02)


def test_noise_and_compression_leave_the_ground_truth_alone():
    noisy = portrait(5, SIDE, SIDE, Look(motion=0, soft=0, grade=0, grey=0, noise=0.2, jpeg=1, quality=(20, 20)))
    clean = portrait(5, SIDE, SIDE, CLEAN)
    for part in ("alpha", "trimap", "foreground", "background", "face_mask"):
        assert np.array_equal(getattr(noisy, part), getattr(clean, part)), part
    assert composition_error(noisy) > 5


def test_forms_and_ranges(clean):
    sample = portrait(1, 160, 96)
    colours, masks = (sample.image, sample.foreground, sample.background), (sample.trimap, sample.face_mask)
    assert [part.shape for part in colours if part is not None] == [(96, 160, 3)] * 3
    assert [part.shape for part in (sample.alpha, *masks) if part is not None] == [(96, 160)] * 3
    for sample in clean:
        assert np.array_equal(sample.trimap, make_trimap(sample.alpha, 8))
        assert set(np.unique(sample.face_mask)) <= {0, 255}
        assert sample.face_mask is not None
        assert (sample.alpha[sample.face_mask > 0] > 127).all()
        assert 0.05 < np.mean(sample.alpha > 127) < 0.9
        assert sample.alpha.min() == 0
        assert sample.alpha.max() == 255


@pytest.mark.parametrize(("seed", "width", "height"), [(-1, 64, 64), (0, 31, 64), (0, 64, 4097)])
def test_impossible_requests(seed, width, height):
    with pytest.raises(InputError):
        portrait(seed, width, height)


@pytest.mark.parametrize(("width", "height"), [(32, 32), (32, 300), (300, 40)])
def test_small_and_narrow_pictures(width, height):
    for seed in range(4):
        sample = portrait(seed, width, height)
        assert sample.image.shape == (height, width, 3)
        assert np.isfinite(composition_error(sample))


def _digest(seed: int) -> str:
    sample = portrait(seed, 128, 128)
    parts = (sample.image, sample.alpha, sample.trimap, sample.foreground, sample.background, sample.face_mask)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts if part is not None)).hexdigest()


def test_the_seed_decides_in_every_process():
    code = "from tests.data.test_synth import _digest; print(_digest(11))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120, check=True)
    assert other.stdout.strip() == _digest(11)
    assert _digest(12) != _digest(11)


def test_the_measure_of_strands_knows_their_width():
    def lines(width: float) -> int:
        """Twenty vertical lines of 100 pixels, drawn 10 times as large."""
        fine = np.zeros((1000, 4000), np.uint8)
        for k in range(20):
            left = 203 + 190 * k
            fine[:, left : left + round(10 * width)] = 255
        return fine_strands(np.asarray(cv2.resize(fine, (400, 100), interpolation=cv2.INTER_AREA), np.uint8))

    assert lines(0.5) == pytest.approx(2000, rel=0.1)
    assert lines(0.8) == pytest.approx(2000, rel=0.1)
    assert lines(1.6) == 0
    assert lines(8) == 0
    body = np.zeros((100, 100), np.uint8)
    cv2.circle(body, (50, 50), 30, 255, -1, cv2.LINE_AA)
    assert fine_strands(body) < 10  # a soft edge is no strand


def test_unknown_region_and_strands_of_full_size_portraits():
    drawn = [portrait(seed) for seed in range(100, 108)]
    shares = [np.mean(sample.trimap == 128) for sample in drawn]
    assert min(shares) >= 0.02
    assert max(shares) <= 0.15
    assert sum(fine_strands(sample.alpha) >= 20 for sample in drawn) >= 6


def test_an_independent_cascade_finds_most_frontal_faces():
    pytest.importorskip("skimage")
    found = [face_found(portrait(seed, SIDE, SIDE, frontal=True)) for seed in range(500, 506)]
    assert sum(found) >= 5


def test_a_hidden_face_is_hidden_and_nothing_else():
    drawn = portrait(0, SIDE, SIDE, frontal=True)
    assert drawn.face_mask is not None
    assert drawn.face_mask.any()
    hidden = hide_face(drawn)
    changed = (hidden.image != drawn.image).any(axis=2)
    assert changed[drawn.face_mask > 0].mean() > 0.5
    assert not changed[hidden.face_mask == 0].any()
    assert np.array_equal(hidden.alpha, drawn.alpha)


def test_a_set_continues_where_it_ended(tmp_path):
    recipe = Recipe(seed=2, width=64, height=64, blurred=False, colours=True)
    first = write_set(tmp_path, recipe, 2, workers=1)
    assert (first.drawn, first.kept) == (2, 0)
    files = sorted((tmp_path / "image").iterdir())
    times = [file.stat().st_mtime_ns for file in files]
    second = write_set(tmp_path, recipe, 3, workers=1)
    assert (second.drawn, second.kept) == (1, 2)
    assert [file.stat().st_mtime_ns for file in files] == times
    for folder in ("image", "alpha", "trimap", "facemask", "fg", "bg"):
        assert [file.stem for file in sorted((tmp_path / folder).iterdir())] == ["02000000", "02000001", "02000002"]
    with pytest.raises(UsageError, match="other settings: width"):
        write_set(tmp_path, Recipe(seed=2, width=96, height=64, blurred=False, colours=True), 3, workers=1)


def test_the_summary_counts():
    pytest.importorskip("skimage")
    measured = [measure(seed, 96, 96) for seed in range(3)]
    summary = summarise(measured)
    assert summary["composition"].met == 3
    assert summary["composition"].largest <= 1
    assert summary["found"].met == sum(one["found"] for one in measured)
    for name, figure in summary.items():
        assert figure.smallest <= figure.median <= figure.largest, name
        assert figure.median == sorted(one[name] for one in measured)[1]
