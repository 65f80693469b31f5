"""Options: how they are declared (:mod:`.arguments`), how values are read (:mod:`.values`), what verbs share."""

from p3m_edge.cli.options.arguments import argument, collect, fill, given, group, option
from p3m_edge.cli.options.values import (
    SIZE,
    Size,
    duration,
    gigabytes,
    integer,
    natural,
    path,
    picture_size,
    positive,
    real,
    share,
    size,
)

__all__ = [
    "SIZE", "Size", "argument", "collect", "duration", "fill", "gigabytes", "given", "group", "integer", "natural",
    "option", "path", "picture_size", "positive", "real", "share", "size",
]  # fmt: skip
