"""The network as a graph: traced into ONNX or PyTorch's operators; ranges, half precision, quantisation."""

from p3m_edge.export.graph.tracing import INPUT, IR_VERSION, copied, save, to_onnx, trace

__all__ = ["INPUT", "IR_VERSION", "copied", "save", "to_onnx", "trace"]
