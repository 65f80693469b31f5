"""Foreign converters in a process of their own: they log, patch other packages, and may take it down with them."""

from __future__ import annotations

from p3m_edge.errors import P3MEdgeError
from p3m_edge.export.quantize import UnfitError
from p3m_edge.workers.parent import Worker, WorkerError


def run_converter(module: str, order: object, converter: str, what: str) -> None:
    """Run a converter, and wait for it.

    Parameters
    ----------
    module
        A worker with the operation ``convert``.
    order
        For it.
    converter, what
        Who converts what, for the error.

    Raises
    ------
    UnfitError
        Numbers do not fit the precision (a ``RuntimeWarning``): another way to quantise may do.
    P3MEdgeError
        It failed, or was ended.
    """
    with Worker(module) as worker:
        try:
            worker.send("convert", order=order)
            worker.receive(type(None))
        except WorkerError as error:
            kind = UnfitError if error.cause == RuntimeWarning.__name__ else P3MEdgeError
            raise kind(f"{converter} cannot convert {what}: {error}") from error
