"""Latency, memory and accuracy of artefacts, with the fingerprint of the machine."""
