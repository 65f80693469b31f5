"""The two attentions that are written unlike the published ones: Swin's windows and masks, ViTAE's Performer."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from p3m_edge.model.swin import SwinBlock, WindowAttention, from_windows, to_windows, window_mask
from p3m_edge.model.vitae import PerformerAttention, default_projection
from tests.networks import shared_standin


def bands_as_slices(size: int, shift: int) -> list[slice]:
    """The bands as the facts page words them: cut at distances from the end of the padded axis."""
    padding = -size % 7
    if shift == 0:
        return [slice(0, -padding), slice(-padding, None)] if padding else [slice(0, None)]
    if padding == 0:
        return [slice(0, -7), slice(-7, -3), slice(-3, None)]
    far, near = max(padding + 3, 7), min(padding + 3, 7)
    return [slice(0, -far), slice(-far, -near), slice(-near, -3), slice(-3, None)]


@given(height=st.integers(1, 30), width=st.integers(1, 30), shift=st.sampled_from([0, 3]))
@settings(max_examples=120)
def test_masks_separate_the_bands(height, width, shift):
    tall, wide = height + -height % 7, width + -width % 7
    band = torch.zeros(1, tall, wide, 1)
    number = 0
    for rows in bands_as_slices(height, shift):
        for columns in bands_as_slices(width, shift):
            number += 1
            band[:, rows, columns] = number
    windows = to_windows(band)[..., 0]
    expected = torch.where(windows[:, :, None] == windows[:, None, :], 0.0, -100.0)
    mask = window_mask(height, width, shift)
    if mask is None:
        assert not expected.any()
    else:
        assert mask.dtype == np.float32
        assert torch.equal(torch.from_numpy(mask)[:, 0], expected)


@given(batch=st.integers(1, 3), tall=st.integers(1, 3), wide=st.integers(1, 3), channels=st.integers(1, 4))
@settings(max_examples=40)
def test_windows_are_the_squares_of_the_map(batch, tall, wide, channels):
    x = torch.arange(float(batch * tall * wide * 49 * channels)).reshape(batch, 7 * tall, 7 * wide, channels)
    windows = to_windows(x)
    expected = [
        x[b, 7 * i : 7 * i + 7, 7 * j : 7 * j + 7].reshape(49, channels)
        for b in range(batch)
        for i in range(tall)
        for j in range(wide)
    ]
    assert torch.equal(windows, torch.stack(expected))
    assert torch.equal(from_windows(windows, 7 * tall, 7 * wide), x)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 16), (7, 7), (14, 9)])
@pytest.mark.parametrize("shift", [0, 3])
def test_attention_per_pair_of_tokens(height, width, shift):
    """A block's attention against a direct sum over every pair of cells of the rolled, padded map."""
    torch.manual_seed(1)
    block = SwinBlock(8, 2, shift).eval()
    torch.nn.init.normal_(block.attn.relative_position_bias_table)
    x = torch.randn(1, height, width, 8)
    with torch.no_grad():
        ours = block.attend(x)
        padded = torch.nn.functional.pad(x, (0, 0, 0, -width % 7, 0, -height % 7))
        rolled = torch.roll(padded, (-shift, -shift), (1, 2))
        mixed = torch.zeros_like(rolled)
        mask = window_mask(height, width, shift)
        wide = rolled.shape[2] // 7
        for n in range((rolled.shape[1] // 7) * wide):
            rows, columns = 7 * (n // wide), 7 * (n % wide)
            cells = [(i, j) for i in range(7) for j in range(7)]
            tokens = torch.stack([rolled[0, rows + i, columns + j] for i, j in cells])
            q, k, v = block.attn.qkv(tokens).split(8, dim=1)
            table = block.attn.relative_position_bias_table.reshape(13, 13, 2)
            out = torch.zeros(49, 8)
            for head in range(2):
                part = slice(4 * head, 4 * head + 4)
                scores = q[:, part] @ k[:, part].T / 2.0
                scores = scores + torch.tensor(
                    [[float(table[a - c + 6, b - d + 6, head]) for c, d in cells] for a, b in cells]
                )
                if mask is not None:
                    scores = scores + torch.from_numpy(mask[n, 0])
                out[:, part] = scores.softmax(1) @ v[:, part]
            out = block.attn.proj(out)
            for token, (i, j) in enumerate(cells):
                mixed[0, rows + i, columns + j] = out[token]
        expected = torch.roll(mixed, (shift, shift), (1, 2))[:, :height, :width]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_padding_does_not_reach_real_tokens():
    """With the masks, tokens attend as if the padding were not there: a map of 5x5 in its window of 7x7."""
    torch.manual_seed(2)
    block = SwinBlock(32, 1, 0).eval()
    attention: WindowAttention = block.attn
    x = torch.randn(1, 5, 5, 32)
    inside = torch.tensor([7 * i + j for i in range(5) for j in range(5)])
    with torch.no_grad():
        q, k, v = attention.qkv(x.reshape(25, 32)).split(32, dim=1)
        bias = attention.bias()[0][inside][:, inside]
        expected = attention.proj((q @ k.T * 32**-0.5 + bias).softmax(1) @ v).reshape(1, 5, 5, 32)
        torch.testing.assert_close(block.attend(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 1])
def test_the_default_projection_is_orthogonal(layer):
    rows = default_projection(64, layer)[0].astype(np.float64)
    assert rows.shape == (32, 64)
    np.testing.assert_allclose(rows @ rows.T, 32 * np.eye(32), atol=1e-4)
    spread = np.abs(rows).max() / np.abs(rows).mean()
    assert 2 < spread < 10  # like a Gaussian's, not like a lone sign matrix (1) or a permutation (64)


def test_projections_differ_by_layer_and_are_the_buffers():
    first, second = default_projection(64, 0), default_projection(64, 1)
    assert np.abs(first - second).max() > 1
    stage = shared_standin("vitae-s").encoder.get_submodule("stages.0")
    buffers = [cell.get_buffer("attn.projection").numpy() for cell in stage.children()]
    assert np.array_equal(buffers[0], first)
    assert np.array_equal(buffers[1], second)


def test_performer_is_attention_with_the_kernel_of_its_features():
    torch.manual_seed(3)
    attention = PerformerAttention(64, 0).double().eval()
    x = 0.3 * torch.randn(2, 11, 64, dtype=torch.float64)
    with torch.no_grad():
        k, q, v = attention.kqv(x).split(64, dim=-1)
        w = attention.projection[0]

        def phi(u):
            return torch.exp(u @ w.T - u.square().sum(-1, keepdim=True) / 2) / 32**0.5

        kernel = phi(q) @ phi(k).transpose(1, 2)  # [2, 11, 11]: what the linear form never builds
        expected = attention.proj(kernel @ v / (kernel.sum(-1, keepdim=True) + 1e-8))
        torch.testing.assert_close(attention(x), expected)
