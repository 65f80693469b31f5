"""Make the local decoder of a mobile checkpoint slimmer: the channels that matter least to its alpha are left out.

    python tools/slim_mobile.py CHECKPOINT PICTURES OUT

CHECKPOINT has a local decoder of 96, 64, 48, 32 and 24 channels, as the package's had until commit 3203d07; OUT gets
the network that the package has now, whose local decoder must be trained further (``optim.frozen``). PICTURES has
``image/`` and ``alpha/``, pictures of one size. A channel matters as much as the sum of its values times their
gradients (arXiv 1611.06440, section 2.2), a first-order estimate of what the loss would gain or lose without it, on
about a hundred of the pictures. Maps that are added to one another lose the same channels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from p3m_edge.errors import CheckpointError, InputError, P3MEdgeError
from p3m_edge.export.choices import variant
from p3m_edge.header import Header
from p3m_edge.imageio import read_image, read_mask
from p3m_edge.manifest import sha256
from p3m_edge.model import P3MNet, container, save_checkpoint
from p3m_edge.model.mobile import MOBILE, MobilePlan
from p3m_edge.train.dataset import normalise

WIDE = MobilePlan(fine=(96, 64, 48, 32, 24))
PICTURES, BATCH = 100, 2


class Tables(NamedTuple):
    """What the local decoder is made of, by names of maps.

    Attributes
    ----------
    maps
        How many channels stay, and the modules that make the map.
    joined
        Maps that are other maps, one after the other.
    units
        Of each convolution with its norm: the map that it makes, and the one that it takes if that is cut. A depthwise
        one makes of each channel that it takes one, so the first says all.
    """

    maps: dict[str, tuple[int, tuple[str, ...]]]
    joined: dict[str, tuple[str, ...]]
    units: dict[str, tuple[str | None, str | None]]


def tables(plan: MobilePlan) -> Tables:
    """Of a network whose local decoder is to have so many channels."""
    found = Tables({}, {}, {})

    def add(name: str, count: int, *modules: str) -> str:
        found.maps[name] = count, modules
        return name

    def mix(module: str, level: int, takes: tuple[str, ...], makes: str) -> None:
        found.joined[f"{module} in"] = takes
        if plan.depthwise(level):
            found.units[f"{module}.mix.0"] = f"{module} in", None
        found.units[f"{module}.mix{'.1' if plan.depthwise(level) else ''}"] = makes, f"{module} in"

    def stage(module: str, level: int, makes: str, takes: str | None) -> None:
        if plan.depthwise(level):
            found.units[f"{module}.0"] = takes, None
        found.units[f"{module}{'.1' if plan.depthwise(level) else ''}"] = makes, takes

    c4, c3, *_ = plan.fine
    stage("stage4.0", 0, add("first", c4, "stage4.0"), None)
    local = add("local4", c3, "stage4.1")
    stage("stage4.1", 0, local, "first")
    for level, (own, after) in enumerate(pairwise((*plan.fine[1:], plan.fine[-1])), start=1):
        number = 4 - level
        tfi, sbfi = f"tfi{number}", f"sbfi{number}" if number in (1, 2) else None
        mixed = add(f"mixed{number}", own, tfi, *([sbfi] if sbfi else []))
        for part, takes in (("guide", None), ("local", local), ("encoder", None)):
            name = add(f"{tfi} {part}", own // 2, f"{tfi}.{part}")
            found.units[f"{tfi}.{part}"] = name, takes
        mix(tfi, level, (f"{tfi} guide", f"{tfi} local", f"{tfi} encoder"), mixed)
        if sbfi:
            for part, takes in (("transform", mixed), ("transform_other", None)):
                found.units[f"{sbfi}.{part}"] = add(f"{sbfi} {part}", own // 2, f"{sbfi}.{part}"), takes
            mix(sbfi, level, (f"{sbfi} transform", f"{sbfi} transform_other"), mixed)
        takes = mixed
        if number == 3:
            takes = add("inner3", own, "stage3.0")
            stage("stage3.0", level, takes, mixed)
        local = add(f"local{number}", own if number in (0, 1) else after, f"stage{number}")
        stage(f"stage{number}.{1 if number == 3 else 0}", level, local, takes)
    found.units["head"] = None, local
    return found


def main() -> int:
    """Measure, cut, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    try:
        slim(arguments.checkpoint, arguments.pictures, arguments.out)
    except P3MEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def slim(checkpoint: Path, pictures: Path, out: Path) -> None:
    """The weights of the wide network -> those of the package's, in half precision.

    Raises
    ------
    CheckpointError
        The checkpoint cannot be read, or is of another network.
    InputError
        The pictures cannot be used.
    OutputError
        The result cannot be written.
    """
    wide, header = _wide(checkpoint)
    known = tables(MOBILE)
    shares = importance(wide, known, batches(pictures))
    kept = {name: chosen(shares[name], count) for name, (count, _) in known.maps.items()}
    for name, channels in kept.items():
        lost = 1 - shares[name][channels].sum() / shares[name].sum()
        print(f"{name}: {len(shares[name])} -> {len(channels)} channels, which lose {lost:.1%}")
    narrow = P3MNet("mobile")
    narrow.load_state_dict(cut(wide.state_dict(), known, kept, {name: len(part) for name, part in shares.items()}))
    origin = f"{checkpoint.name} (sha256 {sha256(checkpoint)}: {header.provenance})"
    provenance = f"local decoder made slimmer, and not trained since; from {origin}"
    save_checkpoint(narrow, out, licence=header.licence, provenance=provenance, trained=header.trained, half=True)


def _wide(checkpoint: Path) -> tuple[P3MNet, Header]:
    """The wide network in evaluation mode, and what the file says about it."""
    try:
        tensors, header = container.decode(checkpoint.read_bytes(), str(checkpoint))
    except OSError as error:
        raise CheckpointError(f"{checkpoint} cannot be read: {error.strerror}") from error
    network = variant(WIDE)
    try:
        network.load_state_dict({name: values.float() for name, values in tensors.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint} holds no mobile network with the wider local decoder") from error
    if header is None:
        raise CheckpointError(f"{checkpoint} does not say what its licence is")
    return network.eval(), header


def batches(pictures: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised pictures ``[2, 3, H, W]`` and their mattes ``[2, 1, H, W]``, 0..1, from all over a folder."""
    folder = pictures / "image"
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    if not files:
        raise InputError(f"{folder} holds no pictures")
    files = files[:: max(1, len(files) // PICTURES)]
    for start in range(0, len(files), BATCH):
        some = files[start : start + BATCH]
        images = [torch.from_numpy(read_image(file).rgb.copy()).permute(2, 0, 1) for file in some]
        mattes = [torch.from_numpy(read_mask(pictures / "alpha" / f"{file.stem}.png").copy()) for file in some]
        sizes = {part.shape[-2:] for part in (*images, *mattes)}
        if len(sizes) > 1:
            raise InputError(f"pictures and mattes have different sizes: {', '.join(file.name for file in some)}")
        yield normalise(torch.stack(images)), torch.stack(mattes)[:, None] / 255


def importance(network: P3MNet, known: Tables, examples: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """What each channel of each map matters, ``[C]`` by the map's name."""
    found: dict[str, Tensor] = {}
    seen: list[tuple[str, Tensor]] = []

    def note(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            output.retain_grad()
            seen.append((name, output))

        return hook

    hooks = [
        network.local_decoder.get_submodule(module).register_forward_hook(note(name))
        for name, (_, modules) in known.maps.items() for module in modules
    ]  # fmt: skip
    for images, mattes in examples:
        loss(network, images, mattes).backward()  # type: ignore[no-untyped-call]
        for name, output in seen:
            assert output.grad is not None
            matters = (output * output.grad).detach().sum((2, 3)).abs().sum(0)
            found[name] = found.get(name, torch.zeros_like(matters)) + matters
        seen.clear()
        network.zero_grad()
    for each in hooks:
        each.remove()
    return found


def loss(network: P3MNet, images: Tensor, mattes: Tensor) -> Tensor:
    """The local decoder's in short: the error of alpha at edges, and a little of that everywhere."""
    off = (network(images).local_alpha - mattes).abs()
    edge = functional.max_pool2d(((mattes > 0.02) & (mattes < 0.98)).float(), 15, 1, 7)
    found: Tensor = (off * edge).sum() / edge.sum().clamp(1) + 0.1 * off.mean()
    return found


def chosen(matters: Tensor, count: int) -> Tensor:
    """The channels that matter most, in their order."""
    return torch.topk(matters, count).indices.sort().values


def cut(
    state: Mapping[str, Tensor], known: Tables, kept: Mapping[str, Tensor], wide: Mapping[str, int]
) -> dict[str, Tensor]:
    """The tensors of the wide network without the channels that are left out."""
    channels = dict(kept)
    for name, parts in known.joined.items():
        starts = [sum(wide[part] for part in parts[:number]) for number in range(len(parts))]
        channels[name] = torch.cat([kept[part] + start for part, start in zip(parts, starts, strict=True)])
    result = {}
    for name, values in state.items():
        inner = name.removeprefix("local_decoder.")
        units = (maps for unit, maps in known.units.items() if inner != name and inner.startswith(f"{unit}."))
        made, taken = next(units, (None, None))
        if made is not None and values.ndim:  # not the norm's count of batches
            values = values[channels[made]]
        if taken is not None and values.ndim == 4:
            values = values[:, channels[taken]]
        result[name] = values
    return result


if __name__ == "__main__":
    sys.exit(main())
