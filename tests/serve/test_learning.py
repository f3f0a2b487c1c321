"""Corrections and calibrations: kept, shown, taken and undone."""

import hashlib
import json

import pytest
from serving import bright_config, lamps_detector, let_the_stage_extend, png, serving

from diffad_jax.commands.train import train_category
from diffad_jax.data import corrections
from diffad_jax.data.layouts import DataError
from diffad_jax.export.exporter import export
from diffad_jax.serve.learning import present


@pytest.fixture
def config(monkeypatch, tmp_path):
    return bright_config(monkeypatch, tmp_path / "photos")


def correct(client, red, label, **query):
    data = png(red, seed=round(1000 * red))
    answer = client.post("/v1/corrections", params={"label": label, **query}, content=data)
    assert answer.status_code == 201, answer.text
    return data


def test_a_correction_is_kept_with_its_photo(config, tmp_path):
    with serving(config, tmp_path / "work") as (client, _):
        data = correct(client, 0.9, "good", who="Ada", name="../../etc/passwd")
    folder = tmp_path / "work" / "lamps" / "corrections"
    (line,) = (folder / "corrections.jsonl").read_text().splitlines()
    kept = json.loads(line)
    assert kept["sha256"] == hashlib.sha256(data).hexdigest()
    assert (kept["label"], kept["who"], kept["name"]) == ("good", "Ada", "../../etc/passwd")
    assert (folder / kept["file"]).read_bytes() == data
    assert [p.name for p in folder.rglob("*.png")] == [f"{kept['sha256']}.png"]


def test_accepted_photos_move_the_threshold_and_undo_moves_it_back(config, tmp_path):
    work = tmp_path / "work"
    with serving(config, work) as (client, service):
        first = service.model.calibration
        for red in (0.5, 0.55, 0.6):
            correct(client, red, "good")
        correct(client, 0.95, "defect")
        correct(client, 0.52, "defect")
        effect = client.get("/v1/recalibration").json()
        assert effect["accepted_called_anomalous"] == {"before": 3, "after": 0, "of": 3}
        assert effect["defects_called_anomalous"] == {"before": 2, "after": 1, "of": 2}
        assert effect["held_out_called_anomalous"]["of"] == first.num_held_out_normal
        assert service.model.calibration is first, "an effect that is shown changes nothing"
        threshold = effect["threshold"]["after"]
        taken = client.post("/v1/recalibration", params={"threshold": repr(threshold)})
        assert taken.status_code == 201
        answer = client.post("/v1/predict", content=png(0.58)).json()["photos"][0]
        assert answer["threshold"] == threshold and not answer["is_anomalous"]
        # Every mode judges by it, and so does the server when it starts anew.
        found = present(lamps_detector(config), work, "lamps").calibration
        assert (found.threshold, found.num_accepted) == (threshold, 3)
        assert client.post("/v1/recalibration/undo").status_code == 201
        assert service.model.calibration == first
        assert client.post("/v1/recalibration/undo").status_code == 409
    lines = (work / "lamps" / "corrections" / "calibrations.jsonl").read_text().splitlines()
    assert [json.loads(line)["undo"] for line in lines] == [False, True], "all are kept"


def test_a_calibration_is_taken_as_it_was_shown_or_not_at_all(config, tmp_path):
    with serving(config, tmp_path / "work") as (client, service):
        correct(client, 0.6, "good")
        shown = client.get("/v1/recalibration").json()["threshold"]["after"]
        correct(client, 0.7, "good")
        late = client.post("/v1/recalibration", params={"threshold": repr(shown)})
        assert late.status_code == 409 and "again" in late.text
        assert service.model.calibration.num_accepted == 0
        assert client.post("/v1/recalibration?threshold=x").status_code == 400


def test_the_last_word_on_a_photo_counts(config, tmp_path):
    with serving(config, tmp_path / "work") as (client, _):
        for label in ("good", "defect", "good", "none"):
            correct(client, 0.6, label)
        state = client.get("/v1/corrections").json()
        assert (state["good"], state["defect"]) == (0, 0)
        bad = client.post("/v1/corrections?label=fine", content=png(0.6))
        assert bad.status_code == 409 and "good, defect, none" in bad.text


def test_other_weights_measure_the_kept_photos_anew(config, tmp_path, capsys):
    work = tmp_path / "work"
    with serving(config, work) as (client, _):
        correct(client, 0.6, "good")
        shown = client.get("/v1/recalibration").json()["threshold"]["after"]
        client.post("/v1/recalibration", params={"threshold": repr(shown)})
    with serving(config, work, scale=2.0) as (client, service):
        assert service.model.calibration.num_accepted == 0
        assert "of other weights" in capsys.readouterr().err
        (old,) = client.get("/v1/corrections").json()["calibrations"]
        assert old["counts"] is False
        effect = client.get("/v1/recalibration").json()
        assert effect["threshold"]["after"] == pytest.approx(2 * shown)
    photo = next((work / "lamps" / "corrections" / "photos").iterdir())
    photo.write_bytes(b"changed")
    with serving(config, work, scale=3.0) as (client, _):
        lost = client.get("/v1/recalibration")
        assert lost.status_code == 409 and photo.name in lost.text


def test_a_line_that_was_cut_off_costs_no_other(config, tmp_path):
    path = tmp_path / "work" / "lamps" / "corrections" / "corrections.jsonl"
    with serving(config, tmp_path / "work") as (client, _):
        correct(client, 0.6, "good")
        whole = path.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        with serving(config, tmp_path / "work") as (client, _):
            correct(client, 0.7, "defect")
            state = client.get("/v1/corrections").json()
            assert (state["good"], state["defect"]) == (1, 1)
        assert {c.label for c in all_kept(tmp_path)} == {"good", "defect"}


def all_kept(tmp_path):
    kept = corrections.Corrections(tmp_path / "work" / "lamps")
    return [*kept.of("good"), *kept.of("defect")]


def test_what_is_acknowledged_is_on_the_disk(config, tmp_path, disk_calls):
    with serving(config, tmp_path / "work") as (client, _):
        disk_calls.clear()
        correct(client, 0.6, "good")
    synced = [path for kind, path, *_ in disk_calls if kind == "fsync"]
    photo, line = (next(i for i, p in enumerate(synced) if name in p)
                   for name in (".tmp", "corrections.jsonl"))  # fmt: skip
    assert photo < line, "a line never names a photo that is not there"


def test_a_full_disk_is_said_and_nothing_is_acknowledged(config, tmp_path, monkeypatch):
    with serving(config, tmp_path / "work") as (client, _):

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(corrections.os, "fsync", full)
            answer = client.post("/v1/corrections?label=good", content=png(0.6))
        assert answer.status_code == 503 and "No space left" in answer.text
        assert client.get("/v1/corrections").json()["good"] == 0


def test_a_recalibration_fits_the_last_stage_anew_and_undo_takes_it_back(
    config, tmp_path, monkeypatch
):
    let_the_stage_extend(monkeypatch)
    work, photo = tmp_path / "work", png(0.9)

    def from_disk():
        model = present(lamps_detector(config), work, "lamps")
        return model.weights, model.calibration

    first = from_disk()
    with serving(config, work) as (client, service):
        correct(client, 0.5, "good")
        correct(client, 0.6, "good")
        effect = client.get("/v1/recalibration").json()
        assert effect["refitted"] == ["bright"] and service.model.weights == first[0]
        assert effect["threshold"]["after"] == pytest.approx(0.6, abs=0.002)
        threshold = repr(effect["threshold"]["after"])
        assert client.post("/v1/recalibration", params={"threshold": threshold}).is_success
        (answer,) = client.post("/v1/predict", content=photo).json()["photos"]
        # 10 photos were trained on, and 2 are added: what they scored becomes 10/12 of it.
        assert answer["score"] == pytest.approx(0.9 * 10 / 12, abs=0.002)
        assert from_disk() == (service.model.weights, service.model.calibration) != first
        again = client.get("/v1/recalibration").json()
        assert again["threshold"]["after"] == effect["threshold"]["after"], "nothing was added"
        assert client.post("/v1/recalibration/undo").is_success
        assert from_disk() == (service.model.weights, service.model.calibration) == first
        assert client.post("/v1/recalibration", params={"threshold": threshold}).is_success
    (kept,) = (work / "lamps" / "corrections" / "fitted").iterdir()
    kept.write_bytes(b"changed")
    with pytest.raises(DataError, match=f"{kept.name} is gone or has changed"):
        from_disk()


def test_a_level_fitted_anew_does_not_pull_the_threshold_down(config, tmp_path, monkeypatch):
    """Good photos that nobody has seen yet would exceed it."""
    let_the_stage_extend(monkeypatch)
    with serving(config, tmp_path / "work") as (client, service):
        correct(client, 0.41, "good")
        threshold = client.get("/v1/recalibration").json()["threshold"]
        # It scores 10/11 of that from now on, and so do held-out photos, but not for the threshold.
        assert threshold["before"] == service.model.calibration.threshold
        assert threshold["before"] < 0.405 < threshold["after"] < 0.415


def test_what_is_exported_judges_by_the_calibration_that_was_taken(config, tmp_path, monkeypatch):
    """Also where the graph rounds otherwise, and so has a threshold of its own."""
    let_the_stage_extend(monkeypatch)
    work, output = tmp_path / "work", tmp_path / "exported"
    train_category(config, work / "lamps", "lamps", None)
    with serving(config, work) as (client, _):
        correct(client, 0.8, "good")
        threshold = client.get("/v1/recalibration").json()["threshold"]["after"]
        client.post("/v1/recalibration", params={"threshold": repr(threshold)})
    export(config, work, output, "openvino")
    card = json.loads((output / "lamps" / "model.json").read_text())
    assert card["threshold"]["value"] == threshold == pytest.approx(0.8, abs=0.002)
