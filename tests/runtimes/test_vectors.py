"""Golden vectors that somebody made: whatever the archive is, one clear error, and no more memory than the input."""

from __future__ import annotations

import io
import json
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from p3m_edge import manifest as manifests
from p3m_edge.cli import main
from p3m_edge.errors import ArtefactError
from p3m_edge.runtimes import golden
from tests.artefacts import edit_manifest, make_artefact, rehash

HEIGHT, WIDTH = 64, 96
Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artefact(tmp_path_factory.mktemp("artefacts") / "onnx-fp32", size=(HEIGHT, WIDTH))


@pytest.fixture
def arrays(artefact: Path) -> Arrays:
    with np.load(artefact / manifests.GOLDEN) as archive:
        return dict(archive)


def npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(text: str, version: int = 1) -> bytes:
    """An array of NumPy's format that is nothing but a header."""
    length = struct.pack("<H" if version == 1 else "<I", len(text) + 1)
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode() + b"\n"


def packed(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return stream.getvalue()


def of(arrays: Arrays, **changes: NDArray[Any] | bytes | None) -> bytes:
    """The archive with other members; None: without it."""
    members = {name: npy(array) for name, array in arrays.items()}
    members |= {
        name: value if isinstance(value, bytes) else npy(value) for name, value in changes.items() if value is not None
    }
    return packed({name: data for name, data in members.items() if changes.get(name, b"") is not None})


def encrypted(arrays: Arrays) -> bytes:
    """With the mark of encryption on every member."""
    data = bytearray(packed({name: npy(array) for name, array in arrays.items()}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(mark)
        while start >= 0:
            data[start + place] |= 1
            start = data.find(mark, start + 4)
    return bytes(data)


def damaged(arrays: Arrays) -> bytes:
    """With noise in place of what was deflated, so that it cannot be unpacked."""
    data = bytearray(packed({name: npy(array) for name, array in arrays.items()}))
    name = struct.unpack("<H", data[26:28])[0] + struct.unpack("<H", data[28:30])[0]
    data[30 + name : 30 + name + 64] = b"\xff" * 64
    return bytes(data)


def method(arrays: Arrays) -> bytes:
    """With a compression that nobody knows."""
    data = bytearray(packed({name: npy(array) for name, array in arrays.items()}))
    start = data.find(b"PK\x01\x02")
    while start >= 0:
        data[start + 10 : start + 12] = struct.pack("<H", 77)
        start = data.find(b"PK\x01\x02", start + 4)
    return bytes(data)


FRAME = f"(1, {HEIGHT}, {WIDTH}, 3)"
SHAPED = "{{'descr': '|u1', 'fortran_order': False, 'shape': {}, }}"
CRAFTED: dict[str, tuple[Callable[[Arrays], bytes], str]] = {
    "deflated noise": (damaged, "decompressing|invalid"),
    "encrypted": (encrypted, "encrypted"),
    "an unknown compression": (method, "compression"),
    "a bare array": (lambda arrays: npy(arrays["image_0"]), "not a zip file"),
    "a pickle": (lambda _: b"\x80\x04\x95\x0c\0\0\0\0\0\0\0]\x94.", "not a zip file"),
    "nothing": (lambda _: b"", "not a zip file"),
    "an empty archive": (lambda _: packed({}), "no pictures"),
    "no picture": (lambda arrays: packed({"alpha_0": npy(arrays["alpha_0"])}), "no pictures"),
    "many pictures": (lambda _: packed({f"image_{i}": b"" for i in range(1000)}), "1000 pictures"),
    "a gap": (lambda arrays: of(arrays, image_0=None), r"image_0\.npy"),
    "no logits": (lambda arrays: of(arrays, global_logits_1=None), r"global_logits_1\.npy"),
    "text": (lambda arrays: of(arrays, alpha_0=np.array(["0.5"])), "alpha_0 is <U3, not float32"),
    "complex": (lambda a: of(a, alpha_0=a["alpha_0"].astype(np.complex64)), "alpha_0 is complex64, not float32"),
    "double": (lambda a: of(a, alpha_0=a["alpha_0"].astype(np.float64)), "alpha_0 is float64, not float32"),
    "a float frame": (lambda a: of(a, image_0=a["image_0"].astype(np.float32)), "image_0 is float32, not uint8"),
    "records": (lambda a: of(a, image_0=np.zeros(3, [("a", "u1"), ("b", "f4")])), "image_0 is .*, not uint8"),
    "objects": (
        lambda a: of(a, image_0=header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }")),
        "image_0 is object, not uint8",
    ),
    "a grey frame": (lambda a: of(a, image_0=a["image_0"][..., 0]), "image_0 does not fit the manifest's input"),
    "another size": (lambda a: of(a, image_0=a["image_0"][:, :32]), "image_0 does not fit the manifest's input"),
    "another batch": (lambda a: of(a, image_0=np.repeat(a["image_0"], 2, 0)), "image_0 does not fit"),
    "another alpha": (lambda a: of(a, alpha_1=a["alpha_1"][:, :, 1:]), "alpha_1 does not fit image_1"),
    "no header": (lambda a: of(a, image_0=b"none"), "magic|EOF"),
    "a strange version": (lambda a: of(a, image_0=b"\x93NUMPY\x09\x00" + bytes(100)), "Cannot parse|header|magic|EOF"),
    "a header of code": (lambda a: of(a, image_0=header("__import__('os').getpid()")), "malformed|header"),
    "a nested header": (lambda a: of(a, image_0=header("(" * 9000)), "."),
    "a header of 4 GB": (lambda a: of(a, image_0=b"\x93NUMPY\x02\x00" + b"\xff" * 4), "EOF|header"),
    "a huge shape": (
        lambda a: of(a, image_0=header(SHAPED.format(f"({10**12}, 64, 96, 3)"))),
        "does not fit",
    ),
    "a negative shape": (
        lambda a: of(a, image_0=header(SHAPED.format("(-1, 64, 96, 3)"))),
        "does not fit",
    ),
    "too few values": (
        lambda a: of(a, image_0=header(SHAPED.format(FRAME))),
        "has not the bytes",
    ),
    "too many values": (lambda a: of(a, image_0=npy(a["image_0"]) + b"x"), "has not the bytes"),
}  # fmt: skip


@pytest.mark.parametrize(("craft", "message"), CRAFTED.values(), ids=CRAFTED)
def test_a_crafted_archive_is_an_artefact_error(artefact, arrays, tmp_path, craft, message):
    (tmp_path / manifests.GOLDEN).write_bytes(craft(arrays))
    with pytest.raises(ArtefactError, match=rf"golden\.npz cannot be read: .*({message})") as caught:
        golden.read(tmp_path, manifests.read(artefact))
    assert "\n" not in str(caught.value)


def test_verify_ends_with_code_5(arrays, tmp_path, capsys):
    folder = make_artefact(tmp_path / "onnx-fp32", size=(HEIGHT, WIDTH))
    (folder / manifests.GOLDEN).write_bytes(encrypted(arrays))
    rehash(folder)
    assert main(["verify", str(folder), "--json"]) == 5
    document = json.loads(capsys.readouterr().out)
    assert "encrypted" in document["error"]["message"]


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "missing"])
def test_what_is_no_file_is_not_waited_for(artefact, tmp_path, kind):
    path = tmp_path / manifests.GOLDEN
    if kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no named pipes here")
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(ArtefactError, match=r"golden\.npz cannot be read"):
        golden.read(tmp_path, manifests.read(artefact))


def test_a_bomb_is_not_unpacked(artefact, tmp_path):
    """256 MB of zeros in 256 kB: no more of them than the picture has."""
    path = tmp_path / manifests.GOLDEN
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("image_0.npy", "w") as member,
    ):
        member.write(header(SHAPED.format(FRAME)))
        for _ in range(64):
            member.write(bytes(4 * 1024 * 1024))
    tracemalloc.start()
    with pytest.raises(ArtefactError, match="image_0 has not the bytes"):
        golden.read(tmp_path, manifests.read(artefact))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


def test_fortran_order_and_stored_members_are_read(artefact, arrays, tmp_path):
    members = {name: npy(np.asfortranarray(array)) for name, array in arrays.items()}
    (tmp_path / manifests.GOLDEN).write_bytes(packed(members, zipfile.ZIP_STORED))
    found = golden.read(tmp_path, manifests.read(artefact))
    for index, vector in enumerate(found):
        np.testing.assert_array_equal(vector.image, arrays[f"image_{index}"])
        for name, array in vector.outputs.items():
            np.testing.assert_array_equal(array, arrays[f"{name}_{index}"])
            assert array.flags.writeable


def test_a_dynamic_artefact_has_pictures_of_any_size(tmp_path):
    folder = make_artefact(tmp_path / "onnx-fp32", size=None)
    assert [vector.image.shape for vector in golden.read(folder, manifests.read(folder))] == [(1, 64, 96, 3)] * 2
    edit_manifest(folder, input__width=64)
    with pytest.raises(ArtefactError, match="image_0 does not fit the manifest's input"):
        golden.read(folder, manifests.read(folder))
