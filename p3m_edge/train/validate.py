"""Validation on the pictures that were held out of the training set; the test sets are never looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from p3m_edge import preprocess
from p3m_edge.arrays import Array
from p3m_edge.data.sample import Sample
from p3m_edge.errors import InputError
from p3m_edge.imageio import MaskError
from p3m_edge.model.p3mnet import P3MNet
from p3m_edge.train.dataset import normalise
from p3m_edge.train.inputs import Draw, Source

_CLASS_VALUES = np.array([0, 128, 255], dtype=np.uint8)

Row = tuple[tuple[str, Array], ...]


@dataclass(frozen=True)
class ValidationScores:
    """Sums over the pictures that this process looked at.

    Attributes
    ----------
    sad, mse, mad
        Of the fused alpha on the whole picture at its own size: SAD in thousands, the others per pixel.
    unreadable
        A line for each picture that could not be used.
    rows
        For a sheet: picture, ground truth (or what stands for it), prediction and classes of the first few.
    """

    sad: float
    mse: float
    mad: float
    pictures: int
    unreadable: tuple[str, ...]
    rows: tuple[Row, ...]


def score_held_out(
    network: P3MNet, source: Source, items: Sequence[int], side: int, shown: int, teacher: P3MNet | None
) -> ValidationScores:
    """Matte some ``items`` of the held-out pictures in a square of ``side``, as in training, and compare.

    The network is left in the mode it was in. The first ``shown`` pictures go onto the sheet. The mattes of a teacher,
    in evaluation mode, stand for the truth of pictures that have none.
    """
    sums = np.zeros(3)
    rows: list[Row] = []
    unreadable: list[str] = []
    training = [module for module in network.modules() if module.training]
    network.eval()
    for item in items:
        try:
            sample = source.read(Draw(0, item))
        except MaskError:
            raise
        except InputError as error:
            unreadable.append(" ".join(str(error).split()))
            continue
        alpha, classes = _predict(network, sample, side)
        if sample.labelled or teacher is None:
            title, truth = "ground truth", sample.alpha.astype(np.float32) / np.float32(255)
        else:
            title, truth = "teacher", _predict(teacher, sample, side)[0]
        difference = alpha - truth
        sad = abs(difference).sum() / 1000
        sums += sad, (difference**2).mean(), abs(difference).mean()
        if len(rows) < shown:
            matte = (f"SAD {sad:.2f}", alpha)
            rows.append(((sample.name, sample.image), (title, truth), matte, ("classes", classes)))
    for module in training:
        module.training = True
    sad, mse, mad = map(float, sums)
    return ValidationScores(sad, mse, mad, len(items) - len(unreadable), tuple(unreadable), tuple(rows))


def _predict(network: P3MNet, sample: Sample, side: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The alpha, float32 ``[H, W]``, and the classes as a trimap at the network's size."""
    frame, geometry = preprocess.to_network(sample.image, side, side)
    device = next(network.parameters()).device
    with torch.inference_mode():
        output = network(normalise(torch.tensor(frame).to(device).permute(2, 0, 1)[None]))
    alpha = preprocess.from_network(output.alpha[0, 0].float().cpu().numpy(), geometry)
    return alpha, _CLASS_VALUES[output.global_logits[0].argmax(dim=0).cpu().numpy()]
