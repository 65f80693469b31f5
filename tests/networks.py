"""Networks that tests share: drawing the weights of one takes a second or two."""

from functools import cache

from p3m_edge.model import P3MNet, standin


@cache
def shared_standin(arch: str) -> P3MNet:
    """Stand-in weights; tests leave them, the mode and the hooks as they were."""
    return standin(arch)
