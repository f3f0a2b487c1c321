"""Tables of metrics on the terminal, in Markdown and in LaTeX."""

import re

import pytest

from diffad_jax.data.layouts import Record
from diffad_jax.evaluation import paper_results, tables
from diffad_jax.evaluation.confusion import Confusion
from diffad_jax.evaluation.ranking import Metric

GAP = "defect photos have no ground-truth masks"
NAMES = ("image_auroc", "pixel_auroc", "pixel_ap")
BOTTLE = dict(zip(NAMES, map(Metric, (0.987, 0.75, 0.5)), strict=True))
PILL = {
    "image_auroc": Metric(0.9),
    "pixel_auroc": Metric(None, GAP),
    "pixel_ap": Metric(None, GAP),
}
HOSTILE = tables.Table("A|B", ("a", "b"), [("x|y", "1_0 & 5 %"), ("\\{~^", "<b>")], ["*note*"])


def text_of(categories, names=NAMES, **options):
    return tables.as_text(tables.metrics_table(categories, names, **options))


def test_golden_table():
    assert text_of({"bottle": BOTTLE, "pill": PILL}).splitlines() == [
        "category  image AUROC  pixel AUROC  pixel AP",
        "--------------------------------------------",
        "bottle          98.70        75.00     50.00",
        "pill            90.00            –         –",
        "mean            94.35        75.00     50.00",
        f"pill: pixel_auroc, pixel_ap: {GAP}",
        "mean: pixel_auroc, pixel_ap: mean of 1 of 2 categories",
    ]


def test_columns_align_under_long_names():
    lines = text_of({"a_very_long_category_name": BOTTLE, "x": BOTTLE}).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_one_category_has_no_mean():
    assert "mean" not in text_of({"bottle": BOTTLE})


def test_the_short_table_fits_a_terminal():
    metrics = dict.fromkeys(tables.SHORT, Metric(1.0))
    lines = text_of(dict.fromkeys(paper_results.CATEGORIES, metrics), tables.SHORT).splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) == 18


def test_units_and_intervals():
    metrics = {
        "direct_copy_frame_psnr": Metric(36.731),
        "fid_768": Metric(None, "no weights"),
        "pixel_ap": Metric(0.5),
        "image_ap": Metric(0.9),
    }
    undefined = Metric(None, "why")
    intervals = {"x": {"pixel_ap": (Metric(0.4), Metric(0.6)), "image_ap": (undefined, undefined)}}
    table = tables.metrics_table({"x": metrics}, metrics, intervals)
    assert table.header[1:3] == ("direct copy frame PSNR (dB)", "FID 768")
    assert table.rows == [("x", "36.73", "not available", "50.00 [40.00, 60.00]", "90.00")]
    assert table.notes == ["x: fid_768: no weights"]


def test_types_of_defect_stand_with_their_number_of_photos():
    types = {("bottle", "crack"): BOTTLE, ("pill", "dent"): PILL}
    table = tables.by_defect_table(types, {("bottle", "crack"): 3, ("pill", "dent"): 4})
    assert table.rows[0] == ("bottle", "crack", "3", "98.70", "75.00", "50.00")
    assert table.notes == [f"pill/dent: pixel_auroc, pixel_ap: {GAP}"]
    assert tables.by_defect_table({}, {}).rows == []


def test_verdicts_say_what_the_threshold_was_chosen_on():
    verdicts = {
        ("bottle", "21 held-out normal photos"): (0.25, Confusion(3, 1, 4, 1, 0)),
        ("bottle", "test labels"): (0.5, Confusion(0, 0, 5, 4, 0)),
    }
    table = tables.verdicts_table(verdicts)
    held_out = ("0.25", "3", "1", "1", "4", "75.00", "75.00")
    assert table.rows[0] == ("bottle", "21 held-out normal photos", *held_out)
    assert table.rows[1][-2:] == ("–", "0.00")


def test_published_metrics_are_marked_and_gaps_are_not_filled():
    table = tables.comparison_table({"bottle": BOTTLE, "pill": PILL}, {}, "mask rule half")
    rows = {row[:2]: row[2:] for row in table.rows}
    assert rows["bottle", "PatchCore *"] == ("100.0", "98.6", "82.5")
    assert rows["bottle", "this run"] == ("98.70", "75.00", "50.00")
    assert rows["pill", "RIAD *"] == ("not listed",) * 3
    assert rows["pill", "DiffAD *"] == ("97.7", "97.7", "68.9")
    assert rows["pill", "this run"] == ("90.00", "–", "–")
    assert rows["mean of 15", "this run"] == ("not run",) * 3, "two categories are not fifteen"
    assert table.notes == [
        "* as published on MVTec AD, not run here", "this run: mask rule half"
    ]  # fmt: skip


def test_our_mean_stands_beside_the_published_one_where_all_fifteen_were_run():
    table = tables.comparison_table(dict.fromkeys(paper_results.CATEGORIES, BOTTLE), {}, "")
    assert table.rows[-1] == ("mean of 15", "this run", "98.70", "75.00", "50.00")


def test_a_category_of_another_data_set_has_no_published_metrics():
    table = tables.comparison_table({"bottle": BOTTLE}, {"bottle": "10 photos"}, "")
    assert [row[:2] for row in table.rows] == [("bottle", "this run")]
    said = "bottle: no published metrics, since its photos are not MVTec AD's: 10 photos"
    assert table.notes[-1] == said
    both = tables.comparison_table({"bottle": BOTTLE, "pill": PILL}, {"bottle": "x"}, "")
    assert len(both.rows) == 1 + 6 + 6 and both.rows[-1][-1] == "not run"


def test_the_photos_of_mvtec_are_told_by_number_and_size(monkeypatch):
    def photos(train, good, defects):
        kinds = [("train", "good")] * train + [("test", "good")] * good
        kinds += [("test", "broken_large")] * defects
        return [Record(f"{i}.png", *kind, None) for i, kind in enumerate(kinds)]

    def difference(records, *sizes, category="bottle"):
        every = dict.fromkeys((r.file for r in records), sizes[0]) | {"0.png": sizes[-1]}
        monkeypatch.setattr(paper_results.images, "photo_size", every.get)
        return paper_results.difference(category, records)

    real = photos(209, 20, 63)
    assert difference(real, (900, 900)) == difference(real, (256, 256)) == ""
    assert "209 photos to train on, 20 good and 62 defective" in difference(
        photos(209, 20, 62), (900, 900)
    )
    assert "photos of 128 × 128 pixels, but MVTec AD's have 900 × 900" in difference(
        real, (128, 128)
    )
    for sizes in ([(900, 901)], [(1024, 1024)], [(900, 900), (256, 256)]):
        assert "pixels" in difference(real, *sizes)
    assert difference(real, (900, 900), category="nut") == "MVTec AD has no such category"

    def unreadable(file, rules):
        raise paper_results.images.ImageError(f"{file} is damaged")

    monkeypatch.setattr(paper_results.images, "photo_size", unreadable)
    assert paper_results.difference("bottle", real) == "0.png is damaged"


def test_the_counts_are_those_of_the_whole_data_set():
    counts = [sum(c) for c in zip(*paper_results._PHOTOS.values(), strict=True)]
    assert counts[:3] == [3629, 467, 1258]
    assert tuple(paper_results._PHOTOS) == paper_results.CATEGORIES


@pytest.mark.parametrize("column", range(3))
def test_the_listed_categories_of_diffad_have_its_listed_mean(column):
    listed = [paper_results.published("DiffAD", c)[column] for c in paper_results.CATEGORIES]
    assert sum(listed) / 15 == pytest.approx(paper_results.MEAN["DiffAD"][column], abs=0.05)


def test_markdown_rows_hold_whatever_the_cells_say():
    lines = tables.as_markdown(HOSTILE).splitlines()
    assert lines[0] == "## A|B" and lines[3] == "|---|---:|"
    for line in (lines[2], *lines[4:6]):
        assert len(re.findall(r"(?<!\\)\|", line)) == 3, line
    assert r"\<b>" in lines[5] and lines[-1] == r"- \*note\*"


def test_latex_is_escaped():
    lines = tables.as_latex(HOSTILE).splitlines()
    assert r"x|y & 1\_0 \& 5 \% \\" in lines
    assert (
        r"\textbackslash{}\{\textasciitilde{}\textasciicircum{} & \textless{}b\textgreater{} \\"
        in lines
    )
    assert r"\begin{tabular}{lr}" in lines and r"\caption{A|B. *note*.}" in lines
