"""Real servers of the KServe protocol, started on a repository: of an environment that ``P3M_EDGE_SERVERS`` names."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import pytest

from p3m_edge.manifest import read

HELPERS = Path(__file__).parent / "helpers"
PATIENCE = 300


class Addresses(NamedTuple):
    """Of a server that is ready: host and port of each protocol."""

    http: str
    grpc: str


def site_packages() -> Path:
    """Of the environment; the test is skipped where there is none."""
    found = [*Path(os.environ.get("P3M_EDGE_SERVERS", "nowhere")).glob("lib/python3.*/site-packages")]
    if not found or not (found[0] / "pytriton").is_dir():
        pytest.skip("P3M_EDGE_SERVERS names no environment: pip install nvidia-pytriton mlserver onnxruntime")
    return found[0]


@contextmanager
def triton(repository: Path, place: Path) -> Iterator[Addresses]:
    """The Triton that NVIDIA's PyTriton brings, with a stand-in for the backend that it does not bring."""
    packages = site_packages()
    home, backends = packages / "pytriton/tritonserver", place / "backends"
    shutil.copytree(home / "backends" / "python", backends / "python")
    stub = home / "python_backend_stubs" / packages.parent.name.removeprefix("python") / "triton_python_backend_stub"
    shutil.copyfile(stub, backends / "python" / stub.name)
    (backends / "onnxruntime").mkdir()
    shutil.copyfile(HELPERS / "triton_backend.py", backends / "onnxruntime" / "model.py")
    server = backends / "tritonserver"
    shutil.copyfile(home / "bin" / "tritonserver", server)  # pip makes none of them executable
    for path in (server, backends / "python" / stub.name):
        path.chmod(0o755)
    http, grpc = _ports()
    words = [server, f"--model-repository={repository}", f"--backend-directory={backends}", "--allow-metrics=false"]
    words += [f"--http-port={http}", f"--grpc-port={grpc}", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1"]
    libraries = {"LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs")}
    with _running(words, place, libraries, http, grpc) as addresses:
        yield addresses


@contextmanager
def mlserver(repository: Path, place: Path) -> Iterator[Addresses]:
    """MLServer, with a model that runs the repository's file."""
    site_packages()
    manifest = read(repository / "matting")
    shutil.copyfile(HELPERS / "mlserver_model.py", place / "mlserver_model.py")
    http, grpc = _ports()
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "parallel_workers": 0, "debug": False}
    (place / "settings.json").write_text(json.dumps(settings | {"metrics_endpoint": None}))
    shape = [-1, manifest.input.height, manifest.input.width, 3]
    model = {
        "name": "matting",
        "implementation": "mlserver_model.OnnxModel",
        "parameters": {"uri": str(repository / "matting/1/model.onnx")},
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": shape}],
    }
    (place / "model-settings.json").write_text(json.dumps(model))
    words = [Path(os.environ["P3M_EDGE_SERVERS"]) / "bin" / "mlserver", "start", place]
    with _running(words, place, {"PYTHONPATH": str(place)}, http, grpc) as addresses:
        yield addresses


@contextmanager
def _running(words: Sequence[object], place: Path, more: dict[str, str], http: int, grpc: int) -> Iterator[Addresses]:
    path = os.pathsep.join([str(Path(os.environ["P3M_EDGE_SERVERS"], "bin").resolve()), os.environ["PATH"]])
    with (place / "log").open("w+") as log:
        environment = {**os.environ, "PATH": path, **more}
        process = subprocess.Popen([*map(str, words)], stdout=log, stderr=log, env=environment, cwd=place)
        try:
            _wait(process, f"http://127.0.0.1:{http}/v2/health/ready", log)
            yield Addresses(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}")
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: IO[str]) -> None:
    """Until the server is ready; ``RuntimeError`` with its log: it ended instead, or never was."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    log.seek(0)
    raise RuntimeError(log.read()[-20_000:])


def _ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return one.getsockname()[1], two.getsockname()[1]
