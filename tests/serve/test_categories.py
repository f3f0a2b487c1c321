"""Several categories behind one server."""

import contextlib
import functools
import shutil
import subprocess
import sys

import pytest
from serving import (
    LOCAL,
    bright_config,
    by_brightness,
    let_them_be_told,
    png,
    two_categories,
    wait_for,
)
from starlette.testclient import TestClient

import diffad_jax
from diffad_jax.commands import command_line, exported_folder
from diffad_jax.commands import serve as command
from diffad_jax.commands.modes import MODES
from diffad_jax.commands.predict import How, UnreadableError
from diffad_jax.commands.predict_products import predict_products
from diffad_jax.commands.train import train_category
from diffad_jax.errors import ConfigError
from diffad_jax.export import artifact, exporter, registry
from diffad_jax.export.errors import ExportError
from diffad_jax.runtime.lock import LockedError
from diffad_jax.serve.api import Api
from diffad_jax.serve.limits import Limits
from diffad_jax.serve.service import Common
from diffad_jax.serve.watch import Watch


@pytest.fixture
def two(monkeypatch, tmp_path):
    return functools.partial(two_categories, monkeypatch, tmp_path)


def ask(client, photo, query=""):
    return client.post(f"/v1/predict?{query}", content=photo).json()["photos"][0]


def test_a_photo_is_judged_as_the_category_that_is_named_or_that_it_shows(two):
    categories = two(by_brightness)
    categories.warm_up()
    with TestClient(Api(categories).app(), LOCAL) as client:
        assert client.get("/v1/categories").json() == {
            "categories": ["lamps", "coins"], "told_by_photo": True
        }  # fmt: skip
        dark, bright = png(0.3), png(0.8)
        named = ask(client, bright, "category=lamps")
        assert (named["category"], named["score"] > 0.7) == ("lamps", True)
        told = [ask(client, photo) for photo in (dark, bright)]
        assert [t["category"] for t in told] == ["lamps", "coins"] and told[1]["score"] < 0.1
        strange = client.post("/v1/predict?name=a.png", content=png(0.5))
        assert strange.status_code == 422 and strange.json()["photos"] == [
            {"name": "a.png", "error": "the photo is like none of lamps, coins"}
        ]
        files = [("p", (f"{i}.png", photo)) for i, photo in enumerate([dark, bright] * 3)]
        found = client.post("/v1/predict", files=files).json()["photos"]
        assert [one["category"] for one in found] == ["lamps", "coins"] * 3
        thresholds = [
            client.get(f"/v1/model?category={n}").json()["threshold"] for n in ("lamps", "coins")
        ]
        assert thresholds[0] == pytest.approx(10 * thresholds[1], rel=1e-3)
        assert {one["threshold"] for one in found} == {*thresholds}


def test_where_nothing_tells_them_apart_the_category_is_asked_for(two):
    with TestClient(Api(two(None)).app(), LOCAL) as client:
        assert not client.get("/v1/categories").json()["told_by_photo"]
        for path in ("predict", "corrections?label=good", "recalibration?threshold=1"):
            refused = client.post(f"/v1/{path}", content=png(0.3))
            assert refused.status_code == 400
            assert refused.json()["error"] == (
                "there are several categories: name one of lamps, coins, as category=NAME"
            )
        refused = client.get("/v1/model?category=pills")
        assert refused.json()["error"].startswith("category=pills: name one of lamps, coins")


def test_each_category_is_corrected_and_recalibrated_for_itself(two, tmp_path):
    with TestClient(Api(two(None)).app(), LOCAL) as client:
        client.post("/v1/corrections?label=good&category=coins", content=png(0.9))
        counts = [
            client.get(f"/v1/corrections?category={n}").json()["good"] for n in ("lamps", "coins")
        ]
        assert counts == [0, 1]
        effect = client.get("/v1/recalibration?category=coins").json()
        to = effect["threshold"]["after"]
        before = client.get("/v1/model?category=lamps").json()
        taken = client.post(f"/v1/recalibration?category=coins&threshold={to!r}")
        assert taken.status_code == 201
        assert client.get("/v1/model?category=coins").json()["threshold"] == to
        assert client.get("/v1/model?category=lamps").json() == before
    assert (tmp_path / "work/coins/corrections").is_dir()
    assert not (tmp_path / "work/lamps/corrections/corrections.jsonl").exists()


def test_a_watched_photo_is_of_its_folders_category_or_else_told(two, tmp_path):
    line = tmp_path / "line"
    (line / "lamps").mkdir(parents=True)
    categories = two(by_brightness)
    with TestClient(Api(categories, Watch(categories, line, 0.05)).app(), LOCAL) as client:
        (line / "lamps" / "a.png").write_bytes(png(0.8))
        (line / "b.png").write_bytes(png(0.8))
        found = wait_for(lambda: len(f := client.get("/v1/watched").json()["photos"]) == 2 and f)
        assert {f["name"]: f["category"] for f in found} == {"lamps/a.png": "lamps",
                                                            "b.png": "coins"}  # fmt: skip
        for one in found:  # as it was judged
            again = client.get(f"/v1/watched/{one['id']}").json()
            assert (again["category"], again["score"]) == (one["category"], one["score"])


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """The config and the work directory of dark lamps and bright coins."""
    config = bright_config(monkeypatch, tmp_path / "photos")
    for i in range(20):
        photo = tmp_path / f"photos/coins/train/good/{i:02}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(png(0.6 + 0.01 * i, seed=i))
    let_them_be_told(monkeypatch)
    for name in ("lamps", "coins"):
        config.categories = (name,)
        train_category(config, tmp_path / "work" / name, name, None)
    config.categories = ("lamps", "coins")
    return config, tmp_path / "work"


def test_a_work_directory_is_served_whole(trained):
    config, work = trained
    with contextlib.ExitStack() as stack:
        categories = command._of_workdir(config, work, Common(Limits()), stack)
        client = stack.enter_context(TestClient(Api(categories).app(), LOCAL))
        for name, photo in (("lamps", png(0.3)), ("coins", png(0.7))):
            model = client.get(f"/v1/model?category={name}").json()
            assert model["category"] == name and model["corrections"]
            answer = ask(client, photo)
            assert (answer["category"], answer["threshold"]) == (name, model["threshold"])
        assert "is like none of lamps, coins" in ask(client, png(0.0))["error"]
        with pytest.raises(LockedError):
            command._of_workdir(config, work, Common(Limits()), stack)


def test_an_exported_folder_of_several_holds_what_they_share_once_and_is_served_whole(
    trained, tmp_path
):
    config, work = trained
    exporter.export(config, work, tmp_path / "out", "stablehlo")
    kinds = sorted(p.name.partition("-")[2] for p in (tmp_path / "out/shared").iterdir())
    assert kinds == ["model.stablehlo", "shared.safetensors"]
    for name in config.categories:
        own = artifact.read_weights(tmp_path / "out" / name / "weights.safetensors")
        assert own.keys() == {"bright/red"}

    def parse(*flags):
        argv = ["diffad", f"--workdir={tmp_path / 'out'}", "--mode=serve", *flags]
        return command_line.parse(argv)[0]

    found = parse()
    assert found.categories == ("coins", "lamps")
    served = command._of_exported(found, registry.exported(tmp_path / "out"), Common(Limits()))
    with TestClient(Api(served).app(), LOCAL) as client:
        assert ask(client, png(0.9), "category=coins")["is_anomalous"]
        assert [ask(client, png(red))["category"] for red in (0.3, 0.7)] == ["lamps", "coins"]
        assert "is like none of coins, lamps" in ask(client, png(0.0))["error"]
        models = [entry.service.model for entry in served.entries.values()]
        assert models[0].program == models[1].program
    assert parse("--config.categories=lamps").categories == ("lamps",)
    with pytest.raises(ConfigError, match="holds coins, lamps, exported, and no pills"):
        parse("--config.categories=pills")
    with pytest.raises(ConfigError, match="exported folder.*--mode=evaluate needs the work dir"):
        MODES["evaluate"](found, "evaluate")


def test_photos_are_told_apart_where_the_exports_cards_say_how_far_they_may_be(
    trained, tmp_path, capsys
):
    config, work = trained
    exporter.export(config, work, tmp_path / "out", "stablehlo")
    for name, red in (("a", 0.3), ("b", 0.7), ("c", 0.0)):
        (tmp_path / f"in/{name}.png").parent.mkdir(exist_ok=True)
        (tmp_path / f"in/{name}.png").write_bytes(png(red))

    def predict(run, folder, to, *flags, **how):
        argv = ["diffad", f"--workdir={folder}", "--mode=predict", *flags]
        how = {"save": ("overlay",)} | how
        run(command_line.parse(argv)[0], folder, tmp_path / "in", tmp_path / to, How(**how))

    for run, folder, to in (
        (predict_products, work, "before"),
        (exported_folder.predict, tmp_path / "out", "after"),
    ):
        with pytest.raises(UnreadableError, match=r"c\.png is like none of coins, lamps"):
            predict(run, folder, to)
    for table in ("products.csv", "lamps/predictions.csv", "coins/predictions.csv"):
        assert (tmp_path / "after" / table).read_text() == (tmp_path / "before" / table).read_text()
    assert (tmp_path / "after/lamps/a.png.overlay.png").exists()
    with pytest.raises(ConfigError, match="--tile: the graph in .* whole photos"):
        predict(exported_folder.predict, tmp_path / "out", "tiles", tile=True)

    shutil.rmtree(tmp_path / "photos")
    for name in config.categories:
        (work / name / "likeness.json").unlink()
    capsys.readouterr()
    exporter.export(config, work, tmp_path / "later", "stablehlo")
    assert "this export cannot tell its categories apart, since" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="tells its categories apart .*--config.categories=coins"):
        predict(exported_folder.predict, tmp_path / "later", "later_out")
    one = "--config.categories=lamps"
    predict(exported_folder.predict, tmp_path / "later", "lamps", one, threshold=0.9)
    table = (tmp_path / "lamps/predictions.csv").read_text()
    assert "b.png" in table and ",1," not in table


def test_a_category_of_such_an_export_runs_beside_what_it_shares(trained, tmp_path):
    config, work = trained
    exporter.export(config, work, tmp_path / "out", "stablehlo")
    (tmp_path / "a.png").write_bytes(png(0.9))
    wanted = diffad_jax.load(work / "coins").predict(tmp_path / "a.png")
    found = diffad_jax.load(tmp_path / "out/coins").predict(tmp_path / "a.png")
    assert found.score == pytest.approx(wanted.score) and found.threshold == wanted.threshold
    with pytest.raises(ConfigError, match="several categories: load one, such as .*out/coins"):
        diffad_jax.load(tmp_path / "out")
    shutil.move(tmp_path / "out", tmp_path / "moved")
    command = [sys.executable, tmp_path / "moved/coins/run.py", tmp_path / "a.png"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert f"{wanted.score:.6f},1,anomalous" in done.stdout, done.stderr
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "moved/coins", check=True
    )
    (graph,) = (tmp_path / "moved/shared").glob("*-model.stablehlo")
    graph.write_bytes(b"")
    with pytest.raises(artifact.ArtifactError, match=r"\.\./shared/, .*stablehlo has changed"):
        diffad_jax.load(tmp_path / "moved/coins")


def test_a_category_cannot_be_called_as_what_they_share(trained, tmp_path):
    config, work = trained
    config.categories = ("shared", "lamps")
    with pytest.raises(ExportError, match="export that one alone"):
        exporter.export(config, work, tmp_path / "out", "stablehlo")
