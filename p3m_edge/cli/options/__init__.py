"""Options declared as the fields of a frozen dataclass: the field's type and default become argparse's.

A verb's ``Arguments`` has a field for each option, made by :func:`option`, and for each positional argument, made by
:func:`argument`. The type says how a value is read: ``bool`` is a flag, a ``Literal`` has choices, ``Path``, ``Size``
and ``int`` (from 1) have parsers, a tuple may be given several times, and ``X | None`` can tell that nothing was given.
A field whose type is such a dataclass itself brings a group of options that verbs share (:func:`group`). :func:`fill`
makes a request of the library from the fields of the same names; the request alone has the defaults.
"""

from __future__ import annotations

import argparse
import types
from collections.abc import Callable, Iterator
from dataclasses import Field, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from p3m_edge.cli.options.values import Size, path, positive, size

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
Parse = Callable[[str], object]
_READ: dict[object, tuple[Parse, str]] = {
    Path: (path, "FILE"), Size: (size, "WIDTHxHEIGHT"), int: (positive, "N"), str: (str, ""),
}  # fmt: skip
"""The parser of a type, and its metavar in the help."""


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
    keywords = {"help": text, "metavar": metavar, "type": parse, "nargs": nargs, "const": const, "required": required}
    return field(
        default=default, metadata={"argparse": keywords, "flags": flag.split(",") * bool(flag), "title": group}
    )


def argument(text: str, metavar: str, *, nargs: str | None = None) -> Any:
    """A field that is a positional argument; ``nargs`` is that of argparse."""
    keywords = {"help": text, "metavar": metavar, "nargs": nargs}
    return field(default=() if nargs in ("*", "+") else None, metadata={"argparse": keywords, "flags": None})


def group(cls: type[T], title: str | None = None) -> T:
    """A field that brings the options of another such dataclass, under a title of their own if there is one."""
    return field(default_factory=cls, metadata={"group": cls, "title": title})


def add_to(place: argparse._ActionsContainer, cls: type) -> None:
    """Add the options of a class to a parser, or to a group of one."""
    container, hints = place, get_type_hints(cls)
    for each in fields(cls):
        title = each.metadata.get("title")
        inside = place.add_argument_group(title) if title else container
        if "group" in each.metadata:
            add_to(inside, each.metadata["group"])
        else:
            container = inside
            container.add_argument(*_flags(each), **_settings(hints[each.name], each))


def _flags(each: Field[object]) -> list[str]:
    """The names on the command line; of a positional argument the field's."""
    flags: list[str] | None = each.metadata["flags"]
    return [each.name] if flags is None else flags or [f"--{each.name.replace('_', '-')}"]


def _settings(kind: object, each: Field[object]) -> dict[str, Any]:
    """The keywords for argparse of a field of a type."""
    keywords: dict[str, Any] = {name: value for name, value in each.metadata["argparse"].items() if value is not None}
    keywords |= {"help": _help(keywords["help"], each.default), "default": each.default}
    if each.metadata["flags"] is not None:
        keywords["dest"] = each.name
    optional = get_origin(kind) in (Union, types.UnionType)
    if optional:  # X | None
        kind = next(arg for arg in get_args(kind) if arg is not types.NoneType)
    if kind is bool:
        return keywords | {"action": "store_const", "const": True}
    if get_origin(kind) is tuple and not optional:
        kind = get_args(kind)[0]
        if each.metadata["flags"] is not None:
            keywords |= {"action": "extend" if "nargs" in keywords else "append", "default": None}
    if get_origin(kind) is Literal and "type" not in keywords:  # else a parser of its own knows more than these
        keywords["choices"] = get_args(kind)
        kind = type(keywords["choices"][0])
        return {"type": kind} | keywords
    parse, metavar = _READ.get(kind, _READ[str])
    return {"type": parse, "metavar": metavar or None} | keywords


def _help(text: str, default: object) -> str:
    """The help, with the default where there is one that it does not name; for argparse, which formats it by ``%``."""
    if default is not None and default is not False and default != () and "default" not in text:
        text += f" (default: {f'{default:g}' if isinstance(default, float) else default})"
    return text.replace("%", "%%")


def collect(cls: type[T], namespace: argparse.Namespace) -> T:
    """An instance of the class with what argparse found."""
    values: dict[str, Any] = {}
    for each in fields(cls):
        if "group" in each.metadata:
            values[each.name] = collect(each.metadata["group"], namespace)
            continue
        value = getattr(namespace, each.name)
        values[each.name] = tuple(value or ()) if type(value) is list or each.default == () else value
    return cls(**values)


def given(options: DataclassInstance) -> Iterator[tuple[str, str]]:
    """The field and the name on the command line of each option that differs from its default."""
    for each in fields(options):
        if "group" not in each.metadata and getattr(options, each.name) != each.default:
            yield each.name, _flags(each)[0]


def words(options: DataclassInstance, shown: Callable[[str | Path], str]) -> Iterator[str]:
    """The words of a command line with these options, without positional arguments; ``shown`` formats texts."""
    for each in fields(options):
        value = getattr(options, each.name)
        if "group" in each.metadata or each.metadata["flags"] is None or value is None or value is False or value == ():
            continue
        (flag, *_), many = _flags(each), value if type(value) is tuple else (value,)
        texts = [shown(one) if isinstance(one, str | Path) else str(one) for one in many if one is not True]
        if value is True or each.metadata["argparse"]["nargs"]:
            yield from (flag, *texts)
        else:
            yield from (word for text in texts for word in (flag, text))


def fill(cls: type[T], *sources: DataclassInstance, **more: object) -> T:
    """A request made of the options with the names of its fields; what was not given keeps the request's default.

    Parameters
    ----------
    cls
        The request's class, a dataclass.
    sources
        Instances of options; groups in them are sources of their own.
    more
        Other fields; they take precedence over the options.
    """
    names = {each.name for each in fields(cls)}
    values = {
        each.name: value
        for one in sources
        for each in fields(one)
        if each.name in names and "group" not in each.metadata and (value := getattr(one, each.name)) is not None
    }
    return cls(**(values | more))
