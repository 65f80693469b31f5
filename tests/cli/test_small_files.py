"""Small files as users have them: with a byte order mark, in another encoding, or something in their place."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from p3m_edge.cli import main
from p3m_edge.manifest import MANIFEST
from tests.artefacts import make_artefact

pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")


@pytest.fixture(autouse=True)
def never_waiting() -> Iterator[None]:
    """Whoever waits for a pipe is told after a minute."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 60)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_settings_with_a_byte_order_mark(tmp_path, capsys, encoding):
    pytest.importorskip("torch", reason="torch is not installed")
    (tmp_path / "mine.toml").write_bytes("[run]\r\nepochs = 7\r\n".encode(encoding))
    command = ["train", "--preset", "smoke", "--config", str(tmp_path / "mine.toml"), "--data", "synth:0", "--dry-run"]
    assert main([*command, "--out", str(tmp_path / "run"), "--json"]) == 0
    assert '"epochs":7' in capsys.readouterr().out.replace(" ", "")


@pytest.mark.parametrize("value", ["[" * 5000, "9" * 5000, "[" * 5000 + "]" * 5000])
def test_a_setting_that_is_too_much_is_a_matter_of_usage(tmp_path, capsys, value):
    pytest.importorskip("torch", reason="torch is not installed")
    command = ["train", "--preset", "smoke", "--data", "synth:0", "--dry-run", "--out", str(tmp_path / "run")]
    assert main([*command, "--set", f"run.epochs={value}"]) == 2
    error = capsys.readouterr().err
    assert "run.epochs" in error
    assert "internal error" not in error


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_boxes_with_a_byte_order_mark(tmp_path, photo, encoding, capsys):
    photo(tmp_path / "in" / "é.png", 200, 200)
    (tmp_path / "boxes.csv").write_bytes("name,x,y,width,height\r\né,20,20,100,100\r\n".encode(encoding))
    command = ["data", "anonymize", str(tmp_path / "in"), str(tmp_path / "out"), "--boxes", str(tmp_path / "boxes.csv")]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["faces"] == 1


@pytest.mark.parametrize("what", ["pipe", "device", "large", "folder", "loop"])
@pytest.mark.parametrize("verb", ["verify", "inspect", "run", "bench"])
def test_something_in_place_of_a_manifest(tmp_path, photo, capsys, what, verb):
    folder = make_artefact(tmp_path / "artefact")
    path = folder / MANIFEST
    path.unlink()
    if what == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no named pipes here")
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "large":
        with path.open("wb") as stream:
            stream.truncate(10**10)  # sparse: it takes no space
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(MANIFEST)
    more = [str(photo(tmp_path / "a.png")), "--out", str(tmp_path / "out")] if verb == "run" else []
    assert main([verb, str(folder), *more]) == 5
    error = capsys.readouterr().err
    assert f"{MANIFEST} cannot be read: " in " ".join(error.split())
    assert "internal error" not in error


@pipes
def test_a_pipe_in_an_artefact_is_a_file_too_many(tmp_path, capsys):
    folder = make_artefact(tmp_path / "artefact")
    os.mkfifo(folder / "more")
    assert main(["verify", str(folder)]) == 5
    assert "more is not listed in the manifest" in " ".join(capsys.readouterr().err.split())
    (folder / "more").unlink()
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    assert main(["verify", str(folder)]) == 5
    assert "it is a pipe, not a regular file" in " ".join(capsys.readouterr().err.split())


@pipes
def test_a_pipe_among_parity_pictures_is_called_what_it_is(tmp_path, capsys):
    pytest.importorskip("torch", reason="torch is not installed")
    os.mkfifo(tmp_path / "pipe.png")
    command = ["export", "--target", "onnx-fp32", "--size", "64x64", "--out", str(tmp_path / "out"), "--parity-images"]
    for place in (tmp_path / "pipe.png", tmp_path):
        assert main([*command, str(place)]) == 1
        assert "pipe.png cannot be read: it is a pipe, not a regular file" in " ".join(capsys.readouterr().err.split())
    assert main([*command, str(tmp_path / "none.png")]) == 1
    assert "none.png does not exist" in " ".join(capsys.readouterr().err.split())


def test_what_no_inference_can_take_is_refused(tmp_path, capsys):
    pytest.importorskip("torch", reason="torch is not installed")
    command = ["export", "--target", "onnx-fp32", "--out", str(tmp_path / "out"), "--batch"]
    assert main([*command, "999999999"]) == 2
    assert "--batch 256 at most" in capsys.readouterr().err
    assert main([*command, "257", "--dry-run"]) == 2
    assert main([*command, "256", "--dry-run"]) == 0
    assert not (tmp_path / "out").exists()
