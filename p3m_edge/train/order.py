"""Which pictures each process sees in which step: a function of the step alone, so any step can be gone back to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from p3m_edge.data.sample import generator

# What random numbers are for, besides those of :func:`p3m_edge.data.sample.generator`.
PASTE, STEP, HELD_OUT = 1, 2, 3


def numbers(purpose: int, seed: int, first: int, second: int) -> np.random.Generator:
    """Random numbers that nothing else has; the last three are below 2**32."""
    # NumPy takes the words [a, b, c] and [a, b, c, 0] for the same, so a fourth one above 0 sets them apart.
    return np.random.default_rng([seed, first, second, purpose])


class Draw(NamedTuple):
    """One picture of one epoch; both count from 0."""

    epoch: int
    item: int


@dataclass(frozen=True)
class Order:
    """The pictures of every step, epoch after epoch, shared out among the processes.

    An epoch is a permutation of all pictures, cut into the steps of all processes together; its last step is filled up
    from its beginning. One process with a batch of four and two with a batch of two see the same four in each step.

    Attributes
    ----------
    count
        Pictures of the set.
    batch
        Pictures in a step of one process.
    seed
        Of the permutations.
    rank, ranks
        Which process this is, of how many.
    """

    count: int
    batch: int
    seed: int
    rank: int = 0
    ranks: int = 1

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.count // (self.batch * self.ranks))

    def draws(self, step: int) -> list[Draw]:
        """What this process sees in a step, which counts from 0 over all epochs."""
        epoch, place = divmod(step, self.steps)
        together = self.batch * self.ranks
        indices = _permutation(self.seed, epoch, self.count)
        places = np.arange(place * together, (place + 1) * together) % self.count
        return [Draw(epoch, int(index)) for index in indices[places[self.rank :: self.ranks]]]


class Steps(Sampler[list[Draw]]):
    """The draws of the steps ``first`` to ``last - 1``, as a data loader takes them."""

    def __init__(self, order: Order, first: int, last: int) -> None:
        self._order, self._steps = order, range(first, last)

    def __iter__(self) -> Iterator[list[Draw]]:
        return map(self._order.draws, self._steps)

    def __len__(self) -> int:
        return len(self._steps)


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    # No picture has the index `count`: the permutation has random numbers of its own.
    return generator(seed, epoch, count).permutation(count)
