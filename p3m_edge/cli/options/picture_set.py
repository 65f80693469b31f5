"""What ``data synth`` and ``data compose`` share: their options, and the sheet to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from p3m_edge.atomic import atomic_write
from p3m_edge.cli.options import option
from p3m_edge.cli.options.shared import workers
from p3m_edge.cli.options.values import SIZE, Size, natural, picture_size
from p3m_edge.cli.ui import Console, counting
from p3m_edge.data.parallel import parallel_map
from p3m_edge.data.pixels import encode_jpeg
from p3m_edge.data.recipe import MOST
from p3m_edge.data.sheet import sheet
from p3m_edge.data.synth.portraits import MAX_SIDE, MIN_SIDE
from p3m_edge.errors import UsageError
from p3m_edge.imageio import write_png

if TYPE_CHECKING:
    from p3m_edge.data.sample import Image, Sample

T = TypeVar("T")
_COLUMNS = 6
_MOST_ON_SHEET = 400


@dataclass(frozen=True)
class PictureSet:
    """How many pictures, of what size, and the sheet."""

    count: int = option("pictures", 36, flag="-n,--count")
    seed: int = option("of all of them", 0, metavar="S", parse=natural)
    size: Size = option(f"{MIN_SIDE} to {MAX_SIDE} each", SIZE, parse=picture_size(MIN_SIDE, MAX_SIDE))
    workers: int | None = workers()
    sheet: Path | None = option("also write the pictures on one sheet (PNG or JPEG)")
    pairs: bool = option("on the sheet, each picture with its alpha", default=False)

    def check(self) -> None:
        """Refuse, by a :class:`UsageError`, too many pictures for a seed or a sheet, or a sheet of another format."""
        if self.count > MOST:
            raise UsageError(f"one seed has {MOST} pictures at most", hint="use another --seed for more")
        if self.sheet is not None and self.count > _MOST_ON_SHEET:
            raise UsageError(f"a sheet holds {_MOST_ON_SHEET} pictures at most", hint="use a smaller -n for it")
        if self.sheet is not None and self.sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise UsageError(f"the sheet {self.sheet} is not named .png or .jpg")

    def write_sheet(self, draw: Callable[[T], Sample], items: Sequence[T], console: Console) -> None:
        """Draw the picture of each item, and write the sheet that was asked for, with alphas if wanted."""
        if self.sheet is None:
            return
        with counting(console, "sheet") as progress:
            drawn = parallel_map(partial(_cells, draw), items, workers=self.workers, progress=progress)
        each = 2 if self.pairs else 1
        cells = [("", part) for parts in drawn for part in parts[:each]]
        columns = each * _COLUMNS
        rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
        picture = sheet(rows, 110 if self.pairs else 160)
        if self.sheet.suffix.lower() == ".png":
            write_png(self.sheet, picture)
        else:
            atomic_write(self.sheet, encode_jpeg(picture, 85))


def _cells(draw: Callable[[T], Sample], item: T) -> tuple[Image, Image]:
    sample = draw(item)
    return sample.image, sample.alpha
