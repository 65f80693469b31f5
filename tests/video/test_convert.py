"""From video to video: frames, stamps, audio, kinds of results; runs that are killed and go on."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from p3m_edge.errors import InputError, OutputError, UsageError
from p3m_edge.imageio import read_image
from p3m_edge.runtimes import Matting, compose
from p3m_edge.video import Codec, FileSource, Kind, matte_video
from p3m_edge.video.draft import SEGMENT
from tests.video.clips import UNEVEN, av, decoded, sound_of, write_clip

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

LONG = range(0, 40 * (SEGMENT + 40), 40)
GREEN = (0, 255, 0)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little more than a segment."""
    return write_clip(tmp_path_factory.mktemp("long") / "clip.mp4", stamps=LONG, size=(32, 32), sound=True)


def stamps(path: Path) -> list[Fraction]:
    with FileSource(path) as clip:
        return [(frame.stamp or 0) * clip.info.format.time_base for frame in clip]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_kind_has_the_frames_stamps_and_audio_of_the_source(matting: Matting, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", stamps=UNEVEN, sound=True)
    outputs: dict[Kind, Path] = {
        "alpha": tmp_path / "alpha.mp4", "cutout": tmp_path / "cutout.mov", "composite": tmp_path / "composite.mkv",
        "blur": tmp_path / "blur.m4v", "base": tmp_path / "base.mp4",
    }  # fmt: skip
    told: list[int] = []
    done = matte_video(
        source, dict(outputs), matting, background=GREEN, progress=lambda done, of: told.append(done)
    )  # fmt: skip
    assert (done.frames, done.width, done.height, done.remarks) == (len(UNEVEN), 96, 64, ())
    assert told == list(range(1, len(UNEVEN) + 1))
    assert min(done.milliseconds.values()) >= 0
    for path in outputs.values():
        assert sound_of(path) == sound_of(source)
        found = stamps(path)
        shift = found[0] - stamps(source)[0] if path.suffix == ".mkv" else 0  # of the audio, which begins before 0
        assert [stamp - shift for stamp in found] == stamps(source)
    assert len(names(tmp_path)) == 6


def test_what_is_written_is_what_the_matting_gives(matting: Matting, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4")
    with FileSource(source) as clip:
        frames = [frame.image for frame in clip]
    kinds: tuple[Kind, ...] = ("alpha", "cutout", "composite", "blur", "base")
    outputs: dict[Kind, str | Path] = {kind: tmp_path / kind for kind in kinds}
    matte_video(source, outputs, matting, background=GREEN, stabilise=False)
    for index, frame in enumerate(frames):
        alpha = matting(frame)
        made = {kind: read_image(tmp_path / kind / f"frame-{index:06d}.png") for kind in kinds}
        grey = np.rint(alpha * 255).astype(np.uint8)
        np.testing.assert_array_equal(made["alpha"].own[..., 0], grey)
        np.testing.assert_array_equal(made["cutout"].alpha, grey)
        np.testing.assert_array_equal(made["composite"].own, compose.composite(frame, alpha, GREEN))
        np.testing.assert_array_equal(made["blur"].own, compose.blur_background(frame, alpha))
        np.testing.assert_array_equal(made["base"].own, frame)


@pytest.mark.parametrize(("name", "codec"), [("a.mov", "qtrle"), ("a.mov", "prores"), ("a.webm", "vp9")])
def test_cutouts_keep_their_alpha(matting: Matting, tmp_path: Path, name: str, codec: Codec) -> None:
    source = write_clip(tmp_path / "clip.mp4")
    matte_video(source, {"cutout": tmp_path / name}, matting, codec=codec, stabilise=False)
    found = decoded(tmp_path / name, "libvpx-vp9" if codec == "vp9" else None)
    with FileSource(source) as clip:
        wanted = [np.rint(matting(frame.image) * 255) for frame in clip]
    largest = {"qtrle": 0, "prores": 2, "vp9": 40}[codec]
    for frame, alpha in zip(found, wanted, strict=True):
        assert np.abs(frame.to_ndarray(format="rgba")[..., 3] - alpha).max() <= largest


def test_nothing_is_kept_of_frames_that_are_done(matting: Matting, long_clip: Path, tmp_path: Path) -> None:
    """Objects are counted, because memory itself goes up and down with the allocator."""
    counts: dict[int, int] = {}

    def count(done: int, of: int | None) -> None:
        if done in (SEGMENT // 2, SEGMENT + 30):
            gc.collect()
            counts[done] = len(gc.get_objects())

    matte_video(long_clip, {"base": tmp_path / "out.mp4"}, matting, progress=count)
    first, last = counts.values()
    assert last - first < SEGMENT // 6


def test_segments_make_no_difference(matting: Matting, long_clip: Path, tmp_path: Path) -> None:
    done = matte_video(long_clip, {"base": tmp_path / "out.mp4"}, matting, stabilise=False)
    assert done.frames == len(LONG)
    assert stamps(tmp_path / "out.mp4") == stamps(long_clip)
    assert sound_of(tmp_path / "out.mp4") == sound_of(long_clip)
    with FileSource(long_clip) as wanted, FileSource(tmp_path / "out.mp4") as found:
        assert max(
            float(np.abs(a.image.astype(float) - b.image).mean()) for a, b in zip(wanted, found, strict=True)
        ) < 3  # fmt: skip


class StopError(Exception):
    pass


def test_a_run_that_ended_early_goes_on(matting: Matting, long_clip: Path, tmp_path: Path) -> None:
    outputs: dict[Kind, str | Path] = {"composite": tmp_path / "out.mp4", "alpha": tmp_path / "frames"}

    def stop(done: int, of: int | None) -> None:
        if done == SEGMENT + 20:
            raise StopError

    with pytest.raises(StopError):
        matte_video(long_clip, outputs, matting, background=GREEN, stabilise=False, progress=stop)
    assert names(tmp_path) == [".frames.parts", ".out.mp4.parts"]
    with pytest.raises(UsageError, match="with other options"):
        matte_video(long_clip, outputs, matting, background=(1, 2, 3), resume=True)
    told: list[int] = []
    done = matte_video(
        long_clip, outputs, matting, background=GREEN, stabilise=False, resume=True,
        progress=lambda done, of: told.append(done),
    )  # fmt: skip
    assert (done.frames, done.resumed, told[0]) == (len(LONG), SEGMENT, SEGMENT + 1)
    assert names(tmp_path) == ["frames", "out.mp4"]
    assert stamps(tmp_path / "out.mp4") == stamps(long_clip)
    matte_video(long_clip, {"alpha": tmp_path / "whole"}, matting, stabilise=False)
    assert names(tmp_path / "frames") == names(tmp_path / "whole")
    for name in names(tmp_path / "whole"):
        assert (tmp_path / "frames" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_without_resume_it_begins_anew(matting: Matting, long_clip: Path, tmp_path: Path) -> None:
    def stop(done: int, of: int | None) -> None:
        if done == SEGMENT + 1:
            raise StopError

    with pytest.raises(StopError):
        matte_video(long_clip, {"base": tmp_path / "out.mp4"}, matting, stabilise=False, progress=stop)
    clip = write_clip(tmp_path / "short.mp4")
    assert matte_video(clip, {"base": tmp_path / "out.mp4"}, matting).frames == 10
    assert names(tmp_path) == ["out.mp4", "short.mp4"]


def test_a_run_that_fails_in_its_first_segment_leaves_nothing(matting: Matting, tmp_path: Path) -> None:
    def stop(done: int, of: int | None) -> None:
        raise StopError

    source = write_clip(tmp_path / "clip.mp4")
    for out in ("out.mp4", "folder"):
        (tmp_path / "before.mp4").write_bytes(b"before")
        with pytest.raises(StopError):
            matte_video(source, {"alpha": tmp_path / out}, matting, progress=stop)
    assert names(tmp_path) == ["before.mp4", "clip.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_killed_run_leaves_no_result_and_goes_on(artefact: Path, long_clip: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; from p3m_edge.runtimes import Matting; from p3m_edge.video import matte_video\n"
        f"matte_video({str(long_clip)!r}, {{'alpha': 'out.mp4'}}, Matting({str(artefact)!r}, threads=1), resume=True,\n"
        f"stabilise=False, progress=lambda n, of: time.sleep(60) if n == {SEGMENT + 5} and sys.argv[1:] else None)"
    )
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code, "wait"], cwd=tmp_path, env=os.environ | paths)
    segment = tmp_path / ".out.mp4.parts" / f"{0:09}.mp4"
    deadline = time.monotonic() + 60
    while not segment.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert segment.exists()
    assert not (tmp_path / "out.mp4").exists()
    assert len(stamps(segment)) == SEGMENT
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | paths, check=True)
    assert names(tmp_path) == ["out.mp4"]
    assert stamps(tmp_path / "out.mp4") == stamps(long_clip)


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_a_full_disc(artefact: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", size=(256, 256))
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from p3m_edge.errors import OutputError; from p3m_edge.runtimes import Matting\n"
        "from p3m_edge.video import matte_video; matting = Matting(" + repr(str(artefact)) + ")\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        f"try: matte_video({str(source)!r}, {{'cutout': 'out.mov'}}, matting)\n"
        "except OutputError as error: print(error)"
    )
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | paths, check=True, capture_output=True, text=True
    )
    assert "cannot be written: File too large" in done.stdout
    assert names(tmp_path) == ["clip.mp4"]


def test_ten_bits_and_full_range_stay(matting: Matting, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mkv", codec="libx265", form="yuv420p10le", colours=(2, 9))
    outputs: dict[Kind, str | Path] = {"composite": tmp_path / "out.mkv", "cutout": tmp_path / "png"}
    matte_video(source, outputs, matting, background=GREEN, codec=None)
    with FileSource(tmp_path / "out.mkv") as made:
        form = made.info.format
        assert (form.bits, form.full_range, form.matrix) == (10, True, 9)
    assert read_image(tmp_path / "png" / "frame-000000.png").own.dtype == np.uint16


@pytest.mark.parametrize("size", [(95, 63), (1, 1), (2, 5)])
def test_odd_sides(matting: Matting, tmp_path: Path, size: tuple[int, int]) -> None:
    source = write_clip(tmp_path / "clip.mov", size=size, codec="qtrle", form="rgb24", stamps=(0, 40))
    outputs: dict[Kind, str | Path] = {
        "base": tmp_path / "a.mp4",
        "cutout": tmp_path / "b.mov",
        "alpha": tmp_path / "c",
    }
    done = matte_video(source, outputs, matting)
    assert (done.width, done.height, done.frames) == (*size, 2)
    assert "odd sides" in done.remarks[0]
    even = tuple(side + side % 2 for side in size)
    for path in (tmp_path / "a.mp4", tmp_path / "b.mov"):
        with FileSource(path) as made:
            assert (made.info.width, made.info.height) == even
    assert read_image(tmp_path / "c" / "frame-000001.png").own.shape[1::-1] == size


def test_what_cannot_be_done(matting: Matting, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", sound=True)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    before = names(tmp_path)
    out = tmp_path / "out.mp4"
    for outputs, more, kind, match in (
        ({}, {}, UsageError, "at least one"), ({"mask": out}, {}, UsageError, "unknown kind of result"),
        ({"alpha": source}, {}, OutputError, "is the input"), ({"alpha": ""}, {}, UsageError, "an output is a path"),
        ({"alpha": tmp_path / "folder.mp4"}, {}, OutputError, "is a folder"),
        ({"alpha": tmp_path / "full"}, {}, OutputError, "is there already"),
        ({"alpha": out, "base": out}, {}, UsageError, "the same file"),
        ({"composite": out}, {}, UsageError, "belong together"),
        ({"alpha": out}, {"background": (1, 2, 3)}, UsageError, "belong together"),
        ({"cutout": out}, {}, UsageError, "keeps no alpha channel"),
        ({"alpha": tmp_path / "out.avi"}, {}, UsageError, "no kind of video"),
        ({"alpha": out}, {"codec": "vp9"}, UsageError, "holds no vp9"),
        ({"alpha": out}, {"codec": "xvid"}, UsageError, "unknown codec"),
        ({"alpha": tmp_path / "out.webm"}, {}, UsageError, "holds no aac audio"),
        ({"alpha": tmp_path / "none" / "out.mp4"}, {}, OutputError, "cannot be written"),
    ):  # fmt: skip
        with pytest.raises(kind, match=match):
            matte_video(source, outputs, matting, **more)  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(InputError, match="cannot be read"):
        matte_video(tmp_path / "none.mp4", {"alpha": out}, matting)
    with pytest.raises(UsageError, match="of the class Matting"):
        matte_video(source, {"alpha": out}, None)  # type: ignore[arg-type]  # that is what is tested
    assert names(tmp_path) == before


def test_without_audio(matting: Matting, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", sound=True)
    matte_video(source, {"alpha": tmp_path / "out.webm"}, matting, audio=False)
    with av.open(str(tmp_path / "out.webm")) as container:
        assert not container.streams.audio


def test_one_run_at_a_time(matting: Matting, tmp_path: Path) -> None:
    source, out = write_clip(tmp_path / "clip.mp4"), tmp_path / "out.mp4"

    def again(done: int, of: int | None) -> None:
        with pytest.raises(OutputError, match="is being written by another run"):
            matte_video(source, {"alpha": out}, matting, resume=True)

    assert matte_video(source, {"alpha": out}, matting, progress=again).frames == 10


def test_effects(matting: Matting, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", stamps=(0, 40))
    effect = compose.Effect(feather=2.0, light_wrap=0.5, linear=True)
    outputs: dict[Kind, str | Path] = {"composite": tmp_path / "composite", "blur": tmp_path / "blur"}
    matte_video(source, outputs, matting, background=GREEN, effect=effect, stabilise=False)
    with FileSource(source) as clip:
        for index, frame in enumerate(clip):
            behinds: dict[str, compose.Behind] = {"composite": GREEN, "blur": "blur"}
            for kind, behind in behinds.items():
                made = read_image(tmp_path / kind / f"frame-{index:06d}.png").own
                wanted = compose.apply(frame.image, matting(frame.image), replace(effect, background=behind))
                np.testing.assert_array_equal(made, wanted)
