"""A training sees its photos in their own proportions, and so does all that follows."""

import csv
import json

import ml_collections

from diffad_jax.commands import predict, proportions, train
from diffad_jax.config import stored
from tests.training.test_shapes import wide  # noqa: F401


def test_a_training_sees_its_photos_proportions(
    wide,  # noqa: F811
    tmp_path,
    capsys,
):
    workdir = tmp_path / "run"
    train.train_and_evaluate(wide, workdir, None)
    assert wide.image_size == (16, 24)
    assert "photos are seen at 24 × 16 pixels" in capsys.readouterr().err
    assert stored.read(workdir / "tiles").image_size == (16, 24)
    found = json.loads((workdir / "metrics.json").read_text())["categories"]["tiles"]
    assert found["pixel_auroc"] is not None
    again = ml_collections.ConfigDict(wide)
    with again.unlocked():
        again.image_size = 20
    proportions.settle(again, workdir)  # of the work directory, whatever lies in the folder
    assert again.image_size == (16, 24)
    source = tmp_path / "photos" / "tiles" / "test" / "scratch"
    for name, tile in (("whole", False), ("windows", True)):
        with again.unlocked():
            again.normal_level.floor = 0.0  # places are of whole photos
        predict.predict_photos(again, workdir, source, tmp_path / name, predict.How(tile))
        with (tmp_path / name / "predictions.csv").open() as file:
            assert len(list(csv.DictReader(file))) == 8
