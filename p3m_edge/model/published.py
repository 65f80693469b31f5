"""The state dicts of the published P3M-Net files, and how their names become ours.

Three layouts are known: ResNet-34 of 2021 and 2022 (the encoder stored twice, as ``resnet.*`` and as
``encoder<i>.*``), Swin-T and ViTAE-S. Our names are those of the modules in this package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Rule = tuple[str, str | Callable[[re.Match[str]], str]]

# Any key that starts so shows the architecture.
SIGNATURES = {
    "r34": ("resnet.layer", "encoder0."),
    "swin-t": ("encoder.patch_embed.", "encoder.layers.0.blocks."),
    "vitae-s": ("encoder.layers.0.RC.", "encoder.layers.0.NC."),
}

# What the published files hold and the network does not use, or computes.
UNUSED = re.compile(
    r"\.num_batches_tracked$|^resnet\.fc\.|^encoder\.head\."
    r"|\.attn_mask$|\.relative_position_index$|^encoder\.layers\.0\.NC\.\d+\.attn\.norm1\."
)


def _unit(match: re.Match[str]) -> str:
    """Layer i of a stage of conv, norm, activation, conv, ... is part i % 3 of unit i // 3."""
    unit, part = divmod(int(match["layer"]), 3)
    return f"{match['stage']}.{unit}.{('conv', 'norm', 'act')[part]}."


def _stage(match: re.Match[str]) -> str:
    decoder = {"g": "global_decoder", "l": "local_decoder"}[match["side"]]
    return f"{decoder}.stage{match['level']}."


def _previous_reduction(match: re.Match[str]) -> str:
    """ViTAE counts the reduction to the stage behind it; we count it, like Swin, to the stage before it."""
    return f"encoder.reductions.{int(match['level']) - 1}."


_DECODERS: tuple[Rule, ...] = (
    (r"^(?:decoder\.)?decoder(?P<level>\d)_(?P<side>[gl])\.", _stage),
    (r"(?P<stage>^(?:global|local)_decoder\.stage\d)\.(?P<layer>\d)\.", _unit),
    (r"^(?:decoder\.)?decoder_final_g\.", "global_decoder.head."),
    (r"^(?:decoder\.)?decoder_final_l\.", "local_decoder.head."),
    (r"^(?:decoder\.)?(tfi|sbfi)_(\d)\.", r"local_decoder.\1\2."),
    (r"^(?:decoder\.)?dbfi_(\d)\.", r"global_decoder.dbfi\1."),
    (r"(\.[tsd]b?fi\d)\.conv1\.", r"\1.mix.conv."),
    (r"(\.[tsd]b?fi\d)\.bn1\.", r"\1.mix.norm."),
    (r"(\.[sd]bfi\d)\.transform1\.", r"\1.transform."),
    (r"(\.sbfi\d)\.transform2\.", r"\1.transform_detail."),
    (r"(\.dbfi\d)\.transform2\.", r"\1.transform_bottleneck."),
    (r"(\.dbfi\d)\.conv2\.", r"\1.side."),
)

_ENCODERS: dict[str, tuple[Rule, ...]] = {
    "r34": (
        (r"^encoder0\.0\.", "resnet.conv1."),
        (r"^encoder0\.1\.", "resnet.bn1."),
        (r"^encoder1\.0\.", "resnet.layer1."),
        (r"^encoder([234])\.", r"resnet.layer\1."),
        (r"^resnet\.conv1\.", "encoder.stem.conv."),
        (r"^resnet\.bn1\.", "encoder.stem.norm."),
        (r"^resnet\.(layer\d\.\d)\.conv(\d)\.", r"encoder.\1.unit\2.conv."),
        (r"^resnet\.(layer\d\.\d)\.bn(\d)\.", r"encoder.\1.unit\2.norm."),
        (r"^resnet\.(layer\d\.\d)\.downsample\.0\.", r"encoder.\1.shortcut.conv."),
        (r"^resnet\.(layer\d\.\d)\.downsample\.1\.", r"encoder.\1.shortcut.norm."),
    ),
    "swin-t": (
        (r"^encoder\.patch_embed\.proj1\.", "encoder.stem.conv."),
        (r"^encoder\.patch_embed\.proj([23])\.", r"encoder.stem\1.conv."),
        (r"^encoder\.patch_embed\.norm\.", "encoder.stem_norm."),
        (r"^encoder\.layers\.(\d)\.blocks\.", r"encoder.stages.\1."),
        (r"^encoder\.layers\.(\d)\.downsample\.", r"encoder.reductions.\1."),
    ),
    "vitae-s": (
        (r"^encoder\.layers\.0\.RC\.proj1\.", "encoder.stem.conv."),
        (r"^encoder\.layers\.0\.RC\.proj([23])\.", r"encoder.stem\1.conv."),
        (r"^encoder\.layers\.0\.RC\.norm\.", "encoder.stem_norm."),
        (r"^encoder\.layers\.(?P<level>[123])\.RC\.", _previous_reduction),
        (r"^encoder\.layers\.(\d)\.NC\.(\d+)\.PCM\.", r"encoder.stages.\1.\2.pcm."),
        (r"(?P<stage>^encoder\.stages\.\d\.\d+\.pcm)\.(?P<layer>\d)\.", _unit),
        (r"^encoder\.layers\.(\d)\.NC\.", r"encoder.stages.\1."),
    ),
}


def recognise(keys: Iterable[str]) -> str | None:
    """The architecture whose published layout has such keys, or None."""
    keys = tuple(keys)
    for arch, prefixes in SIGNATURES.items():
        if any(key.startswith(prefixes) for key in keys):
            return arch
    return None


def our_name(key: str, arch: str) -> str:
    """The name in our state dict of a key in a published file of this architecture."""
    for pattern, replacement in (*_ENCODERS[arch], *_DECODERS):
        key = re.sub(pattern, replacement, key)
    return key
