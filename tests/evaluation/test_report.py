"""``report.html`` as a file; ``test_report_browser.py`` uses it."""

import base64
import html.parser
import io
import json
import re

import pytest
from PIL import Image
from report_case import HOSTILE, THRESHOLD, make_report

from diffad_jax.evaluation.ranking import NO_MASKS

VOID = {"meta", "link", "input", "img", "br"}


class Reader(html.parser.HTMLParser):
    """Notes the elements, and those that are closed out of turn."""

    def __init__(self):
        super().__init__()
        self.open, self.faults, self.attributes, self.data, self.plain = [], [], [], "", ""

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop()[0] != tag:
            self.faults.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1][1].get("id") == "data":
            self.data += data
        if self.open and self.open[-1][0] == "pre":
            self.plain += data


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return reader


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    make_report(path)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]  # no temporary file
    return path, read(path)


def test_it_is_well_formed(page):
    _, reader = page
    assert not reader.faults and not reader.open


def test_ids_are_unique_and_labels_find_them(page):
    _, reader = page
    ids = [v for k, v in reader.attributes if k == "id"]
    assert len(ids) == len(set(ids))
    wanted = [v for k, v in reader.attributes if k in ("aria-labelledby", "aria-describedby")]
    wanted += [v[1:] for k, v in reader.attributes if k == "href" and v.startswith("#")]
    assert wanted and set(wanted) <= set(ids)


def test_it_loads_nothing_from_elsewhere(page):
    path, reader = page
    loading = [v for k, v in reader.attributes if k in ("src", "href", "action", "srcset")]
    assert all(v.startswith(("#", "data:")) for v in loading)
    addresses = set(re.findall(r"https?://[^\"' ]*", path.read_text(encoding="utf-8")))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, which nothing fetches
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
            "script-src 'unsafe-inline'") in reader.attributes  # fmt: skip


def test_its_data_holds_what_was_measured(page):
    _, reader = page
    data = json.loads(reader.data)
    assert len(data["photos"]) == 16
    assert {"image_auroc", "pixel_pro", "direct_copy_frame_psnr"} <= {
        f["name"] for f in data["metrics"]
    }
    assert [t["used_test_labels"] for t in data["thresholds"]] == [False, True]
    assert data["thresholds"][0]["value"] == THRESHOLD
    assert data["settings"]["mask rule"] == "half: above half"
    assert "image AUROC" in reader.plain  # for who has no scripts


def test_pictures_are_jpegs_at_the_photos_size(page):
    data = json.loads(page[1].data)
    titles = ["input", "anomaly map", "reconstruction", "interpolated 0.5", "ground truth"]
    for photo in data["photos"]:
        expected = titles if photo["anomalous"] else titles[:-1]
        assert [p["title"] for p in photo["pictures"]] == expected
        for picture in photo["pictures"]:
            with Image.open(io.BytesIO(base64.b64decode(picture["jpeg"]))) as image:
                assert (image.format, image.size) == ("JPEG", (48, 48))


def test_hostile_names_stay_text(page):
    path, reader = page
    text = path.read_text(encoding="utf-8")
    assert "onerror=alert" in text, "the name is there"
    assert "<img src=x" not in text and "<b>dent" not in text and "<i>cups" not in text
    assert text.count("</script>") == 2
    names = [p["file"] for p in json.loads(reader.data)["photos"]]
    assert HOSTILE.rpartition("/")[2] in names


@pytest.mark.parametrize(
    ("options", "name", "reason"),
    [
        ({"masks": False}, "pixel_pro", NO_MASKS),
        ({"num_normal": 0}, "image_auroc", "there are no normal test photos"),
        ({"num_normal": 0, "num_anomalous": 1}, "image_auroc", "there are no normal test photos"),
        ({"num_anomalous": 0}, "pixel_ap", "there are no anomalous pixels"),
    ],
)
def test_undefined_metrics_appear_with_their_reason(options, name, reason, tmp_path):
    path = tmp_path / "report.html"
    make_report(path, **options)
    reader = read(path)
    metric = next(f for f in json.loads(reader.data)["metrics"] if f["name"] == name)
    assert metric["value"] is None and metric["reason"] == reason
    assert reason in reader.plain


def test_150_photos_of_256_pixels_fit_a_mail(tmp_path):
    path = tmp_path / "report.html"
    make_report(path, 50, 100, side=256)
    assert path.stat().st_size < 15e6
    assert all(p["pictures"] for p in json.loads(read(path).data)["photos"])


def test_the_most_wrong_photos_keep_their_pictures_where_space_is_short(tmp_path, monkeypatch):
    monkeypatch.setattr("diffad_jax.evaluation.report._BUDGET", 40_000)
    path = tmp_path / "report.html"
    make_report(path)
    photos = json.loads(read(path).data)["photos"]
    shown = [p for p in photos if p["pictures"]]
    assert 0 < len(shown) < len(photos)
    wrong = {p["file"]: p["score"] if p["anomalous"] else -p["score"] for p in photos}
    assert max(wrong[p["file"]] for p in shown) <= min(
        wrong[p["file"]] for p in photos if not p["pictures"]
    )
    assert path.stat().st_size < 40_000 * 4 / 3 + 100_000


def test_a_method_that_rebuilds_nothing_has_no_rows_of_reconstructions(tmp_path):
    path = tmp_path / "report.html"
    make_report(path, rebuilds=False)
    names = {m["name"] for m in json.loads(read(path).data)["metrics"]}
    assert "image_auroc" in names
    assert not {n for n in names if n.startswith(("direct_copy", "fid"))}
