"""What is beside people: nobody is in a part, small ones are left out, bad files do not stop the others."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_edge.data.compose.backgrounds import strips, write_places
from p3m_edge.data.sets import open_set, read
from p3m_edge.errors import InputError, OutputError, UsageError
from p3m_edge.imageio import read_image
from tests.portraits import portrait, write_set


@settings(max_examples=60)
@given(
    st.tuples(st.integers(0, 90), st.integers(0, 120), st.integers(1, 90), st.integers(1, 120)),
    st.integers(1, 40),
    st.integers(3, 255),
)
def test_nobody_is_in_a_part(box, least, value):
    x, y, wide, high = box
    alpha = np.zeros((160, 120), np.uint8)
    alpha[y : y + high, x : x + wide] = value
    for strip in strips(alpha, least).values():
        seen = alpha[strip]
        assert min(seen.shape) >= least
        assert not seen.any()


def test_the_four_sides():
    alpha = np.zeros((200, 300), np.uint8)
    cv2.rectangle(alpha, (100, 50), (180, 149), 255, -1)
    alpha[0, 0] = 2  # noise of the matte
    rows, columns = slice(0, 200), slice(0, 300)
    assert strips(alpha, 40) == {
        "left": (rows, slice(0, 97)), "right": (rows, slice(184, 300)),
        "top": (slice(0, 47), columns), "bottom": (slice(153, 200), columns),
    }  # fmt: skip
    assert list(strips(alpha, 100)) == ["right"]
    assert strips(np.full((200, 300), 255, np.uint8)) == {}
    assert strips(np.zeros((200, 300), np.uint8)) == {"whole": (rows, columns)}


def test_parts_of_a_set(tmp_path):
    folder = write_set(tmp_path / "in", [portrait(120, 160, seed=i) for i in range(3)])
    (folder / "alpha" / "portrait1.png").write_text("no picture")
    cut = write_places(folder, tmp_path / "out", 20, workers=1)
    assert len(cut.skipped) == 1
    assert "portrait1.png" in cut.skipped[0]
    files = sorted((tmp_path / "out").iterdir())
    assert cut.parts == len(files) > 2
    for item in open_set(folder).items:
        if item.name == "portrait1":
            continue
        sample = read(item)
        for side, strip in strips(sample.alpha, 20).items():
            written = read_image(tmp_path / "out" / f"{item.name}_{side}.png").rgb
            assert np.array_equal(written, sample.image[strip])
    again = write_places(folder, tmp_path / "out", 20, workers=1)
    assert again.parts == cut.parts


def test_bad_folders(tmp_path):
    folder = write_set(tmp_path / "in", [portrait()])
    with pytest.raises(UsageError, match="lie in each other"):
        write_places(folder, folder / "out")
    with pytest.raises(InputError):
        write_places(tmp_path / "nowhere", tmp_path / "out")
    test = write_set(tmp_path / "P3M-500-P", [portrait()], image="blurred_image", alpha="mask")
    with pytest.raises(UsageError, match="P3M-500-P, a test set"):
        write_places(test, tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be used"):
        write_places(folder, tmp_path / "file")
