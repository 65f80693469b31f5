"""``from p3m_edge import remove``: every kind of picture in, the same kind out, one network for a process."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import p3m_edge
from p3m_edge import imageio, remove
from p3m_edge.errors import UsageError
from p3m_edge.imageio import PNG_RESULT_TEXT
from p3m_edge.pictures import removal
from p3m_edge.runtimes import CacheWarning, default
from p3m_edge.runtimes.compose import blur_background, composite, cutout
from tests.icc import ADOBE, rgb_profile

pytest.importorskip("onnxruntime")

PORTRAIT = Path(p3m_edge.__file__).parent / "assets/astronaut.jpg"
RGB = np.ascontiguousarray(np.asarray(Image.open(PORTRAIT))[::2, 100:400:2])
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.getbasetemp() / "empty-cache"
    monkeypatch.setenv("P3M_EDGE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def alpha() -> np.ndarray:
    return removal._network()(RGB)


def png(pixels: np.ndarray, profile: bytes | None = None) -> bytes:
    return imageio.png_bytes(pixels, icc_profile=profile)


def array(image: Image.Image | bytes) -> np.ndarray:
    opened = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else image
    return np.asarray(opened)


def test_the_same_kind_comes_out(alpha, tmp_path):
    before = RGB.copy()
    want = cutout(RGB, alpha)
    assert want[..., 3].min() == 0 < want[..., 3].max()
    path = tmp_path / "a b é.png"
    path.write_bytes(png(RGB))
    image = Image.fromarray(RGB)
    found = {"array": remove(RGB), "image": remove(image), "bytes": remove(png(RGB)), "path": remove(path)}
    found["text"] = remove(str(path))
    assert [type(result) for result in found.values()] == [np.ndarray, *[Image.Image, bytes, Image.Image, Image.Image]]
    for kind, result in found.items():
        pixels = result if isinstance(result, np.ndarray) else array(result)
        np.testing.assert_array_equal(pixels, want, err_msg=kind)
    np.testing.assert_array_equal(RGB, before)
    assert (image.mode, image.size) == ("RGB", (150, 256))
    assert PNG_RESULT_TEXT in remove(png(RGB))


def test_strides_and_channels(alpha):
    np.testing.assert_array_equal(remove(np.asfortranarray(RGB)[::-1][::-1]), cutout(RGB, alpha))
    grey = RGB[..., 0]
    np.testing.assert_array_equal(remove(grey), remove(np.dstack([grey] * 3)))
    np.testing.assert_array_equal(remove(grey[..., None]), remove(grey))


def test_sixteen_bits_stay(alpha):
    deep = RGB.astype(np.uint16) * 257
    np.testing.assert_array_equal(remove(deep), cutout(deep, alpha))
    out = remove(png(deep))
    assert (out[24], out[25]) == (16, 6)  # bits, RGBA
    assert remove(deep, only_alpha=True).dtype == np.uint16


def test_pillow_gets_eight_bits(tmp_path, alpha):
    (tmp_path / "deep.png").write_bytes(png(RGB.astype(np.uint16) * 257))
    result = remove(tmp_path / "deep.png")
    np.testing.assert_array_equal(array(result), cutout(RGB, alpha))


def test_transparent_pictures_stay_so(alpha):
    given = np.full(RGB.shape[:2], 255, np.uint8)
    given[200:] = 0
    image = Image.fromarray(np.dstack([RGB, given]))
    result = array(remove(image))
    assert result[200:, :, 3].max() == 0 < result[:200, :, 3].max()
    np.testing.assert_array_equal(result, remove(np.asarray(image)))
    assert array(remove(image, background="blur")).shape[2] == 4


def test_images_are_turned_and_keep_their_profile():
    profile = rgb_profile(ADOBE)
    buffer = io.BytesIO()
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(buffer, "TIFF", exif=exif, icc_profile=profile)
    opened = Image.open(buffer)
    result = remove(opened)
    assert result.size == (256, 150)
    assert result.info["icc_profile"] == profile
    out = remove(buffer.getvalue())
    np.testing.assert_array_equal(array(out), array(result))
    assert Image.open(io.BytesIO(out)).info["icc_profile"] == profile


def test_backgrounds(alpha, tmp_path):
    green = composite(RGB, alpha, (0, 255, 0))
    for colour in ("lime", [0, 255, 0]):
        np.testing.assert_array_equal(remove(RGB, background=colour), green)
    behind = RGB[:100, ::-1]
    (tmp_path / "behind.png").write_bytes(png(behind))
    kinds = (Image.fromarray(behind), png(behind), str(tmp_path / "behind.png"))
    for kind in kinds:
        np.testing.assert_array_equal(remove(RGB, background=kind), composite(RGB, alpha, behind))
    np.testing.assert_array_equal(remove(RGB, background="blur"), blur_background(RGB, alpha))
    with pytest.raises(UsageError, match="is a video, which pictures cannot have"):
        remove(RGB, background="beach.mp4")


def test_the_alpha_alone(alpha):
    matte = remove(RGB, only_alpha=True)
    np.testing.assert_array_equal(matte, np.rint(alpha * 255))
    assert remove(Image.fromarray(RGB), only_alpha=True).mode == "L"
    with pytest.raises(UsageError, match="has no background"):
        remove(RGB, only_alpha=True, background="white")


def test_people(alpha):
    person = composite(RGB, alpha, (200, 200, 200))
    both = np.hstack([person, np.full((256, 80, 3), 200, np.uint8), person])
    matte = remove(both, only_alpha=True)
    assert min(matte[:, :150].max(), matte[:, 230:].max()) == 255
    right = remove(both, only_alpha=True, people=(300.0, 200.0))
    assert right[:, :150].max() == 0
    np.testing.assert_array_equal(right[:, 230:], matte[:, 230:])


def test_one_network_whichever_thread_comes_first():
    network = removal._Network()
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: network(), range(8)))
        assert len(set(map(id, opened))) == 1
        results = list(pool.map(lambda _: remove(RGB), range(4)))
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    opened[0].close()


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_goes_on():
    code = """
import os, sys, threading, warnings
sys.modules.update(dict.fromkeys(("torch", "onnx", "openvino")))
warnings.simplefilter("ignore", DeprecationWarning)
import numpy as np
from p3m_edge import remove
from p3m_edge.pictures import removal
frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
want = remove(frame)
removal._network._lock.acquire()  # as a thread would hold it that opens the network
if (pid := os.fork()) == 0:
    assert np.array_equal(remove(frame), want)
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
removal._network._lock.release()
assert np.array_equal(remove(frame), want)
print("done")
"""
    assert run(code) == "done\n"


def test_importing_the_package_imports_nothing():
    code = "import sys, typing; old = {*sys.modules}; import p3m_edge; print(*sorted({*sys.modules} - old))"
    assert run(code) == "p3m_edge\n"
    assert run("from p3m_edge import remove; import sys; print('onnxruntime' in sys.modules)") == "False\n"
    with pytest.raises(AttributeError, match="no attribute 'removed'"):
        p3m_edge.removed  # type: ignore[attr-defined]  # noqa: B018 - that is what is tested


def test_no_home_for_a_cache(monkeypatch):
    monkeypatch.delenv("P3M_EDGE_CACHE")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert default.artefact() == default.bundled()


def test_a_damaged_artefact_in_the_cache_is_passed_over(cache):
    pytest.importorskip("openvino")
    place = default.places()[0]
    assert (place.name, place.is_relative_to(cache)) == ("openvino-fp32", True)
    place.mkdir(parents=True)
    try:
        with pytest.warns(CacheWarning, match=r"damaged: .* holds no manifest\.json"):
            assert default.artefact() == default.bundled()
    finally:
        place.rmdir()
