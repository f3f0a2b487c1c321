"""The synthesis against NumPy from the same draws, and the numbers of its config."""

import numpy as np
import pytest
import tensorflow as tf

from configs import mvtec
from diffad_jax.data import augment, geometry, perlin, synthesis

SIZE = 32
PHOTO = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
TEXTURE = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3)).astype(np.float32)


PLACES = {  # of constants
    "MAX_EXPONENT": perlin,
    "NUM_AUGMENTERS": augment,
    "NOISE_THRESHOLD": synthesis,
    "ROTATION_DEGREES": synthesis,
}


def run(count=1, source=lambda seed: tf.constant(TEXTURE), photo=PHOTO, first=0, **settings):
    """Examples of seeds (first, 9), (first + 1, 9) …, stacked."""
    constants = {"MAX_EXPONENT": 3} | {k: settings.pop(k) for k in set(PLACES) & set(settings)}
    config = mvtec.get_config().synthesis
    config.update(settings)

    def example(i):
        seed = tf.stack([i, tf.constant(9, tf.int64)])
        with pytest.MonkeyPatch.context() as patch:
            for name, value in constants.items():
                patch.setattr(PLACES[name], name, value)
            return synthesis.synthesize(tf.constant(photo), source, seed, config)

    dataset = tf.data.Dataset.range(first, first + count).map(example)
    examples = list(dataset.as_numpy_iterator())
    return {k: np.stack([e[k] for e in examples]) for k in examples[0]}


ALWAYS = {"normal_probability": 0.0, "rotation_probability": 0.0}


def test_contract():
    got = run(4, **ALWAYS)
    for name, channels in {
        "image": 3, "augmented_image": 3, "texture": 3, "anomaly_mask": 1
    }.items():  # fmt: skip
        assert got[name].shape == (4, SIZE, SIZE, channels) and got[name].dtype == np.uint8
    assert set(np.unique(got["anomaly_mask"])) == {0, 1}


def test_mapped_equals_eager(monkeypatch):
    config = mvtec.get_config().synthesis
    monkeypatch.setattr(perlin, "MAX_EXPONENT", 3)
    mapped = run(6)
    for i in range(6):
        eager = synthesis.synthesize(
            tf.constant(PHOTO),
            lambda seed: tf.constant(TEXTURE),
            tf.constant([i, 9], tf.int64),
            config,
        )
        for name, value in eager.items():
            np.testing.assert_array_equal(mapped[name][i], value)


def test_the_seed_alone_decides():
    first, again, later = run(8), run(8), run(4, first=4)
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
        np.testing.assert_array_equal(value[4:], later[name])
    assert len({x.tobytes() for x in run(8, **ALWAYS)["texture"]}) == 8


def test_blend_equals_numpy_from_the_same_draws():
    got = run(12, **ALWAYS)
    for i in range(12):
        # The last of the example's four numbers is β's, by the contract of this test with the code.
        seed = tf.constant([i, 9], tf.int64)
        beta = 0.8 * tf.random.stateless_uniform([4], seed)[3].numpy()
        mask, texture = got["anomaly_mask"][i], got["texture"][i].astype(np.float32)
        want = (1 - mask) * PHOTO + mask * np.round((1 - beta) * texture + beta * PHOTO)
        assert np.abs(got["augmented_image"][i] - want).max() <= 1
        assert (got["augmented_image"][i] == want).mean() > 0.999


@pytest.mark.parametrize("max_beta", [0.0, 0.3, 0.8])
def test_beta_is_uniform_up_to_its_limit(max_beta):
    white = np.full_like(PHOTO, 255)
    black = tf.zeros([SIZE, SIZE, 3])
    got = run(80, lambda seed: black, white, max_beta=max_beta, NUM_AUGMENTERS=0, **ALWAYS)
    masks = got["anomaly_mask"][..., 0].astype(bool)
    pairs = zip(got["augmented_image"], masks, strict=True)
    levels = [set(x[m].ravel().tolist()) for x, m in pairs if m.any()]
    assert all(len(x) == 1 for x in levels)  # one β an example
    betas = np.array([x.pop() for x in levels]) / 255
    assert betas.max() <= max_beta + 1 / 255
    assert abs(betas.mean() - max_beta / 2) <= 0.2 * max_beta
    assert betas.max() >= 0.85 * max_beta


def test_without_augmenters_the_texture_is_the_sources():
    got = run(3, NUM_AUGMENTERS=0, **ALWAYS)
    np.testing.assert_array_equal(got["texture"], np.stack([TEXTURE] * 3))


def test_nothing_changes_outside_the_mask_and_nothing_in_normal_examples():
    got = run(40)
    differs = (got["image"] != got["augmented_image"]).any(axis=-1, keepdims=True)
    assert not (differs & (got["anomaly_mask"] == 0)).any()
    normal = ~got["anomaly_mask"].any(axis=(1, 2, 3))
    assert 5 < normal.sum() < 35
    np.testing.assert_array_equal(got["image"][normal], got["augmented_image"][normal])


@pytest.mark.parametrize("probability", [0.0, 0.5, 0.9, 1.0])
def test_share_of_normal_examples(probability):
    """Within four standard deviations; empty masks can only add to it, at this threshold none."""
    got = run(200, normal_probability=probability, NOISE_THRESHOLD=-9.0, NUM_AUGMENTERS=0)
    share = 1 - got["anomaly_mask"].any(axis=(1, 2, 3)).mean()
    assert abs(share - probability) <= 4 * np.sqrt(probability * (1 - probability) / 200)


def test_an_empty_mask_is_a_normal_example():
    got = run(5, NOISE_THRESHOLD=9.0, NUM_AUGMENTERS=0, **ALWAYS)
    assert not got["anomaly_mask"].any()
    np.testing.assert_array_equal(got["image"], got["augmented_image"])


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_share_of_rotated_photos(probability):
    got = run(200, rotation_probability=probability, normal_probability=1.0, NUM_AUGMENTERS=0)
    share = (got["image"] != PHOTO).any(axis=(1, 2, 3)).mean()
    assert abs(share - probability) <= 4 * np.sqrt(probability * (1 - probability) / 200)
    np.testing.assert_array_equal(got["image"], got["augmented_image"])


def test_rotation_stays_within_its_degrees_and_fills_with_black():
    white = np.full_like(PHOTO, 255)
    always = {"photo": white, "rotation_probability": 1.0, "NUM_AUGMENTERS": 0}
    little = run(10, ROTATION_DEGREES=1.0, **always)["image"]
    much = run(10, ROTATION_DEGREES=90.0, **always)["image"]
    assert little[:, 1:-1, 1:-1].min() == 255
    assert (much[:, 0, 0] == 0).any() and (much[:, SIZE // 2, SIZE // 2] == 255).all()


def test_texture_is_drawn_with_a_seed_of_its_own():
    def source(seed):
        u = tf.random.stateless_uniform([], seed)
        return tf.fill([SIZE, SIZE, 3], tf.floor(256 * u))

    got = run(8, source, NUM_AUGMENTERS=0, **ALWAYS)
    assert len(np.unique(got["texture"])) > 5


def test_streams_of_one_seed_do_not_meet(monkeypatch):
    """Each random op of an example has a seed that no other op, example, split or run has."""
    seen = []
    monkeypatch.setattr(tf.random, "stateless_uniform", _noting(seen, tf.random.stateless_uniform))
    config = mvtec.get_config().synthesis
    config.update(ALWAYS)
    texture = tf.constant(TEXTURE)
    for run_number in (0, 1, 2, 3):
        for i in range(5):
            seed = tf.constant([run_number, i], tf.int64)
            synthesis.synthesize(
                tf.constant(PHOTO), lambda s: texture + geometry.uniform([], s), seed, config
            )
    assert len(seen) == 4 * 5 * 4 and len(set(seen)) == len(seen)


def _noting(seen, draw):
    def noted(shape, seed, *args, **kwargs):
        seen.append(tuple(seed.numpy()))
        return draw(shape, seed, *args, **kwargs)

    return noted


@pytest.mark.parametrize("size", [16, 33, 48])
def test_any_size(size):
    photo = np.zeros((size, size, 3), np.uint8)
    got = run(
        1,
        lambda seed: tf.fill([size, size, 3], 200.0),
        photo,
        MAX_EXPONENT=5,
        NUM_AUGMENTERS=0,
    )
    assert got["augmented_image"].shape == (1, size, size, 3)


def test_its_own_texture_has_the_photos_pixels():
    got = run(8, own_texture_probability=1.0, NUM_AUGMENTERS=0, **ALWAYS)
    for texture in got["texture"]:
        assert not np.array_equal(texture, PHOTO)
        pixels = [np.sort(np.ascontiguousarray(x).reshape(-1, 3), 0) for x in (texture, PHOTO)]
        np.testing.assert_array_equal(*pixels)
    assert len({t.tobytes() for t in got["texture"]}) == 8


def test_shade_darkens_or_brightens_the_photo_in_its_place():
    got = run(40, shade_probability=1.0, shade_range=(0.4, 0.9), **ALWAYS)
    clear = (PHOTO > 20) & (PHOTO < 100)  # neither rounded much nor clipped
    factors = np.array([np.median(t[clear] / PHOTO[clear]) for t in got["texture"]])
    for texture, factor in zip(got["texture"], factors, strict=True):
        np.testing.assert_allclose(texture, np.minimum(factor * PHOTO, 255), atol=4)
    dark = factors < 1
    assert 8 <= dark.sum() <= 32
    stretched = np.where(dark, factors, 1 / factors)
    assert 0.38 <= stretched.min() <= 0.5 and 0.8 <= stretched.max() <= 0.92


def test_the_threshold_is_the_configured_one():
    masks = [run(40, NOISE_THRESHOLD=t, **ALWAYS)["anomaly_mask"] for t in (-9.0, 0.2, 0.5, 0.7)]
    areas = [m.mean() for m in masks]
    assert areas[0] == 1.0 and areas[1] > areas[2] > areas[3]


def test_light_changes_the_whole_photo_and_is_normal():
    most, clear = 0.1, (PHOTO > 60) & (PHOTO < 200)  # neither rounded much nor clipped
    got = run(60, max_light_change=most, **ALWAYS)
    outside = np.broadcast_to(got["anomaly_mask"] == 0, got["image"].shape)
    np.testing.assert_array_equal(got["augmented_image"][outside], got["image"][outside])
    gains = np.array(
        [np.where(clear, image / np.maximum(PHOTO, 1), np.nan) for image in got["image"]]
    )
    levels = np.nanmean(gains, axis=(1, 2, 3))
    assert 1 - most - 0.01 < levels.min() < 1 - 0.7 * most
    assert 1 + 0.7 * most < levels.max() < 1 + most + 0.01
    for one, other in ((gains[:, :8], gains[:, -8:]), (gains[:, :, :8], gains[:, :, -8:])):
        slopes = np.nanmean(other, (1, 2, 3)) - np.nanmean(one, (1, 2, 3))
        assert slopes.min() < -most and most < slopes.max()


def shades(count=40, **settings):
    """Masks, and the shares of the whole change by which photos are shaded: visibly everywhere."""
    visible = {"photo": 50 + PHOTO // 2, "shade_range": (0.4, 0.8)}
    got = run(count, shade_probability=1.0, **visible, **ALWAYS, **settings)
    change, most = (got[k].astype(float) - got["image"] for k in ("augmented_image", "texture"))
    clear = np.abs(most) >= 40  # elsewhere rounding counts
    share = np.where(clear, change / np.where(clear, most, 1.0), np.nan)
    return got["anomaly_mask"] == 1, share


def test_shades_have_an_area_of_their_own():
    """Else as large as other anomalies."""
    plain, large = shades()[0], shades(shade_threshold_range=(0.1, 0.1))[0]
    np.testing.assert_array_equal(plain, run(40, **ALWAYS)["anomaly_mask"] == 1)
    between = shades(shade_threshold_range=(0.1, 0.5))[0].sum()
    assert 1.5 * plain.sum() < between < large.sum()


def test_masks_end_where_shades_are_half():
    hard_mask, hard = shades(shade_threshold_range=(0.3, 0.3))
    soft_mask, soft = shades(shade_threshold_range=(0.3, 0.3), shade_softness=0.6)
    np.testing.assert_array_equal(soft_mask, hard_mask)
    inside = np.broadcast_to(hard_mask, hard.shape)
    assert np.nanmin(hard[inside]) == 1.0 and np.nanmax(hard[~inside]) == 0.0
    assert 0.48 <= np.nanmin(soft[inside]) < 0.6 and np.nanmax(soft[inside]) > 0.9
    assert 0.4 < np.nanmax(soft[~inside]) <= 0.52 and np.nanmin(soft[~inside]) == 0.0


def test_masks_of_shades_end_where_nothing_can_be_seen():
    photo = 50 + PHOTO // 2
    photo[:, SIZE // 2 :] = 255
    got = run(40, photo=photo, shade_probability=1.0, shade_range=(0.4, 0.8), **ALWAYS)
    masks, factors = got["anomaly_mask"] == 1, got["texture"][:, 0, 0, 0] / photo[0, 0, 0]
    brighter = masks[factors > 1]
    assert brighter[:, :, : SIZE // 2].any() and not brighter[:, :, SIZE // 2 :].any()
    assert masks[factors < 1][:, :, SIZE // 2 :].any()


@pytest.mark.parametrize("probability", [0.0, 0.5])
def test_how_often_the_photo_is_shaded(probability):
    own = 0.3
    got = run(
        200, own_texture_probability=own, shade_probability=probability, NUM_AUGMENTERS=0, **ALWAYS
    )
    foreign = [np.array_equal(t, TEXTURE) for t in got["texture"]]
    assert abs(np.mean(foreign) - (1.0 - own - probability)) <= 0.1


@pytest.mark.parametrize("probability", [0.0, 0.5])
def test_how_often_the_texture_is_its_own(probability):
    got = run(200, own_texture_probability=probability, NUM_AUGMENTERS=0, **ALWAYS)
    own = [not np.array_equal(t, TEXTURE) for t in got["texture"]]
    assert abs(np.mean(own) - probability) <= 0.1


def test_grey_photos_get_grey_textures():
    grey = np.repeat(PHOTO[..., :1], 3, axis=-1)
    for photo, is_grey in ((grey, True), (PHOTO, False)):
        got = run(8, photo=photo, grey_as_photo=True, **ALWAYS)
        assert np.ptp(got["texture"], axis=-1).any() != is_grey
    got = run(1, photo=grey, grey_as_photo=True, NUM_AUGMENTERS=0, **ALWAYS)
    luma = np.round(TEXTURE @ np.array([0.299, 0.587, 0.114]))
    np.testing.assert_allclose(got["texture"][0, ..., 0], luma, atol=1)
