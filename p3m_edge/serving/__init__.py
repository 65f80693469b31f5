"""Artefacts on servers: model repositories for Triton and OpenVINO Model Server."""
