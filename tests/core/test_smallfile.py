"""One reader for small files: what is no regular file, too large, marked, encoded otherwise, too much for a parser."""

from __future__ import annotations

import codecs
import csv
import errno
import os
import socket
import tomllib
from pathlib import Path

import msgspec
import pytest

from p3m_edge.smallfile import LIMIT, parse_json, parse_toml, read_csv, read_small, read_text, read_toml

TEXT = '[run]\nname = "é☂"\n'


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    kinds = {"folder": "a folder", "zero": "a device", "linked": "a device"}
    (tmp_path / "folder").mkdir()
    (tmp_path / "linked").symlink_to("/dev/zero")
    (tmp_path / "zero").symlink_to("/dev/null")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        kinds["pipe"] = "a pipe"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tmp_path / "socket"))
        for name, what in {**kinds, "socket": "a socket"}.items():
            with pytest.raises(OSError, match=what) as caught:
                read_small(tmp_path / name)
            assert caught.value.filename == os.fspath(tmp_path / name)


@pytest.mark.parametrize("name", ["nothing", "x" * 300, "x/" * 2500, "a\0b", "a\ud800b", "loop"])
def test_what_is_not_there_or_can_be_nowhere_is_an_oserror_with_words(tmp_path, name):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError) as caught:  # noqa: PT011  the words are the system's
        read_small(os.path.join(tmp_path, name))  # noqa: PTH118  a name with NUL
    assert caught.value.strerror
    assert isinstance(caught.value, FileNotFoundError) == (name == "nothing")


def test_the_limit_is_of_bytes_and_stated(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_small(path, 5) == b"12345"
    with pytest.raises(OSError, match="too large: more than 4 bytes") as caught:
        read_small(path, 4)
    assert caught.value.errno == errno.EFBIG
    with path.open("wb") as stream:
        stream.truncate(LIMIT + 1)  # sparse: it takes no space
    with pytest.raises(OSError, match="more than 67,108,864 bytes"):
        read_small(path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_files_that_say_to_be_empty_are_read():
    assert b"Name:" in read_small("/proc/self/status")
    with pytest.raises(OSError, match="too large"):
        read_small("/proc/self/status", 10)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_texts_with_a_byte_order_mark(tmp_path, encoding, newline):
    path = tmp_path / "file"
    path.write_bytes(TEXT.replace("\n", newline).encode(encoding))
    assert read_toml(path) == {"run": {"name": "é☂"}}
    path.write_bytes(f"name,x{newline}é,1{newline}".encode(encoding))
    assert list(read_csv(path)) == [{"name": "é", "x": "1"}]


def test_json_with_a_byte_order_mark():
    assert parse_json(codecs.BOM_UTF8 + b'{"a": 1}', dict[str, int]) == {"a": 1}
    assert parse_json('{"a": 1}', dict[str, int]) == {"a": 1}


def test_what_is_no_text(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a = '\xff'")
    for read in (read_text, read_toml, read_csv):
        with pytest.raises(UnicodeDecodeError):
            read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 100_000, "nested too deep"),
        ("a = " + "{a=" * 100_000, "nested too deep"),
        ("a = " + "9" * 5000, "more than 64 bits"),
        ("a = [{b = 9223372036854775808}]", "more than 64 bits"),
        ("a = -9223372036854775809", "more than 64 bits"),
        ("a", "line 1|end of document"),
    ],
    ids=lambda text: text[:12],
)
def test_toml_that_is_too_much_is_no_toml(text, message):
    with pytest.raises(tomllib.TOMLDecodeError, match=message):
        parse_toml(text)


def test_toml_as_it_should_be():
    assert parse_toml("a = [-9223372036854775808, 9223372036854775807]")["a"] == [-(2**63), 2**63 - 1]


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b'"\xff"', b"", b"{", b'{"a":1}x'])
def test_json_that_is_too_much_is_no_json(data):
    for kind in (object, dict[str, int]):
        with pytest.raises(msgspec.MsgspecError):
            parse_json(data, kind)


def test_a_field_of_200_kilobytes_is_an_error_of_the_table(tmp_path):
    path = tmp_path / "file"
    path.write_text("name\n" + "x" * 200_000 + "\n")
    with pytest.raises(csv.Error, match="131072"):
        list(read_csv(path))
