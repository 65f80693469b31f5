"""Every operator of the interpreter: one converted by coremltools, saved, read back, and compared with PyTorch.

Cases of the same inputs are one program with an output each: a conversion takes longer than all that is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytest.importorskip("coremltools")

from p3m_edge.export.formats.coreml.mil.interpreter import OPERATORS, Interpreter
from p3m_edge.export.formats.coreml.mil.package import Package, Var
from tests.export.formats.mil.conftest import built, converted


def layer(made: nn.Module) -> nn.Module:
    """A layer with weights and statistics that are no defaults."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in made.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + (0.5 if "var" in name else -0.3))
    return made.eval()


def function(body: Callable[..., Tensor]) -> nn.Module:
    class Body(nn.Module):
        def forward(self, *inputs: Tensor) -> Tensor:
            return body(*inputs)

    return Body()


X, IMAGE = (2, 6, 5), (1, 4, 9, 7)
Case = tuple[str, nn.Module, tuple[tuple[int, ...], ...]]


def unary(name: str, body: Callable[[Tensor], Tensor]) -> Case:
    return name, function(body), (X,)


def binary(name: str, body: Callable[[Tensor, Tensor], Tensor]) -> Case:
    return name, function(body), (X, X)


TORCH: list[Case] = [
    binary("add", torch.add), binary("sub", torch.sub), binary("mul", torch.mul), binary("real_div", torch.div),
    binary("floor_div", torch.floor_divide),
    unary("pow", lambda x: torch.pow(x.abs() + 0.1, 1.7)), binary("maximum", torch.maximum),
    binary("minimum", torch.minimum), binary("equal", lambda x, y: (x.round() == y.round()).float()),
    binary("not_equal", lambda x, y: (x.round() != y.round()).float()),
    binary("greater", lambda x, y: (x > y).float()), binary("greater_equal", lambda x, y: (x >= y).float()),
    binary("less", lambda x, y: (x < y).float()), binary("less_equal", lambda x, y: (x <= y).float()),
    binary("logical_and", lambda x, y: torch.logical_and(x > 0, y > 0).float()),
    binary("logical_or", lambda x, y: torch.logical_or(x > 0, y > 0).float()),
    binary("logical_xor", lambda x, y: torch.logical_xor(x > 0, y > 0).float()),
    unary("logical_not", lambda x: torch.logical_not(x > 0).float()),
    unary("abs", torch.abs), unary("acos", lambda x: torch.acos(torch.tanh(x))),
    unary("asin", lambda x: torch.asin(torch.tanh(x))), unary("atan", torch.atan),
    unary("atanh", lambda x: torch.atanh(torch.tanh(x) * 0.9)), unary("ceil", torch.ceil), unary("cos", torch.cos),
    unary("cosh", torch.cosh), unary("erf", torch.erf), unary("exp", torch.exp), unary("exp2", torch.exp2),
    unary("floor", torch.floor), unary("relu", torch.relu), unary("relu6", lambda x: F.relu6(4 * x)),
    unary("round", torch.round), unary("sigmoid", torch.sigmoid), unary("sign", torch.sign), unary("silu", F.silu),
    unary("sin", torch.sin), unary("sinh", torch.sinh), unary("softplus", F.softplus),
    unary("sqrt", lambda x: torch.sqrt(x.abs())), unary("tan", torch.tan),
    unary("tanh", torch.tanh), unary("log", lambda x: torch.log(x.abs() + 0.1)),
    unary("rsqrt", lambda x: torch.rsqrt(x.abs() + 0.1)),
    unary("clip", lambda x: torch.clamp(x, -0.4, 0.7)), unary("leaky_relu", lambda x: F.leaky_relu(x, 0.2)),
    unary("elu", lambda x: F.elu(x, 0.7)), ("prelu", layer(nn.PReLU(4)), (IMAGE,)),
    unary("sigmoid_hard", lambda x: F.hardsigmoid(4 * x)), unary("gelu", F.gelu),
    unary("softmax", lambda x: torch.softmax(x, 1)),
    binary("select", lambda x, y: torch.where(x > y, x, y)), unary("cast", lambda x: (3 * x).to(torch.int32).float()),
    unary("reduce_sum", lambda x: x.sum((0, 2))), unary("reduce_mean", lambda x: x.mean(1, keepdim=True)),
    unary("reduce_max", lambda x: x.amax(2)), unary("reduce_min", lambda x: x.amin((1, 2), keepdim=True)),
    unary("reduce_argmax", lambda x: x.argmax(1).float()),
    ("matmul", function(lambda x, y: x @ y.transpose(1, 2)), (X, X)), ("linear", layer(nn.Linear(5, 7)), (X,)),
    ("einsum", function(lambda x, y: torch.einsum("bchw,bwhu->bchu", x, y)), ((1, 4, 9, 7), (1, 7, 9, 3))),
    ("scaled_dot_product_attention", function(F.scaled_dot_product_attention), ((1, 2, 6, 8),) * 3),
    ("conv", layer(nn.Conv2d(4, 6, 3, 2, 1)), (IMAGE,)), ("conv", layer(nn.Conv2d(4, 8, (3, 1), groups=4)), (IMAGE,)),
    ("conv", layer(nn.Conv2d(4, 6, 3, dilation=2, padding=(2, 1))), (IMAGE,)),
    ("conv", layer(nn.Conv1d(6, 3, 3)), (X,)),
    ("conv", layer(nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 6, 3, 2))), (IMAGE,)),
    ("crop", layer(nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1)), (IMAGE,)),
    ("conv_transpose", layer(nn.ConvTranspose2d(4, 8, 2, 2, groups=2)), (IMAGE,)),
    ("conv_transpose", layer(nn.ConvTranspose2d(4, 6, 3, 2, (1, 0))), (IMAGE,)),
    ("max_pool", nn.MaxPool2d(3, 2, 1), (IMAGE,)), ("max_pool", nn.MaxPool2d(2, 2, ceil_mode=True), (IMAGE,)),
    ("max_pool", nn.MaxPool2d(2, 4), (IMAGE,)), ("avg_pool", nn.AvgPool2d(3, 2, 1), (IMAGE,)),
    ("avg_pool", nn.AvgPool2d(3, 2, 1, count_include_pad=False), (IMAGE,)),
    ("batch_norm", layer(nn.BatchNorm2d(4)), (IMAGE,)),
    ("instance_norm", layer(nn.InstanceNorm2d(4, affine=True)), (IMAGE,)),
    ("layer_norm", layer(nn.LayerNorm(5)), (X,)), ("layer_norm", layer(nn.LayerNorm((6, 5), eps=1e-3)), (X,)),
    *(
        ("upsample_bilinear", nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=aligned), (IMAGE,))
        for scale, aligned in ((2, False), (2, True), (8, False))
    ),
    ("upsample_nearest_neighbor", nn.Upsample(scale_factor=2, mode="nearest"), (IMAGE,)),
    unary("reshape", lambda x: x.reshape(3, 20)), unary("transpose", lambda x: x.permute(2, 0, 1)),
    unary("expand_dims", lambda x: x[:, None, :, None]), ("squeeze", function(lambda x: x.squeeze(1)), ((3, 1, 4, 1),)),
    binary("concat", lambda x, y: torch.cat((x, y), 1)), binary("stack", lambda x, y: torch.stack((x, y), 2)),
    unary("split", lambda x: x.split([1, 3, 2], 1)[1]), unary("slice_by_index", lambda x: x[:, 1:5:2, -3:]),
    unary("slice_by_index", lambda x: x[1]), unary("pad", lambda x: F.pad(x, (1, 0, 0, 2), value=-1.5)),
    ("pad", nn.ReflectionPad2d((1, 2, 3, 0)), (IMAGE,)), ("pad", nn.ReplicationPad2d((1, 2, 3, 0)), (IMAGE,)),
    unary("tile", lambda x: x.repeat(1, 2, 3)), unary("gather", lambda x: x[:, torch.tensor([3, 0, 3])]),
    ("gather_along_axis", function(lambda x, y: torch.gather(x, 1, (y.abs() * 2).to(torch.int64))), (X, X)),
    unary("reverse", lambda x: x.flip(1)), unary("cumsum", lambda x: x.cumsum(1)),
    ("pixel_shuffle", nn.PixelShuffle(2), (IMAGE,)), ("pixel_unshuffle", nn.PixelUnshuffle(2), ((1, 3, 4, 6),)),
]  # fmt: skip


def random(shapes: tuple[tuple[int, ...], ...]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(7)
    return {f"in{index}": generator.normal(size=shape).astype(np.float32) for index, shape in enumerate(shapes)}


class Together(nn.Module):
    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.modules_ = nn.ModuleList(modules)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(module(*inputs) for module in self.modules_)


def makers(var: Var) -> set[str]:
    """The operators that a value comes from."""
    if var.op is None:
        return set()
    sources: list[Sequence[Var | None]]
    sources = [value if isinstance(value, (list, tuple)) else [value] for value in var.op.inputs.values()]
    return {var.op.op_type}.union(*(makers(each) for source in sources for each in source if each is not None))


def ran(package: Package, shapes: tuple[tuple[int, ...], ...]) -> list[tuple[set[str], np.ndarray]]:
    """Of each output what it comes from, and its values."""
    found = Interpreter(package).run(random(shapes)).outputs
    return [(makers(var), found[var.name]) for var in package.program.functions["main"].outputs]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The results of all cases of ``TORCH`` with inputs of these shapes."""

    @cache
    def of(shapes: tuple[tuple[int, ...], ...]) -> list[tuple[set[str], np.ndarray]]:
        module = Together([case[1] for case in TORCH if case[2] == shapes])
        return ran(converted(module, random(shapes), tmp_path_factory.mktemp("program")), shapes)

    return of


@pytest.mark.parametrize("case", TORCH, ids=[f"{case[0]}-{i}" for i, case in enumerate(TORCH)])
def test_as_pytorch_does(case, programs):
    name, module, shapes = case
    operators, found = programs(shapes)[[each for each in TORCH if each[2] == shapes].index(case)]
    assert name in operators
    with torch.inference_mode():
        wanted = module(*map(torch.from_numpy, random(shapes).values())).numpy()
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6)


def blocks(x: np.ndarray) -> np.ndarray:
    """The block's place is the slowest part of the channel, unlike in PyTorch's ``pixel_unshuffle``."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * 4, h // 2, w // 2)


def spread(x: np.ndarray) -> np.ndarray:
    n, c, h, w = x.shape
    return x.reshape(n, 2, 2, c // 4, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // 4, h * 2, w * 2)


def steps(x: np.ndarray) -> np.ndarray:
    return np.clip(np.round(x / np.float32(0.05)) + 3, -128, 127).astype(np.float32)


def replaced(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    y[:, 1:5:2, :] = np.maximum(x[:, :2, :], 0)
    return y


def by_torch(body: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: body(torch.from_numpy(x)).numpy()


QUANTISED: dict[str, Any] = {"scale": np.float32(0.05), "zero_point": np.int8(3)}
# What no module of PyTorch becomes: built from coremltools' own operators (m), and what that should give.
BY_HAND: list[tuple[str, Callable[[Any, Any], Any], tuple[int, ...], Callable[[np.ndarray], np.ndarray]]] = [
    ("identity", lambda m, x: m.identity(x=m.relu(x=x)), X, lambda x: np.maximum(x, 0)),
    ("threshold", lambda m, x: m.threshold(x=x, alpha=0.3), X, lambda x: np.maximum(x, 0.3)),
    ("linear_activation", lambda m, x: m.linear_activation(x=x, alpha=2.0, beta=0.5), X, lambda x: 2 * x + 0.5),
    ("gelu", lambda m, x: m.gelu(x=x, mode="SIGMOID_APPROXIMATION"), X, lambda x: x / (1 + np.exp(-1.702 * x))),
    # coremltools 9.0 makes the exact form of F.gelu(x, approximate="tanh")
    ("gelu", lambda m, x: m.gelu(x=x, mode="TANH_APPROXIMATION"), X, by_torch(lambda x: F.gelu(x, approximate="tanh"))),
    # ... and of torch.reciprocal one with the default epsilon, 1e-4
    ("inverse", lambda m, x: m.inverse(x=m.abs(x=x), epsilon=0.2), X, lambda x: 1 / (np.abs(x) + 0.2)),
    ("mod", lambda m, x: m.mod(x=x, y=np.float32(0.7)), X, by_torch(lambda x: torch.remainder(x, 0.7))),
    ("softsign", lambda m, x: m.softsign(x=x), X, by_torch(F.softsign)),
    ("square", lambda m, x: m.square(x=x), X, np.square),
    ("slice_by_size", lambda m, x: m.slice_by_size(x=x, begin=[0, 2, 1], size=[2, 3, -1]), X, lambda x: x[:, 2:5, 1:]),
    (
        "slice_by_index",
        lambda m, x: m.slice_by_index(
            x=x, begin=[1, 5, 0], end=[2, 0, 0], stride=[1, -2, 1], squeeze_mask=[True, False, False],
            end_mask=[False, False, True],
        ),
        X, lambda x: x[1, 5:0:-2, :],
    ),
    (
        "slice_update",
        lambda m, x: m.slice_update(
            x=x, update=m.relu(x=m.slice_by_size(x=x, begin=[0, 0, 0], size=[2, 2, 5])), begin=[0, 1, 0],
            end=[2, 5, 5], stride=[1, 2, 1],
        ),
        X, replaced,
    ),
    (
        "concat", lambda m, x: m.concat(values=[x, m.relu(x=x)], axis=1, interleave=True), X,
        lambda x: np.stack([x, np.maximum(x, 0)], 2).reshape(2, 12, 5),
    ),
    (
        "fill",
        lambda m, x: m.fill(
            shape=m.cast(x=m.add(x=m.reduce_sum(x=m.mul(x=x, y=0.0), axes=[1, 2]), y=3.0), dtype="int32"), value=1.5
        ),
        X, lambda x: np.full((3, 3), 1.5, np.float32),
    ),
    ("flatten2d", lambda m, x: m.flatten2d(x=x, axis=2), X, lambda x: x.reshape(12, 5)),
    ("space_to_depth", lambda m, x: m.space_to_depth(x=x, block_size=2), (1, 3, 4, 6), blocks),
    ("depth_to_space", lambda m, x: m.depth_to_space(x=x, block_size=2), (1, 8, 4, 6), spread),
    (
        "quantize", lambda m, x: m.cast(x=m.quantize(input=x, output_dtype="int8", **QUANTISED), dtype="fp32"), X,
        steps,
    ),
    (
        "dequantize",
        lambda m, x: m.dequantize(input=m.quantize(input=x, output_dtype="int8", **QUANTISED), **QUANTISED),
        X, lambda x: (steps(x) - 3) * np.float32(0.05),
    ),
    (
        "conv", lambda m, x: m.conv(x=x, weight=np.ones((1, 4, 3, 2), np.float32), pad_type="same"), IMAGE,
        by_torch(lambda x: F.conv2d(F.pad(x, (0, 1, 1, 1)), torch.ones(1, 4, 3, 2))),
    ),
]  # fmt: skip


@pytest.mark.parametrize("shape", {case[2] for case in BY_HAND}, ids=str)
def test_what_pytorch_has_not(shape, tmp_path):
    cases = [case for case in BY_HAND if case[2] == shape]
    package = built(lambda m, x: tuple(body(m, x) for _, body, *_ in cases), shape, tmp_path)
    (image,) = random((shape,)).values()
    for (name, _, _, wanted), (operators, found) in zip(cases, ran(package, (shape,)), strict=True):
        assert name in operators
        np.testing.assert_allclose(found, wanted(image), rtol=2e-6, atol=2e-6, err_msg=name)


def test_states_keep_what_they_are_given(tmp_path):
    """Half of the state and half of what comes in."""
    import coremltools as ct

    class Smooth(nn.Module):
        memory: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("memory", torch.zeros(1, 1, 4, 6))

        def forward(self, x: Tensor) -> Tensor:
            mixed = 0.5 * self.memory + 0.5 * x
            self.memory[:] = mixed
            return mixed

    inputs = random(((1, 1, 4, 6),))
    state = ct.StateType(wrapped_type=ct.TensorType(shape=(1, 1, 4, 6), dtype=np.float16), name="memory")
    interpreter = Interpreter(converted(Smooth(), inputs, tmp_path, traced=True, states=[state]))
    assert {"read_state", "coreml_update_state"} <= set(interpreter.operators)
    first = interpreter.run(inputs)
    second = interpreter.run(inputs, states=first.states)
    for result, share in ((first, 0.5), (second, 0.75)):
        (found,) = result.outputs.values()
        np.testing.assert_allclose(found, share * inputs["in0"], atol=2e-3)
        np.testing.assert_allclose(result.states["memory"], share * inputs["in0"], atol=2e-3)


def test_no_operator_is_untested():
    tested = {case[0] for case in (*TORCH, *BY_HAND)} | {"read_state", "coreml_update_state"}
    assert set(OPERATORS) == tested
