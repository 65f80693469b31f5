"""Temporary folders, and what becomes of them when their process is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p3m_edge.errors import OutputError
from p3m_edge.temporary import temporary_file, temporary_folder

HOLD = """
import sys
from pathlib import Path
from p3m_edge.temporary import temporary_folder

with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "much").write_bytes(bytes(1 << 20))
    print(folder, flush=True)
    sys.stdin.read()
"""


HOLD_FILE = """
import sys
from pathlib import Path
from p3m_edge.temporary import temporary_file

with temporary_file(Path(sys.argv[1])) as path:
    print(path, flush=True)
    sys.stdin.read()
"""


def start(parent: Path, code: str = HOLD) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def age(folder: Path) -> None:
    long_ago = time.time() - 3600
    os.utime(folder, (long_ago, long_ago))


def test_it_is_gone_at_the_end(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as folder:
        (folder / "file").touch()
        assert folder.parent == tmp_path
    with pytest.raises(KeyError), temporary_folder(tmp_path):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_deleted_and_what_is_in_use_stays(tmp_path: Path) -> None:
    killed, left = start(tmp_path)
    alive, used = start(tmp_path)
    try:
        killed.kill()
        killed.communicate()
        foreign = tmp_path / "p3m-edge-of-somebody"
        foreign.mkdir()
        with temporary_folder(tmp_path):
            assert left.exists()  # young: its owner might be about to take the lock
        for folder in (left, used, foreign):
            age(folder)
        with temporary_folder(tmp_path):
            assert not left.exists()
            assert (used / "much").exists()
            assert foreign.exists()
    finally:
        alive.communicate("")
    assert alive.returncode == 0
    assert not used.exists()


def test_of_files_too_what_a_killed_process_left_is_deleted(tmp_path: Path) -> None:
    killed, left = start(tmp_path, HOLD_FILE)
    alive, used = start(tmp_path, HOLD_FILE)
    try:
        killed.kill()
        killed.communicate()
        (tmp_path / ".somebodys.tmp").touch()
        assert left.exists()
        with temporary_file(tmp_path) as path:
            assert not left.exists()
            path.rename(tmp_path / "result")
        assert used.exists()
    finally:
        alive.communicate("")
    assert alive.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".somebodys.tmp", "result"]
    with pytest.raises(FileNotFoundError), temporary_file(tmp_path / "none"):
        pass


def test_no_place(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no temporary folder can be made"), temporary_folder(tmp_path / "none"):
        pass
