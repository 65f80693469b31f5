"""Reading and writing checkpoints: the published layouts, our own format, and everything that is neither."""

import argparse
import collections
import hashlib
import io
import pickle
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch

from p3m_edge.errors import CheckpointError, InputError, OutputError
from p3m_edge.model import (
    ARCHS,
    P3MNet,
    inspect_checkpoint,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from p3m_edge.model.published import UNUSED
from p3m_edge.model.vitae import default_projection
from tests.model.reference import PUBLISHED, published_state
from tests.networks import shared_standin


def save(network: P3MNet, path: Path, licence: str = "CC BY 4.0") -> None:
    save_checkpoint(network, path, licence=licence, provenance="drawn in a test", trained=False)


def digests(tensors) -> collections.Counter[str]:
    return collections.Counter(hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for tensor in tensors)


def floats(network: P3MNet) -> list[torch.Tensor]:
    return [value for value in network.state_dict().values() if value.is_floating_point()]


def assert_same(first: P3MNet, second: P3MNet) -> None:
    assert first.arch == second.arch
    theirs = second.state_dict()
    for key, value in first.state_dict().items():
        assert torch.equal(value, theirs[key]), key


def light(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same keys and shapes, each large tensor one value repeated: its file is small."""
    return {key: v.flatten()[:1].clone().expand(v.shape) if v.numel() > 4096 else v for key, v in state.items()}


@pytest.fixture(scope="module")
def vitae_state(shared):
    return light(published_state(shared, "vitae", 1))


@pytest.fixture(scope="module")
def vitae(vitae_state, tmp_path_factory) -> P3MNet:
    """That file as a network; tests must not change it."""
    path = tmp_path_factory.mktemp("vitae") / "plain.pth"
    torch.save(vitae_state, path)
    return load_checkpoint(path)


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("own") / "mobile.safetensors"
    save(shared_standin("mobile"), path)
    return path


# Published files


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_tensor_is_loaded(shared, tmp_path, name):
    """By contents, whatever the names: each used tensor of the file is in the network, and nothing else is."""
    state = published_state(shared, name, 1)
    torch.save({"state_dict": state, "epoch": 150}, tmp_path / "file.pth")
    network, info = read_checkpoint(tmp_path / "file.pth")
    used = {id(value): value for key, value in state.items() if not UNUSED.search(key)}
    expected = digests(used.values())
    if name == "vitae":
        expected += digests(torch.from_numpy(default_projection(64, layer)) for layer in (0, 1))
    assert digests(floats(network)) == expected
    assert not network.training
    assert all(value.device.type == "cpu" and not value.is_meta for value in network.state_dict().values())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert info.arch == network.arch == PUBLISHED[name]
    assert info.format == "published"
    assert info.sha256 == hashlib.sha256((tmp_path / "file.pth").read_bytes()).hexdigest()
    assert info.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert len(info.supplied) == (2 if name == "vitae" else 0)


def test_wrappings_make_no_difference(vitae_state, vitae, tmp_path):
    state, path = vitae_state, tmp_path / "file.pth"
    for content, options in (
        ({"state_dict": state}, {}),
        (collections.OrderedDict(state), {"_use_new_zipfile_serialization": False}),
        ({key: torch.nn.Parameter(value, value.is_floating_point()) for key, value in state.items()}, {}),
        ({key: value for key, value in state.items() if not UNUSED.search(key)}, {}),
    ):
        torch.save(content, path, **options)
        assert_same(load_checkpoint(path), vitae)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model._orig_mod.module.", "network."]
)
def test_what_wraps_a_network_makes_no_difference(vitae_state, vitae, tmp_path, prefix):
    torch.save({"state_dict": {f"{prefix}{key}": v for key, v in vitae_state.items()}}, tmp_path / "wrapped.pth")
    assert_same(load_checkpoint(tmp_path / "wrapped.pth"), vitae)


def test_parts_that_were_compiled_by_themselves(vitae_state, vitae, tmp_path):
    parts = {re.sub(r"^encoder\.", "encoder._orig_mod.", key): value for key, value in vitae_state.items()}
    assert parts.keys() != vitae_state.keys()
    torch.save({"model": parts, "epoch": 3}, tmp_path / "parts.pth")
    assert_same(load_checkpoint(tmp_path / "parts.pth"), vitae)


@pytest.mark.parametrize("old", [False, True])
def test_what_else_is_in_a_training_scripts_file_is_left_out(vitae_state, vitae, tmp_path, old):
    """NumPy's numbers and arrays, options, paths: none of them is made, and none is in the way."""
    content = {
        "epoch": np.int64(3), "best": np.float64(0.25), "flag": np.bool_(1), "history": np.arange(5.0),
        "args": argparse.Namespace(lr=1e-5, out=tmp_path), "state_dict": vitae_state,
    }  # fmt: skip
    torch.save(content, tmp_path / "whole.pth", _use_new_zipfile_serialization=not old)
    assert_same(load_checkpoint(tmp_path / "whole.pth"), vitae)
    assert not [one for one in torch.serialization.get_safe_globals() if isinstance(one, tuple)]


def test_a_published_state_may_come_as_safetensors(vitae_state, vitae, tmp_path):
    safetensors.torch.save_file({key: v.contiguous() for key, v in vitae_state.items()}, tmp_path / "b.safetensors")
    assert_same(load_checkpoint(tmp_path / "b.safetensors"), vitae)
    assert inspect_checkpoint(tmp_path / "b.safetensors").format == "published"


def test_half_precision_files_become_float32(vitae_state, tmp_path):
    halves = {key: value.half() if value.is_floating_point() else value for key, value in vitae_state.items()}
    torch.save(halves, tmp_path / "half.pth")
    network = load_checkpoint(tmp_path / "half.pth")
    assert {value.dtype for value in floats(network)} == {torch.float32}
    bias = network.get_parameter("encoder.stem.conv.bias")
    assert torch.equal(bias, vitae_state["encoder.layers.0.RC.proj1.bias"].half().float())


def test_a_projection_in_the_file_is_used(vitae_state, tmp_path):
    projection = torch.randn(1, 32, 64)
    torch.save({**vitae_state, "encoder.layers.0.NC.1.attn.projection": projection}, tmp_path / "file.pth")
    network, info = read_checkpoint(tmp_path / "file.pth")
    assert torch.equal(network.get_buffer("encoder.stages.0.1.attn.projection"), projection)
    assert info.supplied == ("encoder.stages.0.0.attn.projection",)


def test_the_encoder_of_resnet_may_be_stored_once_but_not_differ(shared, tmp_path):
    state = light(published_state(shared, "r34", 1))
    path = tmp_path / "file.pth"
    torch.save(state, path)
    whole = load_checkpoint(path)
    for prefixes in (("resnet.",), tuple(f"encoder{i}." for i in range(5))):
        torch.save({key: value for key, value in state.items() if not key.startswith(prefixes)}, path)
        assert_same(load_checkpoint(path), whole)
    state["encoder2.0.conv1.weight"] = state["encoder2.0.conv1.weight"] + 1e-6
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"resnet\.layer2\.0\.conv1\.weight and encoder2\.0\.conv1\.weight"):
        load_checkpoint(path)


def replaced(state, key, change):
    return {**state, key: change(state[key])}


NAME = "decoder.tfi_3.conv1.weight"
VARIANCE = "decoder.tfi_3.bn1.running_var"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != NAME}, r"1 missing \(local_decoder\.tfi3\.mix\.conv\.weight\)"),
        (lambda s: {k: v for k, v in s.items() if "decoder3" not in k}, r"36 missing \(.*, \.\.\.\)"),
        (lambda s: {**s, "decoder.extra.weight": torch.ones(2)}, r"1 unexpected \(decoder\.extra\.weight\)"),
        (lambda s: replaced(s, NAME, lambda v: v[:8]), r"has shape \[8, 384, 3, 3\], not \[256, 384, 3, 3\]"),
        (lambda s: replaced(s, NAME, lambda v: v.index_fill(0, torch.tensor([3]), float("nan"))), "not finite"),
        (lambda s: replaced(s, NAME, lambda v: v.index_fill(0, torch.tensor([3]), float("inf"))), "not finite"),
        (lambda s: replaced(s, VARIANCE, lambda v: v - 10), "negative variance"),
        (lambda s: replaced(s, NAME, lambda v: v.to(torch.int32)), r"torch\.int32"),
        (lambda s: replaced(s, VARIANCE, lambda v: v.to_sparse()), "dense"),
        (lambda s: replaced(s, NAME, lambda v: v.tolist()[0][0][0]), "1 entries hold no tensor"),
    ],
)
def test_states_with_a_fault(vitae_state, tmp_path, change, message):
    torch.save(change(vitae_state), tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "file.pth")


# What is no checkpoint at all


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    return buffer.getvalue()


def scripted() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), buffer)
    return buffer.getvalue()


def graph() -> bytes:
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", ends[:1], ends[1:]))
    return bytes(model.SerializeToString())


RESNET18 = {
    "conv1.weight": torch.ones(64, 3, 7, 7),
    "bn1.weight": torch.ones(64),
    "layer1.0.conv1.weight": torch.ones(2),
}

FOREIGN = {
    "empty": b"",
    "one byte": b"\x80",
    "text": b"this is not a checkpoint\n" * 20,
    "json": b'{"a": 1}' * 20,
    "zeros": bytes(4096),
    "noise": np.random.default_rng(0).bytes(4096),
    "zip": zipped(),
    "onnx": graph(),
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "resnet18": saved(RESNET18),
    "scripted": scripted(),
    "tensor": saved(torch.ones(3)),
    "list": saved([1, 2, 3]),
    "number": saved(7),
    "no entries": saved({}),
    "empty state": saved({"state_dict": {}}),
    "state is a list": saved({"state_dict": [torch.ones(1)]}),
    "training": saved({"model": RESNET18, "optimizer": {}, "epoch": 3}),
    "numbered": saved({1: torch.ones(1)}),
    "half a zip": saved(RESNET18)[:2000],
    "half an old file": saved(RESNET18, _use_new_zipfile_serialization=False)[:2000],
    "module": saved(torch.nn.Linear(2, 2)),
    "safetensors": safetensors.torch.save(RESNET18),
    "half a safetensors": safetensors.torch.save(RESNET18)[:-5],
    "huge header": (10**7).to_bytes(8, "little") + b"{}",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files(tmp_path, kind):
    path = tmp_path / "file.pth"
    path.write_bytes(FOREIGN[kind])
    with pytest.raises(CheckpointError, match=r"file\.pth") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html><head><title>Quota exceeded</title></head></html>", "is a web page, not a checkpoint"),
        (b"\n<HTML>\n<body>Sign in</body>", "is a web page, not a checkpoint"),
        (b'\xef\xbb\xbf<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 98765432\n", "is a Git LFS pointer"),
        (b'{"error": "Repository not found"}', 'is a text, not a checkpoint; it begins with .{"error"'),
        (saved(torch.nn.Linear(2, 2)), "holds a whole object, not its state dict"),
        (pickle.dumps({"state_dict": print}), "not a PyTorch checkpoint"),
        (pickle.dumps({"state_dict": {"a": eval}}), "not a PyTorch checkpoint"),
    ],
)
def test_what_is_none_is_named_without_advice_to_trust_it(tmp_path, content, message):
    for suffix in ("pth", "safetensors"):
        path = tmp_path / f"file.{suffix}"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message) as caught:
            load_checkpoint(path)
        told = f"{caught.value} {caught.value.hint}"
        assert "weights_only" not in told
        assert "add_safe_globals" not in told
        assert "\x1b" not in told


def test_a_foreign_state_names_its_first_keys(tmp_path):
    (tmp_path / "file.pth").write_bytes(FOREIGN["resnet18"])
    with pytest.raises(CheckpointError, match=r"its 3 tensors \(conv1\.weight, bn1\.weight, layer1"):
        load_checkpoint(tmp_path / "file.pth")


class Trap:
    """A pickle that would create a file when loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("form", ["torch", "pickle", "state"])
def test_code_in_a_pickle_is_not_run(tmp_path, form):
    trap = Trap(tmp_path / "sprung")
    path = tmp_path / "file.pth"
    content = {"state_dict": {"encoder0.0.weight": trap}} if form == "state" else trap
    path.write_bytes(pickle.dumps(content) if form == "pickle" else saved(content))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not trap.path.exists()


def test_missing_and_unreadable(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(tmp_path / "nothing.pth")
    with pytest.raises(CheckpointError, match="not a file"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="not a file"):
        load_checkpoint("/dev/null")


def test_too_large_a_file_is_not_read(tmp_path):
    path = tmp_path / "file.pth"
    with path.open("wb") as file:
        file.truncate(5 * 1024**3)  # sparse: takes no space
    with pytest.raises(CheckpointError, match="too large"):
        load_checkpoint(path)


# Our own files


@pytest.mark.parametrize("arch", ARCHS)
def test_round_trip(tmp_path, arch):
    network, path = shared_standin(arch), tmp_path / "file.safetensors"
    network.train()
    try:
        save(network, path)
    finally:
        network.eval()
    loaded, info = read_checkpoint(str(path))
    assert_same(loaded, network)
    assert not loaded.training
    assert (info.arch, info.format, info.licence, info.provenance, info.trained) == (
        arch,
        "p3m-edge",
        "CC BY 4.0",
        "drawn in a test",
        False,
    )
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert info.supplied == ()
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.safetensors"]


def test_half_precision_halves_the_file(own, tmp_path):
    network = load_checkpoint(own)
    save_checkpoint(network, tmp_path / "half", licence="-", provenance="-", trained=True, half=True)
    assert (tmp_path / "half").stat().st_size < 0.52 * own.stat().st_size
    loaded = load_checkpoint(tmp_path / "half").state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(loaded[name], value.half().to(value.dtype)), name
    with torch.no_grad():
        network.get_parameter("encoder.stem.conv.weight")[0, 0, 0, 0] = 1e5
    with pytest.raises(InputError, match="finite"):
        save_checkpoint(network, tmp_path / "over", licence="-", provenance="-", trained=True, half=True)
    assert not (tmp_path / "over").exists()


def test_equal_networks_give_equal_files(own, tmp_path):
    save(load_checkpoint(own), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == own.read_bytes()
    save(load_checkpoint(own), tmp_path / "other", licence="another")
    assert (tmp_path / "other").read_bytes() != own.read_bytes()


def test_other_tools_can_read_it(own):
    tensors = safetensors.torch.load_file(own)
    network = load_checkpoint(own)
    assert torch.equal(tensors["encoder.stem.conv.weight"], network.get_parameter("encoder.stem.conv.weight"))


@pytest.mark.parametrize("place", ["first tensor", "last byte", "licence", "length", "end of header"])
def test_a_changed_byte(own, tmp_path, place):
    data = bytearray(own.read_bytes())
    header = 8 + int.from_bytes(data[:8], "little")
    index = {
        "first tensor": header,
        "last byte": len(data) - 1,
        "licence": data.index(b"CC BY"),
        "length": 0,
        "end of header": header - 1,
    }[place]
    data[index] ^= 1
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "file")


@pytest.mark.parametrize("keep", [7, 9, 100, 0.1, 0.999])
def test_a_truncated_file(own, tmp_path, keep):
    data = own.read_bytes()
    (tmp_path / "file").write_bytes(data[: keep if keep > 1 else int(keep * len(data))])
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "file")


def test_the_old_file_survives_a_failed_save(own, tmp_path):
    path = tmp_path / "file"
    shutil.copy(own, path)
    network = load_checkpoint(own)
    with torch.no_grad():
        network.get_parameter("local_decoder.head.bias").fill_(float("nan"))
    with pytest.raises(InputError, match=r"local_decoder\.head\.bias"):
        save(network, path)
    assert path.read_bytes() == own.read_bytes()


def test_places_that_cannot_be_written(own, tmp_path):
    network = load_checkpoint(own)
    with pytest.raises(OutputError, match="cannot be written"):
        save(network, tmp_path / "no" / "folder" / "file")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        save(network, tmp_path / "taken")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


FULL = """
import resource, signal, sys
from p3m_edge.errors import OutputError
from p3m_edge.model import load_checkpoint, save_checkpoint
network = load_checkpoint(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    save_checkpoint(network, sys.argv[2], licence="", provenance="", trained=False)
except OutputError as error:
    print("refused:", error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes cannot be limited here")
def test_a_disc_that_fills_up_leaves_nothing(own, tmp_path):
    command = [sys.executable, "-c", FULL, str(own), str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("refused:")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_others_may_read_what_the_system_lets_them(own, tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    save(load_checkpoint(own), tmp_path / "file")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
