"""``p3m-edge data list``: the pictures of sets as a list that can be tested."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge.cli import options
from p3m_edge.cli.progress import counting
from p3m_edge.cli.tables import table
from p3m_edge.data.detect import CASCADE
from p3m_edge.data.lists import Entry, Shared, described, list_sets, read_list, shared_photographs, write_list
from p3m_edge.errors import GateError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console

HELP = """List the pictures of sets, or of any folders, as a CSV file for those who answer for privacy: SHA-256 of each
file, a perceptual hash of the picture, and how many faces a detector is sure of in it. --about adds where the pictures
come from. --apart-from compares with another list: a photograph that is in both, also resized, mirrored or cropped, is
a failure (exit code 3). The lists hold no pictures and can be published.

The embedded detector finds FRONTAL faces only: a list without faces is not a promise that there are none."""
EXAMPLES = """
p3m-edge data list anonymous/ --out training.csv
p3m-edge data list anonymous/ places/ --about sources.csv --out training.csv
p3m-edge data list test/ --forms --out measuring.csv
p3m-edge data list anonymous/ --apart-from measuring.csv --out training.csv
"""
_SHOWN = 20


@dataclass(frozen=True)
class Listed:
    """The result: the file, its rows, and photographs that another list has too."""

    out: Path
    entries: tuple[Entry, ...]
    shared: tuple[Shared, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is listed, and what is known of it."""
    parser.add_argument("sets", nargs="+", metavar="SET", type=options.path, help="a set, or a folder of pictures")
    parser.add_argument("--out", required=True, metavar="FILE", type=options.path, help="the list, CSV")
    parser.add_argument(
        "--about", metavar="FILE", type=options.path,
        help="an earlier list, or one of yours: CSV with name, kind, and any of source, licence, sha256 (of the file "
        "that a picture came from), remark; its rows without a picture are kept",
    )  # fmt: skip
    parser.add_argument(
        "--apart-from", metavar="FILE", type=options.path, help="a list that must not have a photograph of this one"
    )
    parser.add_argument(
        "--forms", action="store_true", help="also hash what each picture may become, for lists of test pictures"
    )
    parser.add_argument(
        "--verifier", metavar="D", default=CASCADE, help="who looks for faces: cascade (default) or a YuNet ONNX file"
    )
    parser.add_argument("--workers", type=options.positive, metavar="N", help="processes (default: one for each core)")


def run(args: argparse.Namespace, console: Console) -> int:
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
    console.emit(listed, lambda out: _render(out, listed), error)
    if error is not None:
        raise error
    return 0


def _render(out: RichConsole, listed: Listed) -> None:
    shown = table(str(listed.out), "kind", "pictures", "with a face", right=("pictures", "with a face"))
    faces = Counter(entry.kind for entry in listed.entries if entry.faces not in ("", "0"))
    for kind, count in Counter(entry.kind for entry in listed.entries).items():
        shown.add_row(kind, str(count), str(faces[kind]))
    out.print(shown)
    for pair in listed.shared[:_SHOWN]:
        out.print(f"one photograph: {pair.here} and {pair.there} ({pair.bits} bits differ)", soft_wrap=True)
    if len(listed.shared) > _SHOWN:
        out.print(f"{len(listed.shared) - _SHOWN} more; --json lists all of them")
