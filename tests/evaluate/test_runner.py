"""Scores, protocols and the journal, on real files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from p3m_edge.data.sample import Sample
from p3m_edge.data.sets import open_set
from p3m_edge.data.trimap import make_trimap
from p3m_edge.errors import InputError, UsageError
from p3m_edge.evaluate import ppt
from p3m_edge.evaluate.journal import JOURNAL, Journal
from p3m_edge.evaluate.methods import Options, open_method
from p3m_edge.evaluate.results import ROUTES, TRIMAP_BASED, Evaluation, PictureScore, Route, means
from p3m_edge.evaluate.runner import Trimaps, find_set, run, score, worst_sheet
from p3m_edge.evaluate.tables import figure, pictures_csv, tables
from p3m_edge.imageio import read_mask, write_png
from p3m_edge.model import build, save_checkpoint
from tests.evaluate.material import disc, make_set, portrait, red_model

FLOAT: tuple[Route, ...] = ("float",)


def sample(alpha, face=None) -> Sample:
    return Sample("s", portrait(alpha), alpha, face_mask=face)


def test_the_two_routes():
    alpha = disc()
    trimap = make_trimap(alpha, 3)
    pred = np.minimum(1, (alpha + 0.75) / 255)  # less than a grey level too much
    as_float = score(pred, sample(alpha), trimap, "float", trimap_based=False)
    assert as_float["MAD"] == pytest.approx((alpha < 255).mean() * 0.75 / 255, rel=1e-4)
    truncated = score(pred, sample(alpha), trimap, "8bit", trimap_based=False)
    assert truncated["SAD"] == 0
    less = score(np.maximum(0, (alpha - 0.01) / 255), sample(alpha), trimap, "8bit", trimap_based=False)
    assert less["MAD"] == pytest.approx((alpha > 0).mean() / 255, rel=1e-4)  # truncated, not rounded


def test_trimap_based_methods_are_measured_in_the_unknown_region():
    alpha = disc()
    trimap = make_trimap(alpha, 3)
    pred = np.where(trimap == 128, alpha / 255, 0.5)  # wrong where the trimap tells the answer
    found = score(pred, sample(alpha, disc(radius=6)), trimap, "float", trimap_based=True)
    assert tuple(found) == TRIMAP_BASED
    assert found["SAD_TRIMAP"] == pytest.approx(0, abs=1e-5)
    assert found["SAD"] > found["SAD_FACE"] > 0  # the whole matte, as it is


def test_a_face_is_measured_where_there_is_one():
    alpha, face = disc(), np.zeros((48, 64), np.uint8)
    pred = np.zeros((48, 64))
    without = score(pred, sample(alpha, face), make_trimap(alpha, 3), "float", trimap_based=False)
    assert "SAD_FACE" not in without
    face[20:24, 30:34] = 1
    found = score(pred, sample(alpha, face), make_trimap(alpha, 3), "float", trimap_based=False)
    assert found["SAD_FACE"] == pytest.approx(16 / 1000)
    scores = [
        PictureScore("a", 1, 1, 0, False, {"float": found}),
        PictureScore("b", 1, 1, 0, False, {"float": without}),
    ]
    mean = means(scores, FLOAT)["float"]
    assert (mean["SAD_FACE"].pictures, mean["SAD_FACE"].value) == (1, found["SAD_FACE"])
    assert mean["SAD"].pictures == 2
    assert mean["SAD"].value == pytest.approx(found["SAD"])


def test_trimaps_are_all_the_sets_or_all_made(tmp_path):
    with_trimaps, without = open_set(make_set(tmp_path / "a", trimaps=True)), open_set(make_set(tmp_path / "b"))
    assert Trimaps(with_trimaps).words == "the set's"
    assert Trimaps(with_trimaps, "alpha", 9).words == "made from the alpha, kernel 9"
    assert Trimaps(without, "auto", 9).words == "made from the alpha, kernel 9"
    with pytest.raises(InputError, match="3 of the 3 pictures of b have no trimap"):
        Trimaps(without, "set")
    (tmp_path / "a/trimap/p1.png").unlink()
    assert "made" in Trimaps(open_set(tmp_path / "a")).words
    alpha = disc()
    assert np.array_equal(Trimaps(without, "auto", 9).for_sample(sample(alpha)), make_trimap(alpha, 9))
    own = np.full_like(alpha, 128)
    assert Trimaps(with_trimaps).for_sample(replace(sample(alpha), trimap=own)) is own


def test_a_perfect_method_on_a_set(tmp_path):
    dataset = open_set(make_set(tmp_path / "set", faces=True))
    method = open_method(str(red_model(tmp_path / "model")), Options())
    names: list[str] = []
    result = run(method, dataset, Trimaps(dataset, kernel=3), ROUTES, limit=2, step=names.append)
    assert names == ["p0", "p1"]
    assert [p.picture for p in result.pictures] == names
    assert result.means["float"]["SAD"].value == pytest.approx(0, abs=1e-6)
    assert result.means["8bit"]["MAD"].value <= 1 / 255
    assert "SAD_FACE" in result.means["float"]
    assert "set (the first 2 of 3 pictures, faces unknown); full size, bilinear" in result.protocol.sentence
    assert "scored as float and 8bit; trimap: made from the alpha, kernel 3" in result.protocol.sentence


def test_a_bad_picture_does_not_stop_the_rest(tmp_path):
    make_set(tmp_path / "set")
    (tmp_path / "set/image/p1.png").write_bytes((tmp_path / "set/image/p1.png").read_bytes()[:150])
    write_png(tmp_path / "set/alpha/p2.png", disc(10, 10))
    dataset = open_set(tmp_path / "set")
    method = open_method(str(red_model(tmp_path / "model")), Options())
    result = run(method, dataset, Trimaps(dataset), FLOAT)
    assert [p.picture for p in result.pictures] == ["p0"]
    assert [f.picture for f in result.failures] == ["p1", "p2"]
    assert "damaged" in result.failures[0].reason
    assert "10 x 10" in result.failures[1].reason
    lines = pictures_csv(Evaluation("0", (result,))).decode().splitlines()
    assert lines[0].startswith("method,set,picture,route,width,height,seconds,SAD,MSE")
    assert lines[1].startswith("red,set,p0,float,64,48,")
    assert all(line.count(",") == lines[0].count(",") for line in lines[:3])
    assert "damaged" in lines[2]
    assert [table.title for table in tables(Evaluation("0", (result,)))][-1] == "Pictures that failed"


@pytest.mark.parametrize("name", ["cf", "red", "net"])
def test_odd_pictures(tmp_path, name, capfd):
    """One pixel, nothing unknown, nobody there: all of them have figures, and nothing is printed."""
    alphas = {"pixel": np.full((1, 1), 9, np.uint8), "sheet": disc(48, 3), "none": np.zeros((40, 40), np.uint8),
              "all": np.full((40, 40), 255, np.uint8)}  # fmt: skip
    for folder in ("image", "alpha", "trimap"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for key, alpha in alphas.items():
        write_png(tmp_path / f"set/image/{key}.png", portrait(alpha))
        write_png(tmp_path / f"set/alpha/{key}.png", alpha)
        write_png(tmp_path / f"set/trimap/{key}.png", np.where(alpha > 128, 255, 0).astype(np.uint8))
    save_checkpoint(build("tiny").eval(), tmp_path / "net", licence="none", provenance="a test", trained=False)
    model = {"cf": "cf", "red": str(red_model(tmp_path / "model")), "net": str(tmp_path / "net")}[name]
    dataset = open_set(tmp_path / "set")
    found = run(open_method(model, Options()), dataset, Trimaps(dataset), ROUTES)
    assert not found.failures
    assert [p.picture for p in found.pictures] == ["all", "none", "pixel", "sheet"]
    assert all(p.scores["float"]["MSE_TRIMAP"] == 0 for p in found.pictures)
    assert capfd.readouterr() == ("", "")


def test_the_journal_goes_on_and_notices_what_changed(tmp_path):
    dataset = open_set(make_set(tmp_path / "set"))
    method = open_method(str(red_model(tmp_path / "model")), Options())
    out = tmp_path / "out"
    first = run(method, dataset, Trimaps(dataset), FLOAT, limit=2, journal=Journal(out))
    log = out / JOURNAL
    kept = log.read_bytes()
    assert kept.count(b"\n") == 2
    marked = kept.replace(b'"seconds":', b'"seconds":7', 2)  # tells what was kept from what is computed again
    log.write_bytes(marked + b'{"key": "torn off in the mid')
    again = run(method, dataset, Trimaps(dataset), FLOAT, journal=Journal(out))
    assert [p.seconds >= 7 for p in again.pictures] == [True, True, False]
    assert [p.scores for p in again.pictures[:2]] == [p.scores for p in first.pictures]
    assert log.read_bytes().startswith(marked)  # it is written to at the end alone
    usual = Trimaps(dataset)

    def kept_ones(method=method, trimaps=usual, routes=FLOAT) -> list[bool]:
        found = run(method, dataset, trimaps, routes, limit=2, journal=Journal(out))
        return [p.seconds >= 7 for p in found.pictures]

    assert kept_ones() == [True, True]
    assert kept_ones(trimaps=Trimaps(dataset, "alpha", 9)) == [False, False]
    assert kept_ones(method=open_method(str(red_model(tmp_path / "other", 'name = "red"')), Options())) == [False] * 2
    write_png(tmp_path / "set/alpha/p0.png", disc(radius=5))
    assert kept_ones() == [False, True]
    assert kept_ones(routes=ROUTES) == [False, False]  # one of the routes is missing


def test_the_worst_come_first(tmp_path):
    make_set(tmp_path / "set")
    alpha = read_mask(tmp_path / "set/alpha/p1.png")
    write_png(tmp_path / "set/alpha/p1.png", 255 - alpha)  # the truth is turned round: nothing could be worse
    dataset = open_set(tmp_path / "set")
    method = open_method(str(red_model(tmp_path / "model")), Options())
    trimaps = Trimaps(dataset)
    result = run(method, dataset, trimaps, FLOAT)
    one, two = (worst_sheet(result, method, dataset, trimaps, count) for count in (1, 2))
    assert one is not None
    assert two is not None
    assert two.shape[0] > one.shape[0]
    assert np.array_equal(two[: one.shape[0] - 4], one[:-4])
    (tmp_path / "set/image/p1.png").unlink()
    other = worst_sheet(result, method, dataset, trimaps, 1)
    assert other is None  # it went; there is nothing to show in its place


def test_sets_by_split(tmp_path):
    for split in ("P3M-500-P", "P3M-500-NP"):
        faces = "blurred_image" if split == "P3M-500-P" else "original_image"
        make_set(tmp_path / "P3M-10k/validation" / split, layout=(faces, "mask"))
    found = find_set(tmp_path / "P3M-10k/P3M-500-NP")
    assert (found.name, found.blurred) == ("P3M-500-NP", False)
    assert find_set(tmp_path / "P3M-10k/validation/P3M-500-P").blurred
    with pytest.raises(UsageError, match="no split 'P3M-500-X'"):
        find_set(tmp_path / "P3M-10k/P3M-500-X")
    for absent in ("nowhere", "nowhere/at/all", "x" * 5000):
        with pytest.raises(InputError, match=f"{absent} "):
            find_set(tmp_path / absent)
    ppt.check("N", found)
    with pytest.raises(UsageError, match="marked B"):
        ppt.check("B", found)


def test_marks():
    assert ppt.marked("B=a=b") == ppt.Marked("a=b", "B")
    for text in ("a", "B=", "b=a", "X=a"):
        with pytest.raises(UsageError, match="needs a mark"):
            ppt.marked(text)
    assert ppt.pair("B", "N") == "B:N"


def test_figures_are_printed_as_in_publications(tmp_path):
    dataset = open_set(make_set(tmp_path / "set"))
    method = open_method(str(red_model(tmp_path / "model", "[input]\nscale = 0")), Options())
    result = run(method, dataset, Trimaps(dataset), FLOAT)
    truth = [read_mask(item.alpha) / 255 for item in dataset.items if item.alpha is not None]
    assert figure("SAD", result.means["float"]["SAD"]) == f"{np.mean([a.sum() / 1000 for a in truth]):.3f}"
    assert figure("MSE", result.means["float"]["MSE"]) == f"{np.mean([(a**2).mean() for a in truth]):.5f}"
    assert figure("SAD", None) == "-"
    assert result.protocol.sentence.startswith("set (3 pictures")
