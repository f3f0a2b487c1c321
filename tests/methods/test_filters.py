"""The published image score against a plain NumPy version."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffad_jax.methods.filters import image_score


def plain_score(anomaly_map: np.ndarray, width: int, power: float = 1.0) -> np.ndarray:
    """Power mean of every width × width window, zeros counted, in float64; then the maximum."""
    margin = width // 2
    padded = np.pad(anomaly_map.astype(np.float64), ((0, 0), (margin, margin), (margin, margin)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width), axis=(1, 2))
    return ((windows**power).mean(axis=(3, 4)) ** (1 / power)).max(axis=(1, 2))


@pytest.mark.parametrize("power", [1.0, 2.5, 6.0])
@pytest.mark.parametrize("width", [1, 3, 21])
@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 40, 24), (1, 8, 8)])
def test_equals_the_plain_version(width, shape, power):
    maps = np.random.default_rng(width).random(shape).astype(np.float32)
    maps[0] = 0.0
    maps[0, 0, -1] = 1.0  # in the corner, where most of the filter lies outside
    got = image_score(jnp.asarray(maps), width, power)
    assert got.shape == shape[:1] and got.dtype == jnp.float32
    np.testing.assert_allclose(got, plain_score(maps, width, power), rtol=0, atol=1e-6)


def test_golden_values():
    # By hand: one pixel of 1 counts 1 / 21²; a lit 5 × 5 square counts 25 / 21², wherever it is.
    maps = np.zeros((3, 64, 64), np.float32)
    maps[0, 10, 50] = 1.0
    maps[1, :5, :5] = 1.0
    maps[2] = 1.0
    np.testing.assert_allclose(image_score(jnp.asarray(maps)), [1 / 441, 25 / 441, 1.0], atol=1e-6)


def test_zeros_beyond_the_border_count():
    # A map smaller than the filter: its 8 × 8 ones are divided by all 441 places of the window.
    np.testing.assert_allclose(image_score(jnp.ones((1, 8, 8))), [64 / 441], atol=1e-6)


def test_a_line_outranks_a_faint_patch_by_power():
    maps = np.zeros((2, 32, 32), np.float32)
    maps[0, 16, 10:22] = 0.9
    maps[1, 10:22, 10:22] = 0.2
    by_mean, by_power = (image_score(jnp.asarray(maps), 11, p).tolist() for p in (1.0, 3.0))
    assert by_mean[0] < by_mean[1] and by_power[0] > by_power[1]


def test_width_is_a_static_argument_under_jit():
    maps = jnp.asarray(np.random.default_rng(0).random((2, 16, 16)), jnp.float32)
    jitted = jax.jit(image_score, static_argnums=1)
    np.testing.assert_allclose(jitted(maps, 5), image_score(maps, 5), atol=1e-6)


def test_a_score_does_not_depend_on_its_batch():
    maps = jnp.asarray(np.random.default_rng(0).random((3, 16, 16)), jnp.float32)
    jitted = jax.jit(image_score, static_argnums=1)  # as the detector runs it
    alone = [float(jitted(maps[i : i + 1], 5)[0]) for i in range(3)]
    assert jitted(maps, 5).tolist() == alone


def test_nan_is_not_hidden():
    maps = jnp.ones((2, 16, 16)).at[0, 3, 3].set(jnp.nan)
    for power in (1.0, 3.0):
        assert np.isnan(image_score(maps, 3, power)).tolist() == [True, False]


@pytest.mark.parametrize("width", [0, 4, -3])
def test_other_widths_are_refused(width):
    with pytest.raises(ValueError, match=f"must be odd, got {width}"):
        image_score(jnp.zeros((1, 8, 8)), width)
