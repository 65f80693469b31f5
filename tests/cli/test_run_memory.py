"""``p3m-edge run`` and large pictures: what has no room is refused in time, and costs no other picture its turn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from p3m_edge import imageio
from p3m_edge.cli import main
from p3m_edge.errors import InputError
from p3m_edge.pictures.memory import BYTES_PER_PIXEL, EFFECTS, Budget

LINUX = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="not Linux")


def run(capsys, *arguments) -> tuple[int, dict[str, Any]]:
    code = main(["run", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def large(path: Path, height: int, width: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))
    return path


@LINUX
def test_one_large_picture_does_not_end_a_run_that_has_little_memory(artefact, photo, tmp_path):
    large(tmp_path / "in/a.jpg", 6000, 8000)
    for name in ("b.jpg", "c.jpg"):
        photo(tmp_path / "in" / name)
    code = (
        "import resource, sys\n"
        "from p3m_edge.cli import main\n"
        "from p3m_edge.runtimes import Matting\n"
        "import cv2, numpy as np\n"
        "with Matting(sys.argv[1], threads=1) as matting: matting(np.zeros((500, 500, 3), np.uint8))\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 700_000_000,) * 2)\n"
        "sys.exit(main(['run', *sys.argv[1:], '--threads', '1', '--json']))\n"
    )
    for words, told in (([], "GB is free"), (["--max-memory", "9"], "does not fit into memory")):
        command = [
            sys.executable,
            "-c",
            code,
            artefact,
            tmp_path / "in",
            "--out",
            tmp_path / f"out{len(words)}",
            *words,
        ]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
        assert done.returncode == 1, done.stderr
        first, *others = json.loads(done.stdout)["pictures"]
        assert (first["status"], [other["status"] for other in others]) == ("failed", ["done", "done"])
        assert told in first["reason"]
    # The same picture with room enough: what was refused was no fault of its own.
    out = tmp_path / "out"
    command = [sys.executable, "-m", "p3m_edge", "run", artefact, tmp_path / "in/a.jpg", "--alpha", "--out", out]
    assert subprocess.run(command, capture_output=True, timeout=300).returncode == 0


def test_the_estimate_is_in_the_message(artefact, photo, tmp_path, capsys):
    source = large(tmp_path / "a.png", 1000, 1500)
    photo(tmp_path / "b.png")
    inputs = [artefact, source, tmp_path / "b.png", "--out", tmp_path / "out"]
    code, report = run(capsys, *inputs, "--cutout", "--max-memory", "0.03")
    assert (code, [item["status"] for item in report["pictures"]]) == (1, ["failed", "done"])
    reason = report["pictures"][0]["reason"]
    assert reason.startswith("takes about 0.039 GB of memory with its results, and --max-memory allows 0.03 GB (")
    assert "scale it down" in reason
    for words in (["--cutout", "--max-memory", "0.04"], ["--alpha", "--max-memory", "0.022"]):
        assert run(capsys, *inputs, *words)[0] == 0
    code, report = run(capsys, *inputs, "--blur", "--max-megapixels", "1", "--max-memory", "0.001")
    assert "more than 1 million pixels, 1.5" in report["pictures"][0]["reason"]
    assert report["pictures"][1]["status"] == "done"


def test_depth_and_transparency_count(tmp_path):
    pixels = np.full((100, 100, 4), 65535, np.uint16)
    imageio.write_png(tmp_path / "opaque.png", pixels[..., :3])
    pixels[:50, :, 3] = 0
    imageio.write_png(tmp_path / "both.png", pixels)
    for name, each in (("opaque.png", 71.5), ("both.png", 87.5)):
        most, kinds = int(each * 10_000), ("alpha", "cutout")
        with Budget(max_memory=most).read(tmp_path / name, None, kinds) as picture:
            assert picture.own.dtype == np.uint16
        with (
            pytest.raises(InputError, match="takes about"),
            Budget(max_memory=most - 1).read(tmp_path / name, None, kinds),
        ):
            pass


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e12", "2GB", ""])
def test_bad_sizes_of_memory(artefact, tmp_path, capsys, text):
    assert main(["run", str(artefact), "a.png", "--out", str(tmp_path / "out"), f"--max-memory={text}"]) == 2
    assert "not a size in gigabytes" in capsys.readouterr().err


@LINUX
@pytest.mark.parametrize("form", ["photograph", "transparent", "16 bits", "effects"])
def test_the_estimate_is_no_less_than_what_is_taken(form, artefact, tmp_path):
    """The peak of a process of its own, for all kinds of results; and not far less either."""
    height, width = 1600, 2000
    rng = np.random.default_rng(0)
    smooth = np.asarray(cv2.resize(rng.integers(0, 128, (40, 50, 3), dtype=np.uint8), (width, height)), np.uint8)
    pixels: NDArray[Any] = smooth + rng.integers(0, 30, smooth.shape, dtype=np.uint8)
    if form == "16 bits":
        pixels = pixels.astype(np.uint16) * 257
    elif form == "transparent":
        pixels = np.dstack([pixels, np.clip(np.arange(width) // 4, 0, 255).astype(np.uint8)[None].repeat(height, 0)])
    source = tmp_path / ("a.jpg" if form in ("photograph", "effects") else "a.png")
    assert cv2.imwrite(str(source), pixels)
    most = max(BYTES_PER_PIXEL.values()) + EFFECTS * (form == "effects")
    each = most * (2.75 if form == "16 bits" else 1) + 16 * (form == "transparent")
    code = (
        "import sys, threading, time\n"
        "from pathlib import Path\n"
        "from PIL import Image\n"
        "from p3m_edge.pictures.batch import Job, process\n"
        "from p3m_edge.pictures.memory import Budget\n"
        "from p3m_edge.pictures.results import KINDS, Recipe\n"
        "from p3m_edge.pictures.sources import Source\n"
        "from p3m_edge.runtimes import Matting\n"
        "from p3m_edge.runtimes.compose import Effect\n"
        "def held(): return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "source, out = map(Path, sys.argv[2:4])\n"
        "effect = Effect(feather=2, light_wrap=0.5) if sys.argv[4] == 'effects' else Effect()\n"
        "recipe = Recipe(KINDS, (1, 2, 3), force=True, effect=effect)\n"
        "Image.new('RGB', (64, 64)).save(out / 'small.png')\n"
        "with Matting(sys.argv[1], threads=1) as matting:\n"
        "    def make(path, name):\n"
        "        job = Job(matting, out, recipe, Budget(), set())\n"
        "        return process(job, Source(path, Path()), recipe.files(out, name), threading.Event())\n"
        "    make(out / 'small.png', 'small')\n"
        "    before = peak = held()\n"
        "    working = threading.Thread(target=make, args=(source, 'large'))\n"
        "    working.start()\n"
        "    while working.is_alive():\n"
        "        peak = max(peak, held())\n"
        "        time.sleep(0.001)\n"
        "assert (out / 'large.blur.png').exists()\n"
        "print(peak - before)\n"
    )
    command = [sys.executable, "-c", code, artefact, source, tmp_path, form]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    estimate = height * width * each
    alike = 8_000_000  # for pictures of any size: strips and pools
    assert 0.5 * estimate < int(done.stdout) <= estimate + alike
