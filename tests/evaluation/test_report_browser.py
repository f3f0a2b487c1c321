"""``report.html`` in a browser: it moves, filters and sorts, and says nothing on the console."""

import pytest
from report_browser import CHROMIUM, chromium
from report_case import HOSTILE, THRESHOLD, counts, make_report

from diffad_jax.evaluation import report

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)"
)
COUNTS = "['tn', 'fp', 'fn', 'tp'].map((id) => Number(document.getElementById(id).textContent))"
CARDS = "[...document.querySelectorAll('#photos li')]"
VERDICTS = f"{CARDS}.map((c) => c.querySelector('.verdict').textContent)"
SCORES = f"{CARDS}.map((c) => Number(c.textContent.match(/score ([0-9.]+)/)[1]))"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    return path, *make_report(path)


@pytest.fixture(scope="module")
def browser():
    with chromium() as page:
        yield page


@pytest.fixture
def page(browser, written):
    browser.problems.clear()
    browser.open(written[0])
    yield browser
    assert browser.problems == []


def choose(page, name, value):
    page.run(f"(() => {{ const s = document.getElementById('{name}'); s.value = {value!r};"
             "s.dispatchEvent(new Event('change')); })()")  # fmt: skip
    page.frames()


def test_it_starts_at_the_threshold_that_saw_no_test_photo(page, written):
    assert page.run(COUNTS) == counts(*written[1:], THRESHOLD)
    text = page.run("document.body.innerText")
    assert "without a look at the test photos: 0 of 7 held-out photos lie above it" in text
    assert page.run(f"{CARDS}.length") == 16
    assert page.run("document.querySelectorAll('#curves svg').length") == 3


def test_the_slider_moves_the_counts_and_the_verdicts(page, written):
    page.run("(() => { const s = document.getElementById('slider'); s.value = 0.6;"
             "s.dispatchEvent(new Event('input')); })()")  # fmt: skip
    page.frames()
    expected = counts(*written[1:], 0.6)
    assert page.run(COUNTS) == expected != counts(*written[1:], THRESHOLD)
    verdicts = page.run(VERDICTS)
    assert [verdicts.count(v) for v in ("passed", "false alarm", "missed", "found")] == expected
    assert "Set by hand" in page.run("document.getElementById('origin').textContent")
    marker = "document.getElementById('on-roc').getAttribute('cy')"
    before = page.run(marker)
    page.run("setThreshold(0)")
    assert page.run(marker) != before


def test_arrow_keys_pass_one_photo_at_a_time(page):
    page.run("document.getElementById('slider').focus()")
    called = "(() => { const c = " + COUNTS + "; return c[1] + c[3]; })()"
    before = page.run(called)
    page.press("ArrowRight")
    page.press("ArrowRight")
    moved = page.run(called)
    assert moved in (before - 1, before - 2)  # the first may stop short of the next photo
    page.press("ArrowLeft")
    assert page.run(called) == moved + 1


def test_buttons_set_the_chosen_thresholds(page, written):
    page.click("#presets button:nth-child(2)")
    assert page.run(COUNTS) == counts(*written[1:], 0.45)
    assert "flatter" in page.run("document.getElementById('origin').textContent")
    page.run("document.querySelector('#presets button').focus()")
    page.press("Enter")
    assert page.run(COUNTS) == counts(*written[1:], THRESHOLD)


def test_filters_and_orders(page, written):
    tn, fp, fn, tp = counts(*written[1:], THRESHOLD)
    assert fp and fn, "there is something to filter"
    for value, count in (
        ("false alarm", fp),
        ("missed", fn),
        ("wrong", fp + fn),
        ("right", tn + tp),
    ):
        choose(page, "by-verdict", value)
        assert len(page.run(VERDICTS)) == count
    choose(page, "by-verdict", "all")
    choose(page, "by-type", "=<b>dent</b>")
    assert page.run(f"{CARDS}.length") == 5
    choose(page, "by-type", "")
    choose(page, "order", "high")
    scores = page.run(SCORES)
    assert scores == sorted(scores, reverse=True) and len(scores) == 16
    choose(page, "order", "low")
    assert page.run(SCORES) == scores[::-1]


def test_a_miss_and_a_false_alarm_stand_first(page):
    assert set(page.run(VERDICTS)[:2]) == {"missed", "false alarm"}


def test_the_headline_counts_first(page, written):
    _, fp, fn, tp = counts(*written[1:], THRESHOLD)
    headline = page.run(
        "[...document.querySelectorAll('#headline dd:not(.interval)')].map((d) => d.textContent)"
    )
    good = len(written[2]) - tp - fn
    expected = [f"{tp} of {tp + fn}", f"{fn} of {tp + fn}", f"{fp} of {good}"]
    assert headline[:3] == expected


def test_pictures_are_decoded_when_they_come_near(page):
    pictures = f"{CARDS}.at(-1).querySelectorAll('img').length"
    assert page.run(pictures) == 0
    page.run(f"{CARDS}.at(-1).scrollIntoView()")
    page.wait(f"{pictures} >= 4")
    last = f"[...{CARDS}.at(-1).querySelectorAll('img')]"
    widths = page.run(f"Promise.all({last}.map((i) => i.decode().then(() => i.naturalWidth)))")
    assert set(widths) == {48}


def test_a_photo_is_enlarged_and_put_back(page):
    page.wait("document.querySelector('#photos .tiles button')")
    page.click("#photos .tiles button")
    assert page.run("document.getElementById('large').open")
    title = page.run("document.getElementById('large-title').textContent")
    page.press("ArrowRight")
    assert page.run("document.getElementById('large-title').textContent") != title
    page.press("Escape")
    assert not page.run("document.getElementById('large').open")


def test_a_hostile_name_is_only_text(page):
    names = page.run("[...document.querySelectorAll('#photos h3')].map((h) => h.textContent)")
    assert f"crack/{HOSTILE.rpartition('/')[2]}" in names
    assert page.run("document.querySelector('#photos b, h1 i, img[src=x]')") is None


@pytest.mark.parametrize("width", [1200, 390])
def test_no_writing_touches_a_bar(page, written, width):
    page.open(written[0], width=width, height=844)
    boxes = "[...document.querySelectorAll('{}')].map((e) => e.getBoundingClientRect())"
    bars = boxes.format("#histogram rect")
    writing = boxes.format("#histogram text, #histogram-legend li")
    touching = (
        f"(() => {{ const bars = {bars}, texts = {writing}; return [bars.length, texts.length,"
        "bars.filter((b) => texts.some((t) => b.left < t.right && t.left < b.right &&"
        "b.top < t.bottom && t.top < b.bottom)).length]; })()"
    )
    bars_drawn, texts_written, overlaps = page.run(touching)
    assert bars_drawn > 10 and texts_written > 5 and overlaps == 0


def test_keys_alone_reach_everything(page):
    reached = []
    for _ in range(14):
        page.press("Tab")
        reached.append(page.run("document.activeElement.id || document.activeElement.tagName"))
        outline = page.run("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", reached[-1]
    assert {"slider", "number", "by-verdict", "by-type", "order"} <= set(reached)


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone(page, written, dark):
    page.open(written[0], width=390, height=844, dark=dark)
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert page.pale_texts() == []
    colour = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
    assert (max(page.run(colour)) < 60) is dark


@pytest.mark.parametrize(
    "options",
    [
        {"masks": False},
        {"num_normal": 0},
        {"num_anomalous": 0},
        {"num_normal": 0, "num_anomalous": 0},
    ],
)
def test_what_is_missing_is_said(page, tmp_path, options):
    path = tmp_path / "report.html"
    make_report(path, **options)
    page.open(path)
    text = page.run("document.body.innerText")
    assert "there are no" in text or "no ground-truth masks" in text
    assert "NaN" not in text and "undefined" not in text


def test_held_out_photos_and_drawn_defects_stand_in_for_test_photos(page, tmp_path):
    path = tmp_path / "report.html"
    test, scores = make_report(path, stand_in="Drawn defects are no test.")
    page.open(path)
    text = page.run("document.body.innerText")
    assert "nothing is measured. Drawn defects are no test." in text
    assert "6 held-out good photos, 10 drawn defects" in text and "AUROC" not in text
    assert page.run(COUNTS) == counts(test, scores, THRESHOLD)
    assert page.run("document.querySelectorAll('nav a').length") == 3
    assert set(page.run(VERDICTS)[:2]) == {"missed", "false alarm"}
    hidden = "document.getElementById('{}-section').hidden"
    assert all(page.run(hidden.format(name)) for name in ("curves", "metrics", "types"))


def test_where_no_defect_is_drawn_none_is_counted(page, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_BUDGET", 0)
    path, why = tmp_path / "report.html", "No pictures and no drawn defects: no textures."
    make_report(path, num_anomalous=0, stand_in=why)
    page.open(path)
    text = page.run("document.body.innerText")
    assert "drawn defects found" not in text and "up to 0 a bar" not in text
    assert "0 of 0" not in text and "to keep the file small" not in text
    assert text.count(why) == 1 + 6


def test_without_a_threshold_there_are_no_verdicts(page, tmp_path):
    path = tmp_path / "report.html"
    make_report(path, thresholds=[], no_threshold="4 photos are too few")
    page.open(path)
    assert set(page.run(VERDICTS)) == {"no verdict"} and page.run(COUNTS) == [None] * 4
    text = page.run("document.body.innerText")
    assert "No threshold, so no verdicts: 4 photos are too few." in text
    assert "at the threshold below" not in text and "at this threshold" not in text
    drawn = "[...document.querySelectorAll('svg')].map((s) => s.outerHTML).join()"
    assert "NaN" not in text + page.run(drawn)
    page.run("document.getElementById('slider').focus()")
    page.press("ArrowRight")
    assert "no verdict" not in page.run(VERDICTS) and sum(page.run(COUNTS)) == 16
