"""The classical trimap-based methods, by pymatting."""

from __future__ import annotations

import importlib.metadata
import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3m_edge.errors import InputError, missing_package
from p3m_edge.evaluate.method import Image, Method, MethodInfo, Predict, at_size
from p3m_edge.metrics import BACKGROUND, FOREGROUND

PYMATTING = {
    "cf": ("estimate_alpha_cf", "closed-form matting (Levin et al. 2008)"),
    "knn": ("estimate_alpha_knn", "KNN matting (Chen et al. 2013)"),
    "lbdm": ("estimate_alpha_lbdm", "learning-based digital matting (Zheng and Kambhamettu 2009)"),
    "rw": ("estimate_alpha_rw", "random-walk matting (Grady et al. 2005)"),
}
"""Name on the command line -> function of pymatting, and what it is."""


class PymattingMethod(Method):
    """One of :data:`PYMATTING`, with pymatting's own settings, at the picture's size.

    Raises
    ------
    MissingError
        pymatting is not installed.
    """

    def __init__(self, name: str) -> None:
        function, self._what = PYMATTING[name]
        try:
            import pymatting
        except ImportError as error:
            raise missing_package("pymatting", "data", error) from error
        version = importlib.metadata.version("pymatting")
        self._function: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]] = getattr(pymatting, function)
        self.info = MethodInfo(name, "pymatting", trimap_based=True, identity=f"pymatting {version} {function}")

    def prepare(self, set_name: str) -> tuple[str, Predict]:
        return f"{self._what}, full size", self._predict

    def _predict(self, rgb: Image, trimap: Image) -> NDArray[Any]:
        known = (trimap == BACKGROUND) | (trimap == FOREGROUND)
        if known.all():  # some of the solvers never end there
            return np.asarray(trimap == FOREGROUND, dtype=np.float32)
        levels = np.where(known, trimap / 255.0, 0.5)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # these and what it prints concern the solver's speed
            try:
                alpha = self._function(rgb / 255.0, levels)
            except ValueError as error:  # nothing certain in the trimap; no convergence
                raise InputError(f"pymatting: {error}") from error
        return at_size(alpha, *trimap.shape)
