"""``p3m-edge data list``: the pictures of sets as a list that can be tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p3m_edge.cli.options import argument, option
from p3m_edge.cli.options.shared import workers
from p3m_edge.cli.ui import Console, Part, counting
from p3m_edge.data.detect import CASCADE
from p3m_edge.data.lists import Entry, Shared, described, list_sets, read_list, shared_photographs, write_list
from p3m_edge.errors import GateError
from p3m_edge.table import table

EXAMPLES = """
p3m-edge data list anonymous/ --out training.csv
p3m-edge data list anonymous/ places/ --about sources.csv --out training.csv
p3m-edge data list test/ --forms --out measuring.csv
p3m-edge data list anonymous/ --apart-from measuring.csv --out training.csv
"""
_SHOWN = 20


@dataclass(frozen=True)
class Arguments:
    """List the pictures of sets, or of any folders, as a CSV file for those who answer for privacy: SHA-256 of each
    file, a perceptual hash of the picture, and how many faces a detector is sure of in it. --about adds where the
    pictures come from. --apart-from compares with another list: a photograph that is in both, also resized, mirrored or
    cropped, is a failure (exit code 3). The lists hold no pictures and can be published.

    The embedded detector finds FRONTAL faces only: a list without faces is not a promise that there are none.
    """

    sets: tuple[Path, ...] = argument("a set, or a folder of pictures", "SET", nargs="+")
    out: Path = option("the list, CSV", required=True)
    about: Path | None = option(
        "an earlier list, or one of yours: CSV with name, kind, and any of source, licence, sha256 (of the file that a "
        "picture came from), remark; its rows without a picture are kept"
    )
    apart_from: Path | None = option("a list that must not have a photograph of this one")
    forms: bool = option("also hash what each picture may become, for lists of test pictures", default=False)
    verifier: str = option("who looks for faces: cascade (default) or a YuNet ONNX file", CASCADE, metavar="D")
    workers: int | None = workers()


@dataclass(frozen=True)
class Listed:
    """The result: the file, its rows, and photographs that another list has too."""

    out: Path
    entries: tuple[Entry, ...]
    shared: tuple[Shared, ...]


def run(args: Arguments, console: Console) -> None:
    """List, compare, write."""
    known = None if args.about is None else read_list(args.about)
    others = [] if args.apart_from is None else read_list(args.apart_from)
    with counting(console, "pictures") as progress:
        entries = list_sets(
            args.sets, with_forms=args.forms, verifier=args.verifier, workers=args.workers, progress=progress
        )
    if known is not None:
        entries = described(entries, known)
    listed = Listed(args.out, tuple(entries), tuple(shared_photographs(entries, others)))
    write_list(args.out, entries)
    error = None
    if listed.shared:
        first = listed.shared[0]
        error = GateError(
            f"{len(listed.shared)} pairs of pictures are one photograph, the first is {first.here} and {first.there}",
            hint="look at both: hashes may be wrong",
        )
    console.emit(listed, _render(listed), error)


def _render(listed: Listed) -> Iterator[Part]:
    faces = Counter(entry.kind for entry in listed.entries if entry.faces not in ("", "0"))
    kinds = Counter(entry.kind for entry in listed.entries)
    rows = ((kind, str(count), str(faces[kind])) for kind, count in kinds.items())
    yield table(str(listed.out), "kind|pictures|with a face", rows)
    for pair in listed.shared[:_SHOWN]:
        yield f"one photograph: {pair.here} and {pair.there} ({pair.bits} bits differ)"
    if len(listed.shared) > _SHOWN:
        yield f"{len(listed.shared) - _SHOWN} more; --json lists all of them"
