"""What inspectors corrected, as photos to train on and to test on."""

import json
from pathlib import Path

import pytest
from serving import bright_config, png, serving

from diffad_jax.commands.evaluate import evaluate
from diffad_jax.commands.train import train_category
from diffad_jax.data import split
from diffad_jax.data.layouts import DataError
from diffad_jax.errors import ConfigError


@pytest.fixture
def config(monkeypatch, tmp_path):
    """Of ``lamps``, with a good test photo, and a work directory in which it is trained."""
    config = bright_config(monkeypatch, tmp_path / "photos")
    for kind, red in (("good", 0.31), ("broken", 0.9)):
        folder = tmp_path / "photos" / "lamps" / "test" / kind
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(png(red, seed=99))
    train_category(config, tmp_path / "work" / "lamps", "lamps", None)
    return config


def correct(config, workdir, label, *photos):
    with serving(config, workdir) as (client, _):
        for data in photos:
            client.post(f"/v1/corrections?label={label}", content=data)
        return client.get("/v1/corrections").json()


def photo_of(config, name):
    return (Path(config.data.root) / name).read_bytes()


def train(config, directory, capsys, corrections_of=None, **how):
    """The split, and what was said."""
    capsys.readouterr()
    train_category(config, directory, "lamps", None, corrections_of=corrections_of, **how)
    return split.read(directory), capsys.readouterr().err


def test_accepted_photos_are_trained_on_but_none_that_is_held_out_or_tested(
    config, tmp_path, capsys
):
    work, other = tmp_path / "work", tmp_path / "other" / "lamps"
    before = split.read(work / "lamps")
    known = [*before.held_out][0], [*before.train][0], "lamps/test/good/0.png"
    new = png(0.5, seed=50), png(0.55, seed=51)
    correct(config, work, "good", *new, *(photo_of(config, name) for name in known))

    found, said = train(config, other, capsys, work)
    assert "2 of 5 photos that inspectors accepted are trained on" in said
    accepted = split.accepted_in(found)
    assert found == before._replace(train=before.train | accepted)
    assert {Path(p).read_bytes() for p in split.paths(config, accepted)} == {*new}
    # Without the flag they stay, and a photo that is taken back leaves with it.
    assert train(config, other, capsys)[0] == found
    correct(config, work, "none", new[0])
    again, said = train(config, other, capsys, work)
    assert again == found and "1 gone" in said
    again, _ = train(config, other, capsys, work, retrain=True)
    assert again.train.keys() - before.train.keys() == {
        name for name in accepted if Path(name).read_bytes() == new[1]
    }
    # Those that the detector knows choose no threshold on its page.
    assert correct(config, other.parent, "good", new[1])["known"] == 1


def test_training_on_takes_what_was_accepted_since(config, tmp_path, capsys):
    work = tmp_path / "work"
    before = split.read(work / "lamps")
    correct(config, work, "good", png(0.5, seed=50))
    found, said = train(config, work / "lamps", capsys, work)
    assert found == before and "1 added" in said
    found, _ = train(config, work / "lamps", capsys, work, finetune=True)
    assert found.held_out == before.held_out and len(split.accepted_in(found)) == 1


def test_what_does_not_go_together_is_said(config, tmp_path, capsys):
    work = tmp_path / "work"
    with pytest.raises(DataError, match=r"nowhere/lamps/corrections is not there: --corrections"):
        train(config, work / "lamps", capsys, tmp_path / "nowhere")
    correct(config, work, "good", png(0.5))
    with pytest.raises(ConfigError, match=r"recalibrate on the page"):
        train(config, work / "lamps", capsys, work, recalibrate=True)
    with pytest.raises(ConfigError, match="leave it or --corrections away"):
        evaluate(config, work, compare=["paper"], corrections_of=work)


def test_corrected_photos_are_a_test_set_with_a_report(config, tmp_path, capsys):
    work = tmp_path / "work"
    good = png(0.5, seed=1), png(0.39, seed=2)
    held_out = photo_of(config, [*split.read(work / "lamps").held_out][0])
    correct(config, work, "defect", png(0.9, seed=3), png(0.35, seed=4))
    correct(config, work, "good", *good, held_out)
    evaluate(config, work, corrections_of=work)
    said = capsys.readouterr()
    assert "1 of 2 defects found, 1 of 2 good photos called anomalous" in said.out
    assert "1 corrected photos are left out" in said.err
    metrics = json.loads((work / "corrected" / "metrics.json").read_text())["categories"]["lamps"]
    assert (metrics["num_normal"], metrics["num_anomalous"]) == (2, 2)
    assert "defect" in (work / "corrected" / "lamps" / "report.html").read_text()
    assert not (work / "metrics.json").exists(), "the test photos' results are others"

    with serving(config, work) as (client, _):
        threshold = client.get("/v1/recalibration").json()["threshold"]["after"]
        client.post(f"/v1/recalibration?threshold={threshold!r}")
    evaluate(config, work, corrections_of=work)
    said = capsys.readouterr()
    assert "1 of 2 defects found, 0 of 0 good" in said.out
    assert "3 corrected photos are left out" in said.err


def test_test_photos_that_were_accepted_are_named(config, tmp_path, capsys):
    work = tmp_path / "work"
    correct(config, work, "good", photo_of(config, "lamps/test/good/0.png"))
    with serving(config, work) as (client, _):
        threshold = client.get("/v1/recalibration").json()["threshold"]["after"]
        client.post(f"/v1/recalibration?threshold={threshold!r}")
    evaluate(config, work)
    assert "inspectors accepted 1 of the test photos" in capsys.readouterr().err
