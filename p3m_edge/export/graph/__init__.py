"""The network as a graph: traced into ONNX or PyTorch's operators; ranges, half precision, quantisation."""

from p3m_edge.export.graph.tracing import INPUT, IR_VERSION, copied, save, to_onnx, trace

__all__ = ["INPUT", "IR_VERSION", "copied", "save", "to_onnx", "trace"]

FAINT = 254 * 2.0**-24
"""Channels whose weights are all smaller become zeros in 8 bits: in half precision they have no scale to divide by.

ImageNet's EfficientNet has such channels: their weights decayed in training, and their bias is all that they give.
"""
