"""An exported folder behind the page and the API."""

import pytest
from serving import LOCAL, bright_config, png, wait_for
from starlette.testclient import TestClient

import diffad_jax
from diffad_jax.commands import command_line
from diffad_jax.commands import serve as command
from diffad_jax.commands.modes import MODES
from diffad_jax.commands.train import train_category
from diffad_jax.errors import ConfigError
from diffad_jax.export import exporter, registry
from diffad_jax.serve.api import Api
from diffad_jax.serve.limits import Limits
from diffad_jax.serve.service import Common
from diffad_jax.serve.watch import Watch


@pytest.fixture
def folder(monkeypatch, tmp_path):
    config = bright_config(monkeypatch, tmp_path / "photos")
    train_category(config, tmp_path / "work" / "lamps", "lamps", None)
    exporter.export(config, tmp_path / "work", tmp_path / "out", "stablehlo")
    return tmp_path / "out" / "lamps"


def parse(folder, *flags, mode="serve"):
    return command_line.parse(["diffad", f"--workdir={folder}", f"--mode={mode}", *flags])[0]


def served(config, folder):
    return command._of_exported(config, registry.exported(folder), Common(Limits()))


def test_it_judges_as_in_python_and_says_why_nothing_is_corrected(folder, tmp_path):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    categories = served(parse(folder, "--config.evaluation.batch_size=2"), folder)
    (tmp_path / "line").mkdir()
    watch, told = Watch(categories, tmp_path / "line", every=0.05), []
    categories.common.on_anomalous = told.append
    api = Api(categories, watch)
    photo = tmp_path / "a.png"
    photo.write_bytes(png(0.9))
    wanted = diffad_jax.load(folder).predict(photo)
    with TestClient(api.app(), LOCAL) as client:
        pictures = "photo,overlay,heat_map"
        answer = client.post(f"/v1/predict?pictures={pictures}", content=photo.read_bytes())
        (found,) = answer.json()["photos"]
        assert (found["score"], found["threshold"]) == (wanted.score, wanted.threshold)
        assert found["is_anomalous"] and found["regions"][0]["area"] == wanted.regions[0].area
        (tmp_path / "line" / "b.png").write_bytes(png(0.8))
        wait_for(lambda: client.get("/v1/watched").json()["photos"])
        assert [t["name"] for t in told] == ["", "b.png"]
        model = client.get("/v1/model").json()
        assert model["num_held_out_normal"] == 10 and model["held_out_scores"] == []
        assert not model["corrections"] and "serve the work directory" in model["no_corrections"]
        for path in ("corrections?label=good", "recalibration?threshold=1", "recalibration/undo"):
            refused = client.post(f"/v1/{path}", content=b"")
            assert (refused.status_code, refused.json()["error"]) == (409, model["no_corrections"])
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_what_does_not_fit_is_said(folder):
    with pytest.raises(ConfigError, match=r"config\.seed = 5, but the graph in .* with 0"):
        served(parse(folder, "--config.seed=5"), folder)
    for mode in ("adopt", "evaluate", "train"):
        with pytest.raises(ConfigError, match=f"exported folder.*--mode={mode} needs the work dir"):
            MODES[mode](parse(folder, mode=mode), mode)
    config = parse(folder)
    (folder / "model.stablehlo").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"model\.stablehlo.*export it again"):
        served(config, folder)
    (folder / "model.json").write_text('{"category": "lamps"}')
    with pytest.raises(ConfigError, match=r"cannot read .*model\.json: KeyError"):
        parse(folder)
