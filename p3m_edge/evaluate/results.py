"""What an evaluation finds: the protocol, the figures of every picture, their means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

from p3m_edge.evaluate.method import MethodInfo

Route = Literal["float", "8bit"]
ROUTES: tuple[Route, ...] = get_args(Route)

MEASURES = (
    "SAD", "MSE", "MAD", "GRAD", "CONN", "SAD_TRIMAP", "MSE_TRIMAP", "MAD_TRIMAP", "SAD_FG", "SAD_BG",
    "SAD_FACE", "MSE_FACE", "MAD_FACE",
)  # fmt: skip
"""All measures of :func:`p3m_edge.metrics.evaluate`, in the order of tables."""

PPT = ("SAD", "SAD_FACE")
"""Those by which two forms of the same pictures are compared."""

TRIMAP_BASED = ("SAD_TRIMAP", "MSE_TRIMAP", "MAD_TRIMAP", *PPT)
"""Those of trimap-based methods: outside the unknown region they were told the answer."""


@dataclass(frozen=True)
class Protocol:
    """How a figure came about; printed with it.

    Attributes
    ----------
    blurred
        Whether the set's faces are blurred; None: unknown.
    pictures, evaluated
        How many the set has, and how many were asked for: the first ones by name.
    strategy, trimap
        How a picture becomes the method's input, and where the trimaps come from.
    routes
        ``float``: the matte as it is. ``8bit``: first truncated to 8 bits, as files of the 2022 publication are.
    """

    set_name: str
    set_root: str
    blurred: bool | None
    pictures: int
    evaluated: int
    strategy: str
    routes: tuple[Route, ...]
    trimap: str

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        faces = {True: "blurred faces", False: "faces not blurred", None: "faces unknown"}[self.blurred]
        part = f"the first {self.evaluated} of " * (self.evaluated != self.pictures) + str(self.pictures)
        return (
            f"{self.set_name} ({part} pictures, {faces}); {self.strategy}; "
            f"scored as {' and '.join(self.routes)}; trimap: {self.trimap}"
        )


@dataclass(frozen=True)
class PictureScore:
    """One picture.

    Attributes
    ----------
    seconds, empty
        Of the prediction alone (not a benchmark: other work may have run beside it); whether it is 0 everywhere.
    scores
        For each route, measure -> value; face measures only where the picture has a face.
    """

    picture: str
    width: int
    height: int
    seconds: float
    empty: bool
    scores: dict[Route, dict[str, float]]


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read or matted."""

    picture: str
    reason: str


@dataclass(frozen=True)
class Mean:
    """A measure's mean over the pictures that have it."""

    value: float
    pictures: int


@dataclass(frozen=True)
class SetResult:
    """One method on one set.

    Attributes
    ----------
    pair, means
        With the PPT matrix, training faces and test faces, such as ``B:N``; for each route, measure -> mean.
    worst
        The file name of the sheet of the worst pictures, if there is one.
    """

    method: MethodInfo
    protocol: Protocol
    pair: str | None
    means: dict[Route, dict[str, Mean]]
    pictures: tuple[PictureScore, ...]
    failures: tuple[Failure, ...]
    worst: str | None = None

    @property
    def headline(self) -> str:
        """The measure that the pictures are ranked by."""
        return TRIMAP_BASED[0] if self.method.trimap_based else "SAD"


@dataclass(frozen=True)
class PairedDifference:
    """One method on the same pictures with blurred and with normal faces; see :mod:`p3m_edge.evaluate.ppt`.

    Attributes
    ----------
    training, pictures
        The method's mark, ``B`` or ``N``; how many have the measure in both forms, of which ``blurred`` and ``normal``
        are the means.
    relative, interval
        ``normal`` less ``blurred``, as a share of ``blurred``, and 95 % of it by the bootstrap; None where that is 0.
    """

    training: str
    method: str
    route: Route
    measure: str
    pictures: int
    blurred: float
    normal: float
    relative: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Evaluation:
    """Everything that one run found."""

    version: str
    results: tuple[SetResult, ...]
    differences: tuple[PairedDifference, ...] = ()


def means(pictures: Sequence[PictureScore], routes: tuple[Route, ...]) -> dict[Route, dict[str, Mean]]:
    """The mean of every measure over the pictures that have it."""
    found: dict[Route, dict[str, Mean]] = {route: {} for route in routes}
    for route, measure in product(routes, MEASURES):
        if values := [p.scores[route][measure] for p in pictures if measure in p.scores[route]]:
            found[route][measure] = Mean(sum(values) / len(values), len(values))
    return found
