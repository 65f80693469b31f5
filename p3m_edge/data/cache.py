"""Decoded samples kept in memory, so that an epoch does not decode what an earlier one has."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from p3m_edge.data import sets
from p3m_edge.data.sample import Item, Sample
from p3m_edge.errors import UsageError


class Cache:
    """The samples read last, up to a number of bytes of their arrays; those not used for longest go first.

    Any number of threads may read. A cache belongs to one process: each worker of a data loader fills its own, so the
    memory of all is the number of workers times ``max_bytes``. With 0 nothing is kept, and a negative number is a
    :class:`UsageError`. ``read`` makes a sample of an item.
    """

    def __init__(self, max_bytes: int, read: Callable[[Item], Sample] = sets.read) -> None:
        if max_bytes < 0:
            raise UsageError(f"a cache cannot hold {max_bytes} bytes")
        self.max_bytes = max_bytes
        self.bytes = 0
        self._read = read
        self._samples: OrderedDict[Item, Sample] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, item: Item) -> Sample:
        """The sample of an item; its arrays are read-only, since others get the same ones. Raises as ``read``."""
        with self._lock:
            kept = self._samples.get(item)
            if kept is not None:
                self._samples.move_to_end(item)
                return kept
        sample = self._read(item)  # outside the lock: others need not wait while this one decodes
        for array in sample.arrays.values():
            array.setflags(write=False)
        with self._lock:
            self._keep(item, sample)
        return sample

    def _keep(self, item: Item, sample: Sample) -> None:
        size = _size(sample)
        if size > self.max_bytes or item in self._samples:
            return
        while self.bytes + size > self.max_bytes:
            self.bytes -= _size(self._samples.popitem(last=False)[1])
        self._samples[item] = sample
        self.bytes += size

    def __reduce__(self) -> tuple[type[Cache], tuple[object, ...]]:
        """A process that gets a copy starts with an empty cache of the same size."""
        return type(self), (self.max_bytes, self._read)


def _size(sample: Sample) -> int:
    return sum(array.nbytes for array in sample.arrays.values())
