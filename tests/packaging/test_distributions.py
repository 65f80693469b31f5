"""Wheel and source distribution: exactly the right files, metadata that holds, and no use of the root links."""

from __future__ import annotations

import ast
import email
import tarfile
import tomllib
import zipfile
from pathlib import PurePosixPath

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement

import p3m_edge
from p3m_edge.shipped import SHIPPED
from tests.packaging.conftest import Distributions
from tests.packaging.sources import LINKS, ROOT, project_files

NAME = f"p3m_edge-{p3m_edge.__version__}"
WEIGHTS = "p3m_edge/weights"
CARD = f"{WEIGHTS}/README.md"


def package_files() -> set[str]:
    return {name for name in project_files() if name.startswith("p3m_edge/")}


@pytest.fixture(scope="module")
def metadata(distributions: Distributions) -> Metadata:
    with zipfile.ZipFile(distributions.wheel) as archive:
        return Metadata.from_email(archive.read(f"{NAME}.dist-info/METADATA"), validate=True)


def test_wheel_holds_the_package_and_nothing_else(distributions: Distributions) -> None:
    assert distributions.wheel.name == f"{NAME}-py3-none-any.whl"
    info = ("METADATA", "WHEEL", "RECORD", "top_level.txt", "entry_points.txt", "licenses/LICENSE", "licenses/NOTICE")
    with zipfile.ZipFile(distributions.wheel) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert archive.read(f"{NAME}.dist-info/top_level.txt").split() == [b"p3m_edge"]
    assert len(names) == len(set(names))
    assert set(names) == package_files() | {f"{NAME}.dist-info/{name}" for name in info}
    assert {"p3m_edge/py.typed", "p3m_edge/assets/astronaut.jpg", "p3m_edge/assets/README.md"} <= set(names)


def test_both_hold_the_weights_and_their_model_card(distributions: Distributions) -> None:
    files = {name: (ROOT / name).read_bytes() for arch in SHIPPED for name in (f"{WEIGHTS}/{arch}.safetensors", CARD)}
    assert sum(map(len, files.values())) <= 8_000_000
    with zipfile.ZipFile(distributions.wheel) as wheel, tarfile.open(distributions.sdist) as sdist:
        for name, data in files.items():
            assert wheel.read(name) == data
            member = sdist.extractfile(f"{NAME}/{name}")
            assert member is not None
            assert member.read() == data


def test_sdist_holds_what_the_wheel_is_built_from(distributions: Distributions) -> None:
    with tarfile.open(distributions.sdist) as archive:
        members = archive.getmembers()
    assert all(member.isfile() or member.isdir() for member in members), "links do not belong into a distribution"
    names = {member.name for member in members if member.isfile()}
    top = ("LICENSE", "MANIFEST.in", "NOTICE", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg")
    info = ("PKG-INFO", "SOURCES.txt", "dependency_links.txt", "entry_points.txt", "requires.txt", "top_level.txt")
    expected = package_files() | set(top) | {f"p3m_edge.egg-info/{name}" for name in info}
    assert names == {f"{NAME}/{name}" for name in expected}


def test_metadata_says_what_the_project_says(metadata: Metadata) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata.name == "p3m-edge"
    assert str(metadata.version) == p3m_edge.__version__
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.license_files == ["LICENSE", "NOTICE"]
    assert metadata.requires_python is not None
    assert list(metadata.requires_python.filter(["3.10", "3.11", "3.12", "3.13"])) == ["3.11", "3.12", "3.13"]
    assert metadata.description_content_type == "text/markdown"
    assert (metadata.description or "").strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    assert sorted(metadata.provides_extra or []) == sorted(project["optional-dependencies"])


def test_the_base_install_is_light_and_all_means_all(metadata: Metadata) -> None:
    requirements = metadata.requires_dist or []
    base = {r.name for r in requirements if r.marker is None}
    assert base == {"filelock", "numpy", "opencv-python-headless", "pillow", "msgspec", "psutil", "rich"}
    own = [r for r in requirements if r.name == "p3m-edge"]
    (everything,) = [r for r in own if r.marker is not None and r.marker.evaluate({"extra": "all"})]
    # Tests, experimental, other pins and licences, size.
    apart = {"dev", "coreai", "litert-export", "tensorrt-rtx", "heif", "ray"}
    assert everything.extras == set(metadata.provides_extra or []) - {"all", *apart}


def test_wheel_is_pure_and_has_the_command(distributions: Distributions) -> None:
    with zipfile.ZipFile(distributions.wheel) as archive:
        wheel = email.message_from_bytes(archive.read(f"{NAME}.dist-info/WHEEL"))
        points = archive.read(f"{NAME}.dist-info/entry_points.txt").decode()
    assert wheel["Root-Is-Purelib"] == "true"
    assert points.split("\n\n") == [
        "[console_scripts]\np3m-edge = p3m_edge.cli:main",
        "[pyinstaller40]\nhook-dirs = p3m_edge.runtimes.frozen:hook_dirs\n",
    ]


@pytest.mark.parametrize("name", LINKS)
def test_a_root_link_shows_a_room_of_the_package(name: str) -> None:
    link = ROOT / name
    # A checkout without symlinks has a small file with the link's text instead.
    text = link.readlink().as_posix() if link.is_symlink() else link.read_text(encoding="utf-8").strip()
    assert text == f"p3m_edge/{name}"
    assert (ROOT / text / "__init__.py").is_file()


def test_nothing_imports_through_the_root_links() -> None:
    found = {}
    for name in project_files():
        if PurePosixPath(name).suffix == ".py":
            for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules = [node.module]
                if {module.partition(".")[0] for module in modules} & set(LINKS):
                    found[name] = modules
    assert found == {}


def test_every_extra_that_the_code_names_exists(metadata: Metadata) -> None:
    from p3m_edge.targets import TARGETS

    assert {extra for target in TARGETS.values() for extra in target.extras} <= set(metadata.provides_extra or [])
    assert all(isinstance(requirement, Requirement) for requirement in metadata.requires_dist or [])
