"""``p3m-edge run --executor ray`` with real Ray processes, on folders and on a real object store."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tests.bulk.conftest import ROOT, command, environment, files, run, write_pictures

pytest.importorskip("ray.data", reason="Ray is not installed: the extra ray")

RAY = ("--executor", "ray", "--ray-workers", "2")
MANY, HEIGHT, WIDTH = 24, 500, 700  # pictures that take long enough to be interrupted


def test_a_folder_and_again(artefact, tmp_path):
    pictures = write_pictures(tmp_path / "in", 6)
    (pictures / "poisoned.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    once = run("run", artefact, pictures, "--out", tmp_path / "single")
    done = run("run", artefact, pictures, "--out", tmp_path / "ray", *RAY, "--json")
    assert (once.returncode, done.returncode) == (1, 1), done.stderr
    report = json.loads(done.stdout)
    assert (report["done"], report["skipped"], report["failed"]) == (6, 0, 1)
    (failed,) = (each for each in report["pictures"] if each["status"] == "failed")
    assert failed["input"].endswith("poisoned.jpg")
    assert failed["reason"].startswith("is damaged or not supported")
    assert files(tmp_path / "ray") == files(tmp_path / "single")
    assert len(files(tmp_path / "ray")) == 12
    (pictures / "poisoned.jpg").unlink()
    (tmp_path / "ray/0.alpha.png").unlink()

    def times():
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "ray").glob("[1-5].*.png")}

    before = times()
    again = run("run", artefact, pictures, "--out", tmp_path / "ray", *RAY, "--json")
    report = json.loads(again.stdout)
    assert (again.returncode, report["done"], report["skipped"], report["failed"]) == (0, 1, 5, 0)
    assert files(tmp_path / "ray") == files(tmp_path / "single")
    assert before == times()


def test_ray_reports_nothing():
    code = (
        "from p3m_edge.telemetry import silence_ray; silence_ray()\n"
        "import ray\n"
        "from ray._common.usage import usage_lib\n"
        "assert not usage_lib.usage_stats_enabled()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=environment())
    assert done.returncode == 0, done.stderr


@pytest.mark.full
def test_too_many_failures_stop_it(artefact, tmp_path):
    pictures = write_pictures(tmp_path / "in", 2)
    for number in range(6):
        (pictures / f"poisoned-{number}.jpg").write_bytes(b"no picture")
    done = run("run", artefact, pictures, "--out", tmp_path / "out", *RAY, "--max-failures", "0.25")
    assert done.returncode == 1
    assert "stopped: 3 of 8 pictures failed, more than --max-failures allows" in done.stderr
    assert "Traceback" not in done.stderr


def started(artefact, s3):
    """A run from the bucket into the bucket that has finished something and not all; its markers until then."""
    running = subprocess.Popen(
        command("run", artefact, "s3://bucket/in", "--out", "s3://bucket/out", *RAY, "--json"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=environment(**s3.environment),
    )  # fmt: skip
    for _ in range(3000):
        if marks := [name for name in s3.names("bucket/out") if "/done/" in name]:
            assert len(marks) < MANY
            return running, marks
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.1)
    raise AssertionError("nothing was done in five minutes")


@pytest.fixture
def single(artefact, s3, tmp_path):
    """The pictures are in the bucket; what a single machine makes of them."""
    pictures = write_pictures(tmp_path / "in", MANY, HEIGHT, WIDTH)
    assert run("run", artefact, pictures, "--out", tmp_path / "single").returncode == 0
    s3.fs.put(str(pictures), "bucket/in", recursive=True)
    return files(tmp_path / "single")


@pytest.mark.full
def test_a_worker_is_killed(artefact, s3, single):
    running, _ = started(artefact, s3)
    below = psutil.Process(running.pid).children(recursive=True)
    next(each for each in below if "MapWorker" in "".join(each.cmdline())).kill()
    out, err = running.communicate(timeout=600)
    report = json.loads(out)
    assert running.returncode == 0, err
    assert (report["done"] + report["skipped"], report["failed"], len(report["pictures"])) == (MANY, 0, MANY)
    assert s3.files("bucket/out") == single
    marks = {name: times for name, times in s3.times_written("bucket/out").items() if "/done/" in name}
    assert len(marks) == MANY
    assert set(marks.values()) == {1}


@pytest.mark.full
def test_the_driver_is_killed_and_started_again(artefact, s3, single):
    running, marks = started(artefact, s3)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    written = s3.times_written("bucket/out")
    done = run("run", artefact, "s3://bucket/in", "--out", "s3://bucket/out", *RAY, "--json", **s3.environment)
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert report["skipped"] >= len(marks)
    assert (report["done"] + report["skipped"], report["failed"]) == (MANY, 0)
    assert s3.files("bucket/out") == single
    after = s3.times_written("bucket/out")
    assert {name: after[name] for name in marks} == {name: written[name] for name in marks}
    assert {times for name, times in after.items() if "/done/" in name} == {1}


@pytest.mark.full
def test_a_picture_that_kills_its_worker_takes_no_other_with_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.bulk.poison", str(tmp_path)], capture_output=True, encoding="utf-8", cwd=ROOT,
        env=environment(), timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stderr.splitlines()[-1])
    assert results.pop("poison") == "failed: the worker's process ended while it was at this picture"
    assert len(results) == 24
    assert set(results.values()) <= {"done", "skipped"}
    assert {name: data.decode() for name, data in files(tmp_path / "out").items()} == {f"{n}.txt": n for n in results}


@pytest.mark.full
def test_stores_that_cannot_be_used(artefact, s3, tmp_path):
    pictures = write_pictures(tmp_path / "in", 1)
    ray = (*RAY, "--json")
    done = run("run", artefact, pictures, "--out", "s3://missing/out", *ray, **s3.environment)
    assert done.returncode == 1
    assert "bucket does not exist" in done.stderr
    home = {"HOME": str(tmp_path), "AWS_ENDPOINT_URL": s3.url}
    for places in (("s3://bucket/in", "--out", tmp_path / "out"), (pictures, "--out", "s3://bucket/out")):
        done = run("run", artefact, *places, *ray, **home)
        assert done.returncode == 1
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert "Unable to locate credentials" in line
        assert "Unable to locate credentials" in json.loads(done.stdout)["error"]["message"]


def test_what_ray_cannot_do_is_refused(artefact, tmp_path, command_line):
    pictures = write_pictures(tmp_path / "in", 1)
    for options, told in (
        (("--out", "s3://bucket/out"), "is in a store"),
        (("--out", tmp_path / "out", "--ray-workers", "2"), "are for --executor ray"),
        (("--out", pictures / "out", "--executor", "ray"), "lie in each other"),
        (("--out", tmp_path / "out", "--executor", "ray", "--watch"), "--watch is not for --executor ray"),
        (("--out", tmp_path / "out", "--executor", "ray", "--max-failures", "2"), "is not a share"),
        (("--out", tmp_path / "out", "--executor", "ray", "--ray-workers", "0"), "from 1 to"),
        (("clip.mp4", "--out", tmp_path / "out", "--executor", "ray"), "is for pictures"),
    ):
        done = command_line("run", artefact, pictures, *options)
        assert (done.returncode, told in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "out").exists()


def test_where_no_ray_answers(artefact, tmp_path):
    pictures = write_pictures(tmp_path / "in", 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    done = run("run", artefact, pictures, "--out", tmp_path / "out", *RAY, RAY_ADDRESS=address)
    assert done.returncode == 1
    assert f"error: no Ray answers at RAY_ADDRESS={address}: Connection refused" in done.stderr


@pytest.mark.full
def test_anonymise(s3, tmp_path):
    pytest.importorskip("skimage", reason="the cascade comes with scikit-image: the extra data")
    faces = ROOT / "p3m_edge/assets/astronaut.jpg"
    pictures = write_pictures(tmp_path / "in", 2, 90, 120)
    shutil.copy(faces, pictures / "face.jpg")
    (pictures / "poisoned.jpg").write_bytes(b"no picture")
    s3.fs.put(str(pictures), "bucket/in", recursive=True)
    anonymize = ("data", "anonymize")
    assert run(*anonymize, pictures, tmp_path / "single").returncode == 1
    assert run(*anonymize, pictures, tmp_path / "ray", *RAY).returncode == 1
    places = ("s3://bucket/in", "s3://bucket/out")
    for earlier in (0, 3):
        done = run(*anonymize, *places, *RAY, "--json", **s3.environment)
        assert done.returncode == 1, done.stderr
        report = json.loads(done.stdout)
        assert (report["done"], report["review"], report["failed"], report["resumed"]) == (1, 2, 1, earlier)
    single, local = files(tmp_path / "single"), files(tmp_path / "ray")
    assert local.pop("report.json")
    assert single.pop("report.json")
    assert local == single
    assert len(single) == 8  # a picture and its mask, two for review, three records, the report to read
    stored = s3.files("bucket/out")
    assert {name: stored[name] for name in single if name.endswith(".png")} == {
        name: data for name, data in single.items() if name.endswith(".png")
    }
    assert json.loads(stored["report.json"])["done"] == 1
