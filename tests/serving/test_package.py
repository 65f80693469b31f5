"""``p3m-edge package`` without a server: what is written, that batches are checked, what is refused."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from p3m_edge.errors import MissingError
from p3m_edge.manifest import GOLDEN, MANIFEST
from p3m_edge.serving import client
from p3m_edge.serving.client import matte
from p3m_edge.serving.repository import build
from p3m_edge.serving.triton import Schedule
from tests.artefacts import edit_manifest, make_artefact, picture, rehash, scale_constant
from tests.portraits import ASTRONAUT
from tests.serving import graphs

pytest.importorskip("onnx")


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def parsed(out: Path) -> Any:
    """``config.pbtxt`` as Triton's own protobuf reads it."""
    reason = "tritonclient is not installed"
    config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason=reason).ModelConfig()
    return pytest.importorskip("google.protobuf.text_format").Parse((out / "matting/config.pbtxt").read_text(), config)


def test_a_repository_for_triton(tmp_path: Path, command_line) -> None:
    artefact = make_artefact(tmp_path / "art", size=(32, 64), breaking=graphs.resized)
    words = ["package", artefact, "--layout", "triton", "--out", tmp_path / "new" / "models"]
    done = command_line(*words, "--max-batch", 6, "--delay", 500, "--instances", 3, "--json")
    assert done.returncode == 0, done.stderr
    said, out = json.loads(done.stdout), tmp_path / "new" / "models"
    found = files(out)
    assert set(found) == {"SERVING.txt", "client.py"} | {
        f"matting/{name}"
        for name in ("1/model.onnx", "LICENCE.txt", "config.pbtxt", MANIFEST, "warmup/golden_0", "warmup/golden_1")
    }
    assert [path.name for path in out.parent.iterdir()] == ["models"]
    assert (said["max_batch"], said["fixed"], said["bytes"]) == (6, None, sum(map(len, found.values())))
    assert said["agreement"]["frames"] == 4
    assert said["agreement"]["difference"] < 1e-5
    assert found[f"matting/{MANIFEST}"] == (artefact / MANIFEST).read_bytes()
    assert said["start"] in found["SERVING.txt"].decode()
    with np.load(artefact / GOLDEN) as golden:
        assert found["matting/warmup/golden_1"] == golden["image_1"].tobytes()

    import onnxruntime

    session = onnxruntime.InferenceSession(str(out / "matting/1/model.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 32, 64, 3]
    assert command_line(*words).returncode == 1
    assert files(out) == found
    again = tmp_path / "again"
    for batch in (2, 1):
        force = ["--force"] * (batch == 1)
        done = command_line(*words[:-1], again, "--max-batch", batch, *force)
        assert (done.returncode, "warning" in done.stderr) == (0, False)
        same = (again / "matting/1/model.onnx").read_bytes() == (artefact / "model.onnx").read_bytes()
        assert same == (batch == 1)

    config = parsed(out)
    assert (config.backend, config.default_model_filename, config.max_batch_size) == ("onnxruntime", "model.onnx", 6)
    assert [(i.name, i.data_type, [*i.dims]) for i in config.input] == [("image", 2, [32, 64, 3])]
    assert [(o.name, o.data_type, [*o.dims]) for o in config.output] == [
        ("alpha", 11, [1, 32, 64]), ("local_alpha", 11, [1, 32, 64]), ("global_logits", 11, [3, 32, 64]),
    ]  # fmt: skip
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert [(g.count, g.kind) for g in config.instance_group] == [(3, 0)]
    warm = [(w.batch_size, w.inputs["image"].input_data_file, [*w.inputs["image"].dims]) for w in config.model_warmup]
    assert warm == [(n, f"golden_{i}", [32, 64, 3]) for i in (0, 1) for n in (1, 6)]


@pytest.mark.parametrize(
    ("breaking", "why"),
    [(graphs.joined, "the graph is for one frame"), (graphs.mixed, "limit"), (graphs.averaged, "gives [1] mattes")],
)
def test_a_file_that_is_wrong_with_several_frames_keeps_its_one(breaking, why, tmp_path: Path, command_line) -> None:
    artefact = make_artefact(tmp_path / "art", size=(32, 32), breaking=breaking)
    done = command_line("package", artefact, "--layout", "triton", "--out", tmp_path / "models")
    assert done.returncode == 0
    assert "joins no requests" in done.stderr
    assert why in done.stderr
    assert (tmp_path / "models/matting/1/model.onnx").read_bytes() == (artefact / "model.onnx").read_bytes()
    assert why in (tmp_path / "models/SERVING.txt").read_text()
    config = parsed(tmp_path / "models")
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert [[*tensor.dims] for tensor in (config.input[0], config.output[0])] == [[1, 32, 32, 3], [1, 1, 32, 32]]
    assert {warm.batch_size for warm in config.model_warmup} == {1}


@pytest.mark.parametrize("batch", [1, 8])
def test_a_file_that_does_not_give_the_golden_alphas_becomes_no_repository(batch, tmp_path: Path, command_line) -> None:
    artefact = make_artefact(tmp_path / "art", size=(32, 32), breaking=scale_constant("local.weight", 1.5))
    done = command_line("package", artefact, "--layout", "triton", "--out", tmp_path / "models", "--max-batch", batch)
    assert (done.returncode, "golden 0" in done.stderr) == (3, True)
    (artefact / "model.onnx").write_bytes(b"no model")
    rehash(artefact)
    done = command_line("package", artefact, "--layout", "triton", "--out", tmp_path / "models", "--max-batch", batch)
    assert (done.returncode, "cannot load" in done.stderr) == (5, True)
    assert [path.name for path in tmp_path.iterdir()] == ["art"]


def test_sizes_and_batches_of_the_artefact_are_those_of_the_configuration(tmp_path: Path) -> None:
    build(make_artefact(tmp_path / "any", size=None), tmp_path / "one", "triton")
    assert [*parsed(tmp_path / "one").input[0].dims] == [-1, -1, 3]
    two = make_artefact(tmp_path / "two", size=(32, 32), batch=2)
    assert build(two, tmp_path / "pairs", "triton").max_batch == 2
    config = parsed(tmp_path / "pairs")
    assert (config.max_batch_size, [*config.input[0].dims]) == (0, [2, 32, 32, 3])
    assert len((tmp_path / "pairs/matting/warmup/golden_0").read_bytes()) == 2 * 32 * 32 * 3


@pytest.mark.parametrize("breaking", [graphs.resized, graphs.mixed])
def test_a_repository_for_openvino_model_server(breaking, tmp_path: Path) -> None:
    """No server reads it here; what it would load, OpenVINO does."""
    openvino = pytest.importorskip("openvino")
    artefact = make_artefact(tmp_path / "art", "openvino", size=(32, 64), breaking=breaking)
    packaged = build(artefact, tmp_path / "models", "ovms", Schedule(batch=5))
    (served,) = json.loads((tmp_path / "models/config.json").read_text())["model_config_list"]
    folder = tmp_path / "models" / served["config"]["base_path"] / "1"
    assert {path.name for path in folder.iterdir()} == {"model.xml", "model.bin"}
    model = openvino.Core().read_model(folder / "model.xml")
    free = breaking is graphs.resized
    assert str(model.inputs[0].get_partial_shape()) == ("[1..5,32,64,3]" if free else "[1,32,64,3]")
    assert (packaged.agreement is not None) == free
    with np.load(artefact / GOLDEN) as golden:
        frames = np.concatenate([golden["image_0"], golden["image_1"]]) if free else golden["image_0"]
        found = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(frames)["alpha"]
        assert np.abs(found[:1] - golden["alpha_0"]).mean() < 1e-4
        assert not free or np.abs(found[1:] - golden["alpha_1"]).mean() < 1e-4


def test_what_a_server_cannot_run_is_refused(tmp_path: Path, command_line) -> None:
    onnx = make_artefact(tmp_path / "onnx", size=(32, 32))
    artefacts = {"coreml": make_artefact(tmp_path / "coreml", "coreml", size=(32, 32)), "onnxruntime": onnx}
    refused = [("triton", "coreml", "--target onnx-fp32"), ("ovms", "coreml", "--target openvino-fp32")]
    for layout, engine, hint in [*refused, ("ovms", "onnxruntime", "--layout triton")]:
        done = command_line("package", artefacts[engine], "--layout", layout, "--out", tmp_path / "models")
        assert done.returncode == 2
        assert f"is for {engine}" in done.stderr
        assert hint in done.stderr
    assert "inside of" in command_line("package", onnx, "--layout", "triton", "--out", onnx / "new").stderr
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("mine")
    for force in ([], ["--force"]):
        assert command_line("package", onnx, "--layout", "triton", "--out", mine, *force).returncode == 1
    edit_manifest(onnx, smoothing=0.3)
    done = command_line("package", onnx, "--layout", "triton", "--out", tmp_path / "models")
    assert (done.returncode, "many clients" in done.stderr) == (2, True)
    edit_manifest(onnx, smoothing=None)
    (onnx / "model.onnx").write_bytes((onnx / "model.onnx").read_bytes()[:-1])
    assert command_line("package", onnx, "--layout", "triton", "--out", tmp_path / "models").returncode == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coreml", "mine", "onnx"]
    assert files(mine) == {"letter.txt": b"mine"}


def test_without_onnx_the_file_can_still_be_served_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artefact = make_artefact(tmp_path / "art", size=(32, 32))
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingError, match="'onnx'"):
        build(artefact, tmp_path / "models", "triton")
    assert not (tmp_path / "models").exists()
    assert build(artefact, tmp_path / "models", "triton", Schedule(batch=1)).max_batch == 1


IMAGE = {"name": "image", "datatype": "FP32", "shape": [-1, 3, 32, 32]}
SERVERS: dict[str, dict[str, bytes]] = {
    "of version 1": {"/v1/models/matting": b'{"name": "matting", "ready": true}'},
    "of another kind": {"/v2": b"<html>"},
    "without an object": {"/v2": b"[]"},
    "of another model": {
        "/v2": b'{"extensions": []}',
        "/v2/models/matting": json.dumps({"inputs": [IMAGE]}).encode(),
    },
    "without inputs": {"/v2": b"{}", "/v2/models/matting": b'{"inputs": []}'},
}


@contextmanager
def answering(answers: dict[str, bytes]) -> Iterator[str]:
    """A server that gives these bodies, by path; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_message: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def call(*words: object) -> subprocess.CompletedProcess[str]:
    """The client as its users call it."""
    return subprocess.run([sys.executable, client.__file__, *map(str, words)], capture_output=True, encoding="utf-8")


@pytest.mark.parametrize("which", SERVERS)
def test_the_client_says_so_where_a_server_speaks_another_version(which: str) -> None:
    told = "by version 2 of the KServe protocol"
    with answering(SERVERS[which]) as address, pytest.raises(ValueError, match=told):
        matte(address, picture(48, 48))


def test_the_client_writes_the_alpha_or_says_that_it_cannot(tmp_path: Path) -> None:
    image = {"name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}
    alpha = {"outputs": [{"name": "alpha", "data": [0.2] * 1024}]}
    answers = {"/v2": {}, "/v2/models/matting": {"inputs": [image]}, "/v2/models/matting/infer": alpha}
    with answering({path: json.dumps(body).encode() for path, body in answers.items()}) as address:
        assert call(address, ASTRONAUT, tmp_path / "alpha.png").returncode == 0
        for out in (tmp_path / "none" / "alpha.png", tmp_path / "alpha.nothing"):
            done = call(address, ASTRONAUT, out)
            assert (done.returncode, bool(done.stderr), "Traceback" in done.stderr) == (1, True, False)
    assert [path.name for path in tmp_path.iterdir()] == ["alpha.png"]
    written = cv2.imread(str(tmp_path / "alpha.png"), cv2.IMREAD_GRAYSCALE)
    assert written is not None
    assert written.shape == (512, 512)
    assert (written == 51).all()


def test_the_client_says_so_where_no_server_is(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ValueError, match="refused"):
        matte(address, picture(48, 48))
    for words, told in (
        ([address, ASTRONAUT, tmp_path / "alpha.png"], "refused"),
        ([address, tmp_path / "none.png", tmp_path / "alpha.png"], "gives no frame"),
        ([address], "HOST:PORT"),
    ):
        done = call(*words)
        assert (done.returncode, told in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr
    assert not (tmp_path / "alpha.png").exists()


@pytest.mark.parametrize(
    "frame", [None, np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_the_client_says_what_is_no_frame(frame: Any) -> None:
    with pytest.raises(ValueError, match="a frame is an array"):
        matte("127.0.0.1:1", frame)
