"""Signed artefacts: whatever was changed since, and however the manifest was sealed again, it is noticed, offline."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from p3m_edge import manifest as manifests
from p3m_edge import signature
from p3m_edge.cli import main
from p3m_edge.errors import ArtefactError, InputError, MissingError, UsageError
from tests.artefacts import edit_manifest, make_artefact, rehash
from tests.core.test_manifest_protection import EDITS, edited, with_figures


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch, capsys):
    for name in ("model_signing", "model_signing.signing", "model_signing.verifying"):
        monkeypatch.setitem(sys.modules, name, None)
    folder = make_artefact(tmp_path / "artefact")
    for use in (signature.sign, signature.check):
        with pytest.raises(MissingError) as caught:
            use(folder, tmp_path / "key")
        assert caught.value.hint == 'pip install "p3m-edge[sign]"'
    assert main(["verify", str(folder), "--key", str(tmp_path / "key")]) == 4
    assert "p3m-edge[sign]" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network."""

    def refused(*_: object) -> None:
        raise AssertionError("somebody asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs of keys, one with a password, and one of another kind."""
    pytest.importorskip("model_signing", reason="model-signing is not installed")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    folder = tmp_path_factory.mktemp("keys")
    made: dict[str, Any] = {
        "own": ec.generate_private_key(ec.SECP256R1()), "other": ec.generate_private_key(ec.SECP384R1()),
        "bitcoin": ec.generate_private_key(ec.SECP256K1()), "edwards": ed25519.Ed25519PrivateKey.generate(),
    }  # fmt: skip
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    for name, key in made.items():
        text = key.private_bytes(pem, pkcs8, serialization.NoEncryption())
        (folder / f"{name}.pem").write_bytes(text)
        public = serialization.PublicFormat.SubjectPublicKeyInfo
        (folder / f"{name}.pub").write_bytes(key.public_key().public_bytes(pem, public))
    locked = made["own"].private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"word"))
    (folder / "locked.pem").write_bytes(locked)
    (folder / "text.pem").write_text("no key")
    return folder


@pytest.fixture(scope="module")
def signed(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = with_figures(tmp_path_factory.mktemp("artefacts") / "onnx-fp32")
    signature.sign(folder, keys / "own.pem")
    return folder


@pytest.fixture
def own(signed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(signed, tmp_path / "copy")


def test_what_was_signed_passes_under_any_name(keys, own, capsys):
    signature.check(own, keys / "own.pub")
    manifests.check_files(manifests.read(own), own)
    assert main(["verify", str(own), "--key", str(keys / "own.pub")]) == 0
    (own / ".DS_Store").write_bytes(b"system")
    moved = own.rename(own.with_name("another name"))
    capsys.readouterr()
    assert main(["verify", str(moved), "--key", str(keys / "own.pub"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["artefacts"][0]["status"] == "passed"


@pytest.mark.parametrize(("name", "value"), EDITS.values(), ids=EDITS)
def test_an_edit_is_noticed_though_the_manifest_was_sealed_anew(keys, own, name, value):
    path = own / manifests.MANIFEST
    path.write_bytes(manifests.seal(edited(path.read_bytes(), name, value)))
    if name != manifests.DIGEST:
        with pytest.raises(ArtefactError, match=r"is not as the owner of .* signed it: .*manifest\.json"):
            signature.check(own, keys / "own.pub")
    path.write_bytes(edited(path.read_bytes(), name, value))
    assert main(["verify", str(own), "--key", str(keys / "own.pub")]) == 5


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_another_file_is_noticed_though_its_hash_is_in_the_manifest(keys, own, name):
    (own / name).write_bytes((own / name).read_bytes() + b"x")
    rehash(own)
    with pytest.raises(ArtefactError, match=name):
        signature.check(own, keys / "own.pub")
    (own / name).unlink()
    with pytest.raises(ArtefactError, match="is not as the owner"):
        signature.check(own, keys / "own.pub")


def test_a_file_too_many_is_refused(keys, own):
    (own / "more").write_bytes(b"x")
    assert main(["verify", str(own), "--key", str(keys / "own.pub")]) == 5


def test_another_key_is_another_owner(keys, own, capsys):
    assert main(["verify", str(own), "--key", str(keys / "other.pub")]) == 5
    assert "is not as the owner of" in " ".join(capsys.readouterr().err.split())


def test_a_signature_that_is_missing_or_none(keys, own, capsys):
    path = own / manifests.SIGNATURE
    data = path.read_bytes()
    forged = re.sub(rb'("sig" *: *")', rb"\1A", data)
    assert forged != data
    for damaged in (b"", b"{}", b"[]", b"no signature", data[:-20], forged, data * 2):
        path.write_bytes(damaged)
        with pytest.raises(ArtefactError, match="is not as the owner") as caught:
            signature.check(own, keys / "own.pub")
        assert "\n" not in str(caught.value)
    path.unlink()
    assert main(["verify", str(own), "--key", str(keys / "own.pub"), "--json"]) == 5
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["message"].endswith("is not signed")
    path.mkdir()
    with pytest.raises(ArtefactError, match="cannot be read: it is a folder"):
        signature.check(own, keys / "own.pub")


def test_what_is_changed_after_it_was_signed_is_signed_again(keys, own):
    edit_manifest(own, verified__level="none")
    with pytest.raises(ArtefactError):
        signature.check(own, keys / "own.pub")
    signature.sign(own, keys / "other.pem")
    signature.check(own, keys / "other.pub")


@pytest.mark.parametrize("name", ["locked.pem", "text.pem", "bitcoin.pem", "edwards.pem", "own.pub"])
def test_keys_that_cannot_sign(keys, name):
    with pytest.raises(UsageError, match=f"{name} is no private key that can be used") as caught:
        signature.check_private_key(keys / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["text.pem", "bitcoin.pub", "edwards.pub", "own.pem"])
def test_keys_that_cannot_check(keys, own, name):
    with pytest.raises(UsageError, match=f"{name} is no public key that can be used"):
        signature.check(own, keys / name)


def test_a_key_that_is_not_there(keys, own, tmp_path):
    with pytest.raises(InputError, match=r"the private key .* cannot be read: No such file"):
        signature.check_private_key(tmp_path / "none")
    with pytest.raises(InputError, match=r"the public key .* cannot be read: it is a folder"):
        signature.check(own, keys)


def test_an_export_is_signed_before_it_has_its_name(keys, tmp_path, capsys):
    pytest.importorskip("torch", reason="torch is not installed")
    export = ["export", "--target", "onnx-fp32", "--size", "64x64", "--out", str(tmp_path / "out")]
    assert main([*export, "--sign", str(keys / "text.pem")]) == 2
    assert main([*export, "--sign", str(tmp_path / "none")]) == 1
    assert not (tmp_path / "out").exists()
    assert main([*export, "--sign", str(keys / "own.pem")]) == 0
    folder = tmp_path / "out" / "onnx-fp32"
    assert main(["verify", str(folder), "--key", str(keys / "own.pub")]) == 0
    assert main(["verify", str(folder)]) == 0
    capsys.readouterr()
