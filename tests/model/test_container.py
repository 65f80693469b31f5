"""The bytes of our own checkpoints: no change to them goes unnoticed."""

import hypothesis.strategies as st
import msgspec
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings

from p3m_edge import checkpoint_header
from p3m_edge.errors import CheckpointError
from p3m_edge.model import container

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([-1.5])}
DATA = container.encode(TENSORS, arch="r34", licence="l", provenance="p", trained=True)


def test_decodes_what_was_encoded():
    assert checkpoint_header.is_safetensors(DATA)
    tensors, header = container.decode(DATA, "file")
    assert header is not None
    assert (header.arch, header.licence, header.provenance, header.trained) == ("r34", "l", "p", True)
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[key], value) for key, value in TENSORS.items())


@given(position=st.integers(0, len(DATA) - 1), change=st.integers(1, 255))
@settings(max_examples=400)
def test_any_changed_byte_is_noticed(position, change):
    data = bytearray(DATA)
    data[position] ^= change
    try:
        _, header = container.decode(bytes(data), "file")
    except CheckpointError:
        return
    assert header is None  # only where our own entry's name was hit: then it is no file of ours


def test_every_single_bit_of_the_tensors():
    start = 8 + int.from_bytes(DATA[:8], "little")
    for position in range(start, len(DATA)):
        for bit in range(8):
            data = bytearray(DATA)
            data[position] ^= 1 << bit
            with pytest.raises(CheckpointError, match="changed or damaged"):
                container.decode(bytes(data), "file")


@given(length=st.integers(0, len(DATA) - 1))
@settings(max_examples=60)
def test_any_truncation_is_noticed(length):
    with pytest.raises(CheckpointError):
        container.decode(DATA[:length], "file")


@pytest.mark.parametrize("text", ["0" * 64, '"sha256": ', "é \\ \n", ""])
def test_any_text_in_the_metadata(text):
    data = container.encode(TENSORS, arch="r34", licence=text, provenance=text, trained=False)
    _, header = container.decode(data, "file")
    assert header is not None
    assert header.licence == header.provenance == text


def test_files_of_a_later_version():
    later = checkpoint_header.Header("0" * 64, 2, "r34", "l", "p", trained=True)
    data = safetensors.torch.save(TENSORS, {checkpoint_header.METADATA_KEY: msgspec.json.encode(later).decode()})
    with pytest.raises(CheckpointError, match="version 2") as caught:
        container.decode(data, "file")
    assert "upgrade" in str(caught.value.hint)
