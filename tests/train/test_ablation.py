"""The ablation of P3M-CP: what is drawn, what is trained, what is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from p3m_edge.cli.ablate_cp import markdown
from p3m_edge.data.sets import open_set, read
from p3m_edge.data.synth import portrait
from p3m_edge.errors import InputError, UsageError
from p3m_edge.train import ablation

SETTING = ablation.Setting(train=4, test=2, seeds=1, steps=2, batch=2, size=32, faces=2)
OPTIONS = [
    f"--{name}={getattr(SETTING, name)}" for name in ("train", "test", "seeds", "steps", "batch", "size", "faces")
]


class Silent:
    def progress(self, what: str, done: int, total: int) -> None:
        assert 0 <= done <= total, what

    def warn(self, message: str) -> None:
        raise AssertionError(message)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    out = tmp_path_factory.mktemp("ablation") / "out"
    command = [sys.executable, "-m", "p3m_edge", "ablate-cp", "--out", str(out), "--json", *OPTIONS]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr
    return out, json.loads(found.stdout)


def test_every_variant_is_trained_and_scored(done: tuple[Path, dict[str, object]]) -> None:
    out, document = done
    assert document == json.loads((out / "report.json").read_bytes())
    rows = (out / "report.md").read_text(encoding="utf-8").splitlines()
    for name in ablation.VARIANTS:
        assert sum(row.startswith(f"| {name} |") for row in rows) == 1
        score = json.loads((out / f"runs/{name}-0/score.json").read_bytes())
        assert all(value > 0 for value in score.values())
        config = (out / f"runs/{name}-0/config.toml").read_text(encoding="utf-8")
        assert all((f'"{method}"' in config) == (method in ablation.VARIANTS[name]) for method in ("icp", "fcp"))
    weights = {(out / f"runs/{name}-0/last.safetensors").read_bytes() for name in ("none", "ICP")}
    assert len(weights) == 2  # the faces reached the network


def test_the_test_sets_differ_in_the_faces_alone(done: tuple[Path, dict[str, object]]) -> None:
    out, _ = done
    blurred, normal = open_set(out / "data/test-blurred"), open_set(out / "data/test-normal")
    assert (blurred.blurred, normal.blurred) == (True, False)
    assert len(blurred.items) == SETTING.test
    for one, other in zip(map(read, blurred.items), map(read, normal.items), strict=True):
        assert one.face_mask is not None
        assert other.face_mask is not None
        assert np.array_equal(one.alpha, other.alpha)
        assert np.array_equal(one.face_mask, other.face_mask)
        hidden = one.face_mask != 0
        assert hidden.any()
        assert np.array_equal(one.image[~hidden], other.image[~hidden])
        assert (one.image[hidden] != other.image[hidden]).mean() > 0.5


def test_again_it_takes_what_is_there(done: tuple[Path, dict[str, object]]) -> None:
    out, _ = done
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.suffix in (".png", ".safetensors")}
    found = ablation.ablate(SETTING, out, Silent())
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert markdown(found) == (out / "report.md").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="another setting"):
        ablation.ablate(ablation.Setting(train=5), out, Silent())


@pytest.mark.parametrize("name", ["setting.json", "runs/both-0/score.json"])
@pytest.mark.parametrize("damaged", [b"", b'{"blurred": 1', b'{"steps": "many", "blurred": null}', b"\xff\xfe"])
def test_a_damaged_note_is_one_clear_error(done: tuple[Path, dict[str, object]], name: str, damaged: bytes) -> None:
    path = done[0] / name
    before = path.read_bytes()
    path.write_bytes(damaged)
    try:
        with pytest.raises(InputError, match=f"{path.name} cannot be read") as caught:
            ablation.ablate(SETTING, done[0], Silent())
        assert caught.value.hint is not None
    finally:
        path.write_bytes(before)


def test_means_and_spread() -> None:
    scores = (ablation.Score(1.0, 2.0, 0.1, 0.4), ablation.Score(3.0, 5.0, 0.3, 0.4))
    row = ablation.Variant("none", scores)
    assert row.mean(lambda s: s.gap) == 1.5
    assert row.mean(lambda s: s.face_gap) == pytest.approx(0.2)
    assert row.spread(lambda s: s.blurred) == pytest.approx(2**0.5)


def test_a_portrait_seen_from_behind_stays_as_it_is() -> None:
    behind = next(
        s for seed in range(400) if (s := portrait(seed, 48, 48)).face_mask is not None and not s.face_mask.any()
    )
    assert np.array_equal(ablation.hide(behind).image, behind.image)


def test_impossible_settings(tmp_path: Path) -> None:
    for make in (
        lambda: ablation.Setting(size=40),
        lambda: ablation.Setting(steps=0),
        lambda: ablation.Setting(test=0),
    ):
        with pytest.raises(UsageError):
            make()
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UsageError, match="not an empty folder"):
        ablation.ablate(SETTING, tmp_path, Silent())
