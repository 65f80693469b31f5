"""The verbs' side of bulk work: places are checked, progress is shown, and too many failures end it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from p3m_edge.bulk.executor import process_all
from p3m_edge.bulk.lease import leased
from p3m_edge.bulk.plan import Item, make_plan
from p3m_edge.bulk.store import Store, address, is_remote
from p3m_edge.bulk.worker import Work
from p3m_edge.cli.options.shared import Bulk, Runtime
from p3m_edge.cli.ui import Console, progress
from p3m_edge.data.recipe import check_apart
from p3m_edge.errors import OutputError, P3MEdgeError, PartialError, UsageError, missing_package

R = TypeVar("R")
_LINES = 20  # of progress, where there is no terminal


def place(path: Path) -> Path | str:
    """A path for reports: with the slashes of an address."""
    return address(path) if is_remote(path) else path


def check_places(words: Sequence[Path], out: Path) -> None:
    """:class:`UsageError`: the output lies in an input, or an input in it."""
    mine = address(out).rstrip("/") + "/"
    for word in words:
        other = address(word).rstrip("/") + "/"
        if not is_remote(word) and not is_remote(out):
            check_apart(out, word)
        elif mine.startswith(other) or other.startswith(mine):
            raise UsageError(f"{address(out)} and {address(word)} lie in each other", hint="choose another --out")


def process(
    work: Work[R], out: Path, items: Sequence[Item], add: Callable[[R], None], console: Console, options: Bulk,
    where: Runtime | None = None, *, force: bool,
) -> tuple[int, P3MEdgeError | None]:  # fmt: skip
    """Do what is left to do of the items; ``add`` gets every result, first those of earlier runs.

    Returns
    -------
    before, error
        How many earlier runs had done. Why it was stopped: a larger share of the items failed than may.
    """
    if find_spec("ray") is None:  # it is imported when there is something to do
        raise missing_package("ray", "ray")
    store = Store(address(out))
    cores = where.threads or 1 if where else 1
    gpus = int("cuda" in (where.device or "").lower()) if where else 0
    with leased(store) as lease:
        plan = make_plan(store, items, work.settings, force=force)
        for item in plan.done:
            add(work.skipped(item))
        if plan.gone:
            console.note(f"{plan.gone} pictures of earlier runs are not among the inputs now; their results stay")
        if not plan.left:
            return len(plan.done), None
        failed, first = 0, 0.0
        results = process_all(work, store.where, plan.left, options.ray_workers, cores, gpus)
        # Ray prints what happens to its workers on stdout.
        with progress(console, lines=_LINES) as bars, redirect_stdout(sys.stderr), closing(results):
            for done, (_, result) in enumerate(results, 1):
                add(result)
                first = first or time.monotonic()  # Ray's start and the workers' are no matting
                bars.progress(_rate(done, len(plan.left), time.monotonic() - first), done, len(plan.left))
                failed += work.is_failed(result)
                if lease.lost.is_set():
                    raise OutputError(f"another driver has taken {store.where} over", hint="let one of them end")
                if options.max_failures is not None and failed > options.max_failures * len(items):
                    text = f"stopped: {failed} of {len(items)} pictures failed, more than --max-failures allows"
                    hint = "run it again when this is put right: what is done is skipped"
                    return len(plan.done), PartialError(text, hint=hint)
    return len(plan.done), None


def _rate(done: int, total: int, seconds: float) -> str:
    """The rate and the time left; the first one is where the clock began."""
    if done < 2 or seconds <= 0:
        return "pictures"
    rate = (done - 1) / seconds
    minutes, left = divmod(round((total - done) / rate), 60)
    return f"pictures, {rate:.2f} a second, {minutes}:{left:02} left"
