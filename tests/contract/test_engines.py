"""What every engine must do: one class, run once for each engine."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from p3m_edge import manifest as manifests
from p3m_edge.errors import ArtefactError, InputError, MissingError, P3MEdgeError, UsageError
from p3m_edge.runtimes import Engine, EngineOptions, Matting, OtherNetworkWarning, UnverifiedWarning, cuda, open_engine
from p3m_edge.runtimes.contract import ENGINES, engine_module
from tests.artefacts import ALL_OUTPUTS, edit_manifest, make_artefact, picture, rehash, scale_constant

Name = Literal["onnxruntime", "openvino", "coreai", "litert", "tensorrt"]
EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino", "coreai": "coreai", "litert": "litert"}
PACKAGES = {"tensorrt": "tensorrt_rtx_bindings", "litert": "ai_edge_litert"}
"""Of the engines that are not named as their packages are."""
HEIGHT, WIDTH = 64, 96


SLOW = {"coreai": pytest.mark.full}  # every engine of it is a process; tests/export/formats/test_coreai.py is fast


@pytest.fixture(scope="module", params=[pytest.param(name, marks=SLOW.get(name, ())) for name in ENGINES])
def name(request: pytest.FixtureRequest) -> Name:
    engine: Name = request.param
    if request.param == "coreml":
        pytest.skip(
            "Core ML runs on a Mac, and these artefacts are of ONNX: tests/export/formats/test_coreml.py has its runner"
        )
    pytest.importorskip(PACKAGES.get(engine, engine))
    pytest.importorskip("onnx")
    if engine == "coreai":
        pytest.importorskip("torch")
        pytest.importorskip("coreai_torch")
    return engine


@pytest.fixture
def running(name: Name) -> None:
    """For tests in which the engine computes."""
    if name == "tensorrt":
        try:
            cuda.require()
            cuda.driver()
        except MissingError as error:
            pytest.skip(str(error))


running_only = pytest.mark.usefixtures("running")


def model_file(folder: Path) -> Path:
    """The file that an engine reads; in a model that is a folder, the largest."""
    path = folder / manifests.read(folder).model_file
    return max(path.iterdir(), key=lambda file: file.stat().st_size) if path.is_dir() else path


def not_of(name: Name, engines: str, reason: str) -> None:
    """Skip what some engines do not offer."""
    if name in engines.split():
        pytest.skip(f"{name} {reason}")


@pytest.fixture(scope="module")
def artefact(name: Name, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact that no test changes."""
    return make_artefact(tmp_path_factory.mktemp(name) / "artefact", name, (HEIGHT, WIDTH))


@pytest.fixture
def own(artefact: Path, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return Path(shutil.copytree(artefact, tmp_path / "own"))


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P3M_EDGE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def engine(artefact: Path, running: None) -> Iterator[Engine]:
    with open_engine(manifests.read(artefact), artefact, EngineOptions(threads=1)) as opened:
        yield opened


def images(seed: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return picture(HEIGHT, WIDTH, seed)[np.newaxis]


class TestEngine:
    def test_gives_what_an_independent_evaluator_gives(self, engine: Engine, artefact: Path) -> None:
        with np.load(artefact / manifests.GOLDEN) as golden:
            found = engine.infer(golden["image_1"], ALL_OUTPUTS)
            for output in ALL_OUTPUTS:
                np.testing.assert_allclose(found[output], golden[f"{output}_1"], atol=1e-5)

    def test_shapes_and_dtypes(self, engine: Engine) -> None:
        found = engine.infer(images(), ALL_OUTPUTS)
        assert {k: v.shape for k, v in found.items()} == {
            "alpha": (1, 1, HEIGHT, WIDTH),
            "local_alpha": (1, 1, HEIGHT, WIDTH),
            "global_logits": (1, 3, HEIGHT, WIDTH),
        }
        assert all(v.dtype == np.float32 for v in found.values())

    def test_gives_only_the_outputs_asked_for(self, engine: Engine) -> None:
        assert list(engine.infer(images())) == ["alpha"]
        everything = engine.infer(images(), ALL_OUTPUTS)
        (logits,) = engine.infer(images(), ["global_logits"]).values()
        np.testing.assert_array_equal(logits, everything["global_logits"])

    def test_results_stay_as_they_are(self, engine: Engine) -> None:
        first = engine.infer(images(1), ALL_OUTPUTS)
        kept = {k: v.copy() for k, v in first.items()}
        for seed in range(2, 6):
            engine.infer(images(seed), ALL_OUTPUTS if seed % 2 else ["global_logits"])
        for output in ALL_OUTPUTS:
            np.testing.assert_array_equal(first[output], kept[output])

    def test_reads_any_memory_layout_and_read_only_arrays(self, engine: Engine) -> None:
        expected = engine.infer(images())["alpha"]
        wide = np.zeros((1, HEIGHT, WIDTH * 2, 3), np.uint8)
        wide[:, :, ::2] = images()
        frozen = images()
        frozen.flags.writeable = False
        for form in (wide[:, :, ::2], np.asfortranarray(images()), frozen):
            np.testing.assert_array_equal(engine.infer(form)["alpha"], expected)

    @pytest.mark.parametrize(
        "wrong",
        [
            np.zeros((1, HEIGHT, WIDTH, 3), np.float32),
            np.zeros((HEIGHT, WIDTH, 3), np.uint8),
            np.zeros((1, 3, HEIGHT, WIDTH), np.uint8),
            np.zeros((2, HEIGHT, WIDTH, 3), np.uint8),
            np.zeros((1, HEIGHT, WIDTH + 32, 3), np.uint8),
            np.zeros((1, HEIGHT, WIDTH, 4), np.uint8),
            np.zeros((0, HEIGHT, WIDTH, 3), np.uint8),
            [[1, 2, 3]],
            None,
        ],
        ids=lambda wrong: str(getattr(wrong, "shape", wrong)),
    )
    def test_refuses_other_shapes_and_dtypes(self, engine: Engine, wrong: object) -> None:
        for call in (engine.infer, engine.submit):
            with pytest.raises(InputError, match="network takes"):
                call(wrong)  # type: ignore[arg-type]  # that is what is tested

    def test_refuses_an_unknown_output(self, engine: Engine) -> None:
        with pytest.raises(UsageError, match="no output 'alfa'") as caught:
            engine.infer(images(), ["alfa"])
        assert caught.value.hint == "did you mean 'alpha'?"

    def test_threads_get_the_answers_of_a_single_one(self, engine: Engine) -> None:
        frames = [images(seed) for seed in range(16)]
        expected = [engine.infer(frame)["alpha"] for frame in frames]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda frame: engine.infer(frame)["alpha"], frames * 3))
        for got, want in zip(found, expected * 3, strict=True):
            np.testing.assert_array_equal(got, want)

    @pytest.mark.parametrize("hint", ["latency", "throughput"])
    @running_only
    def test_tickets_belong_to_their_images(self, artefact: Path, hint: Literal["latency", "throughput"]) -> None:
        frames = [images(seed) for seed in range(12)]
        with open_engine(manifests.read(artefact), artefact, EngineOptions(hint=hint)) as engine:
            assert engine.info.hint == hint
            tickets = [engine.submit(frame, ALL_OUTPUTS) for frame in frames]
            found = {i: engine.collect(tickets[i]) for i in random.Random(0).sample(range(12), 12)}
            for i, frame in enumerate(frames):
                want = engine.infer(frame, ALL_OUTPUTS)
                for output in ALL_OUTPUTS:
                    np.testing.assert_array_equal(found[i][output], want[output])

    @running_only
    def test_throughput_runs_several_requests(self, artefact: Path, name: Name) -> None:
        not_of(name, "coreai tensorrt", "runs one request at a time")
        options = EngineOptions(hint="throughput", threads=2)
        with open_engine(manifests.read(artefact), artefact, options) as engine:
            assert engine.info.requests >= 2

    @running_only
    def test_closing(self, artefact: Path) -> None:
        engine = open_engine(manifests.read(artefact), artefact)
        done = engine.submit(images())
        want = engine.collect(done)["alpha"].copy()
        engine.close()
        engine.close()
        np.testing.assert_array_equal(engine.collect(done)["alpha"], want)
        for call in (engine.infer, engine.submit):
            with pytest.raises(UsageError, match="closed"):
                call(images())

    @running_only
    def test_closing_while_others_work(self, artefact: Path) -> None:
        engine = open_engine(manifests.read(artefact), artefact, EngineOptions(threads=1))
        begun = threading.Event()
        refused: list[P3MEdgeError] = []

        def work() -> None:
            try:
                while True:
                    engine.infer(images())
                    begun.set()
            except UsageError as error:
                refused.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert begun.wait(30)
        tickets = [engine.submit(images()) for _ in range(8)]
        engine.close()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert len(refused) == 4
        for ticket in tickets:  # each was done or dropped, none hangs
            try:
                assert engine.collect(ticket)["alpha"].shape == (1, 1, HEIGHT, WIDTH)
            except UsageError as error:
                assert "closed" in str(error)  # noqa: PT017 - both ends are right

    def test_says_what_is_at_work(self, engine: Engine, name: Name) -> None:
        info = engine.info
        threads = None if name in ("coreai", "tensorrt") else 1  # they do not tell
        assert (info.threads, info.hint, info.requests) == (threads, "latency", 1)
        assert info.name == name or (name, info.name) == ("tensorrt", "tensorrt-rtx")
        assert info.version.split(".")[0].isdecimal()
        assert ("cuda" if name == "tensorrt" else "cpu") in info.device.lower()

    @running_only
    def test_the_number_of_threads_is_not_a_matter_of_the_cache(self, artefact: Path, name: Name) -> None:
        not_of(name, "coreai tensorrt", "cannot be told a number of threads")
        for threads in (2, 1, 2):
            with open_engine(manifests.read(artefact), artefact, EngineOptions(threads=threads)) as engine:
                assert engine.info.threads == threads

    def test_an_unknown_device(self, artefact: Path) -> None:
        for device in ("gpux", "cpu:1", "cpu.x", "AUTO", "cuda:x"):
            with pytest.raises(UsageError, match=f"unknown device '{device}'"):
                Matting(artefact, device=device)

    def test_an_absent_device(self, artefact: Path, name: Name) -> None:
        with pytest.raises(MissingError) as caught:
            Matting(artefact, device=absent_device(name))
        assert caught.value.exit_code == 4
        assert caught.value.hint

    @pytest.mark.parametrize("option", [{"threads": 0}, {"threads": -1}, {"hint": "speed"}])
    def test_impossible_options(self, artefact: Path, option: dict[str, object]) -> None:
        with pytest.raises(UsageError):
            Matting(artefact, **option)  # type: ignore[arg-type]  # that is what is tested

    def test_a_missing_package(self, artefact: Path, name: Name) -> None:
        not_of(name, "tensorrt", "looks for the driver first: tests/runtimes/test_tensorrt.py")
        package = PACKAGES.get(name, name)
        code = (
            "import sys, warnings\n"
            f"sys.modules[{package!r}] = None\n"
            "from p3m_edge.errors import MissingError\n"
            "from p3m_edge.runtimes import Matting\n"
            "try:\n"
            f"    Matting({str(artefact)!r})\n"
            "except MissingError as error:\n"
            "    print(error, '|', error.hint)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == f"the package '{package}' cannot be imported | pip install \"p3m-edge[{EXTRAS[name]}]\"\n"
        assert done.stderr == ""

    @pytest.mark.parametrize("damage", [b"", b"not a model", bytes(range(256)) * 64], ids=["empty", "text", "bytes"])
    def test_a_model_file_of_rubbish(self, own: Path, damage: bytes) -> None:
        model = model_file(own)
        model.write_bytes(damage)
        with pytest.raises(ArtefactError, match=r"bytes, the manifest says|was changed"):
            Matting(own)
        rehash(own)
        with pytest.raises(ArtefactError, match="cannot load"):
            Matting(own)

    def test_a_truncated_model_file(self, own: Path) -> None:
        model = model_file(own)
        model.write_bytes(model.read_bytes()[:-100])
        with pytest.raises(ArtefactError, match="bytes, the manifest says"):
            Matting(own)
        rehash(own)
        with pytest.raises(ArtefactError, match="cannot load"):
            Matting(own)

    @running_only
    def test_a_changed_byte_in_any_file(self, own: Path) -> None:
        for path in sorted(file for file in own.rglob("*") if file.is_file()):
            if path.name == manifests.MANIFEST:
                continue
            good = path.read_bytes()
            changed = bytearray(good)
            changed[len(good) // 2] ^= 1
            path.write_bytes(changed)
            with pytest.raises(ArtefactError, match="was changed") as caught:
                Matting(own)
            assert path.name in str(caught.value)
            path.write_bytes(good)
        Matting(own).close()

    def test_a_missing_file(self, own: Path) -> None:
        for path in sorted(own.iterdir()):
            hidden = path.rename(own.parent / path.name)
            with pytest.raises(ArtefactError, match=path.name):
                Matting(own)
            hidden.rename(path)

    def test_a_newer_schema(self, own: Path) -> None:
        edit_manifest(own, schema=manifests.SCHEMA_VERSION + 1)
        with pytest.raises(ArtefactError, match="schema"):
            Matting(own)

    def test_an_engine_too_old_for_the_artefact(self, own: Path, name: Name) -> None:
        not_of(name, "tensorrt", "needs the very version: tests/runtimes/test_tensorrt.py")
        edit_manifest(own, engine__minimum_version="9000.1")
        with pytest.raises(ArtefactError, match=r"needs \w+ 9000\.1 or newer"):
            Matting(own)

    @running_only
    def test_an_engine_of_another_version_than_built_it(self, own: Path, name: Name) -> None:
        edit_manifest(own, engine__versions={name: "0.0.1"})
        Matting(own).close()

    @running_only
    def test_a_speed_floor_is_no_network(self, own: Path) -> None:
        edit_manifest(own, unpool="nearest")
        with pytest.warns(OtherNetworkWarning, match="not P3M-Net"):
            Matting(own).close()

    def test_a_model_that_is_not_built(self, own: Path) -> None:
        edit_manifest(own, engine__status="not-built", engine__reason="needs a GPU")
        with pytest.raises(ArtefactError, match="has not been built: needs a GPU"):
            Matting(own)

    @pytest.mark.parametrize(
        "change",
        [
            {"input__name": "frame"},
            {"input__width": 128},
            {"input__height": None},
            {"input__batch": 2},
        ],
        ids=str,
    )
    @running_only
    def test_a_manifest_of_another_model(self, own: Path, change: dict[str, object]) -> None:
        edit_manifest(own, **change)
        with pytest.raises(ArtefactError, match="does not match its manifest"):
            Matting(own)

    @running_only
    def test_a_model_without_a_promised_output(self, name: Name, tmp_path: Path) -> None:
        folder = make_artefact(tmp_path / "alpha", name, (HEIGHT, WIDTH), outputs=("alpha",))
        outputs = json.loads((folder / manifests.MANIFEST).read_bytes())["outputs"]
        edit_manifest(folder, outputs=[*outputs, outputs[0] | {"name": "local_alpha"}])
        with pytest.raises(ArtefactError, match="its output local_alpha is missing"):
            Matting(folder)

    @running_only
    def test_a_model_with_alpha_alone(self, name: Name, tmp_path: Path) -> None:
        folder = make_artefact(tmp_path / "alpha", name, (HEIGHT, WIDTH), outputs=("alpha",))
        with Matting(folder) as matting:
            assert matting.engine.outputs == ("alpha",)
            result = matting.selftest()
            assert result.passed
            assert result.items[0].flips is None

    @running_only
    def test_a_batch_of_three(self, name: Name, tmp_path: Path) -> None:
        folder = make_artefact(tmp_path / "batch", name, (HEIGHT, WIDTH), batch=3)
        frames = [picture(HEIGHT, WIDTH, seed) for seed in range(5)]
        with Matting(folder) as matting:
            assert matting.selftest().passed
            lots = matting.engine.infer(np.stack(frames[:3]), ALL_OUTPUTS)
            assert lots["global_logits"].shape == (3, 3, HEIGHT, WIDTH)
            alphas = matting.batch(frames)
            assert len(alphas) == 5
            for frame, alpha in zip(frames, alphas, strict=True):
                np.testing.assert_allclose(matting(frame), alpha, atol=1e-6)

    @running_only
    def test_a_dynamic_size(self, name: Name, tmp_path: Path) -> None:
        not_of(name, "coreai", "models have a fixed size here")
        folder = make_artefact(tmp_path / "dynamic", name, None)
        with Matting(folder) as matting:
            assert matting.selftest().passed
            for height, width in ((32, 32), (96, 64), (32, 256)):
                found = matting.engine.infer(picture(height, width)[np.newaxis], ALL_OUTPUTS)
                assert found["alpha"].shape == (1, 1, height, width)
                assert found["global_logits"].shape == (1, 3, height, width)
            with pytest.raises(InputError, match="multiples of 32"):
                matting.engine.infer(np.zeros((1, 33, 64, 3), np.uint8))

    @running_only
    def test_golden_vectors_pass(self, artefact: Path) -> None:
        with Matting(artefact) as matting:
            result = matting.selftest()
        assert result.passed
        assert not result.failures
        assert len(result.items) == 2

    @pytest.mark.parametrize(
        ("constant", "factor"),
        [("stem.weight", 1.001), ("mean", 1.01), ("deviation", 0.99), ("full_scale", 1.004), ("global.weight", -1.0)],
    )
    @pytest.mark.parametrize("outputs", [ALL_OUTPUTS, ("alpha",)], ids=["all", "alpha"])
    @running_only
    def test_golden_vectors_catch_a_broken_artefact(
        self, name: Name, tmp_path: Path, constant: str, factor: float, outputs: tuple[str, ...]
    ) -> None:
        folder = make_artefact(
            tmp_path / "broken", name, (32, 32), outputs=outputs, breaking=scale_constant(constant, factor)
        )
        with Matting(folder) as matting:
            result = matting.selftest()
        assert not result.passed
        assert any("alpha" in failure for failure in result.failures)

    @running_only
    def test_golden_vectors_that_are_none(self, own: Path) -> None:
        (own / manifests.GOLDEN).write_bytes(b"PK\x03\x04 not an archive")
        rehash(own)
        with Matting(own) as matting, pytest.raises(ArtefactError, match=r"golden\.npz cannot be read"):
            matting.selftest()

    @running_only
    def test_golden_vectors_that_do_not_fit(self, own: Path) -> None:
        with np.load(own / manifests.GOLDEN) as golden:
            arrays = dict(golden)
        arrays["alpha_1"] = arrays["alpha_1"][:, :, :-1]
        np.savez(own / manifests.GOLDEN, allow_pickle=False, **arrays)
        rehash(own)
        with Matting(own) as matting, pytest.raises(ArtefactError, match="alpha_1 does not fit image_1"):
            matting.selftest()

    @pytest.mark.parametrize("level", ["emulated", "program", "typed", "none"])
    @running_only
    def test_warns_below_the_level_device(self, own: Path, level: str) -> None:
        edit_manifest(own, verified__level=level)
        with pytest.warns(UnverifiedWarning, match=f"verified: {level}"):
            Matting(own).close()


def absent_device(engine: Name) -> str:
    """A device that the engine knows and this machine lacks."""
    if engine in ("coreai", "litert"):
        return "GPU"
    if engine == "tensorrt":
        return "cuda:99"
    if engine == "onnxruntime":
        import onnxruntime

        known = {"cuda": "CUDAExecutionProvider", "dml": "DmlExecutionProvider", "qnn": "QNNExecutionProvider"}
        return next(
            device for device, provider in known.items() if provider not in onnxruntime.get_available_providers()
        )
    import openvino

    devices = {device.split(".")[0] for device in openvino.Core().available_devices}
    return next((device for device in ("GPU", "NPU") if device not in devices), "GPU.99")


class TestTable:
    def test_an_engine_that_nobody_knows(self, tmp_path: Path) -> None:
        folder = make_artefact(tmp_path / "artefact")
        edit_manifest(folder, engine__name="openvin")
        with pytest.raises(ArtefactError, match="the engine of onnx-fp32 is onnxruntime, not 'openvin'"):
            Matting(folder)
        with pytest.raises(ArtefactError, match="unknown engine 'openvin'") as caught:
            engine_module("openvin")
        assert caught.value.hint == "did you mean 'openvino'?"
