"""An inspector at the page with real photos: drops, corrects, recalibrates, undoes.

    python -m tests.slow.serve_operator --workdir=runs/padim --photos=data/mvtec/bottle/test \
      --output=runs/shots

Chromium is driven by the keyboard alone once the photos are dropped. The work directory is copied:
nothing is corrected in it. Screenshots are to be looked at; what the page does is checked.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from absl import app, flags

from tests.report_browser import Page, chromium

_WORKDIR = flags.DEFINE_string("workdir", None, "Of a trained detector.", required=True)
_PHOTOS = flags.DEFINE_string("photos", None, "Holds good, and a folder a defect.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "A folder for screenshots.", required=True)
_GOOD, _DEFECTS, _ACCEPTED = 20, 10, 3
_ROOT = Path(__file__).parents[2]


def main(argv: list[str]) -> None:
    del argv
    output = Path(_OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copytree(_WORKDIR.value, place / "work")
        lay_out(Path(_PHOTOS.value), place / "shift")
        (place / "line").mkdir()
        command = [sys.executable, "-m", "diffad_jax.main", "--mode=serve", "--port=0",
                   f"--workdir={place / 'work'}", f"--watch={place / 'line'}"]  # fmt: skip
        with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as server:
            address = server.stdout.readline().strip()
            with chromium() as page:
                page.allowed = (address, "data:", "about:", "blob:")
                page.open(address)

                def shot(name: str) -> None:
                    page.run("scrollTo(0, 0)")  # else what scrolls may be blank far from there
                    page.frames()
                    page.screenshot(output / f"{name}.png")

                found = operate(page, place, shot)
            server.terminate()
    print(json.dumps(found))


def lay_out(photos: Path, folder: Path) -> None:
    """Thirty photos in one folder; their names say what they are."""
    folder.mkdir()
    good = sorted((photos / "good").iterdir())[:_GOOD]
    defects = sorted(p for p in photos.glob("*/*") if p.parent.name != "good")
    for path in good + defects[:: max(len(defects) // _DEFECTS, 1)][:_DEFECTS]:
        shutil.copy(path, folder / f"{path.parent.name}_{path.name}")


def operate(page: Page, place: Path, shot: Callable[[str], None]) -> dict[str, object]:
    """What the page said on the way; a check that fails ends it."""
    page.wait("state.model && document.getElementById('kept').textContent")
    page.drop(place / "shift")
    page.wait(f"state.photos.length == {_GOOD + _DEFECTS}")
    page.wait("!document.getElementById('current').hidden")
    shot("1_dropped")
    first = counts(page)
    names = page.run("state.photos.map((photo) => photo.name)")
    assert names == sorted(names), "as they lie in the folder"

    # The good photos of the highest scores, which are called anomalous first.
    scores = page.run("state.photos.map((photo) => [photo.name, photo.score])")
    good = sorted((s, n) for n, s in scores if n.rpartition("/")[2].startswith("good_"))
    accepted = {name for _, name in good[-_ACCEPTED:]}
    for _ in scores:
        name = page.run("state.current.name")
        if name in accepted:
            page.press("g")
            page.wait("state.current.label == 'good'")
        page.press("ArrowRight")
        page.wait(f"state.current.name != {json.dumps(name)} || state.photos.at(-1).name == "
                  f"{json.dumps(name)}")  # fmt: skip
    assert page.run("byId('num-corrected').textContent") == str(_ACCEPTED)
    shot("2_corrected")
    reach(page, "show-effect")
    page.press("Enter")
    page.wait("!byId('effect').hidden")
    shot("3_effect")
    effect = page.run("byId('effect').innerText")
    reach(page, "take")
    page.press("Enter")
    page.wait("document.querySelectorAll('#history li').length == 1")
    page.wait("state.current.pictures")
    page.frames()
    shot("4_taken")
    taken = counts(page)
    reach(page, "undo")
    page.press("Enter")
    page.wait("!document.querySelectorAll('#history li').length")
    page.wait("state.current.pictures && byId('regions').textContent")
    page.frames()
    undone = counts(page)
    assert undone == first, (first, undone)

    page.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1,
              mobile=True)  # fmt: skip
    page.frames()
    assert page.run("document.documentElement.scrollWidth") <= 390
    shot("5_phone")
    page.call("Emulation.setEmulatedMedia",
              features=[{"name": "prefers-color-scheme", "value": "dark"}])  # fmt: skip
    page.frames()
    shot("6_phone_dark")
    shutil.copy(next((place / "shift").iterdir()), place / "line" / "watched.png")
    page.wait("state.photos.at(-1).name == 'watched.png'")
    reach(page, "camera")
    page.press("Enter")
    page.wait("byId('video').videoWidth > 0")
    shot("7_camera")
    page.press(" ")
    page.wait("state.photos.at(-1).name.startsWith('camera')")
    page.wait("state.current === state.photos.at(-1)")
    shot("8_taken_photo")
    assert page.problems == [], page.problems
    return {"first": first, "taken": taken, "undone": undone, "effect": effect}


def counts(page: Page) -> dict[str, int]:
    """Of the headline."""
    names = ("good", "anomalous")
    return {n: int(page.run(f"byId('num-{n}').textContent")) for n in names}


def reach(page: Page, name: str) -> None:
    """Presses Tab until the element has the focus."""
    for _ in range(60):
        page.press("Tab")
        if page.run("document.activeElement.id") == name:
            return
    raise AssertionError(f"sixty presses of Tab do not lead to {name}")


if __name__ == "__main__":
    app.run(main)
