"""Settings: presets, files, overrides, and what is said about mistakes in them."""

import inspect
import tomllib
from dataclasses import fields
from importlib.resources import files
from typing import get_type_hints

import numpy as np
import pytest

from p3m_edge.data.copy_paste import ImagePaste
from p3m_edge.data.sample import Sample
from p3m_edge.errors import InputError, UsageError
from p3m_edge.train import config as configs
from p3m_edge.train.dataset import augmentation
from p3m_edge.train.feature_paste import FeaturePaste


def test_the_published_values_are_the_defaults():
    config = configs.load()
    assert (config.optim.lr, config.run.epochs, config.run.batch) == (1e-5, 150, 8)
    assert (config.data.size, config.data.crops) == (512, (512, 768, 1024))
    assert (config.optim.schedule, config.optim.clip_norm, config.optim.ema) == ("constant", 0.0, 0.0)


def test_the_constants_of_copy_paste_are_those_of_the_code():
    config = configs.load()
    for section, code in ((config.image_paste, ImagePaste), (config.feature_paste, FeaturePaste)):
        constants = {
            name: parameter.default
            for name, parameter in inspect.signature(code).parameters.items()
            if name not in ("source", "network")
        }
        assert vars(section) == constants
    assert config.copy_paste.methods == ()


def test_the_base_preset_names_every_setting():
    text = (files("p3m_edge.train") / "presets" / "p3m-r34.toml").read_text("utf-8")
    table = tomllib.loads(text)
    expected = {section: {f.name for f in fields(kind)} for section, kind in get_type_hints(configs.Config).items()}
    assert {section: set(values) for section, values in table.items()} == expected


@pytest.mark.parametrize(
    ("preset", "arch"),
    [
        ("p3m-r34", "r34"),
        ("p3m-swin-t", "swin-t"),
        ("p3m-vitae-s", "vitae-s"),
        ("mobile", "mobile"),
        ("smoke", "tiny"),
    ],
)
def test_every_preset_loads_and_survives_toml(preset, arch, tmp_path):
    config = configs.load(preset)
    assert config.model.arch == arch
    (tmp_path / "config.toml").write_text(configs.to_toml(config))
    assert configs.load(file=tmp_path / "config.toml") == config
    assert configs.from_table(configs.to_table(config)) == config


def test_the_command_line_beats_the_file_and_the_file_beats_the_preset(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[optim]\nlr = 1e-3\nschedule = "cosine"\n')
    overrides = ["optim.lr=2e-4", "data.crops=[64, 128]", "run.device=cpu", "log.tensorboard=false"]
    config = configs.load("p3m-swin-t", file, overrides)
    assert (config.optim.lr, config.optim.schedule, config.model.arch) == (2e-4, "cosine", "swin-t")
    assert (config.data.crops, config.run.device, config.log.tensorboard) == ((64, 128), "cpu", False)


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("optim.rl=1", "unknown setting optim.rl", "did you mean 'optim.lr'?"),
        ("optin.lr=1", "unknown section 'optin'", "did you mean 'optim'?"),
        ("lr=1", "'lr=1' is not SECTION.KEY=VALUE", "--set optim.lr=1e-4"),
        ("optim.lr", "is not SECTION.KEY=VALUE", "--set optim.lr=1e-4"),
        ("optim.lr=fast", "optim.lr: expected float, got str", None),
        ("optim.lr=-1", "optim.lr: expected float > 0", None),
        ("run.batch=2.5", "run.batch: expected int, got float", None),
        ("run.sync_batchnorm=1", "run.sync_batchnorm: expected bool, got int", None),
        ("model.arch=r35", "model.arch: invalid enum value 'r35'", "choose from: r34, swin-t, vitae-s, mobile, tiny"),
        ("data.size=500", "data.size: expected int that's a multiple of 32", None),
        ("data.crops=[]", "data.crops: expected array of length >= 1", None),
        ("data.compose=0.5", "data.compose needs backgrounds", "data.backgrounds=FOLDER"),
        ("data.walls=0.5", "data.walls needs views and composites", "data.whole=0.55 data.compose=0.5"),
        (
            "data.clothes=0.5",
            "data.clothes takes textures from backgrounds",
            "data.compose=0.5 data.backgrounds=FOLDER",
        ),
    ],
)
def test_mistakes_are_one_clear_line(override, message, hint):
    with pytest.raises(UsageError) as caught:
        configs.load("smoke", overrides=[override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hint is None or hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (None, InputError, "No such file"),
        (b"[optim\n", UsageError, "is not TOML"),
        (b"\xff\xfa", UsageError, "is not TOML"),
        (b"optim = 3\n", UsageError, "optim is a section"),
        (b"[optim]\nbetas = [0.9]\n", UsageError, "unknown setting optim.betas"),
    ],
)
def test_files_that_cannot_be_used(content, kind, message, tmp_path):
    file = tmp_path / "mine.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(kind, match=message):
        configs.load(file=file)


def test_an_unknown_preset_gets_a_suggestion():
    with pytest.raises(UsageError) as caught:
        configs.load("p3m-r35")
    assert caught.value.hint == "did you mean 'p3m-r34'?"


@pytest.mark.parametrize("step", ["colour", "dark", "grey", "blur", "noise", "jpeg"])
def test_an_option_of_the_data_changes_the_picture_and_not_the_matte(step):
    values = np.random.default_rng(0)
    image, alpha = (values.integers(256, size=shape, dtype=np.uint8) for shape in ((64, 64, 3), (64, 64)))
    plain, changed = (
        augmentation(configs.load(overrides=["data.size=64", "data.crops=[64]", f"data.{step}={share}"]).data, None)(
            Sample("noise", image, alpha), np.random.default_rng(1)
        )
        for share in (0, 1)
    )
    assert not np.array_equal(plain.image, changed.image)
    assert np.array_equal(plain.alpha, changed.alpha)


@pytest.mark.parametrize(
    "override", ["optim.lr=inf", "optim.lr=1e400", "optim.lr=nan", "image_paste.scale=[1.0, inf]",
                 "distillation.alpha=inf", "optim.lr=" + "9" * 400, "optim.lr=" + "9" * 5000]
)  # fmt: skip
def test_numbers_without_an_end(override):
    with pytest.raises(UsageError, match=override.partition("=")[0]) as caught:
        configs.load("smoke", overrides=[override])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_how_mattes_are_stored():
    form = configs.load("smoke", overrides=["data.alpha_from=alpha", "data.alpha_turned=raw"]).data.mattes
    assert (form.source, form.turned) == ("alpha", "raw")
    with pytest.raises(UsageError, match=r"data\.alpha_from") as caught:
        configs.load("smoke", overrides=["data.alpha_from=red"])
    assert "grey, alpha, mask, 8-bit, values" in str(caught.value.hint)
