"""Artefacts of ONNX Runtime in the browser: a folder for any static server, and a server for this machine."""
