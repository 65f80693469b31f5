"""The tools that make training pictures, as far as they go without MediaPipe, which has an environment of its own."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import Conv2d

from p3m_edge import shipped
from p3m_edge.errors import InputError
from p3m_edge.export.choices import variant
from p3m_edge.imageio import read_image, read_mask, write_png
from p3m_edge.model import inspect_checkpoint, load_checkpoint, save_checkpoint
from p3m_edge.model.mobile import MOBILE

TOOLS = Path(__file__).parents[2] / "tools"


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # the tools import each other
    spec.loader.exec_module(module)
    return module


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    subprocess.run(("git", "-C", str(folder), *who, *arguments), check=True, timeout=60)


def clone_of(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "pictures")


label_portraits, heads_turned, hats = tool("label_portraits"), tool("heads_turned"), tool("hats")
slim_mobile, train_mobile = tool("slim_mobile"), tool("train_mobile")


def test_pictures_that_are_not_there_are_counted(tmp_path):
    clone_of(tmp_path / "in", {"other.png": b"another picture"})
    line = [sys.executable, str(TOOLS / "label_portraits.py"), str(tmp_path / "out"), str(tmp_path / "in")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    count = len(label_portraits.listed())
    assert count > 0
    assert done.returncode == 1
    assert f"{count} of {count} pictures of training-list.csv are in none of the clones" in done.stderr
    assert not (tmp_path / "out").exists()


def test_packages_that_are_missing_are_named_before_anything_is_labelled():
    if importlib.util.find_spec("mediapipe") is not None:
        pytest.skip("MediaPipe is installed")
    with pytest.raises(SystemExit, match=r"^missing: mediapipe.*pip install mediapipe==0\.10\.21 pymatting$"):
        label_portraits.Labeller()


def test_a_picture_is_found_by_its_hash_even_if_it_was_deleted(tmp_path):
    clone_of(tmp_path, {"deep/er/first picture.JPG": b"some bytes\n\0", "second.png": b"more"})
    git(tmp_path, "rm", "-q", "deep/er/first picture.JPG")
    git(tmp_path, "commit", "-q", "-m", "gone")
    digests = {hashlib.sha256(data).hexdigest(): data for data in (b"some bytes\n\0", b"more")}
    wanted = {**dict.fromkeys(digests, "pif"), hashlib.sha256(b"other bytes").hexdigest(): "f18"}
    assert label_portraits.find(wanted, [tmp_path]) == digests


def test_a_list_without_portraits_is_refused(tmp_path):
    (tmp_path / "list.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match=r"list\.csv lists no portrait of pif, f18, dc, cio$"):
        label_portraits.listed(tmp_path / "list.csv")


def test_a_folder_that_is_no_clone_is_named(tmp_path):
    with pytest.raises(SystemExit, match=f"^{re.escape(str(tmp_path))} is no clone that git can read: "):
        label_portraits.find({}, [tmp_path])


def test_a_trimap_keeps_the_person_and_no_patch_of_the_background():
    coarse = np.zeros((100, 80), np.float32)
    coarse[40:, 20:60] = 1
    coarse[5:10, 5:10] = 1
    known = label_portraits.trimap(coarse, label_portraits.OUTSIDE)
    assert set(np.unique(known)) == {0, 0.5, 1}
    assert known[7, 7] == 0
    assert known[70, 40] == known[99, 40] == 1  # the border cuts the person off: no band there
    assert known[70, 20] == known[70, 18] == 0.5


def test_the_matte_of_a_plain_picture_follows_its_colours():
    pytest.importorskip("pymatting", reason="extra data")
    picture = np.full((60, 60, 3), 240, np.uint8)
    picture[20:, 15:45] = 30
    known = np.full((60, 60), 0.5)
    known[:12], known[:, :8], known[:, 52:] = 0, 0, 0
    known[28:, 22:38] = 1
    alpha = label_portraits.matte(picture, known)
    assert alpha.dtype == np.uint8
    assert np.array_equal(alpha > 127, picture[..., 0] < 128)


def test_hair_covers_the_face_and_nothing_beyond_the_person():
    y, x = np.mgrid[:120, :100]
    head = ((y - 55) / 50) ** 2 + ((x - 50) / 38) ** 2 < 1
    face = ((y - 60) / 28) ** 2 + ((x - 50) / 20) ** 2 < 1
    picture = np.full((120, 100, 3), 200, np.uint8)
    picture[head] = (60, 40, 20)
    picture[face] = (220, 170, 150)
    alpha = np.uint8(255) * head.astype(np.uint8)
    turned, matte = heads_turned.turn_head(picture, alpha, face, np.random.default_rng(0))
    assert np.array_equal(matte, alpha)
    inner = ((y - 60) / 24) ** 2 + ((x - 50) / 16) ** 2 < 1  # the border is soft
    off = np.abs(turned[inner].astype(int) - (60, 40, 20)).max(axis=1)
    assert off.max() < 75  # nearer to the hair than to the face everywhere, though some skin shines through below
    assert off.mean() < 20
    assert np.array_equal(turned[~head], picture[~head])
    bald = np.where(head[..., None], np.array((220, 170, 150), np.uint8), picture)
    assert heads_turned.turn_head(bald, alpha, face, np.random.default_rng(0)) is None


def test_the_band_of_a_trimap_is_as_wide_outside_as_asked():
    coarse = np.zeros((200, 200), np.float32)
    coarse[:, 100:] = 1
    widths = {}
    for outside in (label_portraits.OUTSIDE_FLAGS, label_portraits.OUTSIDE):
        row = label_portraits.trimap(coarse, outside)[100]
        widths[outside] = int(((row == 0.5) & (np.arange(200) < 100)).sum())
    assert widths == {label_portraits.OUTSIDE_FLAGS: 3, label_portraits.OUTSIDE: 6}


def test_a_matte_in_one_piece_has_lost_what_hangs_together_with_nothing():
    alpha = np.zeros((40, 40), np.uint8)
    alpha[10:30, 10:30] = 255
    alpha[10:30, 30] = 20  # a soft edge
    stray = alpha.copy()
    stray[2:5, 2:5] = 200
    assert (label_portraits.one_piece(stray) == alpha).all()
    assert (label_portraits.one_piece(np.zeros((40, 40), np.uint8)) == 0).all()


def a_bald_head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, x = np.mgrid[:160, :140]
    head = ((y - 95) / 40) ** 2 + ((x - 70) / 28) ** 2 < 1
    body = (y > 125) & (np.abs(x - 70) < 55)
    face = ((y - 97) / 30) ** 2 + ((x - 70) / 22) ** 2 < 1
    picture = np.full((160, 140, 3), 200, np.uint8)
    picture[head | body] = (220, 170, 150)
    return picture, np.uint8(255) * (head | body).astype(np.uint8), face


def test_a_hat_sits_on_the_head_and_is_part_of_the_person():
    picture, alpha, face = a_bald_head()
    kinds = set()
    for seed in range(24):
        made = hats.put_on_hat(picture, alpha, face, np.random.default_rng(seed))
        assert made is not None
        worn, matte = made
        assert worn.shape == picture.shape
        assert matte.shape == alpha.shape
        assert worn.dtype == matte.dtype == np.uint8
        assert np.array_equal(matte[120:], alpha[120:])  # below the chin nothing changes
        assert (matte[97 - 30 - 8, 60:80] > 240).all()  # over the brow is hat
        new = (matte > 200) & (alpha == 0)
        assert new.sum() > 300
        widest = max(np.ptp(np.nonzero(row)[0]) for row in matte[:80] > 200 if row.any())
        kinds.add(widest > 75)  # a head is 56 wide
        again = hats.put_on_hat(picture, alpha, face, np.random.default_rng(seed))
        assert np.array_equal(again[0], worn)
        assert np.array_equal(again[1], matte)
    assert kinds == {True, False}  # with a wide brim, and without


def test_without_a_face_there_is_no_hat():
    picture, alpha, face = a_bald_head()
    assert hats.put_on_hat(picture, alpha, np.zeros_like(face), np.random.default_rng(0)) is None
    speck = np.zeros_like(face)
    speck[90:95, 70:75] = True
    assert hats.put_on_hat(picture, alpha, speck, np.random.default_rng(0)) is None


def test_the_pictures_of_two_sets_are_linked_with_their_mattes(tmp_path):
    for number, name in enumerate(("first", "second")):
        for kind in ("image", "alpha", "facemask"):
            (tmp_path / name / kind).mkdir(parents=True)
            if (name, kind) != ("second", "facemask"):  # a drawn picture may have no face
                (tmp_path / name / kind / "0.png").write_bytes(f"{kind} {number}".encode())
    for _ in range(2):  # a second run changes nothing
        for name in ("first", "second"):
            train_mobile.link_set(tmp_path / name, tmp_path / "out")
    found = {str(link.relative_to(tmp_path / "out")): link.read_text() for link in (tmp_path / "out").rglob("*.png")}
    assert found == {
        "image/first_0.png": "image 0", "alpha/first_0.png": "alpha 0", "facemask/first_0.png": "facemask 0",
        "image/second_0.png": "image 1", "alpha/second_0.png": "alpha 1",
    }  # fmt: skip


def test_every_portrait_that_can_be_drawn_on_is_and_with_its_own_random_numbers(tmp_path):
    picture, alpha, face = a_bald_head()
    for name, mask in (("a", face), ("b", np.zeros_like(face)), ("c", face)):
        for folder, array in (("blurred_image", picture), ("alpha", alpha), ("facemask", 255 * mask.astype(np.uint8))):
            (tmp_path / "in" / folder).mkdir(parents=True, exist_ok=True)
            write_png(tmp_path / "in" / folder / f"{name}.png", array)
    assert train_mobile.redraw(tmp_path / "in", tmp_path / "out", hats.put_on_hat, 5) == 7  # b has no face
    for name, seed in (("a", 5), ("c", 6)):
        worn, matte = hats.put_on_hat(picture, alpha, face, np.random.default_rng(seed))
        assert np.array_equal(read_image(tmp_path / "out" / "image" / f"{name}.png").rgb, worn)
        assert np.array_equal(read_mask(tmp_path / "out" / "alpha" / f"{name}.png"), matte)
    assert len(list((tmp_path / "out" / "image").iterdir())) == 2


def test_channels_that_do_nothing_are_left_out(tmp_path):
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    wide = variant(slim_mobile.WIDE).eval()
    with torch.no_grad():
        known = slim_mobile.tables(MOBILE)
        for name, (kept, _) in known.maps.items():
            units = [wide.local_decoder.get_submodule(unit) for unit, (made, _) in known.units.items() if made == name]
            weights = [unit.get_parameter("weight" if isinstance(unit, Conv2d) else "conv.weight") for unit in units]
            idle = rng.permutation(len(weights[0]))[kept:]
            for weight in weights:
                weight[idle] = 0
    save_checkpoint(
        wide, tmp_path / "wide.safetensors", licence="mine", provenance="drawn", trained=False, half=True
    )  # fmt: skip
    for number in range(3):
        for folder, shape in (("image", (64, 64, 3)), ("alpha", (64, 64))):
            (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
            picture = rng.integers(0, 256, shape, np.uint8)
            write_png(tmp_path / "set" / folder / f"{number}.png", picture)
    slim_mobile.slim(tmp_path / "wide.safetensors", tmp_path / "set", tmp_path / "slim.safetensors")
    slim = load_checkpoint(tmp_path / "slim.safetensors")
    info = inspect_checkpoint(tmp_path / "slim.safetensors")
    assert (info.licence, info.trained) == ("mine", False)
    assert info.provenance.endswith(": drawn)")
    assert sum(map(torch.numel, slim.parameters())) < sum(map(torch.numel, wide.parameters()))
    wide = wide.half().float()
    with torch.inference_mode():
        for pictures, _ in slim_mobile.batches(tmp_path / "set"):
            for found, wanted in zip(slim(pictures), wide(pictures), strict=True):
                torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("no.safetensors", 5, "cannot be read: No such file or directory"),
        ("cut.safetensors", 5, "is a damaged safetensors file"),
        ("mobile.safetensors", 5, "holds no mobile network with the wider local decoder"),
    ],
)
def test_another_file_is_not_slimmed(name, code, message, tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(shipped.weights_path().read_bytes()[:1000])
    shutil.copy(shipped.weights_path(), tmp_path)
    line = [sys.executable, str(TOOLS / "slim_mobile.py"), str(tmp_path / name), str(tmp_path), str(tmp_path / "out")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_pictures_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(InputError, match=r"image holds no pictures$"):
        next(slim_mobile.batches(tmp_path))
    for folder, height in (("image", 64), ("alpha", 32)):
        (tmp_path / folder).mkdir()
        write_png(
            tmp_path / folder / "a.png", np.zeros((height, 64, 3) if folder == "image" else (height, 64), np.uint8)
        )
    with pytest.raises(InputError, match=r"different sizes: a\.png$"):
        next(slim_mobile.batches(tmp_path))
