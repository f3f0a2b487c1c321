"""The page of predictions in a browser: what it shows, how it is used, how large it grows."""

import tracemalloc

import numpy as np
import pytest
import report_browser
from PIL import Image
from report_case import HOSTILE

from diffad_jax.evaluation import predictions_page

pytestmark = pytest.mark.skipif(not report_browser.CHROMIUM, reason="needs Chromium")


def row(i: int, **other) -> dict:
    anomalous = i % 3 == 0
    return {
        "name": f"lot/{i:05}.png", "score": 2.0 + i / 1000 if anomalous else i / 100000,
        "is_anomalous": anomalous, "threshold": 1.58, "error": None, "num_regions": i % 4,
        "thumbnail": f"thumbnails/{i:05}.jpg", "overlay": f"{i:05}.overlay.png",
    } | other  # fmt: skip


def unreadable(name: str) -> dict:
    return row(0, name=name, score=None, is_anomalous=None, error="is an empty file")


def draw(folder, name, colour) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(np.full((60, 90, 3), colour, np.uint8)).save(path)


@pytest.fixture(scope="module")
def page():
    with report_browser.chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def small(page, tmp_path_factory):
    """Eight photos, one of them hostile and one unreadable; the file of the page."""
    folder = tmp_path_factory.mktemp("page 1#")
    rows = [row(i) for i in range(6)]
    rows += [row(7, name=HOSTILE, thumbnail="thumbnails/a#b%20?'\".jpg"), unreadable("<b>.png")]
    for i, found in enumerate(rows[:-1]):
        draw(folder, found["thumbnail"], 30 * i)
        draw(folder, found["overlay"], 30 * i)
    predictions_page.write_page(folder / "predictions.html", rows, "<i>cups</i>")
    return folder / "predictions.html"


@pytest.fixture
def opened(page, small):
    page.problems.clear()
    page.open(small)
    yield page
    assert page.problems == []


def names(page):
    return page.run("[...document.querySelectorAll('#grid .name')].map((n) => n.textContent)")


def choose(page, id, value, event="change"):
    page.run(f"(() => {{ const e = document.getElementById('{id}'); e.value = {value!r};"
             f"e.dispatchEvent(new Event('{event}')); }})()")  # fmt: skip


def test_it_begins_with_the_verdicts_and_the_highest_score(opened):
    text = opened.run("document.body.innerText")
    assert "<i>cups</i>" in text
    assert "2 anomalous, 5 normal, 1 unreadable; threshold 1.58" in text
    shown = names(opened)
    assert shown[:2] == ["lot/00003.png", "lot/00000.png"] and shown[-1] == "<b>.png"
    assert HOSTILE.replace("\u2028", "") in [n.replace("\u2028", "") for n in shown]
    loaded = "[...document.images].map((i) => i.decode().then(() => i.naturalWidth))"
    assert opened.run(f"Promise.all({loaded})") == [90] * 7


def test_filters_and_order(opened):
    choose(opened, "by-verdict", "anomalous")
    assert names(opened) == ["lot/00003.png", "lot/00000.png"]
    choose(opened, "by-verdict", "unreadable")
    assert names(opened) == ["<b>.png"]
    choose(opened, "by-verdict", "")
    choose(opened, "by-name", "0000", "input")
    choose(opened, "order", "name")
    assert names(opened) == [f"lot/{i:05}.png" for i in range(6)]
    assert opened.run("document.getElementById('count').textContent") == "6 of 8 photos"
    choose(opened, "order", "low")
    assert names(opened)[-1] == "lot/00003.png"


def test_the_keyboard_opens_and_turns(opened):
    opened.run("document.querySelector('#grid button').focus()")
    opened.press("Enter")
    title = "document.getElementById('large-title').textContent"
    assert opened.run(title) == "lot/00003.png"
    facts = opened.run("document.getElementById('large-facts').textContent")
    assert facts == "anomalous score 2.003 · threshold 1.58 · 3 regions above the pixel threshold"
    opened.press("ArrowRight")
    assert opened.run(title) == "lot/00000.png"
    opened.press("ArrowLeft")
    opened.press("ArrowLeft")  # before the first there is none
    assert opened.run(title) == "lot/00003.png"
    opened.run("document.querySelector('#large-picture img').decode()")
    opened.press("Escape")
    assert not opened.run("document.getElementById('large').open")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(page, small, width):
    page.open(small, width=width)
    assert page.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [390, 1280])
def test_a_verdict_stands_below_its_score_however_short_both_are(page, small, width):
    page.open(small, width=width)
    tops = page.run(
        "[...document.querySelectorAll('#grid .facts')].filter((f) => f.childNodes.length === 2)"
        ".map((f) => f.querySelector('.verdict').getBoundingClientRect().top -"
        " f.getBoundingClientRect().top)"
    )
    assert len(tops) == 7 and min(tops) > 15


@pytest.mark.parametrize("dark", [False, True])
def test_texts_have_contrast(page, small, dark):
    page.open(small, dark=dark)
    assert page.pale_texts() == []
    page.run("document.body.style.color = getComputedStyle(document.body).backgroundColor")
    assert page.pale_texts()  # it does find what is pale


def test_regions_which_it_does_not_show_take_no_memory(tmp_path):
    def found(i):
        return {"box": [1000 * i + j for j in range(4)], "area": 1e3 + i, "peak": i / 7}

    rows = (row(i, regions=[found(100 * i + j) for j in range(100)]) for i in range(500))
    tracemalloc.start()
    try:
        predictions_page.write_page(tmp_path / "predictions.html", rows, "cups")
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20  # 23 MiB with them
    finally:
        tracemalloc.stop()


def test_ten_thousand_photos_open_at_once(page, tmp_path):
    file = tmp_path / "predictions.html"
    predictions_page.write_page(file, map(row, range(10_000)), "cups")
    assert file.stat().st_size < 2 * 2**20
    page.open(file)
    assert page.run("document.querySelectorAll('*').length") < 2500
    assert page.run("performance.timing.loadEventEnd - performance.timing.navigationStart") < 10_000
    assert "3334 anomalous, 6666 normal" in page.run("document.body.innerText")
    choose(page, "by-name", "09999", "input")
    assert names(page) == ["lot/09999.png"]
    page.problems.clear()  # these photos have no thumbnails


def test_rows_of_several_thresholds_and_of_none():
    rows = [row(0), row(1, threshold=0.7), row(2, is_anomalous=None, threshold=None)]
    assert predictions_page.describe(rows) == (
        "1 anomalous, 1 normal, 1 no verdict, 0 unreadable; thresholds 0.7, 1.58"
    )
    assert predictions_page.describe([]) == "0 anomalous, 0 normal, 0 unreadable"


def test_the_legend_speaks_of_thresholds_where_there_are_some(tmp_path):
    page, none = tmp_path / "predictions.html", {"is_anomalous": None, "threshold": None}
    predictions_page.write_page(page, [row(0)], "cups")
    text = page.read_text(encoding="utf-8")
    assert "warm and outlined above it" in text and "small outlines on normal photos" in text
    predictions_page.write_page(page, [row(0, **none)], "cups")
    text = page.read_text(encoding="utf-8")
    assert "outlined above it" not in text and "give --threshold=X, or put in more" in text
