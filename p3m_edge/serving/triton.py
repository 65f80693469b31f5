"""``config.pbtxt``: what Triton has to know about a model, in protobuf's text format.

Source: ``model_config.proto`` of Triton, with whose own classes the tests read it.
"""

from __future__ import annotations

from dataclasses import dataclass

from p3m_edge.manifest import Manifest

WARMUP = "warmup"
"""The folder in which Triton looks for the files of a warm-up."""


@dataclass(frozen=True)
class Schedule:
    """How Triton shares a model among requests.

    Attributes
    ----------
    batch
        The most frames that it runs together.
    delay
        Microseconds that a request may wait for others.
    instances
        Copies of the model side by side; where there are GPUs, on each of them.
    """

    batch: int = 8
    delay: int = 2000
    instances: int = 1


def config(manifest: Manifest, batch: int, schedule: Schedule, warmups: dict[str, tuple[int, ...]]) -> str:
    """The text of ``config.pbtxt``. It has no name in it, so the folder's name is the model's.

    Parameters
    ----------
    manifest
        Of an artefact of ONNX Runtime.
    batch
        The most frames in a batch; 0: the number of frames is that of the manifest, and Triton batches nothing.
    schedule
        Delay and instances.
    warmups
        The files in the folder ``warmup``, uint8, and their shapes (of one frame where there are batches).
    """
    first = [] if batch else [manifest.input.batch]
    sides = [-1 if side is None else side for side in (manifest.input.height, manifest.input.width)]
    inputs = _tensor(manifest.input.name, "TYPE_UINT8", [*first, *sides, 3])
    outputs = ",\n".join(
        _tensor(output.name, "TYPE_FP32", [*first, output.channels, *sides]) for output in manifest.outputs
    )
    parts = [
        'backend: "onnxruntime"',
        f'default_model_filename: "{manifest.model_file}"',
        f"max_batch_size: {batch}",
        f"input [\n{inputs}\n]",
        f"output [\n{outputs}\n]",
        f"instance_group [\n  {{ count: {schedule.instances} kind: KIND_AUTO }}\n]",
    ]
    if batch:
        parts.append(f"dynamic_batching {{ max_queue_delay_microseconds: {schedule.delay} }}")
    sizes = sorted({1, batch or 1})
    warm = ",\n".join(
        f'  {{ name: "{name}, {size} at a time" batch_size: {size} inputs {{ key: "{manifest.input.name}" value '
        f'{{ data_type: TYPE_UINT8 dims: {list(shape)} input_data_file: "{name}" }} }} }}'
        for name, shape in warmups.items()
        for size in sizes
    )
    return "\n".join([*parts, f"model_warmup [\n{warm}\n]", ""])


def _tensor(name: str, kind: str, dims: list[int]) -> str:
    return f'  {{ name: "{name}" data_type: {kind} dims: {dims} }}'
