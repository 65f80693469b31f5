"""Video files: what is read is what was written, and what is written can be read back."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from p3m_edge.errors import InputError, OutputError, UsageError
from p3m_edge.video import Codec, FileSink, FileSource, Format, Frame
from p3m_edge.video.write import check_audio, join
from tests.video.clips import UNEVEN, av, decoded, picture, sound_of, write_clip

PLAIN = Format(Fraction(25), Fraction(1, 1000))


def copy(source: Path, out: Path, codec: Codec | None = None) -> list[Frame]:
    """Read a clip and write its pictures; what was read."""
    frames = []
    with FileSource(source) as clip, FileSink(out, clip.info.format, codec=codec) as sink:
        for frame in clip:
            sink.write(frame, frame.image)
            frames.append(frame)
    return frames


def stamps(path: Path) -> list[Fraction]:
    with FileSource(path) as clip:
        return [(frame.stamp or 0) * clip.info.format.time_base for frame in clip]


def near(found: Frame, wanted: Frame, tolerance: float) -> bool:
    """Whether two frames are the same but for what a lossy codec does."""
    values = [frame.image / np.float64(np.iinfo(frame.image.dtype).max) for frame in (found, wanted)]
    return float(np.abs(values[0] - values[1]).mean()) <= tolerance


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_uneven_time_stamps_are_kept(tmp_path: Path, suffix: str) -> None:
    source = write_clip(tmp_path / f"clip{suffix}", stamps=UNEVEN)
    frames = copy(source, tmp_path / f"out{suffix}")
    assert len(frames) == len(UNEVEN)
    assert stamps(tmp_path / f"out{suffix}") == stamps(source)
    assert [round(1000 * frame.time) for frame in frames] == [stamp - UNEVEN[0] for stamp in UNEVEN]
    with FileSource(tmp_path / f"out{suffix}") as back:
        assert all(near(found, wanted, 0.02) for found, wanted in zip(back, frames, strict=True))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_pictures_stand_upright(tmp_path: Path, degrees: int) -> None:
    with FileSource(write_clip(tmp_path / "clip.mp4", rotation=degrees)) as clip:
        first = next(iter(clip)).image
        size = clip.info.width, clip.info.height
    upright = np.rot90(picture(0, 96, 64), degrees // 90)
    assert size == (first.shape[1], first.shape[0]) == (upright.shape[1], upright.shape[0])
    assert np.abs(first.astype(float) - upright).mean() < 6


@pytest.mark.parametrize(("form", "range_", "matrix"), [("yuvj420p", 2, 5), ("yuv420p", 1, 1), ("yuv444p", 1, 9)])
def test_colours_keep_their_range_and_matrix(tmp_path: Path, form: str, range_: int, matrix: int) -> None:
    source = write_clip(tmp_path / "clip.mkv", form=form, colours=(range_, matrix))
    frames = copy(source, tmp_path / "out.mkv")
    assert np.abs(frames[3].image[40, 60].astype(int) - picture(3, 96, 64)[40, 60]).max() <= 3
    with FileSource(tmp_path / "out.mkv") as back:
        assert (back.info.format.full_range, back.info.format.matrix) == (range_ == 2, matrix)
        assert near(list(back)[3], frames[3], 0.02)


def test_ten_bits_stay_ten_bits(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mkv", codec="libx265", form="yuv420p10le")
    frames = copy(source, tmp_path / "out.mkv", "hevc")
    assert frames[0].image.dtype == np.uint16
    with FileSource(tmp_path / "out.mkv") as back:
        assert back.info.format.bits == 10
        assert near(next(iter(back)), frames[0], 0.02)


@pytest.mark.parametrize(
    ("name", "codec", "largest"), [("a.mov", "qtrle", 0), ("a.mov", "prores", 2), ("a.webm", "vp9", 40)]
)
def test_alpha_is_kept(tmp_path: Path, name: str, codec: Codec, largest: int) -> None:
    ramp = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))
    with FileSink(tmp_path / name, PLAIN, codec=codec, alpha=True) as sink:
        for number in range(4):
            image = picture(number, 96, 64)
            sink.write(Frame(image, number, number / 25, 0.0), np.dstack([image, ramp]))
    frames = decoded(tmp_path / name, "libvpx-vp9" if codec == "vp9" else None)
    assert len(frames) == 4
    found = frames[2].to_ndarray(format="rgba")[..., 3]
    assert np.abs(found.astype(int) - ramp).max() <= largest


def test_odd_sides(tmp_path: Path) -> None:
    with FileSink(tmp_path / "odd.mp4", PLAIN) as sink:
        for number in range(3):
            image = picture(number, 95, 63)
            sink.write(Frame(image, number, number / 25, 0.0), image)
    with FileSource(tmp_path / "odd.mp4") as back:
        assert [frame.image.shape for frame in back] == [(64, 96, 3)] * 3


@pytest.mark.parametrize("count", [1, 2])
def test_very_short(tmp_path: Path, count: int) -> None:
    frames = copy(write_clip(tmp_path / "clip.mp4", stamps=range(count)), tmp_path / "out.mp4")
    assert len(frames) == count
    assert len(stamps(tmp_path / "out.mp4")) == count


def test_a_file_that_ends_in_the_middle(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "clip.mkv", stamps=range(0, 4000, 40))
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with FileSource(tmp_path / "cut.mkv") as clip:
        assert 5 < len(list(clip)) < 100


def test_damaged_pieces_are_counted_and_passed_over(tmp_path: Path) -> None:
    content = bytearray(write_clip(tmp_path / "clip.mkv", stamps=range(0, 4000, 40)).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    (tmp_path / "damaged.mkv").write_bytes(content)
    with FileSource(tmp_path / "damaged.mkv") as clip:
        found = list(clip)
        assert 20 < len(found) < 100
        assert [frame.index for frame in found] == list(range(len(found)))


@pytest.mark.parametrize(("name", "codec", "form"), [("a.mov", "qtrle", "rgb24"), ("a.mkv", "ffv1", "bgr0")])
def test_rgb_is_read_as_it_is_and_becomes_limited_yuv(tmp_path: Path, name: str, codec: str, form: str) -> None:
    with FileSource(write_clip(tmp_path / name, codec=codec, form=form)) as clip:
        for number, frame in enumerate(clip):
            np.testing.assert_array_equal(frame.image, picture(number, 96, 64))
    frames = copy(tmp_path / name, tmp_path / "out.mp4")
    with FileSource(tmp_path / "out.mp4") as back:
        assert (back.info.format.matrix, back.info.format.full_range) == (5, False)
        assert all(near(found, wanted, 0.02) for found, wanted in zip(back, frames, strict=True))


def test_a_text_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello\nworld\n" * 50)
    with pytest.raises(InputError, match="it is a text"):
        FileSource(tmp_path / "a.txt")


@pytest.mark.parametrize("content", [b"", b"no video", b"\x00" * 5000])
def test_what_is_no_video(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"clip\.mp4"):
        FileSource(tmp_path / "clip.mp4")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as a video"):
        FileSource(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="cannot be read as a video"):
        FileSource(tmp_path)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        FileSink(tmp_path / "folder.mp4", PLAIN)
    with pytest.raises(OutputError, match="cannot be written"):
        FileSink(tmp_path / "none" / "out.mp4", PLAIN)


@pytest.mark.parametrize(
    ("name", "codec", "alpha", "match"),
    [
        ("out.avi", None, False, "no kind of video"), ("out", None, False, "no kind of video"),
        ("out.webm", "h264", False, "holds no h264"), ("out.mp4", None, True, "keeps no alpha"),
    ],
)  # fmt: skip
def test_what_cannot_be_written(tmp_path: Path, name: str, codec: Codec | None, alpha: bool, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        FileSink(tmp_path / name, PLAIN, codec=codec, alpha=alpha)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    image = picture(0, 96, 64)
    (tmp_path / "out.mp4").write_bytes(b"before")

    def interrupted() -> None:
        with FileSink(tmp_path / "out.mp4", PLAIN) as sink:
            sink.write(Frame(image, 0, 0.0, 0.0), image)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "out.mp4").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_a_frame_of_another_size(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "out.mp4", PLAIN)
    sink.write(Frame(picture(0, 96, 64), 0, 0.0, 0.0), picture(0, 96, 64))
    with pytest.raises(InputError, match="frame 1 is 64x64, and those before it are 96x64"):
        sink.write(Frame(picture(1, 64, 64), 1, 0.04, 0.0), picture(1, 64, 64))
    sink.abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_source_is_read_once(tmp_path: Path) -> None:
    with FileSource(write_clip(tmp_path / "clip.mp4")) as clip:
        assert len(list(clip)) == 10
        with pytest.raises(UsageError, match="read already"):
            next(iter(clip))


def test_time_stamps_rise_even_where_the_source_has_none(tmp_path: Path) -> None:
    with FileSink(tmp_path / "out.mkv", replace(PLAIN, time_base=Fraction(1, 1000))) as sink:
        for number in range(5):
            sink.write(Frame(picture(number, 96, 64), number, 0.0, 0.0), picture(number, 96, 64))
    found = stamps(tmp_path / "out.mkv")
    assert len(found) == 5
    assert found == sorted(set(found))


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "h264"), ("a.mov", "prores"), ("a.webm", "vp9"), ("a.mkv", "hevc")]
)
def test_joined_segments_keep_frames_and_stamps(tmp_path: Path, name: str, codec: Codec) -> None:
    parts, after = [], None
    for number in range(3):
        parts.append((tmp_path / f"{number}").with_suffix(Path(name).suffix))
        with FileSink(parts[-1], PLAIN, codec=codec, after=after) as sink:
            for index in range(4 * number, 4 * number + 4):
                sink.write(Frame(picture(index, 96, 64), index, 0.0, 0.0, UNEVEN[index]), picture(index, 96, 64))
        after = sink.last
    join(parts, tmp_path / name, PLAIN, None)
    assert stamps(tmp_path / name) == [Fraction(stamp, 1000) for stamp in UNEVEN]
    with FileSource(tmp_path / name) as back:
        for index, frame in enumerate(back):
            assert near(frame, Frame(picture(index, 96, 64), 0, 0.0, 0.0), 0.02)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_the_audio_is_copied_bit_by_bit(tmp_path: Path, suffix: str) -> None:
    source = write_clip(tmp_path / "clip.mp4", sound=True)
    copy(source, tmp_path / f"silent{suffix}")
    join([tmp_path / f"silent{suffix}"], tmp_path / f"out{suffix}", PLAIN, source)
    assert len(sound_of(source)) > 10
    assert sound_of(tmp_path / f"out{suffix}") == sound_of(source)


def test_audio_that_a_file_cannot_hold() -> None:
    check_audio(["aac"], Path("clip.mp4"))
    check_audio(["opus"], Path("clip.webm"))
    with pytest.raises(UsageError, match=r"a \.webm file holds no aac audio"):
        check_audio(["aac", "opus"], Path("clip.webm"))


@pytest.mark.parametrize("codec", ["libsvtav1", "libvpx-vp9", "libx265"])
def test_every_codec_is_read(tmp_path: Path, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    with FileSource(write_clip(tmp_path / "clip.mkv", codec=codec)) as clip:
        frames = list(clip)
    assert len(frames) == 10
    assert np.abs(frames[5].image[40, 60].astype(int) - picture(5, 96, 64)[40, 60]).max() <= 8


def test_reading_from_a_frame_on(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4")
    with FileSource(source) as whole, FileSource(source) as rest:
        rest.start = 7
        frames = list(whole)[7:]
        for found, wanted in zip(rest, frames, strict=True):
            assert (found.index, found.time, found.stamp) == (wanted.index, wanted.time, wanted.stamp)
            np.testing.assert_array_equal(found.image, wanted.image)


def test_frames_whose_size_changes_are_scaled_to_the_first(tmp_path: Path) -> None:
    small = write_clip(tmp_path / "small.ts", size=(48, 32))
    large = write_clip(tmp_path / "large.ts", size=(96, 64))
    (tmp_path / "clip.ts").write_bytes(large.read_bytes() + small.read_bytes())
    with FileSource(tmp_path / "clip.ts") as clip:
        assert {frame.image.shape for frame in clip} == {(64, 96, 3)}
        assert clip.resized > 5
        assert "scaled" in clip.remarks[-1]


@pytest.mark.parametrize("name", ["a b'c\"d.mp4", "ä-日本.mp4", "-y.mp4", "a:b.mp4", "%03d.mp4"])
def test_odd_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clip = write_clip(tmp_path / "clip.mp4").rename(name)
    copy(clip, Path(f"-{name}"))
    assert len(stamps(Path(f"-{name}"))) == 10


def test_pictures_that_a_file_does_not_take(tmp_path: Path) -> None:
    with FileSink(tmp_path / "out.mp4", PLAIN) as sink:
        for wrong, match in (
            (np.zeros((4, 4, 4), np.uint8), r"takes \[H, W, 3\]"),
            (np.zeros((0, 4), np.uint8), r"takes \[H, W, 3\]"),
            (np.zeros((4, 4, 3), np.uint16), "takes uint8"),
            ([1], r"takes \[H, W, 3\]"),
        ):
            with pytest.raises(InputError, match=match):
                sink.write(Frame(picture(0, 4, 4), 0, 0.0, 0.0), wrong)  # type: ignore[arg-type]  # that is what is tested
        sink.write(Frame(picture(0, 4, 4), 0, 0.0, 0.0), picture(0, 4, 4))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_pixels_that_are_no_squares(tmp_path: Path, suffix: str) -> None:
    form = replace(PLAIN, pixel_aspect=Fraction(16, 15))
    with FileSink(tmp_path / f"part{suffix}", form) as sink:
        sink.write(Frame(picture(0, 96, 64), 0, 0.0, 0.0), picture(0, 96, 64))
    join([tmp_path / f"part{suffix}"], tmp_path / f"out{suffix}", form, None)
    with FileSource(tmp_path / f"out{suffix}") as back:
        assert back.info.format.pixel_aspect == Fraction(16, 15)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        heard.sample_rate = 44100
        container.mux(stream.encode(heard))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="holds no pictures"):
        FileSource(tmp_path / "song.mp4")


def test_a_source_with_an_alpha_channel_says_so(tmp_path: Path) -> None:
    hidden = np.dstack([picture(0, 96, 64), np.zeros((64, 96), np.uint8)])
    with FileSink(tmp_path / "a.mov", PLAIN, codec="qtrle", alpha=True) as sink:
        sink.write(Frame(picture(0, 96, 64), 0, 0.0, 0.0), hidden)
    with FileSource(tmp_path / "a.mov") as clip:
        (frame,) = clip
        np.testing.assert_array_equal(frame.image, picture(0, 96, 64))
        assert clip.remarks == ("its own alpha channel is left out",)


def test_without_pyav_all_else_works_and_files_name_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from p3m_edge.video import ArraySource, CameraSource, FileSource, MattingStream\n"
        "from p3m_edge.errors import MissingError\n"
        "try: FileSource('clip.mp4')\nexcept MissingError as error: print(error, error.hint)"
    )
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | paths, check=True, capture_output=True, text=True
    )
    assert "'av' cannot be imported" in done.stdout
    assert "p3m-edge[video]" in done.stdout
