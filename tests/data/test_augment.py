"""The ten augmenters against Pillow where it has the operation, else against the formula."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from diffad_jax.data import augment
from diffad_jax.data.geometry import rotate, whole_between

SIZE = 32
U = tf.constant([0.31, 0.72, 0.55])


@pytest.fixture
def texture() -> np.ndarray:
    """A gradient with noise, so that histograms have peaks and gaps."""
    rng = np.random.default_rng(0)
    base = np.add.outer(np.arange(SIZE), np.arange(SIZE))[..., None] * np.array([2, 3, 1])
    return np.clip(base + rng.integers(0, 60, base.shape), 0, 255).astype(np.uint8)


def run(op, texture, mapped=False, **constants):
    def call(x):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in constants.items():
                patch.setattr(augment, name, value)
            return op(tf.cast(x, tf.float32), U)

    if mapped:
        dataset = tf.data.Dataset.from_tensors(texture).map(call)
        return next(dataset.as_numpy_iterator())
    return call(tf.constant(texture)).numpy()


def pillow(texture) -> Image.Image:
    return Image.fromarray(texture)


@pytest.mark.parametrize("op", augment.AUGMENTERS, ids=lambda op: op.__name__)
def test_mapped_equals_eager_and_stays_in_range(op, texture):
    eager, mapped = run(op, texture), run(op, texture, mapped=True)
    np.testing.assert_array_equal(eager, mapped)
    assert eager.shape == texture.shape and eager.min() >= 0 and eager.max() <= 255
    np.testing.assert_array_equal(eager, np.round(eager))


def test_gamma(texture):
    got = run(augment.gamma_contrast, texture, GAMMA=(1.7, 1.7 + 1e-6))
    np.testing.assert_allclose(got, 255 * (texture / 255) ** 1.7, atol=0.51)


def test_gamma_draws_a_value_a_channel():
    grey = np.full((SIZE, SIZE, 3), 128, np.uint8)
    assert len(set(run(augment.gamma_contrast, grey)[0, 0])) == 3


def test_brightness_moves_luma_and_keeps_chroma(texture):
    mid = (texture // 4 + 96).astype(np.uint8)
    got = run(augment.brightness, mid, BRIGHTNESS_FACTOR=(1.1, 1.1 + 1e-6),
              BRIGHTNESS_OFFSET=(5.0, 5.0 + 1e-5))  # fmt: skip
    weights = [0.299, 0.587, 0.114]
    np.testing.assert_allclose(got @ weights, 1.1 * (mid @ weights) + 5, atol=0.6)
    np.testing.assert_allclose(got[..., 0] - got[..., 2], mid[..., 0] * 1.0 - mid[..., 2], atol=1.1)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_gamma_keeps_black_and_white(gamma):
    ends = np.zeros((SIZE, SIZE, 3), np.uint8)
    ends[: SIZE // 2] = 255
    got = run(augment.gamma_contrast, ends, GAMMA=(gamma, gamma + 1e-6))
    np.testing.assert_array_equal(got, ends)


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.5])
def test_sharpness_is_pillows(factor, texture):
    got = run(augment.sharpness, texture, SHARPNESS_FACTOR=(factor, factor + 1e-6))
    want = np.asarray(ImageEnhance.Sharpness(pillow(texture)).enhance(factor), np.float32)
    assert np.abs(got - want).max() <= (1 if factor <= 1 else 2)
    assert np.abs(got - want).mean() < 0.6


@pytest.mark.parametrize("added", [-50.0, 30.0])
def test_hue_and_saturation_follow_hsv(added, texture):
    colours = [[0, 0, 0], [255, 255, 255], [90, 90, 90], [200, 7, 7], [7, 200, 200], [9, 9, 8]]
    texture[0, :6] = colours  # greys, and ties between channels
    got = run(augment.hue_saturation, texture, HUE_SATURATION=(added, added + 1e-5))

    def formula(pixel):
        h, s, v = colorsys.rgb_to_hsv(*(pixel / 255))
        return colorsys.hsv_to_rgb((h + added / 255) % 1, np.clip(s + added / 255, 0, 1), v)

    want = 255 * np.apply_along_axis(formula, -1, texture)
    np.testing.assert_allclose(got, want, atol=0.51)


def test_solarize_is_pillows(texture):
    got = run(augment.solarize, texture, SOLARIZE_PROBABILITY=1.0,
              SOLARIZE_THRESHOLD=(100.0, 100.0 + 1e-5))  # fmt: skip
    np.testing.assert_array_equal(got, np.asarray(ImageOps.solarize(pillow(texture), 100)))
    unchanged = run(augment.solarize, texture, SOLARIZE_PROBABILITY=0.0)
    np.testing.assert_array_equal(unchanged, texture)


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_is_pillows(bits, texture):
    got = run(augment.posterize, texture, POSTERIZE_BITS=(bits, bits))
    np.testing.assert_array_equal(got, np.asarray(ImageOps.posterize(pillow(texture), bits)))


def test_invert_is_pillows(texture):
    np.testing.assert_array_equal(
        run(augment.invert, texture), np.asarray(ImageOps.invert(pillow(texture)))
    )


@pytest.mark.parametrize("cutoff", [0, 5, 20])
def test_autocontrast_is_pillows(cutoff, texture):
    got = run(augment.autocontrast, texture, AUTOCONTRAST_CUTOFF=(cutoff, cutoff))
    want = np.asarray(ImageOps.autocontrast(pillow(texture), cutoff), np.float32)
    assert np.abs(got - want).max() <= 1


def test_equalize_is_pillows(texture):
    want = np.asarray(ImageOps.equalize(pillow(texture)), np.float32)
    assert np.abs(run(augment.equalize, texture) - want).max() <= 1


@pytest.mark.parametrize("op", [augment.autocontrast, augment.equalize])
def test_one_level_images_stay(op):
    flat = np.full((SIZE, SIZE, 3), 77, np.uint8)
    np.testing.assert_array_equal(run(op, flat, AUTOCONTRAST_CUTOFF=(0, 0)), flat)


def test_rotation_turns_about_the_centre(texture):
    turned = rotate(tf.cast(texture, tf.float32), tf.constant(90.0))
    np.testing.assert_allclose(turned, np.rot90(texture), atol=0.05)
    still = run(augment.rotation, texture, ROTATION_DEGREES=1e-6)
    np.testing.assert_array_equal(still, texture)


def test_three_different_ones_are_drawn_in_random_order(texture, monkeypatch):
    """Each augmenter writes its digit behind those before it; all ten come in any place."""
    digits = [lambda x, u, i=i: 10.0 * x + i for i in range(10)]
    monkeypatch.setattr(augment, "AUGMENTERS", digits)
    drawn = []
    for i in range(300):
        out = augment.augment(tf.zeros([1, 1, 3]), tf.constant([0, i], tf.int64))
        drawn.append(f"{int(out.numpy()[0, 0, 0]):03d}")
    assert all(len(set(d)) == 3 for d in drawn)
    for place in range(3):
        counts = np.bincount([int(d[place]) for d in drawn], minlength=10)
        assert counts.min() > 10 and counts.max() < 60


@pytest.mark.parametrize("count", [0, 1, 10])
def test_as_many_as_configured(count, texture, monkeypatch):
    monkeypatch.setattr(augment, "AUGMENTERS", [lambda x, u: x + 1.0] * 10)
    monkeypatch.setattr(augment, "NUM_AUGMENTERS", count)
    out = augment.augment(tf.cast(texture, tf.float32), tf.constant([0, 1], tf.int64))
    np.testing.assert_array_equal(out, texture + np.float32(count))


def test_each_augmenter_gets_uniform_numbers_of_its_own(monkeypatch):
    """Every call writes its three numbers; with three calls an example, nine that all differ."""
    seen = []

    def note(x, u):
        seen.append(u.numpy())
        return x

    monkeypatch.setattr(augment, "AUGMENTERS", [note] * 10)
    for i in range(200):
        augment.augment(tf.zeros([1, 1, 3]), tf.constant([0, i], tf.int64))
    u = np.array(seen)
    assert u.shape == (600, 3) and len(np.unique(u)) > 1790  # 24 bits: a tie is possible
    assert u.min() >= 0 and u.max() < 1
    np.testing.assert_allclose(u.mean(axis=0), 0.5, atol=4 / np.sqrt(12 * 600))
    assert np.abs(np.corrcoef(u.reshape(200, 9).T) - np.eye(9)).max() < 0.3


@pytest.mark.parametrize(("low", "high"), [(1, 8), (0, 20), (3, 3)])
def test_whole_numbers_come_equally_often_with_both_ends(low, high):
    u = tf.constant((np.arange(21000) + 0.5) / 21000, tf.float32)
    counts = np.bincount(whole_between(u, low, high).numpy() - low)
    assert len(counts) == high - low + 1 and counts.max() - counts.min() <= 1
    below_one = tf.constant(np.nextafter(np.float32(1), np.float32(0)))
    assert int(whole_between(below_one, low, high)) == high
