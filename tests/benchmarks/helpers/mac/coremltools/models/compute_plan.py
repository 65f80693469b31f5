from pathlib import Path
from types import SimpleNamespace

import onnx

CPU, GPU, NE = (type(f"ML{name}ComputeDevice", (), {})() for name in ("CPU", "GPU", "NeuralEngine"))
ALLOWED = {"CPU_ONLY": [CPU], "CPU_AND_GPU": [CPU, GPU], "CPU_AND_NE": [CPU, NE], "ALL": [CPU, GPU, NE]}


class MLComputePlan:
    """Convolutions go to the last device allowed, all else to the processor; constants are told, without a device."""

    def __init__(self, nodes, devices):
        constant = SimpleNamespace(operator_name="const", outputs=[SimpleNamespace(name="c")])
        operations = [
            SimpleNamespace(
                operator_name=f"ios16.{node.op_type.lower()}", outputs=[SimpleNamespace(name=node.output[0])]
            )
            for node in nodes
        ]
        block = SimpleNamespace(operations=[constant, *operations])
        functions = {"main": SimpleNamespace(block=block)}
        self.model_structure = SimpleNamespace(program=SimpleNamespace(functions=functions))
        self._devices, self._cost = devices, 1 / len(nodes)

    @classmethod
    def load_from_path(cls, path, compute_units):
        if (Path(path) / f"{compute_units.name}.no-plan").exists():
            raise ValueError("MLComputePlan is not\nsupported.")
        return cls(onnx.load(Path(path) / "model.onnx").graph.node, ALLOWED[compute_units.name])

    def get_compute_device_usage_for_mlprogram_operation(self, operation):
        if operation.operator_name == "const":
            return None
        supported = self._devices if operation.operator_name == "ios16.conv" else [CPU]
        return SimpleNamespace(preferred_compute_device=supported[-1], supported_compute_devices=supported)

    def get_estimated_cost_for_mlprogram_operation(self, operation):
        return None if operation.operator_name == "const" else SimpleNamespace(weight=self._cost)
