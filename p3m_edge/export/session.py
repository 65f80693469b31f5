"""What the targets of one export share: the network, its graphs, the parity pictures and the reference results."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from typing import NamedTuple, TypeVar

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from p3m_edge.errors import UsageError
from p3m_edge.export import graph
from p3m_edge.export.calibration import PictureSet
from p3m_edge.export.graph import program as programs
from p3m_edge.export.graph.ranges import Range
from p3m_edge.export.request import ExportRequest
from p3m_edge.imageio import read_image
from p3m_edge.manifest_schema import ModelRecord, Unpool
from p3m_edge.model.checkpoint import read_checkpoint
from p3m_edge.model.deploy import OUTPUTS, Deploy, unpooling
from p3m_edge.model.p3mnet import P3MNet
from p3m_edge.model.standin import LICENCE, PROVENANCE, standin
from p3m_edge.preprocess import to_network
from p3m_edge.runtimes.contract import Images, Outputs

PORTRAIT = "astronaut.jpg"
DYNAMIC_ARCHS = ("r34", "vitae-s", "mobile")
_NOISE_SEED = 20210414
_T = TypeVar("_T", bound=np.generic)


class ParityPicture(NamedTuple):
    """A picture of the parity gate: its name, and the frame, uint8 ``[H, W, 3]``, RGB."""

    name: str
    frame: NDArray[np.uint8]


@dataclass(frozen=True)
class PictureSets:
    """The pictures that some targets need besides those of the parity gate; None: no target needs them.

    The ranges of 8-bit numbers come from ``calibration``, the mattes of a network in fewer bits are measured on
    ``measuring``, and half precision is checked for overflow on ``overflow``.
    """

    calibration: PictureSet | None = None
    measuring: PictureSet | None = None
    overflow: PictureSet | None = None


class ExportSession:
    """Everything is made when it is first needed, and once.

    Attributes
    ----------
    calibrated
        The ranges of the float32 graph's activations on the calibration pictures, once a target has measured them.

    Parameters
    ----------
    request
        What to export.
    weights
        The network, if it is there already.
    pictures
        What the targets need besides the parity pictures.

    Raises
    ------
    CheckpointError, InputError, UsageError
        The checkpoint or a parity picture cannot be used, or the request does not fit the architecture.
    """

    def __init__(
        self,
        request: ExportRequest,
        weights: tuple[P3MNet, ModelRecord] | None = None,
        pictures: PictureSets | None = None,
    ) -> None:
        self.request = request
        self.sets = pictures or PictureSets()
        self.network, self.record = weights or _load(request)
        self.unpool = check_arch(request, self.network.arch)
        self.outputs = OUTPUTS[request.outputs]
        self.calibrated: dict[str, Range] | None = None

    @cached_property
    def by_size(self) -> tuple[ExportSession, ...]:
        """One for each size of the request, of the same network; itself is that of the first."""
        weights = (self.network, self.record)
        others = (
            replace(self.request, width=width, height=height, more_sizes=())
            for width, height in self.request.more_sizes
        )
        return self, *(ExportSession(request, weights) for request in others)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input; of a dynamic one, those of the request."""
        return self.request.height, self.request.width

    @cached_property
    def pictures(self) -> tuple[ParityPicture, ...]:
        """The bundled portrait, noise, and the user's pictures."""
        with resources.as_file(resources.files("p3m_edge") / "assets" / PORTRAIT) as path:
            portrait = ParityPicture(PORTRAIT, read_image(path).rgb)
        noise = np.random.default_rng(_NOISE_SEED).integers(0, 256, (*self.size, 3), dtype=np.uint8)
        own = (ParityPicture(path.name, read_image(path).rgb) for path in self.request.parity_images)
        return portrait, ParityPicture("noise", noise), *own

    @cached_property
    def _small(self) -> list[NDArray[np.uint8]]:
        return [to_network(picture.frame, *self.size)[0] for picture in self.pictures]

    def network_images(self) -> list[NDArray[np.uint8]]:
        """The pictures as the network takes them, each uint8 ``[batch, height, width, 3]``.

        A batch starts with its own picture and goes on with the following ones.
        """
        return self._batches(self._small)

    def batch_of(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image, uint8 ``[1, height, width, 3]``, as often as a batch is long."""
        return np.repeat(image, self.request.batch, axis=0)

    def _batches(self, items: list[NDArray[_T]]) -> list[NDArray[_T]]:
        count = len(items)
        return [np.stack([items[(i + j) % count] for j in range(self.request.batch)]) for i in range(count)]

    @cached_property
    def graph(self) -> onnx.ModelProto:
        """The float32 graph; it must not be changed."""
        request = self.request
        return graph.trace(self._deployed, request.height, request.width, request.batch, dynamic=request.dynamic)

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """The network as PyTorch's operators (:mod:`p3m_edge.export.graph.program`)."""
        return programs.trace(self._deployed, *self.size, self.request.smoothing)

    @cached_property
    def program_without_booleans(self) -> torch.export.ExportedProgram:
        """The same with a fusion that has no booleans."""
        deploy = Deploy(self.network, self.request.outputs, self.request.unpool, booleans=False)
        return programs.trace(deploy, *self.size)

    @cached_property
    def _deployed(self) -> Deploy:
        return Deploy(self.network, self.request.outputs, self.request.unpool)

    def infer(self, images: Images) -> Outputs:
        """What the eager deployable module gives, the requested outputs by name."""
        with torch.inference_mode():
            found = self._deployed(torch.from_numpy(images))
        values = (found,) if isinstance(found, torch.Tensor) else found
        return {name: value.numpy() for name, value in zip(self.outputs, values, strict=True)}

    @cached_property
    def references(self) -> list[dict[str, NDArray[np.float32]]]:
        """What the eager deployable module gives for each of :meth:`network_images`, all outputs, by name."""
        # `native` writes the same network in other operators, which PyTorch cannot run.
        unpool = "select" if self.request.unpool == "native" else self.request.unpool
        deploy = Deploy(self.network, unpool=unpool)
        with torch.inference_mode():
            singles = [deploy(torch.from_numpy(image[None]))._asdict() for image in self._small]
        names = singles[0]
        batches = {name: self._batches([single[name].numpy()[0] for single in singles]) for name in names}
        return [{name: batches[name][index] for name in names} for index in range(len(singles))]


def check_arch(request: ExportRequest, arch: str) -> Unpool:
    """The form of the unpooling; ``UsageError`` where an architecture has no dynamic size, or not that form."""
    if request.dynamic and arch not in DYNAMIC_ARCHS:
        raise UsageError(
            f"{arch} has no dynamic size: its attention windows are laid out for one size",
            hint=f"give --size; dynamic sizes: {', '.join(DYNAMIC_ARCHS)}",
        )
    return unpooling(arch, request.unpool)


def _load(request: ExportRequest) -> tuple[P3MNet, ModelRecord]:
    if request.checkpoint is None:
        network = standin(request.arch or "")
        parameters = sum(parameter.numel() for parameter in network.parameters())
        return network, ModelRecord(network.arch, parameters, False, "", LICENCE, PROVENANCE.format(seed=0))
    network, info = read_checkpoint(request.checkpoint)
    if request.arch not in (None, info.arch):
        raise UsageError(f"{request.checkpoint} is a {info.arch}, not a {request.arch}", hint="leave out --arch")
    return network, ModelRecord(info.arch, info.parameters, info.trained, info.sha256, info.licence, info.provenance)
