"""Options that several verbs share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from p3m_edge import shipped
from p3m_edge.cli.options import option
from p3m_edge.cli.options.values import integer, share
from p3m_edge.data.sample import PLAIN, MatteForm, MattesTurned
from p3m_edge.errors import UsageError, one_of
from p3m_edge.imageio import MaskSource
from p3m_edge.runtimes.emulation import PROCESSORS, parse
from p3m_edge.targets import ARCHS

DEVICE_HELP = "device or provider, as the engine names it (default: cpu, of TensorRT cuda); not obtained is an error"


def workers() -> int | None:
    """``--workers``, a field of a verb's ``Arguments``."""
    found: int | None = option("processes (default: one for each core)")
    return found


@dataclass(frozen=True)
class Runtime:
    """Where a model runs."""

    device: str | None = option(DEVICE_HELP, metavar="NAME")
    threads: int | None = option("threads (default: the engine's choice)")


@dataclass(frozen=True)
class Bulk:
    """Who does the work."""

    executor: Literal["local", "ray"] = option(
        "ray: workers on this machine or on the cluster that RAY_ADDRESS names; inputs and --out may be in object "
        "stores (s3://...); a further run goes on where one was that ended, by markers in --out",
        "local",
    )  # fmt: skip
    ray_workers: int | None = option(
        "how many (default: one for each core, or for --threads cores)", metavar="N", parse=integer(1, 100_000)
    )
    max_failures: float | None = option(
        "stop when more than this share of the pictures failed (default: go on)", metavar="SHARE", parse=share
    )

    def __post_init__(self) -> None:
        if self.executor == "local" and (self.ray_workers is not None or self.max_failures is not None):
            raise UsageError("--ray-workers and --max-failures are for --executor ray")


@dataclass(frozen=True)
class Mattes:
    """How the mattes of a data set are stored."""

    alpha_from: MaskSource | None = option(
        "what of an alpha's file is the matte: grey, its grey values, if nothing speaks against them (default); "
        "alpha, its alpha channel; mask, not 0 is foreground; 8-bit, 0..255 in a file of 16 bits; values, its grey "
        "values whatever speaks against them",
        metavar="WHAT",
    )
    alpha_turned: MattesTurned | None = option(
        "mattes of pictures that are turned by their EXIF data: check that they are upright (default), take them as "
        "upright, or turn them as the pictures, as they are of raw pixels",
        metavar="HOW",
    )

    @property
    def form(self) -> MatteForm:
        """The form, for functions that read data sets."""
        return MatteForm(self.alpha_from or PLAIN.source, self.alpha_turned or PLAIN.turned)

    @property
    def settings(self) -> tuple[str, ...]:
        """As settings of a training; what was not given is not among them."""
        return tuple(f"data.{name}={value}" for name, value in vars(self).items() if value is not None)


@dataclass(frozen=True)
class Weights:
    """Which network."""

    checkpoint: Path | None = option("a checkpoint (.pth, .safetensors; default: the one of this package)", metavar="F")
    standin: bool = option("deterministic weights that are not trained", default=False)
    arch: str | None = option(f"architecture: {', '.join(ARCHS)} (a checkpoint says it by itself)", metavar="NAME")

    def request(self) -> dict[str, object]:
        """``checkpoint`` and ``arch`` of :class:`p3m_edge.export.ExportRequest`; no checkpoint: stand-in weights.

        :class:`UsageError`: they do not fit together; :class:`CheckpointError`: those of the package are not there.
        """
        if self.arch is not None:
            one_of("architecture", self.arch, ARCHS)
        if self.checkpoint is not None and self.standin:
            raise UsageError("--checkpoint and --standin exclude each other", hint="leave one of them out")
        if self.standin and self.arch is None:
            raise UsageError("stand-in weights need an architecture", hint=f"--arch {', '.join(ARCHS)}")
        if self.checkpoint is not None:
            return {"checkpoint": self.checkpoint, "arch": self.arch}
        arch = self.arch or shipped.DEFAULT
        return {"checkpoint": None if self.standin else shipped.weights_path(arch), "arch": arch}


@dataclass(frozen=True)
class Emulation:
    """Emulated processors."""

    emulate: tuple[str, ...] | None = option(
        "run the golden vectors on emulated processors: aarch64, or some of it (aarch64:cortex-a72,max,sme=off; "
        f"default: {' '.join(PROCESSORS)})",
        metavar="ARCH[:CPU,...]", parse=parse,
    )  # fmt: skip
    emulation: Path | None = option(
        "the folder that tools/emulation.py set up (default: in the cache folder)", metavar="DIR"
    )

    def __post_init__(self) -> None:
        if self.emulation is not None and self.emulate is None:
            raise UsageError("--emulation is for --emulate", hint="for example --emulate aarch64")
