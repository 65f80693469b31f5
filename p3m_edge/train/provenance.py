"""Where weights come from, and what a run was started with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from p3m_edge import __version__
from p3m_edge.train import moved
from p3m_edge.train.config import Config
from p3m_edge.train.inputs import Inputs, faces_in
from p3m_edge.train.request import TrainRequest
from p3m_edge.train.teacher import Teacher

_JUDGED_BY_TEACHER = "no picture had a true matte: judged by the teacher's mattes, which are no ground truth"


@dataclass(frozen=True)
class Provenance:
    """What the files of weights say about where they come from."""

    config: Config
    inputs: Inputs
    teacher: Teacher | None
    start: str

    def __call__(self, step: int) -> str:
        config, faces = self.config, self.inputs.faces
        methods = " and ".join(f"P3M-{method.upper()}" for method in config.copy_paste.methods) or "no P3M-CP"
        lines = [
            f"trained by p3m-edge {__version__}: {config.model.arch}, {step} steps on {self.inputs.description}",
            methods if faces is None else f"{methods}, source faces: {faces.licence}",
            self.start,
        ]
        if config.optim.frozen:
            lines += (f"{part} stayed as it was" for part in dict.fromkeys(config.optim.frozen))
        if not self.inputs.labelled:
            lines.append(_JUDGED_BY_TEACHER)
        if config.qat.enabled:
            lines.append("rounded as INT8 while it learned (QAT), taught by what it started from")
        elif self.teacher is not None:
            info = self.teacher.info
            kind = info.arch if info.trained else f"{info.arch} that nobody trained"
            lines.append(f"taught by a {kind} (sha256 {info.sha256}, licence: {info.licence}; {info.provenance})")
        return "; ".join(lines)


def licence(config: Config, inputs: Inputs, teacher: Teacher | None) -> str:
    """That of the weights, and of what went into them besides the pictures."""
    lines = [config.run.licence]
    if inputs.faces is not None:
        lines.append(f"source faces: {inputs.faces.licence}")
    if teacher is not None:
        lines.append(f"teacher: {teacher.info.licence}")
    return "; ".join(lines)


def started(request: TrainRequest, inputs: Inputs, first: str, teacher: Teacher | None) -> dict[str, str]:
    """What a resumption must know besides the settings."""
    return {
        **moved.now(request),
        **moved.contents(inputs, request.config),
        "teacher_sha256": "" if teacher is None else teacher.info.sha256,
        "start": first,
        "digest": inputs.digest,
    }


def warnings(inputs: Inputs, unlabelled: str | None) -> Iterator[str]:
    """What whoever starts the training must be told."""
    if unlabelled is not None and (faces := faces_in(unlabelled)) != "blurred":
        yield f"{unlabelled}: faces: {faces}; p3m-edge data anonymize blurs them"
    if not inputs.labelled:
        yield _JUDGED_BY_TEACHER
