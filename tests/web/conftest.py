"""ONNX Runtime Web as its npm package, once for all workers; sites; a browser whose camera plays a clip.

The camera is Chromium's own, which plays a file; WebGPU is its software adapter. ``P3M_EDGE_SCREENSHOTS`` names a
folder where the screenshots are kept; otherwise they are in pytest's own.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from p3m_edge.runtimes import default
from p3m_edge.web import runtime
from p3m_edge.web.build import build
from p3m_edge.web.server import address, server
from tests.artefacts import make_artefact
from tests.conftest import SHARED, Once
from tests.portraits import ASTRONAUT
from tests.web.pages import HEIGHT, WIDTH, Clip

CLIP = SHARED / "data" / "clips" / "asl_book" / "clip.mkv"
FRAMES = 12
GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--disable-gpu-compositing")


@pytest.fixture(scope="session")
def package(once: Once) -> Path:
    """The folder that ``P3M_EDGE_ORT_WEB`` names, or what ``npm pack`` fetches."""
    if named := os.environ.get("P3M_EDGE_ORT_WEB"):
        return Path(named)
    folder = once("npm", _npm_pack) / "package"
    if not folder.is_dir():
        pytest.skip(f"npm is not on PATH, or npm pack {runtime.NAME}@{runtime.VERSION} fails here")
    return folder


def _npm_pack(folder: Path) -> None:
    """The package, unpacked; nothing where it cannot be had."""
    command = ["npm", "pack", "--fetch-retries=1", "--fetch-timeout=30000", f"{runtime.NAME}@{runtime.VERSION}"]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, timeout=180, check=True)
    except (OSError, subprocess.SubprocessError):
        return
    with tarfile.open(folder / f"{runtime.NAME}-{runtime.VERSION}.tgz") as archive:
        archive.extractall(folder, filter="data")


def _clip() -> Iterator[Any]:
    """Frames of a real clip; where there is none, of the portrait that the package has, moved."""
    av: Any = pytest.importorskip("av")
    if CLIP.is_file():
        with av.open(str(CLIP)) as container:
            for frame, _ in zip(container.decode(video=0), range(FRAMES), strict=False):
                yield frame
        return
    portrait = cv2.imread(str(ASTRONAUT))
    assert portrait is not None
    for step in range(FRAMES):
        yield av.VideoFrame.from_ndarray(np.roll(portrait, 4 * step, axis=1), format="bgr24")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """What the camera plays: a file of Y4M, and its frames."""
    path, frames = tmp_path_factory.mktemp("clip") / "clip.y4m", []
    with path.open("wb") as stream:
        stream.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F15:1 Ip A1:1 C420jpeg\n".encode())
        for frame in _clip():
            planes = frame.reformat(WIDTH, HEIGHT, "yuv420p").to_ndarray()
            frames.append(cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420).astype(np.uint8))
            stream.write(b"FRAME\n" + planes.tobytes())
    return path, frames


@pytest.fixture(scope="session")
def binary() -> str:
    """The browser's program."""
    if os.name != "posix":
        pytest.skip("the browser's pipe needs POSIX")
    from tests.browser import NAMES, find

    found = find()
    if found is None:
        pytest.skip(f"no browser on PATH ({', '.join(NAMES)})")
    return found


@pytest.fixture(scope="module")
def browser(binary: str, tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> Iterator[Any]:
    """With a camera and WebGPU."""
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    flags = (*GPU, *camera, f"--use-file-for-fake-video-capture={clip[0]}")
    from tests.browser import Browser

    with Browser(binary, tmp_path_factory.mktemp("profile"), flags) as opened:
        yield opened


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder for sites, and the address of its server."""
    folder = tmp_path_factory.mktemp("sites")
    with server(folder) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield folder, address(listening)
        listening.shutdown()


@pytest.fixture(scope="module")
def page(served: tuple[Path, str], package: Path, binary: str) -> str:
    """The address of the site of the package's artefact."""
    build(default.bundled(), served[0] / "shipped", package)
    return served[1] + "shipped/"


@pytest.fixture(scope="module")
def tiny(served: tuple[Path, str], package: Path, binary: str) -> tuple[Path, str]:
    """An artefact of a small network in float32, of all outputs, and the address of its site."""
    pytest.importorskip("onnx")
    artefact = make_artefact(served[0] / "art", size=(64, 64))
    build(artefact, served[0] / "tiny", package)
    return artefact, served[1] + "tiny/"


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("P3M_EDGE_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
