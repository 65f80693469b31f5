"""Core AI artefacts, run by Apple's own runtime where it has a package; elsewhere most of this is skipped."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
import torch

from p3m_edge import manifest as manifests
from p3m_edge import shipped
from p3m_edge.cli import main
from p3m_edge.errors import ArtefactError, MissingError, P3MEdgeError
from p3m_edge.export import ExportRequest, export
from p3m_edge.export.formats import run_converter
from p3m_edge.export.formats.coreai import format as export_coreai
from p3m_edge.export.formats.coreai.aimodel import CoreAiOrder, HalfForm
from p3m_edge.export.graph import program as programs
from p3m_edge.model.checkpoint import load_checkpoint
from p3m_edge.model.deploy import Deploy
from p3m_edge.runtimes import EngineOptions, Matting, open_engine
from p3m_edge.runtimes.engines.coreai_worker import PackedArray
from p3m_edge.workers.messages import Request, Result, receive, send
from p3m_edge.workers.parent import Worker, WorkerError
from tests.artefacts import edit_manifest, picture
from tests.conftest import ROOT
from tests.export.conftest import export_to_a_full_disc
from tests.portraits import ASTRONAUT

TARGET = "coreai-fp16"
SIZE = 64
installed = pytest.mark.skipif(
    importlib.util.find_spec("coreai_torch") is None,
    reason="coreai-torch is not installed: it has packages for Linux on x86-64 and for macOS 26",
)


def request_for(out: Path, **options: Any) -> ExportRequest:
    return ExportRequest((TARGET,), out, **{"width": SIZE, "height": SIZE, **options})


@pytest.fixture(scope="session")
def mobile(once):
    """The artefact of the shipped weights."""
    return once("coreai", lambda out: export(request_for(out, checkpoint=shipped.weights_path()))) / TARGET


def engine_processes() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "p3m_edge.runtimes.engines.coreai_worker" in child.cmdline()]


@pytest.mark.full
@installed
def test_apples_runtime_gives_the_mattes_of_the_network(mobile):
    manifest = manifests.read(mobile)
    record = manifest.parity
    assert record is not None
    assert record.failures == ()
    assert all(0 < (item.local_mean or 0) < 2e-3 for item in record.items)
    assert max(item.local_mean or 0 for item in record.items) > 1e-5  # really computed in half precision
    assert manifest.verified.level == "device"
    assert {"coreai-core", "coreai-torch"} <= set(manifest.engine.versions)
    with Matting(mobile) as matting:
        assert matting.selftest().passed
        alpha = matting(picture(90, 70))
    assert alpha.shape == (90, 70)
    assert engine_processes() == []


@pytest.mark.full
@installed
def test_a_model_is_as_large_as_its_weights_and_names_nobody(mobile):
    model = mobile / "model.aimodel"
    parameters = sum(value.numel() for value in load_checkpoint(shipped.weights_path()).parameters())
    assert sum(path.stat().st_size for path in model.iterdir()) <= 1.02 * 2 * parameters
    code = max(model.iterdir(), key=lambda path: path.stat().st_size).read_bytes()
    for name in (str(ROOT), "site-packages", "deploy.py"):
        assert name.encode() not in code


def test_what_is_named_stays_in_float32():
    """And nothing else; the whole is still the network."""
    network = load_checkpoint(shipped.weights_path())
    deploy = Deploy(network)
    program = programs.trace(deploy, SIZE, SIZE)
    kept = programs.deciding(program)
    assert kept
    half = HalfForm(program, kept)
    weights = dict(half.named_buffers())
    single = [name for name, value in weights.items() if value.dtype == torch.float32]
    assert 0 < len(single) < len(weights) / 4
    assert all(value.dtype in (torch.float32, torch.float16) for value in weights.values())
    image = torch.from_numpy(picture(SIZE, SIZE)[np.newaxis])
    with torch.inference_mode():
        wanted, found = deploy(image), half(image)
    for one, other in zip(wanted[1:], found[1:], strict=True):
        assert other.dtype == torch.float32
        assert 0 < float((one - other).abs().mean()) < 2e-3
    assert programs.exponential(program) == ()  # in ViTAE's Performers alone
    nothing = HalfForm(program, ())
    assert {value.dtype for value in nothing.buffers()} == {torch.float16}


@pytest.mark.full
@installed
def test_verify_and_run(mobile, tmp_path, capsys):
    assert main(["verify", str(mobile), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["artefacts"]
    assert (told["engine"]["name"], told["engine"]["device"], told["status"]) == ("coreai", "CPU", "passed")
    portrait = ASTRONAUT
    line = [sys.executable, "-m", "p3m_edge", "run", str(mobile), str(portrait), "--out", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "ODIE" not in done.stdout + done.stderr  # what the runtime says to itself
    assert list(tmp_path.iterdir())


@pytest.mark.full
@installed
@pytest.mark.parametrize("missing", ["main.mlirb", None], ids=["the program", "everything"])
def test_a_model_that_is_not_whole_ends_no_process_but_its_own(missing, mobile, tmp_path):
    copy = Path(shutil.copytree(mobile, tmp_path / TARGET))
    model = copy / "model.aimodel"
    (model / missing).unlink() if missing else shutil.rmtree(model)
    with pytest.raises(ArtefactError, match=r"Core AI cannot load .*: its process was ended by SIG"):
        open_engine(manifests.read(copy), copy)
    assert engine_processes() == []


@pytest.mark.full
@installed
def test_an_interrupted_inference_leaves_no_process(mobile):
    manifest = manifests.read(mobile)

    def work() -> None:
        with open_engine(manifest, mobile) as engine:
            image = picture(SIZE, SIZE)[np.newaxis]
            engine.infer(image)
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            while True:
                engine.infer(image)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert engine_processes() == []


@pytest.mark.full
@installed
def test_a_process_that_dies_is_an_error_and_a_forgotten_engine_none(mobile):
    manifest = manifests.read(mobile)
    engine = open_engine(manifest, mobile, EngineOptions(cache=False))
    (process,) = engine_processes()
    process.kill()
    with pytest.raises(P3MEdgeError, match="coreai: its process was ended by SIGKILL"):
        engine.infer(picture(SIZE, SIZE)[np.newaxis])
    engine = open_engine(manifest, mobile, EngineOptions(cache=False))
    assert len(engine_processes()) == 1
    del engine
    gc.collect()
    assert engine_processes() == []


@pytest.mark.full
@installed
def test_another_function_than_the_manifest_says(mobile, tmp_path):
    copy = Path(shutil.copytree(mobile, tmp_path / TARGET))
    edit_manifest(copy, input__width=SIZE + 32)
    with pytest.raises(ArtefactError, match="does not match its manifest: its inputs are image: uint8"):
        open_engine(manifests.read(copy), copy)


def test_a_conversion_that_aborts_says_why_and_for_which_network(tmp_path, monkeypatch):
    """What LLVM says before it ends the process."""
    (tmp_path / "aborting.py").write_text(
        "import os, sys\n"
        "sys.stderr.write('a warning\\nLLVM ERROR: Failed to infer result type(s): \"add\"\\n')\n"
        "sys.stderr.flush()\n"
        "os.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(P3MEdgeError) as caught:
        run_converter("aborting", {}, "coreai-torch", "the network (swin-t)")
    assert str(caught.value) == (
        "coreai-torch cannot convert the network (swin-t): its process was ended by SIGABRT: "
        'LLVM ERROR: Failed to infer result type(s): "add"'
    )


@installed
@pytest.mark.full
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the limit of a process' files is Linux's")
def test_a_disc_that_fills_while_the_model_is_written(tmp_path):
    program = programs.trace(Deploy(load_checkpoint(shipped.weights_path())), 32, 32)
    source, out = tmp_path / "program.pt2", tmp_path / "model.aimodel"
    torch.export.save(program, source)
    order = CoreAiOrder(str(source), str(out), "image", ("alpha", "local_alpha", "global_logits"), ())
    with Worker(export_coreai.CONVERTER) as worker:
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
        with pytest.raises(WorkerError, match=r"ended .*: LLVM ERROR.*File too large$"):
            worker.call("convert", order=order)


@installed
@pytest.mark.full
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the limit of a process' files is Linux's")
def test_a_full_disc_is_one_line(tmp_path):
    options = ("--target", TARGET, "--size", f"{SIZE}x{SIZE}")
    assert "cannot be written" in export_to_a_full_disc(tmp_path / "out", options, 3_000_000)


def test_without_the_package_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "coreai_torch", None)
    with pytest.raises(MissingError, match="'coreai_torch' cannot be imported") as caught:
        export(request_for(tmp_path / "out", arch="mobile"))
    assert caught.value.hint == 'pip install "p3m-edge[coreai]"'
    assert not (tmp_path / "out").exists()


def test_messages_between_the_processes(tmp_path):
    image = PackedArray("uint8", (1, 2), b"ab")
    order = Request("infer", {"inputs": {"image": image}, "outputs": ("alpha",)})
    found = Result(msgspec.to_builtins({"alpha": PackedArray("float32", (None, 3))}, builtin_types=(bytes,)))
    with (tmp_path / "pipe").open("w+b") as pipe:
        for message in (order, found):
            send(pipe, message)
        pipe.seek(0)
        assert msgspec.convert(receive(pipe, Request).arguments["inputs"], dict[str, PackedArray]) == {"image": image}
        assert msgspec.convert(receive(pipe, Result).value, dict[str, PackedArray])["alpha"].shape == (None, 3)
        with pytest.raises(EOFError):
            receive(pipe, Result)
