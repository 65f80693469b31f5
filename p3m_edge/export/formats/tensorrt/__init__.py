"""Typed ONNX graphs, and the TensorRT engines that are built of them."""
