"""CSV files of users: lists of pictures, faces that a person has marked."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from p3m_edge.atomic import check_name, reason
from p3m_edge.errors import InputError
from p3m_edge.imageio import composed
from p3m_edge.smallfile import read_csv


def read_table(path: Path, needed: Sequence[str], known: Sequence[str] = ()) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table, each with its line: text without white space around it, in one Unicode form.

    The columns ``needed`` must be there, those ``known`` may be there (none named: any). An :class:`InputError` is
    raised if the file cannot be read, or has other columns.
    """
    check_name(path)
    try:
        rows = read_csv(path)
        columns = rows.fieldnames or ()
        if not set(needed) <= set(columns):
            raise InputError(f"{path} lacks one of the columns {', '.join(needed)}")
        if known and not set(columns) <= set(known):
            raise InputError(f"{path} has other columns than {', '.join(known)}")
        return [(rows.line_num, {name: composed((row[name] or "").strip()) for name in columns}) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {reason(error)}") from error
