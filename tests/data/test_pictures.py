"""Heat maps, overlays, the choice of cases, contact sheets: sizes and pixels."""

import numpy as np
import pytest
from PIL import Image

from diffad_jax.data import pictures

RNG = np.random.default_rng(0)


def plain_tile(side: int, value: int) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


def sheet(tmp_path, columns, rows) -> np.ndarray:
    pictures.contact_sheet(tmp_path / "made" / "sheet.png", columns, rows)
    with Image.open(tmp_path / "made" / "sheet.png") as image:
        assert image.mode == "RGB"
        return np.asarray(image)


HALF = pictures.Scale(0.0, 1.0, 0.5)


def test_golden_heat_map():
    colours = pictures.heat_map(np.array([[0.0, 1.0, -3.0, 7.0, 0.5, 0.501, np.nan]]), HALF)[0]
    dark, light, undefined = [10, 12, 40], [250, 245, 70], [230, 0, 200]
    assert colours.dtype == np.uint8
    assert colours.tolist() == [
        dark, light, dark, light, [70, 120, 190], [205, 50, 40], undefined
    ]  # fmt: skip


def test_a_higher_value_is_lighter_on_either_side_of_the_threshold():
    srgb = pictures.heat_map(np.linspace(0.0, 1.0, 22)[None], HALF)[0] / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])  # IEC 61966-2-1
    lightness = np.where(
        luminance > 0.008856, 116.0 * np.cbrt(luminance) - 16.0, 903.3 * luminance
    )  # CIE 1976
    steps = np.diff(lightness)
    assert np.all(np.delete(steps, 10) > 2.0) and lightness[-1] > 90.0


def test_the_threshold_parts_calm_from_warm_colours_wherever_it_lies():
    values = np.linspace(0.0, 10.0, 101)[None]
    for threshold in (0.0, 0.7, 5.0, 10.0):
        colours = pictures.heat_map(values, pictures.Scale(0.0, 10.0, threshold))[0].astype(int)
        warm = colours[:, 0] > colours[:, 2]
        np.testing.assert_array_equal(warm, values[0] > threshold)


def test_the_scale_says_the_colours():
    distances = np.array([[2.0, 3.0, 4.0, 99.0, np.nan]], np.float32)
    shares = np.array([[0.0, 0.5, 1.0, 1.0, np.nan]], np.float32)
    np.testing.assert_array_equal(
        pictures.heat_map(distances, pictures.Scale(2.0, 4.0)),
        pictures.heat_map(shares, pictures.Scale(0.0, 1.0)),
    )
    colours = pictures.heat_map(np.array([[0.0, 9.0]]), pictures.Scale(0.0, 0.0))
    np.testing.assert_array_equal(colours, pictures.heat_map(np.array([[0.0, 1.0]]), HALF))


def test_strips_are_not_seen(monkeypatch):
    photo = RNG.integers(0, 256, (40, 30, 3), np.uint8)
    anomaly_map = RNG.random((10, 15)).astype(np.float32)
    whole = pictures.overlay(photo, anomaly_map, HALF)
    monkeypatch.setattr(pictures, "_STRIP", 64)
    np.testing.assert_array_equal(pictures.overlay(photo, anomaly_map, HALF), whole)


def test_an_overlay_leaves_what_is_far_below_the_threshold():
    photo = RNG.integers(0, 256, (60, 80, 3), np.uint8)
    anomaly_map = np.zeros((60, 80), np.float32)
    anomaly_map[20:30, 30:40] = 1.0
    before = photo.copy()
    drawn = pictures.overlay(photo, anomaly_map, HALF)
    assert drawn.shape == photo.shape and drawn.dtype == np.uint8
    np.testing.assert_array_equal(photo, before)
    changed = np.any(drawn != photo, axis=-1)
    assert changed[18:32, 28:42].mean() > 0.95
    changed[18:32, 28:42] = False
    assert not changed.any()
    covered = np.round(0.5 * photo[25, 35] + 0.5 * np.array([250, 245, 70]))
    np.testing.assert_array_equal(drawn[25, 35], covered)


@pytest.mark.parametrize(
    "product", [(0, 0, 0), (128, 128, 128), (255, 255, 255), (242, 140, 40), (250, 245, 70)]
)
@pytest.mark.parametrize("side", [1, 20])
def test_a_defect_shows_on_any_product(product, side):
    photo, anomaly_map = np.full((64, 64, 3), product, np.uint8), np.zeros((64, 64), np.float32)
    anomaly_map[20 : 20 + side, 10 : 10 + side] = 0.51
    drawn = pictures.overlay(photo, anomaly_map, HALF)
    seen = np.abs(drawn.astype(int) - photo).sum(axis=-1) > 200
    around = seen[18 : 22 + side, 8 : 12 + side]
    # Yellow or black, on each side of it.
    for line in (around[:2], around[-2:], around.T[:2], around.T[-2:]):
        assert line.any(axis=0)[1:-1].all()
    seen[18 : 22 + side, 8 : 12 + side] = False
    assert not seen.any()


def test_without_a_threshold_nothing_is_outlined():
    photo = np.full((64, 64, 3), 90, np.uint8)
    anomaly_map = np.zeros((64, 64), np.float32)
    anomaly_map[20:40, 10:30] = 1.0
    drawn = pictures.overlay(photo, anomaly_map, pictures.Scale(0.0, 1.0))
    np.testing.assert_array_equal(np.any(drawn != photo, axis=-1), anomaly_map > 0)


def test_the_smallest_part_of_a_map_is_outlined_in_a_large_photo():
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[3, 4] = 0.51
    found = pictures.above(anomaly_map, 0.5, (123, 97))
    assert found.shape == (97, 123)
    rows, columns = np.nonzero(found)
    assert 36 <= rows.min() < rows.max() <= 49 and 61 <= columns.min() < columns.max() <= 77
    assert not pictures.above(anomaly_map, 0.51, (123, 97)).any()  # at the threshold is below it


def test_cases_are_the_extremes_and_the_middle_of_either_class():
    labels = np.array([True] * 5 + [False] * 5)
    scores = np.array([0.9, 0.1, 0.5, 0.8, 0.2, 0.0, 0.7, 0.3, 0.1, 0.2])
    assert pictures.pick_cases(labels, scores, 1) == [
        ("best defect", 0),
        ("median defect", 2),
        ("worst defect", 1),
        ("best normal", 5),
        ("median normal", 9),
        ("worst normal", 6),
    ]


def test_cases_go_from_best_to_worst():
    labels, scores = np.arange(20) % 2 == 0, RNG.random(20)
    cases = pictures.pick_cases(labels, scores, 3)
    defects = [scores[i] for what, i in cases if what.endswith("defect")]
    normals = [scores[i] for what, i in cases if what.endswith("normal")]
    assert defects == sorted(defects, reverse=True) and normals == sorted(normals)
    assert len(defects) == len(normals) == 9


@pytest.mark.parametrize("size", range(9))
def test_small_classes_show_every_photo_once(size):
    cases = pictures.pick_cases(np.ones(size, bool), RNG.random(size), 3)
    assert sorted(i for _, i in cases) == list(range(size))


def test_ties_do_not_depend_on_chance():
    cases = pictures.pick_cases(np.array([True] * 4), np.zeros(4), 1)
    assert cases == [("best defect", 0), ("median defect", 1), ("worst defect", 3)]


@pytest.mark.parametrize("anomalous", [True, False])
def test_nan_is_a_worst_case(anomalous):
    labels = np.full(3, anomalous)
    cases = dict(pictures.pick_cases(labels, np.array([0.5, np.nan, 0.4]), 1))
    assert cases[f"worst {'defect' if anomalous else 'normal'}"] == 1


def test_small_tiles_are_enlarged_pixel_by_pixel(tmp_path):
    tile = np.kron(RNG.integers(0, 256, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    pixels = sheet(tmp_path, ["a", "b"], [pictures.Row("one", [tile, plain_tile(64, 7)])])
    gap, caption, header = pictures._GAP, pictures._CAPTION, pictures._HEADER
    assert pixels.shape == (header + caption + 192 + gap, 2 * (192 + gap) + gap, 3)
    top = header + caption
    shown = pixels[top : top + 192, gap : gap + 192]
    np.testing.assert_array_equal(shown, np.kron(tile, np.ones((3, 3, 1), np.uint8)))
    second = pixels[top : top + 192, 2 * gap + 192 : 2 * gap + 384]
    np.testing.assert_array_equal(second, plain_tile(192, 7))
    assert pixels[:header].min() < 128  # the titles
    assert pixels[header:top].min() < 128  # the caption


@pytest.mark.parametrize(("side", "shown"), [(16, 160), (100, 200), (160, 160), (256, 256)])
def test_tiles_are_of_a_size_to_look_at(tmp_path, side, shown):
    pixels = sheet(tmp_path, ["a"], [pictures.Row("", [plain_tile(side, 40)])])
    assert np.all(pixels == 40, axis=-1).sum() == shown**2


def test_large_tiles_are_reduced_without_losing_thin_lines(tmp_path):
    tile = plain_tile(1024, 0)
    tile[:, 513] = 255
    pixels = sheet(tmp_path, ["a"], [pictures.Row("", [tile])])
    shown = pixels[-256 - pictures._GAP : -pictures._GAP, pictures._GAP : -pictures._GAP]
    assert shown.shape == (256, 256, 3)
    assert shown[128].max() > 40


def test_white_photos_have_a_frame(tmp_path):
    pixels = sheet(tmp_path, ["a"], [pictures.Row("", [plain_tile(160, 255)])])
    frame = np.all(pixels == 192, axis=-1)
    assert frame.sum() == 4 * 161 and frame[57, 5] and frame[218, 166]


def test_missing_tiles_are_marked(tmp_path):
    rows = [pictures.Row("", [plain_tile(160, 0)]), pictures.Row("", [plain_tile(160, 0)] * 2)]
    pixels = sheet(tmp_path, ["a", "b"], rows)
    empty = pixels[58 : 58 + 160, 172 : 172 + 160]
    assert 0 < np.any(empty < 200, axis=-1).sum() < 800  # a word
    filled = pixels[252 : 252 + 160, 172 : 172 + 160]
    assert filled.max() == 0


def test_a_scale_adds_a_legend_to_a_sheet(tmp_path):
    row = pictures.Row("", [plain_tile(160, 0)])
    plain = sheet(tmp_path, ["a"], [row])
    told = pictures.contact_sheet(tmp_path / "sheet.png", ["a"], [row], HALF)
    np.testing.assert_array_equal(told[: len(plain)], plain)
    assert len(told) > len(plain) + 20 and (told[len(plain) :] == [250, 245, 70]).all(-1).any()


def test_too_many_tiles_are_refused(tmp_path):
    with pytest.raises(ValueError, match="more tiles than columns"):
        sheet(tmp_path, ["a"], [pictures.Row("", [plain_tile(8, 0)] * 2)])


@pytest.mark.parametrize("caption", ["x" * 500, "bad byte \udcff", "中文", ""])
def test_any_file_name_can_be_a_caption(tmp_path, caption):
    pixels = sheet(tmp_path, ["a"], [pictures.Row(caption, [plain_tile(16, 0)])])
    assert np.all(pixels[24:57, -6:] == 255)  # nothing runs into the margin


def test_floats_to_bytes():
    floats = np.array([0.0, 1.0, 0.5, -1.0, 2.0, np.nan])
    assert pictures.to_bytes(floats).tolist() == [0, 255, 128, 0, 255, 0]


def test_a_legend_stands_below_and_tells_the_values():
    photo = np.zeros((200, 300, 3), np.uint8)
    plain, marked = (
        pictures.legend(photo, "score 1.8", pictures.Scale(0.0, 2.0, t)) for t in (None, 1.0)
    )
    np.testing.assert_array_equal(plain[:200, :300], photo)
    assert plain.shape == marked.shape and plain.shape[0] > 200 and plain.shape[1] == 300
    changed = np.flatnonzero((plain != marked).any(axis=(0, 2)))
    assert 60 < changed.min() < 148 and 152 < changed.max() < 240


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (30, 4000), (3000, 20)])
def test_a_legend_fits_any_photo(size):
    drawn = pictures.legend(np.zeros((*size, 3), np.uint8), "normal: score 1.2", HALF)
    assert not drawn[: size[0], : size[1]].any()
    text = drawn[size[0] :].min(axis=(1, 2)) < 128
    assert text.any() and not text[-2:].any()


def test_a_verdict_in_words():
    assert pictures.verdict(1.23456, 1.0) == "anomalous: score 1.235 (threshold 1)"
    assert pictures.verdict(1.0, 1.0) == "normal: score 1 (threshold 1)"
    assert pictures.verdict(1.0, None) == "score 1 (no threshold)"
