"""An interrupt ends with exit code 130, whatever a library makes of it."""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

# Interrupts itself as soon as somebody imports a certain module, and then imports that.
START = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.{number})
        return None

sys.meta_path.insert(0, Interrupting())
from p3m_edge.cli import main
sys.exit(main({arguments!r}))
"""
# Turns what the import raises into something else, as libraries do that have optional parts.
SWALLOWING = """
from dataclasses import make_dataclass
EXAMPLES = ""
Arguments = make_dataclass("Arguments", [])
def run(args, console):
    try:
        import colorsys
    except BaseException as error:
        if {kind!r}:
            raise {kind}("it could not be imported") from error
"""


def started(module: str, number: str, *arguments: str, cwd=None) -> subprocess.CompletedProcess[str]:
    code = START.format(module=module, number=number, arguments=list(arguments))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=environment)


@pytest.mark.parametrize("module", ["torch.export", "torch.fx.experimental.symbolic_shapes"])
def test_while_something_is_imported(module, tmp_path):
    """PyTorch imports parts of itself in blocks that pass over every exception."""
    arguments = ("export", "--arch", "mobile", "--standin", "--target", "onnx-fp32", "--size", "64x64", "--out", "out")
    done = started(module, "SIGINT", *arguments, cwd=tmp_path)
    assert done.returncode == 130, done.stderr
    assert "internal error" not in done.stderr
    assert "interrupted" in done.stderr.splitlines()
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        ("SIGINT", ""),
        ("SIGINT", "ImportError"),
        ("SIGINT", "SystemError"),
        ("SIGTERM", ""),
        ("SIGTERM", "RuntimeError"),
    ],
)
def test_when_a_library_passes_over_it(tmp_path, monkeypatch, kind, number):
    """A verb of its own: it ends as if nothing had been, or with an error in the interrupt's place."""
    (tmp_path / "targets.py").write_text(SWALLOWING.format(kind=kind))
    code = f"import sys, p3m_edge.cli.verbs; p3m_edge.cli.verbs.__path__.insert(0, {str(tmp_path)!r})\n"
    code += START.format(module="colorsys", number=number, arguments=["targets"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_ctrl_c_stays_ignored_where_it_was(monkeypatch):
    """As under nohup, or in a shell's background."""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code += START.format(module="p3m_edge.cli.verbs.targets", number="SIGINT", arguments=["targets"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "onnx-fp32" in done.stdout
