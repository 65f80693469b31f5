"""The frame of the command line: verbs, help, streams, errors, signals. Exit codes and streams of the real process."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import make_dataclass
from pathlib import Path

import pytest

from p3m_edge import __version__, cli, errors
from p3m_edge.cli.ui import Console

HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "cv2", "numpy", "PIL", "rich")


def call(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """Run the real command line."""
    command = [sys.executable, "-m", "p3m_edge", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, **options)


class Boom:
    """A verb that does what a test wants."""

    EXAMPLES = "p3m-edge boom"
    Arguments = make_dataclass("Arguments", [])

    def __init__(self, act):
        self.act = act

    def run(self, args, console):
        print("chatter of a library")
        self.act()


@pytest.fixture
def boom(monkeypatch):
    """Install a verb that raises an exception, or calls a function."""

    def install(error=None, act=None):
        def fail():
            raise error

        monkeypatch.setattr(cli, "load", lambda _name: Boom(act or fail))

    return install


def test_alone_it_prints_the_overview_and_names_every_verb(capsys):
    assert cli.main([]) == 0
    alone = capsys.readouterr().out
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr().out == alone
    assert all(f"\n  {verb} " in alone for verb in cli.VERBS)


def test_version():
    assert call("--version").stdout == f"p3m-edge {__version__}\n"


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_every_verb_and_its_examples_parse(verb, capsys):
    module = cli.load(verb)
    assert cli.main([*verb.split(), "--help"]) == 0
    shown = capsys.readouterr()
    assert "--json" in shown.out
    assert shown.err == ""
    commands = [line for line in module.EXAMPLES.splitlines() if line.strip().startswith("p3m-edge")]
    assert commands
    for command in commands:
        assert command.strip() in shown.out
        program, *words = shlex.split(command, comments=True)
        assert program == "p3m-edge"
        name, arguments = cli.split(words)
        cli.build_parser(name, cli.load(name)).parse(arguments)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["exprot"], "unknown verb 'exprot'", "did you mean 'export'?"),
        (["--size"], "unknown option --size", "options come after the verb"),
        (["data"], "'data' needs a second word", "data check, data anonymize, data synth"),
        (["data", "chekc"], "unknown verb 'data chekc'", "did you mean 'data check'?"),
        (["targets", "--jsno"], "unknown option --jsno", "did you mean '--json'?"),
        (["targets", "surplus"], "unrecognized arguments: surplus", "p3m-edge targets --help"),
        (["inspect"], "required: PATH", "p3m-edge inspect --help"),
    ],
)
def test_usage_errors_say_what_was_meant(arguments, message, hint, capsys):
    assert cli.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    first, second = shown.err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert second.startswith("hint: ")
    assert hint in second


def test_usage_error_in_a_real_process_with_json():
    done = call("--json", "inspcet")
    assert done.returncode == 2
    assert json.loads(done.stdout) == {
        "error": {"message": "unknown verb 'inspcet'", "hint": "did you mean 'inspect'?", "exit_code": 2}
    }
    assert "error: unknown verb" in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        errors.InputError("bad picture", hint="another one"),
        errors.GateError("gate"),
        errors.MissingError("package", hint='pip install "p3m-edge[onnx]"'),
        errors.CheckpointError("truncated"),
        errors.RegressionError("slower"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_every_error_class_has_its_exit_code(error, as_json, boom, capsys):
    boom(error)
    assert cli.main(["boom", *["--json"] * as_json]) == error.exit_code
    shown = capsys.readouterr()
    assert f"error: {error}" in shown.err.splitlines()
    assert ("hint: " in shown.err) == (error.hint is not None)
    if as_json:
        expected = {"message": str(error), "hint": error.hint, "exit_code": error.exit_code}
        assert json.loads(shown.out) == {"error": expected}
        assert "chatter" in shown.err


def test_an_unexpected_exception_is_marked_as_internal(boom, capsys):
    boom(KeyError("x\ny"))
    assert cli.main(["boom"]) == 1
    shown = capsys.readouterr().err
    assert shown.splitlines()[0] == "error: internal error: KeyError: 'x\\ny'"
    assert "--debug" in shown
    assert "Traceback" not in shown
    assert cli.main(["boom", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "out/a.png"), "error: out/a.png: No space left on device"),
        (PermissionError(13, "Permission denied", "out"), "error: out: Permission denied"),
        (MemoryError(), "error: out of memory"),
    ],
)
def test_the_machine_s_own_errors_are_not_internal(error, message, boom, capsys):
    boom(error)
    assert cli.main(["boom"]) == 1
    assert capsys.readouterr().err.splitlines()[0] == message


def test_interrupt_is_one_line(boom, capsys):
    boom(KeyboardInterrupt())
    assert cli.main(["boom"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_sigterm_is_ctrl_c_and_the_handler_is_put_back(boom):
    before = signal.getsignal(signal.SIGTERM)

    def be_terminated():
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(10)
        raise AssertionError("SIGTERM did not end the wait")

    boom(act=be_terminated)
    assert cli.main(["boom"]) == 130
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("as_json", [False, True])
def test_a_closed_pipe_is_quiet(as_json):
    read, write = os.pipe()
    os.close(read)
    code = (
        "import sys; from p3m_edge.cli import main\n"
        f"code = main(['targets', *['--json'] * {as_json}])\n"
        "print('stderr still works', file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, timeout=300)
    os.close(write)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == ["stderr still works"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(("arguments", "unbuffered"), [("targets", ""), ("targets --json", "1"), ("--help", "")])
def test_a_full_disc_below_stdout_is_an_error(arguments, unbuffered):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "p3m_edge", *arguments.split()],
            stdout=full, stderr=subprocess.PIPE, encoding="utf-8", timeout=300,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("error:") == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="descriptors are closed otherwise on Windows")
@pytest.mark.parametrize(
    ("stream", "arguments", "code"),
    [(1, "targets", 0), (1, "targets --json", 0), (1, "targt", 2), (2, "targets", 0), (2, "targt", 2)],
)
def test_a_closed_stream_is_a_dead_end(stream, arguments, code):
    command = f'"{sys.executable}" -m p3m_edge {arguments} {stream}>&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert bool(done.stdout) == (stream == 2 and code == 0)
    assert bool(done.stderr) == (stream == 1 and code != 0)


def test_a_console_without_unicode_still_works():
    done = call("targets", env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr
    assert "onnx-fp32" in done.stdout


def test_no_color_and_pipes_get_no_escape_codes():
    done = call("doctr", env=os.environ | {"FORCE_COLOR": "1", "NO_COLOR": "1"})
    assert "\x1b[31m" not in done.stderr
    assert "\x1b" not in call("doctr").stderr


@pytest.mark.skipif(os.name == "nt", reason="no such file names on Windows")
@pytest.mark.parametrize("options", [(), ("--json",), ("--debug",)])
def test_control_characters_of_a_name_never_reach_a_terminal(options, tmp_path):
    name = "red\x1b[31m\x07\x9b2J\u202egnp.exe"
    (tmp_path / name).write_bytes(b"no picture")
    done = call("inspect", name, *options, cwd=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 5
    assert "red" in said
    assert not set(said) & set("\x1b\x07\x9b\u202e"), ascii(said)
    if "--json" in options:
        assert name in json.loads(done.stdout)["error"]["message"]


def test_help_imports_nothing_heavy():
    code = "import sys; from p3m_edge.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=300)
    loaded = set(done.stderr.split())
    assert "p3m_edge.cli" in loaded
    assert not loaded & set(HEAVY)
    shown = {"p3m_edge.cli.ui", "p3m_edge.cli.ui.console", "p3m_edge.cli.ui.show"}
    assert {name for name in loaded if name.startswith("p3m_edge.cli.")} == shown


def test_json_keeps_native_chatter_off_stdout():
    code = (
        "import os, sys; from dataclasses import make_dataclass; from p3m_edge import cli\n"
        "class V:\n"
        "    EXAMPLES = 'p3m-edge v'\n"
        "    Arguments = make_dataclass('Arguments', [])\n"
        "    def run(self, args, console):\n"
        "        os.write(1, b'native chatter'); print('python chatter')\n"
        "        console.emit({'a': 1}, []); os.write(1, b'more')\n"
        "cli.load = lambda name: V(); code = cli.main(['v', '--json']); os.write(1, b'after'); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.removesuffix("after")) == {"a": 1}
    assert "native chatter" in done.stderr
    assert "python chatter" in done.stderr


def test_a_name_that_is_not_unicode_can_be_emitted(capsys):
    console = Console(json=True)
    name = os.fsdecode(b"caf\xe9.png")
    with console.streams():
        console.emit({"name": name, "list": [name], name: 1}, [])
    document = json.loads(capsys.readouterr().out)
    assert document == {"name": "caf\\udce9.png", "list": ["caf\\udce9.png"], "caf\\udce9.png": 1}


def test_names_are_not_markup(capsys):
    console = Console()
    with console.streams():
        console.note("[red]holiday[/red] :smile: [1].png")
    assert capsys.readouterr().err == "[red]holiday[/red] :smile: [1].png\n"
