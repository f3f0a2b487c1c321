"""What a training sees of its photos."""

import shutil
import types

import numpy as np
import pytest
from PIL import Image

from configs import padim
from diffad_jax.commands import train
from diffad_jax.config import stored
from diffad_jax.data import examples, split
from diffad_jax.errors import UserError
from diffad_jax.methods.registry import get_method, sections
from diffad_jax.training.checkpoint import EARLIER, Checkpoints
from diffad_jax.training.fingerprint import BEGUN_FROM


def test_without_held_out_photos_a_stage_is_looked_at_on_its_own(tiny_config, photos):
    """validation_share = 0, or a single photo."""
    tiny_config.data.validation_share = 0.0
    drawn = split.draw(tiny_config, "tiles")
    assert not drawn.held_out
    for some in (drawn, split.Split(dict([*drawn.train.items()][:1]), {})):
        batch = next(examples.batches(tiny_config, {"tiles": some}, "validation", 2))
        assert batch["image"].shape == (2, 16, 16, 3)
        seen = next(examples.batches(tiny_config, {"tiles": some}, "train", 2))
        assert not np.array_equal(batch["augmented_image"], seen["augmented_image"])


def test_each_stage_is_given_examples_of_its_own(tiny_config, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "diffad_jax.data.pipeline.batches", lambda *_, **how: asked.append(how.get("stage"))
    )
    data = train._data(tiny_config, {"tiles": split.draw(tiny_config, "tiles")})
    for stage in ("denoiser", "segmenter"):
        data.batches(stage, 0, 4)
    assert asked == ["denoiser", "segmenter"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("segmentation.batch_size", 3, "config.segmentation.batch_size = 3 is not a multiple of 2"),
        ("evaluation.inception_weights", "nowhere", "config.evaluation.inception_weights: .*nowh"),
        ("data.recorded", "nowhere.zip", "config.data.recorded: there is no nowhere.zip"),
        ("image_size", 18, "config.image_size = 18 does not suit the network of stage"),
    ],
)
def test_what_would_end_the_work_after_hours_ends_it_at_the_start(
    field, value, message, tiny_config, tmp_path, monkeypatch
):
    monkeypatch.setattr(train.sharding, "make_mesh", lambda c: types.SimpleNamespace(size=2))
    section, _, name = field.rpartition(".")
    (tiny_config[section] if section else tiny_config)[name] = value
    with pytest.raises(UserError, match=message):
        train.train_and_evaluate(tiny_config, tmp_path, None)
    assert not list(tmp_path.iterdir())


def test_training_goes_on_from_the_weights_after_photos_were_added(
    tiny_config, photos, trained_workdir, tmp_path
):
    directory, root = trained_workdir / "tiles", tmp_path / "data"
    shutil.copytree(photos, root)
    for i in range(4):
        photo = np.random.default_rng(i).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(photo).save(root / f"tiles/train/good/new{i}.png")
    tiny_config.data.root = str(root)
    tiny_config.diffusion.steps = 2  # few of them
    before = split.read(directory)
    train.train_and_evaluate(tiny_config, trained_workdir, None, finetune=True)
    after = split.read(directory)
    assert len(after.train) > len(before.train) and not (directory / EARLIER).exists()
    for name, steps in (("autoencoder", 4), ("denoiser", 2), ("segmenter", 4)):
        checkpoints = Checkpoints(directory / name)
        made_of = checkpoints.fingerprint(steps)
        assert made_of["normal photos"] == after.describe()
        assert made_of[BEGUN_FROM].endswith(f", step 4, {before.describe()}")
        checkpoints.close()


def test_so_do_weights_of_another_method_in_the_last_category(tiny_config, tmp_path):
    other = padim.get_config("tiles")
    stored.write(other, sections(get_method(other)), tmp_path / "tiles", "tiles")
    with pytest.raises(UserError, match="holds a detector of config.method = 'padim'"):
        train.train_and_evaluate(tiny_config, tmp_path, None)
