"""``Matting`` from the app's side: frames of all kinds, several at once, in order, at any size."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_edge.errors import ArtefactError, InputError, UsageError
from p3m_edge.preprocess import from_network, to_network
from p3m_edge.refine import guide, refine
from p3m_edge.runtimes import Matting, MattingInfo
from tests.artefacts import edit_manifest, make_artefact, picture

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

HEIGHT, WIDTH = 64, 96


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artefact(tmp_path_factory.mktemp("fixed") / "artefact", size=(HEIGHT, WIDTH))


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artefact(tmp_path_factory.mktemp("dynamic") / "artefact", size=None)


@pytest.fixture(scope="module")
def matting(artefact: Path) -> Iterator[Matting]:
    with Matting(artefact, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def any_size(dynamic: Path) -> Iterator[Matting]:
    with Matting(dynamic, threads=1) as opened:
        yield opened


class TestFrames:
    @pytest.mark.parametrize("refined", [False, True])
    def test_is_preprocessing_then_engine_then_postprocessing(self, artefact: Path, refined: bool) -> None:
        frame = picture(120, 200)
        image, geometry = to_network(frame, HEIGHT, WIDTH)
        with Matting(artefact, threads=1, refine=refined) as matting:
            network = matting.engine.infer(image[np.newaxis])["alpha"][0, 0]
            grey = guide(frame, image, geometry, "RGB")
            expected = refine(network, geometry, grey) if refined else from_network(network, geometry)
            np.testing.assert_array_equal(matting(frame), expected)

    @pytest.mark.parametrize("size", [(1, 1), (1, 500), (64, 96), (63, 97), (300, 20), (2000, 1600)], ids=str)
    def test_answers_at_the_size_of_the_frame(self, matting: Matting, size: tuple[int, int]) -> None:
        frame = picture(*size)
        before = frame.copy()
        alpha = matting(frame)
        assert alpha.shape == size
        assert alpha.dtype == np.float32
        assert alpha.min() >= 0
        assert alpha.max() <= 1
        np.testing.assert_array_equal(frame, before)

    def test_a_frame_of_8000x6000(self, matting: Matting) -> None:
        frame = np.broadcast_to(np.uint8(90), (6000, 8000, 3))
        assert matting(frame).shape == (6000, 8000)

    def test_float_frames_give_the_alpha_of_their_uint8_twin(self, matting: Matting) -> None:
        frame = picture(120, 200)
        for dtype in (np.float32, np.float64):
            np.testing.assert_array_equal(matting(frame / dtype(255)), matting(frame))

    def test_views_give_the_alpha_of_their_copy(self, matting: Matting) -> None:
        frame = picture(240, 400)
        views = [frame[::2, ::2], frame[:, ::-1], frame[::-1], frame.transpose(1, 0, 2), frame[10:74, 5:101]]
        for view in views:
            np.testing.assert_array_equal(matting(view), matting(view.copy()))

    def test_bgr(self, artefact: Path, matting: Matting) -> None:
        for frame in (picture(120, 200), picture(HEIGHT, WIDTH)):
            with Matting(artefact, threads=1, colour="BGR") as bgr:
                np.testing.assert_array_equal(bgr(frame[..., ::-1].copy()), matting(frame))
                np.testing.assert_array_equal(bgr(frame[..., ::-1]), matting(frame))
                assert np.any(bgr(frame) != matting(frame))

    def test_uint8(self, artefact: Path, matting: Matting) -> None:
        frame = picture(120, 200)
        with Matting(artefact, threads=1, dtype="uint8") as small:
            alpha = small(frame)
            assert alpha.dtype == np.uint8
            np.testing.assert_array_equal(alpha, np.rint(matting(frame) * 255))
            assert [a.dtype for a in small.batch([frame])] == [np.uint8]

    def test_letterbox_keeps_the_aspect(self, artefact: Path) -> None:
        frame = picture(40, 200)
        with Matting(artefact, threads=1, resize="letterbox") as matting:
            image, place = matting.prepare(frame)
            geometry = place.geometry
            assert (geometry.content_height, geometry.content_width) == (19, 96)
            assert image.shape == (HEIGHT, WIDTH, 3)
            assert matting(frame).shape == (40, 200)

    def test_the_answer_is_not_overwritten(self, matting: Matting) -> None:
        frames = [picture(HEIGHT, WIDTH, seed) for seed in range(4)]
        alphas = [matting(frame) for frame in frames]
        for frame, alpha in zip(frames, alphas, strict=True):
            np.testing.assert_array_equal(matting(frame), alpha)

    @pytest.mark.parametrize(
        "wrong",
        [
            None,
            "frame.png",
            [[[1, 2, 3]]],
            np.zeros((0, 10, 3), np.uint8),
            np.zeros((10, 10), np.uint8),
            np.zeros((10, 10, 4), np.uint8),
            np.zeros((1, 10, 10, 3), np.uint8),
            np.zeros((10, 10, 3), np.uint16),
            np.full((10, 10, 3), np.nan, np.float32),
            np.full((10, 10, 3), 255.0, np.float32),
        ],
        ids=lambda wrong: f"{getattr(wrong, 'dtype', type(wrong).__name__)}{getattr(wrong, 'shape', '')}",
    )
    def test_refuses_what_is_no_frame(self, matting: Matting, any_size: Matting, wrong: Any) -> None:
        for m in (matting, any_size):
            for call in (m, m.submit):
                with pytest.raises(InputError):
                    call(wrong)
            with pytest.raises(InputError):
                m.batch([wrong])
            assert m.pending == 0

    @settings(max_examples=25)
    @given(st.integers(1, 300), st.integers(1, 300))
    def test_any_size_of_a_uniform_frame(self, any_size: Matting, height: int, width: int) -> None:
        assert any_size(np.full((height, width, 3), 77, np.uint8)).shape == (height, width)


class TestSeveral:
    def test_threads_get_the_answers_of_a_single_one(self, matting: Matting) -> None:
        frames = [picture(50 + seed, 90 - seed, seed) for seed in range(12)]
        expected = [matting(frame) for frame in frames]
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(matting, frames * 3))
        for got, want in zip(found, expected * 3, strict=True):
            np.testing.assert_array_equal(got, want)

    def test_batch_of_frames_that_differ_in_size(self, matting: Matting) -> None:
        frames = [picture(40 + 7 * seed, 100 - 5 * seed, seed) for seed in range(5)]
        for got, frame in zip(matting.batch(iter(frames)), frames, strict=True):
            np.testing.assert_array_equal(got, matting(frame))
        assert matting.batch([]) == []

    @pytest.mark.parametrize("hint", ["latency", "throughput"])
    def test_collect_keeps_the_order(self, artefact: Path, hint: Any) -> None:
        frames = [picture(60, 80 + seed, seed) for seed in range(20)]
        with Matting(artefact, hint=hint) as matting:
            for frame in frames:
                matting.submit(frame)
            assert matting.pending == 20
            for frame in frames:
                np.testing.assert_allclose(matting.collect(), matting(frame), atol=1e-6)
            assert matting.pending == 0

    def test_a_submitted_frame_may_be_overwritten(self, matting: Matting) -> None:
        camera = picture(HEIGHT, WIDTH)  # of the network's size: nothing has to be resized
        expected = matting(camera)
        for _ in range(8):
            matting.submit(camera)
        camera[:] = 0
        for _ in range(8):
            np.testing.assert_array_equal(matting.collect(), expected)

    @pytest.mark.parametrize("batch", [1, 3])
    def test_batch_of_a_camera_that_reuses_its_frame(self, tmp_path: Path, batch: int) -> None:
        folder = make_artefact(tmp_path / "artefact", size=(HEIGHT, WIDTH), batch=batch)
        frames = [picture(HEIGHT, WIDTH, seed) for seed in range(7)]

        def camera() -> Iterator[Any]:
            memory = np.empty_like(frames[0])
            for frame in frames:
                memory[:] = frame
                yield memory

        with Matting(folder, threads=1) as matting:
            for got, want in zip(matting.batch(camera()), matting.batch(frames), strict=True):
                np.testing.assert_array_equal(got, want)

    def test_one_thread_submits_and_another_collects(self, matting: Matting) -> None:
        frames = [picture(60, 80 + seed, seed) for seed in range(30)]
        ready = threading.Semaphore(0)
        found: list[Any] = []

        def consume() -> None:
            for _ in frames:
                ready.acquire()
                found.append(matting.collect())

        consumer = threading.Thread(target=consume)
        consumer.start()
        for frame in frames:
            matting.submit(frame)
            ready.release()
        consumer.join(60)
        for got, frame in zip(found, frames, strict=True):
            np.testing.assert_array_equal(got, matting(frame))

    def test_what_nobody_collects_is_bounded(self, artefact: Path) -> None:
        with Matting(artefact, threads=1) as matting:
            for _ in range(64):
                matting.submit(picture(32, 32))
            with pytest.raises(UsageError, match="have not been collected"):
                matting.submit(picture(32, 32))
            matting.collect()
            matting.submit(picture(32, 32))

    def test_collect_without_submit(self, matting: Matting) -> None:
        with pytest.raises(UsageError, match="nothing has been submitted"):
            matting.collect()

    def test_after_closing(self, artefact: Path) -> None:
        matting = Matting(artefact, threads=1)
        for _ in range(30):
            matting.submit(picture(32, 32))
        matting.close()
        matting.close()
        for call in (matting, matting.submit):
            with pytest.raises(UsageError, match="closed"):
                call(picture(32, 32))
        done = 0
        try:
            for _ in range(30):
                assert matting.collect().shape == (32, 32)
                done += 1
        except UsageError as error:
            assert str(error) == "the engine is closed"  # noqa: PT017 - how many were done is a matter of luck
        assert matting.pending == 30 - done - (done < 30)


class TestSizes:
    def test_a_dynamic_artefact_follows_the_frame(self, dynamic: Path) -> None:
        with Matting(dynamic, threads=1) as matting:
            expected = {
                (720, 1280): (384, 672),
                (1280, 720): (672, 384),
                (64, 96): (64, 96),
                (1, 1): (32, 32),
                (512, 512): (512, 512),
                (6000, 8000): (448, 576),
            }
            found = {}
            for height, width in expected:
                _, place = matting.prepare(np.broadcast_to(np.uint8(9), (height, width, 3)))
                found[height, width] = (place.geometry.height, place.geometry.width)
            assert found == expected
            assert matting(picture(70, 130)).shape == (70, 130)
            assert matting.info.width is None

    @settings(max_examples=300)
    @given(st.integers(1, 100_000), st.integers(1, 100_000))
    def test_there_are_never_more_than_512_x_512_pixels(self, any_size: Matting, height: int, width: int) -> None:
        found = any_size.network_size(np.broadcast_to(np.uint8(0), (height, width, 3)))
        assert all(side >= 32 and side % 32 == 0 for side in found)
        assert found[0] * found[1] <= 512 * 512
        turned = any_size.network_size(np.broadcast_to(np.uint8(0), (width, height, 3)))
        assert turned == found[::-1]
        scale = min(1, 512 / (height * width) ** 0.5)
        shorter, short = min(found), min(height, width) * scale
        assert abs(shorter - max(32, short)) <= 16  # the longer side alone gives way
        assert found[0] * found[1] >= min(512 * 512, height * width) * 0.4 or max(height, width) > 30 * shorter

    @pytest.mark.parametrize(
        ("frame", "size"),
        [((1500, 1000), (608, 416)), ((2498, 307), (1344, 192)), ((307, 2498), (192, 1344)), ((99999, 1), (8192, 32))],
    )
    def test_shapes_for_which_rounding_would_make_more(
        self, any_size: Matting, frame: tuple[int, int], size: tuple[int, int]
    ) -> None:
        assert any_size.network_size(np.broadcast_to(np.uint8(0), (frame[1], frame[0], 3))) == size

    def test_a_size_of_ones_own(self, dynamic: Path) -> None:
        with Matting(dynamic, threads=1, size=(128, 32)) as matting:
            image, _ = matting.prepare(picture(300, 200))
            assert image.shape == (32, 128, 3)
            assert matting(picture(300, 200)).shape == (300, 200)

    @pytest.mark.parametrize("size", [(0, 32), (33, 32), (32, -32), (32, 31)])
    def test_impossible_sizes(self, dynamic: Path, size: tuple[int, int]) -> None:
        with pytest.raises(UsageError, match="multiples of 32"):
            Matting(dynamic, size=size)

    def test_the_size_of_a_fixed_artefact(self, artefact: Path) -> None:
        Matting(artefact, size=(WIDTH, HEIGHT)).close()
        with pytest.raises(UsageError, match="made for 96x64, not 128x64"):
            Matting(artefact, size=(128, 64))

    def test_frames_of_one_lot_share_a_size(self, tmp_path: Path) -> None:
        folder = make_artefact(tmp_path / "artefact", size=None, batch=2)
        frames = [picture(64, 96), picture(200, 100), picture(64, 64)]
        with Matting(folder, threads=1) as matting:
            assert [alpha.shape for alpha in matting.batch(frames)] == [(64, 96), (200, 100), (64, 64)]


class TestLoading:
    def test_info_is_plain_data(self, matting: Matting) -> None:
        info = matting.info
        assert (info.target, info.width, info.height, info.batch) == ("onnx-fp32", WIDTH, HEIGHT, 1)
        assert msgspec.json.decode(msgspec.json.encode(info), type=MattingInfo) == info

    def test_a_selftest_is_plain_data(self, matting: Matting) -> None:
        document = msgspec.json.decode(msgspec.json.encode(matting.selftest()))
        assert document["passed"] is True
        assert document["limits"]["flips"] == 1e-4

    @pytest.mark.parametrize("option", [{"resize": "crop"}, {"colour": "rgb"}, {"dtype": "float16"}], ids=str)
    def test_unknown_options(self, artefact: Path, option: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="unknown"):
            Matting(artefact, **option)

    def test_no_artefact(self, tmp_path: Path) -> None:
        for folder in (tmp_path / "nowhere", tmp_path):
            with pytest.raises(ArtefactError):
                Matting(folder)

    def test_a_rejected_artefact(self, tmp_path: Path) -> None:
        folder = make_artefact(tmp_path / "artefact.rejected")
        with pytest.raises(ArtefactError, match="rejected"):
            Matting(folder)

    def test_an_artefact_that_failed_its_gate(self, tmp_path: Path) -> None:
        folder = make_artefact(tmp_path / "artefact")
        edit_manifest(folder, parity__passed=False)
        with pytest.raises(ArtefactError, match="its gate"):
            Matting(folder)

    def test_limits_without_a_parity_record_are_those_of_the_target(self, tmp_path: Path) -> None:
        folder = make_artefact(tmp_path / "artefact")
        edit_manifest(folder, parity=None)
        with Matting(folder, threads=1) as matting:
            assert matting.selftest().passed
