"""PSNR inside the mask: golden values by hand, and what is left out or undefined."""

import numpy as np
import pytest

from diffad_jax.evaluation import direct_copy
from diffad_jax.evaluation.direct_copy import NAMES, squared_errors
from diffad_jax.evaluation.ranking import Metric


def direct_copy_metrics(images, reconstructions, masks, labels):
    squares, areas = None, np.zeros(len(labels), int)
    if masks is not None:
        squares, areas = squared_errors(images, reconstructions, masks), masks.sum(axis=(1, 2))
    return direct_copy.direct_copy_metrics(squares, areas, images[0, ..., 0].size, labels)


def photos() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """An anomalous photo with one of four pixels masked, repaired by 0.1; and a normal one."""
    images = np.full((2, 2, 2, 3), 0.5)
    reconstructions = images.copy()
    reconstructions[0, 0, 0] = 0.6
    reconstructions[0, 1, 1] = 0.0  # outside the mask: does not matter
    reconstructions[1] = 0.9  # nor does a normal photo
    masks = np.zeros((2, 2, 2), bool)
    masks[0, 0, 0] = True
    return images, reconstructions, masks, np.array([True, False])


def test_golden_values():
    metrics = direct_copy_metrics(*photos())
    # Mean squares 0.01 and 0.01 / 4.
    assert metrics["direct_copy_masked_psnr"].value == pytest.approx(20.0, abs=1e-9)
    assert metrics["direct_copy_frame_psnr"].value == pytest.approx(26.020599913, abs=1e-9)
    assert {metric.reason for metric in metrics.values()} == {""}


def test_decibels_are_averaged_not_squares():
    images, reconstructions, masks, _ = photos()
    masks[1] = True  # mean square 0.16 over the frame: 7.958800173 dB in either reading
    metrics = direct_copy_metrics(images, reconstructions, masks, np.ones(2, bool))
    expected = {
        "direct_copy_masked_psnr": (20.0 + 7.958800173) / 2,
        "direct_copy_frame_psnr": (26.020599913 + 7.958800173) / 2,
    }
    values = {name: metric.value for name, metric in metrics.items()}
    assert values == pytest.approx(expected, abs=1e-9)


def test_photos_without_a_mask_pixel_are_left_out_and_counted():
    images, reconstructions, masks, _ = photos()
    metrics = direct_copy_metrics(images, reconstructions, masks, np.ones(2, bool))
    assert metrics["direct_copy_masked_psnr"].value == pytest.approx(20.0, abs=1e-9)
    assert {f.reason for f in metrics.values()} == {"1 of 2 anomalous photos have no mask pixel"}


def test_undefined_is_none_with_a_reason():
    images, reconstructions, masks, labels = photos()

    def reason(*args) -> str:
        metrics = direct_copy_metrics(*args)
        assert metrics == dict.fromkeys(NAMES, Metric(None, metrics[NAMES[0]].reason))
        return metrics[NAMES[0]].reason

    assert reason(images, reconstructions, None, labels) == (
        "defect photos have no ground-truth masks"
    )
    assert reason(images, reconstructions, masks, ~labels) == (
        "no anomalous photo has a mask with a true pixel"
    )
    assert reason(images, images, masks, labels) == (
        "1 of 1 reconstructions equal the photo: infinite PSNR"
    )
    reconstructions[0, 0, 0] = np.nan
    assert reason(images, reconstructions, masks, labels) == (
        "a photo or reconstruction is not finite"
    )
