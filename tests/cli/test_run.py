"""``p3m-edge run``: what it writes, what it never touches, and what a bad input does to the rest."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from PIL import Image

from p3m_edge import imageio
from p3m_edge.cli import main
from p3m_edge.resources import usable_cores
from p3m_edge.runtimes import Matting, compose
from p3m_edge.runtimes.people import select
from tests.artefacts import make_artefact


def run(capsys, *arguments) -> tuple[int, dict[str, Any]]:
    code = main(["run", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def contents(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files(folder)}


def read(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels


def test_one_picture_gives_alpha_and_cutout(artefact, photo, tmp_path, capsys):
    source = photo(tmp_path / "in/a.png")
    code, report = run(capsys, artefact, source, "--out", tmp_path / "out")
    assert code == 0
    assert files(tmp_path / "out") == ["a.alpha.png", "a.cutout.png"]
    assert (report["done"], report["skipped"], report["failed"]) == (1, 0, 0)
    assert report["pictures"][0]["width"] == 60
    frame = imageio.read_image(source).rgb
    with Matting(artefact) as matting:
        alpha = matting(frame)
    assert np.array_equal(read(tmp_path / "out/a.alpha.png"), np.rint(alpha * 255).astype(np.uint8))
    cutout = cv2.cvtColor(read(tmp_path / "out/a.cutout.png"), cv2.COLOR_BGRA2RGBA)
    assert np.array_equal(cutout, compose.cutout(frame, alpha))


def test_composites_and_blur(artefact, photo, tmp_path, capsys):
    source, beach = photo(tmp_path / "a.png"), photo(tmp_path / "beach.jpg", 30, 30, seed=5)
    frame = imageio.read_image(source).rgb
    with Matting(artefact) as matting:
        alpha = matting(frame)
    for name, value, background in (
        ("colour", "#0f0", (0, 255, 0)),
        ("name", "White", (255, 255, 255)),
        ("picture", str(beach), imageio.read_image(beach).rgb),
    ):
        code, _ = run(capsys, artefact, source, "--out", tmp_path / name, "--background", value)
        assert code == 0
        assert files(tmp_path / name) == ["a.composite.png"]
        made = read(tmp_path / name / "a.composite.png")[..., ::-1]
        assert np.array_equal(made, compose.composite(frame, alpha, background))
    code, _ = run(capsys, artefact, source, "--out", tmp_path / "both", "--blur", "--alpha", "--cutout")
    assert files(tmp_path / "both") == ["a.alpha.png", "a.blur.png", "a.cutout.png"]
    assert np.array_equal(read(tmp_path / "both/a.blur.png")[..., ::-1], compose.blur_background(frame, alpha))


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1"])
def test_every_colour_mode_comes_out_upright(mode, artefact, tmp_path, capsys):
    suffix = ".tif" if mode == "CMYK" else ".png"
    picture = Image.effect_noise((60, 40), 60).convert(mode)
    picture.save(tmp_path / f"a{suffix}")
    code, _ = run(capsys, artefact, tmp_path / f"a{suffix}", "--out", tmp_path / "out")
    assert code == 0
    assert read(tmp_path / "out/a.cutout.png").shape == (40, 60, 4)
    turned = picture.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    code, _ = run(capsys, artefact, tmp_path / "turned.jpg", "--out", tmp_path / "out")
    assert code == 0
    assert read(tmp_path / "out/turned.cutout.png").shape == (60, 40, 4)


def test_deep_pictures_keep_their_depth(artefact, tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 65536, (40, 60, 3), dtype=np.uint16)
    imageio.write_png(tmp_path / "deep.png", pixels)
    code, _ = run(capsys, artefact, tmp_path / "deep.png", "--out", tmp_path / "out", "--cutout", "--alpha", "--blur")
    assert code == 0
    for name in files(tmp_path / "out"):
        assert read(tmp_path / "out" / name).dtype == np.uint16
    cutout = read(tmp_path / "out/deep.cutout.png")
    opaque = cutout[..., 3] == 65535
    assert opaque.any()
    assert np.array_equal(cutout[opaque][:, 2::-1], pixels[opaque])


def test_a_bad_picture_does_not_stop_the_rest(artefact, photo, tmp_path, capsys, monkeypatch):
    good = photo(tmp_path / "in/good.png")
    whole = photo(tmp_path / "in/cut.jpg", 200, 200).read_bytes()
    (tmp_path / "in/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in/text.jpg").write_text("not a picture")
    (tmp_path / "in/empty.png").touch()
    photo(tmp_path / "in/[bold]z.png")
    code, report = run(capsys, artefact, tmp_path / "in", tmp_path / "absent.png", "--out", tmp_path / "out")
    assert code == 1
    status = {Path(item["input"]).name: item["status"] for item in report["pictures"]}
    assert status == {
        "[bold]z.png": "done", "good.png": "done", "cut.jpg": "failed", "text.jpg": "failed", "empty.png": "failed",
        "absent.png": "failed",
    }  # fmt: skip
    assert report["error"] == {
        "message": "4 of 6 inputs failed", "hint": report["error"]["hint"], "exit_code": 1,
    }  # fmt: skip
    assert files(tmp_path / "out") == [
        "[bold]z.alpha.png", "[bold]z.cutout.png", "good.alpha.png", "good.cutout.png",
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)  # absolute paths here may be so long that the tables fold them
    assert main(["run", str(artefact), "in", str(good.relative_to(tmp_path)), "--out", "table"]) == 1
    shown = capsys.readouterr()
    assert str(Path("in/text.jpg")) in shown.out
    assert "[bold]z.png" in shown.out
    assert "error: 3 of 5 inputs failed" in shown.err


def test_a_single_bad_picture_is_named_in_the_error(artefact, tmp_path, capsys):
    (tmp_path / "a.jpg").write_text("not a picture")
    assert main(["run", str(artefact), str(tmp_path / "a.jpg"), "--out", str(tmp_path / "out")]) == 1
    assert f"error: {tmp_path / 'a.jpg'}: is not a picture" in capsys.readouterr().err


def test_debug_shows_the_traceback_of_one_picture_s_unexpected_error(artefact, photo, tmp_path, capsys, monkeypatch):
    def unknown() -> None:
        raise LookupError("no such counter")

    monkeypatch.setattr("psutil.virtual_memory", unknown)  # on a system that nobody thought of
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    arguments = ["run", str(artefact), str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert main([*arguments, "--debug", "--json"]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\nLookupError: no such counter\n") == 2
    assert "in unknown\n" in shown.err
    reasons = {picture["reason"] for picture in json.loads(shown.out)["pictures"]}
    assert reasons == {"internal error: LookupError: no such counter"}


def test_pictures_of_one_name_do_not_meet(artefact, photo, tmp_path, capsys):
    for name in ("x/1.jpg", "x/1.png", "x/sub/1.png", "y/1.bmp"):
        photo(tmp_path / name, seed=len(name))
    code, report = run(capsys, artefact, tmp_path / "x", "--recursive", "--out", tmp_path / "tree", "--alpha")
    assert code == 0
    assert files(tmp_path / "tree") == ["1.jpg.alpha.png", "1.png.alpha.png", "sub/1.alpha.png"]
    inputs = [tmp_path / "x/1.jpg", tmp_path / "y/1.bmp", tmp_path / "x/sub/1.png"]
    code, report = run(capsys, artefact, *inputs, "--out", tmp_path / "flat", "--alpha")
    assert code == 0
    outputs = [path for item in report["pictures"] for path in item["outputs"]]
    assert len(set(outputs)) == len(files(tmp_path / "flat")) == 3


def test_results_that_exist_are_left_alone_without_force(artefact, photo, tmp_path, capsys):
    source, out = photo(tmp_path / "a.png"), tmp_path / "out"
    out.mkdir()
    (out / "a.alpha.png").write_text("mine")
    code, report = run(capsys, artefact, source, "--out", out)
    assert code == 0
    assert (out / "a.alpha.png").read_text() == "mine"
    assert report["done"] == 1
    before = contents(out)
    code, report = run(capsys, artefact, source, "--out", out)
    assert (code, report["skipped"], contents(out)) == (0, 1, before)
    code, report = run(capsys, artefact, source, "--out", out, "--force")
    assert (code, report["done"]) == (0, 1)
    assert read(out / "a.alpha.png").shape == (40, 60)


def test_inputs_survive_a_run_into_their_own_folder(artefact, photo, tmp_path, capsys):
    photo(tmp_path / "a.png")
    photo(tmp_path / "a.alpha.png", seed=2)  # a picture of the user that has the name of a result
    before = contents(tmp_path)
    for force in ([], ["--force"]):
        code, report = run(capsys, artefact, tmp_path, "--out", tmp_path, *force)
        assert code == 1
        assert {name: contents(tmp_path)[name] for name in before} == before
        failed = [item for item in report["pictures"] if item["status"] == "failed"]
        assert [Path(item["input"]).name for item in failed] == ["a.png"]
        assert "one of the inputs" in failed[0]["reason"]
    assert files(tmp_path) == ["a.alpha.alpha.png", "a.alpha.cutout.png", "a.alpha.png", "a.png"]


def test_running_twice_into_the_folder_of_the_inputs_mattes_no_mattes(artefact, photo, tmp_path, capsys):
    photo(tmp_path / "a.png")
    run(capsys, artefact, tmp_path, "--out", tmp_path)
    for force, status in (([], "skipped"), (["--force"], "done")):
        code, report = run(capsys, artefact, tmp_path, "--out", tmp_path, *force)
        assert (code, report[status], report["left_out"]) == (0, 1, 2)
    assert files(tmp_path) == ["a.alpha.png", "a.cutout.png", "a.png"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("link", ["symbolic", "hard", "folder"])
def test_inputs_survive_links_to_them(link, artefact, photo, tmp_path, capsys):
    source, out = photo(tmp_path / "in/a.png"), tmp_path / "out"
    other = photo(tmp_path / "in/a.alpha.png", seed=2)
    if link == "folder":
        out.symlink_to(tmp_path / "in", target_is_directory=True)
    else:
        out.mkdir()
        place = out / "a.alpha.png"
        place.symlink_to(other) if link == "symbolic" else place.hardlink_to(other)
    before = contents(tmp_path / "in")
    code, report = run(capsys, artefact, source, other, "--out", out, "--force", "--alpha")
    assert code == 1
    assert [item["status"] for item in report["pictures"]] == ["failed", "done"]
    assert {name: contents(tmp_path / "in")[name] for name in before} == before


def test_the_background_is_an_input_too(artefact, photo, tmp_path, capsys):
    source, beach = photo(tmp_path / "a.png"), photo(tmp_path / "a.composite.png", seed=3)
    before = contents(tmp_path)
    code, report = run(capsys, artefact, source, "--out", tmp_path, "--force", "--background", beach)
    assert (code, report["failed"], contents(tmp_path)) == (1, 1, before)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--background", "greeen"], 2, "neither a colour nor a picture"),
        (["--background", "#12345"], 2, "neither a colour nor a picture"),
        (["--background", "absent.jpg"], 1, "absent.jpg does not exist"),
        (["--resize", "crop"], 2, "invalid choice"),
        (["--threads", "0"], 2, "whole number"),
        (["--device", "tpu"], 2, "tpu"),
        (["--device", "cuda"], 4, "cuda"),
        (["--foce"], 2, "unknown option --foce"),
    ],
)
def test_bad_options(arguments, code, message, artefact, photo, tmp_path, capsys):
    source = photo(tmp_path / "a.png")
    assert main(["run", str(artefact), str(source), "--out", str(tmp_path / "out"), *arguments]) == code
    shown = capsys.readouterr()
    assert message.lower() in shown.err.lower()
    assert shown.out == ""
    assert not (tmp_path / "out").exists()


def test_bad_artefacts_and_outputs(artefact, photo, tmp_path, capsys):
    source = photo(tmp_path / "a.png")
    code, document = run(capsys, tmp_path / "absent.rejected", source, "--out", tmp_path / "out")
    assert (code, document["error"]["exit_code"]) == (5, 5)
    code, document = run(capsys, artefact, "--out", tmp_path / "out")
    assert (code, "no pictures were named" in document["error"]["message"]) == (2, True)
    code, document = run(capsys, artefact, source, "--out", tmp_path / "out", "--size", "64x64")
    assert (code, "has its own" in document["error"]["message"]) == (2, True)
    assert not (tmp_path / "out").exists()
    broken = make_artefact(tmp_path / "broken")
    with (broken / "model.onnx").open("r+b") as stream:
        stream.seek(100)
        stream.write(b"\xff")
    code, document = run(capsys, broken, source, "--out", tmp_path / "out")
    assert code == 5
    assert "was changed" in document["error"]["message"]
    (tmp_path / "file").touch()
    code, document = run(capsys, artefact, source, "--out", tmp_path / "file")
    assert (code, document["error"]["exit_code"]) == (1, 1)
    code, document = run(capsys, artefact, tmp_path / "file", "--out", tmp_path / "file/below")
    assert code == 1


def test_a_full_disc_ends_the_run_and_leaves_complete_files(artefact, photo, tmp_path):
    count = usable_cores() + 6
    for index in range(count):
        photo(tmp_path / f"in/{index:02}.png", 90, 120, seed=index)
    out = tmp_path / "out"
    out.mkdir()
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=48k tmpfs "$1" || exit 77; shift; "$@"', "sh"]
    inside = (
        "import sys; from pathlib import Path; from p3m_edge import imageio; from p3m_edge.cli import main\n"
        "code = main(['run', *sys.argv[1:4], '--json', '--out', sys.argv[4]])\n"
        "print(*(imageio.read_image(path).path.name for path in Path(sys.argv[4]).iterdir()), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    command = [*mount, out, sys.executable, "-c", inside, artefact, tmp_path / "in", "--cutout", out]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("mounting a small disc is not allowed here")
    assert done.returncode == 1, done.stderr
    outcomes = json.loads(done.stdout)["pictures"]
    reasons = [item["reason"] for item in outcomes if item["status"] == "failed"]
    assert any("cannot be written: the disc is full" in reason for reason in reasons)
    assert reasons[-1] == "not begun: the disc is full"
    made = [Path(item["outputs"][0]).name for item in outcomes if item["status"] == "done"]
    assert sorted(made) == sorted(done.stderr.splitlines()[-1].split())


@pytest.mark.skipif(os.name == "nt", reason="interrupts work otherwise on Windows")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_complete_files_only(number, artefact, photo, tmp_path):
    data = photo(tmp_path / "in/00.png", 600, 800).read_bytes()
    for index in range(1, 60):
        (tmp_path / f"in/{index:02}.png").write_bytes(data)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "p3m_edge", "run", artefact, tmp_path / "in", "--out", out, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(out.glob("*.alpha.png"))) < 2:  # two at a time, in any order
        time.sleep(0.01)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert json.loads(stdout)["error"]["exit_code"] == 130
    assert stderr.splitlines()[-1] == "interrupted"
    made = files(out)
    assert 2 <= len(made) < 120
    for name in made:
        assert imageio.read_image(out / name).rgb.shape == (600, 800, 3)


def test_people_who_are_not_meant_fall_away(artefact, photo, tmp_path, capsys):
    source = photo(tmp_path / "a.png", 90, 120)
    with Matting(artefact) as matting:
        alpha = matting(imageio.read_image(source).rgb)
    for who in ("largest", 2):
        out = tmp_path / str(who)
        code, report = run(capsys, artefact, source, "--out", out, "--people", who, "--alpha")
        assert code == 0
        expected = select(alpha, who)
        assert np.array_equal(read(out / "a.alpha.png"), np.rint(expected.alpha * 255).astype(np.uint8))
        said = "people seem to touch, and are kept together" in report["pictures"][0]["remarks"]
        assert said == expected.touching
    for wrong in ("0", "biggest", "-1", "1.5", ""):
        assert main(["run", str(artefact), str(source), "--out", str(tmp_path / "no"), f"--people={wrong}"]) == 2
        assert "largest, all or a number of people" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_effects_are_those_of_the_runtime(artefact, photo, tmp_path, capsys):
    source, beach = photo(tmp_path / "a.png", 90, 120), photo(tmp_path / "beach.jpg", 50, 60, seed=5)
    frame = imageio.read_image(source).rgb
    with Matting(artefact) as matting:
        alpha = matting(frame)
    effect = compose.Effect(imageio.read_image(beach).rgb, feather=1.5, light_wrap=0.6, linear=True)
    words = ("--feather", "1.5", "--light-wrap", "0.6", "--linear", "--cutout", "--background", beach, "--blur")
    code, _ = run(capsys, artefact, source, "--out", tmp_path / "out", *words)
    assert code == 0
    made = read(tmp_path / "out/a.composite.png")[..., ::-1]
    assert np.array_equal(made, compose.apply(frame, alpha, effect))
    others: dict[str, Literal["blur", "transparent"]] = {"blur": "blur", "cutout": "transparent"}
    for name, kind in others.items():
        expected = compose.apply(frame, alpha, dataclasses.replace(effect, background=kind))
        stored = cv2.cvtColor(read(tmp_path / f"out/a.{name}.png"), cv2.COLOR_BGRA2RGBA)
        assert np.array_equal(stored[..., : expected.shape[2]], expected)


@pytest.mark.parametrize(
    "words", [("--feather", "-1"), ("--feather", "65"), ("--feather", "wide"), ("--light-wrap", "2"), ("--light-wrap",)]
)
def test_effects_that_are_none(artefact, photo, tmp_path, capsys, words):
    assert main(["run", str(artefact), str(photo(tmp_path / "a.png")), "--out", str(tmp_path / "out"), *words]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) <= 2
    assert not (tmp_path / "out").exists()
