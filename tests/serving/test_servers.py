"""Repositories on real servers, over HTTP and gRPC: golden frames in, golden alphas out.

Triton is the server of NVIDIA's package ``nvidia-pytriton``, which reads the repository as it stands; the package has
no backend for ONNX Runtime, so one in Python takes its place (``helpers/triton_backend.py``). MLServer reads no
repository of Triton: a model of its own runs the repository's file (``helpers/mlserver_model.py``).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from p3m_edge import manifest as manifests
from p3m_edge.runtimes import golden
from p3m_edge.serving.client import matte
from p3m_edge.serving.repository import build
from p3m_edge.serving.triton import Schedule
from tests.artefacts import make_artefact
from tests.serving import graphs, servers

pytest.importorskip("onnx")
BATCH = 4


class Served(NamedTuple):
    """A server, and what it serves."""

    name: str
    addresses: servers.Addresses
    artefact: Path
    repository: Path


@pytest.fixture(scope="module", params=["triton", "mlserver"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    servers.site_packages()
    folder = tmp_path_factory.mktemp(request.param)
    artefact = make_artefact(folder / "art", size=(64, 96), breaking=graphs.resized)
    assert build(artefact, folder / "models", "triton", Schedule(BATCH, delay=1_000_000)).max_batch == BATCH
    (folder / "place").mkdir()
    with getattr(servers, request.param)(folder / "models", folder / "place") as addresses:
        yield Served(request.param, addresses, artefact, folder / "models")


def vectors(artefact: Path) -> tuple[golden.GoldenVector, ...]:
    return golden.read(artefact, manifests.read(artefact))


def grpc() -> Any:
    return pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")


def infer(client: Any, images: np.ndarray[Any, Any]) -> dict[str, Any]:
    image = grpc().InferInput("image", list(images.shape), "UINT8")
    image.set_data_from_numpy(images)
    found = client.infer("matting", [image])
    return {output.name: found.as_numpy(output.name) for output in found.get_response().outputs}


def test_golden_frames_give_the_golden_alphas_over_http(served: Served) -> None:
    for vector in vectors(served.artefact):
        alpha = matte(served.addresses.http, np.ascontiguousarray(vector.image[0, ..., ::-1]))
        assert np.abs(alpha - vector.outputs["alpha"][0, 0]).max() < 1e-4


def test_golden_frames_give_all_golden_outputs_over_grpc(served: Served) -> None:
    manifest = manifests.read(served.artefact)
    limits = golden.limits_of(manifest)
    with grpc().InferenceServerClient(served.addresses.grpc) as client:
        items = [
            golden.compare(f"golden {index}", vector.outputs, infer(client, vector.image), limits.pixel_tolerance)
            for index, vector in enumerate(vectors(served.artefact))
        ]
        verdict = golden.judge(tuple(items), limits)
        assert verdict.passed, verdict.failures
        one, two = (vector for vector in vectors(served.artefact))
        both = infer(client, np.concatenate([two.image, one.image]))["alpha"]
        assert np.abs(both - np.concatenate([two.outputs["alpha"], one.outputs["alpha"]])).max() < 1e-4


def test_the_client_as_a_user_starts_it_writes_an_alpha(served: Served, tmp_path: Path) -> None:
    vector = vectors(served.artefact)[0]
    cv2.imwrite(str(tmp_path / "frame.png"), vector.image[0, ..., ::-1])
    words = [sys.executable, served.repository / "client.py", served.addresses.http, "frame.png", "alpha.png"]
    subprocess.run([*map(str, words)], cwd=tmp_path, check=True, timeout=servers.PATIENCE)
    alpha = cv2.imread(str(tmp_path / "alpha.png"), cv2.IMREAD_UNCHANGED)
    assert alpha is not None
    assert np.abs(alpha / 255 - vector.outputs["alpha"][0, 0]).max() < 0.003


def test_triton_joins_requests_and_refuses_more_than_its_batch(served: Served) -> None:
    if served.name != "triton":
        pytest.skip("MLServer joins no requests by this repository")
    module, image = grpc(), vectors(served.artefact)[0].image
    with module.InferenceServerClient(served.addresses.grpc) as client:
        config = client.get_model_config("matting").config
        assert (config.max_batch_size, len(config.model_warmup)) == (BATCH, 4)
        with ThreadPoolExecutor(BATCH) as pool:
            assert len([*pool.map(lambda _: infer(client, image), range(BATCH))]) == BATCH
        (found,) = client.get_inference_statistics("matting").model_stats
        assert max(each.batch_size for each in found.batch_stats) > 1
        with pytest.raises(Exception, match="batch-size must be <= 4"):
            infer(client, np.concatenate([image] * (BATCH + 1)))


def test_triton_reads_the_warm_up_and_loads_no_model_without(tmp_path: Path) -> None:
    servers.site_packages()
    build(make_artefact(tmp_path / "art", size=(32, 32)), tmp_path / "models", "triton")
    frame = tmp_path / "models/matting/warmup/golden_1"
    frame.write_bytes(frame.read_bytes()[:-1])
    (tmp_path / "place").mkdir()
    with (
        pytest.raises(RuntimeError, match="warmup setting expects 3072 bytes"),
        servers.triton(tmp_path / "models", tmp_path / "place"),
    ):
        pass
