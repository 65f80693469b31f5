"""Which pictures a run works on, and the unique name of each one's results."""

from __future__ import annotations

import codecs
import glob
import itertools
import os
import sys
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from p3m_edge import imageio, smallfile
from p3m_edge.atomic import check_name, reason
from p3m_edge.errors import InputError

STANDARD_INPUT = Path("-")
"""In place of a list's file."""
_PNG, _HEAD = b"\x89PNG\r\n\x1a\n", 65536


@dataclass(frozen=True)
class Source:
    """One picture, and the folder below the output folder that its results go to.

    ``page`` of ``pages``, from 1 on, where each page or frame of the file is a picture of its own.
    """

    path: Path
    folder: PurePath
    page: int | None = None
    pages: int = 1


@dataclass(frozen=True)
class Sources:
    """What was found: pictures, folders that gave none (with the reason), and pictures that p3m-edge wrote itself."""

    pictures: tuple[Source, ...]
    failures: tuple[tuple[Path, str], ...]
    own: tuple[Path, ...]


def read_names(path: Path) -> list[Path]:
    """The names in a list: one a line, or with NULs between them (``find -print0``); :data:`STANDARD_INPUT` is one.

    Empty lines are passed over; names without a folder are below the current one. Bytes are those of the file system;
    UTF-8 and UTF-16 with a byte order mark, as Windows' programs write, are read, too. :class:`InputError`: the list
    cannot be read, or holds no names.
    """
    told = "standard input" if path == STANDARD_INPUT else f"the list {path}"
    try:
        data = _standard_input() if path == STANDARD_INPUT else smallfile.read_small(path)
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            data = data.decode("utf-16").encode()
    except (OSError, UnicodeDecodeError) as error:
        hint = None if path == STANDARD_INPUT else "--files-from - reads standard input"
        raise InputError(f"{told} cannot be read: {reason(error)}", hint=hint) from error
    data = data.removeprefix(codecs.BOM_UTF8)
    lines = data.split(b"\0") if b"\0" in data else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    names = [Path(os.fsdecode(line)) for line in lines if line.strip()]
    if not names:
        raise InputError(f"{told} holds no names")
    return names


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise OSError("it is closed")
    data = sys.stdin.buffer.read(smallfile.LIMIT + 1)
    if len(data) > smallfile.LIMIT:
        raise OSError(f"it is too large: more than {smallfile.LIMIT:,} bytes")
    return data


def expanded(words: Iterable[Path]) -> list[Path]:
    """The words, with patterns (``*``, ``?``, ``[``, ``**``) that name no file replaced by what they match, sorted."""
    return [path for word in words for path in _matches(word) or [word]]


def _matches(word: Path) -> list[Path]:
    if not glob.has_magic(str(word)) or os.path.lexists(word):
        return []
    return [Path(found) for found in sorted(glob.glob(str(word), recursive=True))]  # noqa: PTH207 - from any folder


def collect(inputs: Sequence[Path], *, recursive: bool = False) -> Sources:
    """List the pictures named by files and folders, each one once, in a stable order.

    A file is taken as it is, whatever its name. A folder gives the pictures in it (``recursive``: and below it),
    without those that p3m-edge wrote; its sub-folders are kept. Of several folders, each keeps its own name.
    """
    failures: dict[Path, str] = {}
    pictures = list(listed(inputs, failures, recursive=recursive))
    filled = {folder for _, folder in pictures}
    for path in inputs:
        if path not in failures and path not in filled and path.is_dir():
            failures[path] = "holds no pictures" + " (its sub-folders: --recursive)" * (not recursive)
    return without_own(pictures, failures)


def listed(
    inputs: Sequence[Path], failures: dict[Path, str], *, recursive: bool
) -> Iterator[tuple[Source, Path | None]]:  # fmt: skip
    """Each picture, and the folder of the inputs that it was found in; ``failures`` gets what cannot be listed."""
    inputs = [path for path in inputs if _may_be(path, failures)]
    folders = [path for path in inputs if path.is_dir()]
    for path in inputs:
        if path not in folders:
            yield Source(path, PurePath()), None
            continue
        base = PurePath(path.resolve().name) if len(folders) > 1 else PurePath()
        for folder in _walk(path, failures) if recursive else [path]:
            for picture in _pictures(folder, failures):
                yield Source(picture, base / folder.relative_to(path)), path


def without_own(pictures: Iterable[tuple[Source, Path | None]], failures: Mapping[Path, str]) -> Sources:
    """Each picture once; those found in folders that p3m-edge wrote itself apart from the others."""
    found: dict[str, Source] = {}
    own: list[Path] = []
    for source, folder in pictures:
        if folder is not None and _is_own(source.path):
            own.append(source.path)
        else:
            found.setdefault(_identity(source.path), source)
    return Sources(tuple(found.values()), tuple(failures.items()), tuple(own))


def _may_be(path: Path, failures: dict[Path, str]) -> bool:
    """Whether a file could have that name."""
    try:
        check_name(path)
    except InputError as error:
        failures[path] = str(error)
        return False
    return True


def _identity(path: Path) -> str:
    return os.path.normcase(_absolute(path))


def _absolute(path: Path) -> Path:
    """The path with its folders resolved; the file itself may be a link, and stays one."""
    return path.parent.resolve() / path.name


def _walk(root: Path, failures: dict[Path, str]) -> Iterator[Path]:
    """The folder and all below it; where links lead comes after that, and nothing comes twice."""

    def note(error: OSError) -> None:
        failures[Path(str(error.filename))] = f"cannot be listed: {error.strerror}"

    seen: set[str] = set()
    waiting = deque([root])
    while waiting:
        top = waiting.popleft()
        leads_to = os.path.realpath(top)
        if top is not root and leads_to not in seen and Path(os.path.realpath(top.parent)).is_relative_to(leads_to):
            failures[top] = "is a link to a folder that it lies in, and is not followed"
            continue
        for folder, below, _files in os.walk(top, onerror=note):
            below.sort()
            real = os.path.realpath(folder)
            if real in seen:
                below.clear()
                continue
            seen.add(real)
            waiting.extend(Path(folder, name) for name in below if Path(folder, name).is_symlink())
            yield Path(folder)


def _pictures(folder: Path, failures: dict[Path, str]) -> Iterable[Path]:
    try:
        return imageio.list_images(folder)
    except InputError as error:
        failures.setdefault(folder, str(error))  # the walk may have said so already
        return ()


def with_pages(sources: Iterable[Source], max_pixels: int = imageio.MAX_PIXELS) -> tuple[Source, ...]:
    """Each page or frame of a file as a picture of its own; a file that cannot be read stays one."""
    found: list[Source] = []
    for source in sources:
        try:
            pages = imageio.count_frames(source.path, max_pixels=max_pixels)
        except InputError:  # reading it as a picture will say why
            pages = 1
        if pages == 1:
            found.append(source)
        else:
            found += [replace(source, page=page, pages=pages) for page in range(1, pages + 1)]
    return tuple(found)


class Names:
    """The names of the results of pictures that are found one after the other; a name that was given stays."""

    def __init__(self) -> None:
        self._names: dict[Source, PurePath] = {}

    def of(self, sources: Sequence[Source]) -> list[tuple[Source, PurePath]]:
        """Each picture with its name, as :func:`output_names` gives them to all that have been found so far."""
        new = [source for source in sources if source not in self._names]
        every = [*self._names, *new]
        wanted = output_names(every)[len(self._names) :]
        self._names = dict(zip(every, _number([*self._names.values(), *wanted]), strict=True))
        return [(source, self._names[source]) for source in sources]


def output_names(sources: Sequence[Source]) -> tuple[PurePath, ...]:
    """The path of each picture's results below the output folder, without the part that says which result it is.

    That is the sub-folder and the stem (``a/1`` for ``a/1.jpg``, ``a/1-3`` for its third page); where two pictures
    would share it, the whole name (``a/1.jpg``); where they still would, the folders above as well; at last a number.
    Names that differ only in case or in Unicode form count as the same, because some file systems hold them to be.
    """
    try:
        common = os.path.commonpath([_absolute(source.path).parent for source in sources])
    except ValueError:  # no sources, or other drives
        common = None
    choices = [_choices(source, common) for source in sources]  # the first one of each is taken, or the next
    while True:
        count = Counter(_key(names[0]) for names in choices)
        clashing = [names for names in choices if len(names) > 1 and count[_key(names[0])] > 1]
        if not clashing:
            return _number([names[0] for names in choices])
        for names in clashing:
            del names[0]


def _choices(source: Source, common: str | None) -> list[PurePath]:
    path, page = source.path, "" if source.page is None else f"-{source.page:0{len(str(source.pages))}}"
    choices = [source.folder / (path.stem or path.name), source.folder / path.name]
    if common is not None:
        choices.append(PurePath(_absolute(path).relative_to(common)))
    return [choice.with_name(choice.name + page) for choice in choices]


def _key(name: PurePath) -> str:
    return unicodedata.normalize("NFC", name.as_posix()).casefold()


def _number(names: Sequence[PurePath]) -> tuple[PurePath, ...]:
    """The names, but for those that are there already with the next number that is free."""
    taken, used = set(map(_key, names)), dict[str, PurePath]()
    for name in names:
        numbered = (name.with_name(f"{name.name}-{number}") for number in itertools.count(2))
        free = name if _key(name) not in used else next(one for one in numbered if _key(one) not in taken | used.keys())
        used[_key(free)] = free
    return tuple(used.values())


def _is_own(path: Path) -> bool:
    """Whether the picture is a result of this command: its PNG file says so in a text chunk before the pixels."""
    if path.suffix.lower() != ".png":
        return False
    try:
        with imageio.open_regular(path) as stream:
            head = stream.read(_HEAD)
    except (InputError, OSError):  # unreadable: reading it as a picture will say why
        return False
    text = imageio.PNG_RESULT_TEXT
    return head.startswith(_PNG) and len(text).to_bytes(4) + b"tEXt" + text in head.partition(b"IDAT")[0]
