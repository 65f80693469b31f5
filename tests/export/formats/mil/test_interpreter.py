"""The interpreter: rounding, overflow, what it refuses, damaged packages, and `verify` of any package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("coremltools")

from p3m_edge.cli import main
from p3m_edge.errors import ArtefactError, P3MEdgeError
from p3m_edge.export.formats.coreml.mil import interpreter as operators
from p3m_edge.export.formats.coreml.mil.examine import RULES, examine
from p3m_edge.export.formats.coreml.mil.interpreter import HALF_MAX, Interpreter
from p3m_edge.export.formats.coreml.mil.package import Package, read
from p3m_edge.export.quiet import quiet
from tests.export.formats.mil.conftest import built, converted

X = {"in0": np.linspace(-3, 3, 60, dtype=np.float32).reshape(2, 6, 5)}


class Tenfold(nn.Module):
    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.times):
            x = torch.tanh(x) * 10.0 + x * 9.0
        return x


def test_every_result_is_rounded_where_the_program_says_half(tmp_path):
    program = Interpreter(converted(Tenfold(1), X, tmp_path, half=True))
    seen: dict[str, np.ndarray] = {}
    typed = program.run(X, "typed", watch=lambda name, op, value: seen.update({name: value}))
    exact = program.run(X, "exact")
    (rounded,), (unrounded,) = typed.outputs.values(), exact.outputs.values()
    with torch.inference_mode():
        wanted = Tenfold(1)(torch.from_numpy(X["in0"])).numpy()
    np.testing.assert_allclose(unrounded, wanted, rtol=2e-3)
    assert not np.array_equal(rounded, unrounded)
    np.testing.assert_allclose(rounded, wanted, rtol=5e-3, atol=5e-3)
    assert len(seen) == sum(program.operators.values())
    halves = [value for value in seen.values() if np.array_equal(value, value.astype(np.float16))]
    assert len(halves) >= len(seen) - 1  # all but the output in float32, at most
    assert typed.headroom == pytest.approx(HALF_MAX / typed.largest)
    assert typed.largest == pytest.approx(np.abs(wanted).max(), rel=1e-2)
    assert not typed.overflows


def test_overflow_is_listed(tmp_path):
    package = converted(Tenfold(5), X, tmp_path, half=True)
    result = Interpreter(package).run(X, "typed")
    assert result.overflows
    assert all(not each.largest <= HALF_MAX for each in result.overflows)
    assert result.headroom < 1


def test_verify_fails_where_something_overflows(tmp_path, capsys):
    """0..1 is the noise that multi-arrays get: the factor alone makes it too large."""

    class Large(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * 60000.0) * 40.0

    package = converted(Large(), X, tmp_path, half=True)
    assert main(["verify", str(package.path), "--json"]) == 3
    out, _ = capsys.readouterr()
    (verdict,) = json.loads(out)["artefacts"]
    assert verdict["status"] == "failed"
    assert verdict["program"][0]["overflows"]
    assert verdict["program"][0]["headroom"] < 1


def test_an_operator_that_is_not_known_is_named(tmp_path, capsys):
    package = built(lambda m, x: m.argsort(x=x, axis=1), (2, 6, 5), tmp_path)
    with pytest.raises(P3MEdgeError, match="argsort"):
        Interpreter(package)
    assert main(["verify", str(package.path)]) == 1
    _, err = capsys.readouterr()
    assert "argsort" in err
    assert "Traceback" not in err


def test_what_cannot_be_computed_is_one_line(relu, tmp_path, monkeypatch, capsys):
    backwards = built(lambda m, x: m.cumsum(x=x, axis=1, reverse=True), (2, 6, 5), tmp_path)
    with pytest.raises(P3MEdgeError, match="cumsum with exclusive and reverse is not known here"):
        Interpreter(backwards).run(X)
    monkeypatch.setitem(operators.OPERATORS, "relu", lambda given: torch.zeros(2) @ torch.zeros(3))
    assert main(["verify", str(relu.path)]) == 1
    _, err = capsys.readouterr()
    assert "relu cannot be computed: " in err
    assert "internal error" not in err


def test_whole_numbers_go_in_and_open_sizes_are_not_run(tmp_path, capsys):
    import coremltools as ct

    class Chosen(nn.Module):
        def forward(self, index: torch.Tensor) -> torch.Tensor:
            return torch.arange(6.0).reshape(2, 3)[index]

    index = {"in0": np.array([1, 0, 1], np.int32)}
    (found,) = Interpreter(converted(Chosen(), index, tmp_path / "whole")).run(index).outputs.values()
    assert np.array_equal(found, [[3, 4, 5], [0, 1, 2], [3, 4, 5]])
    (report,) = examine(tmp_path / "whole/made.mlpackage")
    assert report.sound
    with quiet(stderr=True):
        traced = torch.jit.trace(nn.ReLU(), torch.zeros(1, 3, 8, 8))
        shape = ct.Shape((1, 3, ct.RangeDim(8, 64, default=8), 8))
        made = ct.convert(traced, inputs=[ct.TensorType(name="in0", shape=shape)], skip_model_load=True,
                          minimum_deployment_target=ct.target.iOS16, convert_to="mlprogram")  # fmt: skip
        made.save(str(tmp_path / "open.mlpackage"))
    assert main(["verify", str(tmp_path / "open.mlpackage"), "--json"]) == 1
    (verdict,) = json.loads(capsys.readouterr().out)["artefacts"]
    assert "open size" in verdict["message"]
    assert verdict["program"][0]["inputs"]["in0"] == [1, 3, None, 8]


@pytest.fixture(scope="module")
def relu(tmp_path_factory) -> Package:
    """A package of one operator; tests must not change it."""
    return converted(nn.ReLU(), X, tmp_path_factory.mktemp("relu"))


def test_inputs_that_do_not_fit(relu):
    program = Interpreter(relu)
    assert program.inputs == {"in0": (2, 6, 5)}
    with pytest.raises(P3MEdgeError, match="'in0' is missing"):
        program.run({})
    with pytest.raises(P3MEdgeError, match=r"\[2, 6, 4\]"):
        program.run({"in0": X["in0"][..., :4]})
    with pytest.raises(ArtefactError, match="no function 'other'"):
        Interpreter(relu, "other")


def test_a_result_of_another_shape_than_the_program_says_is_an_error(relu, monkeypatch):
    program = Interpreter(relu)
    monkeypatch.setitem(operators.OPERATORS, "relu", lambda given: given["x"][:1])
    with pytest.raises(ArtefactError, match=r"relu gives float \[1, 6, 5\], and the program says float \[2, 6, 5\]"):
        program.run(X)
    monkeypatch.setitem(operators.OPERATORS, "relu", lambda given: given["x"] > 0)
    with pytest.raises(ArtefactError, match="relu gives bool"):
        program.run(X)


@pytest.fixture(scope="module")
def convolution(tmp_path_factory) -> Path:
    """A package with a file of weights; tests must not change it."""
    inputs = {"in0": np.zeros((1, 32, 8, 8), np.float32)}
    return converted(nn.Conv2d(32, 32, 3), inputs, tmp_path_factory.mktemp("convolution")).path


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "Data/com.apple.CoreML/model.mlmodel").unlink(), "is missing"),
        (lambda path: (path / "Manifest.json").unlink(), "cannot be read"),
        (lambda path: (path / "Data/com.apple.CoreML/model.mlmodel").write_bytes(b"\x08"), "made.mlpackage"),
        (lambda path: (path / "Data/com.apple.CoreML/weights/weight.bin").unlink(), "is damaged"),
        (lambda path: (path / "Data/com.apple.CoreML/weights/weight.bin").write_bytes(b""), "is damaged"),
        (lambda path: shutil.rmtree(path), "a package is a folder"),
    ],
)
def test_a_damaged_package_is_one_line(damage, message, convolution, tmp_path, capsys):
    path = shutil.copytree(convolution, tmp_path / convolution.name)
    damage(path)
    with pytest.raises(ArtefactError, match=message):
        read(path)
    assert main(["verify", str(path)]) == 5
    _, err = capsys.readouterr()
    assert "Traceback" not in err


def test_advice_for_the_neural_engine(tmp_path):
    """Rules that this program breaks, and one that it keeps."""

    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 7, padding=3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.max_pool2d(self.conv(x), 2, 8)
            y = nn.functional.pad(y, (1, 0, 1, 0))
            return nn.functional.interpolate(y, scale_factor=8.0, mode="bilinear")[:, torch.tensor([2, 0])]

    (report,) = examine(converted(Broken(), {"in0": np.zeros((1, 3, 256, 256), np.float32)}, tmp_path).path)
    broken = {advice.rule: advice for advice in report.advice}
    wanted = ("float32", "pooling", "kernel above 5", "gathering", "padding of several axes", "upsampling by 8")
    for words in wanted:
        assert any(words in rule for rule in broken), words
    assert set(broken) <= set(RULES)
    assert not any("rank" in rule for rule in broken)
    assert all(0 < len(advice.examples) <= advice.count for advice in broken.values())


def test_equal_constants_become_one(tmp_path):
    from p3m_edge.export.formats.coreml.mil.convert import share_constants
    from p3m_edge.export.formats.coreml.mil.package import require
    from p3m_edge.export.quiet import quiet

    package = converted(nn.Sequential(*[nn.Conv2d(3, 3, 3, 1, 1) for _ in range(4)]),
                        {"in0": np.zeros((1, 3, 8, 8), np.float32)}, tmp_path)  # fmt: skip
    image = {"in0": np.random.default_rng(1).random((1, 3, 8, 8), np.float32)}
    before = Interpreter(package).run(image).outputs
    (function,) = package.specification.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    counts = [sum(operation.type == "const" for operation in block.operations)]
    share_constants(block)
    counts.append(sum(operation.type == "const" for operation in block.operations))
    assert counts[1] < counts[0] - 12
    with quiet(stderr=True):
        models = require().models
        weights = package.path / "Data/com.apple.CoreML/weights"
        models.MLModel(package.specification, skip_model_load=True, weights_dir=str(weights)).save(
            str(tmp_path / "shared.mlpackage")
        )
    after = Interpreter(read(tmp_path / "shared.mlpackage")).run(image).outputs
    assert all(np.array_equal(after[name], value) for name, value in before.items())


def test_a_file_that_is_no_package(tmp_path, capsys):
    path: Path = tmp_path / "matte.mlpackage"
    path.write_bytes(b"no folder")
    assert main(["verify", str(path)]) == 5
    _, err = capsys.readouterr()
    assert "a package is a folder" in err
