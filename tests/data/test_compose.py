"""Composites: the equation, no trace of the old background, shared light, empty and whole pictures, what is drawn."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from p3m_edge.data.augment import published
from p3m_edge.data.compose import vary
from p3m_edge.data.compose.composite import (
    Variation,
    composite,
    drawn_background,
    empty,
    framed,
    plain_background,
)
from p3m_edge.data.compose.folder import write_set
from p3m_edge.data.compose.stock import Pick, Pool, Recipe, Source, Stock, open_stock, picks
from p3m_edge.data.compose.vary import Head, bent, dressed, holding
from p3m_edge.data.recipe import claim, numbered
from p3m_edge.data.sample import Item, Sample
from p3m_edge.data.sets import COMPOSED, open_set, read
from p3m_edge.errors import InputError, OutputError, UsageError
from p3m_edge.imageio import read_image, write_png
from tests.portraits import portrait
from tests.portraits import write_set as write_portraits

BLUE, RED, GREEN = (20, 30, 230), (220, 40, 30), (30, 200, 40)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def flat(colour: tuple[int, int, int], height: int = 120, width: int = 160) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (height, width, 3)).copy()


def strands(height: int = 240, width: int = 320) -> Sample:
    """A red person with fine hair before blue: every colour of the picture is known."""
    alpha = np.zeros((height, width), np.uint8)
    cv2.ellipse(alpha, (width // 2, height // 2), (width // 6, height // 3), 0, 0, 360, 255, -1, cv2.LINE_AA)
    for angle in np.linspace(0, 2 * np.pi, 60):
        end = (int(width // 2 + 0.3 * width * np.cos(angle)), int(height // 2 + 0.4 * height * np.sin(angle)))
        cv2.line(alpha, (width // 2, height // 2), end, 255, 1, cv2.LINE_AA)
    share = alpha[..., None] / 255
    image = np.rint(share * RED + (1 - share) * np.array(BLUE)).astype(np.uint8)
    return Sample("strands", image, alpha, foreground=flat(RED, height, width), background=flat(BLUE, height, width))


def test_the_equation_holds_to_the_last_bit():
    for seed in range(6):
        made = composite(portrait(seed=seed), flat(GREEN), rng(seed))
        assert made.foreground is not None
        assert made.background is not None
        share = made.alpha[..., None] / 255
        expected = share * made.foreground + (1 - share) * made.background
        assert np.abs(expected - made.image).max() <= 0.5 + 1e-4
        assert made.image.shape == (120, 160, 3)
        assert 0 < (made.alpha > 127).mean() < 1


def test_nothing_of_the_old_background_comes_along():
    for seed in range(8):
        made = composite(strands(), flat(GREEN), rng(seed))
        soft = (made.alpha > 8) & (made.alpha < 247)
        assert soft.sum() > 50
        assert made.foreground is not None
        person = made.foreground[made.alpha > 8].astype(int)
        assert np.ptp(person, axis=0).max() <= 6, seed  # one colour, however thin the hair


def test_what_is_hidden_in_the_picture_stays_hidden():
    shown = portrait(seed=3)
    assert shown.foreground is not None
    assert shown.face_mask is not None
    hidden = shown.image.copy()
    hidden[shown.face_mask > 0] = 7
    made = composite(replace(shown, image=hidden), flat(GREEN), rng(1))
    assert made.face_mask is not None
    inside = cv2.erode(made.face_mask, np.ones((5, 5), np.uint8)) > 0
    assert inside.sum() > 20
    assert np.ptp(made.image[inside].astype(int), axis=0).max() <= 2
    assert (made.alpha[made.face_mask > 0] > 127).all()


def test_light_follows_the_background_a_little():
    means = {}
    for name, light in {"dark": 20, "bright": 235}.items():
        made = [composite(strands(), flat((light,) * 3), rng(seed)) for seed in range(12)]
        means[name] = np.mean([one.foreground[one.alpha > 127].mean() for one in made if one.foreground is not None])
    assert 5 < means["bright"] - means["dark"] < 120


def test_bad_portraits_are_named():
    nobody = replace(portrait(), alpha=np.zeros((60, 80), np.uint8), name="nobody")
    with pytest.raises(InputError, match="nobody shows nobody"):
        composite(nobody, flat(GREEN), rng())
    with pytest.raises(InputError, match="has no foreground"):
        composite(replace(portrait(), foreground=None), flat(GREEN), rng())


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 500, 3), (40, 40, 3), (900, 700, 3)])
def test_backgrounds_of_any_size(shape):
    picture = rng().integers(0, 256, shape, np.uint8)
    for seed in range(8):
        assert drawn_background(picture, (96, 64), rng(seed)).shape == (64, 96, 3)


def test_backgrounds_differ_in_crop_focus_and_light():
    picture = rng().integers(0, 256, (400, 400, 3), np.uint8)
    drawn = [drawn_background(picture, (200, 200), rng(seed)) for seed in range(60)]
    sharpness = np.array([cv2.Laplacian(one, cv2.CV_64F).std() for one in drawn])
    assert 0.15 < (sharpness < 12).mean() < 0.55
    assert np.ptp([one.mean() for one in drawn]) > 15
    assert len({one.tobytes() for one in drawn}) == 60


def test_plain_backgrounds_are_one_colour_or_soft():
    kinds: Counter[str] = Counter()
    for seed in range(30):
        plain = plain_background((60, 40), rng(seed)).astype(int)
        assert np.abs(np.diff(plain, axis=0)).max() <= 16
        kinds["one"] += int(np.ptp(plain, axis=(0, 1)).max() <= 1)
    assert 5 < kinds["one"] < 25


def test_an_empty_picture_passes_through_trimap_and_crop():
    made = empty("00000000", flat(GREEN))
    assert not made.alpha.any()
    batch = published((64,), 48)(made, rng())
    assert batch.trimap is not None
    assert not batch.trimap.any()
    assert batch.image.shape == (48, 48, 3)


@pytest.mark.parametrize("size", [(64, 64), (40, 90), (150, 50)])
def test_a_whole_portrait_keeps_its_picture(size):
    shown = portrait(120, 160)
    for seed in range(4):
        made = framed(shown, size, rng(seed))
        assert made.foreground is not None
        assert made.background is not None
        assert made.image.shape == (size[1], size[0], 3)
        share = made.alpha[..., None] / 255
        assert np.abs(share * made.foreground + (1 - share) * made.background - made.image).mean() < 4
        assert made.face_mask is not None
        assert made.face_mask.any()
    unknown = framed(replace(shown, face_mask=None), size, rng()).face_mask
    assert unknown is not None
    assert not unknown.any()


def source(name: str, pictures: int, weight: float = 1.0) -> Source:
    return Source(name, pictures, "", weight)


def stock(*sizes: int, weights: tuple[float, ...] | None = None) -> Stock:
    weights = weights or (1.0,) * len(sizes)
    portraits = tuple(
        Pool(source(f"set{i}", size, weight), tuple(Item(f"{i}-{k}", Path(f"{k}")) for k in range(size)))
        for i, (size, weight) in enumerate(zip(sizes, weights, strict=True))
    )
    return Stock(portraits, (Pool(source("behind", 9), tuple(Path(f"b{k}") for k in range(9))),))


def recipe(one: Stock, seed: int = 0, empty: float = 0.05, whole: float = 0.0, vary: float = 0.0) -> Recipe:
    portraits = tuple(part.source for part in one.portraits)
    behind = tuple(part.source for part in one.backgrounds)
    return Recipe(seed, 64, 64, 95, False, whole, empty, portraits, behind, vary)


def drawn(one: Stock, count: int, **settings: float) -> list[Pick]:
    return list(picks(one, recipe(one, **settings), count))  # type: ignore[arg-type]  # the seed is none of them


def test_sets_by_their_weights_and_portraits_equally_often():
    uses = Counter(pick.set for pick in drawn(stock(3, 50), 600, empty=0))
    assert uses == {"set0": 300, "set1": 300}
    weighted = drawn(stock(3, 7, weights=(3, 1)), 800, empty=0)
    assert Counter(pick.set for pick in weighted) == {"set0": 600, "set1": 200}
    for name, pictures in (("set0", 3), ("set1", 7)):
        times = Counter(pick.item.name for pick in weighted if pick.set == name and pick.item is not None)
        assert len(times) == pictures
        assert max(times.values()) - min(times.values()) <= 1
    orders = [tuple(pick.item.name for pick in weighted if pick.set == "set1" and pick.item is not None)]
    assert orders[0][:7] != orders[0][7:14]  # a new order in each round


def test_kinds_have_their_shares():
    kinds = Counter(pick.kind for pick in drawn(stock(5), 3000, empty=0.1, whole=0.2))
    assert 230 < kinds["empty"] < 370
    assert 500 < kinds["whole"] < 700
    assert all(pick.item is None for pick in drawn(stock(5), 50, empty=1))
    plain = [pick for pick in drawn(stock(5), 3000) if pick.background is None]
    assert 170 < len(plain) < 310


def test_what_is_drawn_depends_on_seed_and_number_alone():
    one = stock(4, 6)
    assert drawn(one, 40) == drawn(one, 90)[:40]
    assert drawn(one, 40) == drawn(one, 40)
    other = drawn(one, 40, seed=1)
    assert [pick.background for pick in other] != [pick.background for pick in drawn(one, 40)]
    assert not {pick.name for pick in other} & {pick.name for pick in drawn(one, 40)}


def test_backgrounds_by_the_weights_of_their_folders():
    two = replace(
        stock(3),
        backgrounds=tuple(
            Pool(source(name, files, weight), tuple(Path(f"{name}{k}") for k in range(files)))
            for name, files, weight in (("many", 50, 1.0), ("few", 2, 3.0))
        ),
    )
    uses = Counter(str(pick.background)[:3] for pick in drawn(two, 4000) if pick.background is not None)
    assert 0.72 < uses["few"] / uses.total() < 0.78


def test_only_composed_pictures_are_varied():
    made = drawn(stock(5), 3000, vary=0.5, whole=0.2)
    kinds = Counter(pick.kind for pick in made if pick.texture is not None)
    assert set(kinds) == {"composed"}
    assert 0.45 < kinds["composed"] / sum(pick.kind == "composed" for pick in made) < 0.55
    assert [replace(pick, texture=None) for pick in made][:20] != made[:20]
    assert all(pick.texture is None for pick in drawn(stock(5), 200))


def test_a_varied_composite_is_another_one_and_keeps_the_equation():
    changed = []
    for seed in range(12):
        shown = portrait(120, 160, seed=seed)
        made = composite(shown, flat(GREEN, 240, 320), rng(seed), Variation(flat(BLUE, 60, 60), rng(seed + 100)))
        assert made.foreground is not None
        assert made.background is not None
        share = made.alpha[..., None] / 255
        expected = share * made.foreground + (1 - share) * made.background
        assert np.abs(expected - made.image).max() <= 0.5 + 1e-4
        plain = composite(shown, flat(GREEN, 240, 320), rng(seed))
        assert made.alpha.shape == plain.alpha.shape == (240, 320)
        changed.append(np.abs(made.image.astype(int) - plain.image).mean())
    assert np.median(changed) > 1  # of 255, over the whole frame; most of it is background
    again = composite(portrait(120, 160), flat(GREEN), rng(1), Variation(flat(BLUE), rng(2)))
    assert np.array_equal(
        again.image, composite(portrait(120, 160), flat(GREEN), rng(1), Variation(flat(BLUE), rng(2))).image
    )


def head_and_trunk() -> tuple[np.ndarray, np.ndarray, Head]:
    """Red, with a strand of hair that hangs beside the trunk; alpha, colours and head."""
    alpha = np.zeros((200, 200), np.uint8)
    cv2.circle(alpha, (100, 50), 30, 255, -1)
    cv2.rectangle(alpha, (60, 85), (140, 199), 255, -1)
    cv2.line(alpha, (150, 60), (155, 190), 255, 2)
    return alpha, flat(RED, 200, 200), Head.of(np.array([[70.0, 20.0], [130.0, 80.0]]))


def test_cloth_changes_and_head_and_strands_do_not():
    alpha, colours, head = head_and_trunk()
    touched = np.zeros((200, 200), bool)
    for seed in range(30):
        new = dressed(colours, alpha, head, flat(BLUE, 200, 200), rng(seed))
        touched |= np.abs(new.astype(int) - colours).max(axis=2) > 2
    assert touched[100:195, 65:135].mean() > 0.95
    assert not touched[head.distance(200, 200) < 1].any()
    assert not touched[60:190, 146:160].any()
    nothing = np.zeros_like(alpha)
    assert np.array_equal(dressed(colours, nothing, head, flat(BLUE, 200, 200), rng()), colours)


def test_a_badge_hangs_from_the_neck_before_the_trunk(monkeypatch):
    alpha, colours, head = head_and_trunk()
    for chance in ("DYED", "TEXTURED", "PATCHED"):
        monkeypatch.setattr(vary, chance, 0)
    monkeypatch.setattr(vary, "BADGED", 1)
    for seed in range(12):
        changed = (dressed(colours, alpha, head, flat(BLUE, 200, 200), rng(seed)) != colours).any(axis=2)
        assert changed[90:120, 80:120].any()  # both straps meet below the neck
        assert not changed[cv2.dilate(alpha, np.ones((9, 9), np.uint8)) == 0].any()
        assert 50 < changed.sum() < 0.4 * (alpha > 0).sum()
    monkeypatch.setattr(vary, "BADGED", 0)
    assert np.array_equal(dressed(colours, alpha, head, flat(BLUE, 200, 200), rng()), colours)


def test_what_is_held_touches_the_trunk_and_never_the_head():
    alpha, colours, head = head_and_trunk()
    person = np.dstack([colours / 255 * (alpha / 255)[..., None], alpha / 255]).astype(np.float32)
    inside = head.distance(200, 200) < 1.2
    grown = 0
    for seed in range(40):
        new = holding(person, head, flat(BLUE, 200, 200), rng(seed))
        assert (new[..., 3] >= person[..., 3] - 1e-6).all()
        assert np.array_equal(new[inside], person[inside])
        more = new[..., 3] > person[..., 3] + 0.5
        grown += bool(more.any())
        parts, labels = cv2.connectedComponents((new[..., 3] > 0.5).astype(np.uint8))
        assert parts <= cv2.connectedComponents((alpha > 127).astype(np.uint8))[0]
        assert labels.shape == (200, 200)
    assert grown > 5


def test_bending_leaves_the_border_where_it_is():
    person = np.zeros((160, 120, 4), np.float32)
    person[40:, 30:90] = 1
    mask = (person[..., 3] * 255).astype(np.uint8)
    shifts = []
    for seed in range(10):
        new, bent_mask = bent(person, mask, rng(seed))
        for border in (new[0], new[-1], new[:, 0], new[:, -1]):
            assert border.shape[-1] == 4
        assert np.array_equal(new[-1], person[-1])
        assert np.array_equal(new[:, 0], person[:, 0])
        other = np.abs((new[..., 3] > 0.5).astype(int) - (bent_mask > 127)).mean()
        assert other < 0.01
        shifts.append(np.abs(new[..., 3] - person[..., 3]).sum())
    assert min(shifts) > 20


@pytest.fixture
def folders(tmp_path):
    """Two small sets, one of them with colours and face masks, and a few backgrounds."""
    coloured = write_portraits(
        tmp_path / "a", [portrait(seed=i) for i in range(3)], foreground="fg", background="bg", face_mask="facemask"
    )
    plain = write_portraits(tmp_path / "b", [portrait(seed=i) for i in range(3, 5)])
    behind = tmp_path / "behind"
    behind.mkdir()
    for i in range(3):
        write_png(behind / f"{i}.png", portrait(90, 70, seed=10 + i).image)
    return coloured, plain, behind


def test_opening_names_sets_by_what_tells_them_apart(folders, tmp_path):
    coloured, plain, behind = folders
    opened = open_stock([(coloured, 1.0), (plain, 2.0)], [(behind, 1.0)])
    assert [one.source.name for one in opened.portraits] == ["a", "b"]
    assert [one.source.weight for one in opened.portraits] == [1.0, 2.0]
    twin = write_portraits(tmp_path / "other" / "a", [portrait()])
    names = [one.source.name for one in open_stock([(coloured, 1.0), (twin, 1.0)], [(behind, 1.0)]).portraits]
    assert names == [f"{tmp_path.name}/a", "other/a"]
    with pytest.raises(UsageError, match="given twice"):
        open_stock([(coloured, 1.0), (tmp_path / "other" / ".." / "a", 1.0)], [(behind, 1.0)])
    with pytest.raises(UsageError, match="given twice"):
        open_stock([(coloured, 1.0)], [(behind, 1.0), (behind, 2.0)])
    test = write_portraits(tmp_path / "P3M-500-P", [portrait()], image="blurred_image", alpha="mask")
    for portraits, places in ((test, behind), (coloured, test / "blurred_image")):
        with pytest.raises(UsageError, match="P3M-500-P, a test set"):
            open_stock([(portraits, 1.0)], [(places, 1.0)])
    split = write_portraits(tmp_path / "p3m" / "train", [portrait()])
    write_portraits(tmp_path / "p3m" / "test", [portrait()])
    assert open_stock([(tmp_path / "p3m", 1.0)], [(behind, 1.0)]).portraits[0].entries == open_set(split).items


def test_a_changed_folder_is_another_one(folders):
    coloured, _, behind = folders
    before = open_stock([(coloured, 1.0)], [(behind, 1.0)])
    assert open_stock([(coloured, 1.0)], [(behind, 1.0)]) == before
    write_png(behind / "3.png", portrait().image)
    after = open_stock([(coloured, 1.0)], [(behind, 1.0)])
    assert after.backgrounds != before.backgrounds
    assert after.portraits == before.portraits


def test_colours_and_masks_on_disc(folders, tmp_path):
    coloured, _, behind = folders
    one = open_stock([(coloured, 1.0)], [(behind, 1.0)])
    made = replace_recipe(recipe(one, empty=0.2), quality=0, colours=True)
    done = write_set(tmp_path / "out", one, made, 8, workers=1)
    assert (done.made, done.kept, done.skipped) == (8, 0, ())
    found = open_set(tmp_path / "out")
    assert len(found.items) == 8
    masks = 0
    for item in found.items:
        sample = read(item)
        assert sample.foreground is not None
        assert sample.background is not None
        assert sample.face_mask is not None
        share = sample.alpha[..., None] / 255
        error = share * sample.foreground + (1 - share) * sample.background - sample.image
        assert np.abs(error).max() <= 0.5 + 1e-4
        masks += bool(sample.face_mask.any())
    assert masks >= 4
    rows = (tmp_path / "out" / COMPOSED).read_text().splitlines()
    assert rows[0] == "name,kind,set,portrait,background,seed"
    assert len(rows) == 9


def replace_recipe(one: Recipe, **changes: object) -> Recipe:
    return Recipe(**{**{name: getattr(one, name) for name in one.__struct_fields__}, **changes})


def test_a_picture_is_the_same_whatever_was_made_before(folders, tmp_path):
    coloured, _, behind = folders
    one = open_stock([(coloured, 1.0)], [(behind, 1.0)])
    whole = replace_recipe(recipe(one, whole=0.3), quality=0)
    write_set(tmp_path / "all", one, whole, 6, workers=1)
    for count in (2, 5, 6):
        done = write_set(tmp_path / "parts", one, whole, count, workers=1)
        assert done.made + done.kept == count
    for file in (tmp_path / "all").rglob("*.*"):
        assert file.read_bytes() == (tmp_path / "parts" / file.relative_to(tmp_path / "all")).read_bytes()
    fewer = write_set(tmp_path / "parts", one, whole, 1, workers=1)
    assert (fewer.made, fewer.kept) == (0, 1)
    assert len((tmp_path / "parts" / COMPOSED).read_text().splitlines()) == 7  # all that are there


def test_numbers_and_claims(tmp_path):
    assert not set(numbered(0, 1_000_000)[-3:]) & set(numbered(1, 3))
    with pytest.raises(InputError, match=">= 0"):
        numbered(-1, 1)
    with pytest.raises(UsageError, match="1 to 1000000"):
        numbered(0, 1_000_001)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"it holds notes\.txt"):
        claim(tmp_path / "compose.json", source("a", 1), ("image",))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "new").mkdir()
    claim(tmp_path / "new" / "compose.json", source("a", 1), ("image",))
    claim(tmp_path / "new" / "compose.json", source("a", 1), ("image",))
    with pytest.raises(UsageError, match="other settings: name, weight"):
        claim(tmp_path / "new" / "compose.json", source("b", 1, 2.0), ("image",))


def test_the_picture_on_disc_is_the_one_that_was_composed(folders, tmp_path):
    coloured, _, behind = folders
    one = open_stock([(coloured, 1.0)], [(behind, 1.0)])
    lossy = recipe(one)
    write_set(tmp_path / "jpeg", one, lossy, 3, workers=1)
    write_set(tmp_path / "png", one, replace_recipe(lossy, quality=0), 3, workers=1)
    for file in sorted((tmp_path / "jpeg" / "image").iterdir()):
        exact = read_image(tmp_path / "png" / "image" / f"{file.stem}.png").rgb.astype(int)
        assert file.suffix == ".jpg"
        assert np.abs(read_image(file).rgb - exact).mean() < 5
