"""Artefacts and pictures for the verbs."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import p3m_edge
from tests.artefacts import make_artefact, picture


@pytest.fixture(scope="session")
def artefact(tmp_path_factory) -> Path:
    """A genuine small artefact for ONNX Runtime; tests must not change it."""
    return make_artefact(tmp_path_factory.mktemp("artefacts") / "onnx")


@pytest.fixture(scope="session")
def damaged_installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package that has no weights and no model: what runs in it imports that copy."""
    folder = tmp_path_factory.mktemp("damaged")
    ignored = shutil.ignore_patterns("*.safetensors", "*.onnx", "__pycache__")
    shutil.copytree(Path(p3m_edge.__file__).parent, folder / "p3m_edge", ignore=ignored)
    return folder


@pytest.fixture
def photo():
    """Write a picture; its suffix decides the format."""

    def write(path: Path, height: int = 40, width: int = 60, seed: int = 1) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = picture(height, width, seed)
        done, data = cv2.imencode(path.suffix, np.ascontiguousarray(pixels[..., ::-1]))
        assert done
        path.write_bytes(data.tobytes())
        return path

    return write
