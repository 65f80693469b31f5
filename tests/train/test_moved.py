"""A run whose files have moved goes on at their new place, if they are the same."""

import json
import shutil

import pytest

from p3m_edge.cli import main
from p3m_edge.errors import InputError
from p3m_edge.train import config as configs
from p3m_edge.train.request import TrainRequest
from p3m_edge.train.run import resumed, train
from p3m_edge.train.state import load
from tests.train.conftest import TINY, Told, write_set


@pytest.fixture
def again(tmp_path, capsys):
    """Go on with the run for some steps."""

    def run(*arguments: object) -> tuple[int, str]:
        code = main(["train", "--out", str(tmp_path / "run"), "--resume", *map(str, arguments)])
        return code, capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A run with a set, source faces, backgrounds and a set that is judged, all of which moved afterwards."""
    root = tmp_path_factory.mktemp("started")
    old = root / "old"
    write_set(old / "set", 6)
    for name in ("faces", "judged"):
        shutil.copytree(old / "set", old / name)
    shutil.copytree(old / "set/blurred_image", old / "scenes")
    settings = (
        *TINY, 'copy_paste.methods=["icp"]', "data.compose=0.5", f"data.backgrounds={old / 'scenes'}", "run.epochs=1",
        f"validation.data={old / 'judged'}",
    )  # fmt: skip
    config = configs.load("smoke", overrides=settings)
    train(TrainRequest(config, str(old / "set"), root / "run", str(old / "faces")), Told())
    old.rename(root / "new")
    return root


@pytest.fixture
def moved(started, tmp_path):
    """Copies of the run and of what it was started with; the folder of the latter."""
    shutil.copytree(started, tmp_path, dirs_exist_ok=True)
    return tmp_path / "new"


def places(new, *left_out: str) -> list[str]:
    every = {
        "data": ["--data", new / "set"],
        "faces": ["--faces", new / "faces"],
        "judged": ["--set", f"validation.data={new / 'judged'}"],
        "scenes": ["--set", f"data.backgrounds={new / 'scenes'}"],
    }
    return [str(word) for name, words in every.items() if name not in left_out for word in words]


def test_it_goes_on_at_the_new_place_and_remembers_it(moved, again, tmp_path):
    code, stderr = again("--epochs", 2, *places(moved))
    assert code == 0, stderr
    assert load(tmp_path / "run/state.pt").inputs["data"] == str(moved / "set")
    assert str(moved / "set") in (tmp_path / "run/config.toml").read_text()
    assert again("--epochs", 3)[0] == 0


@pytest.mark.parametrize(
    ("left_out", "option"),
    [
        ("data", "--resume --data "), ("faces", "--resume --faces "),
        ("judged", "--resume --set validation.data="), ("scenes", "--resume --set data.backgrounds="),
    ],
)  # fmt: skip
def test_what_is_not_found_is_told_with_how_to_name_its_new_place(moved, again, left_out, option):
    code, stderr = again("--epochs", 2, *places(moved, left_out))
    assert code == 1
    assert f"hint: if it has moved, give its new place: {option}" in stderr


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("set/blurred_image/p02.png", "data"), ("set/mask/p03.png", "data"), ("judged/mask/p01.png", "validation.data"),
        ("faces/blurred_image/p00.png", "faces"), ("scenes/p05.png", "data.backgrounds"),
    ],
)  # fmt: skip
def test_other_files_at_the_new_place_are_refused(moved, again, tmp_path, file, name):
    other = write_set(tmp_path / "other", 6)
    (other / "blurred_image/p04.png").replace(moved / file)
    state = (tmp_path / "run/state.pt").read_bytes()
    for more in ((), ("--dry-run",)):
        code, stderr = again("--epochs", 2, *places(moved), *more)
        assert code == 2
        assert "not the files that the run was started with" in stderr
        assert f"error: {name}: " in stderr
    assert (tmp_path / "run/state.pt").read_bytes() == state


def test_a_file_that_was_mended_where_it_is_is_no_other_run(training, again, tmp_path):
    """Whoever puts a damaged picture right need not begin anew."""
    root = write_set(tmp_path / "set", 6)
    whole = (root / "mask/p00.png").read_bytes()
    (root / "mask/p00.png").write_bytes(whole[:60])
    training("run.epochs=1", "data.max_unreadable=1", data=root)
    (root / "mask/p00.png").write_bytes(whole)
    assert again("--epochs", 2)[0] == 0


def test_what_the_run_was_started_without(moved, again):
    code, stderr = again("--teacher", "teacher.safetensors")
    assert code == 2
    assert "the run was started without --teacher" in stderr


def test_another_source_than_before(training, again, tmp_path, portraits):
    training("run.epochs=1")
    code, stderr = again("--epochs", 2, "--data", "synth:0")
    assert code == 2
    assert "not the files that the run was started with" in stderr
    shutil.copytree(portraits, tmp_path / "copy")
    assert again("--epochs", 2, "--data", tmp_path / "copy")[0] == 0
    (tmp_path / "copy").rename(tmp_path / "moved")
    request = resumed(tmp_path / "run", ["run.epochs=3"], {"data": str(tmp_path / "moved")})
    assert request.data == str(tmp_path / "moved")
    code, stderr = again("--epochs", 3)
    assert code == 1
    assert "--resume --data" in stderr


def test_the_error_is_in_the_document_too(moved, tmp_path, capsys):
    assert main(["train", "--out", str(tmp_path / "run"), "--resume", "--json"]) == InputError.exit_code
    assert "--resume --data" in json.loads(capsys.readouterr().out)["error"]["hint"]
