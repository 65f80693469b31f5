"""``fork`` after use, and pickles: what is opened in one process works in another, or says why not, and never hangs."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from p3m_edge.errors import ArtefactError, UsageError
from p3m_edge.runtimes import Matting
from tests.artefacts import make_artefact, picture

pytest.importorskip("onnx")

Name = Literal["onnxruntime", "openvino"]
ROOT = Path(__file__).resolve().parents[2]
LONG = 600.0
"""Seconds for what takes ten, on a machine with other work; a hang is for ever."""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

PARENT = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 says that threads are lost, which is what is tested
import numpy as np
from p3m_edge.errors import UsageError
from p3m_edge.runtimes import Matting

hint, folder = sys.argv[1:]
frames = [np.full((120 + 40 * index, 160, 3), 40 * index, np.uint8) for index in range(4)]
large = np.arange(3000 * 2000 * 3, dtype=np.uint8).reshape(3000, 2000, 3)  # OpenCV has threads for that
matting = Matting(folder, hint=hint, cache=False)
want = [matting(frame) for frame in frames]
matting(large)
engine = matting.engine

def same(found):
    for got, expected in zip(found, want, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)

def refused(call, *arguments):
    try:
        call(*arguments)
    except UsageError as error:
        return str(error)
    raise AssertionError(f"{call} was not refused")

def fork(child):
    pid = os.fork()
    if pid == 0:
        exec(child, globals())
        sys.exit(7)  # with all that the end of the interpreter does
    return pid

for name, child in CHILDREN.items():
    matting.batch(frames)
    matting.submit(frames[0])
    for pid in [fork(child), fork(child)]:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7, name
    np.testing.assert_allclose(matting.collect(), want[0], atol=1e-6)
    same(matting.batch(frames))
    assert matting.engine is engine
    print(name, flush=True)
matting.close()
"""

CHILDREN = {
    "exit alone": "pass",
    "call": "same([matting(frame) for frame in frames]); matting(large)",
    "batch": "same(matting.batch(frames)); same(matting.batch(frames)); matting.close()",
    "submit and collect": """
assert matting.pending == 0  # what the parent submitted is the parent's
assert "nothing has been submitted" in refused(matting.collect)
for frame in frames: matting.submit(frame)
same([matting.collect() for _ in frames])
""",
    "close alone": "matting.close(); matting.close(); assert 'closed' in refused(matting, frames[0])",
    "with block": "with matting: same(matting.batch(frames))",
    "selftest": "assert matting.selftest().passed",
    "engine": """
images = np.zeros((1, 64, 96, 3), np.uint8)
for call in (engine.infer, engine.submit, engine.timed):
    assert "forked" in refused(call, images)
for call in (engine.reset, lambda: engine.collect(None)):
    assert "forked" in refused(call)
engine.close()
assert matting.engine is not engine
matting.engine.infer(images)
""",
    "threads": """
found = {}
threads = [threading.Thread(target=lambda i=i: found.update({i: matting(frames[i])})) for i in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
same([found[i] for i in range(4)])
""",
    "a child of the child": """
matting(frames[0])
again = os.fork()
if again == 0:
    same(matting.batch(frames))
    sys.exit(8)
assert os.waitstatus_to_exitcode(os.waitpid(again, 0)[1]) == 8
same(matting.batch(frames))
""",
    "forgotten": "import gc; matting = engine = None; gc.collect()",
}
REFUSED = {
    "exit alone": "pass",
    "calls": """
for call in (matting, matting.submit, Matting):
    assert "OpenVINO was in use before" in refused(call, folder if call is Matting else frames[0])
for call in (lambda: matting.batch(frames), matting.collect, matting.selftest, lambda: matting.info):
    assert "does not survive" in refused(call)
assert matting.pending == 0
matting.close()
""",
    "close alone": CHILDREN["close alone"],
    "engine": CHILDREN["engine"].partition("engine.close()")[0] + "engine.close()",
    "forgotten": CHILDREN["forgotten"],
}
"""What a child does whose parent used OpenVINO, whose locks may be taken there for ever."""


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def name(request: pytest.FixtureRequest) -> Name:
    pytest.importorskip(request.param)
    engine: Name = request.param
    return engine


@pytest.fixture(scope="module")
def artefact(name: Name, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artefact(tmp_path_factory.mktemp(name) / "artefact", name, size=(64, 96))


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=LONG, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@forks
@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_in_a_child_and_in_the_parent_afterwards(artefact: Path, name: Name, hint: str) -> None:
    children = REFUSED if name == "openvino" else CHILDREN
    assert run(f"CHILDREN = {children!r}{PARENT}", hint, str(artefact)).splitlines() == list(children)


@forks
def test_a_fork_in_the_middle_of_the_work_of_other_threads(artefact: Path, name: Name) -> None:
    code = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import numpy as np
from p3m_edge.errors import UsageError
from p3m_edge.runtimes import Matting
frame = np.full((120, 160, 3), 90, np.uint8)
matting = Matting(sys.argv[1], cache=False)
want = matting(frame)
stop = threading.Event()
def work():
    while not stop.is_set():
        matting.batch([frame, frame])
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        try:
            np.testing.assert_allclose(matting.batch([frame])[0], want, atol=1e-6)
        except UsageError:
            assert sys.argv[2] == "openvino"
        matting.close()
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
stop.set()
for thread in threads: thread.join()
matting.close()
print("parent done")
"""
    assert run(code, str(artefact), name) == "parent done\n"


@forks
def test_an_app_that_is_loaded_before_its_server_forks(artefact: Path, name: Name, tmp_path: Path) -> None:
    """As gunicorn does with ``--preload``: the module is imported in the master, and each worker ends by sys.exit."""
    (tmp_path / "app.py").write_text(
        "import numpy as np\n"
        "from p3m_edge.errors import P3MEdgeError\n"
        "from p3m_edge.runtimes import Matting\n"
        f"matting = Matting({str(artefact)!r}, cache=False)\n"
        "matting.batch([np.zeros((50, 60, 3), np.uint8)] * 3)\n"
        "def answer():\n"
        "    try:\n"
        "        return [alpha.shape for alpha in matting.batch([np.full((50, 60, 3), 200, np.uint8)] * 3)]\n"
        "    except P3MEdgeError as error:\n"
        "        return error\n"
    )
    code = """
import os, signal, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
sys.path.insert(0, sys.argv[1])
import app
workers = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        os.write(1, str(app.answer()).encode() + b"\\n")
        signal.pause()
    workers.append(pid)
sys.stdin.readline()
for pid in workers:
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
app.matting.close()
"""
    server = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert server.stdout is not None
    refusal = "OpenVINO was in use before this process was forked, and does not survive that"
    expected = refusal if name == "openvino" else "[(50, 60), (50, 60), (50, 60)]"
    assert [server.stdout.readline() for _ in range(3)] == [f"{expected}\n"] * 3
    server.communicate("stop\n", timeout=LONG)
    assert server.returncode == 0


def _matte(matting: Matting, frame: Any, answers: Any) -> None:
    try:
        answers.put(matting.batch([frame, frame])[1])
    except UsageError as error:
        answers.put(str(error))


@pytest.mark.parametrize(
    "method", [pytest.param("fork", marks=forks), "spawn", pytest.param("forkserver", marks=forks)]
)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_processes_of_multiprocessing(artefact: Path, name: Name, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    frame = picture(40, 50)
    with Matting(artefact, threads=1, cache=False) as matting:
        want = matting.batch([frame])[0]
        answers = context.Queue()
        process = context.Process(target=_matte, args=(matting, frame, answers))
        process.start()
        found = answers.get(timeout=LONG)
        process.join(LONG)
        assert process.exitcode == 0
        with context.Pool(2) as pool:
            mapped = pool.map_async(matting, [frame] * 4)
            if (name, method) == ("openvino", "fork"):
                assert "forked" in found
                with pytest.raises(UsageError, match="OpenVINO was in use before this process was forked"):
                    mapped.get(timeout=LONG)
            else:
                for got in [found, *mapped.get(timeout=LONG)]:
                    np.testing.assert_allclose(got, want, atol=1e-6)
        np.testing.assert_array_equal(matting.batch([frame])[0], want)


class TestPickles:
    def test_opens_its_folder_again_with_all_its_options(self, artefact: Path) -> None:
        frame = picture(40, 50)
        options: dict[str, Any] = {"threads": 1, "resize": "letterbox", "colour": "BGR", "dtype": "uint8"}
        with Matting(artefact, cache=False, **options) as matting:
            matting.submit(frame)
            for again in (pickle.loads(pickle.dumps(matting)), copy.deepcopy(matting)):
                with again:
                    assert again.pending == 0
                    assert again.folder == matting.folder
                    assert again.info == matting.info
                    assert again.manifest == matting.manifest
                    assert again.engine is not matting.engine
                    np.testing.assert_array_equal(again(frame), matting(frame))
                np.testing.assert_array_equal(matting(frame), matting(frame))

    def test_from_another_folder(self, artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(artefact.parent)
        with Matting(artefact.name, threads=1, cache=False) as matting:
            packed = pickle.dumps(matting)
        monkeypatch.chdir(tmp_path)
        with pickle.loads(packed) as again:
            assert again(picture(40, 50)).shape == (40, 50)
            assert again.folder == artefact

    def test_what_is_closed_stays_closed(self, artefact: Path) -> None:
        matting = Matting(artefact, threads=1, cache=False)
        matting.close()
        again = pickle.loads(pickle.dumps(matting))
        for call in (again, again.submit):
            with pytest.raises(UsageError, match="closed"):
                call(picture(40, 50))
        again.close()

    def test_a_folder_that_is_not_there_any_more(self, artefact: Path, tmp_path: Path) -> None:
        """The error comes with the first call: a pool's worker that cannot unpickle its task takes the pool along."""
        own = Path(shutil.copytree(artefact, tmp_path / "own"))
        with Matting(own, threads=1, cache=False) as matting:
            packed = pickle.dumps(matting)
            shutil.rmtree(own)
            again = pickle.loads(packed)
            for _ in range(2):
                with pytest.raises(ArtefactError, match="does not exist"):
                    again(picture(40, 50))
            again.close()
            assert matting(picture(40, 50)).shape == (40, 50)

    def test_a_folder_that_was_changed(self, artefact: Path, tmp_path: Path) -> None:
        own = Path(shutil.copytree(artefact, tmp_path / "own"))
        with Matting(own, threads=1, cache=False) as matting:
            packed = pickle.dumps(matting)
        (own / "golden.npz").write_bytes(b"other")
        with pytest.raises(ArtefactError, match="bytes, the manifest says"):
            pickle.loads(packed)(picture(40, 50))
