"""Regions of drawn maps: where they are in the photo, how large, how high."""

import numpy as np

from diffad_jax.inference.regions import Region, find


def test_parts_above_the_threshold_by_their_peaks():
    anomaly_map = np.zeros((10, 20), np.float32)
    anomaly_map[2:4, 3:7] = 0.6
    anomaly_map[3, 5] = 0.8
    anomaly_map[7, 15], anomaly_map[8, 16] = 0.9, 0.7  # they touch at a corner
    anomaly_map[0, 0] = 0.5  # at the threshold is not above it
    assert find(anomaly_map, 0.5, (20, 10)) == [
        Region((15, 7, 2, 2), 2, float(np.float32(0.9)), (15, 7)),
        Region((3, 2, 4, 2), 8, float(np.float32(0.8)), (5, 3)),
    ]
    assert find(anomaly_map, 0.9, (20, 10)) == []
    assert find(anomaly_map, None, (20, 10)) == []


def test_boxes_are_in_pixels_of_the_photo():
    anomaly_map = np.zeros((10, 10), np.float32)
    anomaly_map[5:7, 2:5] = 1.0
    anomaly_map[6, 4] = 2.0
    (region,) = find(anomaly_map, 0.5, (30, 45))
    assert region == Region((6, 22, 9, 10), 81, 2.0, (13, 29))  # 22.5 … 31.5 from top to bottom


def test_a_region_may_lie_inside_another():
    anomaly_map = np.zeros((9, 9), np.float32)
    anomaly_map[1:8, 1:8] = 0.6
    anomaly_map[2:7, 2:7] = 0.0
    anomaly_map[4, 4] = 0.9
    inner, outer = find(anomaly_map, 0.5, (9, 9))
    assert (inner.box, inner.area) == ((4, 4, 1, 1), 1)
    assert (outer.box, outer.area, outer.peak) == ((1, 1, 7, 7), 24, float(np.float32(0.6)))


def test_a_photo_smaller_than_its_map():
    anomaly_map = np.zeros((64, 64), np.float32)
    anomaly_map[63, 63] = 1.0
    assert find(anomaly_map, 0.5, (4, 4)) == [Region((3, 3, 1, 1), 1, 1.0, (3, 3))]
