"""Texture sources: procedural, a folder in memory or streamed, dtd."""

import logging

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from configs import mvtec
from diffad_jax.data import images, listing, photo, textures
from diffad_jax.data.layouts import DataError

SIZE = 24


@pytest.fixture
def config():
    config = mvtec.get_config()
    config.image_size, config.data.textures = SIZE, "procedural"
    return config


@pytest.fixture
def folder(tmp_path) -> str:
    """Five one-colour images of several sizes and kinds, one of them deeper."""
    for i, name in enumerate(["a.png", "b.JPG", "c.bmp", "d.tiff", "deeper/e.png"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (20 + 9 * i, 50 - 5 * i), (40 * i, 20, 255 - 40 * i)).save(path)
    return str(tmp_path)


def draw(source, count, seed=0):
    dataset = tf.data.Dataset.range(count).map(lambda i: source(tf.stack([i, i + seed])))
    return np.stack(list(dataset.as_numpy_iterator()))


def test_procedural_textures_are_whole_levels_seeded_and_differ(config):
    source = textures.texture_source(config)
    drawn = draw(source, 30)
    assert drawn.shape == (30, SIZE, SIZE, 3) and drawn.dtype == np.float32
    assert drawn.min() >= 0 and drawn.max() <= 255
    np.testing.assert_array_equal(drawn, np.round(drawn))
    np.testing.assert_array_equal(drawn, draw(source, 30))
    np.testing.assert_array_equal(drawn[3], source(tf.constant([3, 3], tf.int64)))
    assert len({t.tobytes() for t in drawn}) == 30


def test_procedural_textures_vary_in_colour_and_have_structure(config):
    config.image_size = 48
    drawn = draw(textures.texture_source(config), 40)
    colours = drawn.mean(axis=(1, 2))
    assert (colours.std(axis=0) > 25).all()  # between textures
    assert np.median(drawn.std(axis=(1, 2)).max(axis=-1)) > 20  # within a texture


@pytest.mark.parametrize("size", [16, 33, 50])
def test_procedural_textures_of_any_size(size):
    assert textures.procedural_texture(tf.constant([1, 2]), size).shape == (size, size, 3)


def test_procedural_is_said_once(config, caplog):
    textures._say_once_that_procedural.cache_clear()
    with caplog.at_level(logging.WARNING):
        textures.texture_source(config)
        textures.texture_source(config)
    said = [r for r in caplog.records if "procedural" in r.getMessage()]
    assert len(said) == 1 and "config.data.textures" in said[0].getMessage()


@pytest.mark.parametrize("rule", ["bilinear", "antialias"])
def test_a_folder_gives_each_of_its_images_resized_as_photos_are(config, folder, rule):
    config.data.textures, config.data.resize = folder, rule
    striped = np.zeros((5 * SIZE, 5 * SIZE, 3), np.uint8)
    striped[::2] = 255
    Image.fromarray(striped).save(f"{folder}/striped.png")
    drawn = draw(textures.texture_source(config), 60)
    assert {t.tobytes() for t in drawn} == {
        images.read_image(f, SIZE, images.Rules(rule)).astype(np.float32).tobytes()
        for f in listing.find_photos(folder)[0]
    }


def test_streaming_equals_memory(config, folder):
    config.data.textures = folder
    cached = draw(textures.texture_source(config), 12)
    config.data.cache_mib = 0
    np.testing.assert_array_equal(cached, draw(textures.texture_source(config), 12))


@pytest.mark.parametrize("cache_mib", [0, 100])
def test_a_bad_texture_fails_or_is_skipped(config, folder, cache_mib):
    with open(f"{folder}/b.JPG", "wb") as file:
        file.write(b"no picture")
    config.data.textures = folder
    config.data.cache_mib = cache_mib
    with pytest.raises((images.ImageError, tf.errors.OpError), match=r"b\.JPG"):
        draw(textures.texture_source(config), 40)
    config.data.on_bad_image = "skip"
    drawn = draw(textures.texture_source(config), 40)
    assert len({t.tobytes() for t in drawn}) == 4


def test_missing_and_empty_folders_are_named(config, tmp_path):
    config.data.textures = str(tmp_path / "nowhere")
    with pytest.raises(DataError, match="nowhere.*is no folder"):
        textures.texture_source(config)
    config.data.textures = str(tmp_path)
    with pytest.raises(DataError, match="holds no image"):
        textures.texture_source(config)


def stand_in_for_dtd(count):
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 30, 40, 3))
    return tf.data.Dataset.from_tensor_slices({"image": pixels.astype(np.uint8)})


def test_dtd_comes_resized_from_tfds(config, monkeypatch):
    asked = []

    def load(name, split):
        asked.append((name, split))
        return stand_in_for_dtd(6)

    monkeypatch.setattr(tfds, "load", load)
    config.data.textures = "dtd"
    drawn = draw(textures.texture_source(config), 60)
    assert asked == [("dtd", "train+validation+test")]
    assert drawn.shape == (60, SIZE, SIZE, 3) and set(np.unique(drawn)) == set(range(6))


@pytest.mark.parametrize("rule", ["bilinear", "antialias"])
def test_dtd_is_resized_as_photos_are(config, monkeypatch, rule):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 5 * SIZE, 5 * SIZE, 3), dtype=np.uint8)
    monkeypatch.setattr(
        tfds, "load", lambda name, split: tf.data.Dataset.from_tensor_slices({"image": pixels})
    )
    config.data.textures, config.data.resize = "dtd", rule
    drawn = draw(textures.texture_source(config), 1)[0]
    np.testing.assert_allclose(drawn, photo.resized(pixels[0], (SIZE, SIZE), rule), atol=1)


def test_dtd_stays_within_its_memory(config, monkeypatch, caplog):
    monkeypatch.setattr(tfds, "load", lambda name, split: stand_in_for_dtd(6))
    config.image_size = 512
    config.data.textures = "dtd"
    config.data.cache_mib = 3
    drawn = draw(textures.texture_source(config), 20)
    assert set(np.unique(drawn)) == set(range(4)) and "4 of 6" in caplog.text
    config.data.cache_mib = 0
    with pytest.raises(DataError, match="config.data.cache_mib = 0"):
        textures.texture_source(config)


def test_dtd_that_cannot_be_downloaded_names_the_remedy(config, monkeypatch):
    def load(name, split):
        raise ConnectionError("no network")

    monkeypatch.setattr(tfds, "load", load)
    config.data.textures = "dtd"
    with pytest.raises(DataError, match="no network.*folder of images"):
        textures.texture_source(config)
