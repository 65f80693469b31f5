"""The model repository of a server: model, configuration, warm-up, licence and manifest, complete or not there."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from p3m_edge import folder as folders
from p3m_edge import manifest as manifests
from p3m_edge.atomic import remove_folder
from p3m_edge.errors import GateError, UsageError
from p3m_edge.manifest import MANIFEST, SIGNATURE, Manifest
from p3m_edge.runtimes import golden
from p3m_edge.runtimes.contract import unreadable
from p3m_edge.serving import batch
from p3m_edge.serving.triton import WARMUP, Schedule, config
from p3m_edge.targets import EngineName

Layout = Literal["triton", "ovms"]
ENGINES: dict[Layout, EngineName] = {"triton": "onnxruntime", "ovms": "openvino"}
"""Whose artefacts a server gets."""
SERVERS: dict[Layout, str] = {"triton": "Triton with its backend onnxruntime", "ovms": "OpenVINO Model Server"}
START: dict[Layout, str] = {
    "triton": 'docker run --rm -p 8000:8000 -p 8001:8001 -v "$PWD:/models:ro" '
    "nvcr.io/nvidia/tritonserver:<release>-py3 tritonserver --model-repository=/models",
    "ovms": 'docker run --rm -p 8000:8000 -p 8001:8001 -v "$PWD:/models:ro" '
    "openvino/model_server:<release> --config_path /models/config.json --rest_port 8000 --port 8001",
}
MODEL = "matting"
"""The model's name on the server: that of its folder."""
README, CLIENT, LICENCE = "SERVING.txt", "client.py", "LICENCE.txt"
_README = """\
A model repository of p3m-edge for {server}. Start the server here:

    {start}

It needs {engine} {minimum} or newer. Send it a frame (Python with NumPy and OpenCV):

    python {client} localhost:8000 PICTURE ALPHA.png

{batches}
{model}/{manifest} is that of the artefact{changed}; {model}/{licence} says what the weights are licensed under.
"""


@dataclass(frozen=True)
class Packaged:
    """What was written.

    ``max_batch``: frames in one request or batch at most. ``agreement``: what the check of the freed file found; None:
    the file is that of the artefact, and ``fixed`` says why.
    """

    manifest: Manifest
    max_batch: int
    agreement: batch.Agreement | None
    fixed: str | None


def build(
    artefact: Path, out: Path, layout: Layout, schedule: Schedule | None = None, *, force: bool = False
) -> Packaged:
    """Write a repository with one model.

    Parameters
    ----------
    artefact
        Of ONNX Runtime for Triton, of OpenVINO for its server.
    out
        The new folder.
    layout
        Whose repository it is.
    schedule
        Batches and instances; OpenVINO Model Server takes ``batch`` alone. With a ``batch`` of 1 the model file is
        copied as it is.
    force
        Replace a repository that is there.

    Raises
    ------
    ArtefactError
        No artefact; one that is rejected or damaged.
    UsageError
        The server cannot run it; ``out`` is inside of it.
    GateError
        It does not give the golden alphas here.
    MissingError
        Its engine is not installed, or what frees the number of frames.
    OutputError
        ``out`` exists (without ``force``) or is no repository, or cannot be written.
    """
    schedule = schedule or Schedule()
    manifest = manifests.read(artefact)
    _check(manifest, artefact, layout)
    place = out.resolve()
    if artefact.resolve() in (place, *place.parents):
        raise UsageError(f"{out} is inside of the artefact", hint="choose another --out")
    with folders.workspace(place.parent, place.name, force=force, marker=README) as partial:
        manifests.check_files(manifest, artefact)
        home = partial / MODEL
        (home / "1").mkdir(parents=True)
        packaged = _model(manifest, artefact, home / "1", schedule.batch)
        for name in (MANIFEST, *([SIGNATURE] if (artefact / SIGNATURE).is_file() else [])):
            shutil.copyfile(artefact / name, home / name)
        (home / LICENCE).write_text(f"{manifest.model.licence}\n\n{manifest.model.provenance}\n", encoding="utf-8")
        if layout == "triton":
            _configure_triton(manifest, artefact, home, packaged, schedule)
        else:
            served = {"model_config_list": [{"config": {"name": MODEL, "base_path": MODEL}}]}
            (partial / "config.json").write_text(json.dumps(served, indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(Path(__file__).with_name(CLIENT), partial / CLIENT)
        (partial / README).write_text(_readme(packaged, layout), encoding="utf-8", newline="\n")
        folders.settle(partial, place, passed=True)
    return packaged


def _check(manifest: Manifest, artefact: Path, layout: Layout) -> None:
    wanted = ENGINES[layout]
    if manifest.engine.name != wanted:
        text = f"{artefact} is for {manifest.engine.name}; {SERVERS[layout]} runs artefacts of {wanted}"
        other = next((name for name, engine in ENGINES.items() if engine == manifest.engine.name), None)
        target = "onnx-fp32" if layout == "triton" else "openvino-fp32"
        raise UsageError(text, hint=f"--layout {other}" if other else f"p3m-edge export --target {target}")
    if manifest.parity is None:
        raise UsageError(f"{artefact} has not been through its parity gate", hint="export it again")
    if manifest.smoothing is not None:
        text = f"{artefact} keeps the matte of one stream, and a server has many clients"
        raise UsageError(text, hint="export it without --smooth")


def _model(manifest: Manifest, artefact: Path, folder: Path, most: int) -> Packaged:
    """The model file: with a free number of frames where that can be had and is checked, else as it is."""
    fixed = "one frame at a time was asked for" if most == 1 else None
    if manifest.input.batch != 1:
        fixed = f"the artefact takes {manifest.input.batch} frames at a time"
    if fixed is None:
        try:
            agreement = batch.free(manifest, artefact, folder / manifest.model_file, most)
            return Packaged(manifest, most, agreement, None)
        except GateError as error:
            fixed = str(error)
    remove_folder(folder)
    folder.mkdir()
    for path in artefact.glob(f"{Path(manifest.model_file).stem}.*"):
        if path.name in manifest.files:
            shutil.copyfile(path, folder / path.name)
    try:
        batch.check(manifest, artefact, folder / manifest.model_file)
    except RuntimeError as error:
        raise unreadable(artefact / manifest.model_file, manifest.engine.name, error) from error
    return Packaged(manifest, manifest.input.batch, None, fixed)


def _configure_triton(manifest: Manifest, artefact: Path, home: Path, packaged: Packaged, schedule: Schedule) -> None:
    (home / WARMUP).mkdir()
    warmups = {}
    for index, vector in enumerate(golden.read(artefact, manifest)):
        frames = vector.image[0] if packaged.agreement else vector.image
        warmups[f"golden_{index}"] = frames.shape
        (home / WARMUP / f"golden_{index}").write_bytes(frames.tobytes())
    text = config(manifest, packaged.max_batch if packaged.agreement else 0, schedule, warmups)
    (home / "config.pbtxt").write_text(text, encoding="utf-8", newline="\n")


def _readme(packaged: Packaged, layout: Layout) -> str:
    found, engine = packaged.agreement, packaged.manifest.engine
    if found is None:
        batches = f"Every request has {packaged.max_batch} frame(s), and the server joins none: {packaged.fixed}."
    else:
        batches = (
            f"A request has 1 to {packaged.max_batch} frames. When this was written, {found.frames} frames together "
            f"gave the alphas of single ones, but for {found.difference:.1g}."
        )
    return _README.format(
        server=SERVERS[layout], start=START[layout], engine=engine.name, minimum=engine.minimum_version, client=CLIENT,
        batches=batches, model=MODEL, manifest=MANIFEST, licence=LICENCE,
        changed="" if found is None else ", whose model file has another SHA-256 than that with a free batch here",
    )  # fmt: skip
