"""Anonymising as bulk work: the pictures of a set, and what a worker does with one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import msgspec

from p3m_edge.bulk.plan import Item, digest
from p3m_edge.bulk.store import Store, address, is_remote, opened, tag_of, telling
from p3m_edge.bulk.worker import Opened
from p3m_edge.data.anonymize.folder import RESULTS, Job, Output, Record, Settings
from p3m_edge.data.anonymize.run import anonymize_one, open_detectors
from p3m_edge.data.detect import CASCADE, Box
from p3m_edge.data.sample import Item as Portrait
from p3m_edge.data.sample import MatteForm
from p3m_edge.data.sets import find_items
from p3m_edge.errors import InputError
from p3m_edge.imageio import IMAGE_SUFFIXES
from p3m_edge.smallfile import parse_json
from p3m_edge.temporary import temporary_folder


@dataclass(frozen=True)
class AnonymizeWork:
    """Anonymising with these settings; detectors in files are there on every machine, at the same path."""

    out: str
    how: Settings

    @property
    def settings(self) -> str:
        named = [*self.how.detectors, *filter(None, [self.how.verifier])]
        contents = [Path(name).read_bytes() for name in named if name != CASCADE]
        return digest(b"\0".join([repr(self.how).encode(), *contents]))[:16]

    @contextmanager
    def open(self, cores: int) -> Iterator[Opened[Record]]:
        open_detectors(self.how)
        yield Opened(self._anonymize, cores)

    def _anonymize(self, item: Item, copies: tuple[Path, ...], out: Path) -> Record:
        job = _job(item)
        image, *alphas = copies
        for kind in ("review", "records", *RESULTS):
            (out / kind).mkdir()
        local = replace(job.item, image=image, alpha=alphas[0] if alphas else None)
        return anonymize_one(Output(out), self.how, replace(job, item=local))

    def failed(self, item: Item, reason: str) -> Record:
        job = _job(item)
        return Record(job.item.name, job.item.image.name, "failed", reason, settings=self.how, by_hand=job.boxes)

    def skipped(self, item: Item) -> Record:
        with suppress(msgspec.DecodeError):
            return parse_json(Store(self.out).read(_record(item)) or b"", Record)
        return self.failed(item, f"{_record(item)} is damaged: remove it, and run it again")

    def is_failed(self, result: Record) -> bool:
        return result.status == "failed"


def _job(item: Item) -> Job:
    assert isinstance(item.payload, Job)
    return item.payload


def _record(item: Item) -> str:
    return item.outputs[0][-1]


def find_portraits(folder: Path, stored: MatteForm) -> list[Item]:
    """The pictures of a set, local or in a store, in the forms that :func:`~p3m_edge.data.sets.find_items` knows.

    Raises as that, and as :func:`~p3m_edge.bulk.store.opened`.
    """
    if not is_remote(folder):
        return [_item(each, lambda path: (str(path), None)) for each in find_items(folder, stored)]
    where = address(folder).rstrip("/")
    fs, root = opened(where)
    with telling(where):
        found = fs.find(root, maxdepth=2, detail=True)
    infos = {name.removeprefix(root).lstrip("/"): info for name, info in found.items()}
    with temporary_folder() as parent:
        skeleton = parent / "set"  # empty files: the names alone say what belongs together
        for name in (name for name in infos if PurePath(name).suffix.lower() in IMAGE_SUFFIXES):
            (skeleton / name).parent.mkdir(parents=True, exist_ok=True)
            (skeleton / name).touch()
        if not skeleton.exists():
            raise InputError(f"{where} holds no pictures")

        def there(path: Path) -> tuple[str, str | None]:
            name = path.relative_to(skeleton).as_posix()
            return f"{where}/{name}", tag_of(infos[name])

        return [_item(each, there) for each in find_items(skeleton, stored)]


def _item(each: Portrait, there: Callable[[Path], tuple[str, str | None]]) -> Item:
    inputs, tags = zip(*map(there, filter(None, (each.image, each.alpha))), strict=True)
    record, kinds = f"records/{each.name}.json", RESULTS[: 3 if each.alpha else 2]
    done = (*(f"{kind}/{each.name}.png" for kind in kinds), record)
    return Item(each.name, inputs, tags, (done, (f"review/{each.name}.png", record)), Job(each))


def with_boxes(items: Sequence[Item], boxes: Mapping[str, tuple[Box, ...]]) -> list[Item]:
    """The items with the faces that a person has marked, which are input as well."""
    marked = ((item, boxes.get(item.name)) for item in items)
    return [replace(i, payload=replace(_job(i), boxes=b), known=repr(b) if b is not None else "") for i, b in marked]
