"""Options declared as the fields of a frozen dataclass: the field's type and default become argparse's.

A verb's ``Arguments`` has a field for each option, made by :func:`option`, or by :func:`argument` for what has no name
in front. The type says how a value is read: ``bool`` is a flag, a ``Literal`` has choices, ``Path``, ``Size`` and
``int`` (from 1) have parsers, a tuple may be given several times, and ``X | None`` can tell that nothing was given. A
field whose type is such a dataclass itself brings a group of options that verbs share. :func:`fill` makes the request
of another room from the fields of the same names, so that its defaults stand in one place, there.
"""

from __future__ import annotations

import argparse
import types
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from p3m_edge.cli.options.values import Size, path, positive, size

T = TypeVar("T")
Parse = Callable[[str], object]
_PARSERS: dict[object, tuple[Parse, str]] = {
    Path: (path, "FILE"),
    Size: (size, "WIDTHxHEIGHT"),
    int: (positive, "N"),
}


@dataclass(frozen=True)
class _Declared:
    """What a field says besides its type and default."""

    help: str
    metavar: str | None
    group: str | None
    flags: tuple[str, ...] = ()
    parse: Parse | None = None
    positional: bool = False
    required: bool = False
    nargs: str | None = None
    const: object = None


def option(
    text: str, default: object = None, *, flag: str = "", metavar: str | None = None, group: str | None = None,
    parse: Parse | None = None, required: bool = False, nargs: str | None = None, const: object = None,
) -> Any:  # fmt: skip
    """A field that is an option.

    Parameters
    ----------
    text
        The help; the default is added to it.
    default
        Of the field; a tuple for options that may be repeated.
    flag
        Its names with commas between them; else ``--`` and the field's name.
    group
        The title of the group that begins with this option; the fields that follow are in it, too.
    parse
        Reads a value, where the type alone does not say how.
    required, metavar, nargs, const
        As argparse has them.
    """
    flags = tuple(flag.split(",")) if flag else ()
    told = _Declared(text, metavar, group, flags, parse, required=required, nargs=nargs, const=const)
    return field(default=default, metadata={"option": told})


def argument(text: str, metavar: str, *, nargs: str | None = None, parse: Parse | None = None) -> Any:
    """A field that is given without a name in front; ``nargs`` as argparse has it."""
    default = () if nargs in ("*", "+") else None
    return field(
        default=default, metadata={"option": _Declared(text, metavar, None, parse=parse, positional=True, nargs=nargs)}
    )


def group(cls: type[T], title: str | None = None) -> Any:
    """A field that brings the options of another such dataclass, under a title of their own if there is one."""
    return field(default_factory=cls, metadata={"group": title})


def add_to(parser: argparse.ArgumentParser, cls: type) -> None:
    """Add the options of a class to a parser."""
    _add(parser, parser, cls)


def _add(parser: argparse.ArgumentParser, place: argparse._ActionsContainer, cls: type) -> None:
    hints = get_type_hints(cls)
    for each in fields(cls):
        if "group" in each.metadata:
            title = each.metadata["group"]
            _add(parser, place if title is None else parser.add_argument_group(title), each.default_factory)  # type: ignore[arg-type]
            continue
        told: _Declared = each.metadata["option"]
        if told.group is not None:
            place = parser.add_argument_group(told.group)
        names = () if told.positional else told.flags or (_flag(each.name),)
        settings = _settings(hints[each.name], each, told)
        if not told.positional:
            settings |= {"dest": each.name, "required": told.required}
        place.add_argument(*(names or (each.name,)), **settings)


def _settings(hint: object, each: Field[Any], told: _Declared) -> dict[str, Any]:
    """What argparse is told about a field."""
    optional = get_origin(hint) in (Union, types.UnionType)  # X | None
    kind = next(arg for arg in get_args(hint) if arg is not type(None)) if optional else hint
    settings: dict[str, Any] = {"help": _help(each.default, told), "default": each.default}
    if kind is bool:
        return settings | ({"action": "store_const", "const": True} if optional else {"action": "store_true"})
    if get_origin(kind) is tuple and not optional:
        kind = get_args(kind)[0]
        if not told.positional:
            settings |= {"action": "extend" if told.nargs else "append", "default": None}
    parse, metavar = _PARSERS.get(kind, (None, None))
    if get_origin(kind) is Literal:
        settings |= {"choices": get_args(kind), "type": type(get_args(kind)[0])}
    settings |= {"type": told.parse or parse or settings.get("type", str), "metavar": told.metavar or metavar}
    return settings | {name: value for name in ("nargs", "const") if (value := getattr(told, name)) is not None}


def _help(default: object, told: _Declared) -> str:
    """The help, with the default where there is one that it does not name; for argparse, which formats it by ``%``."""
    if default is None or default is False or default == () or "default" in told.help:
        return told.help.replace("%", "%%")
    value = f"{default:g}" if isinstance(default, float) else default
    return f"{told.help} (default: {value})".replace("%", "%%")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def collect(cls: type[T], namespace: argparse.Namespace) -> T:
    """An instance of the class with what argparse found."""
    values: dict[str, Any] = {}
    for each in fields(cls):  # type: ignore[arg-type]
        if "group" in each.metadata:
            values[each.name] = collect(each.default_factory, namespace)  # type: ignore[arg-type]
            continue
        value = getattr(namespace, each.name)
        values[each.name] = tuple(value or ()) if type(value) is list or each.default == () else value
    return cls(**values)


def given(options: object) -> Iterator[tuple[str, str]]:
    """The fields, and the names on the command line, of options that are not as they are by default."""
    for each in fields(options):  # type: ignore[arg-type]
        told: _Declared | None = each.metadata.get("option")
        if told is not None and getattr(options, each.name) != each.default:
            yield each.name, told.flags[0] if told.flags else _flag(each.name)


def fill(cls: type[T], *sources: object, **more: object) -> T:
    """A request made of the options that have the names of its fields; what was not given keeps its default there.

    Parameters
    ----------
    cls
        The request's class, a dataclass.
    sources
        Instances of options.
    more
        What no option gives by the same name; it goes before these.
    """
    names = {each.name for each in fields(cls)}  # type: ignore[arg-type]
    values = {
        name: value for one in sources for name, value in vars(one).items() if name in names and value is not None
    }
    return cls(**(values | more))
