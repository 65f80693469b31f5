"""The API pages: they build without a warning, and the pages in docs/ import from public modules alone."""

import importlib
import re

import pytest

from tests.packaging.sources import ROOT, project_files
from tests.tools import load_tool

for package in ("pdoc", "torch", "skimage"):
    pytest.importorskip(package, reason=f"{package} is not installed")
tool = load_tool("api_pages")


def test_every_public_module_gets_a_page_with_all_its_names(tmp_path):
    tool.build(tmp_path)  # a warning is an error
    for name in tool.PUBLIC:
        text = tmp_path.joinpath(*name.split(".")).with_suffix(".html").read_text(encoding="utf-8")
        module = importlib.import_module(name)
        assert [symbol for symbol in getattr(module, "__all__", ()) if f'id="{symbol}"' not in text] == []
    assert "p3m_edge/runtimes.html" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_samples_import_public_modules_alone():
    pages = "\n".join((ROOT / name).read_text("utf-8") for name in project_files() if name.endswith(".md"))
    found = set(re.findall(r"^(?:from|import) (p3m_edge\.[\w.]*)", pages, re.MULTILINE))
    assert found <= set(tool.PUBLIC)
    assert "p3m_edge.runtimes" in found
