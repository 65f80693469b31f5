"""``p3m-edge web`` without a browser: what is written, what is refused, what is served and to whom."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from p3m_edge.cli import main
from p3m_edge.errors import OutputError
from p3m_edge.web import runtime
from p3m_edge.web.server import server
from tests.artefacts import make_artefact
from tests.conftest import ROOT

PAGE = sorted(path.name for path in (ROOT / "p3m_edge" / "web" / "site").iterdir())
ADDRESS = re.compile(r"https?://[^\s\"'`]+")


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    pytest.importorskip("onnx")
    return make_artefact(tmp_path / "art", size=(32, 32))


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_site_is_the_page_the_artefact_as_it_is_and_the_runtime(
    artefact: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sites" / "one"
    words = ["web", str(artefact), "--out", str(out), "--runtime", str(package)]
    assert main([*words, "--json"]) == 0
    site = json.loads(capsys.readouterr().out)
    assert (site["target"], site["address"]) == ("onnx-fp32", None)
    found = files(out)
    assert site["bytes"] == sum(map(len, found.values()))
    assert files(out / "artefact") == files(artefact)
    scripts = {name for name in found if "/" not in name}
    assert sorted(scripts) == PAGE
    served = {runtime.served_as(name) for name in runtime.FILES} | {"LICENSE.txt"}
    assert {name for name in found if name.startswith("ort/")} == {f"ort/{name}" for name in served}
    for name in runtime.FILES:
        assert found[f"ort/{runtime.served_as(name)}"] == (package / "dist" / name).read_bytes()

    before = {path: path.stat().st_ino for path in out.iterdir()}
    assert main(words) == 1
    assert "exists" in capsys.readouterr().err
    assert {path: path.stat().st_ino for path in out.iterdir()} == before
    assert main([*words, "--force"]) == 0
    assert files(out) == found
    assert {path.name for path in out.parent.iterdir()} == {"one"}

    other = tmp_path / "mine"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    assert main([*words[:3], str(other), *words[4:], "--force"]) == 1
    assert "holds no p3m-edge.js" in capsys.readouterr().err
    assert files(other) == {"letter.txt": b"mine"}


def test_the_page_names_nothing_elsewhere() -> None:
    for name in PAGE:
        text = (ROOT / "p3m_edge" / "web" / "site" / name).read_text(encoding="utf-8")
        assert ADDRESS.findall(text) == [], name
    page = (ROOT / "p3m_edge" / "web" / "site" / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert "connect-src 'self'" in page


def _changed(package: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "changed"
    shutil.copytree(package / "dist", copy / "dist", ignore=lambda _, names: set(names) - set(runtime.FILES))
    script = copy / "dist" / "ort.wasm.min.mjs"
    script.write_bytes(script.read_bytes() + b"\n")
    return copy


PACKAGES: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "none": (lambda _, tmp: tmp / "nowhere", "is no folder"),
    "a file": (lambda _, tmp: tmp / "art" / "manifest.json", "is no folder"),
    "another folder": (lambda _, tmp: tmp / "art", "holds no folder dist"),
    "changed": (_changed, "another SHA-256"),
}


@pytest.mark.parametrize("which", PACKAGES)
def test_a_runtime_that_is_not_the_pinned_one_is_refused(
    which: str, artefact: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = PACKAGES[which]
    given = make(package, tmp_path)
    assert main(["web", str(artefact), "--out", str(tmp_path / "site"), "--runtime", str(given)]) == 4
    error = capsys.readouterr().err
    assert message in error
    assert f"npm pack {runtime.NAME}@{runtime.VERSION}" in error
    assert not (tmp_path / "site").exists()


def test_an_artefact_that_browsers_cannot_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    artefacts = {
        "is for openvino": make_artefact(tmp_path / "openvino", "openvino", size=(32, 32)),
        "takes 2 frames": make_artefact(tmp_path / "two", size=(32, 32), batch=2),
    }
    for message, artefact in artefacts.items():
        assert main(["web", str(artefact), "--out", str(tmp_path / "site"), "--runtime", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err
    inside = artefacts["is for openvino"].parent / "one"
    make_artefact(inside, size=(32, 32))
    assert main(["web", str(inside), "--out", str(inside / "site"), "--runtime", str(tmp_path)]) == 2
    assert "inside of the artefact" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "openvino", "two"]


def test_a_damaged_artefact_is_refused(
    artefact: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = artefact / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    assert main(["web", str(artefact), "--out", str(tmp_path / "site"), "--runtime", str(package)]) == 5
    assert "the manifest says" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_the_server_has_the_headers_answers_its_own_name_and_shows_no_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("index.html", "a.js", "a.wasm", "a.css"):
        (tmp_path / name).write_text(name)
    with server(tmp_path) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        host, port = "127.0.0.1", int(listening.server_address[1])
        assert listening.server_address[0] == host

        def get(path: str, name: str = host) -> tuple[int, http.client.HTTPMessage, bytes]:
            connection = http.client.HTTPConnection(host, port, timeout=60)
            connection.request("GET", path, headers={"Host": f"{name}:{port}"})
            answer = connection.getresponse()
            found = answer.status, answer.headers, answer.read()
            connection.close()
            return found

        kinds = {"/": "text/html", "/a.js": "text/javascript", "/a.wasm": "application/wasm", "/a.css": "text/css"}
        for path, kind in kinds.items():
            status, headers, body = get(path)
            assert (status, headers.get_content_type()) == (200, kind)
            assert body == (path.strip("/") or "index.html").encode()
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert get("/folder/")[0] == get("/nothing")[0] == get("/../secret")[0] == 404
        assert get("/a.js", "localhost")[0] == 200
        assert get("/a.js", "example.org")[0] == 403  # a name that somebody points at this machine
        with pytest.raises(OutputError, match=f"port {port}") as taken:
            server(tmp_path, port)
        assert "--port" in str(taken.value.hint)
        listening.shutdown()


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C of POSIX systems")
def test_served_until_ctrl_c(artefact: Path, package: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "p3m_edge", "web", str(artefact), "--out", str(tmp_path / "site")]
    command += ["--runtime", str(package), "--serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert lines[0].startswith(f"written: {tmp_path / 'site'}")
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", lines[1])
        assert found is not None
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
        connection.request("GET", "/artefact/manifest.json")
        assert connection.getresponse().read() == (artefact / "manifest.json").read_bytes()
        connection.close()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted\n"
