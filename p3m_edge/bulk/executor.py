"""Ray Data as what hands out shards of items to workers, and starts workers again that were killed."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import warnings
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from p3m_edge.atomic import reason
from p3m_edge.bulk.plan import Item
from p3m_edge.bulk.worker import Work, Worker
from p3m_edge.errors import P3MEdgeError, needing
from p3m_edge.resources import usable_cores
from p3m_edge.telemetry import silence_ray

if TYPE_CHECKING:
    from types import ModuleType

    from ray import ObjectRef

R = TypeVar("R")
_SHARD = 16  # items
_SHARDS_EACH = 4  # at least, for each worker, so that all end at about the same time
_STORE = 256 * 2**20  # bytes of shared memory for items and results, of a cluster that is started here
_PATIENCE = 10.0  # seconds, for a cluster that does not answer
_ENDED = "the worker's process ended while it was at this picture"


class _Actor(Worker[Any]):
    """A worker whose work, which may be large, is fetched from where the driver keeps it as long as it lives."""

    def __init__(self, work: list[ObjectRef[Any]], where: str, cores: int) -> None:
        import ray

        super().__init__(ray.get(work[0]), where, cores)


def process_all(
    work: Work[R], where: str, items: Sequence[Item], workers: int | None = None, cores: int = 1, gpus: int = 0
) -> Generator[tuple[Item, R], None, None]:
    """The items with their results, as they come.

    What a worker that was killed has not finished is done by others. Items whose shards were lost again and again are
    tried once more, each by itself: one that kills its worker takes no others with it.

    Parameters
    ----------
    work, where
        What is done, and the address of the output.
    workers
        How many processes; None: one for each ``cores`` cores of the cluster, or of this machine.
    cores, gpus
        That each worker has for itself.

    Raises
    ------
    MissingError
        Ray is not installed.
    P3MEdgeError
        Ray cannot be started, or its workers cannot.
    """
    with needing("ray"):
        silence_ray()
        import ray
        import ray.data
    started = not ray.is_initialized()
    try:
        if started:
            _start(ray, workers, cores)
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's own
        count = workers or max(1, int(there.get("CPU", 1)) // cores)
        left = dict(enumerate(items))
        for size in (max(1, min(_SHARD, len(left) // (count * _SHARDS_EACH))), 1):
            for number, result in _rows(ray, work, where, left, (count, size, cores, gpus)):
                yield left.pop(number), result
            if not left:
                return
        for item in left.values():
            yield item, work.failed(item, _ENDED)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise P3MEdgeError(f"Ray: {lines[-1].strip()}", hint="run it again: what is done is skipped") from error
    finally:
        if started:
            ray.shutdown()


def _start(ray: ModuleType, workers: int | None, cores: int) -> None:
    """Join the cluster that ``RAY_ADDRESS`` names, or start one on this machine."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of what Ray Data itself does
    own: dict[str, Any] = {}
    if "RAY_ADDRESS" in os.environ:
        _check_listens(os.environ["RAY_ADDRESS"])
    else:
        needed = max((workers or 0) * cores, usable_cores())
        own = {"address": "local", "num_cpus": needed, "include_dashboard": False, "object_store_memory": _STORE}
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:
        text = " ".join(str(error).split())
        raise P3MEdgeError(
            f"Ray cannot be started: {text}", hint="is RAY_ADDRESS right?" if not own else None
        ) from error


def _check_listens(address: str) -> None:
    """:class:`P3MEdgeError`: nothing listens at HOST:PORT, for which Ray would wait minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():  # auto, or a form that Ray knows
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        text = f"no Ray answers at RAY_ADDRESS={address}: {reason(error)}"
        raise P3MEdgeError(text, hint="without RAY_ADDRESS, one is started on this machine") from error


def _rows(
    ray: ModuleType, work: Work[R], where: str, left: dict[int, Item], form: tuple[int, int, int, int]
) -> Iterator[tuple[int, R]]:
    """Process what is left in shards; those that are lost are missing."""
    workers, size, cores, gpus = form
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are told by us
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_errored_blocks = -1
    rows = [{"number": number, "item": pickle.dumps(item)} for number, item in left.items()]
    shards = -(-len(rows) // size)
    pool = ray.data.ActorPoolStrategy(size=min(workers, shards), max_tasks_in_flight_per_actor=min(size, 2))
    with warnings.catch_warnings():
        # Without the last two, Ray would hand a picture that kills its worker to the next one for ever.
        warnings.filterwarnings("ignore", ".*ray_remote_args", DeprecationWarning)
        results = ray.data.from_items(rows, override_num_blocks=shards).map_batches(
            _Actor, batch_size=None, fn_constructor_args=([ray.put(work)], where, cores), compute=pool,
            num_cpus=cores, num_gpus=gpus or None, max_restarts=-1, max_task_retries=1,
        )  # fmt: skip
    for row in results.iter_rows():
        yield int(row["number"]), pickle.loads(row["result"])  # noqa: S301 - our own workers'
