"""The HTML page and its parts, without a browser: what is drawn, what is escaped, and what the command line refuses."""

import json
import re
import shlex
import sys
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

import p3m_edge
from p3m_edge.benchmarks import samples as sampling
from p3m_edge.benchmarks.report.page import page
from p3m_edge.benchmarks.report.regression import compare
from p3m_edge.benchmarks.report.schema import Accuracy, BenchmarkReport, MeasureOptions
from p3m_edge.benchmarks.rows import ArtefactRow
from p3m_edge.benchmarks.samples import MOST, Portrait, find
from p3m_edge.cli import build_parser, load, main
from p3m_edge.cli.verbs.bench import commands
from p3m_edge.data.sample import Item
from p3m_edge.errors import InputError, UsageError
from tests.artefacts import make_artefact, picture
from tests.benchmarks.helpers.samples import eager, report, row

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
ASSETS = Path(p3m_edge.__file__).parent / "assets"
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">&<b>'"
Matted = tuple[list[ArtefactRow], BenchmarkReport, tuple[Portrait, ...]]


def _accuracy(**errors: float) -> Accuracy:
    return Accuracy(1, 0, next(iter(errors)), {}, errors, {})


def _charts(text: str) -> list[ElementTree.Element]:
    """The charts of a page; every one of them is well-formed."""
    found = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', text)
    return [ElementTree.fromstring(b64decode(data)) for data in found]


def _words(chart: ElementTree.Element) -> set[str]:
    return {element.text or "" for element in chart.iter("{http://www.w3.org/2000/svg}text")}


def test_what_failed_is_shown_as_such_and_not_plotted() -> None:
    made = report(row("good", 10.0), row("wrong", None, status="parity-failed"), row("dead", None, status="failed"))
    # Even if it had an error, a row that is not ok has no place on the chart.
    text = page(replace(made, accuracy=_accuracy(good=0.0, wrong=0.1)))
    assert text.count('<span class="badge bad">parity-failed</span>') == 1
    assert "Not plotted: wrong (parity-failed), dead (failed)." in text
    assert "because of parity-failed" in text
    wide = _words(_charts(text)[-1])
    assert "good" in wide
    assert "wrong" not in wide


def test_the_chart_is_there_and_told_in_words() -> None:
    text = page(replace(report(row("a", 10.0), row("b", 20.0)), accuracy=_accuracy(a=0.5, b=0.1)))
    (chart,) = _charts(text)
    assert {"a", "b"} <= _words(chart)
    assert "On the Pareto front, fastest first: a, b." in text
    assert ", on the front" in text


def test_the_reasons_stand_there_also_where_no_row_could_matte() -> None:
    found = Accuracy(1, 0, None, {}, {}, {"one": "no <memory>"})
    text = page(replace(report(row("one", 10.0)), accuracy=found), ())
    assert "No row could be used for the mattes" in text
    assert "<strong>one</strong> has no mattes: no &lt;memory&gt;" in text


def test_times_that_an_imported_report_may_hold() -> None:
    made = report(row("one", 10.0))
    assert "2026-11-23 08:20 UTC" in page(replace(made, created="2026-11-23T10:20:30+02:00"))
    for odd in ("yesterday", "0001-01-01T00:00:00+23:59"):
        assert f"Measured {odd}." in page(replace(made, created=odd))


def test_where_nothing_was_verified_no_verdict_is_shown() -> None:
    assert "Parity here" not in page(report(eager("eager r34", 20.0)))
    assert "Parity here" in page(report(row("one", 10.0)))


def test_no_order_is_claimed_within_the_noise() -> None:
    text = page(report(row("one", 10.0), row("two", 10.05)))
    assert "within the noise of two" in text
    assert "not ranked, within the noise (64x32): one, two" in text


def test_whatever_comes_from_outside_is_escaped() -> None:
    bad = replace(row(HOSTILE, 10.0), arch=HOSTILE, unpool=HOSTILE)
    failed = replace(row(HOSTILE + "2", None, status="failed"), reason=HOSTILE)
    made = report(bad, failed, eager("eager " + HOSTILE, 20.0))
    machine = replace(made.machine, board=HOSTILE, cpu=HOSTILE, system=HOSTILE, packages={HOSTILE: HOSTILE})
    other = replace(made, created=HOSTILE)
    made = replace(made, machine=machine, imported=(other,), accuracy=_accuracy(**{HOSTILE: 0.5}))
    text = page(made, None, [(HOSTILE, HOSTILE)])
    image = r'<img class="chart" src="data:image/svg\+xml;base64,[\w+/=]+" alt="[^"<>]*">'
    assert re.findall("<img[^>]*>", text) == re.findall(image, text)
    assert "<b>" not in text
    assert f"eager {HOSTILE} (latency only)" in _words(_charts(text)[0])
    assert text.count("</script>") == 1
    assert text.count("&lt;/script&gt;&lt;img src=x") > 10


class _Page(HTMLParser):
    """The tags of a page, which must close as they opened, its ids and the classes inside its first portrait."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.found: set[str] = set()
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        assert len(given) == len(attrs), (tag, attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("aria-labelledby", "for") if name in given]
        self.links += [given["href"][1:]] if given.get("href", "").startswith("#") else []
        classes = given.get("class", "").split()
        self.found |= {tag, *(f".{name}" for name in classes), *(f"{tag}.{name}" for name in classes)}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_has_all_that_its_script_and_its_style_look_for(matted: Matted) -> None:
    _, made, mattes = matted
    now = replace(made, imported=(report(row("far", 5.0)),))
    text = page(replace(now, comparison=compare(now, report(row("one", 5.0)))), mattes, [("what", "command")])
    found = _Page(text)
    assert found.open == []
    assert len(set(found.ids)) == len(found.ids)
    assert set(found.links) <= set(found.ids)
    script, style = ((ASSETS / f"bench-page.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    ids = set(re.findall(r'(?:getElementById|chosen)\("([\w-]+)"\)', script)) | set(
        re.findall(r"#([\w-]+) option", script)
    )
    assert {"pictures", "mattes", "left", "right", "view", "background", "gain"} == ids <= set(found.ids)
    selectors = re.findall(r'(?:find|querySelector(?:All)?)\(["`]([^"`$]+)["`]\)', script)
    looked_for = {part for selector in selectors for part in selector.split()}
    assert {".split", ".zoom", ".tag", "canvas", "figure.portrait"} <= looked_for <= found.found
    made_by_script = {".masked", ".missing", ".zoomed-in", ".faded"}
    styled = set(re.findall(r"(?<![\w)])\.[a-z][\w-]*(?=[^{}]*\{)", style)) - made_by_script
    # Of the states that a report may be in, this page has some.
    assert styled - {".failures", ".bad"} <= found.found
    data = json.loads(text.split('id="pictures">')[1].split("</script>")[0])
    assert [one["name"] for one in data] == ["0.jpg", "1.jpg"]
    assert data[1]["alphas"].keys() == {"r0", "r1", "truth"}
    photo, alpha = (_decoded(uri) for uri in (data[1]["photo"], data[1]["alphas"]["truth"]))
    assert photo.shape == (768, 512, 3)
    assert np.abs(alpha[..., 3].astype(int) - mattes[1].truth).max() == 0
    assert alpha[..., :3].max() == 0
    assert 1 <= data[1]["detail"]["zoom"] <= 12


def _decoded(uri: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    pixels = cv2.imdecode(np.frombuffer(b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return np.asarray(pixels, dtype=np.uint8)


def test_nothing_is_fetched() -> None:
    text = page(replace(report(row("a", 10.0)), accuracy=_accuracy(a=0.5)))
    assert "default-src 'none'" in text.replace("&#x27;", "'")
    assert set(re.findall(r"""(?:src|srcset|href|action|data)\s*=\s*["']?[\w#/]*""", text.split("<script>")[0])) == {
        'href="data', 'href="#main', 'src="data',
    }  # fmt: skip
    assert not re.findall(r"https?://|@import|url\(", text.replace('`url("${alphas[id]}")`', ""))  # a data URI
    for chart in _charts(text):
        links = {value for element in chart.iter() for name, value in element.items() if name.endswith("href")}
        assert all(link.startswith("#") for link in links)


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_package_that_is_missing_is_named_before_anything_is_measured(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = make_artefact(tmp_path / "plain", size=(32, 32))
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["bench", str(plain), "--html", str(tmp_path / "page.html")]) == 4
    err = capsys.readouterr().err
    assert f"the package {package!r} cannot be imported" in err
    assert 'pip install "p3m-edge[report]"' in err
    assert "cold start" not in err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("set")
    (home / "image").mkdir()
    (home / "alpha").mkdir()
    for number, (height, width) in enumerate(((60, 90), (900, 600))):
        cv2.imwrite(str(home / "image" / f"{number}.jpg"), picture(height, width, seed=number + 1))
    cv2.imwrite(str(home / "alpha" / "1.png"), np.tile(np.linspace(0, 255, 600).astype(np.uint8), (900, 1)))
    return home


@pytest.fixture(scope="module")
def matted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Matted:
    """Two artefacts, a report of them, and their mattes of the set."""
    home = tmp_path_factory.mktemp("artefacts")
    rows = [
        ArtefactRow(label, make_artefact(home / label, size=(32, 32), seed=seed))
        for seed, label in enumerate(("one", "two"))
    ]
    made = replace(report(row("one", 10.0), row("two", 11.0)), options=MeasureOptions(threads=1, timeout=300))
    portraits, accuracy = sampling.matte(rows, made, find([folder]), reference="two")
    return rows, replace(made, accuracy=accuracy), portraits


def test_a_row_that_cannot_matte_has_no_mattes(matted: Matted, folder: Path, tmp_path: Path) -> None:
    rows, made, _ = matted
    gone = replace(rows[1], folder=tmp_path / "gone")
    _, accuracy = sampling.matte([rows[0], gone], made, find([folder / "image" / "0.jpg"]), reference="two")
    assert accuracy.failures.keys() == {"two"}
    assert accuracy.reference == "one"


def test_mattes_are_those_of_the_runtime_and_their_errors_those_of_the_measures(matted: Matted, folder: Path) -> None:
    from p3m_edge.imageio import read_image, read_mask
    from p3m_edge.metrics import evaluate
    from p3m_edge.runtimes import Matting

    rows, made, portraits = matted
    found = made.accuracy
    assert found is not None
    assert (found.reference, found.pictures, found.true_mattes) == ("two", 2, 1)
    assert found.errors == found.sad
    assert found.difference["two"] == 0
    first, second = portraits
    assert (first.truth, second.photo.shape) == (None, (768, 512, 3))
    frames = [read_image(folder / "image" / f"{number}.jpg").rgb for number in (0, 1)]
    with Matting(rows[0].folder, threads=1) as one, Matting(rows[1].folder, threads=1) as two:
        alphas = [(one(frame), two(frame)) for frame in frames]
    truth = read_mask(folder / "alpha" / "1.png")
    assert found.sad["one"] == pytest.approx(evaluate(alphas[1][0], truth)["SAD"], rel=1e-4)
    assert first.mattes["one"].difference == pytest.approx(1000 * np.abs(alphas[0][0] - alphas[0][1]).mean(), rel=1e-4)
    assert np.abs(first.mattes["one"].alpha - 255 * alphas[0][0]).max() <= 1
    left, top, side = second.detail
    assert 0 <= left <= 512 - side
    assert 0 <= top <= 768 - side
    text = page(made, portraits)
    assert "Mean SAD against the true matte" in text
    assert "768 pixels on the longer side" in text


def test_hair_is_found_at_the_top_of_the_subject() -> None:
    alpha = np.zeros((400, 300), np.uint8)
    cv2.ellipse(alpha, (150, 400), (100, 300), 0, 0, 360, 255, -1)
    rng = np.random.default_rng(0)
    alpha[100:160, 100:200] = rng.integers(0, 256, (60, 100))  # hair
    alpha[330:390, 60:160] = rng.integers(0, 256, (60, 100))  # lace at the foot
    left, top, side = sampling.most_detailed(alpha)
    assert top < 160 < 330
    assert left < 200
    assert left + side > 100
    flat = np.zeros((10, 1), np.uint8)
    assert sampling.most_detailed(flat) == (0, 0, 1)


def test_samples_of_sets_come_with_their_mattes(folder: Path, tmp_path: Path) -> None:
    assert [sample.name for sample in find([])] == ["astronaut.jpg"]
    assert find([])[0].image.is_file()
    names = [(sample.name, sample.alpha and sample.alpha.name) for sample in find([folder])]
    assert names == [("0.jpg", None), ("1.jpg", "1.png")]
    one = folder / "image" / "1.jpg"
    assert find([one])[0].alpha == folder / "alpha" / "1.png"
    assert len(find([one, one, folder])) == 2
    assert [sample.alpha for sample in find([folder / "alpha"])] == [None]  # a plain folder
    other = tmp_path / "image"
    other.mkdir()
    cv2.imwrite(str(other / "1.jpg"), picture(20, 20))
    assert {sample.name for sample in find([one, other / "1.jpg"])} == {
        f"{folder.name}/image/1.jpg", f"{tmp_path.name}/image/1.jpg",
    }  # fmt: skip


def test_bad_samples_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        find([tmp_path / "empty"])
    many = tmp_path / "many"
    many.mkdir()
    for number in range(MOST + 1):
        (many / f"{number}.jpg").touch()
    with pytest.raises(UsageError, match=f"{MOST + 1} samples are too many"):
        find([many])
    with pytest.raises(InputError, match="is empty"):
        sampling.check(find([many / "0.jpg"]))
    with pytest.raises(InputError, match=r"90 x 60 pixels, its picture 1\.jpg 600 x 900"):
        sampling.check([Item("x", folder / "image" / "1.jpg", _grey(tmp_path / "small.png", 60, 90))])
    (tmp_path / "P3M" / "one" / "image").mkdir(parents=True)
    (tmp_path / "P3M" / "two" / "image").mkdir(parents=True)
    with pytest.raises(UsageError, match="has splits: name one"):
        find([tmp_path / "P3M"])


def _grey(path: Path, height: int, width: int) -> Path:
    cv2.imwrite(str(path), np.zeros((height, width), np.uint8))
    return path


def test_what_the_page_cannot_be_is_said_before_anything_is_measured(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = make_artefact(tmp_path / "plain", size=(32, 32))
    (tmp_path / "x.html").mkdir()
    html = tmp_path / "page.html"
    cases = [
        (2, "--samples is for the page", [plain, "--samples", folder]),
        (2, "not named .html", [plain, "--html", tmp_path / "portrait.jpg"]),
        (2, "is a folder", [plain, "--html", tmp_path / "x.html"]),
        (1, "does not exist", [plain, "--html", html, "--samples", tmp_path / "none.jpg"]),
        (2, "no meaning with --bundle", [plain, "--html", html, "--bundle", tmp_path / "bundle"]),
        (2, "needs an artefact", ["--eager", "mobile", "--html", html, "--samples", folder]),
    ]
    for code, message, arguments in cases:
        assert main(["bench", *map(str, arguments)]) == code, message
        err = capsys.readouterr().err
        assert message in err
        assert "cold start" not in err
    assert not html.exists()


def test_a_page_of_imported_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from p3m_edge.benchmarks.report import files

    for name, label in (("one.json", "a"), ("two.json", "b")):
        found = report(row(label, 10.0))
        (tmp_path / name).write_bytes(
            files.encode(replace(found, machine=replace(found.machine, board=f"Board {label}")))
        )
    arguments = ["--import", str(tmp_path / "one.json"), "--import", str(tmp_path / "two.json")]
    assert main(["bench", *arguments, "--html", str(tmp_path / "page.html"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] is None
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    for expected in ("Board a", "Board b", "Machines side by side", "nothing to plot", "--import one.json"):
        assert expected in text
    assert str(tmp_path) not in text


def _arguments(*words: str) -> Any:
    return build_parser("bench", load("bench")).parse(words)


def test_commands_show_no_path_of_this_machine() -> None:
    args = _arguments(
        "/home/someone/out/fp32", "out/int 8", "--eager", "/home/someone/r34.pth", "--html", "/tmp/x/page.html",
        "--samples", "/home/someone/me.jpg", "--out", "../reports", "--baseline", "/home/someone/old.json",
    )  # fmt: skip
    rows = [ArtefactRow("fp32", args.artefacts[0]), ArtefactRow("int 8", args.artefacts[1])]
    made = [
        command
        for _, command in commands(args, rows, replace(report(row("a", 1.0)), options=MeasureOptions(threads=3)))
    ]
    assert made[0].startswith("p3m-edge bench fp32 'out/int 8' --out reports --eager r34.pth --baseline old.json")
    for part in ("--rounds 10 --iterations 5 --warmup 3 --threads 3 --device cpu", "--html page.html --samples me.jpg"):
        assert part in made[0]
    assert made[1] == "p3m-edge verify fp32 'out/int 8'"
    assert "--baseline reports/report.json" in made[2]
    assert not any("someone" in command or "/tmp" in command or ".." in command for command in made)
    parsed: Any = _arguments(*shlex.split(made[0])[2:])
    assert parsed.rounds == 10  # what the page says can be run
