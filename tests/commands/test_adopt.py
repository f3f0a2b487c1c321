"""A product that shared networks were not trained on."""

import json
import shutil

import pytest

from configs import mvtec_small
from diffad_jax.commands.adopt import adopt
from diffad_jax.commands.evaluate import evaluate
from diffad_jax.commands.train import train_and_evaluate
from diffad_jax.errors import UserError
from diffad_jax.inference.detector import Detector
from diffad_jax.training.fingerprint import weights_hash
from diffad_jax.training.shared import ADOPTED


def test_it_is_taken_in_without_a_step_and_told_how_it_is_rebuilt(
    together, together_trained, tmp_path, capsys
):
    work = shutil.copytree(together_trained, tmp_path / "work")
    steps = (work / "shared/metrics.jsonl").read_text()
    adopt(together.copy_and_resolve_references(), work, "coins")
    said = capsys.readouterr().out
    found = json.loads((work / "coins" / ADOPTED).read_text())
    assert (
        found["threshold"] == json.loads((work / "coins/threshold.json").read_text())["threshold"]
    )
    others = found["reconstruction_db_of_trained"]
    assert others.keys() == {"tiles", "lamps"} and all(0.0 < db < 60.0 for db in others.values())
    assert found["training_advised"] == (found["reconstruction_db"] < min(others.values()))
    assert f"{found['reconstruction_db']:.1f} dB" in said and f"tiles {others['tiles']:.1f}" in said
    assert ("coins: training is advised, --finetune" in said) == found["training_advised"]

    coins, tiles = (Detector.from_workdir(together, work, c).weights for c in ("coins", "tiles"))
    assert weights_hash(coins["segmenter"]) == weights_hash(tiles["segmenter"])
    assert weights_hash(coins["normal_level"]) != weights_hash(tiles["normal_level"])
    together.categories = ("coins", "lamps", "tiles")
    evaluate(together, work)
    assert "coins: 3 of 3 defects found" in capsys.readouterr().out
    train_and_evaluate(together, work, None)  # neither refuses it nor trains
    assert (work / "shared/metrics.jsonl").read_text() == steps


def test_one_that_they_know_and_a_work_directory_without_are_refused(
    together, together_trained, tmp_path
):
    with pytest.raises(UserError, match="--category=tiles: the networks .* trained on it already"):
        adopt(together, together_trained, "tiles")
    alone = mvtec_small.get_config("tiles")
    with pytest.raises(UserError, match="train with --config.shared=True"):
        adopt(alone, tmp_path, "coins")
