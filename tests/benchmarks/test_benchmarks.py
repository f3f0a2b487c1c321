"""What benchmarks stand on: the contract of their loader, their last line. Nothing is timed."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import last_line, numpy_loader, pictures
from configs import mvtec

SIZE = 32


@pytest.fixture
def make(tmp_path):
    """A loader of one tiny drawn photo and one texture, with the config's fields changed."""
    pictures.write_folder(tmp_path / "photos", 1, 40, ".png", seed=0)
    pictures.write_folder(tmp_path / "textures", 1, 50, ".png", seed=1)
    files = [[str(tmp_path / f / "0000.png")] for f in ("photos", "textures")]

    def loader(seed=0, skips_normal=False, **settings):
        config = mvtec.get_config().synthesis
        config.update(settings)
        return numpy_loader.NumpyLoader(*files, SIZE, config, seed, skips_normal)

    return loader


@pytest.mark.parametrize("skips_normal", [False, True])
def test_contract(make, skips_normal):
    loader = make(skips_normal=skips_normal)
    examples = [loader.example() for _ in range(20)]
    for e in examples:
        image, augmented, mask = e["image"], e["augmented_image"], e["anomaly_mask"]
        for x, channels in ((image, 3), (augmented, 3), (mask, 1)):
            assert x.shape == (SIZE, SIZE, channels) and x.dtype == np.float32
            assert x.min() >= 0 and x.max() <= 1
        assert set(np.unique(mask)) <= {0, 1}
        np.testing.assert_array_equal(np.where(mask, image, augmented), image)
    anomalous = [e for e in examples if e["anomaly_mask"].any()]
    assert 2 < len(anomalous) < 18
    assert all((e["image"] != e["augmented_image"]).any() for e in anomalous)


def test_the_photo_is_read_as_rgb(make, tmp_path):
    Image.new("RGB", (40, 40), (255, 128, 0)).save(tmp_path / "photos" / "0000.png")
    image = make(rotation_probability=0.0).example()["image"]
    np.testing.assert_allclose(image[5, 5], [1, 128 / 255, 0], atol=1e-6)


@pytest.mark.parametrize("op", numpy_loader.AUGMENTERS, ids=lambda op: op.__name__.strip("_"))
def test_augmenters_give_levels(op):
    texture = np.asarray(pictures.draw(np.random.default_rng(0), SIZE))
    changed = op(texture, np.random.default_rng(1))
    assert changed.shape == texture.shape and changed.dtype == np.uint8


def test_perlin_noise_equals_ours():
    import tensorflow as tf

    from diffad_jax.data import perlin

    got = numpy_loader.perlin_noise(SIZE, 4, 2, np.random.default_rng(3))
    angles = np.zeros((33, 33), np.float32)
    angles[:5, :3] = np.random.default_rng(3).uniform(0, 2 * np.pi, (5, 3))
    want = perlin.perlin_noise(angles, tf.constant([2, 1]), SIZE, 5)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_an_unreadable_file_is_named(make, tmp_path):
    (tmp_path / "photos" / "0000.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"0000\.png cannot be read"):
        make().example()


def test_the_last_line_is_json_to_any_reader(capsys):
    last_line.finish({"a": [1.5, float("nan")], "b": {"c": (float("inf"), 2)}})

    def refuse(word):
        raise ValueError(word)

    line = capsys.readouterr().out
    assert json.loads(line, parse_constant=refuse) == {"a": [1.5, None], "b": {"c": [None, 2]}}
