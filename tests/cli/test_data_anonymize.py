import csv
import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

from p3m_edge.cli import main
from p3m_edge.imageio import read_image, read_mask, write_png

ASTRONAUT = Path(__file__).parents[2] / "p3m_edge" / "assets" / "astronaut.jpg"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><dc:creator>SECRET-XMP-NAME</dc:creator></x:xmpmeta>'
COMMENT = b"SECRET-COMMENT-IN-THE-FILE"


def head(side: int = 160):
    """A frontal face, its brow at row 67, its chin at 154, its cheeks at columns 34 and 121."""
    return np.ascontiguousarray(read_image(ASTRONAUT).rgb[30 : 30 + side, 150 : 150 + side])


def telling_jpeg(path: Path, rgb) -> dict[str, bytes]:
    """A portrait with EXIF, position, thumbnail, XMP and a comment; returns what must not survive."""
    thumbnail = io.BytesIO()
    Image.fromarray(rgb).resize((64, 64)).save(thumbnail, "JPEG")
    exif = Image.Exif()
    exif[0x010F], exif[0x013B] = "SECRET-CAMERA-MAKER", "SECRET-ARTIST"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.6), 29: "2021:07:14"})
    first = exif.tobytes()
    # Pillow writes no thumbnail of its own: it goes behind the EXIF block, where a byte search would find it.
    Image.fromarray(rgb).save(path, "JPEG", quality=95, exif=first + thumbnail.getvalue(), xmp=XMP, comment=COMMENT)
    with Image.open(path) as written:
        assert written.getexif().get_ifd(0x8825)[1] == "N"
    return {"exif": first, "thumbnail": thumbnail.getvalue(), "xmp": XMP, "comment": COMMENT}


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def document(capsys, *arguments) -> tuple[int, dict[str, Any]]:
    code = main(["data", "anonymize", *map(str, arguments), "--workers", "1", "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("portraits")
    secrets = telling_jpeg(folder / "telling.jpg", head())
    write_png(folder / "wall.png", np.full((90, 120, 3), 140, np.uint8))
    (folder / "cut.jpg").write_bytes((folder / "telling.jpg").read_bytes()[:-4000])
    (folder / "notes.txt").write_text("no picture")
    return folder, secrets


@pytest.fixture(scope="module")
def made(portraits, tmp_path_factory):
    """The command in a process of its own, with two workers."""
    folder, _ = portraits
    out = tmp_path_factory.mktemp("set") / "out"
    before = digests(folder)
    command = [sys.executable, "-m", "p3m_edge", "data", "anonymize", str(folder), str(out), "--verify", "--json"]
    done = subprocess.run([*command, "--workers", "2"], capture_output=True, text=True)
    assert digests(folder) == before
    return out, done


def test_one_bad_file_does_not_stop_the_others(made):
    out, done = made
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert (report["done"], report["review"], report["failed"]) == (1, 1, 1)
    assert report["error"]["exit_code"] == 1
    pictures = {picture["name"]: picture for picture in report["pictures"]}
    assert "cut.jpg" in pictures["cut"]["reason"]
    assert pictures["wall"]["reason"] == "no face found"
    assert pictures["telling"]["faces"][0]["detector"] == "cascade"
    assert "cascade" in pictures["telling"]["verified"]
    assert pictures["telling"]["verified"] != "cascade"
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {
        "blurred_image/telling.png", "facemask/telling.png", "review/wall.png", "report.json", "report.md",
        "records/telling.json", "records/wall.json",
    }  # fmt: skip
    assert json.loads((out / "report.json").read_text())["done"] == 1
    assert "| wall | review | no face found |" in (out / "report.md").read_text()


def test_the_face_is_gone_and_the_rest_is_not(made, portraits):
    out, _ = made
    source = read_image(portraits[0] / "telling.jpg").rgb
    image, mask = read_image(out / "blurred_image/telling.png").rgb, read_mask(out / "facemask/telling.png") != 0
    assert np.array_equal(image[~mask], source[~mask])
    assert mask[70:150, 55:100].all()  # brow to chin
    detail = [
        cv2.Laplacian(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), cv2.CV_64F)[70:140, 55:100].std() for p in (source, image)
    ]
    assert detail[1] < 0.1 * detail[0]


def test_nothing_of_the_metadata_survives(made, portraits):
    out, _ = made
    source, secrets = portraits
    original = (source / "telling.jpg").read_bytes()
    assert all(content in original for content in secrets.values())
    for path in (p for p in out.rglob("*") if p.is_file()):
        content = path.read_bytes()
        for name, secret in secrets.items():
            pieces = [secret[i : i + 12] for i in range(0, len(secret) - 12, 4)]
            assert not [piece for piece in pieces if piece in content], (path, name)
        assert b"SECRET" not in content
        assert str(source).encode() not in content
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert not picture.getexif()
                assert set(picture.info) <= {"Software"}


def test_a_second_run_does_only_what_is_missing(portraits, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a", "b"):
        shutil.copy(portraits[0] / "telling.jpg", folder / f"{name}.jpg")
    assert document(capsys, folder, out)[0] == 0
    (out / "blurred_image/b.png").unlink()
    first = (out / "blurred_image/a.png").stat().st_mtime_ns
    code, report = document(capsys, folder, out)
    assert (code, report["resumed"], report["done"]) == (0, 1, 2)
    assert (out / "blurred_image/a.png").stat().st_mtime_ns == first
    assert (out / "blurred_image/b.png").is_file()
    write_png(folder / "a.png", head(150))  # another a: names stay apart, nothing is overwritten
    assert document(capsys, folder, out)[1]["resumed"] == 1
    assert (out / "blurred_image/a.jpg.png").is_file()
    assert (out / "blurred_image/a.png.png").is_file()
    assert document(capsys, folder, out, "--force")[1]["resumed"] == 0


def test_another_input_or_setting_is_done_anew(tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write_png(folder / "a.png", head())
    assert document(capsys, folder, out)[1]["done"] == 1
    write_png(folder / "a.png", np.full((60, 60, 3), 99, np.uint8))  # now without a face
    assert document(capsys, folder, out)[1]["review"] == 1
    assert not (out / "blurred_image/a.png").exists()  # the earlier result does not stay
    assert document(capsys, folder, out, "--no-face", "keep")[1]["done"] == 1
    assert not (out / "review/a.png").exists()
    assert np.array_equal(read_image(out / "blurred_image/a.png").rgb, read_image(folder / "a.png").rgb)
    assert not read_mask(out / "facemask/a.png").any()


def test_a_data_set_with_mattes(tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "image").mkdir(parents=True)
    (folder / "alpha").mkdir()
    person = np.zeros((160, 160), np.uint8)
    person[:, :95] = 255  # the contour runs through the cheek
    for name, alpha in {"person": person, "wall": 255 - person, "short": person[:50]}.items():
        write_png(folder / "image" / f"{name}.png", head())
        write_png(folder / "alpha" / f"{name}.png", alpha)
    code, report = document(capsys, folder, out)
    pictures = {picture["name"]: picture for picture in report["pictures"]}
    assert code == 1
    assert {name: picture["status"] for name, picture in pictures.items()} == {
        "person": "done", "wall": "review", "short": "failed",
    }  # fmt: skip
    assert pictures["wall"]["reason"] == "no face found on the person of the matte"
    assert np.array_equal(read_mask(out / "alpha/person.png"), person)
    assert not read_mask(out / "facemask/person.png")[:, 115:].any()
    assert [path.name for path in (out / "alpha").iterdir()] == ["person.png"]


def test_faces_marked_by_a_person(tmp_path, capsys):
    folder, out, boxes = tmp_path / "in", tmp_path / "out", tmp_path / "boxes.csv"
    folder.mkdir()
    for name in ("marked", "empty"):
        write_png(folder / f"{name}.png", np.full((80, 80, 3), 70, np.uint8))
    with boxes.open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [("name", "x", "y", "width", "height"), ("marked", 20, 20, 20, 30), ("empty", "", "", "", "")]
        )
    report = document(capsys, folder, out, "--boxes", boxes)[1]
    assert report["done"] == 2
    assert read_mask(out / "facemask/marked.png")[35, 30]
    assert not read_mask(out / "facemask/empty.png").any()
    for line in (
        "nobody,1,1,2,2", "marked,1,1,x,2", "marked,1,1,0,2", "marked,1,,2,2", "marked,1,nan,2,2",
        "marked,1e308,1e308,1e308,1e308", "marked,-1e9,1,2,2", "marked,1,1,2,inf", "marked,1,1,2000000,2",
    ):  # fmt: skip
        boxes.write_text(f"name,x,y,width,height\n{line}\n")
        code, told = document(capsys, folder, out, "--boxes", boxes)
        assert code == 1
        assert "line 2" in told["error"]["message"]


def test_a_face_that_is_left_is_taken_out(tmp_path, capsys):
    out = tmp_path / "out"
    for folder in ("blurred_image", "facemask"):
        (out / folder).mkdir(parents=True)
        write_png(out / folder / "wall.png", np.full((60, 60), 128, np.uint8))
    write_png(out / "blurred_image/clear.png", head())
    write_png(out / "facemask/clear.png", np.zeros((160, 160), np.uint8))
    code, report = document(capsys, out, "--verify")
    assert code == 3
    assert report["found_again"] == 1
    assert report["error"]["exit_code"] == 3
    assert [path.name for path in (out / "blurred_image").iterdir()] == ["wall.png"]
    assert np.array_equal(read_image(out / "review/clear.png").rgb, head())
    assert (out / "review/facemask/clear.png").is_file()
    assert document(capsys, out, "--verify")[0] == 0


def test_a_result_that_fails_never_reaches_the_output(tmp_path, capsys):
    """A person marked the wrong place: the verifier sees the face that is still there."""
    folder, out, boxes = tmp_path / "in", tmp_path / "out", tmp_path / "boxes.csv"
    folder.mkdir()
    write_png(folder / "a.png", head())
    boxes.write_text("name,x,y,width,height\na,180,180,20,20\n")
    code, report = document(capsys, folder, out, "--boxes", boxes, "--verify")
    assert code == 3
    assert "a face was found again" in report["pictures"][0]["reason"]
    assert list((out / "blurred_image").iterdir()) == []
    assert (out / "review/a.png").is_file()


def test_folders_that_are_refused(portraits, tmp_path, capsys):
    folder, _ = portraits
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    (tmp_path / "empty").mkdir()
    for arguments, code, text in (
        ((folder, folder), 2, "lie in each other"),
        ((folder, folder / "out"), 2, "lie in each other"),
        ((folder, folder.parent), 2, "lie in each other"),
        ((folder, tmp_path / "mine"), 1, "it holds letter.txt"),
        ((folder, tmp_path / "mine/letter.txt"), 1, "letter.txt cannot be used"),
        ((tmp_path / "empty", tmp_path / "out"), 1, "holds no pictures"),
        ((tmp_path / "none", tmp_path / "out"), 1, "none"),
        ((folder,), 2, "OUT is missing"),
        ((folder, "--verify"), 1, "no blurred_image/"),
        ((folder, tmp_path / "out", "--detector", "nowhere.onnx"), 1, r"nowhere.onnx does not exist"),
        ((folder, tmp_path / "out", "--verify", "--verifier", ASTRONAUT), 1, "damaged, or not a YuNet"),
    ):
        answer, told = document(capsys, *arguments)
        assert (answer, text in told["error"]["message"]) == (code, True), told
    assert (tmp_path / "mine/letter.txt").read_text() == "dear"
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.full)], ids=["kill", "interrupt"]
)
def test_ended_in_the_middle(tmp_path, number):
    """What is there is whole, no process stays behind, and the next run finishes the work."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for i in range(12):
        write_png(folder / f"{i}.png", head(160 + i))
    command = [sys.executable, "-m", "p3m_edge", "data", "anonymize", str(folder), str(out), "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("records/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, told = process.communicate(timeout=300)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), told
    assert "Traceback" not in told
    assert children
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    done = [path.stem for path in out.glob("records/*.json")]
    assert 0 < len(done) < 12
    for path in out.glob("*/*.png"):
        read_image(path)
    assert not (out / "report.json").exists()
    again = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout)
    assert report["done"] == 12
    assert report["resumed"] >= len(done) - 1


def test_mattes_of_a_stated_form_become_plain_ones(tmp_path, capsys):
    """As cut-out tools save them: in the alpha channel. They are refused as they are."""
    folder, alpha = tmp_path / "in", np.zeros((160, 160), np.uint8)
    alpha[20:, 20:140] = 255
    (folder / "image").mkdir(parents=True)
    (folder / "alpha").mkdir()
    write_png(folder / "image/a.png", head())
    write_png(folder / "alpha/a.png", np.dstack([np.full((160, 160, 3), 255, np.uint8), alpha]))
    code, report = document(capsys, folder, tmp_path / "out")
    assert (code, report["failed"]) == (1, 1)
    assert "--alpha-from alpha" in report["pictures"][0]["reason"]
    assert str(folder) not in report["pictures"][0]["reason"]
    code, report = document(capsys, folder, tmp_path / "out", "--alpha-from", "alpha")
    assert (code, report["done"]) == (0, 1)
    assert np.array_equal(read_mask(tmp_path / "out/alpha/a.png"), alpha)
    assert document(capsys, folder, tmp_path / "out", "--alpha-from", "alpha")[1]["resumed"] == 1
