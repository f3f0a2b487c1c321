"""README and docs: short, linked soundly, and with tables that are made from the results."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import results_page

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")],
    key=lambda p: p.as_posix(),
)


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_site_is_built(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "photos" / "index.html").exists()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 8192


def paragraphs(page: Path) -> list[str]:
    """Of prose: no code, table, heading or picture; each point of a list alone."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:- |\d+\. ))", prose)
    code, other = "    ", ("|", "#", "<", "!")
    return [b for b in blocks if not b.startswith(code) and not b.lstrip().startswith(other)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_paragraphs_are_short_and_leave_numbers_to_tables(page):
    for paragraph in paragraphs(page):
        assert len(paragraph.split()) <= 90, paragraph[:80]
        words = re.sub(r"`[^`]*`|\]\([^)]*\)", "", paragraph)
        assert len(re.findall(r"\d+(?:[.,]\d+)*", words)) <= 10, paragraph[:80]


@pytest.mark.parametrize("name", results_page.PAGES)
def test_the_tables_of_results_are_made_from_the_runs(name):
    assert results_page.page(name) == results_page.PAGES[name].read_text(encoding="utf-8")
