"""Several runs in one table, read from their metrics.json."""

import copy
import json

import pytest

from diffad_jax.errors import UserError
from diffad_jax.evaluation import comparison

CATEGORY = {
    "image_auroc": 0.9, "image_ap": 0.8, "pixel_auroc": 0.7, "pixel_ap": None, "pixel_pro": 0.5,
    "intervals": {"image_auroc": {"low": 0.85, "high": 0.95}},
    "mask_rule": "half", "test_photos": "9 files, names and sizes abc",
    "cost": {"fit_seconds": 61.4, "seconds_a_photo": 0.01234, "fit_peak_memory_mib": None,
             "evaluation_peak_memory_mib": 900, "weights_mib": 12.34},
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    def write(name, method="diffad", image_size=64, categories=("cups",), config=(), **changes):
        content = {
            "config": {"method": method, "image_size": image_size} | dict(config),
            "categories": {c: copy.deepcopy(CATEGORY) | changes for c in categories},
        }
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(content))
        return comparison.read_run(tmp_path / name)

    return write


def test_a_row_a_run_with_its_metrics_and_costs(run):
    table = comparison.runs_table([run("a"), run("b", "padim", image_auroc=1.0)])
    first, second = table.rows
    assert first[2:] == ("diffad", "90.00 [85.00, 95.00]", "80.00", "70.00", "–", "50.00",
                         "61", "0.0123", "–", "900", "12.3")  # fmt: skip
    assert second[2:4] == ("padim", "100.00 [85.00, 95.00]")
    assert len(table.header) == len(first) and "*" not in first[1] + second[1]


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"image_size": 256}, "photos of 256 × 256 pixels, not 64 × 64"),
        ({"mask_rule": "full"}, "mask rule full, not half"),
        ({"test_photos": "8 files"}, "test photos: 8 files, not 9 files, names and sizes abc"),
    ],
)
def test_what_was_measured_otherwise_is_marked(run, changes, note):
    table = comparison.runs_table([run("a"), run("b", **changes)])
    assert table.rows[1][1].endswith("b *") and not table.rows[0][1].endswith("*")
    assert any(line.startswith("* cups, ") and line.endswith(note) for line in table.notes)


def test_a_category_that_another_run_lacks_says_so(run):
    table = comparison.runs_table([run("a", categories=("cups", "tiles")), run("b")])
    assert [r[0] for r in table.rows] == ["cups", "cups", "tiles", "tiles"]
    assert set(table.rows[3][3:]) == {"not run"} and len(table.rows[3]) == len(table.header)


def test_a_run_whose_categories_share_networks_says_that_each_row_counts_them(run):
    table = comparison.runs_table([run("a"), run("b", config={"shared": True})])
    assert [r[2] for r in table.rows] == ["diffad", "diffad, shared"]
    assert "each row counts these whole" in table.notes[-1]
    assert not any("counts these" in n for n in comparison.runs_table([run("c")]).notes)


def test_a_run_without_metrics_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nowhere: no readable .*metrics.json; evaluate that run"):
        comparison.read_run(tmp_path / "nowhere")
    (tmp_path / "metrics.json").write_text('{"categories": {}}')
    with pytest.raises(UserError, match="is no metrics.json of this version"):
        comparison.read_run(tmp_path)


def test_the_page_escapes_what_it_shows(run, tmp_path):
    table = comparison.runs_table([run("a"), run("<img src=x>")])
    comparison.write_page(tmp_path / "page.html", table)
    page = (tmp_path / "page.html").read_text()
    assert "<img" not in page and "&lt;img src=x&gt;" in page
    assert page.count("<tr>") == 3 and "90.00<br>[85.00, 95.00]" in page
