"""Matting as bulk work: which pictures there are, and what a worker does with one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from p3m_edge.bulk.plan import Item, digest
from p3m_edge.bulk.store import address, is_remote, opened, tag_of, telling
from p3m_edge.bulk.worker import Opened
from p3m_edge.errors import InputError
from p3m_edge.imageio import IMAGE_SUFFIXES, Picture
from p3m_edge.manifest import MANIFEST
from p3m_edge.pictures.batch import Job, Outcome, matte_one
from p3m_edge.pictures.memory import Budget
from p3m_edge.pictures.results import Recipe
from p3m_edge.pictures.sources import Names, Source, Sources, collect
from p3m_edge.preprocess import Resize
from p3m_edge.runtimes import Matting
from p3m_edge.temporary import temporary_folder

_MAGIC = frozenset("*?[")


@dataclass(frozen=True)
class MatteWork:
    """Matting by an artefact, which travels to the workers as ``files``: their machines need not see its folder."""

    out: str
    files: dict[str, bytes]
    recipe: Recipe
    limits: tuple[int, int | None, int]  # of the budget of each worker
    resize: Resize
    device: str | None

    @property
    def settings(self) -> str:
        recipe, behind = self.recipe, self.recipe.background
        if isinstance(behind, Picture):
            alpha = b"" if behind.alpha is None else behind.alpha.tobytes()
            parts = (str(behind.own.shape).encode(), behind.own.tobytes(), alpha, behind.icc_profile or b"")
            behind_text = digest(b"\0".join(parts))
        else:
            behind_text = str(behind)
        asked = (recipe.kinds, behind_text, recipe.people, recipe.effect, self.resize, self.device)
        return digest(self.files[MANIFEST] + repr(asked).encode())[:16]

    @contextmanager
    def open(self, cores: int) -> Iterator[Opened[Outcome]]:
        with temporary_folder() as parent:
            folder = parent / "artefact"
            for name, data in self.files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
            with Matting(folder, self.device, cores, "throughput", resize=self.resize) as net:
                job = Job(net, folder, self.recipe, Budget(*self.limits), set())
                full, stopped = threading.Event(), threading.Event()
                # As folders have it: so many wait for the network.
                yield Opened(partial(self._matte, job, full, stopped), cores + net.engine.info.requests)

    def _matte(
        self, job: Job, full: threading.Event, stopped: threading.Event, item: Item, copies: tuple[Path, ...], out: Path
    ) -> Outcome:  # fmt: skip
        source = Source(copies[0], PurePath())
        found, _ = matte_one(replace(job, out=out), full, stopped, source, PurePath(item.name))
        if found.status != "done":
            return self.failed(item, (found.reason or "").replace(str(copies[0]), item.inputs[0]))
        return replace(found, input=item.inputs[0], outputs=self._outputs(item))

    def _outputs(self, item: Item) -> tuple[str, ...]:
        return tuple(f"{self.out}/{name}" for name in item.outputs[0])

    def failed(self, item: Item, reason: str) -> Outcome:
        return Outcome(item.inputs[0], "failed", reason=reason.removeprefix(f"{item.inputs[0]}: "))

    def skipped(self, item: Item) -> Outcome:
        return Outcome(item.inputs[0], "skipped", self._outputs(item), "it is done, by its marker")

    def is_failed(self, result: Outcome) -> bool:
        return result.status == "failed"


def read_artefact(folder: Path) -> dict[str, bytes]:
    """The files of an artefact."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def find_pictures(words: Sequence[Path], recipe: Recipe, *, recursive: bool) -> tuple[list[Item], Sources]:
    """The pictures that files, folders, prefixes and patterns name, local or in stores.

    :class:`InputError`: a store cannot be listed; :class:`MissingError`, :class:`UsageError`: as
    :func:`~p3m_edge.bulk.store.opened`. What is wrong with local inputs is in the sources.
    """
    remote = [word for word in words if is_remote(word)]
    found = collect([word for word in words if word not in remote], recursive=recursive)
    tags = {source: said for word in remote for source, said in _listed(word, len(words) > 1, recursive=recursive)}
    sources = [*found.pictures, *tags]
    items = [
        Item(
            name.as_posix(), (address(source.path),), (tags.get(source),),
            (tuple(file.as_posix() for file in recipe.files(Path(), name).values()),),
        )
        for source, name in Names().of(sources)
    ]  # fmt: skip
    return items, found


def _listed(word: Path, several: bool, *, recursive: bool) -> Iterator[tuple[Source, str | None]]:
    """The pictures at an address, a prefix or a pattern, each with what the store says of its content."""
    where = address(word)
    fs, path = opened(where)
    with telling(where):
        if _MAGIC & set(path):
            infos: dict[str, dict[str, Any]] = fs.glob(path, detail=True)
        elif fs.isfile(path):
            infos = {path: fs.info(path)}
        else:
            infos = fs.find(path, maxdepth=None if recursive else 1, detail=True)
            infos = {name: info for name, info in infos.items() if PurePath(name).suffix.lower() in IMAGE_SUFFIXES}
    files = {name: info for name, info in infos.items() if info.get("type") == "file"}
    if not files:
        raise InputError(f"{where} holds no pictures" + " (below it: --recursive)" * (not recursive))
    base = PurePath(word.name) if several else PurePath()
    for name, info in sorted(files.items()):
        inside = name.startswith(f"{path.rstrip('/')}/")
        folder = base / PurePath(name).parent.relative_to(path.rstrip("/")) if inside else PurePath()
        yield Source(Path(fs.unstrip_protocol(name)), folder), tag_of(info)
