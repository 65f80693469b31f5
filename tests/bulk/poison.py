"""Work that kills its worker's process at one of the items, as a decoder that crashes does."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p3m_edge.bulk.executor import process_all
from p3m_edge.bulk.plan import Item
from p3m_edge.bulk.worker import Opened


class Poisoned:
    """Results are words."""

    settings = "poisoned"

    @contextmanager
    def open(self, cores: int) -> Iterator[Opened[str]]:
        yield Opened(self._process, cores)

    def _process(self, item: Item, copies: tuple[Path, ...], out: Path) -> str:
        if item.name == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        (out / f"{item.name}.txt").write_bytes(copies[0].read_bytes())
        return "done"

    def failed(self, item: Item, reason: str) -> str:
        return f"failed: {reason}"

    def skipped(self, item: Item) -> str:
        return "skipped"

    def is_failed(self, result: str) -> bool:
        return result.startswith("failed")


def main(folder: Path) -> None:
    items = []
    for name in ("poison", *map(str, range(24))):
        (folder / name).write_text(name)
        items.append(Item(name, (str(folder / name),), (None,), ((f"{name}.txt",),)))
    results = {item.name: result for item, result in process_all(Poisoned(), str(folder / "out"), items, 2)}
    sys.stderr.write(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
