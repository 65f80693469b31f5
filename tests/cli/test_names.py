"""Names that no file can have, in every place of the command line that takes a name: one clear line, and no trace."""

from __future__ import annotations

import pytest

from p3m_edge.cli import VERBS, build_parser, load, main
from p3m_edge.cli.options import values
from p3m_edge.errors import UsageError
from tests.portraits import portrait, write_set

IMPOSSIBLE = {"component": "x" * 300, "path": "x/" * 2500, "nul": "a\0b", "surrogate": "\ud800a", "loop": "loop/x"}

# Those that are not options.path: texts of which a name is a part.
TEXTS = (
    "run ARTEFACT PHOTO --out out --background @",
    "eval @ --model ARTEFACT",
    "eval SET --model @",
    "train --data @ --out out",
    "train --data SET --out out --unlabelled @",
    "train --data SET --out out --cp icp --faces @",
    "train --data SET --out out --preset @",
    "bench ARTEFACT --baseline @",
    "data list SET --out out --verifier @",
    "data compose out --portraits @ --backgrounds SET/image -n 1",
    "data compose out --portraits SET --backgrounds @ -n 1",
)


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    return write_set(
        tmp_path_factory.mktemp("sets") / "set", [portrait(seed=i) for i in range(3)], face_mask="facemask"
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def one_line(capsys, arguments: list[str]) -> int:
    code = main(arguments)
    shown = capsys.readouterr()
    errors = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, shown.err
    assert "internal error" not in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    return code


@pytest.mark.parametrize("name", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_every_path_of_every_verb(name, place):
    places = 0
    for verb in VERBS:
        for action in build_parser(verb, load(verb))._actions:
            if action.type is values.path:
                places += 1
                with pytest.raises(UsageError) as caught:
                    action.type(name)
                assert str(caught.value).isprintable()
    assert places > 40


@pytest.mark.parametrize("name", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.parametrize("command", TEXTS)
def test_texts_that_hold_a_name(command, name, artefact, photo, portraits, place, capsys):
    words = {"ARTEFACT": str(artefact), "PHOTO": str(photo(place / "a.png")), "SET": str(portraits), "@": name}
    words["SET/image"] = str(portraits / "image")
    before = sorted(place.iterdir())
    assert one_line(capsys, [words.get(word, word) for word in command.split()]) in (1, 2, 5)
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize("name", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_detector(name, portraits, place, capsys):
    assert one_line(capsys, ["data", "anonymize", str(portraits), "out", "--detector", name]) in (1, 2)


@pytest.mark.parametrize(
    "command", ["run ARTEFACT @ --out out", "run ARTEFACT PHOTO --out @", "verify @", "inspect @", "data check @"]
)
def test_paths_end_with_a_usage_error(command, artefact, photo, place, capsys):
    for name in IMPOSSIBLE.values():
        words = {"ARTEFACT": str(artefact), "PHOTO": str(photo(place / "a.png")), "@": name}
        assert one_line(capsys, [words.get(word, word) for word in command.split()]) == 2


def test_results_whose_names_become_too_long_fail_one_by_one(artefact, photo, place, capsys):
    photo(place / ("x" * 251 + ".png"))
    photo(place / "short.png")
    code = main(["run", str(artefact), str(place), "--out", "out", "--alpha"])
    shown = capsys.readouterr()
    assert code == 1
    assert "File name too long" in " ".join(shown.out.split()).replace("n ame", "name")
    assert [path.name for path in (place / "out").iterdir()] == ["short.alpha.png"]


def test_output_folders_whose_derived_names_are_too_long(artefact, photo, place, capsys):
    photo(place / "a.png")
    deep = "/".join(["y" * 250] * 16)  # less than PATH_MAX from here, more with what comes below
    assert one_line(capsys, ["run", str(artefact), "a.png", "--out", f"{deep}/{'z' * 100}"]) in (1, 2)
