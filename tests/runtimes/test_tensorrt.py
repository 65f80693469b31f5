"""TensorRT engines: whether one fits the machine, and how one is run.

The engines of the first part are genuine ones of TensorRT for RTX. No GPU has a part in the second: behind NVIDIA's
packages stands onnx's evaluator (``helpers/gpu``), which keeps apart what CUDA keeps apart: the host's memory and the
GPU's, and what is ordered and what is done.
"""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p3m_edge.cli import main
from p3m_edge.errors import ArtefactError, InputError, MissingError, UsageError
from p3m_edge.manifest_schema import BuildRecord, InputRecord, ProfileRecord
from p3m_edge.runtimes import Matting, cuda
from p3m_edge.runtimes.cuda import Gpu
from p3m_edge.runtimes.engine import check_images
from p3m_edge.runtimes.engines.tensorrt.compatibility import check_gpu, check_version, system
from p3m_edge.runtimes.engines.tensorrt.library import make_logger
from p3m_edge.runtimes.size import fitting_size, fixed_size
from tests.artefacts import GPUS, edit_manifest, make_artefact, rehash, rtx
from tests.runtimes.gpu import GPU, on_gpu

pytest.importorskip("onnx")
MODEL = Path("out/trt-fp16/model.engine")
L4 = Gpu(0, "NVIDIA L4", "8.9", 24_000_000_000)
BUILD = BuildRecord(
    "tensorrt", "10.16.1.11", ("8.9",), "NVIDIA L4", "580.65", "13.0", system(), "0" * 64, None, "none", False, None,
    None, {}, 1.0,
)  # fmt: skip
PROFILE = ProfileRecord((64, 32), (512, 512), (1024, 768))


def driver() -> bool:
    try:
        cuda.driver()
    except MissingError:
        return False
    return True


no_driver = pytest.mark.skipif(driver(), reason="there is a CUDA driver here")


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorrt_rtx_bindings")
    return make_artefact(tmp_path_factory.mktemp("rtx") / "trt-fp32", "tensorrt")


@pytest.fixture
def own(genuine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(genuine, tmp_path / "own"))


class TestFit:
    @pytest.mark.parametrize(
        ("damage", "text"),
        [
            (lambda plan: plan[:-1], r"it has \d+ bytes, and its header says \d+"),
            (lambda plan: plan[:4], "it is truncated"),
            (lambda _: b"", "it is no TensorRT engine"),
            (lambda plan: b"\x7fELF" + plan[4:], "it is no TensorRT engine"),
            (lambda plan: b"ftrt" + plan[4:], "it is an engine of TensorRT, not of TensorRT for RTX"),
            (
                lambda plan: plan[:24] + bytes([1, 6, 0, 9]) + plan[28:],
                r"built by TensorRT for RTX 1\.6\.0\.9, not 1\.",
            ),
        ],
        ids=["shorter", "four bytes", "empty", "program", "other flavour", "other version"],
    )
    def test_a_file_that_is_not_the_engine_in_the_manifest(
        self, own: Path, damage: Callable[[bytes], bytes], text: str
    ) -> None:
        engine = own / "model.engine"
        engine.write_bytes(damage(engine.read_bytes()))
        rehash(own)
        with pytest.raises(ArtefactError, match=text) as caught:
            Matting(own)
        assert caught.value.hint

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"engine__build": None}, "does not say how it was built"),
            ({"engine__build__onnx_sha256": "0" * 64}, r"was not built of the model\.onnx beside it"),
            ({"engine__build__system": "windows-amd64"}, "was built for windows-amd64; this is "),
            ({"engine__build__version": "1.6.0.9"}, r"was built by TensorRT for RTX 1\.\S+, not 1\.6\.0\.9"),
            ({"engine__build__flavour": "tensorrt"}, "it is an engine of TensorRT for RTX, not of TensorRT"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_a_record_that_does_not_fit(self, own: Path, changes: dict[str, object], text: str) -> None:
        edit_manifest(own, **changes)
        with pytest.raises(ArtefactError, match=text) as caught:
            Matting(own)
        assert caught.value.exit_code == 5

    def test_the_rebuild_line_names_the_folder(self, own: Path) -> None:
        named = own.rename(own.parent / "an engine")
        edit_manifest(named, engine__build__system="windows-amd64")
        with pytest.raises(ArtefactError) as caught:
            Matting(named)
        assert caught.value.hint == f"build it again on this machine: p3m-edge build '{named}' --force"

    @pytest.mark.parametrize(
        ("build", "version", "fits"),
        [
            (BUILD, "10.16.1.11", True),
            (BUILD, "10.16.1.12", False),
            (BUILD, "11.4.0.106", False),
            (replace(BUILD, version_compatible=True), "11.4.0.106", True),
            (replace(BUILD, version_compatible=True), "10.9.0.34", False),
        ],
        ids=lambda value: value.version_compatible if isinstance(value, BuildRecord) else str(value),
    )
    def test_versions(self, build: BuildRecord, version: str, fits: bool) -> None:
        if fits:
            check_version(build, version, MODEL)
            return
        with pytest.raises(ArtefactError, match=f"built with TensorRT 10.16.1.11 .*{version} is installed") as caught:
            check_version(build, version, MODEL)
        assert caught.value.hint == "build it again on this machine: p3m-edge build out/trt-fp16 --force"

    @pytest.mark.parametrize(
        ("changes", "gpu", "fits"),
        [
            ({}, L4, True),
            ({}, replace(L4, name="NVIDIA GeForce RTX 4090"), False),
            ({}, replace(L4, compute_capability="9.0"), False),
            ({"hardware_compatibility": "same-cc"}, replace(L4, name="NVIDIA GeForce RTX 4090"), True),
            ({"hardware_compatibility": "same-cc"}, replace(L4, compute_capability="8.6"), False),
            ({"hardware_compatibility": "ampere+"}, replace(L4, compute_capability="12.0"), True),
            ({"hardware_compatibility": "ampere+"}, replace(L4, compute_capability="8.0"), True),
            ({"hardware_compatibility": "ampere+"}, replace(L4, compute_capability="7.5"), False),
            ({"flavour": "tensorrt-rtx", "compute_capabilities": GPUS, "gpu": None}, L4, True),
            (
                {"flavour": "tensorrt-rtx", "compute_capabilities": GPUS, "gpu": None},
                replace(L4, compute_capability="9.0"),
                False,
            ),
            ({"flavour": "tensorrt-rtx"}, replace(L4, name="NVIDIA GeForce RTX 4090"), True),
        ],
    )
    def test_gpus(self, changes: dict[str, Any], gpu: Gpu, fits: bool) -> None:
        build = replace(BUILD, **changes)
        if fits:
            check_gpu(build, gpu, MODEL)
            return
        with pytest.raises(
            ArtefactError, match=rf"was built for .*; this GPU is {gpu.name} \({gpu.compute_capability}"
        ):
            check_gpu(build, gpu, MODEL)

    def test_an_engine_that_was_not_built(self, own: Path) -> None:
        line = "p3m-edge build DIR"
        edit_manifest(own, engine__status="not-built", engine__reason="no builder", engine__commands=[line, "trtexec"])
        with pytest.raises(ArtefactError, match="has not been built: no builder") as caught:
            Matting(own)
        assert caught.value.hint == f"on the device: p3m-edge build {own}"


class TestProfile:
    def test_a_size_outside_names_side_and_range(self) -> None:
        record = InputRecord("image", 1, None, None)
        assert fixed_size(record, (1024, 32), PROFILE) == (1024, 32)
        with pytest.raises(UsageError, match="made for a width of 64 to 1024, not 32") as caught:
            fixed_size(record, (32, 32), PROFILE)
        assert "--min" in str(caught.value.hint)
        with pytest.raises(UsageError, match="made for a height of 32 to 768, not 800"):
            fixed_size(record, (1024, 800), PROFILE)

    def test_images_outside_are_refused_before_the_engine_sees_them(self) -> None:
        record = InputRecord("image", 1, None, None)
        check_images(np.zeros((1, 768, 1024, 3), np.uint8), record, PROFILE)
        with pytest.raises(InputError, match="made for a height of 32 to 768, not 800"):
            check_images(np.zeros((1, 800, 1024, 3), np.uint8), record, PROFILE)

    @pytest.mark.parametrize(
        ("frame", "size"), [((1280, 720), (672, 384)), ((40, 40), (64, 32)), ((100_000, 64), (1024, 32))]
    )
    def test_a_frame_gets_the_nearest_size_inside(self, frame: tuple[int, int], size: tuple[int, int]) -> None:
        assert fitting_size(*frame, 32, PROFILE) == size

    def test_what_the_profile_lifts_on_one_side_the_other_one_gives(self) -> None:
        high = replace(PROFILE, minimum=(64, 512), maximum=(2048, 768))
        assert fitting_size(100_000, 64, 32, high) == (512, 512)
        assert fitting_size(100_000, 64, 32, replace(high, minimum=(1024, 512))) == (1024, 512)  # no smaller one


@no_driver
class TestWithoutDriver:
    def test_an_app_gets_one_line(self, genuine: Path) -> None:
        with pytest.raises(MissingError, match=r"^no CUDA driver: \S+ is not on this machine$") as caught:
            Matting(genuine)
        assert "NVIDIA" in str(caught.value.hint)

    @pytest.mark.parametrize("verb", [["verify", "--device", "cuda"], ["bench"]], ids=" ".join)
    def test_the_command_line_says_it_and_ends_with_4(
        self, genuine: Path, verb: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*verb, str(genuine), "--json"]) == 4
        document = json.loads(capsys.readouterr().out)
        assert "no CUDA driver" in document["error"]["message"]

    @pytest.mark.parametrize("device", ["cpu", "cuda:", "cuda:-1", "gpu", "cuda:1.0"])
    def test_an_unknown_device_is_one_all_the_same(self, genuine: Path, device: str) -> None:
        with pytest.raises(UsageError, match=f"unknown device '{device}' for tensorrt"):
            Matting(genuine, device)

    def test_the_bindings_say_that_the_driver_is_missing(self) -> None:
        pytest.importorskip("cuda.bindings.runtime")
        with pytest.raises(MissingError, match="the driver is too old: cuda-bindings need one for CUDA"):
            cuda.Device(L4)


class TestPackages:
    """NVIDIA's own packages, as far as they go without a driver."""

    def test_the_stand_in_has_nothing_that_they_have_not(self) -> None:
        trt, cudart = pytest.importorskip("tensorrt_rtx_bindings"), pytest.importorskip("cuda.bindings.runtime")
        for module, path in ((trt, "tensorrt/__init__.py"), (cudart, "cuda/bindings/runtime.py")):
            tree = ast.parse((GPU / path).read_text(encoding="utf-8"))
            defined = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
            public = [node for node in defined if not node.name.startswith("_")]
            assert len(public) > 3
            assert [node.name for node in public if not hasattr(module, node.name)] == []
            if module is trt:
                methods = [(c.name, m.name) for c in public for m in c.body if isinstance(m, ast.FunctionDef)]
                assert [(c, m) for c, m in methods if m[0] != "_" and not hasattr(getattr(trt, c), m)] == []
        assert {trt.DataType.UINT8.name, trt.DataType.FLOAT.name} == {"UINT8", "FLOAT"}
        assert {"num_io_tensors", "device_memory_size_v2"} <= set(dir(trt.ICudaEngine))
        assert isinstance(cudart.cudaStreamNonBlocking, int)

    @no_driver
    def test_the_logger_keeps_what_they_say(self, genuine: Path) -> None:
        trt = rtx()
        log = make_logger(trt)
        runtime = trt.Runtime(log)
        assert log.told() == []
        assert runtime.deserialize_cuda_engine((genuine / "model.engine").read_bytes()) is None
        told = "; ".join(log.told())
        assert "CUDA driver version is insufficient" in told
        assert "\n" not in told
        assert log.told() == []


def test_inspect_shows_the_engine(genuine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(genuine)]) == 0
    shown = capsys.readouterr().out
    for text in ("TensorRT for RTX 1.", system(), ", ".join(GPUS), "no GPU", "FLOAT 15"):
        assert text in shown


CASES: dict[str, dict[str, Any]] = {
    "fits": {},
    "second GPU": {"device": "cuda:1", "settings": {"gpus": [["A", "7.5", 1], ["NVIDIA L4", "8.9", 1]]}},
    "runs": {"frame": [96, 64]},
    "outside the profile": {"frame": [512, 64]},
    "no GPU": {"settings": {"gpus": []}},
    "no second GPU": {"device": "cuda:1"},
    "driver does not start": {"settings": {"driver": 0}},
    "driver too old": {"settings": {"driver": 12040}},
    "other TensorRT": {"version": "11.4.0.106"},
    "newer TensorRT": {"version": "11.4.0.106", "build": {"version_compatible": True}, "trust": True},
    "not trusted": {"version": "11.4.0.106", "build": {"version_compatible": True}},
    "other capability": {"settings": {"gpus": [["NVIDIA A10", "8.6", 1]]}},
    "other GPU": {"settings": {"gpus": [["NVIDIA GeForce RTX 4090", "8.9", 1]]}},
    "does not start": {"settings": {"fails": ["Runtime"]}},
    "refused": {"settings": {"fails": ["deserialize_cuda_engine"]}},
    "no memory for weights": {"settings": {"fails": ["weights"], "free": 1_000_000}},
    "no memory for the context": {"settings": {"fails": ["create_execution_context"], "free": 2_000_000}},
    "no memory for tensors": {"settings": {"free": 300_000}},
    "no address": {"settings": {"fails": ["set_tensor_address"]}},
    "fails at work": {"frame": [96, 64], "settings": {"fails": ["execute_async_v3"]}},
    "copy fails": {"frame": [96, 64], "settings": {"fails": ["cudaMemcpyAsync"]}},
    "profile of another": {"build": {"profile": {"minimum": [32, 32], "optimum": [64, 64], "maximum": [96, 96]}}},
    "no profile": {"build": {"profile": None}},
    "of fixed size": {"size": [64, 96], "frame": [96, 64]},
}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    done = on_gpu("tests/runtimes/helpers/gpu_cases.py", json.dumps(list(CASES.values())))
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, json.loads(done.stdout), strict=True))


class TestOnStandIn:
    @pytest.mark.parametrize("case", ["fits", "runs", "newer TensorRT", "of fixed size"])
    def test_what_is_at_work(self, outcomes: dict[str, dict[str, Any]], case: str) -> None:
        info = outcomes[case]["info"]
        assert (info["name"], info["device"], info["device_name"]) == ("tensorrt", "cuda:0", "NVIDIA L4")
        assert (info["precision"], info["requests"], info["threads"], info["cache"]) == ("graph", 1, None, "none")
        pixels = 64 * 96 if case == "of fixed size" else 256 * 256
        assert info["device_memory"] == 5_000_000 + (3 + 4 * (1 + 1 + 3)) * pixels

    def test_another_gpu(self, outcomes: dict[str, dict[str, Any]]) -> None:
        info = outcomes["second GPU"]["info"]
        assert (info["device"], info["device_name"]) == ("cuda:1", "NVIDIA L4")

    @pytest.mark.parametrize(
        ("case", "code", "text", "hint"),
        [
            ("outside the profile", 1, "made for a width of 32 to 256, not 512", "--max"),
            ("no GPU", 4, "the CUDA driver finds no GPU", "CUDA_VISIBLE_DEVICES"),
            ("no second GPU", 4, "there is no GPU cuda:1", "cuda:0 (NVIDIA L4)"),
            ("driver does not start", 4, "the CUDA driver does not start: unknown error (999)", "driver"),
            ("driver too old", 4, "need one for CUDA 13.0 (release 580 or newer), and it is one for CUDA 12.4", "<13"),
            ("other TensorRT", 5, "10.16.1.11 and needs that version; 11.4.0.106 is installed", "p3m-edge build"),
            ("not trusted", 5, "brings code that would run on this machine", "P3M_EDGE_TRUST_ENGINES=1"),
            ("other capability", 5, "built for NVIDIA L4 (compute capability 8.9); this GPU is NVIDIA A10", "build"),
            ("other GPU", 5, "this GPU is NVIDIA GeForce RTX 4090 (8.9)", "p3m-edge build"),
            (
                "does not start",
                4,
                "TensorRT does not start on NVIDIA L4: createInferRuntime: Error Code 6",
                "CUDA 13.0",
            ),
            ("refused", 5, "TensorRT cannot load", "p3m-edge build"),
            ("refused", 5, "Error Code 1: Serialization assertion failed.", "p3m-edge build"),
            ("no memory for weights", 1, "NVIDIA L4 is out of memory: for the weights 0.0 MB are needed", "cuda:1"),
            ("no memory for the context", 1, "an execution context 5.0 MB are needed, 2.0 MB of 24000.0 MB", "cuda:1"),
            ("no memory for the context", 1, "TensorRT says: Error Code 2: OutOfMemory", "cuda:1"),
            ("no memory for tensors", 1, "out of memory: 0.3 MB are needed, 0.1 MB of 24000.0 MB are free", "cuda:1"),
            ("no address", 1, "TensorRT does not accept the address of image", None),
            ("fails at work", 1, "does not accept the inference: IExecutionContext::enqueueV3: Error Code 1", None),
            ("copy fails", 1, "cudaMemcpyAsync failed on NVIDIA L4: cudaErrorInvalidValue (CUDA error 1)", None),
            ("profile of another", 5, "its profile of sizes is not that of the manifest", "export"),
            ("no profile", 5, "its profile of sizes is not that of the manifest", "export"),
        ],
    )
    def test_errors(
        self, outcomes: dict[str, dict[str, Any]], case: str, code: int, text: str, hint: str | None
    ) -> None:
        found = outcomes[case]
        assert found["code"] == code
        assert text in found["error"]
        assert "\n" not in found["error"]
        assert "a warning that nobody asked for" not in found["error"]
        assert hint is None or hint in found["hint"]

    def test_nothing_is_left_on_the_gpu(self, outcomes: dict[str, dict[str, Any]]) -> None:
        assert {case: outcome["left"] for case, outcome in outcomes.items() if outcome["left"]} == {}

    @pytest.mark.parametrize("version", ["10.0.1.6", "10.16.1.11", "11.4.0.106"])
    def test_calls_and_their_order(self, tmp_path: Path, version: str) -> None:
        log = tmp_path / "calls"
        code = (
            "import sys, numpy\n"
            "from pathlib import Path\n"
            "from p3m_edge.runtimes import Matting\n"
            "from tests.artefacts import make_artefact\n"
            f"folder = make_artefact(Path({str(tmp_path / 'artefact')!r}), 'tensorrt', None)\n"
            "with Matting(folder) as matting:\n"
            "    for height in (64, 64, 32):\n"
            "        matting.engine.infer(numpy.zeros((1, height, 64, 3), numpy.uint8))\n"
            "    print(matting.engine.timed(numpy.zeros((1, 32, 64, 3), numpy.uint8)))\n"
        )
        done = on_gpu("-c", code, log=log, tensorrt=version)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Phases(enqueue=")
        calls = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        names = [name for name, *_ in calls]
        # The driver is asked before anything of TensorRT is made, and nothing is made twice.
        assert names.index("cuInit") < names.index("Runtime")
        assert [names.count(n) for n in ("Runtime", "deserialize_cuda_engine", "create_execution_context")] == [1] * 3
        assert [call[1] for call in calls if call[0] == "set_tensor_address"] == [
            "image", "alpha", "local_alpha", "global_logits",
        ]  # fmt: skip
        first = names.index("set_input_shape")
        inward, outward = "cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"
        assert calls[first - 1 : first + 13] == [
            ["cudaSetDevice", 0],
            ["set_input_shape", "image", [1, 64, 64, 3]],
            ["cudaMemcpyAsync", inward, 64 * 64 * 3],
            ["execute_async_v3"],
            ["cudaMemcpyAsync", outward, 64 * 64 * 4],
            ["cudaStreamSynchronize"],
            ["cudaSetDevice", 0],
            ["cudaMemcpyAsync", inward, 64 * 64 * 3],  # a size that is set already is not set again
            ["execute_async_v3"],
            ["cudaMemcpyAsync", outward, 64 * 64 * 4],
            ["cudaStreamSynchronize"],
            ["cudaSetDevice", 0],
            ["set_input_shape", "image", [1, 32, 64, 3]],
            ["cudaMemcpyAsync", inward, 32 * 64 * 3],
        ]
        timed = names.index("cudaEventRecord")
        assert names[timed - 4 : timed + 10] == [
            *["cudaEventCreate"] * 4, "cudaEventRecord", "cudaMemcpyAsync", "cudaEventRecord", "execute_async_v3",
            "cudaEventRecord", *["cudaMemcpyAsync"] * 3, "cudaEventRecord", "cudaStreamSynchronize",
        ]  # fmt: skip
        # Nothing is at work when it goes, and each thing goes before that of which it was made.
        last = names.index("~IExecutionContext")
        assert names[last - 1 : last + 3] == ["cudaStreamSynchronize", "~IExecutionContext", "~ICudaEngine", "~Runtime"]
        assert names[-1] == "cudaStreamDestroy"
        freed = [name for name in names[last:] if name in ("cudaFree", "cudaFreeHost", "cudaEventDestroy")]
        assert {name: freed.count(name) for name in freed} == {"cudaEventDestroy": 4, "cudaFree": 4, "cudaFreeHost": 4}

    def test_a_missing_package(self, tmp_path: Path) -> None:
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "from p3m_edge.errors import MissingError\n"
            "from p3m_edge.runtimes import Matting\n"
            "from tests.artefacts import make_artefact\n"
            f"folder = make_artefact(Path({str(tmp_path / 'artefact')!r}), 'tensorrt')\n"
            "for name in ('tensorrt', 'cuda.bindings.runtime'):\n"
            "    sys.modules[name] = None\n"
            "    try:\n"
            "        Matting(folder)\n"
            "    except MissingError as error:\n"
            "        print(error, '|', error.hint)\n"
        )
        done = on_gpu("-c", code)
        assert done.stdout.splitlines() == [
            "TensorRT is not installed | pip install tensorrt==10.16.1.11; on a Jetson it comes with JetPack",
            "the package 'cuda-bindings' cannot be imported | pip install \"p3m-edge[tensorrt]\"",
        ]

    @pytest.mark.full
    @pytest.mark.parametrize("version", ["10.16.1.11", "11.4.0.106"])
    def test_the_contract_of_all_engines(self, version: str) -> None:
        arguments = ("tests/contract", "-k", "tensorrt", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "")
        done = on_gpu("-m", "pytest", *arguments, tensorrt=version)
        assert done.returncode == 0, done.stdout
        assert "no CUDA driver" not in done.stdout

    @pytest.mark.full
    def test_the_benchmark_has_the_gpus_own_time(self, tmp_path: Path) -> None:
        make = "from pathlib import Path\nfrom tests.artefacts import make_artefact\n"
        assert on_gpu("-c", f"{make}make_artefact(Path({str(tmp_path / 'trt')!r}), 'tensorrt')").returncode == 0
        options = ("--rounds", "1", "--iterations", "1", "--warmup", "0", "--no-throughput", "--frame-size", "96x64")
        done = on_gpu("-m", "p3m_edge", "bench", str(tmp_path / "trt"), *options, "--json")
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)["rows"]
        assert (row["device"], row["used"]["device"]) == ("cuda", "cuda:0")
        gpu = row["measured"]["gpu"]
        assert gpu["inferences"] >= 10
        assert gpu["seconds"] >= 3
        # The stand-in's clock counts what is done in the stream: one copy in, the computing, three copies out.
        assert [gpu[part]["p99"] for part in ("h2d", "compute", "d2h", "latency")] == [2.0, 2.0, 4.0, 8.0]
        assert gpu["cuda_graph"] is False
