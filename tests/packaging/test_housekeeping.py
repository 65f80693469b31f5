"""Links, pins, schema and tracked files: what goes stale when nobody looks."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import make
from p3m_edge import manifest
from tests.packaging.sources import ROOT, project_files

PAGES = [Path(name) for name in project_files() if name.endswith(".md")]
HOME = str(Path.home()).rstrip("/") or str(ROOT)
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
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


def test_make_asks_for_what_the_project_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(make.TEST_EXTRAS) <= set(project["optional-dependencies"])
    (torch,) = [r for r in map(Requirement, project["optional-dependencies"]["torch"]) if r.name == "torch"]
    assert str(torch.specifier) == ">=" + ".".join(map(str, make.MINIMUM_TORCH))
    versions = {c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)}
    assert versions == {f"{major}.{minor}" for major, minor in make.PYTHONS}


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
