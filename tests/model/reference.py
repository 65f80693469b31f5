"""Files in the layout of the published checkpoints, with the weights of the reference cases."""

import importlib.util
import json
import tempfile
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from p3m_edge.model import P3MNet, load_checkpoint

PUBLISHED = {"r34": "r34", "swin": "swin-t", "vitae": "vitae-s"}  # their names, ours


@cache
def recipe(shared: Path) -> ModuleType:
    """The module that draws weights and inputs."""
    spec = importlib.util.spec_from_file_location("recipe", shared / "reference" / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=1)
def published_state(shared: Path, name: str, seed: int) -> dict[str, Tensor]:
    """A whole state dict as published: duplicates (one tensor under two keys), unused heads, counters, masks.

    The last one is kept; tests must not change it.
    """
    draw, canonical = recipe(shared).draw, recipe(shared).canonical_key
    drawn: dict[str, Tensor] = {}
    state = {}
    for key, shape, dtype in json.loads((shared / "reference" / "cases" / f"{name}.keys.json").read_text()):
        if dtype != "float32" or key.endswith("attn_mask"):
            state[key] = torch.zeros(shape, dtype=getattr(torch, dtype))
            continue
        original = canonical(key) if name == "r34" else key
        if original not in drawn:
            drawn[original] = torch.from_numpy(draw(key, tuple(shape), seed))
        state[key] = drawn[original]
    return state


@lru_cache(maxsize=1)
def reference_network(shared: Path, name: str, seed: int) -> P3MNet:
    """The network of a reference case, through a file and :func:`load_checkpoint`.

    The last one is kept; tests must not change it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}_{seed}.pth"
        torch.save({"state_dict": published_state(shared, name, seed)}, path)
        network = load_checkpoint(path)
    if name == "vitae":  # the projections are not in the file
        for layer, cell in enumerate(network.encoder.get_submodule("stages.0").children()):
            projection = cell.get_buffer("attn.projection")
            projection.copy_(torch.from_numpy(recipe(shared).performer_projection(seed, layer)))
    return network
