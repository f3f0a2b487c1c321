"""The inspection page in a browser, as an operator uses it."""

import pytest
from report_browser import CHROMIUM, chromium
from serving import bright_config, by_brightness, listening, make_api, png, two_categories

from diffad_jax.serve.api import Api
from diffad_jax.serve.categories import Entry

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)"
)
CARDS = "[...document.querySelectorAll('#strip li')]"


def text(page, name):
    return page.run(f"document.getElementById('{name}').textContent")


@pytest.fixture(scope="module")
def browser():
    with chromium() as page:
        yield page


@pytest.fixture
def page(browser, monkeypatch, tmp_path):
    config = bright_config(monkeypatch, tmp_path / "photos")
    (tmp_path / "line").mkdir()
    api, _ = make_api(config, tmp_path / "work", watched=tmp_path / "line")
    with listening(api) as address:
        browser.problems.clear()
        browser.allowed = (address, "data:", "about:", "blob:")
        browser.open(address)
        browser.wait("state.model && document.getElementById('kept').textContent")
        yield browser
        browser.run("clearInterval(state.timer)")
        assert browser.problems == []


def drop_photos(page, folder):
    """Six good photos, of which three are called anomalous, and one defect, in a folder."""
    (folder / "shift").mkdir()
    for i, red in enumerate([0.2, 0.25, 0.3, 0.5, 0.55, 0.6, 0.95]):
        (folder / "shift" / f"{i}.png").write_bytes(png(red, (30, 40), seed=i))
    page.drop(folder / "shift")
    page.wait(f"{CARDS}.length == 7")


def test_an_operator_drops_corrects_recalibrates_and_undoes(page, tmp_path):
    drop_photos(page, tmp_path)
    assert (text(page, "num-good"), text(page, "num-anomalous")) == ("3", "4")
    page.wait("!document.getElementById('current').hidden")
    labels = {"3.png": "g", "4.png": "g", "5.png": "g", "6.png": "d"}
    page.run("attempt(select)(state.photos[0])")
    for _ in range(7):  # by the keyboard alone
        name = text(page, "name").rpartition("/")[2]
        if name in labels:
            page.press(labels[name])
            page.wait(f"state.current.label == '{'good' if labels[name] == 'g' else 'defect'}'")
        page.press("ArrowRight")
        page.frames()
    assert text(page, "num-corrected") == "4"
    assert text(page, "kept").startswith("Accepted as good: 3. Marked as defects: 1.")
    page.click("#show-effect")
    page.wait("!document.getElementById('effect').hidden")
    rows = page.run(
        "[...document.querySelectorAll('#effect tbody tr')].slice(1).map((r) => r.textContent)"
    )
    assert rows[1].endswith("called anomalous303") and rows[2] == "marked defects found111"
    page.click("#take")
    page.wait("document.querySelectorAll('#history li').length == 1")
    page.wait("document.getElementById('num-anomalous').textContent == '1'")
    page.run("attempt(select)(state.photos[5])")  # its regions are those of the new threshold, too
    page.wait("state.current.pictures && document.getElementById('regions').textContent == ''")
    page.click("#undo")
    page.wait("document.getElementById('num-anomalous').textContent == '4'")
    assert page.run("document.getElementById('undo').disabled")


def test_a_late_answer_leaves_the_photo_selected_since_on_show(page, tmp_path):
    drop_photos(page, tmp_path)
    page.run("""(async () => {
        delete state.photos[0].pictures;
        const late = select(state.photos[0]);
        await select(state.photos[6]);
        await late;
    })()""")
    assert text(page, "name").endswith("6.png")
    assert text(page, "regions") != ""


def test_only_the_photo_on_show_is_corrected_and_the_last_word_counts(page, tmp_path):
    drop_photos(page, tmp_path)
    page.run("""(async () => {
        delete state.photos[0].pictures;
        const late = select(state.photos[0]);
        await attempt(correct)("good");
        await late;
    })()""")
    assert "not on show yet" in text(page, "said")
    assert text(page, "num-corrected") == "0"
    page.run("""(async () => {
        const asked = fetch;
        fetch = async (path, options) => {
            if (path.includes("label=good")) await new Promise((done) => setTimeout(done, 300));
            return asked(path, options);
        };
        await Promise.all([correct("good"), correct("defect")]);
        fetch = asked;
    })()""")
    assert page.run("state.photos[0].label") == "defect"
    assert text(page, "kept").startswith("Accepted as good: 0. Marked as defects: 1.")


def test_the_slider_shows_what_another_threshold_would_say(page, tmp_path):
    drop_photos(page, tmp_path)
    page.run("(() => { const s = document.getElementById('slider'); s.value = 0.57;"
             "s.dispatchEvent(new Event('input')); })()")  # fmt: skip
    assert text(page, "num-anomalous") == "2"
    assert "2 of 7 photos here" in text(page, "what-if")
    page.click("#reset")
    assert text(page, "num-anomalous") == "4"


def test_a_watched_photo_comes_by_itself_and_a_camera_takes_one(page, tmp_path):
    (tmp_path / "line" / "new.png").write_bytes(png(0.9))
    page.wait(f"{CARDS}.length == 1")
    assert text(page, "num-anomalous") == "1"
    page.wait("state.shown")
    page.press("g")
    page.wait("state.photos[0].label == 'good'")
    page.click("#camera")
    page.wait("document.getElementById('video').videoWidth > 0")
    page.click("#shoot")
    page.wait(f"{CARDS}.length == 2")
    page.wait("state.current === state.photos[1]")
    assert page.run("document.querySelectorAll('[aria-current=true]').length") == 1
    page.click("#stop-camera")
    assert page.run("state.stream") is None


def test_a_watched_photo_comes_once_however_late_the_answers_come(page, tmp_path):
    page.run("clearInterval(state.timer)")
    (tmp_path / "line" / "new.png").write_bytes(png(0.9))
    page.run("""(async () => {
        while (!(await ask("/v1/watched?after=0")).photos.length)
            await new Promise((done) => setTimeout(done, 50));
        const known = know;
        know = () => { throw new Error("no answer"); };
        await attempt(lookAtFolder)();
        know = known;
        await Promise.all([lookAtFolder(), lookAtFolder()]);
    })()""")
    assert page.run(f"{CARDS}.length") == 1


def test_a_camera_that_is_opened_again_is_stopped_as_well(page):
    page.run("""(async () => {
        await openCamera();
        window.first = state.stream;
        await openCamera();
    })()""")
    assert page.run("first.getTracks().map((track) => track.readyState)") == ["ended"]
    assert page.run("state.stream.getTracks().map((track) => track.readyState)") == ["live"]
    page.click("#stop-camera")


def test_the_page_follows_a_recalibration_of_someone_else(page, tmp_path):
    page.run("state.model.threshold = 0.01")  # as it was, for this page
    (tmp_path / "a.png").write_bytes(png(0.3))
    page.drop(tmp_path / "a.png")
    page.wait("document.getElementById('num-good').textContent == '1'")
    assert page.run("state.model.threshold") > 0.3


def test_without_a_threshold_no_photo_is_counted_as_good(page, tmp_path):
    drop_photos(page, tmp_path)
    page.run("(() => { state.model.threshold = null; count(); })()")
    assert (text(page, "num-good"), text(page, "num-anomalous")) == ("0", "0")


def test_photos_dropped_before_the_model_is_known_wait_for_it(page, tmp_path):
    page.run("state.model = null")
    (tmp_path / "a.png").write_bytes(png(0.9))
    page.drop(tmp_path / "a.png")
    page.wait("state.queue.length == 1")
    assert page.run("state.sending") == 0
    page.run("attempt(begin)()")
    page.wait(f"{CARDS}.length == 1")
    assert text(page, "num-anomalous") == "1" and page.run("state.queue.length") == 0


def test_an_answer_that_a_proxy_gives_is_said_by_its_number(page):
    page.run("""(async () => {
        const asked = fetch;
        fetch = () => new Response("<html>too large</html>", { status: 413 });
        await attempt(showEffect)();
        fetch = asked;
    })()""")
    assert "answers 413" in text(page, "said")


def test_looking_for_new_photos_leaves_an_error_of_something_else_on_show(page):
    page.run("clearInterval(state.timer)")
    page.run("attempt(() => { throw new Error('it is full'); })()")
    page.run("attempt(lookAtFolder)()")
    assert text(page, "said") == "it is full"
    page.run("attempt(draw)()")
    assert text(page, "said") == ""
    page.run("""(async () => {
        const asked = fetch;
        fetch = () => { throw new Error('no answer'); };
        await attempt(lookAtFolder)();
        fetch = asked;
    })()""")
    assert text(page, "said") == "no answer"
    page.run("attempt(lookAtFolder)()")
    assert text(page, "said") == ""


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_and_a_hostile_name_is_only_text(page, tmp_path, dark):
    page.open(page.allowed[0], width=390, height=844, dark=dark)
    page.wait("state.model")
    name = "<img src=x onerror=alert(1)>.png"
    (tmp_path / name).write_bytes(png(0.9))
    page.drop(tmp_path / name)
    page.wait(f"{CARDS}.length == 1")
    page.wait("!document.getElementById('current').hidden")
    assert text(page, "name") == name
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert page.pale_texts() == []
    colour = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
    assert (max(page.run(colour)) < 60) is dark


def test_keys_alone_reach_everything(page, tmp_path):
    drop_photos(page, tmp_path)
    page.wait("!document.getElementById('current').hidden")
    reached = set()
    for _ in range(20):  # the strip is one stop, however many photos it has
        page.press("Tab")
        reached.add(page.run("document.activeElement.id"))
    assert {"choose", "camera", "good", "defect", "next", "who", "slider", "show-effect"} <= reached


def test_a_server_that_keeps_no_corrections_says_why(browser, monkeypatch, tmp_path):
    config = bright_config(monkeypatch, tmp_path / "photos")
    api, service = make_api(config, tmp_path / "work")
    api._categories.entries["lamps"] = Entry(service, "an exported folder is served")
    (tmp_path / "a.png").write_bytes(png(0.9))
    with listening(api) as address:
        browser.problems.clear()
        browser.allowed = (address, "data:", "about:", "blob:")
        browser.open(address)
        browser.wait("state.model")
        browser.drop(tmp_path / "a.png")
        browser.wait(f"{CARDS}.length == 1")
        browser.press("g")
        assert text(browser, "kept") == "an exported folder is served."
        shown = "['learning', 'good', 'moves'].map((id) => !document.getElementById(id).hidden)"
        assert browser.run(shown) == [True, False, False]
        browser.open("about:blank")
        assert browser.problems == []


def test_scores_that_a_recalibration_changes_are_asked_for_again(page, tmp_path):
    drop_photos(page, tmp_path)
    page.run("state.photos.forEach((photo) => { photo.score = 0; })")
    page.run("state.model.weights = 'of before'")
    page.run("attempt(meet)(state.model.category)")
    assert text(page, "num-anomalous") == "4"


def test_a_token_is_asked_for_and_taken_from_the_address(browser, monkeypatch, tmp_path):
    config = bright_config(monkeypatch, tmp_path / "photos")
    api, _ = make_api(config, tmp_path / "work")
    with listening(api, token="0123456789abcdef") as address:
        browser.allowed = (address, "data:", "about:", "blob:")
        browser.open(address)
        browser.wait("!document.getElementById('enter').hidden")
        browser.open("about:blank")
        browser.open(address + "#token=0123456789abcdef")
        browser.wait("state.model")
        assert browser.run("location.hash") == "" and browser.run("document.cookie") == ""
        browser.open("about:blank")


def test_photos_of_several_categories_are_judged_each_by_its_own(browser, monkeypatch, tmp_path):
    categories = two_categories(monkeypatch, tmp_path, by_brightness)
    for name, red in (("dark.png", 0.3), ("light.png", 0.9)):  # 0.9 of coins scores 0.09
        (tmp_path / name).write_bytes(png(red))
    with listening(Api(categories)) as address:
        browser.problems.clear()
        browser.allowed = (address, "data:", "about:", "blob:")
        browser.open(address)
        browser.wait("state.model")
        for i, name in enumerate(("dark.png", "light.png")):
            browser.drop(tmp_path / name)
            browser.wait(f"{CARDS}.length == {i + 1}")
        assert browser.run("state.photos.map((p) => p.category)") == ["lamps", "coins"]
        assert text(browser, "num-anomalous") == "1" and "lamps" in text(browser, "category")
        browser.run("attempt(select)(state.photos[1])")
        browser.wait("document.getElementById('category').textContent.startsWith('coins')")
        assert "1 of 1 photos here are anomalous" in text(browser, "what-if")
        browser.wait("state.shown === state.photos[1]")
        browser.press("g")
        browser.wait("state.photos[1].label == 'good'")
        assert text(browser, "kept").startswith("Accepted as good: 1.")
        browser.run("(() => { const list = document.getElementById('which'); list.value = 'lamps';"
                    "list.dispatchEvent(new Event('change')); })()")  # fmt: skip
        browser.wait(
            "document.getElementById('kept').textContent.startsWith('Accepted as good: 0')"
        )
        browser.drop(tmp_path / "light.png")
        browser.wait(f"{CARDS}.length == 3")
        assert browser.run("state.photos[2].category") == "lamps"
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        browser.open("about:blank")
        assert browser.problems == []


def test_a_late_answer_of_another_category_is_not_shown_with_this_one(
    browser, monkeypatch, tmp_path
):
    categories = two_categories(monkeypatch, tmp_path, by_brightness)
    with listening(Api(categories)) as address:
        browser.problems.clear()
        browser.allowed = (address, "data:", "about:", "blob:")
        browser.open(address)
        browser.wait("state.model")
        for i, (name, red) in enumerate((("dark.png", 0.3), ("light.png", 0.9))):
            (tmp_path / name).write_bytes(png(red))
            browser.drop(tmp_path / name)
            browser.wait(f"{CARDS}.length == {i + 1}")
        for act in ("correct('good')", "showEffect()", "meet('lamps')"):
            browser.run(f"""(async () => {{
                await select(state.photos[0]);
                const late = {act};
                await select(state.photos[1]);
                await late;
            }})()""")
            assert text(browser, "category").startswith("coins")
            assert text(browser, "kept").startswith("Accepted as good: 0.")
            assert browser.run("document.getElementById('effect').hidden")
        assert browser.run("state.photos.map((photo) => photo.label)") == ["good", None]
        browser.open("about:blank")
        assert browser.problems == []
