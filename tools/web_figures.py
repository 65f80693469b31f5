"""How fast a page is: milliseconds a frame in WASM with one thread and with two, and frames shown in a minute.

    python tools/web_figures.py out/256/onnx-fp32 out/512/onnx-fp32 --runtime package --clip clip.mp4

It needs Chromium on PATH (apt install chromium) and PyAV. The camera is Chromium's own and plays the clip at 30 frames
a second and 640x480. ONNX Runtime in Python matted the same frame, with as many threads, in the time beside it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from p3m_edge.runtimes import Matting
from p3m_edge.table import table
from p3m_edge.web.build import build
from p3m_edge.web.server import address, server
from tests.browser import Browser, find

WIDTH, HEIGHT, RATE = 640, 480, 30
THREADS = (1, 2)
COLUMNS = "artefact|threads|Python, ms|browser, ms|frames a second|age, ms"
TIMES = """import('./p3m-edge.js').then(async ({Matting}) => {
  const matting = await Matting.load('artefact/', {threads: %d});
  const frame = {width: %d, height: %d, data: new Uint8ClampedArray(%d).map((_, at) => (at * 7919) & 255)};
  const times = [];
  for (let turn = 0; turn < %d; turn++) {
    const start = performance.now();
    await matting.matte(frame);
    times.push(performance.now() - start);
  }
  await matting.close();
  return times.slice(%d);
})"""


def main(arguments: list[str]) -> None:
    """Measure, and print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefacts", nargs="+", type=Path)
    parser.add_argument("--runtime", required=True, type=Path, help="the npm package onnxruntime-web, unpacked")
    parser.add_argument("--clip", required=True, type=Path, help="what the camera plays")
    parser.add_argument("--seconds", type=float, default=60, help="how long frames are counted (default: 60)")
    parser.add_argument("--frames", type=int, default=40, help="frames that are timed (default: 40)")
    chosen = parser.parse_args(arguments)
    binary = find()
    if binary is None:
        raise SystemExit("no browser on PATH: apt install chromium")
    rows = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_y4m(chosen.clip, folder / "clip.y4m")
        for number, artefact in enumerate(chosen.artefacts):
            build(artefact, folder / "sites" / str(number), chosen.runtime)
        with server(folder / "sites") as listening:
            threading.Thread(target=listening.serve_forever, daemon=True).start()
            for number, artefact in enumerate(chosen.artefacts):
                for threads in THREADS:
                    flags = (
                        "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
                        f"--use-file-for-fake-video-capture={folder / 'clip.y4m'}",
                    )  # fmt: skip
                    with Browser(binary, folder / f"profile-{number}-{threads}", flags) as browser:
                        page = f"{address(listening)}{number}/"
                        times, rate, age = measure(browser, page, threads, chosen.frames, chosen.seconds)
                    rows.append([str(artefact), str(threads), f"{in_python(artefact, threads, chosen.frames):.1f}",
                                 f"{times:.1f}", f"{rate:.1f}", age])  # fmt: skip
        listening.shutdown()
    print(table("", COLUMNS, rows).markdown())


def write_y4m(clip: Path, path: Path) -> None:
    """Up to ten seconds of a clip, as Chromium's camera plays them."""
    with av.open(str(clip)) as container, path.open("wb") as stream:
        stream.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F{RATE}:1 Ip A1:1 C420jpeg\n".encode())
        for frame, _ in zip(container.decode(video=0), range(10 * RATE), strict=False):
            stream.write(b"FRAME\n" + frame.reformat(WIDTH, HEIGHT, "yuv420p").to_ndarray().tobytes())


def measure(browser: Browser, page: str, threads: int, frames: int, seconds: float) -> tuple[float, float, str]:
    """Median milliseconds of a frame; then, with the camera, frames shown a second, and their age as the page has it.

    The times are taken in the page itself, before its worker is started with the camera.
    """
    browser.screen(1280, 900)
    page += f"?provider=wasm&threads={threads}"
    browser.open(page)
    ready = "globalThis.demo && !document.getElementById('webcam').disabled"
    browser.wait(ready)
    times = browser.js(TIMES % (threads, WIDTH, HEIGHT, WIDTH * HEIGHT * 4, frames + 5, 5))
    browser.open(page)
    browser.wait(ready)
    browser.js("document.getElementById('webcam').click()")
    browser.wait("demo.shown > 10")
    start, shown = time.perf_counter(), browser.js("demo.shown")
    time.sleep(seconds)
    count = browser.js("demo.shown") - shown
    return (
        median(times),
        count / (time.perf_counter() - start),
        browser.js("document.getElementById('age').textContent"),
    )


def in_python(artefact: Path, threads: int, frames: int) -> float:
    """Median milliseconds of the same frame."""
    values = (np.arange(WIDTH * HEIGHT * 4) * 7919 & 255).astype(np.uint8).reshape(HEIGHT, WIDTH, 4)
    frame = np.ascontiguousarray(values[..., :3])
    with Matting(artefact, threads=threads, dtype="uint8") as matting:
        return 1000 * median(list(timed(lambda: matting(frame), frames + 5))[5:])


def timed(work: Callable[[], object], times: int) -> Iterator[float]:
    """The seconds of each call."""
    for _ in range(times):
        start = time.perf_counter()
        work()
        yield time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1:])
