"""Fit the networks that have no weights to generated portraits, briefly: fixture weights, to try INT8 with.

    python tools/fit_fixtures.py OUT [--arch r34,swin-t,vitae-s]

Stand-in weights do not keep their logits apart, so a quantised network fails the gate for what its weights are. These
do, as far as some minutes of training go, and say nothing about photographs: wherever their figures stand, it says
"fixture weights". OUT gets ``<arch>.safetensors``, the portraits, and the folders of the trainings; a run that was
interrupted is continued by the same line, and a file that is there is not made again. It needs the extra ``train``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

PORTRAITS, SEED = 400, 31
STEPS = {"r34": 320, "swin-t": 160, "vitae-s": 140}
"""Steps of four pictures; each network is to take less than 20 minutes on two cores. See docs/quantisation.md."""
SETTINGS = (
    "--batch", 4, "--lr", 5e-4, "--workers", 1, "--device", "cpu",
    "--set", "model.drop_path=0", "--set", "data.size=256", "--set", "data.crops=[256,288,320]",
    "--set", "optim.schedule=cosine", "--set", "optim.warmup_steps=20", "--set", "optim.clip_norm=1",
    "--set", "run.checkpoint_every=50", "--set", "log.tensorboard=false",
    "--licence", "Apache-2.0 (p3m-edge). Fixture weights: fitted for minutes to generated portraits, to test with",
)  # fmt: skip
MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}
"""As in train_mobile.py: glibc's defaults cost a third of the time."""


def main() -> int:
    """Draw the portraits, and fit one network after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--arch", type=_archs, default=tuple(STEPS), metavar="A[,A...]", help="default: all three")
    arguments = parser.parse_args()
    out: Path = arguments.out
    missing = [arch for arch in arguments.arch if not (out / f"{arch}.safetensors").exists()]
    if missing:
        command("data", "synth", out / "portraits", "-n", PORTRAITS, "--seed", SEED, "--size", "320x320")
    for arch in missing:
        fit(arch, out)
    return 0


def fit(arch: str, out: Path) -> None:
    """Train a network, from random numbers or from where it was interrupted."""
    folder = out / f"training-{arch}"
    if (folder / "state.pt").exists():
        command("train", "--out", folder, "--resume")
    else:
        command(
            "train", "--preset", f"p3m-{arch}", "--data", out / "portraits", "--out", folder, "--steps", STEPS[arch],
            *SETTINGS,
        )  # fmt: skip
    complete = folder / f"{arch}.safetensors"
    shutil.copyfile(folder / "last.safetensors", complete)
    complete.replace(out / complete.name)
    print(f"written: {out / complete.name}", flush=True)


def command(*arguments: object) -> None:
    """One command of the package; its error, or Ctrl-C, ends this script with its exit code."""
    line = [sys.executable, "-m", "p3m_edge", *map(str, arguments)]
    print("+", *line[1:], flush=True)
    process = subprocess.Popen(line, env={**os.environ, **MEMORY})
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the command got it too, and writes down where it is
        code = process.wait() or 130
    if code:
        sys.exit(code)


def _archs(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in STEPS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(STEPS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
