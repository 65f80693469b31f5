"""TensorRT's runtime, of the version in ``STAND_IN``: 10 still has ``device_memory_size``, 11 has not.

An engine is the magic of TensorRT's, a header, and an ONNX model, which onnx's evaluator runs.
"""

import importlib
import json
import struct
from enum import IntEnum
from math import prod

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

cudart = importlib.import_module("cuda.bindings.runtime")
SETTINGS, note = (getattr(importlib.import_module("sitecustomize"), name) for name in ("SETTINGS", "note"))

__version__ = SETTINGS["tensorrt"]
_MAGIC = b"ftrt"
_SCRATCH = 5_000_000

TensorIOMode = IntEnum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"], start=0)
DataType = IntEnum("DataType", ["FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8"], start=0)
_DTYPES = {onnx.TensorProto.UINT8: DataType.UINT8, onnx.TensorProto.FLOAT: DataType.FLOAT}


class ILogger:
    """To be subclassed; its ``__init__`` must be called."""

    Severity = IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def __init__(self):
        self.made = True

    def log(self, severity, message):
        raise NotImplementedError


class Runtime:
    """Makes engines of bytes; gives None and tells the logger where it cannot."""

    engine_host_code_allowed = False

    def __init__(self, logger):
        if not logger.made:
            raise TypeError("the logger was not made")
        note("Runtime")
        self.logger = logger

    def __del__(self):
        note("~Runtime")

    def deserialize_cuda_engine(self, serialized_engine):
        note("deserialize_cuda_engine", len(serialized_engine), self.engine_host_code_allowed)
        if "deserialize_cuda_engine" in SETTINGS["fails"] or not _sound(serialized_engine):
            self.logger.log(ILogger.WARNING, "a warning that nobody asked for")
            self.logger.log(ILogger.ERROR, "deserializeCudaEngine: Error Code 1: Serialization assertion failed.")
            return None
        if "weights" in SETTINGS["fails"]:
            self.logger.log(ILogger.ERROR, "Requested amount of GPU memory could not be allocated: out of memory")
            return None
        return ICudaEngine(serialized_engine, self.logger)


def _sound(data):
    (length,) = struct.unpack_from("<I", data, 32) if data[:4] == _MAGIC and len(data) > 36 else (0,)
    try:
        onnx.checker.check_model(onnx.load_from_string(data[36 + length :]))
    except Exception:  # noqa: BLE001 - whatever protobuf and the checker raise
        return False
    return True


class ICudaEngine:
    """An engine: the ONNX model's inputs and outputs."""

    def __init__(self, data, logger):
        (length,) = struct.unpack_from("<I", data, 32)  # as tests.artefacts.stand_in_plan has it
        self.profile = json.loads(data[36 : 36 + length])
        self.model = onnx.load_from_string(data[36 + length :])
        self.logger = logger
        graph = self.model.graph
        self._tensors = {value.name: value for value in (*graph.input, *graph.output)}
        self._inputs = {value.name for value in graph.input}
        self.num_io_tensors = len(self._tensors)
        if __version__.split(".")[0] == "10":
            self.device_memory_size = _SCRATCH
        if __version__ != "10.0.1.6":
            self.device_memory_size_v2 = _SCRATCH

    def __del__(self):
        note("~ICudaEngine")

    def get_tensor_name(self, index):
        return list(self._tensors)[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return _DTYPES[self._tensors[name].type.tensor_type.elem_type]

    def get_tensor_shape(self, name):
        return tuple(d.dim_value or -1 for d in self._tensors[name].type.tensor_type.shape.dim)

    def get_tensor_profile_shape(self, name, profile_index):
        return [tuple(shape) for shape in self.profile]

    def create_execution_context(self):
        note("create_execution_context")
        if "create_execution_context" in SETTINGS["fails"]:
            self.logger.log(ILogger.ERROR, "Error Code 2: OutOfMemory (Requested size was 5000000 bytes.)")
            return None
        return IExecutionContext(self)


class IExecutionContext:
    """Computes when the stream comes to it, from and into the GPU's memory."""

    def __init__(self, engine):
        self.engine = engine
        self._addresses = {}
        self._shape = engine.get_tensor_shape(engine.get_tensor_name(0))

    def __del__(self):
        note("~IExecutionContext")

    def set_tensor_address(self, name, memory):
        note("set_tensor_address", name)
        self._addresses[name] = int(memory)
        return "set_tensor_address" not in SETTINGS["fails"]

    def set_input_shape(self, name, shape):
        note("set_input_shape", name, shape)
        low, _, high = self.engine.profile
        if not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            self.engine.logger.log(ILogger.ERROR, "IExecutionContext::setInputShape: Error Code 3: out of the profile")
            return False
        self._shape = tuple(shape)
        return True

    def execute_async_v3(self, stream_handle):
        note("execute_async_v3")
        if "execute_async_v3" in SETTINGS["fails"]:
            self.engine.logger.log(ILogger.ERROR, "IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime")
            return False
        if set(self._addresses) != {self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)}:
            self.engine.logger.log(ILogger.ERROR, "IExecutionContext::enqueueV3: Error Code 3: no address")
            return False
        cudart.STREAMS[stream_handle].work.append(self._compute)
        return True

    def _compute(self):
        memory = cudart.DEVICE_MEMORY
        name = self.engine.get_tensor_name(0)
        data = bytes(memory[self._addresses[name]][: prod(self._shape)])
        image = np.frombuffer(data, np.uint8).reshape(self._shape)
        outputs = [value.name for value in self.engine.model.graph.output]
        values = ReferenceEvaluator(self.engine.model).run(outputs, {name: image})
        for output, value in zip(outputs, values, strict=True):
            raw = np.ascontiguousarray(value).tobytes()
            memory[self._addresses[output]][: len(raw)] = raw
