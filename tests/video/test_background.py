"""A video behind the subject: which of its pictures, loops, runs that go on, files that cannot be one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from p3m_edge.arrays import Pixels
from p3m_edge.errors import InputError, OutputError, UsageError
from p3m_edge.imageio import read_image
from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.compose import Effect, apply
from p3m_edge.video import ArraySource, FileSource, MattingStream, VideoBackground, matte_video
from p3m_edge.video.draft import SEGMENT
from tests.video.clips import UNEVEN, picture, write_clip

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


def exact(path: Path, stamps: tuple[int, ...], *, size: tuple[int, int] = (40, 60), rotation: int = 0) -> Path:
    """A clip without losses."""
    return write_clip(path, stamps=stamps, size=size, codec="qtrle", form="rgb24", rotation=rotation)


def number(image: Pixels) -> int:
    """Which of :func:`picture` it is."""
    return int(image[-1, -1, 0]) // 20


def test_the_picture_is_that_of_the_time_in_any_order(tmp_path: Path) -> None:
    stamps = (50, 100, 300, 350, 450)  # the first one is at 0 s, and the last one is shown for 40 ms
    with VideoBackground(exact(tmp_path / "behind.mov", stamps)) as behind:
        for time, wanted in (
            (0.0, 0), (0.048, 0), (0.05, 1), (0.2, 1), (0.2495, 2), (0.25, 2), (0.04, 0), (0.3, 3), (0.4, 4), (0.43, 4),
            (0.44, 0), (0.49, 1), (0.1, 1), (4400.26, 2), (4400.0, 0), (0.0, 0), (-0.1, 3),
        ):  # fmt: skip
            assert number(behind.picture(time)) == wanted, time
        np.testing.assert_array_equal(behind.picture(0.26), picture(2, 40, 60))


def test_equal_rates_stay_in_step_over_many_loops(tmp_path: Path) -> None:
    with VideoBackground(exact(tmp_path / "behind.mov", tuple(range(0, 240, 40)))) as behind:
        assert [number(behind.picture(index / 25)) for index in range(60)] == [index % 6 for index in range(60)]


def test_one_picture_stays(tmp_path: Path) -> None:
    with VideoBackground(exact(tmp_path / "behind.mov", (0,))) as behind:
        assert {number(behind.picture(index / 25)) for index in range(20)} == {0}


def test_it_stands_upright_and_in_the_order_of_the_frames_colours(tmp_path: Path) -> None:
    clip = exact(tmp_path / "behind.mov", (0, 40), rotation=90)
    upright = np.rot90(picture(1, 40, 60))
    with VideoBackground(clip) as behind, VideoBackground(clip, colour="BGR") as turned:
        np.testing.assert_array_equal(behind.picture(0.04), upright)
        np.testing.assert_array_equal(turned.picture(0.04), upright[..., ::-1])


def test_loops_leave_nothing_open(tmp_path: Path) -> None:
    clip = exact(tmp_path / "behind.mov", (0, 40))

    def opened() -> int:
        return [each.path for each in psutil.Process().open_files()].count(str(clip.resolve()))

    with VideoBackground(clip) as behind:
        for index in range(40):
            behind.picture(index / 25)
            assert opened() <= 1
    assert opened() == 0


@pytest.mark.parametrize("size", [(40, 60), (200, 60), (96, 64)])
def test_files_and_streams_have_it_behind_the_subject(matting: Matting, tmp_path: Path, size: tuple[int, int]) -> None:
    source = write_clip(tmp_path / "clip.mp4", stamps=UNEVEN)
    behind = exact(tmp_path / "behind.mov", (0, 45, 90, 135), size=size)
    mixed = Effect(feather=1.0)

    def at(milliseconds: int) -> int:
        return (milliseconds + 1) % 175 // 45  # one early; the last one is shown for 40

    done = matte_video(
        source, {"composite": tmp_path / "out"}, matting, background=behind, effect=mixed, stabilise=False
    )
    assert done.frames == len(UNEVEN)
    with FileSource(source) as clip:
        frames = list(clip)
    shown = []
    for index, frame in enumerate(frames):
        shown.append(at(UNEVEN[index] - UNEVEN[0]))
        wanted = apply(frame.image, matting(frame.image), Effect(picture(shown[-1], *size), feather=1.0))
        np.testing.assert_array_equal(read_image(tmp_path / "out" / f"frame-{index:06d}.png").own, wanted)
    assert set(shown) == {0, 1, 2, 3}
    images = [frame.image for frame in frames[:9]]
    with VideoBackground(behind, Effect(colours="fast")) as effect:
        stream = MattingStream(ArraySource(images, rate=20.0), matting, stabilise=False, effect=effect)
        for result in stream:
            of_now = Effect(picture(at(50 * result.frame.index), *size), colours="fast")
            assert result.picture is not None
            np.testing.assert_array_equal(result.picture, apply(result.frame.image, result.alpha, of_now))


class StopError(Exception):
    pass


def test_a_run_that_goes_on_is_as_one_that_never_ended(matting: Matting, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", stamps=range(0, 40 * (SEGMENT + 20), 40), size=(32, 32))
    behind = exact(tmp_path / "behind.mov", (0, 50, 130, 170), size=(32, 32))

    def go_on(done: int, of: int | None) -> None:
        pass

    def stop(done: int, of: int | None) -> None:
        if done == SEGMENT + 5:
            raise StopError

    def run(out: str, progress: Callable[[int, int | None], None], *, resume: bool = False) -> int:
        return matte_video(
            source, {"composite": tmp_path / out}, matting, background=str(behind), effect=Effect(colours="frame"),
            stabilise=False, resume=resume, progress=progress,
        ).resumed  # fmt: skip

    with pytest.raises(StopError):
        run("two", stop)
    times = behind.stat()
    os.utime(behind, (0, 0))
    with pytest.raises(UsageError, match="with other options"):
        run("two", go_on, resume=True)
    os.utime(behind, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (run("two", go_on, resume=True), run("one", go_on)) == (SEGMENT, 0)
    made = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert made == sorted(path.name for path in (tmp_path / "two").iterdir())
    assert len(made) == SEGMENT + 20
    for name in made:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_one_that_ends_early_is_shown_as_far_as_it_goes(matting: Matting, tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", stamps=range(0, 4000, 40))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with FileSource(cut) as clip:
        *_, last = (frame.image for frame in clip)
    source = write_clip(tmp_path / "clip.mp4", stamps=(0, 4000))
    done = matte_video(source, {"composite": tmp_path / "out.mp4"}, matting, background=cut)
    assert done.frames == 2
    with VideoBackground(cut) as behind:
        shown = [behind.picture(index / 25) for index in range(100)]
    assert any(np.array_equal(image, last) for image in shown)
    assert sum(np.array_equal(image, shown[0]) for image in shown) >= 2


def test_what_cannot_be_a_background(matting: Matting, tmp_path: Path) -> None:
    source, out = write_clip(tmp_path / "clip.mp4"), tmp_path / "out.mp4"
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "damaged.mp4").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "none.mkv").write_bytes(write_clip(tmp_path / "some.mkv").read_bytes()[:600])
    before = sorted(tmp_path.iterdir())
    for name in ("folder.mp4", "empty.mp4", "damaged.mp4", "text.mp4", "none.mkv", "missing.mp4"):
        with pytest.raises(InputError, match=f"{name} (cannot be read|can be decoded|holds no pictures)"):
            matte_video(source, {"composite": out}, matting, background=tmp_path / name)
    with pytest.raises(OutputError, match=r"some\.mkv is the background"):
        matte_video(source, {"composite": tmp_path / "some.mkv"}, matting, background=tmp_path / "some.mkv")
    with pytest.raises(UsageError, match="a background is a path"):
        matte_video(source, {"composite": out}, matting, background="")
    with pytest.raises(UsageError, match="belong together"):
        matte_video(source, {"alpha": out}, matting, background=source)
    assert sorted(tmp_path.iterdir()) == before


def test_misuse(artefact: Path, tmp_path: Path) -> None:
    clip = exact(tmp_path / "behind.mov", (0, 40))
    with pytest.raises(UsageError, match="of the class Effect"):
        VideoBackground(clip, (0, 255, 0))  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(UsageError, match="unknown order of colours"):
        VideoBackground(clip, colour="GBR")  # type: ignore[arg-type]  # that is what is tested
    with VideoBackground(clip) as behind, Matting(artefact, threads=1, colour="BGR") as matting:
        with pytest.raises(UsageError, match="the effect gives RGB"):
            MattingStream([], matting, effect=behind)
        with pytest.raises(UsageError, match="a number of seconds"):
            behind.picture(float("nan"))
    with pytest.raises(UsageError, match="is closed"):
        behind.picture(0.0)


@pytest.mark.skipif(sys.platform == "win32", reason="an open file is not deleted there")
def test_one_that_is_deleted_on_the_way(tmp_path: Path) -> None:
    clip = exact(tmp_path / "behind.mov", (0, 40))
    with VideoBackground(clip) as behind:
        clip.unlink()
        assert number(behind.picture(0.04)) == 1
        with pytest.raises(InputError, match="cannot be read as a video: No such file"):
            behind.picture(0.08)
