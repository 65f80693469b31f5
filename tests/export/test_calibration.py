"""Pictures for calibration and measuring: which are chosen, that they stream, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import struct
import weakref
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from p3m_edge.data.sample import Item
from p3m_edge.data.synth import portrait as drawn_portrait
from p3m_edge.errors import InputError, UsageError
from p3m_edge.export import calibration_pictures
from p3m_edge.export.calibration import (
    DEFAULT_MEASURED,
    FEW,
    MINIMUM,
    SEEDS,
    PictureSet,
    check_apart,
    open_calibration,
    open_measuring,
)
from p3m_edge.imageio import read_image, write_png
from p3m_edge.preprocess import to_network
from tests.portraits import portrait, write_set

COUNT = 40  # pictures in the folder of these tests
SAMPLES = [portrait(seed=seed) for seed in range(COUNT + 6)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder of pictures; tests must not change it."""
    folder = tmp_path_factory.mktemp("calibration") / "portraits"
    return write_pictures(folder, range(COUNT))


@pytest.fixture(scope="module")
def calibration(pictures) -> PictureSet:
    """All of the folder."""
    return open_calibration(pictures)


def write_pictures(folder: Path, seeds) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        write_png(folder / f"portrait{seed}.png", SAMPLES[seed].image)
    return folder


@pytest.fixture
def own(pictures, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(pictures, tmp_path / "own"))


def file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# The choice


def test_a_choice_is_part_of_the_folder_and_of_the_size_asked_for(pictures):
    chosen = open_calibration(pictures, count=MINIMUM)
    assert len(chosen) == len(set(chosen.names)) == MINIMUM
    assert set(chosen.names) < set(file_names(pictures))
    assert (chosen.kind, chosen.source, chosen.has_truth) == ("files", "portraits", False)
    assert (chosen.skipped, chosen.repeated, chosen.remarks) == ((), (), ())


def test_a_folder_with_fewer_than_asked_for_gives_all(pictures, calibration):
    assert sorted(calibration.names) == file_names(pictures)


def test_the_order_is_that_of_hashes_of_seed_and_name(pictures):
    """Written out here, so that no library and no version of one has a say in it."""
    for seed in (0, 7):
        names = file_names(pictures)
        wanted = sorted(names, key=lambda name: hashlib.sha256(f"{seed}\n{name}".encode()).hexdigest())
        assert open_calibration(pictures, seed=seed).names == tuple(wanted)


def test_a_smaller_count_is_the_beginning_of_a_larger_one(pictures, calibration):
    assert open_calibration(pictures, count=MINIMUM).names == calibration.names[:MINIMUM]


def test_seeds_choose_differently(pictures):
    one, other = (open_calibration(pictures, count=MINIMUM, seed=seed) for seed in (0, 1))
    assert set(one.names) != set(other.names)
    assert one.digest != other.digest


def test_another_place_and_order_of_writing_change_nothing(pictures, tmp_path):
    twin = write_pictures(tmp_path / "elsewhere" / "portraits", reversed(range(COUNT)))
    one, other = open_calibration(pictures, count=MINIMUM), open_calibration(twin, count=MINIMUM)
    assert (one.names, one.digest) == (other.names, other.digest)
    assert str(tmp_path) not in repr(other)


@given(st.lists(st.text(st.characters(blacklist_characters="/\0"), min_size=1), unique=True), st.randoms())
def test_the_order_does_not_depend_on_how_files_are_listed(names, random):
    items = [Item(name, Path("folder") / f"{name}.png") for name in names]
    shuffled = random.sample(items, len(items))
    in_order = calibration_pictures._in_order
    keys = [calibration_pictures.portable(item.image.name) for item in in_order(items, 3)]
    assert keys == [calibration_pictures.portable(item.image.name) for item in in_order(shuffled, 3)]


def test_names_are_the_same_on_systems_that_decompose_letters_and_can_be_written():
    assert calibration_pictures.portable("Jose\u0301.png") == "Jos\u00e9.png"
    assert calibration_pictures.portable("a\udcff.png").encode() == rb"a\udcff.png"


def test_the_digest_is_that_of_a_list_as_sha256sum_writes_it(pictures, calibration):
    lines = [f"{hashlib.sha256((pictures / name).read_bytes()).hexdigest()}  {name}\n" for name in calibration.names]
    assert calibration.digest == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_digest_sees_content_name_and_matte(calibration, own, tmp_path):
    before, name = calibration.digest, calibration.names[3]
    shutil.copy(own / name, own / "renamed.png")
    (own / name).unlink()
    assert open_calibration(own).digest != before
    write_png(own / name, SAMPLES[COUNT].image)
    (own / "renamed.png").unlink()
    changed = open_calibration(own)
    assert changed.digest != before
    assert changed.names == calibration.names

    folder = write_set(tmp_path / "set", SAMPLES[:2])
    with_mattes = open_measuring(folder).digest
    write_png(folder / "alpha" / f"{SAMPLES[0].name}.png", 255 - SAMPLES[0].alpha)
    assert open_measuring(folder).digest != with_mattes


def test_the_same_file_twice_counts_once(own):
    shutil.copy(own / "portrait0.png", own / "copy.png")
    chosen = open_calibration(own)
    assert len(chosen) == COUNT
    assert chosen.repeated in (
        ("copy.png is the same file as portrait0.png",),
        ("portrait0.png is the same file as copy.png",),
    )
    assert chosen.skipped == ()


def test_copies_do_not_make_enough_pictures(tmp_path):
    folder = write_pictures(tmp_path / "copies", range(MINIMUM - 1))
    for number in range(10):
        shutil.copy(folder / "portrait0.png", folder / f"copy{number}.png")
    with pytest.raises(InputError, match=rf"has {MINIMUM - 1} different pictures .* the same file as") as caught:
        open_calibration(folder)
    assert "synthetic" in (caught.value.hint or "")


def test_a_set_is_frozen(pictures):
    chosen = open_measuring(pictures, count=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        chosen.has_truth = True  # type: ignore[misc]  # that is what is tested


# What the network and the measures get


@pytest.mark.parametrize(("height", "width"), [(64, 96), (60, 80), (32, 32), (128, 64)])
def test_images_are_what_the_runtime_would_make_of_the_files(pictures, calibration, height, width):
    images = list(calibration.images(height, width))
    assert len(images) == COUNT
    for name, image in zip(calibration.names, images, strict=True):
        expected, _ = to_network(read_image(pictures / name).rgb, height, width)
        assert image.shape == (1, height, width, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(image[0], expected)


def test_pictures_are_upright_and_of_8_bits(tmp_path):
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    PillowImage.fromarray(SAMPLES[0].image).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    write_png(tmp_path / "deep.png", SAMPLES[1].image.astype(np.uint16) * 257)
    frames = {name: frame for name, frame, _ in open_measuring(tmp_path).samples()}
    assert frames["turned.jpg"].shape == (80, 60, 3)
    np.testing.assert_allclose(frames["turned.jpg"], np.rot90(SAMPLES[0].image, -1), atol=40)
    np.testing.assert_array_equal(frames["deep.png"], SAMPLES[1].image)


def test_every_pass_begins_anew(calibration):
    first, second = (np.concatenate(list(calibration.images(32, 32))) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("height", "width"), [(0, 32), (32, -1)])
def test_an_impossible_size_is_refused_at_once(pictures, height, width):
    with pytest.raises(UsageError, match="size must be positive"):
        open_measuring(pictures, count=1).images(height, width)


def test_samples_have_the_mattes_of_their_set(tmp_path):
    folder = write_set(tmp_path / "mine", SAMPLES[:FEW], trimap="trimap")
    chosen = open_measuring(folder)
    assert (chosen.has_truth, chosen.source, chosen.remarks) == (True, "mine", ())
    by_name = {f"{sample.name}.png": sample for sample in SAMPLES}
    samples = list(chosen.samples())
    assert tuple(name for name, _, _ in samples) == chosen.names
    for name, frame, truth in samples:
        assert truth is not None
        assert truth.dtype == np.float32
        np.testing.assert_array_equal(frame, by_name[name].image)
        np.testing.assert_array_equal(truth * 255, by_name[name].alpha)


def test_samples_without_mattes_say_so(pictures):
    chosen = open_measuring(pictures)
    assert len(chosen) == COUNT
    assert not chosen.has_truth
    assert any("no mattes" in remark for remark in chosen.remarks)
    assert all(truth is None for _, _, truth in chosen.samples())


def test_calibration_does_without_mattes(tmp_path):
    folder = write_set(tmp_path / "mine", SAMPLES[:MINIMUM])
    for path in (folder / "alpha").iterdir():
        path.write_bytes(b"no matte")
    (folder / "alpha" / f"{SAMPLES[0].name}.png").unlink()
    chosen = open_calibration(folder)
    assert len(chosen) == MINIMUM
    assert not chosen.has_truth
    assert all(truth is None for _, _, truth in chosen.samples())


@pytest.mark.parametrize("way", ["images", "samples"])
def test_pictures_are_decoded_one_at_a_time(tmp_path, monkeypatch, way):
    """Whenever a file is decoded, what was decoded before is gone: while a set is opened, and on the way through it."""
    folder = write_set(tmp_path / "mine", SAMPLES[:MINIMUM])
    alive: list[weakref.ref[np.ndarray]] = []
    decoded = []

    def watched(path, **options):
        assert [ref for ref in alive if ref() is not None] == []
        picture = read_image(path, **options)
        alive.append(weakref.ref(picture.rgb))
        decoded.append(path)
        return picture

    monkeypatch.setattr(calibration_pictures, "read_image", watched)
    chosen = open_calibration(folder)
    assert len(decoded) == MINIMUM
    assert all(ref() is None for ref in alive)
    coming = chosen.images(60, 80) if way == "images" else chosen.samples()
    assert len(decoded) == MINIMUM  # nothing before it is asked for
    for number in range(1, MINIMUM + 1):
        item = next(coming)
        assert item is not None
        assert len(decoded) == MINIMUM + number
        assert sum(ref() is not None for ref in alive) <= 1
        del item  # a caller that is done with it


@pytest.mark.parametrize("which", ["image", "alpha"])
def test_a_file_that_changes_is_no_longer_what_the_digest_says(tmp_path, which):
    folder = write_set(tmp_path / "mine", SAMPLES[:3])
    chosen = open_measuring(folder)
    path = folder / which / chosen.names[1]
    write_png(path, 255 - read_image(path).rgb)
    coming = chosen.samples()
    next(coming)
    with pytest.raises(InputError, match=f"{chosen.names[1]} has changed since it was chosen"):
        next(coming)
    path.unlink()
    with pytest.raises(InputError, match="does not exist"):
        list(chosen.samples())


# Data sets


@pytest.fixture
def p3m(tmp_path) -> Path:
    """P3M-10k's layout of 2022."""
    root = Path(tmp_path / "P3M-10k")
    write_set(root / "train", SAMPLES[:MINIMUM], "blurred_image", "mask")
    write_set(root / "validation/P3M-500-P", SAMPLES[-6:-3], "blurred_image", "mask")
    write_set(root / "validation/P3M-500-NP", SAMPLES[-3:], "original_image", "mask")
    return root


def test_of_p3m_10k_the_training_split_is_calibrated_with(p3m):
    chosen = open_calibration(p3m)
    assert sorted(chosen.names) == file_names(p3m / "train/blurred_image")
    assert chosen.source == "train"
    assert chosen.digest == open_calibration(p3m / "train").digest


@pytest.mark.parametrize("split", ["P3M-500-P", "P3M-500-NP", "P3M-500-P/blurred_image"])
def test_published_test_sets_are_measured_with_alone(p3m, split):
    folder = p3m / "validation" / split
    chosen = open_measuring(folder)
    assert (len(chosen), chosen.has_truth) == (3, split != "P3M-500-P/blurred_image")
    with pytest.raises(UsageError, match="published test set: calibration must not see it"):
        open_calibration(folder)
    (p3m / "mine").symlink_to(folder)
    with pytest.raises(UsageError, match="published test set"):
        open_calibration(p3m / "mine")


def test_a_folder_that_holds_one_test_set_is_refused_too(p3m):
    shutil.rmtree(p3m / "validation/P3M-500-P")
    with pytest.raises(UsageError, match="published test set"):
        open_calibration(p3m / "validation")
    assert open_measuring(p3m / "validation").source == "P3M-500-NP"


def test_a_split_is_never_guessed(p3m):
    with pytest.raises(UsageError, match="several splits") as caught:
        open_measuring(p3m)
    assert str(p3m / "validation/P3M-500-P") in (caught.value.hint or "")
    with pytest.raises(UsageError, match="several splits"):
        open_calibration(p3m / "validation")
    write_pictures(p3m, [0])
    for opened in (open_calibration, open_measuring):
        with pytest.raises(UsageError, match="which of them is meant"):
            opened(p3m)


def test_a_picture_without_its_matte_is_not_measured_with(tmp_path):
    folder = write_set(tmp_path / "mine", SAMPLES[:30])
    (folder / "alpha/portrait4.png").unlink()
    write_png(folder / "alpha/portrait5.png", SAMPLES[5].alpha[:, :-1])
    write_png(folder / "alpha/portrait6.png", SAMPLES[5].image)
    chosen = open_measuring(folder)
    assert len(chosen) == 27
    assert sorted(chosen.skipped) == [
        "portrait4.png has no alpha",
        "portrait5.png: alpha/portrait5.png is 79 x 60 pixels, its picture portrait5.png 80 x 60",
        "portrait6.png: alpha/portrait6.png is a colour picture, where one channel is expected: "
        "its red, green and blue differ",
    ]


# Hostile files


def huge_png() -> bytes:
    """A few bytes that claim to be 1.6 gigapixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


HOSTILE = {
    "truncated": (lambda whole: whole[: len(whole) // 2], "is damaged"),
    "empty": (lambda _whole: b"", "is empty"),
    "text": (lambda _whole: b"not a picture at all", "is not a picture"),
    "huge": (lambda _whole: huge_png(), "million pixels"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_unusable_files_are_passed_over_named_and_counted(own, kind):
    make, reason = HOSTILE[kind]
    for number in (3, 9):
        path = own / f"portrait{number}.png"
        path.write_bytes(make(path.read_bytes()))
    chosen = open_calibration(own)
    assert len(chosen) == COUNT - 2
    assert sorted(text.split()[0] for text in chosen.skipped) == ["portrait3.png", "portrait9.png"]
    assert all(reason in text for text in chosen.skipped)
    assert str(own) not in "".join(chosen.skipped)
    assert sum(1 for _ in chosen.images(32, 32)) == COUNT - 2


def test_what_is_passed_over_is_replaced(own, calibration):
    order = calibration.names
    (own / order[0]).write_bytes(b"")
    chosen = open_calibration(own, count=MINIMUM)
    assert chosen.names == order[1 : MINIMUM + 1]
    assert [text.split()[0] for text in chosen.skipped] == [order[0]]


def test_dead_links_folders_and_hidden_files(own):
    (own / "dead.png").symlink_to(own / "nowhere.png")
    (own / "folder.png").mkdir()
    (own / ".hidden.png").write_bytes(b"")
    (own / "notes.txt").write_text("not a picture")
    chosen = open_calibration(own)
    assert len(chosen) == COUNT
    assert chosen.skipped == ("dead.png does not exist",)


@pytest.mark.parametrize(("bad", "refused"), [(4, False), (5, True)])
def test_more_than_a_tenth_unusable(own, bad, refused):
    """4 of 40 are a tenth; 5 are more."""
    for number in range(bad):
        (own / f"portrait{number}.png").write_bytes(b"broken")
    if not refused:
        assert len(open_calibration(own).skipped) == bad
        return
    with pytest.raises(InputError, match=r"5 of 40 pictures of .* cannot be used: portrait\d") as caught:
        open_calibration(own)
    assert "and 2 more" in str(caught.value)


def test_a_folder_of_broken_files_is_not_read_to_its_end(tmp_path, monkeypatch):
    for number in range(300):
        (tmp_path / f"{number}.png").write_bytes(b"broken")
    looked = []

    def counted(path):
        looked.append(path)
        return read_image(path)

    monkeypatch.setattr(calibration_pictures, "read_image", counted)
    with pytest.raises(InputError, match="cannot be used"):
        open_calibration(tmp_path, count=MINIMUM)
    assert len(looked) == MINIMUM // 9 + 1


def noise(level: float) -> np.ndarray:
    values = np.random.default_rng(5).normal(60, level, (300, 400, 3))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("opened", [open_calibration, open_measuring])
@pytest.mark.parametrize(
    "picture", [np.zeros((50, 60, 3), np.uint8), np.full((50, 60, 3), (9, 99, 200), np.uint8), noise(2)]
)
def test_pictures_of_one_colour_say_nothing(tmp_path, opened, picture):
    for number in range(MINIMUM):
        write_png(tmp_path / f"{number}.png", picture if number else picture[:-1])
    with pytest.raises(InputError, match="are of one colour"):
        opened(tmp_path)


def test_a_single_picture_of_one_colour_is_passed_over_and_a_dark_one_is_not(own):
    write_png(own / "portrait0.png", np.zeros((50, 60, 3), np.uint8))
    write_png(own / "portrait1.png", SAMPLES[1].image // 12)
    chosen = open_calibration(own)
    assert chosen.skipped == ("portrait0.png is of one colour",)
    assert "portrait1.png" in chosen.names


# Wrong requests


@pytest.mark.parametrize("count", [MINIMUM - 1, 1, 0, -5])
@pytest.mark.parametrize("synthetic", [True, False])
def test_too_few_are_not_calibrated_with(pictures, count, synthetic):
    with pytest.raises(UsageError, match=f"at least {MINIMUM} pictures, not {count}"):
        open_calibration(None if synthetic else pictures, count=count)


@pytest.mark.parametrize("count", [0, -1])
@pytest.mark.parametrize("synthetic", [True, False])
def test_nothing_cannot_be_measured_with(pictures, count, synthetic):
    with pytest.raises(UsageError, match=f"at least one picture .* not {count}"):
        open_measuring(None if synthetic else pictures, count=count)


@pytest.mark.parametrize("seed", [-1, SEEDS])
@pytest.mark.parametrize("opened", [open_calibration, open_measuring])
def test_seeds_out_of_range(pictures, opened, seed):
    for folder in (None, pictures):
        with pytest.raises(UsageError, match="a seed is 0 to"):
            opened(folder, seed=seed)


def test_a_folder_with_too_few(tmp_path):
    folder = write_pictures(tmp_path / "few", range(MINIMUM - 1))
    with pytest.raises(InputError, match=f"has {MINIMUM - 1} different pictures .* at least {MINIMUM}"):
        open_calibration(folder)
    write_pictures(folder, [MINIMUM])
    assert len(open_calibration(folder)) == MINIMUM


@pytest.mark.parametrize("opened", [open_calibration, open_measuring])
def test_folders_that_hold_nothing(tmp_path, opened):
    (tmp_path / "empty").mkdir()
    (tmp_path / "set/image").mkdir(parents=True)
    (tmp_path / "file.png").write_bytes(b"")
    for name, reason in (
        ("empty", "holds no pictures"),
        ("set", "holds no pictures"),
        ("nowhere", "cannot be listed"),
        ("file.png", "cannot be listed"),
        ("nul\0", "cannot be listed"),
    ):
        with pytest.raises(InputError, match=reason):
            opened(tmp_path / name)


def test_few_measured_pictures_are_said_to_mean_little(pictures):
    few, enough = (open_measuring(pictures, count=count) for count in (FEW - 1, FEW))
    assert any(f"measured with {FEW - 1} pictures" in remark for remark in few.remarks)
    assert not any("measured with" in remark for remark in enough.remarks)


# Synthetic portraits


def test_portraits_are_drawn_when_they_are_asked_for(monkeypatch):
    drawn: list[int] = []
    real = calibration_pictures._drawn

    def counted(number):
        drawn.append(number)
        return real(number)

    monkeypatch.setattr(calibration_pictures, "_drawn", counted)
    chosen = open_calibration(None)
    assert (len(chosen), chosen.kind, chosen.has_truth) == (128, "synthetic", True)
    assert any("synthetic" in remark for remark in chosen.remarks)
    images = chosen.images(64, 96)
    assert drawn == []
    image = next(images)
    assert [f"portrait-{number}" for number in drawn] == [chosen.names[0]]
    expected = drawn_portrait(drawn[0], 512, 512)
    np.testing.assert_array_equal(image[0], to_network(expected.image, 64, 96)[0])
    name, frame, truth = next(chosen.samples())
    assert name == chosen.names[0]
    assert truth is not None
    np.testing.assert_array_equal(frame, expected.image)
    np.testing.assert_array_equal(truth, expected.alpha.astype(np.float32) / 255)


def test_a_portrait_is_drawn_once_for_many_passes(monkeypatch):
    calls: list[int] = []

    def counted(number, width, height):
        calls.append(number)
        return drawn_portrait(number, 64, 64)

    calibration_pictures._drawn.cache_clear()
    monkeypatch.setattr(calibration_pictures, "portrait", counted)
    chosen = open_measuring(None, count=3, seed=5)
    for _ in range(3):
        frames = [frame for _, frame, _ in chosen.samples()]
        assert [frame.flags.writeable for frame in frames] == [True] * 3  # nobody else's memory
    assert len(calls) == 3
    calibration_pictures._drawn.cache_clear()


def test_no_seed_gives_the_portraits_of_another_purpose():
    def numbers(chosen: PictureSet) -> set[int]:
        return {int(name.removeprefix("portrait-")) for name in chosen.names}

    sets = [numbers(opened(None, seed=seed)) for opened in (open_calibration, open_measuring) for seed in (0, 1, 999)]
    assert len(set().union(*sets)) == sum(map(len, sets))
    last = min(numbers(open_calibration(None, seed=SEEDS - 1, count=MINIMUM)))  # of a million
    assert last + 1_000_000 <= min(numbers(open_measuring(None, seed=0)))
    assert min(map(min, sets)) > 1_000_000 * 1_000_000  # `data synth --seed S`: from S million; on the fly: below 2^32


def test_the_digest_of_portraits_is_that_of_their_numbers():
    one = open_measuring(None)
    assert len(one) == DEFAULT_MEASURED
    assert one.digest == open_measuring(None, count=DEFAULT_MEASURED).digest
    others = [open_measuring(None, seed=1), open_measuring(None, count=49), open_calibration(None, count=50)]
    assert len({one.digest, *(other.digest for other in others)}) == 4


def test_more_portraits_than_a_seed_has():
    with pytest.raises(UsageError, match="at most 1000000 portraits"):
        open_calibration(None, count=1_000_001)


# Kept apart


def test_other_pictures_are_apart(calibration, tmp_path):
    other = write_pictures(tmp_path / "other", range(COUNT, COUNT + 6))
    check_apart(calibration, open_measuring(other))


def test_the_same_folder_is_not_apart_from_itself(pictures, calibration):
    with pytest.raises(UsageError, match=rf"^{COUNT} pictures .* is the same file as .* and {COUNT - 3} more$"):
        check_apart(calibration, open_measuring(pictures))


def test_a_file_under_another_name(pictures, calibration, tmp_path):
    other = write_pictures(tmp_path / "other", range(COUNT, COUNT + 6))
    shutil.copy(pictures / "portrait7.png", other / "innocent.png")
    with pytest.raises(UsageError, match=r"^1 pictures .*: innocent.png is the same file as portrait7.png$"):
        check_apart(calibration, open_measuring(other))


@pytest.mark.parametrize("change", ["smaller", "mirrored", "cropped"])
@pytest.mark.parametrize("role", ["calibration", "measuring"])
def test_the_same_photograph_in_another_form(pictures, tmp_path, change, role):
    image = SAMPLES[7].image
    changed = {
        "smaller": cv2.resize(image, (60, 45), interpolation=cv2.INTER_AREA),
        "mirrored": np.ascontiguousarray(image[:, ::-1]),
        "cropped": np.ascontiguousarray(image[:54, :72]),
    }[change]
    folders = {
        "calibration": write_pictures(tmp_path / "one", [*range(7), *range(8, COUNT)]),
        "measuring": write_pictures(tmp_path / "other", range(COUNT, COUNT + 6)),
    }
    other_role = "measuring" if role == "calibration" else "calibration"
    PillowImage.fromarray(changed).save(folders[role] / "changed.jpg", quality=90)
    write_png(folders[other_role] / "original.png", image)
    with pytest.raises(UsageError, match="is the same photograph as") as caught:
        check_apart(open_calibration(folders["calibration"]), open_measuring(folders["measuring"]))
    assert str(caught.value).startswith("1 pictures")
    assert "changed.jpg" in str(caught.value)
    assert "original.png" in str(caught.value)


def test_parts_of_one_folder_can_be_apart(calibration):
    parts = calibration.pictures[:20], calibration.pictures[20:]
    first, rest = (dataclasses.replace(calibration, pictures=part) for part in parts)
    check_apart(first, rest)


def test_portraits_are_apart_from_all_but_themselves(pictures, calibration):
    measuring = open_measuring(None)
    check_apart(open_calibration(None), measuring)
    check_apart(open_calibration(None), open_measuring(pictures))
    check_apart(calibration, measuring)
    with pytest.raises(UsageError, match=f"^{DEFAULT_MEASURED} pictures .*portrait-"):
        check_apart(measuring, measuring)
