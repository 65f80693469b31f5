"""Which pictures a run works on, and the unique name of each one's results."""

from __future__ import annotations

import itertools
import os
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from p3m_edge import imageio
from p3m_edge.errors import InputError

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


def collect(inputs: Sequence[Path], *, recursive: bool = False) -> Sources:
    """List the pictures named by files and folders, each one once, in a stable order.

    A file is taken as it is, whatever its name. A folder gives the pictures in it (``recursive``: and below it),
    without those that p3m-edge wrote; its sub-folders are kept. Of several folders, each keeps its own name.
    """
    folders = [path for path in inputs if path.is_dir()]
    found: dict[str, Source] = {}
    failures: dict[Path, str] = {}
    own: list[Path] = []
    for path in inputs:
        if path not in folders:
            found.setdefault(_identity(path), Source(path, PurePath()))
            continue
        base = PurePath(path.resolve().name) if len(folders) > 1 else PurePath()
        listed = [
            Source(picture, base / folder.relative_to(path))
            for folder in (_walk(path, failures) if recursive else [path])
            for picture in _pictures(folder, failures)
        ]
        for source in listed:
            if _is_own(source.path):
                own.append(source.path)
            else:
                found.setdefault(_identity(source.path), source)
        if not listed:
            failures.setdefault(path, "holds no pictures" + " (its sub-folders: --recursive)" * (not recursive))
    return Sources(tuple(found.values()), tuple(failures.items()), tuple(own))


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
