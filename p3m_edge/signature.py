"""Who made an artefact: a signature over all of its files, made with a private key and checked with the public one.

By OpenSSF model signing: ``model.sig`` in the folder is a Sigstore bundle without certificates or a log, so nothing
asks the network, and other tools for model signatures check it too. The keys are PEM files of elliptic curves (P-256,
P-384, P-521), as ``openssl ecparam -name prime256v1 -genkey -noout`` makes them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from p3m_edge.atomic import reason
from p3m_edge.errors import ArtefactError, InputError, UsageError, needing
from p3m_edge.manifest import SIGNATURE
from p3m_edge.smallfile import read_small

if TYPE_CHECKING:
    from model_signing import hashing, signing

_MAX_KEY_BYTES = 64 * 1024
_MAX_SIGNATURE_BYTES = 16 * 1024 * 1024


def check_private_key(key: Path) -> None:
    """Whether artefacts can be signed with a key.

    Raises
    ------
    MissingError
        The package for signatures is not here.
    InputError
        The key cannot be read.
    UsageError
        It is no private key, or one that is not supported.
    """
    _signer(key)


def sign(folder: Path, key: Path) -> None:
    """Write the signature of an artefact into its folder; every file in it is signed.

    Raises
    ------
    MissingError, InputError, UsageError
        As :func:`check_private_key`.
    """
    _signer(key).set_hashing_config(_hashing()).sign(folder, folder / SIGNATURE)


def check(folder: Path, key: Path) -> None:
    """Whether an artefact's files are as the owner of a key signed them.

    Files that are not signed are a matter of :func:`p3m_edge.manifest.check_files`.

    Raises
    ------
    ArtefactError
        It has no signature, one of another key, or was changed since it was signed.
    MissingError, InputError, UsageError
        As :func:`check_private_key`, for the public key.
    """
    with needing("sign"):
        from model_signing import verifying
    with _loading(key, "public"):
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    try:
        read_small(folder / SIGNATURE, _MAX_SIGNATURE_BYTES)
    except FileNotFoundError as error:
        raise ArtefactError(f"{folder} is not signed", hint="p3m-edge export --sign KEY signs") from error
    except OSError as error:
        raise ArtefactError(f"{folder / SIGNATURE} cannot be read: {reason(error)}") from error
    try:
        with redirect_stdout(sys.stderr):  # the package prints its warnings
            config.set_hashing_config(_hashing()).set_ignore_unsigned_files(True).verify(folder, folder / SIGNATURE)
    except Exception as error:  # what a crafted signature makes the package raise has no common base
        told = " ".join(str(error).split()) or type(error).__name__
        raise ArtefactError(f"{folder} is not as the owner of {key} signed it: {told}") from error


def _signer(key: Path) -> signing.Config:
    with needing("sign"):
        from model_signing import signing
    with _loading(key, "private"):
        return signing.Config().use_elliptic_key_signer(private_key=key)


def _hashing() -> hashing.Config:
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


@contextmanager
def _loading(key: Path, which: Literal["private", "public"]) -> Iterator[None]:
    """Around the package's reading of a key."""
    try:
        read_small(key, _MAX_KEY_BYTES)
    except OSError as error:
        raise InputError(f"the {which} key {key} cannot be read: {reason(error)}") from error
    try:
        yield
    except Exception as error:  # of other files, curves and kinds, and of a key with a password
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(
            f"{key} is no {which} key that can be used: {told}",
            hint="a PEM file of an elliptic curve (P-256, P-384, P-521), without a password",
        ) from error
