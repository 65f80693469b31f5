"""The losses against the published values, and shared out over ranks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from p3m_edge.model.p3mnet import P3MOutput
from p3m_edge.train import losses
from p3m_edge.train.losses import Batch, Term


def mean(term: Term) -> float:
    return float(term.value / term.divisor)


def batch_of(number: int, size: int = 64, seed: int = 0) -> tuple[P3MOutput, Batch]:
    g = torch.Generator().manual_seed(seed)

    def draw(channels: int) -> Tensor:
        return torch.rand((number, channels, size, size), generator=g)

    output = P3MOutput(draw(3), draw(1), draw(1), draw(3), draw(3), draw(3))
    trimap = torch.tensor([0.0, 1.0, 128.0, 254.0, 255.0])[torch.randint(5, (number, 1, size, size), generator=g)]
    trimap[0] = 128  # so that the pictures' unknown regions differ in size
    colours = torch.arange(number) % 4 != 1
    return output, Batch(draw(3), draw(1), trimap, draw(3), draw(3), colours)


def part(output: P3MOutput, batch: Batch, where: slice) -> tuple[P3MOutput, Batch]:
    kept = P3MOutput(*(x[where].clone().requires_grad_() for x in output))
    assert batch.foreground is not None
    assert batch.background is not None
    assert batch.has_colours is not None
    return kept, Batch(
        batch.image[where], batch.alpha[where], batch.trimap[where],
        batch.foreground[where], batch.background[where], batch.has_colours[where],
    )  # fmt: skip


def test_pixels_that_are_not_trusted_teach_nothing():
    """Whatever the truth says there, losses and gradients are the same; where all is trusted, they are as without."""
    output, batch = batch_of(2)
    trust = torch.ones_like(batch.alpha)
    plain, trusted = losses.total(output, batch)["total"], losses.total(output, replace(batch, trust=trust))["total"]
    assert torch.allclose(plain, trusted)
    trust[:, :, 20:44, 10:50] = 0
    found = []
    for value in (0.0, 1.0):
        leaf = P3MOutput(*(x.clone().requires_grad_() for x in output))
        inside = trust == 0
        other = replace(
            batch, trust=trust,
            alpha=torch.where(inside, torch.full_like(trust, value), batch.alpha),
            trimap=torch.where(inside, torch.full_like(trust, 255 * value), batch.trimap),
        )  # fmt: skip
        loss = losses.total(leaf, other)
        loss["cross_entropy"].backward()
        assert leaf.global_logits.grad is not None
        assert not leaf.global_logits.grad[(inside).expand_as(leaf.global_logits)].any()
        found.append([float(x.detach()) for x in (loss["cross_entropy"], loss["alpha_whole"])])
    assert found[0] == pytest.approx(found[1])
    assert found[0][0] < float(losses.total(output, batch)["cross_entropy"])


def test_the_published_values(shared):
    cases = shared / "reference" / "cases"
    for case, inputs in published(cases):
        values = json.loads((cases / "metrics_losses.json").read_text())[case]
        pred, alpha, trimap, image, foreground, background, logits = inputs
        unknown = (trimap == 128).float()
        masked = losses.alpha_loss(pred, alpha, unknown)
        found = {
            "cross_entropy": mean(losses.cross_entropy(logits, trimap)),
            "alpha_unknown": float(masked.value / (masked.divisor + 1)),
            "alpha_whole": mean(losses.alpha_loss(pred, alpha)),
            "laplacian_unknown": mean(losses.laplacian(pred * unknown, alpha * unknown)),
            "laplacian_whole": mean(losses.laplacian(pred, alpha)),
            "composition_whole": mean(losses.composition(pred, image, foreground, background)),
        }
        assert found == pytest.approx({name: values[f"loss_{name}"] for name in found}, rel=1e-5)

        output = P3MOutput(logits, pred, pred, logits, 2 * logits, logits)
        all_of_them = losses.total(output, Batch(image, alpha, trimap, foreground, background))
        for name in ("cross_entropy", "alpha_unknown", "alpha_whole", "laplacian_unknown", "laplacian_whole"):
            assert float(all_of_them[name]) == pytest.approx(values[f"loss_{name}"], rel=1e-4)
        assert float(all_of_them["composition"]) == pytest.approx(values["loss_composition_whole"], rel=1e-4)
        sides = 2 * values["loss_cross_entropy"] + float(all_of_them["side1"])
        assert float(all_of_them["total"]) == pytest.approx(
            (sides + 3 * values["loss_cross_entropy"]) / 6
            + 2 * (values["loss_alpha_unknown"] + values["loss_laplacian_unknown"])
            + 3 * (values["loss_alpha_whole"] + values["loss_laplacian_whole"])
            + values["loss_composition_whole"],
            rel=1e-4,
        )


def published(cases) -> Iterator[tuple[str, list[Tensor]]]:
    with np.load(cases / "metrics_losses.npz") as arrays:
        for case, values in json.loads((cases / "metrics_losses.json").read_text()).items():
            h, w = values["height"], values["width"]
            rng = np.random.default_rng(values["random_seed"])
            drawn = [torch.from_numpy(rng.standard_normal((1, 3, h, w)).astype(np.float32)) for _ in range(4)]
            pred, alpha, trimap = (
                torch.from_numpy(arrays[f"{case}_{name}"]).float()[None, None] for name in ("pred", "alpha", "trimap")
            )
            yield case, [pred / 255, alpha / 255, trimap, *drawn]


def test_classes_of_a_resized_trimap():
    trimap = torch.tensor([0.0, 1.0, 2.0, 127.0, 128.0, 254.0, 254.9, 255.0])[None, None, None]
    assert losses.classes(trimap).tolist() == [[[0, 1, 1, 1, 1, 1, 1, 2]]]


def test_only_exactly_128_is_unknown():
    output, batch = batch_of(1)
    near = batch.trimap.clone()
    near[...] = 127
    assert losses.total(output, batch)["laplacian_unknown"] > 0
    assert losses.total(output, Batch(batch.image, batch.alpha, near))["laplacian_unknown"] == 0


@pytest.mark.parametrize("shares", [(2, 2), (1, 3)])
def test_ranks_train_as_one_process(shares):
    """Loss and gradients of two ranks, averaged as DistributedDataParallel does, are those of one process."""
    output, batch = batch_of(4)
    whole, truth = part(output, batch, slice(0, 4))
    expected = losses.total(whole, truth)
    expected["total"].backward()

    parts = [part(output, batch, where) for where in (slice(0, shares[0]), slice(shares[0], 4))]
    seen: list[Tensor] = []

    def note(counts: Tensor) -> Tensor:
        seen.append(counts)
        return counts

    for output_r, batch_r in parts:
        losses.total(output_r, batch_r, note)
    together = torch.stack(seen).sum(dim=0)
    ranks = [losses.total(output_r, batch_r, lambda counts: together) for output_r, batch_r in parts]
    for name in expected:
        average = sum(rank[name].item() for rank in ranks) / 2
        assert average == pytest.approx(expected[name].item(), rel=1e-5), name
    for rank in ranks:
        rank["total"].backward()
    for field in range(len(output)):
        pieces = [output_r[field].grad for output_r, _ in parts]
        shared_out = torch.cat([piece for piece in pieces if piece is not None]) / 2
        torch.testing.assert_close(shared_out, whole[field].grad, rtol=1e-5, atol=1e-9)


def test_pictures_without_colours_are_left_out_of_the_composition():
    output, batch = batch_of(4)
    assert batch.has_colours is not None
    kept = batch.has_colours
    assert batch.foreground is not None
    assert batch.background is not None
    alone = Batch(
        batch.image[kept], batch.alpha[kept], batch.trimap[kept], batch.foreground[kept], batch.background[kept]
    )
    expected = losses.total(P3MOutput(*(x[kept] for x in output)), alone)["composition"]
    assert float(losses.total(output, batch)["composition"]) == pytest.approx(float(expected), rel=1e-6)
    none = Batch(batch.image, batch.alpha, batch.trimap)
    assert float(losses.total(output, none)["composition"]) == 0
    nobody = replace(batch, has_colours=torch.zeros_like(kept))
    assert float(losses.total(output, nobody)["composition"]) == 0


def test_perfect_and_without_anything_unknown():
    output, batch = batch_of(2)
    known = Batch(batch.image, batch.alpha, torch.zeros_like(batch.trimap))
    perfect = P3MOutput(*(x.clone().requires_grad_() for x in output._replace(alpha=batch.alpha)))
    found = losses.total(perfect, known)
    pixels = batch.alpha.numel()
    assert found["alpha_unknown"].item() == pytest.approx(1e-6 * pixels, rel=1e-4)  # over |U| + 1 = 1
    assert found["alpha_whole"].item() == pytest.approx(1e-6, rel=1e-4)
    assert found["laplacian_whole"].item() == found["laplacian_unknown"].item() == 0
    found["total"].backward()
    assert all(x.grad is None or bool(x.grad.isfinite().all()) for x in perfect)


def test_half_precision_outputs_are_compared_in_float32():
    """In half precision 1e-12 under the root is 0, and the gradient of a root at 0 is not a number."""
    output, batch = batch_of(2)
    half = P3MOutput(*(x.bfloat16().requires_grad_() for x in output._replace(alpha=batch.alpha)))
    rounded = P3MOutput(*(x.detach().float() for x in half))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses.total(half, batch)
    assert found["total"].dtype == torch.float32
    assert found["total"].item() == losses.total(rounded, batch)["total"].item()
    found["total"].backward()
    assert all(x.grad is not None and bool(x.grad.isfinite().all()) for x in half)
