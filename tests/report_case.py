"""A report of made-up photos, with file names that try to break out of the page."""

import dataclasses
from pathlib import Path

import numpy as np
from scipy import ndimage

from diffad_jax.data import pictures
from diffad_jax.evaluation import confusion, metrics, report
from diffad_jax.evaluation.direct_copy import direct_copy_metrics, squared_errors
from diffad_jax.evaluation.ranking import NO_RECONSTRUCTION, Metric

HOSTILE = "</script><img src=x onerror=alert(1)>&\u2028'\"{{data}}.png"
THRESHOLD = 0.5


def make_report(
    path: Path, num_normal=6, num_anomalous=10, side=48, masks=True, rebuilds=True, **more
) -> tuple[metrics.TestSet, np.ndarray]:
    """Writes it; returns the test set and the scores. Some verdicts are wrong on purpose.

    ``more`` goes into its ``Content``.
    """
    rng = np.random.default_rng(0)
    count = num_normal + num_anomalous
    labels = np.arange(count) >= num_normal
    truth = np.zeros((count, side, side), bool)
    truth[labels, side // 4 : side // 2, side // 4 : side // 2] = True
    scores = np.round(np.clip(0.4 + 0.2 * labels + 0.2 * rng.standard_normal(count), 0, 1), 6)
    maps = np.clip(scores[:, None, None] * (0.3 + truth) * rng.random(truth.shape), 0, 1)
    noise = ndimage.gaussian_filter(rng.standard_normal((side, side, 3)), (2, 2, 0))
    photo = np.uint8(np.clip(128 + 200 * noise, 0, 255))
    rolled = [np.roll(photo, 7 * i, axis=1) for i in range(count)]
    photos = np.array(rolled, np.uint8).reshape(count, side, side, 3)
    kinds = ["good" if not a else ("<b>dent</b>", "crack")[i % 2] for i, a in enumerate(labels)]
    test = metrics.TestSet(
        files=[f"/data/{HOSTILE}" if i == count - 1 else f"/data/{i:03}.png" for i in range(count)],
        defect_types=kinds,
        labels=labels,
        photos=photos,
        masks=truth if masks else None,
    )
    measured = metrics.find(test, scores, maps, seed=0, memory_mib=64)
    exact = (photos / 255).astype(np.float32)
    squares = squared_errors(exact, np.clip(exact + 0.05, 0, 1), truth) if masks else None
    copied = direct_copy_metrics(squares, truth.sum(axis=(1, 2)), side * side, labels)
    if not rebuilds:
        copied = dict.fromkeys(copied, Metric(None, NO_RECONSTRUCTION))
    measured.metrics.update(copied)
    content = report.Content(
        category="<i>cups</i>",
        test=test,
        measured=measured,
        scores=scores,
        maps=maps,
        scale=pictures.Scale(0.0, 1.0, 0.4),
        columns={"reconstruction": photos, "interpolated 0.5": photos},
        thresholds=[
            report.Verdict(
                "held-out normal photos",
                THRESHOLD,
                "7 held-out normal photos",
                False,
                "0 of 7 held-out photos lie above it: the true rate is below 35 %",
            ),
            report.Verdict("F1-max", 0.45, "test labels", True),
        ],
        settings={
            "method": "diffad",
            "mask rule": "half: above half",
            "colours": "blue up to 0.4",
            "seed": "0",
        },
    )
    report.write_report(path, dataclasses.replace(content, **more))
    return test, scores


def counts(test: metrics.TestSet, scores: np.ndarray, threshold: float) -> list[int]:
    """True negatives, false positives, false negatives, true positives."""
    c = confusion.confusion(test.labels, scores, threshold)
    return [c.true_negatives, c.false_positives, c.false_negatives, c.true_positives]
