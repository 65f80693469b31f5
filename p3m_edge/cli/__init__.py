"""The command line. ``main`` is what ``p3m-edge`` and ``python -m p3m_edge`` call.

A verb is a module of :mod:`p3m_edge.cli.verbs`, imported only when that verb runs; ``data check`` is ``data_check``. It
has

``Arguments``
    its options (:mod:`p3m_edge.cli.options`; ``--json``, ``--debug`` and ``--help`` are there already); the
    docstring is what ``p3m-edge VERB --help`` says;
``EXAMPLES``
    lines of text; those that start with ``p3m-edge`` are commands and must parse;
``run(args, console)``
    the work. It gives its result to ``console.emit`` once, and raises an error of :mod:`p3m_edge.errors` if it failed.

A tool of the repository may be such a module, too, and calls ``main`` with itself.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from types import FrameType
from typing import Any, NoReturn, Protocol, cast

from p3m_edge import __version__
from p3m_edge.cli.ui.console import Console
from p3m_edge.errors import UsageError, suggestion
from p3m_edge.resources import limit_threads

VERBS: dict[str, str] = {
    "demo": "export, verify, run and measure the mobile network: the whole path in one command",
    "export": "turn weights into verified artefacts: those of this package, or a checkpoint",
    "build": "build the TensorRT engine of an artefact, on the device or ahead of time",
    "verify": "check an artefact on this machine: hashes, manifest, golden vectors",
    "run": "matte pictures and videos, with an artefact or as it comes",
    "live": "matte a camera, live: into a window, a recording, a virtual camera",
    "web": "make a page of an artefact that mattes in the browser; serve it",
    "package": "make a model repository of an artefact, for Triton or OpenVINO Model Server",
    "sensitivity": "rank the parts of a network by what INT8 or half precision does to alpha",
    "bench": "measure the latency, memory and parity of artefacts",
    "inspect": "show what is in an artefact or a checkpoint",
    "targets": "list the targets: engine, precision, parity limits",
    "data check": "find what is missing, unreadable, unequal or double in a data set; count the rest",
    "data anonymize": "blur the faces of ordinary portraits: a P3M-style data set",
    "data synth": "draw synthetic portraits with exact mattes",
    "data places": "make backgrounds for data compose of what is beside and behind the people of portraits",
    "data compose": "put the people of portrait sets before other backgrounds: a training set from few portraits",
    "data list": "list the pictures of sets with hashes and a face detector's verdict; find those of another list",
    "train": "train P3M-Net, with P3M-CP",
    "eval": "evaluate checkpoints, artefacts and other methods as the paper does",
    "doctor": "say what can be built, run and verified on this machine, and what is missing",
}

_EXIT_CODES = (
    "exit codes: 0 done, 1 failed, 2 usage, 3 a gate failed, 4 something is missing (package, tool, device),\n"
    "            5 artefact or checkpoint unfit, 6 benchmark regression, 130 interrupted"
)


class Verb(Protocol):
    """What a verb's module offers."""

    EXAMPLES: str
    Arguments: type

    def run(self, args: Any, console: Console) -> None: ...


class Parser(argparse.ArgumentParser):
    """The parser of one verb. Its errors are :class:`UsageError`, and it suggests the option that was meant."""

    verb: Verb

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"see: {self.prog} --help")

    def parse(self, arguments: Sequence[str]) -> object:
        """The verb's ``Arguments``; options and positionals may be mixed. :class:`UsageError`: they cannot be read."""
        from p3m_edge.cli.options import collect

        known = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        for argument in takewhile(lambda argument: argument != "--", arguments):
            option = argument.partition("=")[0]
            if option.startswith("--") and option not in known:
                raise UsageError(f"unknown option {option}", hint=suggestion(option, known))
        return collect(self.verb.Arguments, self.parse_intermixed_args(list(arguments)))


def load(verb: str) -> Verb:
    """Import the module of a verb. :class:`UsageError`: there is no such verb; the hint suggests the closest one."""
    if verb.startswith("-"):
        raise UsageError(f"unknown option {verb}", hint="options come after the verb; see: p3m-edge --help")
    if within := [known for known in VERBS if known.startswith(f"{verb} ")]:
        raise UsageError(f"{verb!r} needs a second word", hint=f"choose from: {', '.join(within)}")
    if verb not in VERBS:
        raise UsageError(f"unknown verb {verb!r}", hint=suggestion(verb, VERBS))
    return cast("Verb", importlib.import_module(f"p3m_edge.cli.verbs.{verb.replace(' ', '_')}"))


def split(words: Sequence[str]) -> tuple[str, list[str]]:
    """The verb that a command line begins with, and the words after it.

    A verb has two words if its first is a group's (``data``); the second is then taken even if it is unknown.
    """
    groups = {verb.partition(" ")[0] for verb in VERBS if " " in verb}
    length = 2 if words[0] in groups else 1
    return " ".join(words[:length]), list(words[length:])


def build_parser(name: str, verb: Verb) -> Parser:
    """The parser of one verb, ``name`` on the command line."""
    import inspect

    from p3m_edge.cli.options import add_to

    examples = "\n".join(f"  {line}" for line in verb.EXAMPLES.strip().splitlines())
    parser = Parser(
        prog=name,
        description=inspect.cleandoc(verb.Arguments.__doc__ or ""),
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.verb = verb
    add_to(parser, verb.Arguments)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout, all else on stderr")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None, tool: Verb | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv
        The arguments after the program's name; None: those of this process.
    tool
        What to run in place of the verb that ``argv`` begins with.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = set(takewhile(lambda argument: argument != "--", arguments))
    console = Console(json="--json" in options, lines="--json-lines" in options, debug="--debug" in options)
    signals: list[int] = []
    limit_threads()
    with console.streams():
        try:
            with _interrupts(signals):
                _dispatch(arguments, console, tool)
                sys.stdout.flush()
                if signals:  # somebody caught the interrupt and went on
                    raise KeyboardInterrupt
                return 0
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place that turns errors into exit codes
            if not signals or isinstance(error, KeyboardInterrupt):
                return console.report(error)
            interrupt = KeyboardInterrupt()  # a library turned it into an error of its own, as at an import
            interrupt.__cause__ = error
            return console.report(interrupt)


def _dispatch(arguments: list[str], console: Console, tool: Verb | None) -> None:
    flags = list(takewhile(lambda argument: argument in ("--json", "--debug"), arguments))
    if tool is not None:
        name, verb, rest = f"python {sys.argv[0]}", tool, arguments
    elif arguments[len(flags) :][:1] == ["--version"]:
        sys.stdout.write(f"p3m-edge {__version__}\n")
        return
    else:
        words, rest = split(arguments[len(flags) :] or ["--help"])
        if words.rpartition(" ")[2] in ("-h", "--help"):  # of all verbs, or of a group
            sys.stdout.write(_overview())
            return
        name, verb, rest = f"p3m-edge {words}", load(words), flags + rest
    try:
        args = build_parser(name, verb).parse(rest)
    except SystemExit:  # argparse printed the help
        return
    verb.run(args, console)


def _overview() -> str:
    verbs = "\n".join(f"  {name:14} {line}" for name, line in VERBS.items())
    return (
        "usage: p3m-edge VERB [options]\n\n"
        "Portrait matting on the device: train P3M-Net on your portraits, or take a checkpoint or the weights\n"
        "of this package; verified artefacts come out, and apps run them without PyTorch.\n\n"
        f"verbs:\n{verbs}\n\n"
        "options:\n"
        "  -h, --help  this text; p3m-edge VERB --help: the verb's options and examples\n"
        "  --version   the version\n"
        "  --json      with any verb: one JSON document on stdout, all else on stderr\n"
        "  --debug     with any verb: show the traceback of an error\n\n"
        f"{_EXIT_CODES}\n"
    )


@contextmanager
def _interrupts(signals: list[int]) -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt, so that it cleans up like Ctrl-C; only the main thread may do that.

    ``signals`` collects the numbers of those that arrive.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    # Ctrl-C may be ignored (nohup), or be handled by the calling program.
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    numbers = (signal.SIGTERM, signal.SIGINT) if own else (signal.SIGTERM,)
    previous = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
