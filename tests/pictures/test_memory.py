"""The memory that pictures take together: whoever has to wait is served, and nobody takes what others have."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from p3m_edge import imageio
from p3m_edge.errors import InputError
from p3m_edge.pictures.memory import Budget
from tests.artefacts import picture

EACH = 14  # bytes for a pixel of an alpha


def work(budget: Budget, paths: list[Path], alone: Path | None = None) -> tuple[int, int]:
    """Read all, each in a thread; the most pixels (those of 16 bits count more) that were held together.

    Also how many pictures there were beside the one that was to be alone, with that one.
    """
    held, most, together = dict[int, int](), [0], set[int]()
    lock, errors = threading.Lock(), list[Exception]()

    def read(path: Path) -> None:
        try:
            with budget.read(path, None, ["alpha"], alone=path == alone) as found:
                pixels, me = found.own[..., 0].size, threading.get_ident()
                with lock:
                    held[me] = int(pixels * (2.75 if found.own.itemsize == 2 else 1))
                    most[0] = max(most[0], sum(held.values()))
                    if path == alone:
                        together.update(held)
                with lock:
                    del held[me]
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=read, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
    return most[0], len(together)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Twelve pictures of 100 x 100 pixels, every third of 16 bits, and one that is four times as large."""
    for index in range(12):
        pixels = picture(100, 100, index)
        imageio.write_png(tmp_path / f"{index:02}.png", pixels.astype(np.uint16) * 257 if index % 3 == 0 else pixels)
    imageio.write_png(tmp_path / "large.png", picture(200, 200))
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize("pixels", [40_000, 55_000, 1_000_000])
def test_what_is_at_work_fits_into_the_memory(paths: list[Path], pixels: int) -> None:
    most, _ = work(Budget(max_memory=pixels * EACH), paths * 3)
    assert 27_500 <= most <= pixels


def test_what_must_be_alone_is(paths: list[Path]) -> None:
    _, together = work(Budget(max_memory=1_000_000 * EACH), paths, alone=paths[5])
    assert together == 1


def test_what_never_fits_is_refused_and_leaves_no_trace(paths: list[Path]) -> None:
    budget = Budget(max_memory=27_500 * EACH)
    for path in (paths[-1], paths[-1].with_name("absent.png")):
        with pytest.raises(InputError), budget.read(path, None, ["alpha"]):
            pass
    assert work(budget, paths[:-1])[0] <= 27_500


def test_what_fits_is_at_work_together(paths: list[Path]) -> None:
    budget, both, arrived = Budget(max_memory=20_000 * EACH), threading.Barrier(2), list[int]()

    def read(path: Path) -> None:
        with budget.read(path, None, ["alpha"]):
            arrived.append(both.wait(60))

    threads = [threading.Thread(target=read, args=(path,)) for path in paths[1:3]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(arrived) == [0, 1]
