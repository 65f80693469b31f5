"""P3M-FCP: what is pasted, where, without gradients or traces, and nothing of it in what is exported."""

import copy
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.ndimage import center_of_mass, map_coordinates
from torch import Tensor, nn

from p3m_edge.errors import InputError, UsageError
from p3m_edge.export import graph
from p3m_edge.model import build
from p3m_edge.model.deploy import Deploy
from p3m_edge.model.layers import Encoder, Features
from p3m_edge.model.p3mnet import P3MNet
from p3m_edge.model.unpool import max_pool
from p3m_edge.targets import ARCHS
from p3m_edge.train.feature_paste import LEVELS, FeaturePaste
from tests.networks import shared_standin

HEIGHT, WIDTH = 96, 160  # of the targets; the sources have another size
SOURCE = (128, 96)
NAMES = ("e0", "half", "e1", "e2", "e3", "e4")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def images(batch: int, height: int, width: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((batch, 3, height, width)).astype(np.float32))


def ellipse(height: int, width: int, x: float, y: float, rx: float, ry: float) -> Tensor:
    rows, columns = np.mgrid[:height, :width]
    return torch.from_numpy((((columns - x) / rx) ** 2 + ((rows - y) / ry) ** 2 <= 1).astype(np.uint8))


TARGET_MASKS = torch.stack([ellipse(HEIGHT, WIDTH, 104, 40, 47, 38), ellipse(HEIGHT, WIDTH, 52, 55, 44, 40)])
SOURCE_MASKS = torch.stack([ellipse(*SOURCE, 50, 70, 40, 52), ellipse(*SOURCE, 44, 60, 36, 44)])


def levels_of(encoder: Encoder, x: Tensor) -> tuple[list[Tensor], Features]:
    """The features of all six levels, the stem's included, as the rest of the network sees them.

    The mobile network has no level 0; its stem stands in the list for what no paste may change.
    """
    stem: list[Tensor] = []
    handle = encoder.get_submodule("stem").register_forward_hook(lambda _m, _i, out: stem.append(out))
    features = encoder(x)
    handle.remove()
    return [stem[0], features.half, features.e1, features.e2, features.e3, features.e4], features


def place(network: P3MNet, level: int) -> nn.Module:
    """The module whose output is the level."""
    layers = ("stem", *(f"layer{stage}" for stage in range(LEVELS - 1)))
    if network.arch == "mobile":
        layers = ("", "detail", "layer1", "layer2", "layer3", "join")
    return network.encoder.get_submodule(layers[level])


def at_level(mask: Tensor, level: int) -> np.ndarray:
    side = 2**level
    height, width = mask.shape
    cells = (mask != 0).numpy().reshape(height // side, side, width // side, side)
    return np.asarray(cells.mean(axis=(1, 3)) >= 0.5)


def placed(source: np.ndarray, masks: tuple[Tensor, Tensor], scale: float, level: int, mode: str) -> np.ndarray:
    """An independent warp of ``[C, hs, ws]``: centre to centre, in the level's cells."""
    source_mask, target_mask = masks
    cells = 2.0**level
    from_y, from_x = (np.array(center_of_mass((source_mask != 0).numpy())) + 0.5) / cells
    to_y, to_x = (np.array(center_of_mass((target_mask != 0).numpy())) + 0.5) / cells
    rows, columns = np.mgrid[: target_mask.shape[0] >> level, : target_mask.shape[1] >> level]
    y = (rows + 0.5 - to_y) / scale + from_y - 0.5
    x = (columns + 0.5 - to_x) / scale + from_x - 0.5
    return np.stack([map_coordinates(plane, [y, x], order=1, mode=mode) for plane in source])


class Case(NamedTuple):
    network: P3MNet
    targets: Tensor
    sources: Tensor
    plain: list[Tensor]
    borrowed: list[Tensor]


@pytest.fixture(scope="module", params=[*ARCHS, "tiny"])
def case(request) -> Case:
    """A network, and the features that it has of the targets and of the sources when nothing is pasted."""
    torch.manual_seed(0)
    network = (build("tiny") if request.param == "tiny" else shared_standin(request.param)).eval()
    targets, sources = images(2, HEIGHT, WIDTH, 1), images(2, *SOURCE, 2)
    with torch.no_grad():
        plain, borrowed = (levels_of(network.encoder, x)[0] for x in (targets, sources))
    return Case(network, targets, sources, plain, borrowed)


@pytest.mark.parametrize("level", range(LEVELS))
def test_inside_is_the_source_and_outside_is_untouched(case, level):
    network, targets, sources, plain, borrowed = case
    if network.arch == "mobile" and level == 0:
        with pytest.raises(UsageError, match="no level 0"):
            FeaturePaste(network, (0, 2))
        return
    paste = FeaturePaste(network, (level,), probability=1.0, from_epoch=0, scale=(0.8, 0.8))
    rng = np.random.default_rng(0)
    with torch.no_grad(), paste.apply(sources, SOURCE_MASKS, TARGET_MASKS, rng, epoch=0) as chosen:
        merged, features = levels_of(network.encoder, targets)
    assert_no_trace(network)
    assert chosen.all()
    for index in range(2):
        pair = (SOURCE_MASKS[index], TARGET_MASKS[index])
        wanted = placed(borrowed[level][index].numpy(), pair, 0.8, level, "nearest")
        cover = placed(at_level(pair[0], level)[None].astype(float), pair, 0.8, level, "grid-constant")[0]
        inside = at_level(pair[1], level) & (cover >= 0.5)
        unsure = np.abs(cover - 0.5) < 1e-3
        found, old = merged[level][index].numpy(), plain[level][index].numpy()
        assert 0 < inside.sum() < inside.size
        sure = inside & ~unsure
        np.testing.assert_allclose(found[:, sure], wanted[:, sure], rtol=0, atol=1e-3 * np.abs(wanted).max())
        outside = ~inside & ~unsure
        np.testing.assert_array_equal(found[:, outside], old[:, outside])
        changed = (found != old).any(axis=0)
        if sure.sum() >= 30:  # the face's own middle, where it is whole cells wide
            middle = np.array(center_of_mass(changed))
            assert np.abs(middle + 0.5 - (np.array(center_of_mass(pair[1].numpy())) + 0.5) / 2**level).max() < 1
    # Above, nothing changes; below, everything runs on the merged features, winners included.
    below = (
        [1] if network.arch == "mobile" and level == 1 else range(level, LEVELS)
    )  # its detail stands beside the rest
    assert [k for k in range(LEVELS) if not torch.equal(merged[k], plain[k])] == list(below)
    assert torch.equal(features.half, merged[1])
    if network.arch == "mobile":
        assert features.detail is features.half
    elif level < LEVELS - 1:
        with torch.no_grad():
            _, winners = max_pool(merged[level], network.encoder.kernel)
        assert all(torch.equal(a, b) for a, b in zip(features.winners[level], winners, strict=True))


def test_the_centres_agree_at_every_level_with_fit():
    """Faces of other sizes, scaled to the target's extent, far from the centres of their pictures."""
    network = build("tiny").eval()
    sources = images(1, 256, 192, 3)
    source = ellipse(256, 192, 130, 90, 50, 70)[None]
    target = ellipse(HEIGHT, 2 * WIDTH, 240, 40, 28, 39)[None]
    for level in range(LEVELS):
        paste = FeaturePaste(network, (level,), probability=1.0, from_epoch=0, scale=(1.0, 1.0), fit=True)
        x = images(1, HEIGHT, 2 * WIDTH, 4)
        with torch.no_grad():
            plain = levels_of(network.encoder, x)[0][level]
            with paste.apply(sources, source, target, np.random.default_rng(0), epoch=0):
                merged = levels_of(network.encoder, x)[0][level]
        changed = (plain != merged).any(dim=1)[0].numpy()
        wanted = (np.array(center_of_mass(target[0].numpy())) + 0.5) / 2**level - 0.5
        assert np.abs(np.array(center_of_mass(changed)) - wanted).max() < 1
        # To its extent: all of the target's face is covered but for its rim.
        rim = np.pi * (28 + 39) / 2**level + 4
        assert abs(int(changed.sum()) - int(at_level(target[0], level).sum())) <= rim


def test_fit_comes_before_scale():
    """Half of the target's extent, from a source of another size."""
    network, x = build("tiny").eval(), images(1, HEIGHT, WIDTH, 4)
    source, target = ellipse(256, 192, 100, 120, 80, 80)[None], ellipse(HEIGHT, WIDTH, 80, 48, 40, 40)[None]
    paste = FeaturePaste(network, (0,), probability=1.0, from_epoch=0, scale=(0.5, 0.5), fit=True)
    with torch.no_grad():
        plain = network.encoder.get_submodule("stem")(x)
        with paste.apply(images(1, 256, 192, 3), source, target, np.random.default_rng(0), epoch=0):
            changed = (network.encoder.get_submodule("stem")(x) != plain).any(dim=1)
    assert float(changed.sum()) == pytest.approx(float(target.sum()) / 4, rel=0.05)


def step(network: P3MNet, x: Tensor) -> Tensor:
    output = network(x)
    loss = output.global_logits.square().mean() + output.local_alpha.mean() + output.side2.square().mean()
    loss.backward()
    value: Tensor = loss.detach()
    return value


def gradients(network: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("arch", "level"),
    [("tiny", 0), ("tiny", 1), ("tiny", 2), ("tiny", 4), ("r34", 1), ("r34", 3), ("mobile", 1), ("mobile", 5)],
)
def test_the_sources_gradient_is_zero(arch, level):
    """Nothing flows back to the source, and the weights get what constants in its place would give them."""
    torch.manual_seed(0)
    network = build(arch).train()
    module = place(network, level)
    targets, sources = images(2, 64, 96, 1), images(2, 64, 64, 2).requires_grad_()
    masks = torch.stack([ellipse(64, 64, 30, 34, 24, 28)] * 2)
    goals = torch.stack([ellipse(64, 96, 40, 30, 30, 28)] * 2)
    start = copy.deepcopy(network.state_dict())
    seen: list[Tensor] = []

    def see(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        seen.append(output.detach().clone())

    paste = FeaturePaste(network, (level,), probability=1.0, from_epoch=0, scale=(1.0, 1.0))
    with paste.apply(sources, masks, goals, np.random.default_rng(0), epoch=0):
        handle = module.register_forward_hook(see)  # behind that of the paste
        step(network, targets)
    assert sources.grad is None
    found = gradients(network)
    assert all(value.isfinite().all() for value in found.values())
    handle.remove()
    network.zero_grad()
    network.load_state_dict(start)
    with module.register_forward_hook(see):
        step(network, targets)
    unlike = (seen[0] != seen[1]).any(dim=1, keepdim=True)
    assert unlike.any()
    assert not unlike.all()
    plain = gradients(network)
    network.zero_grad()
    network.load_state_dict(start)
    with module.register_forward_hook(lambda _m, _i, output: torch.where(unlike, seen[0], output)):
        step(network, targets)
    wanted = gradients(network)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert not all(torch.equal(plain[name], value) for name, value in wanted.items())


@pytest.mark.parametrize(
    "arch", ["mobile", "tiny", *(pytest.param(a, marks=pytest.mark.full) for a in ("r34", "vitae-s"))]
)
@pytest.mark.parametrize("mode", ["frozen", "batch", "update"])
def test_batch_norm_statistics(arch, mode):
    """The source pass leaves them alone unless that is chosen; the modes and flags of every module come back."""
    torch.manual_seed(0)
    network = build(arch).train()
    frozen = next(m for m in network.encoder.modules() if isinstance(m, nn.BatchNorm2d))
    frozen.eval()  # one that is frozen stays so
    before = {name: value.clone() for name, value in network.named_buffers()}
    flags = [(m.training, getattr(m, "track_running_stats", None)) for m in network.modules()]
    sources = images(2, 64, 64, 2) + 1.0
    masks = torch.ones(2, 64, 64)
    paste = FeaturePaste(network, (2,), probability=1.0, from_epoch=0, source_batch_norm=mode)
    with paste.apply(sources, masks, masks, np.random.default_rng(0), epoch=0):
        assert [(m.training, getattr(m, "track_running_stats", None)) for m in network.modules()] == flags
    after = dict(network.named_buffers())
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    if mode == "update":
        assert moved
        assert all(name.startswith("encoder.") for name in moved)
        assert torch.equal(frozen.running_mean, torch.zeros_like(frozen.running_mean))  # type: ignore[arg-type]  # it has one
    else:
        assert not moved


def test_batch_statistics_differ_from_running_ones():
    torch.manual_seed(0)
    network = build("tiny").train()
    sources, targets, masks = images(2, 64, 64, 2) * 3 + 1, images(2, 64, 64, 3), torch.ones(2, 64, 64)
    start = copy.deepcopy(network.state_dict())
    found = {}
    for mode in ("frozen", "batch", "update"):
        network.load_state_dict(start)
        paste = FeaturePaste(network, (2,), probability=1.0, from_epoch=0, source_batch_norm=mode)
        with paste.apply(sources, masks, masks, np.random.default_rng(0), epoch=0), torch.no_grad():
            found[mode] = network.encoder(targets).e1
    assert torch.equal(found["batch"], found["update"])
    assert not torch.allclose(found["batch"], found["frozen"])


@pytest.mark.parametrize("how", ["probability 0", "before its epoch", "no source face", "no target face"])
def test_nothing_pasted_is_plain_training_bit_for_bit(how):
    torch.manual_seed(0)
    plain = build("tiny").train()
    network = copy.deepcopy(plain)
    sources, full, none = images(2, 64, 64, 2), torch.ones(2, 64, 64), torch.zeros(2, 64, 64)
    probability, start = (0.0 if how == "probability 0" else 1.0), (50 if how == "before its epoch" else 0)
    source_masks = none if how == "no source face" else full
    target_masks = none if how == "no target face" else full
    paste = FeaturePaste(network, range(LEVELS), probability=probability, from_epoch=start, source_batch_norm="update")
    rng, optimisers = np.random.default_rng(0), [torch.optim.Adam(n.parameters(), 1e-3) for n in (plain, network)]
    state = torch.get_rng_state()
    for seed in range(2):
        x = images(2, 64, 64, 10 + seed)
        losses = [step(plain, x)]
        with paste.apply(sources, source_masks, target_masks, rng, epoch=49 if start else 0) as chosen:
            losses.append(step(network, x))
        assert not chosen.any()
        assert torch.equal(*losses)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
    for name, value in plain.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert torch.equal(torch.get_rng_state(), state)


def test_pasting_draws_from_its_generator_alone():
    torch.manual_seed(0)
    network = build("tiny").eval()
    sources, targets, masks = images(8, 64, 64, 2), images(8, 64, 64, 3), torch.ones(8, 64, 64)
    paste = FeaturePaste(network, (1, 3), from_epoch=50, variant="shuffle")
    state, found = torch.get_rng_state(), []
    for _ in range(2):
        with paste.apply(sources, masks, masks, np.random.default_rng(7), epoch=50) as chosen, torch.no_grad():
            found.append(network.encoder(targets).e4)
    assert torch.equal(*found)
    assert 0 < chosen.sum() < 8
    assert torch.equal(torch.get_rng_state(), state)


def test_only_the_chosen_samples_change():
    network = shared_standin("r34")
    sources, targets, masks = images(8, 64, 64, 2), images(8, 64, 64, 3), torch.ones(8, 64, 64)
    masks[5] = 0
    paste = FeaturePaste(network, (2,), probability=0.6, from_epoch=0)
    with torch.no_grad():
        plain = network.encoder(targets).e4
        with paste.apply(sources, torch.ones(8, 64, 64), masks, np.random.default_rng(1), epoch=0) as chosen:
            merged = network.encoder(targets).e4
    assert not chosen[5]
    assert 2 <= chosen.sum() < 7
    np.testing.assert_array_equal((merged != plain).flatten(1).any(dim=1).numpy(), chosen)


def test_scale_stays_in_its_range():
    """The share of the picture that a face covers, from pastes without a limit by the target's mask."""
    network = build("tiny").eval()
    source, everywhere = ellipse(64, 64, 31.5, 31.5, 31, 31).float()[None], torch.ones(1, 64, 64)
    sources, targets = images(1, 64, 64, 2), images(1, 64, 64, 3)
    paste = FeaturePaste(network, (0,), probability=1.0, from_epoch=0)
    sides = []
    for seed in range(40):
        with paste.apply(sources, source, everywhere, np.random.default_rng(seed), epoch=0), torch.no_grad():
            merged = network.encoder.get_submodule("stem")(targets)
        changed = (merged != network.encoder.get_submodule("stem")(targets)).any(dim=1)[0].numpy()
        height, width = (np.ptp(axis) + 1 for axis in np.nonzero(changed))
        assert abs(int(height) - int(width)) <= 1
        sides.append(float(height + width) / 2 / 62)
    assert 0.27 < min(sides) < 0.36
    assert 0.64 < max(sides) < 0.74


def test_shuffle_permutes_what_would_be_pasted():
    network = shared_standin("r34")
    sources, targets = images(2, *SOURCE, 2), images(2, HEIGHT, WIDTH, 3)
    found = []
    with torch.no_grad():
        plain = network.encoder(targets).e2
        for variant in ("copy-paste", "shuffle"):
            paste = FeaturePaste(network, (3,), probability=1.0, from_epoch=0, scale=(0.9, 0.9), variant=variant)
            with paste.apply(sources, SOURCE_MASKS, TARGET_MASKS, np.random.default_rng(0), epoch=0):
                found.append(network.encoder(targets).e2)
    for pasted, shuffled, old in zip(*found, plain, strict=True):
        changed = (pasted != old).any(dim=0)
        assert changed.sum() > 10
        assert torch.equal(shuffled[:, ~changed], old[:, ~changed])
        assert not torch.equal(shuffled, pasted)
        rows = [sorted(map(tuple, value[:, changed].T.tolist())) for value in (pasted, shuffled)]
        assert rows[0] == rows[1]


def test_wrapped_networks():
    class Wrapper(nn.Module):
        """As DistributedDataParallel and Fabric do: the network is its ``module``."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Tensor) -> Features:
            encoder: Encoder = self.module.encoder  # type: ignore[assignment]  # to its type a module has tensors alone, or modules
            features: Features = encoder(x)
            return features

    network, masks = shared_standin("swin-t"), torch.ones(1, 64, 64)
    wrapped = Wrapper(network)
    sources, targets = images(1, 64, 64, 2), images(1, 64, 64, 3)
    paste = FeaturePaste(Wrapper(wrapped), (3,), probability=1.0, from_epoch=0)
    with torch.no_grad():
        plain = wrapped(targets).e3
        with paste.apply(sources, masks, masks, np.random.default_rng(0), epoch=0):
            assert not torch.equal(wrapped(targets).e3, plain)
        assert torch.equal(wrapped(targets).e3, plain)


def test_an_error_in_the_step_leaves_no_hook():
    network, masks = shared_standin("r34"), torch.ones(1, 64, 64)
    paste = FeaturePaste(network, range(LEVELS), probability=1.0, from_epoch=0)
    with (
        pytest.raises(InputError, match="do not fit"),
        paste.apply(images(1, 64, 64, 2), masks, masks, np.random.default_rng(0), epoch=0),
    ):
        network(images(2, 64, 64, 3))
    assert_no_trace(network)


def assert_no_trace(network: nn.Module) -> None:
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@pytest.mark.parametrize("arch", ["tiny", *(pytest.param(arch, marks=pytest.mark.full) for arch in ARCHS)])
def test_the_exported_graph_is_the_same(arch):
    """Before, and after a step of training with P3M-FCP at every level; trained weights, no other graph."""
    torch.manual_seed(0)
    network = build(arch)
    for parameter in network.parameters():  # the graph keeps equal tensors once, and fresh biases are all zero
        parameter.data += 0.01 * torch.randn_like(parameter)

    def structure() -> list[tuple[str, ...]]:
        model = graph.trace(Deploy(network), 64, 96)
        rows = [(node.op_type, node.name, *node.input, "->", *node.output) for node in model.graph.node]
        return rows + [(tensor.name, *map(str, tensor.dims)) for tensor in model.graph.initializer]

    stem = network.get_parameter("encoder.stem.conv.weight")
    before, weight = structure(), stem.detach().clone()
    optimiser = torch.optim.Adam(network.train().parameters(), 1e-3)
    levels = range(1 if arch == "mobile" else 0, LEVELS)
    paste = FeaturePaste(network, levels, probability=1.0, from_epoch=0)
    masks = torch.ones(2, 64, 64)
    with paste.apply(images(2, 64, 64, 2), masks, masks, np.random.default_rng(0), epoch=0) as chosen:
        step(network, images(2, 64, 64, 3))
    optimiser.step()
    assert chosen.all()
    assert not torch.equal(stem, weight)
    assert_no_trace(network)
    assert structure() == before


@pytest.mark.parametrize(
    "options",
    [
        {"levels": ()},
        {"levels": (6,)},
        {"levels": (2, 2)},
        {"probability": 2.0},
        {"from_epoch": -1},
        {"scale": (0.7, 0.3)},
        {"variant": "shufle"},
        {"source_batch_norm": "frosen"},
    ],
)
def test_impossible_options(options):
    with pytest.raises(UsageError):
        FeaturePaste(build("tiny"), **options)


def test_other_networks_are_refused():
    with pytest.raises(UsageError, match="Linear"):
        FeaturePaste(nn.Linear(2, 2))
    with pytest.raises(UsageError, match=r"torch\.compile"):
        FeaturePaste(torch.compile(build("tiny"), backend="eager"))  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(UsageError, match="SyncBatchNorm"):
        FeaturePaste(nn.SyncBatchNorm.convert_sync_batchnorm(build("tiny")), source_batch_norm="batch")


@pytest.mark.parametrize(
    ("image", "source", "target"),
    [
        ((2, 3, 64, 64), (2, 64, 32), (2, 64, 64)),
        ((2, 3, 64, 64), (2, 64, 64), (1, 64, 64)),
        ((2, 3, 64, 64), (2, 1, 64, 64), (2, 1, 64, 64)),
        ((2, 3, 40, 64), (2, 40, 64), (2, 64, 64)),
    ],
)
def test_tensors_that_do_not_fit(image, source, target):
    paste = FeaturePaste(build("tiny"), from_epoch=0)
    with (
        pytest.raises(InputError),
        paste.apply(torch.zeros(image), torch.ones(source), torch.ones(target), np.random.default_rng(0), epoch=0),
    ):
        pass
