"""Reasons in a report name no folders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p3m_edge.benchmarks.rows import redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ada/models/a/model.onnx is missing", "model.onnx is missing"),
        ("'/srv/x y/art/model.xml' was changed", "'art/model.xml' was changed"),
        (r"C:\Users\ada\model.onnx", "model.onnx"),
        ("12 and/or 3/4 of it", "12 and/or 3/4 of it"),
        (r"\\nas\share\ada\model.onnx", "model.onnx"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
    ],
)
def test_reasons_name_files_not_folders(text: str, expected: str) -> None:
    known = {"/srv/x y": "", "/srv/x y/art": "art"}
    assert redact(text, known) == expected


@given(st.lists(st.from_regex(r"[a-z]{3,8}", fullmatch=True), min_size=1, max_size=5))
def test_no_folder_survives(parts: list[str]) -> None:
    text = redact(f"cannot read /{'/'.join(['QQQ', *parts])}: no", {})
    assert "QQQ" not in text
    assert text.endswith(f"{parts[-1]}: no")
