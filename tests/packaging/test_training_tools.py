"""The tool that trains the shipped weights: the set that it makes, the lists, and all stages in miniature."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from p3m_edge.data.lists import read_list
from p3m_edge.data.sets import open_set, read
from p3m_edge.imageio import list_images
from p3m_edge.model import build, inspect_checkpoint
from tests.tools import TOOLS, load_tool

PEOPLE = {"people": ("cncf_1", "inter_2", "magento2_3"), "people-weak": ("os_4",), "people-held": ("pif_5", "foss_6")}


train_mobile = load_tool("train_mobile")


def person(seed: int) -> dict[str, np.ndarray]:
    """A soft ellipse before noise, with the mask of its face."""
    y, x = np.mgrid[:96, :80]
    radius = np.hypot((y - 60) / 40, (x - 40) / 24)
    alpha = np.clip((1.1 - radius) * 5, 0, 1)[..., None]
    ground = np.random.default_rng(seed).integers(0, 120, (96, 80, 3))
    face = np.hypot(y - 40, x - 40) < 10
    return {"blurred_image": alpha * 200 + (1 - alpha) * ground, "alpha": alpha[..., 0] * 255, "facemask": face * 255.0}


def describe(folder: Path, names: list[str]) -> None:
    with (folder / "pictures.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(("id", "licence", "source"))
        rows.writerows((name, "CC0-1.0", f"example.org/pictures @ 0123, blob {name}") for name in names)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the tool wants to find, with few people and small pictures."""
    root = tmp_path_factory.mktemp("data")
    number = 0
    for name, people in {**PEOPLE, "ppt": ("cncf_7",)}.items():
        for one in people:
            number += 1
            for kind, picture in person(number).items():
                write(root / name / kind / f"{one}.png", picture)
        describe(root / name, list(people))
    write(root / "people-weak" / "trust" / "os_4.png", np.full((96, 80), 255.0))
    for name, count in {"backgrounds": 70, "no-person": 40}.items():
        scenes = [f"bg_{name}_{i}" for i in range(count)]
        for scene in scenes:
            number += 1
            write(root / name / f"{scene}.png", np.random.default_rng(number).integers(0, 255, (40, 48, 3)))
        describe(root / name, scenes)
    write(root / "sources" / "image" / "source_8.png", person(8)["blurred_image"])
    write(root / "sources" / "facemask" / "source_8.png", person(8)["facemask"])
    describe(root / "sources", ["source_8"])
    write(root / "portraits" / "gt_9" / "image.jpg", person(9)["blurred_image"])
    (root / "manifest.csv").write_text(
        "id,source_repo,path,commit,licence,matte_kind,tier\ngt_9,example/repo,a.jpg,0123,MIT,ground-truth,A\n"
    )
    return root


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture.astype(np.uint8))


def test_the_set_has_some_people_twice_and_nothing_that_is_measured_with(data: Path, tmp_path: Path) -> None:
    for kind, picture in person(50).items():
        write(tmp_path / "more" / kind / "os_50.png", picture)
    train_mobile.make_set(data, [tmp_path / "more"], tmp_path / "out/pictures")
    found = open_set(tmp_path / "out/pictures")
    people = Counter(item.name.removesuffix("-again") for item in found.items if not item.name.startswith("bg_"))
    assert people == {"cncf_1": 1, "inter_2": 2, "magento2_3": 1, "os_4": 2, "os_50": 2}
    weak = next(item for item in found.items if item.name == "os_4")
    assert weak.trust is not None
    assert weak.face_mask is not None
    before = next(item for item in open_set(data / "people-weak").items)
    assert np.abs(read(weak).alpha - (read(before).alpha / 255.0) ** 2 * 255).max() <= 0.5  # softer edges
    empty = [item for item in found.items if item.name.startswith("bg_")]
    assert not any(read(item).alpha.any() for item in empty)
    scenes, clothes, unread = (list_images(tmp_path / "out" / name) for name in ("scenes", "clothes", "unread"))
    assert (len(scenes) + len(clothes), len(unread)) == (10, train_mobile.UNREAD)
    assert all("backgrounds" in path.stem for path in scenes)  # clothes are no background
    assert all("no-person" in path.stem for path in clothes)
    assert {path.stem for path in (*scenes, *clothes)} == {item.name for item in empty}
    assert not {path.stem for path in (*scenes, *clothes)} & {path.stem for path in unread}
    train_mobile.make_set(data, [], tmp_path / "out/pictures")  # again: nothing is lost, nothing is added
    assert len(open_set(tmp_path / "out/pictures").items) == len(found.items)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(TOOLS / "train_mobile.py"), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=900)


def test_the_lists_name_every_picture_once_with_source_licence_and_hashes(data: Path, tmp_path: Path) -> None:
    done = run(data, "none.pth", tmp_path / "out", "--lists", tmp_path)
    assert done.returncode == 0, done.stderr
    training, measuring = (read_list(tmp_path / f"{name}-list.csv") for name in ("training", "measuring"))
    found = Counter(row.kind for row in training)
    assert found["scenes"] + found["clothes"] == 10
    assert found - Counter(scenes=10, clothes=10) == {"people": 3, "people-weak": 1, "sources": 1}
    kinds = {"people-held": 2, "ppt": 1, "portraits": 1, "unread": 100, "bundled": 1}
    assert Counter(row.kind for row in measuring) == kinds
    for row in (*training, *measuring):
        assert row.licence
        assert row.source.startswith(("example.org", "github.com/example/repo @ 0123", "PyPI scikit-image"))
        assert len(row.sha256) == 64
        assert len(row.phash) == 16
    assert all(
        "matte by IS-Net and MediaPipe, sha256 " in row.remark for row in training if row.kind.startswith("people")
    )
    assert all(row.forms for row in measuring)


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path / "nowhere", "none.pth", tmp_path / "out")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "nowhere" in done.stderr


@pytest.mark.full
def test_all_stages_in_miniature(data: Path, tmp_path: Path) -> None:
    encoder = tmp_path / "encoder.pth"
    torch.save(build("mobile").encoder.state_dict(prefix="encoder."), encoder)
    done = run(data, encoder, tmp_path / "out", "--steps", 2)
    assert done.returncode == 0, done.stderr
    info = inspect_checkpoint(tmp_path / "out/mobile.safetensors")
    assert (info.arch, info.trained) == ("mobile", True)
    assert "started from last.safetensors" in info.provenance
    assert (tmp_path / "out/mobile.safetensors").stat().st_size < 8_000_000
    last = tmp_path / "out" / f"stage-{list(train_mobile.STAGES)[-1]}"
    assert len((last / "validation.csv").read_text().splitlines()) == 2
    # From a file of weights, the stages before are left out.
    weights = tmp_path / "out/mobile.safetensors"
    again = run(data, encoder, tmp_path / "later", "--steps", 2, "--stage", last.name[6:], "--weights", weights)
    assert again.returncode == 0, again.stderr
    assert not (tmp_path / "later" / "stage-256").exists()
