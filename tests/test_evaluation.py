"""Figures, tables, pictures, the published image score."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffad_jax.evaluation import pictures, ranking, score, tables

LABELS = np.array([False, False, True, True])
SCORES = np.array([0.1, 0.4, 0.35, 0.8])


def test_golden_ranking_figures():
    # The example of scikit-learn's documentation: 3 of 4 pairs in order.
    figures = ranking.image_figures(LABELS, SCORES)
    assert figures["image_auroc"].value == 0.75
    np.testing.assert_allclose(figures["image_ap"].value, 0.5 * 1 + 0.5 * 2 / 3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2), st.randoms())
def test_order_and_monotone_transforms_do_not_matter(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    results = []
    for rows, transform in ((pairs, float), (shuffled, lambda s: np.exp(s / 7.0) - 3.0)):
        labels = np.array([label for label, _ in rows])
        scores = np.array([transform(s) for _, s in rows])
        results.append({k: v.value for k, v in ranking.image_figures(labels, scores).items()})
    assert results[0] == pytest.approx(results[1], nan_ok=False)


def test_constant_scores_are_a_coin_toss():
    assert ranking.image_figures(LABELS, np.ones(4))["image_auroc"].value == 0.5


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([True, True], "there are no normal test photos"),
        ([False, False], "there are no anomalous test photos"),
        ([], "there are no test photos"),
    ],
)
def test_undefined_figures_have_a_reason(labels, reason):
    figures = ranking.image_figures(np.array(labels, bool), np.zeros(len(labels)))
    assert {(f.value, f.reason) for f in figures.values()} == {(None, reason)}


def test_without_masks_there_are_no_pixel_figures():
    figures = ranking.pixel_figures(None, np.zeros((2, 4, 4)))
    assert figures["pixel_ap"] == ranking.Figure(None, "defect photos have no ground-truth masks")


def test_means_count_where_a_figure_is_defined():
    a, b = {"x": ranking.Figure(0.5)}, {"x": ranking.Figure(None, "why")}
    assert ranking.mean_figures([a, a])["x"] == ranking.Figure(0.5)
    assert ranking.mean_figures([a, b])["x"] == ranking.Figure(0.5, "mean of 1 of 2 categories")
    assert ranking.mean_figures([b])["x"].value is None


@pytest.mark.parametrize("width", [1, 3, 21])
def test_image_score_is_the_published_one(width):
    maps = np.random.default_rng(0).random((2, 32, 32)).astype(np.float32)
    maps[1, 0, 0] = 9.0  # in the corner, where most of the filter lies outside
    margin = width // 2
    padded = np.pad(maps.astype(np.float64), ((0, 0), (margin, margin), (margin, margin)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width), axis=(1, 2))
    want = windows.mean(axis=(3, 4)).max(axis=(1, 2))
    np.testing.assert_allclose(score.image_score(jnp.asarray(maps), width), want, atol=1e-6)


def test_even_filters_are_refused():
    with pytest.raises(ValueError, match="must be odd, got 4"):
        score.image_score(jnp.zeros((1, 8, 8)), 4)


def test_table_and_metrics_file(tmp_path):
    bottle = {"image_auroc": ranking.Figure(0.987), "pixel_ap": ranking.Figure(0.5)}
    pill = {"image_auroc": ranking.Figure(0.9), "pixel_ap": ranking.Figure(None, "no masks")}
    text = tables.table({"bottle": bottle, "pill": pill})
    assert text.splitlines()[0].split() == ["category", "image", "AUROC", "pixel", "AP"]
    assert text.splitlines()[2].split() == ["bottle", "98.70", "50.00"]
    assert text.splitlines()[3].split() == ["pill", "90.00", "–"]
    assert text.splitlines()[4].split() == ["mean", "94.35", "50.00"]
    assert "pill: pixel_ap: no masks" in text
    path = tmp_path / "metrics.json"
    extras = {"bottle": {"num_normal": 3}, "pill": {}}
    tables.write_metrics(path, {"bottle": bottle, "pill": pill}, extras, {"seed": 1}, 2.0)
    content = json.loads(path.read_text())
    assert content["categories"]["pill"] == {
        "image_auroc": 0.9,
        "pixel_ap": None,
        "reasons": {"pixel_ap": "no masks"},
    }
    assert content["categories"]["bottle"]["num_normal"] == 3
    assert content["mean"]["pixel_ap"] == 0.5 and content["config"] == {"seed": 1}
    assert {"jax", "numpy", "diffad_jax"} <= content["versions"].keys()


def test_cases_are_the_extremes_of_either_class():
    labels = np.array([True] * 5 + [False] * 5)
    scores = np.array([0.9, 0.1, 0.5, 0.8, 0.2, 0.0, 0.7, 0.3, 0.1, 0.2])
    cases = dict(pictures.pick_cases(labels, scores, 1))
    assert cases == {
        "best defect": 0,
        "median defect": 2,
        "worst defect": 1,
        "best normal": 5,
        "median normal": 9,
        "worst normal": 6,
    }
    assert len(pictures.pick_cases(np.array([True]), np.array([0.3]), 3)) == 1


def test_overlay_leaves_the_normal_parts_alone():
    image = np.full((4, 4, 3), 90, np.uint8)
    anomaly_map = np.zeros((4, 4))
    anomaly_map[0, 0] = 1.0
    mixed = pictures.overlay(image, anomaly_map)
    np.testing.assert_array_equal(mixed[1:], image[1:])
    assert np.abs(mixed[0, 0].astype(int) - 90).max() > 60


def test_heat_map_gets_lighter():
    colours = pictures.heat_map(np.linspace(0, 1, 50)[None])[0].astype(int)
    luma = colours @ np.array([299, 587, 114])
    assert np.all(np.diff(luma) >= -500) and luma[-1] > 5 * luma[5]


def test_contact_sheet_shows_every_tile(tmp_path):
    tiles = [np.full((8, 8, 3), 40 * i, np.uint8) for i in range(3)]
    rows = [pictures.Row("best", tiles), pictures.Row("worst", tiles[::-1])]
    pictures.contact_sheet(tmp_path / "sheet.png", ["a", "b", "c"], rows)
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert {0, 40, 80, 255} <= set(np.unique(pixels))
