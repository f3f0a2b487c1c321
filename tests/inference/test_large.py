"""A photo in strips gives what the whole photo gives."""

import numpy as np
import pytest

from diffad_jax.inference.large import LargePhoto
from diffad_jax.inference.tiling import Tiles

SIDE = 8


def mean_filter(anomaly_map):
    padded = np.pad(anomaly_map, 5)
    height, width = anomaly_map.shape
    shifted = [padded[y : y + height, x : x + width] for y in range(11) for x in range(11)]
    return np.mean(shifted, axis=0, dtype=np.float32)


def blocks(values, factor, join):
    """``join`` of each factor × factor pixels."""
    height, width = values.shape[:2]
    return np.stack([
        np.stack([join(values[y : y + factor, x : x + factor], axis=(0, 1))
                  for x in range(0, width, factor)])
        for y in range(0, height, factor)
    ])  # fmt: skip


@pytest.mark.parametrize("strip", [1, 5, 300])
@pytest.mark.parametrize("size", [(90, 30), (41, 77), (200, 8), (5, 90), (31, 31)])  # h, w
def test_maps_scores_and_pictures_are_those_of_the_whole(size, strip):
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (*size, 3), np.uint8)
    window = (SIDE, SIDE - 4)
    found = rng.random((1000, *window, 4), np.float32)
    whole = Tiles(photo, window)
    large = LargePhoto(
        (photo[y : y + strip] for y in range(0, len(photo), strip)),
        size[::-1], window, 16 * 300, mean_filter,
    )  # fmt: skip
    assert len(large) == len(whole)
    for i in range(len(whole)):
        np.testing.assert_array_equal(large.window(i), whole.window(i))
        whole.add(i, found[i])
        large.add(i, found[i])
    k, scores = large.reduction, mean_filter(whole.blend[..., 0])
    assert large.score == pytest.approx(scores.max(), rel=1e-6)
    np.testing.assert_allclose(large.anomaly_map, blocks(whole.blend[..., 0], k, np.max), rtol=1e-5)
    np.testing.assert_allclose(
        large.reconstruction, blocks(whole.blend[..., 1:], k, np.mean), rtol=1e-5
    )
    np.testing.assert_allclose(large.photo, blocks(photo, k, np.mean), atol=0.51)
    assert large.photo.dtype == np.uint8 and large.photo[..., 0].size <= 300


def test_what_is_held_does_not_grow_with_the_height():
    def held(height):
        rows = (np.zeros((4, 40, 3), np.uint8) for _ in range(height // 4))
        large, most = LargePhoto(rows, (40, height), (SIDE, SIDE), 16 * 300, mean_filter), 0
        for i in range(len(large)):
            large.window(i)
            large.add(i, np.ones((SIDE, SIDE, 4), np.float32))
            most = max(most, sum(x.nbytes for x in vars(large).values() if hasattr(x, "nbytes")))
        return most - large._weights.nbytes

    assert held(2000) < 1.5 * held(400)
