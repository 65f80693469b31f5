"""Make the decoders of a mobile checkpoint slimmer at 1/4 and 1/2: what matters least to the loss is left out.

    python tools/slim_mobile.py CHECKPOINT PICTURES OUT

CHECKPOINT has decoders of 96, 64, 48, 32 and 24 channels, as the package's had until commit 3203d07; OUT gets the
network that the package has now, which must be trained further. PICTURES has ``image/`` and ``alpha/``, pictures of one
size. A channel matters as much as the sum of its values times their gradients (arXiv 1611.06440, section 2.2), a
first-order estimate of what the loss would gain or lose without it, on about a hundred of the pictures. Maps that are
added to one another lose the same channels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as functional
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from p3m_edge.export.choices import variant
from p3m_edge.imageio import read_image, read_mask
from p3m_edge.model import P3MNet, save_checkpoint
from p3m_edge.model.mobile import MOBILE, MobilePlan
from p3m_edge.model.p3mnet import IMAGENET_MEAN, IMAGENET_STD

WIDE = MobilePlan(stages=(96, 64, 48, 32, 24))
QUARTER, HALF = MOBILE.stages[3:]
PICTURES, BATCH = 100, 2

MAPS: dict[str, tuple[int, tuple[str, ...]]] = {
    "guide": (QUARTER, ("global_decoder.stage2", "global_decoder.dbfi0")),
    "guide out": (QUARTER, ("global_decoder.stage1",)),
    "dbfi0 own": (QUARTER // 2, ("global_decoder.dbfi0.transform",)),
    "dbfi0 neck": (QUARTER // 2, ("global_decoder.dbfi0.transform_other",)),
    "local": (QUARTER, ("local_decoder.stage2",)),
    "tfi1 guide": (QUARTER // 2, ("local_decoder.tfi1.guide",)),
    "tfi1 local": (QUARTER // 2, ("local_decoder.tfi1.local",)),
    "tfi1 encoder": (QUARTER // 2, ("local_decoder.tfi1.encoder",)),
    "mixed": (QUARTER, ("local_decoder.tfi1", "local_decoder.sbfi1")),
    "sbfi1 own": (QUARTER // 2, ("local_decoder.sbfi1.transform",)),
    "sbfi1 detail": (QUARTER // 2, ("local_decoder.sbfi1.transform_other",)),
    "local out": (QUARTER, ("local_decoder.stage1",)),
    "tfi0 guide": (HALF // 2, ("local_decoder.tfi0.guide",)),
    "tfi0 local": (HALF // 2, ("local_decoder.tfi0.local",)),
    "tfi0 encoder": (HALF // 2, ("local_decoder.tfi0.encoder",)),
    "fine": (HALF, ("local_decoder.tfi0",)),
    "fine out": (HALF, ("local_decoder.stage0",)),
}
"""How many channels stay, and the modules that make the map."""
JOINED = {
    "dbfi0": ("dbfi0 own", "dbfi0 neck"),
    "tfi1": ("tfi1 guide", "tfi1 local", "tfi1 encoder"),
    "sbfi1": ("sbfi1 own", "sbfi1 detail"),
    "tfi0": ("tfi0 guide", "tfi0 local", "tfi0 encoder"),
}
"""Maps that are other maps one after the other."""
UNITS: dict[str, tuple[str | None, str | None]] = {
    "global_decoder.stage2.1.1": ("guide", None),
    "global_decoder.dbfi0.transform": ("dbfi0 own", "guide"),
    "global_decoder.dbfi0.transform_other": ("dbfi0 neck", None),
    "global_decoder.dbfi0.mix.0": ("dbfi0", None),
    "global_decoder.dbfi0.mix.1": ("guide", "dbfi0"),
    "global_decoder.stage1.0.0": ("guide", None),
    "global_decoder.stage1.0.1": ("guide out", "guide"),
    "global_decoder.head": (None, "guide out"),
    "global_decoder.side0": (None, "guide"),
    "local_decoder.stage2.0.1": ("local", None),
    "local_decoder.tfi1.guide": ("tfi1 guide", "guide"),
    "local_decoder.tfi1.local": ("tfi1 local", "local"),
    "local_decoder.tfi1.encoder": ("tfi1 encoder", None),
    "local_decoder.tfi1.mix.0": ("tfi1", None),
    "local_decoder.tfi1.mix.1": ("mixed", "tfi1"),
    "local_decoder.sbfi1.transform": ("sbfi1 own", "mixed"),
    "local_decoder.sbfi1.transform_other": ("sbfi1 detail", None),
    "local_decoder.sbfi1.mix.0": ("sbfi1", None),
    "local_decoder.sbfi1.mix.1": ("mixed", "sbfi1"),
    "local_decoder.stage1.0.0": ("mixed", None),
    "local_decoder.stage1.0.1": ("local out", "mixed"),
    "local_decoder.tfi0.guide": ("tfi0 guide", "guide out"),
    "local_decoder.tfi0.local": ("tfi0 local", "local out"),
    "local_decoder.tfi0.encoder": ("tfi0 encoder", None),
    "local_decoder.tfi0.mix.0": ("tfi0", None),
    "local_decoder.tfi0.mix.1": ("fine", "tfi0"),
    "local_decoder.stage0.0.0": ("fine", None),
    "local_decoder.stage0.0.1": ("fine out", "fine"),
    "local_decoder.head": (None, "fine out"),
}
"""Of each convolution with its norm: the map that it makes, and the one that it takes if that is cut. A depthwise one
makes of each channel that it takes one, so the first says all."""


def main() -> int:
    """Measure, cut, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    slim(arguments.checkpoint, arguments.pictures, arguments.out)
    return 0


def slim(checkpoint: Path, pictures: Path, out: Path) -> None:
    """The weights of the wide network -> those of the package's, in half precision."""
    wide = variant(WIDE)
    try:
        wide.load_state_dict({name: values.float() for name, values in load_file(checkpoint).items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        sys.exit(f"{checkpoint} holds no mobile network with the wider decoders: {str(error).splitlines()[0]}")
    shares = importance(wide.eval(), list(batches(pictures)))
    kept = {name: chosen(shares[name], count) for name, (count, _) in MAPS.items()}
    for name, channels in kept.items():
        lost = 1 - shares[name][channels].sum() / shares[name].sum()
        print(f"{name}: {len(shares[name])} -> {len(channels)} channels, which lose {lost:.1%}")
    narrow = P3MNet("mobile")
    narrow.load_state_dict(cut(wide.state_dict(), kept, {name: len(values) for name, values in shares.items()}))
    provenance = f"{checkpoint.name} with slimmer decoders, not trained since"
    save_checkpoint(narrow, out, licence="as the checkpoint's", provenance=provenance, trained=True, half=True)


def batches(pictures: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised pictures ``[2, 3, H, W]`` and their mattes ``[2, 1, H, W]``, 0..1, from all over a folder."""
    files = sorted((pictures / "image").iterdir())
    files = files[:: max(1, len(files) // PICTURES)]
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    for start in range(0, len(files), BATCH):
        some = files[start : start + BATCH]
        images = (torch.from_numpy(read_image(file).rgb.copy()).permute(2, 0, 1) / 255 for file in some)
        mattes = (read_mask(pictures / "alpha" / f"{file.stem}.png") for file in some)
        yield (
            torch.stack([(image - mean) / std for image in images]),
            torch.stack([torch.from_numpy(matte.copy())[None] / 255 for matte in mattes]),
        )


def importance(network: P3MNet, examples: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """What each channel of each map matters, ``[C]`` by the map's name."""
    found: dict[str, Tensor] = {}
    seen: list[tuple[str, Tensor]] = []

    def note(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            output.retain_grad()
            seen.append((name, output))

        return hook

    hooks = [
        network.get_submodule(module).register_forward_hook(note(name))
        for name, (_, modules) in MAPS.items() for module in modules
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
    """The training's loss in short: the classes' cross entropy, and the error of alpha, at edges and everywhere."""
    found = network(images)
    edge = functional.max_pool2d(((mattes > 0.02) & (mattes < 0.98)).float(), 15, 1, 7)
    classes = torch.where(edge[:, 0] > 0, 1, 2 * (mattes[:, 0] > 0.5).long())
    off = (found.local_alpha - mattes).abs()
    entropy = functional.cross_entropy(found.global_logits, classes)
    result: Tensor = entropy + (off * edge).sum() / edge.sum().clamp(1) + off.mean()
    return result


def chosen(matters: Tensor, count: int) -> Tensor:
    """The channels that matter most, in their order."""
    return torch.topk(matters, count).indices.sort().values


def cut(state: Mapping[str, Tensor], kept: Mapping[str, Tensor], wide: Mapping[str, int]) -> dict[str, Tensor]:
    """The tensors of the wide network without the channels that are left out."""
    channels = dict(kept)
    for name, parts in JOINED.items():
        starts = [sum(wide[part] for part in parts[:number]) for number in range(len(parts))]
        channels[name] = torch.cat([kept[part] + start for part, start in zip(parts, starts, strict=True)])
    result = {}
    for name, values in state.items():
        made, taken = next((maps for unit, maps in UNITS.items() if name.startswith(f"{unit}.")), (None, None))
        if made is not None and values.ndim:  # not the norm's count of batches
            values = values[channels[made]]
        if taken is not None and values.ndim == 4:
            values = values[:, channels[taken]]
        result[name] = values
    return result


if __name__ == "__main__":
    sys.exit(main())
