"""Activations in 8 bits: their scales are those of all pictures, and what is to stay stays; a tiny network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("coremltools")

from p3m_edge.errors import InputError
from p3m_edge.export.formats import run_converter
from p3m_edge.export.formats.coreml.activations import activation_ranges
from p3m_edge.export.formats.coreml.format import CONVERTER
from p3m_edge.export.formats.coreml.mil.convert import ActivationOrder, faint_channels, quantise
from p3m_edge.export.formats.coreml.mil.engine import as_image
from p3m_edge.export.formats.coreml.mil.interpreter import Interpreter
from p3m_edge.export.formats.coreml.mil.package import Package, read
from p3m_edge.export.graph.ranges import Range
from p3m_edge.export.quantize import UnfitError
from p3m_edge.export.quiet import quiet
from tests.export.formats.mil.conftest import built, converted

SHAPE = (1, 3, 16, 24)


class Tiny(nn.Module):
    """Two convolutions, whose results are joined and added."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.Conv2d(32, 16, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(image * (1 / 255)))
        y = self.second(x)
        z: torch.Tensor = self.last(torch.cat([x, y], dim=1)) + y
        return z


def pictures() -> list[np.ndarray]:
    """The brightest is neither the first nor the last."""
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, (1, *SHAPE[2:], 3), dtype=np.uint8) for _ in range(4)]
    return [noise[0] // 4, noise[1], noise[2] // 2, noise[3] // 16]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Package:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    return converted(Tiny(), {"image": np.zeros(SHAPE, np.float32)}, folder, half=True)


@pytest.fixture(scope="module")
def ranges(source: Package) -> dict[str, Range]:
    return activation_ranges(source.path, iter(pictures()))


def quantised(
    source: Package, ranges: dict[str, Range], folder: Path, kept: tuple[str, ...] = (), *, zero_point: bool = False
) -> Package:
    folder.mkdir(exist_ok=True)
    out = folder / "out.mlpackage"
    quantise(ActivationOrder(str(source.path), str(out), {k: each[:2] for k, each in ranges.items()}, kept, zero_point))
    return read(out)


def operations(package: Package) -> list[Any]:
    return list(package.program.functions["main"].operations)


def rounding(package: Package) -> list[Any]:
    """What makes integers of activations."""
    return [each for each in operations(package) if each.op_type == "quantize"]


def results(package: Package) -> list[dict[str, np.ndarray]]:
    """All results of each picture by name."""
    found: list[dict[str, np.ndarray]] = []
    for image in pictures():
        found.append({})
        Interpreter(package).run(
            {"image": as_image(image)}, "typed", watch=lambda name, _, x: found[-1].update({name: x.copy()})
        )
    return found


def test_ranges_are_those_of_all_pictures(source, ranges):
    """coremltools 9.0 keeps those of the last one alone."""
    every = results(source)
    assert set(ranges) == {name for name, value in every[0].items() if value.dtype.kind == "f"}
    for name, found in ranges.items():
        low, high = ([side(each[name]) for each in every] for side in (np.min, np.max))
        assert found == pytest.approx((min(low), max(high), np.mean(low), np.mean(high)), rel=1e-6)
    widest = [name for name, found in ranges.items() if found.high > every[-1][name].max() + 0.05]
    assert len(widest) > len(ranges) / 2


def test_scales_are_those_of_the_ranges(source, ranges, tmp_path):
    package = quantised(source, ranges, tmp_path)
    scales = {each.input.name: float(np.ravel(each.scale.val)[0]) for each in rounding(package)}
    # What is joined has one scale, so that the joining can be in integers.
    joined = next(each for each in operations(source) if each.op_type == "concat")
    names = [each.name for each in (*joined.values, *joined.outputs)]
    assert len(scales) >= 5
    for name, scale in scales.items():
        magnitudes = [ranges[each].magnitude for each in (names if name in names else [name])]
        assert scale == pytest.approx(max(magnitudes) / 127, rel=2e-3)
    weights = [each for each in operations(package) if each.op_type == "constexpr_blockwise_shift_scale"]
    assert [each.data.val.dtype for each in weights] == [np.int8] * 2  # the first has fewer than 512
    difference = [
        abs(a - b).mean()
        for found, wanted in zip(results(package), results(source), strict=True)
        for (*_, a), (*_, b) in [(found.values(), wanted.values())]
    ]
    assert 0 < max(difference) < 0.02


def test_what_is_kept_stays_as_it_is(source, ranges, tmp_path):
    """Its weights, and its results; what it is given may come from what is quantised."""
    package = quantised(source, ranges, tmp_path, ("conv2d_1", "add"))
    kept = {"conv2d_1_cast_fp16", "add_cast_fp16"}
    weighted = [each for each in operations(package) if each.op_type == "conv"]
    assert [each.weight.op.op_type for each in weighted] == ["const", "const", "constexpr_blockwise_shift_scale"]
    rounded = {each.input.op.name for each in rounding(package)}
    whole = {each.input.op.name for each in rounding(quantised(source, ranges, tmp_path / "whole"))}
    assert not rounded & kept
    assert "conv2d_1_cast_fp16" in whole
    assert rounded


def test_what_gives_a_result_stays_as_it_is(tmp_path):
    """coremltools' passes cannot replace it."""
    weight = np.random.default_rng(0).random((32, 3, 3, 3)).astype(np.float16)

    def body(m: Any, x: Any) -> Any:
        first = m.conv(x=m.cast(x=x, dtype="fp16", name="half"), weight=weight[:3], name="first")
        return m.conv(x=first, weight=weight, name="last")

    given = dict.fromkeys(("half", "first", "last"), Range(-1.0, 1.0, -1.0, 1.0))
    package = quantised(built(body, SHAPE, tmp_path), given, tmp_path)
    assert [each.input.name for each in rounding(package)] == ["half", "first"]
    (last,) = (each for each in operations(package) if each.name == "last")
    assert last.outputs[0].name == package.program.functions["main"].outputs[0].name


def test_a_zero_point(source, ranges, tmp_path):
    found = rounding(quantised(source, ranges, tmp_path, zero_point=True))
    assert {each.output_dtype.val for each in found} == {"uint8"}
    points = {each.input.op.op_type: 0 if each.zero_point is None else each.zero_point.val for each in found}
    assert points["mul"] == 0
    assert 0 < points["conv"] < 255


def test_a_range_of_nothing_and_one_beyond_half_precision(source, ranges, tmp_path):
    nothing = {name: Range(0.0, 0.0, 0.0, 0.0) for name in ranges}
    found = rounding(quantised(source, nothing, tmp_path))
    assert all(0 < float(np.ravel(each.scale.val)[0]) < 1e-4 for each in found)
    large = dict.fromkeys(ranges, (-40000.0, 40000.0))
    order = ActivationOrder(str(source.path), str(tmp_path / "large"), large, (), False)
    with pytest.raises(UnfitError, match="overflow"):
        run_converter(CONVERTER, order, "coremltools", "the network", "quantise")
    assert not (tmp_path / "large").exists()


def test_an_activation_that_half_precision_cannot_hold(tmp_path):
    class Large(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.sqrt(image * 300.0)

    package = converted(Large(), {"image": np.zeros(SHAPE, np.float32)}, tmp_path, half=True)
    with pytest.raises(InputError, match="not finite on a calibration picture") as caught:
        activation_ranges(package.path, iter(pictures()))
    assert "half precision" in (caught.value.hint or "")
    with pytest.raises(InputError, match="no picture"):
        activation_ranges(package.path, iter([]))


def test_coremltools_own_calibration_is_back_afterwards(source, ranges, tmp_path):
    with quiet(stderr=True):
        from coremltools.optimize.coreml.experimental._model_debugger import ModelDebugger
    own = ModelDebugger.step
    quantised(source, ranges, tmp_path)
    assert ModelDebugger.step is own


def test_channels_of_zeros_stay_zeros() -> None:
    """ImageNet's encoder has some; coremltools alone divides by a scale of zero there."""
    from coremltools.converters.mil.mil.types import int8
    from coremltools.optimize import _utils

    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float16)
    weight[1], weight[2] = 0, 1e-7
    with np.errstate(all="raise"):
        with pytest.raises(FloatingPointError):
            _utils.quantize_weight_by_dtype(weight, (1, 2, 3), int8, "LINEAR_SYMMETRIC")
        with faint_channels():
            found, scale, _ = _utils.quantize_weight_by_dtype(weight, (1, 2, 3), int8, "LINEAR_SYMMETRIC")
    assert not found[1:3].any()
    assert np.isfinite(scale).all()
    error = np.abs(found * scale.reshape(4, 1, 1, 1).astype(np.float32) - weight).max()
    assert error <= np.abs(weight).max() / 127
