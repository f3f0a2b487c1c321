"""Windows cover a photo, and their blend loses and adds nothing."""

import numpy as np
import pytest

from diffad_jax.inference.tiling import Tiles

SIZES = [(16, 16), (17, 16), (40, 61), (28, 29), (9, 50), (3, 2), (1, 1)]  # height, width
SIDE = 16
WINDOW = (SIDE, 12)  # height, width


def photo_of(size):
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def blend_of(tiles, found):
    for i in range(len(tiles)):
        tiles.add(i, found(tiles.window(i)))
    return tiles.blend


@pytest.mark.parametrize("size", SIZES)
def test_blending_what_was_cut_gives_the_photo(size):
    photo = photo_of(size)
    tiles = Tiles(photo, WINDOW)
    assert all(tiles.window(i).shape == (*WINDOW, 3) for i in range(len(tiles)))
    blend = blend_of(tiles, np.float32)
    assert blend.dtype == np.float32
    np.testing.assert_allclose(blend, photo, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_constant_maps_stay_constant(size):
    blend = blend_of(Tiles(photo_of(size), WINDOW), lambda _: np.full((*WINDOW, 1), 0.3, "f4"))
    assert blend.shape == (*size, 1)
    np.testing.assert_allclose(blend, 0.3, rtol=1e-6)


def test_one_window_changes_no_bit():
    found = np.random.default_rng(1).random((SIDE, SIDE, 4), np.float32)
    tiles = Tiles(photo_of((SIDE, SIDE)), (SIDE, SIDE))
    assert len(tiles) == 1
    np.testing.assert_array_equal(blend_of(tiles, lambda _: found), found)


def test_neighbours_overlap_by_a_quarter_and_end_at_the_border():
    # Columns hold their own number, so a window tells where it was cut.
    for width in range(SIDE, 5 * SIDE):
        tiles = Tiles(
            np.tile(np.arange(width, dtype=np.uint8)[:, None], (SIDE, 1, 3)), (SIDE, SIDE)
        )
        starts = [int(tiles.window(i)[0, 0, 0]) for i in range(len(tiles))]
        assert starts[0] == 0 and starts[-1] == width - SIDE
        assert all(SIDE - step >= SIDE // 4 for step in np.diff(starts))


def test_a_window_counts_by_the_distance_to_its_border():
    tiles = Tiles(photo_of((SIDE, SIDE + 12)), (SIDE, SIDE))  # the two windows share four columns
    tiles.add(0, np.ones((SIDE, SIDE, 1), np.float32))
    tiles.add(1, np.zeros((SIDE, SIDE, 1), np.float32))
    shares = tiles.blend[5, 11:17, 0]
    np.testing.assert_allclose(shares, [1, 4 / 5, 3 / 5, 2 / 5, 1 / 5, 0], rtol=1e-6)


def test_a_small_photo_is_continued_by_its_mirror_image():
    photo = photo_of((4, 20))
    window = Tiles(photo, (SIDE, SIDE)).window(0)
    np.testing.assert_array_equal(window[4:8], photo[::-1, :SIDE])
