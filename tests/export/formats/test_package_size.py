"""The size of a Core ML package, held against the network's weights: for every precision, and for what coremltools does
without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("coremltools")

from p3m_edge.errors import P3MEdgeError
from p3m_edge.export.formats.coreml import package_size
from p3m_edge.export.formats.coreml.mil.convert import CoreMlFunction, CoreMlOrder, convert
from p3m_edge.export.graph import program as programs
from p3m_edge.folder import size
from p3m_edge.targets import Precision

SIDE = 64
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "pal6", "pal4")


class Plain(nn.Module):
    """Convolutions of enough weights that the program itself is small beside them."""

    arch = "none"

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 128, 3, padding=1), *(nn.Conv2d(128, 128, 1) for _ in range(4)))

    def features(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(image.permute(0, 3, 1, 2) / 255.0)
        return features

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.features(image).mean(1, keepdim=True))


class Broadcasting(Plain):
    """With a zero beside a comparison, which coremltools writes down as large as the map."""

    def forward(self, image: Tensor) -> Tensor:
        x = self.features(image)
        return torch.where(x > 0, x, torch.zeros(1, 1, 1, 1)).mean(1, keepdim=True)


def converted(module: Any, folder: Path, precision: Precision) -> tuple[torch.export.ExportedProgram, Path]:
    torch.manual_seed(0)
    program = programs.trace(module().eval(), SIDE, SIDE)
    torch.export.save(program, folder / "program.pt2")
    package = folder / f"{precision}.mlpackage"
    part = CoreMlFunction(str(folder / "program.pt2"), SIDE, SIDE)
    convert(
        CoreMlOrder((part,), (), str(package), ("alpha",), precision, 16, "array" if precision == "fp32" else "image")
    )
    return program, package


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    made = {precision: converted(Plain, folder, precision) for precision in PRECISIONS}
    return made["fp16"][0], {precision: package for precision, (_, package) in made.items()}


def test_every_precision_has_its_size(plain):
    program, packages = plain
    for precision, package in packages.items():
        package_size.check(package, [(program, ())], precision)
        # What is allowed is close to what is there, or it would hide what it is for.
        assert package_size.most([(program, ())], precision) < 1.15 * size(package)


def test_weights_that_were_not_compressed_are_found(plain):
    program, packages = plain
    for precision, larger in zip(PRECISIONS[1:], PRECISIONS[:-1], strict=True):
        with pytest.raises(P3MEdgeError, match=f"the network's weights in {precision} account for"):
            package_size.check(packages[larger], [(program, ())], precision)


def test_weights_that_stay_in_float32_count_as_such(plain):
    program, packages = plain
    every = [node.name for node in program.graph.nodes]
    package_size.check(packages["fp32"], [(program, every)], "fp16")


def test_a_zero_as_large_as_a_map_is_found(tmp_path):
    program, package = converted(Broadcasting, tmp_path, "fp16")
    with pytest.raises(P3MEdgeError, match="account for"):
        package_size.check(package, [(program, ())], "fp16")
