"""Lists of pictures for those who answer for privacy: what was trained on or measured with, in a form to be tested.

A list is a CSV file with one row for each picture. It says where the picture comes from, tells it by two hashes (of the
file and of what is to be seen) and has the face detector's verdict; the pictures themselves are not in it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import product
from pathlib import Path

from p3m_edge.atomic import atomic_write
from p3m_edge.data import phash, sets
from p3m_edge.data.anonymize.hide import remaining
from p3m_edge.data.detect import CASCADE, open_detector
from p3m_edge.data.parallel import Progress, no_progress, parallel_map
from p3m_edge.data.sample import Item
from p3m_edge.data.tables import read_table
from p3m_edge.errors import InputError
from p3m_edge.imageio import read_image
from p3m_edge.manifest import sha256


@dataclass(frozen=True)
class Entry:
    """A row; text that is not known is empty. Source, licence and remark are in words.

    Attributes
    ----------
    kind
        What the picture is used as, such as ``portrait`` or ``background``.
    name
        Unique in its kind.
    sha256
        Of the file that it came from.
    phash
        Of the picture as it is used: :func:`p3m_edge.data.phash.phash`, 16 hexadecimal digits.
    faces
        How many faces a detector is sure of in the picture as it is used; empty: none has looked.
    forms
        Hashes of what the picture may have become (:func:`p3m_edge.data.phash.forms`), between spaces.
    """

    kind: str
    name: str
    source: str = ""
    licence: str = ""
    sha256: str = ""
    phash: str = ""
    faces: str = ""
    remark: str = ""
    forms: str = ""

    @property
    def hashes(self) -> tuple[int, ...]:
        """The picture's own hash, and those of its forms; an :class:`InputError` if one is none."""
        return tuple(map(phash.from_text, (self.phash, *self.forms.split())))


COLUMNS = tuple(field.name for field in fields(Entry))
"""Those of the CSV file."""

_GIVEN = ("kind", "source", "licence", "sha256", "remark")  # what an earlier list may say of a picture


@dataclass(frozen=True)
class Shared:
    """A photograph that two lists share: the names in both, and in how many bits the nearest forms differ."""

    here: str
    there: str
    bits: int


def list_sets(
    folders: Sequence[Path], *, with_forms: bool = False, verifier: str = CASCADE, workers: int | None = None,
    progress: Progress = no_progress,
) -> list[Entry]:  # fmt: skip
    """List the pictures of sets, or of folders of pictures. Their kind is their folder's name.

    The verifier looks for faces, with the settings that look again at anonymised pictures: ``cascade``, or a YuNet
    file. An :class:`InputError` says that a folder holds no pictures, or one cannot be read, a :class:`MissingError`
    that the detector is not installed.
    """
    open_detector(verifier, again=True)
    jobs = [(folder.resolve().name, item) for folder in folders for item in sets.find_items(folder)]
    return parallel_map(partial(_entry, verifier, with_forms), jobs, workers=workers, progress=progress)


def described(entries: Sequence[Entry], known: Sequence[Entry]) -> list[Entry]:
    """Add what an earlier list, or one written by hand, says of these pictures.

    Kind, source, licence, SHA-256 and remark come from the row with a picture's name; an :class:`InputError` is raised
    if several rows have it, or none. Rows that name none of the pictures are kept as they are, behind.
    """
    rows: dict[str, list[Entry]] = {}
    for row in known:
        rows.setdefault(row.name, []).append(row)
    found = []
    for entry in entries:
        named = rows.get(entry.name, [])
        if len(named) != 1:
            raise InputError(f"{entry.kind}/{entry.name} is in {len(named)} rows of its description, not one")
        found.append(replace(entry, **{name: value for name in _GIVEN if (value := getattr(named[0], name))}))
    names = {entry.name for entry in entries}
    return found + [row for row in known if row.name not in names]


def shared_photographs(here: Iterable[Entry], there: Sequence[Entry]) -> list[Shared]:
    """Photographs that are in both lists: hashes that differ from the nearest form by at most ``phash.SAME`` bits.

    Forms of either list count, against the other's pictures as they are.
    """
    ours, theirs = ([(row.name, row.hashes) for row in rows if row.phash] for rows in (here, there))
    pairs = (
        Shared(name, other, min(phash.distance(own[0], hashes), phash.distance(hashes[0], own)))
        for (name, own), (other, hashes) in product(ours, theirs)
    )
    return [pair for pair in pairs if pair.bits <= phash.SAME]


def read_list(path: Path) -> list[Entry]:
    """Read a list, where ``kind`` and ``name`` must be there; an :class:`InputError` says that it is none."""
    return [Entry(**row) for _, row in read_table(path, ("kind", "name"), COLUMNS)]


def write_list(path: Path, entries: Sequence[Entry]) -> None:
    """Write a list; forms have a column only where there are any."""
    columns = [name for name in COLUMNS if name != "forms" or any(entry.forms for entry in entries)]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns)
    rows.writerows([getattr(entry, name) for name in columns] for entry in entries)
    atomic_write(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _entry(verifier: str, with_forms: bool, job: tuple[str, Item]) -> Entry:
    kind, item = job
    picture = read_image(item.image)
    image = picture.rgb
    mask = None if item.face_mask is None else sets.read_partner(item.face_mask, "face_mask", picture, item)
    own, *forms = map(phash.to_text, phash.forms(image) if with_forms else (phash.phash(image),))
    return Entry(
        kind, item.name, sha256=sha256(item.image), phash=own,
        faces=str(len(remaining(open_detector(verifier, again=True), image, mask))),
        forms=" ".join((own, *forms)) if with_forms else "",
    )  # fmt: skip
