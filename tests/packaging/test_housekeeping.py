"""Links, samples, tables, pins, schema and tracked files: what goes stale when nobody looks."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import make
from p3m_edge import cli, manifest
from p3m_edge.targets import FP16, FP32, INT8, TARGETS, Limits
from tests.artefacts import make_artefact, picture
from tests.mutations import Mutation, mutations
from tests.packaging.sources import ROOT, project_files
from tests.tools import load_tool

environment = load_tool("environment")
PAGES = [Path(name) for name in project_files() if name.endswith(".md")]
HOME = str(Path.home()).rstrip("/") or str(ROOT)
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
EXCEPTION = re.compile(r"#\s(?:noqa(?:: [A-Z]+\d+(?:, [A-Z]+\d+)*)?|type:\signore(?:\[[^\]]*\])?)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names that headings get on a forge: lower case, no punctuation, spaces as hyphens."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_of_a_page_resolve(page: Path) -> None:
    dead = []
    for link in LINK.findall(CODE.sub("", (ROOT / page).read_text(encoding="utf-8"))):
        if re.match(r"(https?|mailto):", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        inside = target.exists() and ROOT in target.resolve().parents
        if not inside or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def blocks(language: str) -> list[tuple[str, str]]:
    """The fenced blocks of a language, with the page and number of each."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    texts = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    return [(f"{page} {i}", m.group(1)) for page, text in texts.items() for i, m in enumerate(fence.finditer(text), 1)]


SAMPLES = blocks("python")


@pytest.fixture(scope="module")
def samples_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the samples find in their working directory: artefacts, a portrait, a clip, an anonymised set."""
    for package in ("onnx", "onnxruntime", "openvino", "av"):
        pytest.importorskip(package)
    import cv2

    from tests.video.clips import write_clip

    folder = tmp_path_factory.mktemp("samples")
    make_artefact(folder / "out" / "onnx-fp32", "onnxruntime")
    for precision in ("fp16", "fp32"):
        make_artefact(folder / "out" / f"openvino-{precision}", "openvino")
    assert cv2.imwrite(str(folder / "portrait.jpg"), picture(90, 70))
    for kind in ("synthetic/facemask", "out-synthetic/facemask", "out-synthetic/blurred_image"):
        (folder / kind).mkdir(parents=True)
        assert cv2.imwrite(str(folder / kind / "0.png"), np.full((8, 8), 255, np.uint8))
    clip = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for seed in range(4):
        clip.write(picture(48, 64, seed))
    clip.release()
    write_clip(folder / "clip.mp4", stamps=range(0, 160, 40), size=(64, 48))
    return folder


@pytest.mark.parametrize("sample", [text for _, text in SAMPLES], ids=[name for name, _ in SAMPLES])
def test_samples_run(sample: str, samples_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import cv2

    if "p3m_edge.model" in sample:
        for package in ("torch", "skimage"):
            pytest.importorskip(package)
    shutil.copytree(samples_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("P3M_EDGE_CACHE", str(tmp_path / "cache"))
    shown: list[tuple[int, ...]] = []
    # The headless OpenCV has no windows, and a build machine no camera.
    monkeypatch.setattr(cv2, "imshow", lambda _, frame: shown.append(frame.shape), raising=False)
    monkeypatch.setattr(cv2, "waitKey", lambda _: -1, raising=False)
    sample = sample.replace("CameraSource(0)", 'FileSource("clip.mp4")').replace(
        "import CameraSource", "import FileSource"
    )
    exec(compile(sample, "sample", "exec"), {})
    assert shown == ([(48, 64, 3)] * 4 if "imshow" in sample else [])


def commands() -> list[str]:
    """The lines of all console blocks that call the command line."""
    lines = [line for _, text in blocks("console") for line in text.splitlines()]
    return [line for line in lines if line.startswith("p3m-edge ")]


@pytest.mark.parametrize("command", commands())
def test_commands_on_the_pages_parse(command: str) -> None:
    verb, arguments = cli.split(shlex.split(command, comments=True)[1:])
    assert cli.build_parser(verb, cli.load(verb)).parse(arguments)


def rows(page: str, first: str) -> list[list[str]]:
    """The body of the table on a page whose heading starts with a cell, without code marks."""
    lines = iter((ROOT / page).read_text(encoding="utf-8").splitlines())
    assert any(line.startswith(f"| {first} |") for line in lines)  # leaves the lines behind the heading
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return table[1:]


def test_the_pages_list_the_targets_as_they_are() -> None:
    expected = []
    for (engine, file, experimental), targets in itertools.groupby(
        TARGETS.values(), lambda target: (target.engine, target.model_file, target.experimental)
    ):
        names = {target.name: target.precision for target in targets}
        assert all(name.endswith(f"-{precision}") for name, precision in names.items())  # the page says so
        expected.append([engine + " (experimental)" * experimental, file, ", ".join(names)])
    assert rows("docs/targets.md", "engine") == expected


def test_the_pages_list_the_parity_limits_as_they_are() -> None:
    shown = {name: tuple(limits) for _, name, *limits in rows("docs/targets.md", "figure")}
    names = [field.name for field in dataclasses.fields(Limits)]
    limits = {name: tuple(getattr(row, name) for row in (FP32, FP16, INT8)) for name in names}
    assert {name: tuple(float(v) if v != "-" else None for v in row) for name, row in shown.items()} == limits


def test_pages_stay_short() -> None:
    lines = {page: len(page.read_text(encoding="utf-8").splitlines()) for page in (ROOT / "docs").glob("*.md")}
    assert sum(lines.values()) <= 2300, lines
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_readme_lists_the_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [name for row in rows("README.md", "extra") for name in row[0].split(", ") if name != "(none)"]
    assert sorted(listed) == sorted(project["optional-dependencies"])


def test_the_published_schema_is_the_one_in_the_code() -> None:
    published = json.loads((ROOT / "docs" / "manifest.schema.json").read_text(encoding="utf-8"))
    assert published == json.loads(json.dumps(manifest.json_schema())), "python -m p3m_edge.manifest writes it anew"


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_constraints_are_plain_pins() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==\d+(\.\w+)*", line)] == []
    assert lines == sorted(lines)
    assert len(pins()) == len(lines)


def test_constraints_cover_every_dependency() -> None:
    file = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = file["project"]
    texts = [*project["dependencies"], *file["build-system"]["requires"]]
    texts += [text for extra in project["optional-dependencies"].values() for text in extra]
    requirements = [r for r in map(Requirement, texts) if r.name != "p3m-edge"]
    known = pins()
    assert {canonicalize_name(r.name) for r in requirements} <= set(known)
    assert [str(r) for r in requirements if known[canonicalize_name(r.name)] not in r.specifier] == []


@pytest.mark.parametrize(("glibc", "expected"), [("2.34", True), ("2.41", True), ("2.31", False), ("", False)])
def test_make_takes_core_ai_where_its_packages_run(glibc: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc" if glibc else "", glibc))
    extras = environment.fitting_extras()
    assert ("coreai" in extras) == expected
    assert {*extras, "coreai"} == set(environment.TEST_EXTRAS)


def test_make_asks_for_what_the_project_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(environment.TEST_EXTRAS) <= set(project["optional-dependencies"])
    (torch,) = [r for r in map(Requirement, project["optional-dependencies"]["torch"]) if r.name == "torch"]
    assert str(torch.specifier) == ">=" + ".".join(map(str, environment.MINIMUM_TORCH))
    versions = {c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)}
    assert versions == {f"{major}.{minor}" for major, minor in make.PYTHONS}


def test_exceptions_from_the_checks_have_reasons() -> None:
    bare = [
        f"{name}:{number}"
        for name in project_files() if name.endswith(".py")
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1)
        if EXCEPTION.search(line) and not re.search("[a-z]", "".join(EXCEPTION.split(line)[1:]))
    ]  # fmt: skip
    assert bare == []


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(rf"(?<![\w.]){re.escape(str(ROOT))}(?![\w-])", id="this checkout"),
        pytest.param(rf"(?<![\w.]){re.escape(HOME)}/[\w.]", id="this home directory"),
        pytest.param(r"(?<![\w.])/root/[a-z.]", id="root's home directory"),
        pytest.param(r"https?://[^\s\"'<>]*/(simple|whl)\b", id="a package index"),
        pytest.param(r"index-url\s*=?\s*(https?|file):", id="a pip setting"),
    ],
)
def test_tracked_files_name_no_machine_and_no_index(pattern: str) -> None:
    compiled = re.compile(pattern)
    found = []
    for name in project_files():
        path = ROOT / name
        if path.is_file() and path.suffix not in {".jpg", ".png", ".npz"}:
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{name}: {m.group()}" for m in compiled.finditer(text)]
    assert found == []


@pytest.mark.parametrize("mutation", mutations(), ids=lambda mutation: mutation.name)
def test_mutations_name_a_line_and_tests_that_exist(mutation: Mutation) -> None:
    assert (ROOT / "p3m_edge" / mutation.file).read_text("utf-8").count(mutation.old) == 1
    assert mutation.new != mutation.old
    assert mutation.tests
    assert all((ROOT / "tests" / name.partition("::")[0]).exists() for name in mutation.tests)
