"""``p3m-edge train`` as the command line decides; what training does is in tests/train."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import psutil
import pytest

from p3m_edge import model
from p3m_edge.cli import main
from tests.train.conftest import TINY, write_set

SMOKE = ("--preset", "smoke", *(part for setting in TINY for part in ("--set", setting)))


def train(capsys, *arguments) -> tuple[int, str, str]:
    code = main(["train", *map(str, arguments)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("cli") / "set", 6)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "synth:0"], 2, "--out RUN"),
        (["--out", "run"], 2, "--data DIR"),
        (["--data", "absent", "--out", "run"], 1, "absent"),
        (["--data", "synth:0", "--out", "run", "--preset", "p3m-r43"], 2, "did you mean 'p3m-r34'?"),
        (["--data", "synth:0", "--out", "run", "--set", "optim.rl=1"], 2, "did you mean 'optim.lr'?"),
        (["--data", "synth:0", "--out", "run", "--lr", "fast"], 2, "optim.lr: expected float, got str"),
        (["--data", "synth:0", "--out", "run", "--lr", "inf"], 2, "optim.lr: expected finite numbers"),
        (["--data", "synth:0", "--out", "run", "--alpha-from", "red"], 2, "--alpha-from"),
        (["--data", "synth:0", "--out", "run", "--set", "data.alpha_turned=left"], 2, "check, upright, raw"),
        (["--data", "synth:0", "--out", "run", "--batch", "0"], 2, "run.batch: expected int >= 1"),
        (["--data", "synth:0", "--out", "run", "--config", "absent.toml"], 1, "absent.toml cannot be read"),
        (["--data", "synth:0", "--out", "run", "--cp", "icp"], 2, "--faces"),
        (["--data", "synth:0", "--out", "run", "--cp", "icq"], 2, "copy_paste.methods"),
        (["--data", "synth:0", "--out", "run", "--faces", "synth:2"], 2, "without P3M-CP"),
        (["--data", "synth:0", "--out", "run", "--encoder-weights", "absent.pth", "--dry-run"], 5, "absent.pth"),
        (["--out", "run", "--resume"], 5, "there is no training state"),
        (["--out", "run", "--resume", "--preset", "smoke"], 2, "--preset has no meaning with --resume"),
        (["--out", "run", "--resume", "--cp", "icp"], 2, "--cp has no meaning with --resume"),
        (["--data", "synth:0", "--out", "run", "--teacher", "absent.pth"], 5, "there is no teacher"),
        (["--data", "synth:0", "--out", "run", "--unlabelled", "absent"], 1, "absent cannot be listed"),
        (["--unlabelled", "absent", "--out", "run", "--cp", "icp", "--faces", "synth:2"], 2, "P3M-CP needs --data"),
        (["--data", "synth:0", "--out", "run", "--set", "distillation.levels=[4, 4]"], 2, "must be different"),
        (["--data", "synth:0", "--preview", "sheet.png"], 2, "--faces DIR"),
        (
            ["--data", "synth:0", "--set", "run.sync_batchnorm=true", "--out", "run", "--device", "cpu"],
            2,
            "SyncBatchNorm",
        ),
    ],
)
def test_wrong_requests(arguments, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, stdout, stderr = train(capsys, *arguments)
    assert (found, stdout) == (code, "")
    assert message in stderr
    assert len(stderr.splitlines()) <= 2
    assert "internal error" not in stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="CUDA is here")
def test_no_cuda_where_it_is_asked_for(capsys, tmp_path):
    code, _, stderr = train(capsys, "--data", "synth:0", "--out", tmp_path / "run", "--device", "cuda")
    assert code == 4
    assert "no cuda device can be used here" in stderr


def test_dry_run_checks_all_and_writes_nothing(data, capsys, tmp_path):
    arguments = (*SMOKE, "--data", data, "--out", tmp_path / "run", "--lr", "0.5", "--dry-run")
    code, stdout, _ = train(capsys, *arguments, "--json")
    assert code == 0
    document = json.loads(stdout)
    assert document["config"]["optim"]["lr"] == 0.5
    assert document["plan"]["pictures"] + document["plan"]["held_out"] == 6
    assert document["plan"]["steps"] == 2 * document["plan"]["steps_per_epoch"]
    code, stdout, _ = train(capsys, *arguments)
    assert code == 0
    assert "0.25 million parameters" in stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def photos(data, tmp_path):
    return shutil.copytree(data / "blurred_image", tmp_path / "photos")


def test_dry_run_with_a_teacher(data, photos, capsys, tmp_path):
    teacher = tmp_path / "teacher.safetensors"
    model.save_checkpoint(model.build("tiny"), teacher, licence="CC-BY", provenance="drawn", trained=True)
    arguments = (*SMOKE, "--unlabelled", photos, "--teacher", teacher, "--out", tmp_path / "run", "--dry-run")
    code, stdout, _ = train(capsys, *arguments, "--json")
    assert code == 0
    planned = json.loads(stdout)["plan"]
    assert (planned["judged_by"], planned["blurred"], planned["pictures"]) == ("the teacher", None, 5)
    assert planned["teacher"]["sha256"] == model.inspect_checkpoint(teacher).sha256
    code, stdout, _ = train(capsys, *arguments)
    assert code == 0
    shown = " ".join(stdout.split())
    for part in (
        "judged by the teacher",
        "not known to be blurred",
        "licence: CC-BY",
        planned["teacher"]["sha256"][:12],
    ):
        assert part in shown
    assert not (tmp_path / "run").exists()


def test_teachers_and_folders_that_cannot_be_used(data, photos, capsys, tmp_path):
    damaged, empty = tmp_path / "damaged.safetensors", tmp_path / "empty"
    model.save_checkpoint(model.build("tiny"), damaged, licence="CC0", provenance="drawn", trained=True)
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-100])
    empty.mkdir()
    out = ("--out", tmp_path / "run")
    code, _, stderr = train(capsys, *SMOKE, "--data", data, "--teacher", damaged, *out)
    assert code == 5
    assert "there is no teacher" in stderr
    damaged.write_bytes(whole)
    code, _, stderr = train(capsys, *SMOKE, "--teacher", damaged, "--unlabelled", empty, *out)
    assert code == 1
    assert "holds no pictures" in stderr
    code, _, stderr = train(capsys, *SMOKE, "--unlabelled", photos, *out)
    assert code == 2
    assert "--teacher CKPT" in stderr
    code, _, stderr = train(capsys, *SMOKE, "--teacher", damaged, *out)
    assert code == 2
    assert "what is to be trained on?" in stderr
    assert not (tmp_path / "run").exists()


def test_a_preview_is_a_sheet_and_nothing_is_trained(data, capsys, tmp_path):
    sheet = tmp_path / "sheet.png"
    arguments = ("--data", data, "--faces", "synth:2", "--cp", "icp", "--preview", sheet)
    code, stdout, _ = train(capsys, *arguments)
    assert code == 0
    assert "5 pictures" in stdout
    assert cv2.imread(str(sheet)) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_weights_of_a_training_can_be_exported(data, capsys, tmp_path):
    code, stdout, stderr = train(capsys, *SMOKE, "--data", data, "--out", tmp_path / "run")
    assert code == 0
    assert "best.safetensors" in stdout
    assert "epoch 2/2" in stderr
    best = tmp_path / "run/best.safetensors"
    arguments = ["--checkpoint", best, "--target", "onnx-fp32", "--out", tmp_path / "out", "--size", "64x64"]
    # After six steps, near ties between pooled pixels decide about more of the matte than the gate allows.
    arguments += ["--limit", "pixel_share=1", "--limit", "local_mean=0.1"]
    assert main(["export", *map(str, arguments)]) == 0
    assert (tmp_path / "out/onnx-fp32/manifest.json").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_worker_that_was_killed(data, tmp_path):
    sets = (part for setting in ("data.workers=1", "run.epochs=10000") for part in ("--set", setting))
    command = [sys.executable, "-m", "p3m_edge", "train", *SMOKE, *sets, "--data", data, "--out", tmp_path / "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*map(str, command)], env=environment, stderr=subprocess.PIPE, text=True) as process:
        log = tmp_path / "run/log.csv"
        deadline = time.monotonic() + 120
        while not log.is_file() or log.read_text().count("\n") < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for child in psutil.Process(process.pid).children():
            if "resource_tracker" not in " ".join(child.cmdline()):  # multiprocessing's own, which prepares nothing
                child.send_signal(signal.SIGKILL)
        _, stderr = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "error: a process that prepares pictures was killed" in stderr
    assert "Traceback" not in stderr


def test_without_torch_it_names_the_extra(tmp_path):
    arguments = ["train", "--data", "synth:0", "--out", str(tmp_path / "run")]
    code = f"import sys; sys.modules['torch'] = None; from p3m_edge.cli import main; sys.exit(main({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 4
    assert 'pip install "p3m-edge[' in done.stderr
