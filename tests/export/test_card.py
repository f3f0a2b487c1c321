"""What a model card takes from the work directory."""

import json
import types

import pytest

from diffad_jax.export import card


@pytest.fixture
def model(tmp_path):
    found = {"image_auroc": 0.9, "weights": "0f3a"}
    (tmp_path / "metrics.json").write_text(json.dumps({"categories": {"tiles": found}}))
    return types.SimpleNamespace(workdir=tmp_path, category="tiles")


def test_it_tells_metrics_of_these_weights_alone(model):
    assert card._metrics(model, "0f3a")["image_auroc"] == 0.9
    assert card._metrics(model, "retrained") is None
    model.category = "lamps"
    assert card._metrics(model, "0f3a") is None


def test_without_a_whole_evaluation_it_has_none(model, caplog):
    (model.workdir / "metrics.json").write_text('{"categories"')
    assert card._metrics(model, "0f3a") is None
    (model.workdir / "metrics.json").unlink()
    assert card._metrics(model, "0f3a") is None
