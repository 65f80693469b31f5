"""Names of targets, and their parity limits, as they are typed."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable
from dataclasses import fields

from p3m_edge import targets
from p3m_edge.errors import MissingError, UsageError, suggestion
from p3m_edge.targets import Limits, Target


def buildable(target: Target) -> bool:
    """Whether the packages that build the target are installed (they are not imported)."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", *target.build_modules))


def target_names(values: Iterable[str]) -> tuple[str, ...]:
    """Target names from repeated, comma-separated values; ``all`` means those that this machine can build.
    Experimental ones are built only when they are named.

    Raises
    ------
    UsageError
        A name is unknown, or there is none.
    MissingError
        ``all`` finds none that can be built here.
    """
    names = [name.strip() for value in values for name in value.split(",") if name.strip()]
    if not names:
        raise UsageError("no target was named", hint="for example --target onnx-fp32,openvino-fp16")
    here: list[str] = []
    if "all" in names:
        here = [t.name for t in targets.TARGETS.values() if not t.experimental and buildable(t)]
        if not here:
            raise MissingError(
                "no target can be built on this machine",
                hint='pip install "p3m-edge[torch,onnx,openvino]"; see: p3m-edge doctor',
            )
    return tuple(
        dict.fromkeys(each for name in names for each in (here if name == "all" else [targets.get(name).name]))
    )


def limit(text: str) -> tuple[str, float]:
    """Parse ``NAME=VALUE``, a parity limit.

    Raises
    ------
    UsageError
        The name is not a limit's, or the value is not a number >= 0.
    """
    name, separator, value = text.partition("=")
    name = name.strip().replace("-", "_")
    known = [field.name for field in fields(Limits)]
    if not separator:
        raise UsageError(f"limit {text!r} is not NAME=VALUE", hint="for example --limit flips=0.001")
    if name not in known:
        raise UsageError(f"unknown limit {name!r}", hint=suggestion(name, known))
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UsageError(f"limit {name}: {value!r} is not a number >= 0", hint="for example --limit flips=0.001")
    return name, number
