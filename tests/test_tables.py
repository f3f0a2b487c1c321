"""The table on the terminal and ``metrics.json``."""

import json

import pytest

from diffad_jax.evaluation import tables
from diffad_jax.evaluation.ranking import Figure

GAP = "defect photos have no ground-truth masks"
BOTTLE = {"image_auroc": Figure(0.987), "pixel_auroc": Figure(0.75), "pixel_ap": Figure(0.5)}
PILL = {
    "image_auroc": Figure(0.9),
    "pixel_auroc": Figure(None, GAP),
    "pixel_ap": Figure(None, GAP),
}


def strict(text: str):
    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_golden_table():
    assert tables.table({"bottle": BOTTLE, "pill": PILL}).splitlines() == [
        "category  image AUROC  pixel AUROC  pixel AP",
        "--------------------------------------------",
        "bottle          98.70        75.00     50.00",
        "pill            90.00            –         –",
        "mean            94.35        75.00     50.00",
        f"pill: pixel_auroc, pixel_ap: {GAP}",
        "mean: pixel_auroc, pixel_ap: mean of 1 of 2 categories",
    ]


def test_columns_align_under_long_names():
    lines = tables.table({"a_very_long_category_name": BOTTLE, "x": BOTTLE}).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_one_category_has_no_mean():
    assert "mean" not in tables.table({"bottle": BOTTLE})


def test_metrics_file(tmp_path):
    path = tmp_path / "new" / "metrics.json"
    extras = {"bottle": {"num_normal": 3, "num_anomalous": 4}, "pill": {"num_normal": 5}}
    tables.write_metrics(path, {"bottle": BOTTLE, "pill": PILL}, extras, {"seed": 1}, 2.006)
    content = strict(path.read_text())
    assert content["categories"] == {
        "bottle": {
            "image_auroc": 0.987,
            "pixel_auroc": 0.75,
            "pixel_ap": 0.5,
            "num_normal": 3,
            "num_anomalous": 4,
        },
        "pill": {
            "image_auroc": 0.9,
            "pixel_auroc": None,
            "pixel_ap": None,
            "num_normal": 5,
            "reasons": {"pixel_auroc": GAP, "pixel_ap": GAP},
        },
    }
    assert content["mean"]["image_auroc"] == pytest.approx(0.9435)
    assert content["mean"]["reasons"]["pixel_ap"] == "mean of 1 of 2 categories"
    assert content["config"] == {"seed": 1} and content["seconds"] == 2.01
    assert {"diffad_jax", "python", "jax", "flax", "numpy"} <= content["versions"].keys()
    assert [p.name for p in path.parent.iterdir()] == ["metrics.json"]  # no temporary file


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_extras_become_null_with_a_reason(tmp_path, value):
    path = tmp_path / "metrics.json"
    tables.write_metrics(path, {"bottle": BOTTLE}, {"bottle": {"threshold": value}}, {}, 1.0)
    bottle = strict(path.read_text())["categories"]["bottle"]
    assert bottle["threshold"] is None and bottle["reasons"] == {"threshold": f"was {value}"}


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    tables.write_metrics(path, {"bottle": BOTTLE}, {"bottle": {}}, {}, 1.0)
    before = path.read_text()
    with pytest.raises(ValueError, match="not JSON compliant"):
        tables.write_metrics(path, {"bottle": PILL}, {"bottle": {}}, {"x": float("nan")}, 1.0)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
