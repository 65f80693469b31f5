"""Values that several verbs share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p3m_edge.cli.options.export import buildable, limit, target_names
from p3m_edge.cli.options.values import MAX_SIDE, Size, size
from p3m_edge.errors import MissingError, UsageError
from p3m_edge.targets import TARGETS

SIDES = st.integers(1, MAX_SIDE // 32).map(lambda n: n * 32)


@given(SIDES, SIDES, st.sampled_from("xX×"))
def test_valid_sizes(width, height, cross):
    assert size(f"{width}{cross}{height}") == Size(width, height)


@given(st.integers(0, 20_000), st.integers(0, 20_000))
def test_an_invalid_size_names_a_valid_one_nearby(width, height):
    try:
        found = size(f"{width}x{height}")
    except UsageError as error:
        found = size(str(error.hint).removeprefix("the nearest valid size is "))
    for got, asked in zip(found, (width, height), strict=True):
        assert abs(got - min(max(asked, 32), MAX_SIDE)) <= 16


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("512", "not WIDTHxHEIGHT"),
        ("axb", "not WIDTHxHEIGHT"),
        ("512x", "not WIDTHxHEIGHT"),
        ("-32x32", "not WIDTHxHEIGHT"),
        ("512.0x512", "not WIDTHxHEIGHT"),
        ("٥١٢x512", "not WIDTHxHEIGHT"),
        ("0x512", "width is zero"),
        ("512x0", "height is zero"),
        ("500x512", "width 500 is not a multiple of 32"),
        ("512x500", "height 500 is not a multiple of 32"),
        ("8224x512", "width 8224 is more than 8192"),
        ("9" * 5000 + "x32", "not WIDTHxHEIGHT"),
    ],
)
def test_bad_sizes(text, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        size(text)
    assert caught.value.hint


def test_target_names_keep_their_order_and_come_once():
    assert target_names(["openvino-fp32, onnx-fp32", "onnx-fp32"]) == ("openvino-fp32", "onnx-fp32")


def test_all_means_those_that_can_be_built_here():
    """Experimental ones are not among them."""
    expected = tuple(name for name, target in TARGETS.items() if buildable(target) and not name.startswith("coreai-"))
    if not expected:
        with pytest.raises(MissingError, match="no target"):
            target_names(["all"])
    else:
        assert target_names(["all"]) == expected


def test_mistyped_targets():
    with pytest.raises(UsageError) as unknown:
        target_names(["onnx-fp23"])
    assert "onnx-fp32" in str(unknown.value.hint)
    with pytest.raises(UsageError, match="no target"):
        target_names([" ,"])


def test_limits():
    assert limit("flips=1e-3") == ("flips", 1e-3)
    assert limit("local-mean=0") == ("local_mean", 0.0)
    for text, reason in (
        ("flips", "not NAME=VALUE"),
        ("flip=1", "unknown limit"),
        ("flips=x", "not a number"),
        ("flips=-1", "not a number"),
        ("flips=nan", "not a number"),
        ("flips=inf", "not a number"),
    ):
        with pytest.raises(UsageError, match=reason):
            limit(text)
