"""Every kind of method: what it is told, and what it gives."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from p3m_edge.errors import InputError, MissingError, P3MEdgeError, UsageError
from p3m_edge.evaluate.methods import Options, open_method
from p3m_edge.evaluate.onnx_model import Description, InputSize, PictureInput, describe
from p3m_edge.evaluate.strategies import predict
from p3m_edge.model import build, save_checkpoint
from p3m_edge.model.p3mnet import IMAGENET_MEAN, IMAGENET_STD
from p3m_edge.preprocess import to_network
from p3m_edge.refine import guide, refine
from p3m_edge.runtimes import Matting
from tests.artefacts import make_artefact, picture
from tests.conftest import ROOT
from tests.evaluate.material import disc, first_channel, make_model, portrait, red_model

NO_TRIMAP = np.zeros((48, 64), np.uint8)


def alpha_of(text, rgb, trimap=NO_TRIMAP, set_name="any", **options) -> np.ndarray:
    method = open_method(str(text), Options(**options))
    _, function = method.prepare(set_name)
    alpha = function(rgb, trimap)
    method.close()
    return alpha


def trimap_of(alpha) -> np.ndarray:
    return np.where(alpha == 255, 255, np.where(alpha == 0, 0, 128)).astype(np.uint8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    network = build("tiny").eval()
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_checkpoint(network, path, licence="none", provenance="a test", trained=False)
    return path, network


@pytest.mark.parametrize("name", ["cf", "knn", "lbdm", "rw"])
def test_pymatting_solves_an_easy_picture(name):
    alpha = disc(soft=12)
    trimap = trimap_of(alpha)
    method = open_method(name, Options())
    assert method.info.trimap_based
    found = alpha_of(name, portrait(alpha), trimap)
    unknown = trimap == 128
    error = np.abs(found - alpha / 255)[unknown].mean()
    assert error < np.abs(0.5 - alpha / 255)[unknown].mean() / 2
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.filterwarnings("error")
def test_trimaps_that_leave_a_solver_nothing():
    rgb = portrait(disc())
    assert alpha_of("cf", rgb, np.full((48, 64), 255, np.uint8)).min() == 1  # nothing is unknown
    with pytest.raises(InputError, match="pymatting"):
        alpha_of("cf", rgb, np.full((48, 64), 128, np.uint8))  # nothing else is


def test_checkpoints_follow_the_strategy(checkpoint):
    path, network = checkpoint
    rgb = picture(70, 90)
    for strategy in ("resize", "hybrid"):
        assert np.array_equal(alpha_of(path, rgb, strategy=strategy), predict(network, rgb, strategy))
    method = open_method(str(path), Options())
    assert (method.info.name, method.info.trained, method.info.trimap_based) == ("small", False, False)
    assert method.prepare("any")[0] == "RESIZE"


def test_the_deployed_strategy_is_what_apps_do(checkpoint):
    path, network = checkpoint
    rgb = picture(64, 96)  # the network's size: only the normalisation is left to do
    x = torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        expected = network((x - mean) / std).alpha[0, 0].numpy()
    image, geometry = to_network(rgb, 64, 96)
    expected = refine(expected, geometry, guide(rgb, image, geometry, "RGB"))
    found = alpha_of(path, rgb, strategy="deployed", size=(96, 64))
    assert np.abs(found - expected).max() < 1e-3
    assert alpha_of(path, picture(40, 30), strategy="deployed", size=(96, 64)).shape == (40, 30)


def test_swin_enlarges_the_small_pictures_of_one_set(checkpoint, tmp_path):
    save_checkpoint(build("swin-t").eval(), tmp_path / "swin.pt", licence="none", provenance="a test", trained=False)
    method = open_method(str(tmp_path / "swin.pt"), Options())
    assert "512" in method.prepare("RealWorldPortrait-636")[0]
    assert method.prepare("P3M-500-P")[0] == "RESIZE"
    assert open_method(str(checkpoint[0]), Options()).prepare("RealWorldPortrait-636")[0] == "RESIZE"


def test_artefacts_run_as_in_apps(tmp_path):
    folder = make_artefact(tmp_path / "artefact")
    rgb = picture(50, 70)
    with Matting(folder) as matting:
        expected = matting(rgb)
    assert np.array_equal(alpha_of(folder, rgb), expected)
    how = open_method(str(folder), Options()).prepare("any")[0]
    assert "onnx-fp32" in how
    assert "96x64" in how


def test_a_described_model_gets_the_picture_as_described(tmp_path):
    rgb = picture(48, 64).copy()
    red, blue = rgb[..., 0] / 255, rgb[..., 2] / 255
    assert np.abs(alpha_of(red_model(tmp_path / "a"), rgb) - red).max() < 1e-6
    assert np.abs(alpha_of(red_model(tmp_path / "b", '[input]\nchannels = "BGR"'), rgb) - blue).max() < 1e-6
    text = "[input]\nscale = 0.002\nmean = [-0.1, 0.5, 0.5]\nstd = [2, 1, 1]"
    expected = (rgb[..., 0] * 0.002 + 0.1) / 2
    assert np.abs(alpha_of(red_model(tmp_path / "c", text), rgb) - expected).max() < 1e-6


def test_channels_last_and_integers(tmp_path):
    nodes = [
        first_channel("x", "c", axis=3),
        helper.make_node("Cast", ["c"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Constant", [], ["k"], value_float=255.0),
        helper.make_node("Div", ["f", "k"], ["y"]),
    ]
    make_model(tmp_path, nodes, {"x": (TensorProto.UINT8, [1, "h", "w", 3])}, ["y"])
    (tmp_path / "m.toml").write_text('file = "model.onnx"\n[input]\nlayout = "NHWC"\nmean = [9, 9, 9]')
    rgb = picture(48, 64)
    assert np.abs(alpha_of(tmp_path / "m.toml", rgb) - rgb[..., 0] / 255).max() < 1e-6


@pytest.mark.parametrize(
    ("size", "picture_size", "expected"),
    [
        (InputSize(rule="fixed", width=96, height=64), (10, 1000), (64, 96)),
        (InputSize(rule="short", side=512, multiple_of=32), (1080, 1920), (512, 896)),  # 910 -> 896
        (InputSize(rule="short", side=512, multiple_of=32), (1920, 1080), (896, 512)),
        (InputSize(rule="short", side=512, multiple_of=32), (400, 600), (384, 576)),  # one below, one above: kept
        (InputSize(rule="short", side=512, multiple_of=32), (300, 400), (512, 672)),  # 682 -> 672
        (InputSize(rule="short", side=512, multiple_of=32), (512, 512), (512, 512)),
        (InputSize(), (37, 1), (37, 1)),
        (InputSize(multiple_of=32), (37, 1), (32, 32)),
    ],
)
def test_size_rules(size, picture_size, expected):
    assert size.of(*picture_size) == expected


def test_an_alpha_of_another_size_comes_back(tmp_path):
    path = red_model(tmp_path, '[size]\nrule = "fixed"\nwidth = 32\nheight = 16')
    found = alpha_of(path, np.full((48, 64, 3), 51, np.uint8))
    assert found.shape == (48, 64)
    assert np.abs(found - 0.2).max() < 1e-6


def test_further_inputs_of_video_models(tmp_path):
    """The form of RVM: recurrent states that start as zeros, a ratio that follows from the size, several outputs."""
    nodes = [
        first_channel("src", "c"),
        helper.make_node("Mul", ["c", "ratio"], ["p"]),
        helper.make_node("Add", ["p", "r1i"], ["pha"]),
        helper.make_node("Identity", ["src"], ["fgr"]),
    ]
    inputs: dict[str, tuple[int, list[Any]]] = {
        "src": (TensorProto.FLOAT, [1, 3, "h", "w"]),
        "r1i": (TensorProto.FLOAT, [1, 1, 1, 1]),
        "ratio": (TensorProto.FLOAT, [1]),
    }
    make_model(tmp_path, nodes, inputs, ["fgr", "pha"])
    path = tmp_path / "rvm.toml"
    constants = "[constants]\nr1i = {shape = [1, 1, 1, 1], value = 0.25}\nratio = {longest_side = 32}\n"
    path.write_text('file = "model.onnx"\nname = "RVM"\noutput = "pha"\n' + constants)
    rgb = np.full((48, 64, 3), 51, np.uint8)
    assert np.abs(alpha_of(path, rgb) - (0.2 * 0.5 + 0.25)).max() < 1e-6  # 32 / 64
    assert open_method(str(path), Options()).info.name == "RVM"
    path.write_text('file = "model.onnx"\n' + constants)
    with pytest.raises(UsageError, match="fgr, pha"):
        open_method(str(path), Options())
    path.write_text('file = "model.onnx"\noutput = "pha"')
    with pytest.raises(UsageError, match="src, r1i, ratio"):
        open_method(str(path), Options())


@pytest.mark.parametrize(
    ("encoding", "channel", "expected"),
    [("unit", 0, [0, 0.5, 1]), ("classes", 0, [0, 1, 1]), ("onehot", 1, [0, 1, 0]), ("onehot", 2, [0, 0, 1])],
)
def test_two_input_models_get_the_trimap(tmp_path, encoding, channel, expected):
    nodes = [first_channel("t", "y", channel=channel), helper.make_node("Identity", ["x"], ["unused"])]
    inputs: dict[str, tuple[int, list[Any]]] = {
        "x": (TensorProto.FLOAT, [1, 3, "h", "w"]),
        "t": (TensorProto.FLOAT, [1, "c", "h", "w"]),
    }
    make_model(tmp_path, nodes, inputs, ["y"])
    (tmp_path / "m.toml").write_text(
        f'file = "model.onnx"\nvalues = "clipped"\n[trimap]\nname = "t"\nencoding = "{encoding}"'
    )
    trimap = np.zeros((48, 64), np.uint8)
    trimap[16:32], trimap[32:] = 128, 255
    found = alpha_of(tmp_path / "m.toml", picture(48, 64), trimap)
    assert [found[8, 0], found[24, 0], found[40, 0]] == expected
    assert open_method(str(tmp_path / "m.toml"), Options()).info.trimap_based


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file = ", "is not TOML"),
        ("", "missing required field `file`"),
        ('file = "model.onnx"\nsize = 3', "size"),
        ('file = "model.onnx"\n[input]\nmeans = [0, 0, 0]', "means"),
        ('file = "model.onnx"\n[size]\nrule = "fixed"\nwidth = 3', "takes height and width"),
        ('file = "model.onnx"\n[size]\nrule = "own"\nside = 3', "neither"),
        ('file = "model.onnx"\n[size]\nrule = "short"\nside = 0', ">= 1"),
        ('file = "model.onnx"\n[input]\nstd = [1, 0, 1]', "std must not be 0"),
        ('file = "model.onnx"\noutput = "alpha"', "one of y"),
        ('file = "absent.onnx"', "cannot be read"),
        ('file = "red.toml"', "cannot be loaded"),
    ],
)
def test_descriptions_that_do_not_fit(tmp_path, text, message):
    path = red_model(tmp_path)
    path.write_text(text)
    with pytest.raises(P3MEdgeError, match=message):
        open_method(str(path), Options())


def test_the_examples_of_the_guide_are_descriptions(tmp_path):
    text = (ROOT / "docs/evaluation.md").read_text("utf-8")
    (example,) = re.findall("```toml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "every.toml"
    path.write_text(example)
    assert describe(path) == Description(
        "model.onnx", "...", output="...", input=PictureInput(name="...")
    )  # the defaults are told
    (tmp_path / "modnet.toml").write_text('file = "m.onnx"\n[size]\nrule = "short"\nside = 512\nmultiple_of = 32')
    assert describe(tmp_path / "modnet.toml").size.of(1080, 1920) == (512, 896)
    states, ratio = re.findall(r"`(?:downsample_ratio = )?(\{ shape = .*? \})`", text)
    path.write_text(f'file = "rvm.onnx"\n[constants]\nr1i = {states}\ndownsample_ratio = {ratio}')
    assert set(describe(path).constants) == {"r1i", "downsample_ratio"}


def test_what_a_foreign_model_gives_is_checked(tmp_path):
    path = red_model(tmp_path / "a", "[input]\nmean = [0, 0, 0]\nstd = [1e-45, 1, 1]\n")
    with pytest.raises(InputError, match="NaN or infinity"), np.errstate(all="ignore"):
        alpha_of(path, portrait(disc()))
    make_model(tmp_path / "b", [helper.make_node("Identity", ["x"], ["y"])],
               {"x": (TensorProto.FLOAT, [1, 3, "h", "w"])}, ["y"])  # fmt: skip
    (tmp_path / "b/m.toml").write_text('file = "model.onnx"')
    with pytest.raises(InputError, match=r"\[1, 3, 48, 64\], not one plane"):
        alpha_of(tmp_path / "b/m.toml", portrait(disc()))


@pytest.mark.parametrize(
    ("scale", "mean", "words", "values"),
    [
        (1, 0, "from 0 to 255, which are no alpha of 0 to 1", "levels"),
        (2, 0, "from 0 to 510", "logits"),
        (0.1, 12, "from -12 to 13.5", "logits"),
        (0.005, 0.1, "from -0.1 to 1.175", "clipped"),
    ],
)
def test_what_is_no_alpha_is_refused_with_a_suggestion(tmp_path, scale, mean, words, values):
    rgb = portrait(disc())
    scaling = f"[input]\nscale = {scale}\nmean = [{mean}, 0, 0]"
    with pytest.raises(UsageError, match=words) as caught:
        alpha_of(red_model(tmp_path, scaling), rgb)
    assert f'values = "{values}"' in str(caught.value.hint)
    given = rgb[..., 0].astype(float) * scale - mean
    expected = {"levels": given / 255, "logits": 1 / (1 + np.exp(-given)), "clipped": np.clip(given, 0, 1)}[values]
    found = alpha_of(red_model(tmp_path, f'values = "{values}"\n{scaling}'), rgb)
    assert np.abs(found - expected).max() < 1e-5


def test_levels_that_are_none(tmp_path):
    path = red_model(tmp_path, 'values = "levels"\n[input]\nscale = 3')
    with pytest.raises(UsageError, match="which are no alpha of 0 to 255"):
        alpha_of(path, portrait(disc()))
    path = red_model(tmp_path, "[input]\nscale = 0.00393")  # rounding: limited in silence
    assert alpha_of(path, portrait(disc())).max() == 1


def test_names_and_devices(tmp_path, checkpoint):
    with pytest.raises(UsageError, match="no model 'kn'") as caught:
        open_method("kn", Options())
    assert caught.value.hint == "did you mean 'knn'?"
    red_model(tmp_path)
    with pytest.raises(UsageError, match="needs a description"):
        open_method(str(tmp_path / "model.onnx"), Options())
    with pytest.raises(UsageError, match="unknown device 'warp'"):
        open_method(str(checkpoint[0]), Options(device="warp"))
    with pytest.raises(UsageError, match="run on the processor"):
        open_method(str(tmp_path / "red.toml"), Options(device="cuda"))
    if not torch.cuda.is_available():
        with pytest.raises(MissingError, match="cuda"):
            open_method(str(checkpoint[0]), Options(device="cuda"))
    (tmp_path / "broken.pt").write_bytes(json.dumps({}).encode())
    with pytest.raises(P3MEdgeError, match=r"broken\.pt"):
        open_method(str(tmp_path / "broken.pt"), Options())
