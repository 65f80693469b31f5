"""What ``tensorrt`` 10.16 and 11.4 have in common, with names and signatures as their bindings have them.

It builds no engines. The parser gives the types that onnx infers, as a strongly typed network has them; the calls are
appended to the file ``TENSORRT_CALLS``. ``TENSORRT_BEHAVIOUR`` is what goes wrong:

``none:CALL``      that call gives None, after the logger was told why
``crash``          the build ends the process, as a native library does
``slow``           the build goes on until it is told to stop
``weak``           the network takes its types from nowhere, and is in float32
"""

import enum
import json
import os
import time
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

BEHAVIOUR = os.environ.get("TENSORRT_BEHAVIOUR", "")
CACHE_OF_THIS_VERSION = b"timings of this version:"


def record(call: str, *arguments: Any) -> None:
    """Note a call."""
    if "TENSORRT_CALLS" in os.environ:
        with Path(os.environ["TENSORRT_CALLS"]).open("a") as stream:
            stream.write(json.dumps([call, *arguments]) + "\n")


class DataType(enum.Enum):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8, INT64 = range(7)


class LayerType(enum.Enum):
    CONVOLUTION, MATRIX_MULTIPLY, CAST, SHUFFLE, QUANTIZE, DEQUANTIZE, ACTIVATION = range(7)


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    Severity = Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def __init__(self) -> None:
        pass


class IProgressMonitor:
    def __init__(self) -> None:
        pass


class HardwareCompatibilityLevel(enum.Enum):
    NONE, AMPERE_PLUS, SAME_COMPUTE_CAPABILITY = range(3)


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


_LAYERS = {
    "Conv": LayerType.CONVOLUTION, "Cast": LayerType.CAST, "Transpose": LayerType.SHUFFLE,
    "QuantizeLinear": LayerType.QUANTIZE, "DequantizeLinear": LayerType.DEQUANTIZE,
}  # fmt: skip
_TYPES = {1: DataType.FLOAT, 10: DataType.HALF, 3: DataType.INT8, 2: DataType.UINT8}


class Tensor:
    def __init__(self, name: str, dtype: DataType) -> None:
        self.name, self.dtype = name, dtype


class Layer:
    def __init__(self, name: str, kind: LayerType, output: Tensor) -> None:
        self.name, self.type, self._output = name, kind, output

    def get_output(self, index: int) -> Tensor | None:
        return self._output if index == 0 else None


class Network:
    def __init__(self, typed: bool) -> None:
        self.typed = typed and BEHAVIOUR != "weak"
        self.layers: list[Layer] = []
        self.inputs: list[Tensor] = []

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Network, logger: Any) -> None:
        self._network = network

    def parse_from_file(self, path: str) -> bool:
        import onnx

        record("parse_from_file", Path(path).name)
        graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
        types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
        for value in graph.input:
            self._network.inputs.append(Tensor(value.name, _TYPES[value.type.tensor_type.elem_type]))
        for node in graph.node:
            found = _TYPES[types[node.output[0]]] if self._network.typed else DataType.FLOAT
            kind = _LAYERS.get(node.op_type, LayerType.ACTIVATION)
            self._network.layers.append(Layer(node.name, kind, Tensor(node.output[0], found)))
        return True


class TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def combine(self, other: "TimingCache", ignore_mismatch: bool) -> bool:
        record("combine", other.data.decode(), ignore_mismatch)
        return True

    def serialize(self) -> memoryview:
        return memoryview(CACHE_OF_THIS_VERSION + b" measured")


class Profile:
    def set_shape(self, name: str, minimum: Any, optimum: Any, maximum: Any) -> None:
        record("set_shape", name, list(minimum), list(optimum), list(maximum))


class Config:
    """Only what is set on purpose can be set."""

    __slots__ = ("_level", "_progress", "builder_optimization_level")

    def __init__(self) -> None:
        self._progress: Any = None

    @property
    def progress_monitor(self) -> Any:
        return self._progress

    @progress_monitor.setter
    def progress_monitor(self, monitor: Any) -> None:
        self._progress = monitor

    @property
    def hardware_compatibility_level(self) -> Any:
        return self._level

    @hardware_compatibility_level.setter
    def hardware_compatibility_level(self, level: HardwareCompatibilityLevel) -> None:
        record("hardware_compatibility_level", level.name)
        self._level = level

    def set_flag(self, flag: enum.Enum) -> None:
        record("set_flag", flag.name)

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        record("set_memory_pool_limit", pool.name, size)

    def add_optimization_profile(self, profile: Profile) -> int:
        return 0

    def create_timing_cache(self, data: bytes) -> TimingCache | None:
        record("create_timing_cache", data.decode())
        return None if BEHAVIOUR == "none:create_timing_cache" else TimingCache(data)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        fits = not cache.data or cache.data.startswith(CACHE_OF_THIS_VERSION)
        record("set_timing_cache", cache.data.decode(), ignore_mismatch, fits)
        return fits


class Builder:
    strongly_typed = 0
    """The bits of create_network without which a network is weakly typed."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def _unless_none(self, call: str, value: T) -> T | None:
        if f"none:{call}" == BEHAVIOUR:
            self._logger.log(Severity.ERROR, f"{call}: Error Code 2: the reason for it")
            self._logger.log(Severity.INFO, "what nobody needs to know")
            return None
        return value

    def create_network(self, flags: int = 0) -> Network | None:
        record("create_network", flags)
        typed = flags & self.strongly_typed == self.strongly_typed
        return self._unless_none("create_network", Network(typed))

    def create_builder_config(self) -> Config | None:
        return self._unless_none("create_builder_config", Config())

    def create_optimization_profile(self) -> Profile | None:
        return self._unless_none("create_optimization_profile", Profile())

    def build_serialized_network(self, network: Network, config: Config) -> memoryview | None:
        record("build_serialized_network", getattr(config, "builder_optimization_level", None))
        monitor = config.progress_monitor
        print("what a native library prints to the standard output")
        os.write(1, b"and past Python\n")
        monitor.phase_start("Building engine", None, 4)
        for step in range(10**9 if BEHAVIOUR == "slow" else 4):
            if not monitor.step_complete("Building engine", min(step, 3)):
                record("stopped")
                return None
            if BEHAVIOUR == "crash":
                self._logger.log(Severity.WARNING, "what it said before")
                os.kill(os.getpid(), 11)
            time.sleep(0.02 if BEHAVIOUR == "slow" else 0)
        monitor.phase_finish("Building engine")
        return self._unless_none("build_serialized_network", memoryview(b"ftrt, an engine"))
