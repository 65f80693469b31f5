"""The terms of distillation against values worked out by hand, where gradients go, and shares of ranks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from p3m_edge import model
from p3m_edge.data.cache import Cache
from p3m_edge.data.sets import open_set
from p3m_edge.model.layers import Features
from p3m_edge.model.p3mnet import P3MNet, P3MOutput
from p3m_edge.train import config as configs
from p3m_edge.train import distill, losses
from p3m_edge.train.distill import Distillation, Projection, features_at, recorded_features
from p3m_edge.train.inputs import Draw, Files, Mixed, Synthetic
from p3m_edge.train.losses import Batch

SETTINGS = configs.load("smoke", overrides=["distillation.features=0.5", "distillation.levels=[2, 5]"]).distillation


def drawn(number: int, seed: int, size: int = 32) -> P3MOutput:
    g = torch.Generator().manual_seed(seed)
    channels = (3, 1, 1, 3, 3, 3)
    return P3MOutput(*(torch.rand((number, c, size, size), generator=g) for c in channels))


def seen(network: P3MNet, image: Tensor) -> tuple[P3MOutput, Features]:
    with recorded_features(network.encoder) as features:
        output = network(image)
    return output, features[-1]


def test_divergence_of_soft_targets():
    ours = torch.tensor([1.0, 2.0, -1.0]).reshape(1, 3, 1, 1)
    theirs = torch.tensor([0.5, 0.0, 3.0]).reshape(1, 3, 1, 1)
    for temperature in (1.0, 4.0):
        p, q = (np.exp(x.numpy().ravel() / temperature) for x in (theirs, ours))
        p, q = p / p.sum(), q / q.sum()
        expected = temperature**2 * float((p * np.log(p / q)).sum())
        term = distill.divergence(ours.expand(2, 3, 5, 7), theirs.expand(2, 3, 5, 7), temperature)
        assert int(term.divisor) == 2 * 5 * 7
        assert float(term.value / term.divisor) == pytest.approx(expected, rel=1e-5)
    assert float(distill.divergence(ours, ours + 7, 2.0).value) == pytest.approx(0, abs=1e-6)


def test_alphas_are_compared_in_the_whole_picture_and_in_the_teachers_unknown_region():
    output, taught = drawn(2, 0), drawn(2, 1)
    logits = torch.zeros_like(taught.global_logits)
    logits[:, 0] = 1
    logits[0, 1, :4, :8] = 2  # 32 pixels of the first picture are unknown
    local = taught.local_alpha.clone()
    local[0, :, :4, :8] = output.local_alpha[0, :, :4, :8] + 0.25
    taught = taught._replace(global_logits=logits, local_alpha=local, alpha=output.alpha - 0.125)
    found = distill.terms(output, taught, 2.0)
    parts = {name: float(value) for name, value in losses.divided(found).items()}
    assert parts["teacher_alpha_unknown"] == pytest.approx(0.25, rel=1e-3)
    assert parts["teacher_alpha_whole"] == pytest.approx(0.125, rel=1e-5)
    # Of a constant the pyramid keeps nothing but the residual.
    assert parts["teacher_laplacian_whole"] == pytest.approx(0.125, rel=1e-4)
    mask = (logits.argmax(dim=1, keepdim=True) == 1).float()
    expected = losses.laplacian(output.local_alpha * mask, local * mask)
    assert parts["teacher_laplacian_unknown"] == pytest.approx(float(expected.value / expected.divisor), rel=1e-6)


def test_a_teacher_that_sees_nothing_unknown_says_nothing_about_the_local_alpha():
    output, taught = drawn(1, 0), drawn(1, 1)
    taught = taught._replace(global_logits=torch.tensor([3.0, 0.0, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 32, 32))
    local = output.local_alpha.requires_grad_()
    found = losses.divided(distill.terms(output._replace(local_alpha=local), taught, 2.0))
    (found["teacher_alpha_unknown"] + found["teacher_laplacian_unknown"]).backward()
    assert local.grad is not None
    assert not local.grad.any()


def test_features_are_compared_element_by_element():
    ours, theirs = torch.zeros(3, 4, 2, 2), torch.full((3, 4, 2, 2), 0.5)
    term = distill.feature_loss([(ours, theirs), (ours[:, :1], theirs[:, :1] * 2)])
    assert float(term.value / term.divisor) == pytest.approx(0.25 + 1.0)


def test_the_sum_is_weighted_as_the_settings_say():
    names = ("logits", "alpha_unknown", "laplacian_unknown", "alpha_whole", "laplacian_whole", "features")
    parts = {f"teacher_{name}": torch.tensor(10.0**place) for place, name in enumerate(names)}
    assert float(distill.weighted(parts, SETTINGS)) == 1 + 2 * 110 + 3 * 11000 + 0.5 * 100000
    del parts["teacher_features"]
    assert float(distill.weighted(parts, SETTINGS)) == 1 + 2 * 110 + 3 * 11000


def test_a_network_has_nothing_to_learn_from_itself():
    torch.manual_seed(0)
    network = model.build("tiny").eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        output, features = seen(network, image)
    taught = Distillation(network, None, SETTINGS).losses(output, features, image)
    assert float(taught["teacher"]) < 1e-3  # what is under the published roots
    assert set(taught) == {
        "teacher", "teacher_logits", "teacher_alpha_unknown", "teacher_laplacian_unknown", "teacher_alpha_whole",
        "teacher_laplacian_whole",
    }  # fmt: skip


def test_gradients_reach_the_student_and_the_projection_alone():
    torch.manual_seed(0)
    student, teacher = model.build("tiny"), model.build("r34")
    projection = Projection(student, teacher, SETTINGS.levels)
    assert [tuple(level.weight.shape[:2]) for level in projection.maps] == [(64, 16), (512, 48)]  # type: ignore[index]  # all of them are convolutions
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    taught = Distillation(teacher, projection, SETTINGS)
    image = torch.randn(2, 3, 64, 64)
    student.train()
    output, features = seen(student, image)
    taught.losses(output, features, image)["teacher"].backward()
    for module in (projection, student.encoder, student.local_decoder):
        grads = [parameter.grad for parameter in module.parameters()]
        assert all(grad is not None and bool(grad.isfinite().all()) for grad in grads)
        assert any(grad is not None and bool(grad.any()) for grad in grads)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any(module.training for module in teacher.modules())


@pytest.mark.parametrize("cut", [1, 3])
def test_ranks_learn_as_one_process(cut):
    torch.manual_seed(0)
    student, teacher = model.build("tiny").eval(), model.build("tiny")
    taught = Distillation(teacher, Projection(student, teacher, SETTINGS.levels), SETTINGS)
    image = torch.randn(4, 3, 64, 64)
    whole = taught.losses(*seen(student, image), image)
    counts: list[Tensor] = []
    shares = (image[:cut], image[cut:])

    def kept(count: Tensor) -> Tensor:
        counts.append(count)
        return count

    for share in shares:
        taught.losses(*seen(student, share), share, kept)
    together = torch.stack(counts).sum(dim=0)
    ranks = [taught.losses(*seen(student, share), share, lambda _: together) for share in shares]
    for name, value in whole.items():
        assert sum(rank[name].item() for rank in ranks) / 2 == pytest.approx(value.item(), rel=1e-4), name


def batch_of(number: int, kept: list[bool] | None) -> tuple[P3MOutput, Batch]:
    output, truth = drawn(number, 2), drawn(number, 3)
    trimap = (truth.local_alpha * 3).floor() * 127.5
    trimap[(trimap > 0) & (trimap < 255)] = 128
    picture = truth.side0
    batch = Batch(
        picture, truth.alpha, trimap, truth.side1, truth.side2, torch.ones(number, dtype=torch.bool),
        None if kept is None else torch.tensor(kept),
    )  # fmt: skip
    return P3MOutput(*(x.requires_grad_() for x in output)), batch


def test_pictures_without_truth_are_left_out_of_the_published_losses():
    output, batch = batch_of(3, [True, False, True])
    where = torch.tensor([0, 2])
    alone, truth = batch_of(3, None)
    assert truth.foreground is not None
    assert truth.background is not None
    smaller = Batch(
        truth.image[where], truth.alpha[where], truth.trimap[where], truth.foreground[where], truth.background[where]
    )
    expected = losses.total(P3MOutput(*(x[where] for x in alone)), smaller)
    found = losses.total(output, batch)
    for name, value in expected.items():
        share = 2 / 3 if name == "total" else 1
        assert found[name].item() == pytest.approx(share * value.item(), rel=1e-6), name
    found["total"].backward()
    assert output.alpha.grad is not None
    assert output.alpha.grad[0].any()
    assert not output.alpha.grad[1].any()


def test_a_batch_without_truth_has_no_published_loss_but_gradients_of_zero():
    """DistributedDataParallel waits for the gradient of every parameter."""
    output, batch = batch_of(2, [False, False])
    found = losses.total(output, batch)
    assert all(value.item() == 0 for value in found.values())
    found["total"].backward()
    assert all(x.grad is not None and not x.grad.any() for x in output)


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "share", "expected"),
    [(4, 12, 0.5, (12, 12)), (4, 12, 0.9, (4, 36)), (9, 1, 0.25, (9, 3))],
)
def test_an_epoch_has_its_share_of_both_kinds(labelled, unlabelled, share, expected):
    mixed = Mixed(Synthetic(0, labelled, 32, 32), Synthetic(1, unlabelled, 32, 32), share)
    assert mixed.counts == expected
    assert len(mixed) == sum(expected)
    assert math.isclose(expected[1] / sum(expected), share)


def test_the_shorter_kind_is_gone_through_again(portraits):
    items = open_set(portraits).items
    mixed = Mixed(Files(items[:2], Cache(0)), Files(items[2:7], Cache(0)), 0.5)
    names = [mixed.read(Draw(1, item)).name for item in range(len(mixed))]
    assert names == ["p00", "p01", "p00", "p01", "p00", "p02", "p03", "p04", "p05", "p06"]


def test_levels_are_those_at_their_size():
    network = model.build("tiny").eval()
    _, features = seen(network, torch.zeros(1, 3, 64, 96))
    assert [x.shape[2:] for x in features_at(features, (2, 3, 4, 5))] == [(16, 24), (8, 12), (4, 6), (2, 3)]
