"""``metrics.json``."""

import json

import pytest

from diffad_jax.evaluation import metrics_file
from diffad_jax.evaluation.confusion import Confusion
from diffad_jax.evaluation.metrics_file import write_metrics
from diffad_jax.evaluation.ranking import Metric
from diffad_jax.runtime import files

GAP = "defect photos have no ground-truth masks"
BOTTLE = {"image_auroc": Metric(0.987), "pixel_auroc": Metric(0.75), "pixel_ap": Metric(0.5)}
PILL = {
    "image_auroc": Metric(0.9),
    "pixel_auroc": Metric(None, GAP),
    "pixel_ap": Metric(None, GAP),
}


def strict(text: str):
    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_file(tmp_path):
    path = tmp_path / "new" / "metrics.json"
    extras = {"bottle": {"num_normal": 3, "num_anomalous": 4}, "pill": {"num_normal": 5}}
    write_metrics(path, {"bottle": BOTTLE, "pill": PILL}, extras, {"seed": 1}, 2.006)
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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Metric(None, "was left out")])
def test_undefined_extras_become_null_with_a_reason(tmp_path, value):
    path = tmp_path / "metrics.json"
    write_metrics(path, {"bottle": BOTTLE}, {"bottle": {"threshold": value}}, {}, 1.0)
    bottle = strict(path.read_text())["categories"]["bottle"]
    reason = value.reason if isinstance(value, Metric) else f"was {value}"
    assert bottle["threshold"] is None and bottle["reasons"] == {"threshold": reason}


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(path, {"bottle": BOTTLE}, {"bottle": {}}, {}, 1.0)
    before = path.read_text()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_metrics(path, {"bottle": PILL}, {"bottle": {}}, {"x": float("nan")}, 1.0)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_intervals_and_verdicts_carry_their_reasons():
    undefined = Metric(None, "no normal pixel")
    intervals = {"a": (Metric(0.1), Metric(0.2)), "b": (undefined, undefined)}
    assert metrics_file.plain_intervals(intervals) == {
        "a": {"low": 0.1, "high": 0.2},
        "b": {
            "low": None,
            "high": None,
            "reasons": {"low": "no normal pixel", "high": "no normal pixel"},
        },
    }
    silent = metrics_file.plain_confusion(Confusion(0, 0, 4, 3, without_score=0))
    assert silent["precision"] is None and silent["recall"] == 0.0
    assert silent["reasons"] == {"precision": "no photo was called anomalous"}
    assert (silent["true_negatives"], silent["false_negatives"]) == (4, 3)


@pytest.mark.parametrize("content", [None, b"", b'{"a": 1', b'{"a\xff": 1}'])
def test_a_small_file_that_is_absent_or_damaged_is_empty(content, tmp_path):
    path = tmp_path / "stages.json"
    if content is not None:
        path.write_bytes(content)
    assert files.read_json(path) == {}
    files.write_whole(path, '{"a": 1}')
    assert files.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["stages.json"]
