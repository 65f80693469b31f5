"""The numbers of the published implementation, for every reference case."""

import json

import numpy as np
import pytest
import torch

from tests.conftest import SHARED
from tests.model.reference import recipe, reference_network

CASES = sorted(path.stem for path in (SHARED / "reference" / "cases").glob("*_w*_i*.npz"))
LOGITS = {"global": "global_logits", "global_side2": "side2", "global_side1": "side1", "global_side0": "side0"}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_published_implementation(shared, case):
    expected = np.load(shared / "reference" / "cases" / f"{case}.npz")
    spec = json.loads(str(expected["spec"]))
    network = reference_network(shared, spec["arch"], spec["weight_seed"])
    x = torch.from_numpy(recipe(shared).image(spec["image_seed"], spec["height"], spec["width"], spec["batch"]))
    with torch.inference_mode():
        output = network(x)
    step = spec["stride"]
    ours = {name: value[..., ::step, ::step].numpy() for name, value in output._asdict().items()}

    for theirs, name in LOGITS.items():
        error = np.abs(ours[name] - expected[theirs])
        assert error.max() <= 1e-4 * np.abs(expected[theirs]).max(), name

    flipped = ours["global_logits"].argmax(1) != expected["global"].argmax(1)
    assert flipped.sum() <= max(1, flipped.size // 10_000)
    for theirs, name in (("local", "local_alpha"), ("fusion", "alpha")):
        error = np.abs(ours[name] - expected[theirs])[:, 0][~flipped]
        assert error.mean() <= 1e-5, name
        assert (error > 1e-4).mean() <= 1e-3, name
