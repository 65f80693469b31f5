"""Clips with exact alphas: what they are made of, that they move, that they come again, and what is refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from p3m_edge import metrics
from p3m_edge.data.synth import CLEAN, portrait
from p3m_edge.data.synth.clip import FAR, MOST, SIDE, draw_call, draw_clip, draw_far
from p3m_edge.errors import InputError

SEED, COUNT = 7, 3


def test_the_first_frame_is_the_portrait_with_noise():
    clip = draw_clip(SEED, COUNT)
    assert len(clip.frames) == len(clip.alphas) == COUNT
    still = portrait(SEED, 640, 640, CLEAN)
    window = np.s_[32 : 32 + SIDE, 64 : 64 + SIDE]
    assert np.array_equal(clip.alphas[0], still.alpha[window].astype(np.float32) / 255)
    noise = clip.frames[0].astype(float) - still.image[window]
    inner = (still.image[window] > 20) & (still.image[window] < 235)
    assert abs(noise[inner].mean()) < 0.1
    assert noise[inner].std() == pytest.approx(3, abs=0.1)


def test_person_and_alpha_move_together():
    """Where alpha changes from one frame to the next, colours do, by more than their noise."""
    clip = draw_clip(SEED, COUNT)
    for frame, alpha in zip(clip.frames, clip.alphas, strict=True):
        assert (frame.dtype.name, frame.shape) == ("uint8", (SIDE, SIDE, 3))
        assert (alpha.dtype.name, alpha.shape) == ("float32", (SIDE, SIDE))
        assert (alpha.min(), alpha.max()) == (0, 1)
        assert (alpha[-20:].max(axis=1) == 1).all()  # the portrait's own lower edge is outside
    for (f0, a0), (f1, a1) in pairwise(zip(clip.frames, clip.alphas, strict=True)):
        changed = np.abs(a1 - a0) > 0.5
        assert 0 < changed.mean() < 0.02
        assert np.abs(f1[changed].astype(float) - f0[changed]).mean() > 20
    assert metrics.dtssd([clip.alphas[0]] * COUNT, clip.alphas) > 1
    assert metrics.dtssd(clip.alphas, clip.alphas) == 0


def test_it_comes_again_in_another_process():
    script = (
        "import hashlib, sys; from p3m_edge.data.synth.clip import draw_clip; c = draw_clip(*map(int, sys.argv[1:])); "
        "print(hashlib.sha256(b''.join(a.tobytes() for a in (*c.frames, *c.alphas))).hexdigest())"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(SEED), str(COUNT)], capture_output=True, text=True, timeout=120, check=True
    )
    clip = draw_clip(SEED, COUNT)
    bytes_of = [array.tobytes() for array in clip.frames] + [array.tobytes() for array in clip.alphas]
    assert told.stdout.strip() == hashlib.sha256(b"".join(bytes_of)).hexdigest()
    with pytest.raises(ValueError, match="read-only"):
        clip.frames[0][0] = 0


@pytest.mark.parametrize(("seed", "count"), [(SEED, 1), (SEED, MOST + 1), (SEED, 0), (-1, COUNT)])
def test_what_is_refused(seed, count):
    with pytest.raises(InputError):
        draw_clip(seed, count)


def test_a_call_is_a_person_who_rests_and_moves_before_a_wall():
    count, enters = 40, 3
    clip = draw_call(SEED, count, enters)
    assert len(clip.frames) == len(clip.alphas) == count
    empty, there = clip.alphas[enters - 1], clip.alphas[enters]
    assert empty.max() == 0
    assert there.max() == 1
    nobody = np.max(clip.alphas, axis=0) == 0
    wall = np.stack([frame[nobody].mean(axis=0) for frame in clip.frames])
    assert np.abs(wall / wall.mean(axis=0) - 1).max() < 0.02  # lamps and noise alone
    noise = clip.frames[1][nobody].astype(float) - clip.frames[0][nobody]
    assert 3 < noise.std() / np.sqrt(2) < 5.5
    ways = [float(np.abs(after - before).mean()) for before, after in pairwise(clip.alphas[enters:])]
    assert min(ways) > 0
    assert max(ways) > 5 * min(ways)
    again = draw_call(SEED, enters + 1, enters)
    assert all(np.array_equal(one, other) for one, other in zip(again.frames, clip.frames, strict=False))


def test_who_is_far_is_small_and_stands_on_the_lower_edge():
    clip = draw_far(SEED, 3)
    assert {frame.shape for frame in clip.frames} == {(FAR[1], FAR[0], 3)}
    for alpha in clip.alphas:
        rows = np.flatnonzero(alpha.max(axis=1) > 0.5)
        assert FAR[1] / 2 <= rows[0] < 0.9 * FAR[1]
        assert rows[-1] == FAR[1] - 1
        assert alpha[:, [0, -1]].max() == 0
    assert not np.array_equal(clip.alphas[0], clip.alphas[-1])
