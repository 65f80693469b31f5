"""Small colour profiles with known mathematics: matrices with a gamma, grey with a gamma, and tables."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Columns: red, green and blue in XYZ under D50, as the profiles of these spaces give them.
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
D50 = (0.9642, 1.0, 0.8249)


def rgb_profile(matrix: NDArray[np.float64], gamma: float = 2.2) -> bytes:
    """A display's profile."""
    columns = {name: _xyz(matrix[:, index]) for index, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return _profile(b"mntr", b"RGB ", b"XYZ ", columns | {name: _gamma(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")})


def grey_profile(gamma: float) -> bytes:
    """A profile of grey."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _gamma(gamma)})


def table_profile(space: bytes, channels: int, lab: ArrayLike) -> bytes:
    """One direction alone, to Lab: ``lab`` has a row of 3 bytes for each corner of the channels' cube, in order."""
    head = struct.pack(">4sIBBBx", b"mft1", 0, channels, 3, 2) + np.eye(3).ravel().astype(">i4").tobytes()
    ramp = bytes(range(256))
    corners = np.asarray(lab, dtype=np.uint8)
    assert corners.shape == (2**channels, 3)
    return _profile(b"prtr", space, b"Lab ", {b"A2B0": head + ramp * channels + corners.tobytes() + ramp * 3})


def to_srgb(colours: ArrayLike, matrix: NDArray[np.float64], gamma: float = 2.2) -> NDArray[np.float64]:
    """0..1 in, 0..1 out, cut off at the borders of sRGB."""
    linear = np.asarray(colours, dtype=np.float64) ** gamma @ (np.linalg.inv(SRGB) @ matrix).T
    return encoded(linear)


def encoded(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """The transfer function of sRGB."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(78)
    tags = {b"desc": text, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _xyz(D50), **tags}
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(content), bytes(4), 0x02400000, kind, space, connection)
    head += struct.pack(">6H4s", 2020, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(D50)
    return head.ljust(128, b"\0") + table + content


def _fixed(values: ArrayLike) -> bytes:
    return bytes(np.rint(np.asarray(values) * 65536).astype(">i4").tobytes())


def _xyz(values: ArrayLike) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _gamma(gamma: float) -> bytes:
    return b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))
