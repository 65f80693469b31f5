"""The process on an emulated processor: it opens an artefact as apps do, and runs its golden vectors."""

from __future__ import annotations

import sys

from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.golden import SelfTest
from p3m_edge.workers.child import serve


def selftest(folder: str, threads: int | None) -> SelfTest:
    """The verdict of the golden vectors; nothing is kept in a cache, which is another processor's."""
    with Matting(folder, threads=threads, cache=False) as matting:
        return matting.selftest()


if __name__ == "__main__":
    sys.exit(serve({"selftest": selftest}))
