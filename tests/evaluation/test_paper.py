"""Pages as they are printed: no control without a hand, no cut table, every picture."""

import json

import pytest
import report_browser
from report_case import make_report

from diffad_jax.evaluation import comparison, predictions_page, tables

pytestmark = pytest.mark.skipif(not report_browser.CHROMIUM, reason="needs Chromium")
WIDTH = 718  # pixels between the margins of an A4 sheet


@pytest.fixture(scope="module")
def browser():
    with report_browser.chromium() as page:
        yield page


def printed(browser, path, width=WIDTH):
    """The page as it is about to be printed."""
    browser.open(path, width=width)
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    browser.frames()
    return browser


def seen(page, selector):
    return page.run(
        f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.checkVisibility())"
    )


def test_a_report_on_paper(browser, tmp_path):
    make_report(tmp_path / "report.html")
    page = printed(browser, tmp_path / "report.html")
    assert not any(seen(page, "nav, select, button:not(.tiles button), input[type=range]"))
    assert seen(page, "#number") == [True] and seen(page, "#slider-help") == [False]
    rows = page.run("[...document.querySelectorAll('#photos .tiles')].map((tiles) => "
                    "new Set([...tiles.children].map((f) => f.offsetTop)).size)")  # fmt: skip
    assert rows == [1] * 16
    assert page.run("[...document.images].every((i) => i.loading !== 'lazy')")
    breaks = page.run("[...document.querySelectorAll('.panel')].map((e) => "
                      "getComputedStyle(e).breakInside)")  # fmt: skip
    assert set(breaks) == {"avoid"}


def test_predictions_on_paper(browser, tmp_path):
    row = {"is_anomalous": True, "threshold": 1.0, "error": None, "thumbnail": "none.jpg"}
    rows = [row | {"name": f"{i}.png", "score": 2.0 + i} for i in range(40)]
    predictions_page.write_page(tmp_path / "predictions.html", rows, "cups")
    page = printed(browser, tmp_path / "predictions.html")
    assert not any(seen(page, "select, input"))
    assert page.run("[...document.images].every((i) => i.loading !== 'lazy')")


def test_a_comparison_on_paper_is_whole(browser, tmp_path):
    names = ("category", "run", "method", *(f"metric {i}" for i in range(10)))
    cells = (
        "bottle",
        "/data/lines/seven/runs/patchcore",
        "patchcore",
        *["90.00 [85.00, 95.00]"] * 10,
    )
    table = tables.Table("Runs side by side", names, [cells], [], num_labels=3)
    comparison.write_page(tmp_path / "comparison.html", table)
    page = printed(browser, tmp_path / "comparison.html", width=1047)  # of a sheet that lies
    over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.run("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    assert page.run(over) <= 0
