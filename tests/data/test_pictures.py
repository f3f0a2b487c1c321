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


def test_golden_heat_map():
    colours = pictures.heat_map(np.array([[0.0, 1.0, -3.0, 7.0, np.nan]]))[0]
    dark, light, undefined = [0, 0, 8], [250, 245, 70], [0, 190, 190]
    assert colours.dtype == np.uint8
    assert colours.tolist() == [dark, light, dark, light, undefined]


def test_equal_steps_of_the_map_are_equal_steps_of_lightness():
    srgb = pictures.heat_map(np.linspace(0.0, 1.0, 11)[None])[0] / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])  # IEC 61966-2-1
    lightness = np.where(
        luminance > 0.008856, 116.0 * np.cbrt(luminance) - 16.0, 903.3 * luminance
    )  # CIE 1976
    steps = np.diff(lightness)
    assert np.all(steps > 5.0) and np.all(steps < 12.0) and lightness[-1] > 90.0


def test_the_scale_is_fixed():
    faint = np.array([[0.0, 0.2]])
    assert pictures.heat_map(faint)[0, 1].tolist() != pictures.heat_map(5.0 * faint)[0, 1].tolist()


def test_overlay_changes_only_what_is_anomalous():
    image = RNG.integers(0, 256, (6, 8, 3), np.uint8)
    anomaly_map = np.zeros((6, 8), np.float32)
    anomaly_map[2, 3], anomaly_map[4, 4] = 1.0, np.nan
    before = image.copy()
    mixed = pictures.overlay(image, anomaly_map)
    assert mixed.shape == image.shape and mixed.dtype == np.uint8
    want = np.round(0.25 * image[2, 3] + 0.75 * np.array([250, 245, 70]))
    np.testing.assert_array_equal(mixed[2, 3], want)
    assert mixed[4, 4].tolist() != image[4, 4].tolist()
    changed = np.any(mixed != image, axis=-1)
    assert changed.sum() == 2
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_certain_defect_shows_on_any_grey(grey):
    image = plain_tile(4, grey)
    mixed = pictures.overlay(image, np.ones((4, 4)))
    assert np.abs(mixed.astype(int) - image).max() > 60


def test_overlay_needs_a_map_of_the_photos_size():
    with pytest.raises(ValueError, match=r"needs a map of \(6, 8\), got \(3, 4\)"):
        pictures.overlay(np.zeros((6, 8, 3), np.uint8), np.zeros((3, 4)))


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


def test_limits_say_what_is_black_and_what_is_yellow():
    distances = np.array([[2.0, 3.0, 4.0, 99.0, np.nan]], np.float32)
    probabilities = np.array([[0.0, 0.5, 1.0, 1.0, np.nan]], np.float32)
    scaled = pictures.heat_map(distances, (2.0, 4.0))
    np.testing.assert_array_equal(scaled, pictures.heat_map(probabilities))
    photo = RNG.integers(0, 256, (1, 5, 3)).astype(np.uint8)
    np.testing.assert_array_equal(
        pictures.overlay(photo, distances, (2.0, 4.0)), pictures.overlay(photo, probabilities)
    )


def test_equal_limits_leave_two_colours():
    colours = pictures.heat_map(np.array([[0.0, 9.0]]), (0.0, 0.0))
    np.testing.assert_array_equal(colours, pictures.heat_map(np.array([[0.0, 1.0]])))


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


@pytest.mark.parametrize("product", [(0, 0, 0), (255, 255, 255), (250, 180, 60), (250, 245, 70)])
def test_an_outline_is_seen_on_any_product_and_leaves_the_rest(product):
    photo = np.full((64, 64, 3), product, np.uint8)
    region = np.zeros((64, 64), bool)
    region[20:40, 10:30] = True
    drawn = pictures.outline(photo, region)
    changed = np.abs(drawn.astype(int) - photo).sum(axis=-1) > 200
    edge = changed[19:41, 9:31]
    assert edge[:2].any(axis=0)[2:-2].all() and edge[-2:].any(axis=0)[2:-2].all()
    assert edge[:, :2].any(axis=1)[2:-2].all() and edge[:, -2:].any(axis=1)[2:-2].all()
    np.testing.assert_array_equal(drawn[22:38, 12:28], photo[22:38, 12:28])
    np.testing.assert_array_equal(drawn[:18], photo[:18])


def test_an_outline_of_nothing_is_the_photo():
    photo = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    np.testing.assert_array_equal(pictures.outline(photo, np.zeros((4, 4), bool)), photo)


def test_a_legend_stands_below_and_marks_its_value():
    photo = np.zeros((200, 300, 3), np.uint8)
    low, high = (pictures.legend(photo, "score 1.8", (0.0, 2.0), m) for m in (0.5, 1.5))
    np.testing.assert_array_equal(low[:200], photo)
    assert low.shape == high.shape and low.shape[0] > 200 and low.shape[1] == 300
    marked = np.flatnonzero((low != high).any(axis=(0, 2)))
    assert abs(marked.min() - 78) < 4 and abs(marked.max() - 222) < 4
