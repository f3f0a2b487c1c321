"""Masks: what their values mean is decided for a whole set."""

import numpy as np
import pytest
from PIL import Image

from diffad_jax.data import masks
from diffad_jax.data.images import ImageError
from diffad_jax.data.photo import Rules

RULES = Rules("bilinear")
GRADIENT = np.add.outer(8 * np.arange(12), 5 * np.arange(16)).astype(np.uint8)


def save(path, array, **kwargs):
    Image.fromarray(array).save(path, **kwargs)
    return str(path)


def levels(path):
    return masks.survey([path], RULES)[0].levels(path)


def read(path, *arguments):
    return masks.survey([path], RULES)[0].read(path, *arguments)


@pytest.mark.parametrize(("rule", "want"), [("full", 1), ("half", 2), ("any", 3)])
def test_mask_rules(tmp_path, rule, want):
    # Resized 6 -> 3: columns of 50, 200 and 255.
    mask = np.zeros((6, 6), np.uint8)
    mask[:, 1], mask[:, 2:4], mask[:, 4:] = 100, 200, 255
    path = save(tmp_path / "mask.png", mask)
    got = read(path, 3, rule, (6, 6))
    assert got.dtype == np.uint8 and got[0].sum() == want
    np.testing.assert_array_equal(np.unique(read(path, None, rule)), [0, 1])


def test_full_counts_what_rounds_to_white(tmp_path):
    # As in the published code, which resizes 8-bit masks: 254.5 rounds to 255, 254.49 does not.
    mask = np.full((4, 4), 255, np.uint8)
    mask[0], mask[1, :2] = 254, 253
    got = read(save(tmp_path / "mask.png", mask), 2, "full")
    np.testing.assert_array_equal(got, [[0, 1], [1, 1]])


def test_masks_of_class_numbers_and_of_colours(tmp_path):
    numbers = np.arange(16, dtype=np.uint8).reshape(4, 4) % 4
    want = np.where(numbers > 0, 255, 0)
    save(tmp_path / "grey.png", numbers)
    save(tmp_path / "deep.png", numbers.astype(np.uint16))
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 128 * (numbers > 0)
    save(tmp_path / "red.png", red)
    palette = Image.fromarray(numbers).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    palette.save(tmp_path / "palette.png")
    for name in ("grey", "deep", "red", "palette"):
        got = levels(str(tmp_path / f"{name}.png"))
        np.testing.assert_array_equal(got, want, err_msg=name)


def test_noisy_grey_masks_keep_their_levels(tmp_path):
    mask = np.array([[0, 4, 9], [120, 250, 255]], np.uint8)
    np.testing.assert_array_equal(levels(save(tmp_path / "m.png", mask)), mask)


def test_a_mask_of_another_size_is_refused(tmp_path):
    path = save(tmp_path / "mask.png", GRADIENT)
    with pytest.raises(ImageError, match=r"mask.png is 16 × 12, its photo 8 × 8"):
        read(path, 4, "half", (8, 8))


def test_misspelt_rules_are_named(tmp_path):
    with pytest.raises(ValueError, match="config.evaluation.mask_rule = 'some': choose full"):
        read(save(tmp_path / "a.png", GRADIENT), 5, "some")


def blob(value, size=24, dtype=np.uint8):
    """A defect of 8 × 8 pixels."""
    mask = np.zeros((size, size), dtype)
    mask[4:12, 6:14] = value
    return mask


def written(tmp_path, arrays):
    return [save(tmp_path / f"{i}.png", array) for i, array in enumerate(arrays)]


@pytest.mark.parametrize("rule", ["full", "half", "any"])
@pytest.mark.parametrize(
    "values",
    [(10, 20, 30, 40), (50, 100), (1, 2, 3), (200,), (254,), (128, 255), (85, 170, 255), (3, 255)],
    ids=str,
)
def test_labels_are_anomalous_whatever_their_value(tmp_path, values, rule):
    """Read file by file, 40 of 10, 20, 30, 40 counted for nothing, and 50 and 100 both."""
    files = written(tmp_path, [blob(v) for v in values])
    found, problems = masks.survey(files, RULES)
    assert found.values == values and found.are_labels and not problems
    for file in files:
        np.testing.assert_array_equal(found.read(file, None, rule), blob(1))
        assert found.read(file, 12, rule).sum() == 16  # halved, on whole pixels


def test_labels_in_one_mask_inside_each_other_and_thin_ones(tmp_path):
    mask = blob(10)
    mask[4:7, 6:9] = 20
    mask[18, 2:20] = 30
    found, _ = masks.survey(written(tmp_path, [mask, blob(40)]), RULES)
    assert found.values == (10, 20, 30, 40) and found.are_labels


def test_sixteen_bit_labels_and_whites(tmp_path):
    for value in (7, 300, 65535):
        files = written(tmp_path, [blob(value, dtype=np.uint16)])
        np.testing.assert_array_equal(read(files[0], None, "full"), blob(1))


def test_labels_in_grey_and_in_colours_of_one_set(tmp_path):
    colours = np.zeros((24, 24, 3), np.uint8)
    colours[..., 0] = blob(128)
    files = written(tmp_path, [colours, blob(64)])
    found, _ = masks.survey(files, RULES)
    for file in files:
        np.testing.assert_array_equal(found.read(file, None, "full"), blob(1))


@pytest.mark.parametrize("white", [255, 200])
def test_grey_edges_are_no_labels(tmp_path, white):
    """Resized, as the published code does, the same pixels count as before: white ones alone."""
    smooth = np.asarray(
        Image.fromarray(blob(white, 40)).resize((26, 26), Image.Resampling.BILINEAR)
    )
    files = written(tmp_path, [smooth, np.rot90(smooth).copy()])
    found, _ = masks.survey(files, RULES)
    assert not found.are_labels and found.white == white
    np.testing.assert_array_equal(found.read(files[0], None, "full"), smooth == white)
    np.testing.assert_array_equal(found.read(files[0], None, "any"), smooth > 0)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_noise_of_jpeg_is_no_label(tmp_path, quality):
    files = []
    for i in range(4):
        mask = np.zeros((64, 64), np.uint8)
        mask[9 + i : 40, 13 : 37 + i] = 255
        path = tmp_path / f"{i}.jpg"
        Image.fromarray(mask).save(path, quality=quality)
        files.append(str(path))
    found, _ = masks.survey(files, RULES)
    assert not found.are_labels and found.white >= 240
    for i, file in enumerate(files):
        mask = np.zeros((64, 64), np.uint8)
        mask[9 + i : 40, 13 : 37 + i] = 1
        assert (found.read(file, None, "half") != mask).mean() < 0.002
        assert (found.read(file, None, "full") > mask).mean() < 0.002


def test_odd_masks_are_named(tmp_path):
    inverted, alpha = 255 - blob(255, 40), np.zeros((24, 24, 4), np.uint8)
    alpha[..., 3] = blob(255)
    files = written(tmp_path, [blob(255, 40), inverted, alpha, blob(0)])
    _, problems = masks.survey(files, RULES)
    assert len(problems) == 3
    assert "1.png marks 96 % of its photo as anomalous: if it is inverted, paint" in problems[0]
    assert "2.png is empty" in problems[1] and "its transparency varies" in problems[1]
    assert "3.png is empty, so all pixels of its photo count as normal" in problems[2]
    assert "transparency" not in problems[2]


def test_unreadable_masks_are_left_to_their_reader(tmp_path):
    files = written(tmp_path, [blob(255)])
    (tmp_path / "bad.png").write_bytes(b"x")
    found, problems = masks.survey([*files, str(tmp_path / "bad.png")], RULES)
    assert found.values == (255,) and not problems
    with pytest.raises(ImageError, match="bad.png"):
        found.levels(tmp_path / "bad.png")


def test_a_set_without_masks():
    assert masks.survey([], RULES)[0].describe() == "masks hold no value above 0"
