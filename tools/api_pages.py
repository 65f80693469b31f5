"""Write the API pages: one HTML page for each public module, from its docstrings.

python tools/api_pages.py [FOLDER]

FOLDER is ``out/api`` unless given; the page to open is ``index.html`` in it. pdoc (extra ``dev``) writes the pages and
imports every module, so the extras ``train`` and ``onnx`` must be installed. A warning of pdoc is an error.
"""

from __future__ import annotations

import sys
import typing
import warnings
from pathlib import Path

import pdoc
import pdoc.render

from p3m_edge.model import P3MOutput

PUBLIC = (
    "p3m_edge.errors",
    "p3m_edge.runtimes",
    "p3m_edge.runtimes.compose",
    "p3m_edge.runtimes.people",
    "p3m_edge.video",
    "p3m_edge.pictures.removal",
    "p3m_edge.imageio",
    "p3m_edge.preprocess",
    "p3m_edge.metrics",
    "p3m_edge.manifest",
    "p3m_edge.targets",
    "p3m_edge.model",
    "p3m_edge.export",
    "p3m_edge.export.calibration",
    "p3m_edge.evaluate.strategies",
    "p3m_edge.train.feature_paste",
    "p3m_edge.data.sets",
    "p3m_edge.data.sample",
    "p3m_edge.data.augment",
    "p3m_edge.data.cache",
    "p3m_edge.data.copy_paste",
    "p3m_edge.data.detect",
    "p3m_edge.data.faces",
    "p3m_edge.data.foreground",
    "p3m_edge.data.synth",
    "p3m_edge.data.synth.clip",
    "p3m_edge.data.trimap",
)
"""The modules that the pages of docs/ import from; what the package itself offers is in ``pictures.removal``."""


def build(folder: Path) -> None:
    """Write the pages into a folder, which is made where it is missing.

    Raises
    ------
    UserWarning
        pdoc does not understand an annotation or a name.
    """
    # The constructor of a NamedTuple has its annotations as text, without the module that they are names of.
    P3MOutput.__new__.__annotations__ = typing.get_type_hints(P3MOutput)
    pdoc.render.configure(docformat="numpy", show_source=False, search=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdoc.pdoc(*PUBLIC, output_directory=folder)


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else "out/api"))
