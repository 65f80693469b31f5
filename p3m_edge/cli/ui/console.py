"""Where results, progress and errors go: one document or table on stdout, everything else on stderr."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from p3m_edge.errors import P3MEdgeError, shown

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text

    from p3m_edge.table import Table

Part: TypeAlias = "str | Text | Table"

_PLAIN_WIDTH = 160  # columns of a table that goes into a file or a pipe
_INTERRUPTED = 130
_REPORT_IT: str | None = "run it again with --debug to see the traceback, and report it"
_ENVIRONMENT_ERRORS = {
    errno.EACCES, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EPERM, errno.EROFS,
}  # fmt: skip

# What moves a terminal's cursor, changes its colours or the order of its letters, but for tabs and line ends.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u202a-\u202e\u2066-\u2069]")


class Console:
    """The two streams of one run of the command line.

    With ``json``, stdout carries exactly one JSON document; with ``lines``, too, but every document is a line, and the
    verb may give others before it (:meth:`line`). With ``debug``, errors show their traceback.
    """

    def __init__(self, *, json: bool = False, lines: bool = False, debug: bool = False) -> None:
        self.json = json or lines
        self.lines = lines
        self.debug = debug
        self._indent = -1 if lines else 2
        self._emitted = False
        self._stdout: IO[str] = sys.stdout

    @cached_property
    def out(self) -> RichConsole:
        """Rich's console for stdout (stderr with ``--json``): tables."""
        return _rich(stderr=False)

    @cached_property
    def err(self) -> RichConsole:
        """Rich's console for stderr: progress, warnings and errors."""
        return _rich(stderr=True)

    @contextmanager
    def streams(self) -> Iterator[None]:
        """Make both streams safe for any file name and, with ``--json``, keep all other output off stdout.

        Libraries print as they like, some of them from C++: with ``--json`` the file descriptor itself is
        pointed at stderr, and only :meth:`emit` writes to the real stdout.
        """
        _replace_closed_streams()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        self._stdout = sys.stdout
        with warnings.catch_warnings():
            warnings.showwarning = self._show_warning
            with self._own_stdout() if self.json else nullcontext():
                yield

    @contextmanager
    def _own_stdout(self) -> Iterator[None]:
        """Point stdout, both Python's and the descriptor, at stderr; ``_stdout`` is the real one."""
        original = sys.stdout
        with suppress(OSError):  # not a descriptor: captured by a test or an embedding program
            if original.fileno() == 1:
                original.flush()
                self._stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
                os.dup2(2, 1)
        sys.stdout = sys.stderr
        try:
            yield
        finally:
            sys.stdout = original
            if self._stdout is not original:
                os.dup2(self._stdout.fileno(), 1)
                self._stdout.close()

    def emit(
        self, document: object, parts: Iterable[Part], error: P3MEdgeError | None = None, warnings: Iterable[str] = ()
    ) -> None:
        """Give the result of the run, as JSON or for people, and raise the error if there is one.

        Parameters
        ----------
        document
            A frozen dataclass, or a mapping of such.
        parts
            What people get: lines and tables.
        error
            The JSON document has it as ``error``.
        warnings
            Lines for stderr, after all else.
        """
        if self.json:
            self._write_json(to_json(document, error, self._indent))
        else:
            self.show(parts, self.out)
        for line in warnings:
            self.warn(line)
        if error is not None:
            raise error

    def line(self, document: object, error: BaseException | None = None) -> None:
        """One document on a line of stdout, where a verb reports as it goes; an error that is raised is in the last."""
        self._write_json(to_json(document, None if error is None else _known(error), indent=-1))
        self._emitted = error is not None

    def show(self, parts: Iterable[Part], where: RichConsole) -> None:
        """Print what :meth:`emit` takes; lines are not wrapped."""
        from p3m_edge.table import Table

        for part in parts:
            if isinstance(part, Table):
                part.print(where)
            else:
                where.print(part, soft_wrap=True)

    @contextmanager
    def status(self, message: str) -> Iterator[Callable[[str], None]]:
        """Show a message until the block ends; what is reported meanwhile follows it, or is a line elsewhere."""
        if not self.err.is_terminal:
            yield lambda text: self.note(f"{message}: {text}")
            return
        from rich.text import Text

        with self.err.status(Text(message)) as status:
            yield lambda text: status.update(Text(f"{message}: {text}"))

    def write(self, path: Path, content: object) -> None:
        """Write a file, and say so; what is neither text nor bytes becomes JSON. Its folder is made."""
        from p3m_edge.atomic import atomic_write

        data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        atomic_write(path, data if isinstance(data, bytes) else to_json(data), parents=True)
        self.note(f"written: {path}")

    def note(self, message: str) -> None:
        """One line for people, on stderr."""
        self.err.print(message, soft_wrap=True)

    def warn(self, message: str) -> None:
        """One line that deserves attention, on stderr."""
        self.err.print(f"warning: {message}", style="yellow", soft_wrap=True)

    def trace(self, error: BaseException) -> None:
        """With ``--debug``, show the traceback of an error, also of one that does not end the run."""
        if self.debug:
            sys.stderr.write(_visible("".join(traceback.format_exception(error))))

    def report(self, error: BaseException) -> int:
        """Tell the user about the error that ended the run, and return its exit code."""
        if isinstance(error, BrokenPipeError):
            self._discard_stdout()
            return 1
        self.trace(error)
        known = _known(error)
        line = str(known) if known.exit_code == _INTERRUPTED else f"error: {known}"
        shown = False
        try:
            if self.json and not self._emitted:
                self._write_json(to_json({}, known, self._indent))
            self.err.print(line, style="red", soft_wrap=True)
            shown = True
            if known.hint:
                self.err.print(f"hint: {known.hint}", soft_wrap=True)
            # What could not be written is still buffered: left there, it would fail again as the interpreter ends.
            self._stdout.flush()
        except OSError as failure:  # stdout cannot be written at all; the exit code still tells
            self._discard_stdout()
            if not shown and not isinstance(failure, BrokenPipeError):
                sys.stderr.write(_visible(f"error: {known}\n"))
        return known.exit_code

    def _show_warning(self, message: Warning | str, *_where: object, **_more: object) -> None:
        self.warn(_one_line(str(message)))

    def _discard_stdout(self) -> None:
        """Send what is still buffered for stdout nowhere, so that the interpreter can end in peace."""
        with suppress(OSError):  # stdout is not a descriptor: nothing to discard
            descriptor = os.open(os.devnull, os.O_WRONLY)
            os.dup2(descriptor, self._stdout.fileno())
            os.close(descriptor)

    def _write_json(self, data: bytes) -> None:
        self._emitted = True
        buffer = getattr(self._stdout, "buffer", None)
        if buffer is None:
            self._stdout.write(data.decode())
        else:  # always UTF-8, whatever the console's code page
            buffer.write(data)
        self._stdout.flush()


def to_json(document: object, error: P3MEdgeError | None = None, indent: int = 2) -> bytes:
    """A frozen dataclass, or a mapping of such, as JSON with a final newline; with an ``indent`` of -1 on one line."""
    import msgspec

    content = msgspec.to_builtins(document, enc_hook=os.fspath)
    if error is not None:
        content["error"] = {"message": str(error), "hint": error.hint, "exit_code": error.exit_code}
    text = msgspec.json.format(msgspec.json.encode(_printable(content)), indent=indent).decode()
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode() + b"\n"


def _rich(*, stderr: bool) -> RichConsole:
    from rich.console import Console as RichConsole

    class Plain(RichConsole):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process here

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=_visible(segment.text))

    # File names and messages are data: no markup, no emoji codes, no guessed colours.
    console = Plain(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PLAIN_WIDTH
    return console


def _known(error: BaseException) -> P3MEdgeError:
    """Any exception as one of ours, whose message is one line."""
    from p3m_edge.atomic import name_fault

    message, hint, code = f"internal error: {type(error).__name__}: {error}", _REPORT_IT, 1
    if isinstance(error, KeyboardInterrupt):
        message, hint, code = "interrupted", None, _INTERRUPTED
    elif isinstance(error, P3MEdgeError):
        message, hint, code = str(error), error.hint, error.exit_code
    elif isinstance(error, MemoryError):
        message, hint = "out of memory", "use a smaller --size, or smaller pictures"
    elif isinstance(error, OSError) and error.errno in _ENVIRONMENT_ERRORS:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        hint = "check permissions and free space"
    elif (fault := name_fault(error)) is not None:
        name = getattr(error, "filename", None) or getattr(error, "object", None)
        message, hint = f"{'a name' if name is None else shown(str(name))} is no name of a file: {fault}", None
    elif isinstance(error, FileNotFoundError) and _current_folder_is_gone():
        message, hint = "the current folder was deleted", "change to one that is there"
    elif isinstance(error, RuntimeError) and "home directory" in str(error):  # of pathlib, at a `~`
        message, code = "'~' stands for no folder here: no such user, or no home", 2
        hint = "set HOME, or write the path in full"
    known = P3MEdgeError(_one_line(message), hint=hint)
    known.exit_code = code
    return known


def _current_folder_is_gone() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _visible(text: str) -> str:
    """The text with control characters, which file names and foreign files may hold, as escapes."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _printable(value: object) -> object:
    """The same content, with file names that are not valid Unicode escaped."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value


def _replace_closed_streams() -> None:
    """Open the null device as stdout or stderr where the process has none (``>&-``, a window without a console)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
