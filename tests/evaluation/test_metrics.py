"""All metrics of a test set at once; each by itself is tested beside its own module."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_pixels import pixel_f1_max, pixel_metrics, pro

from diffad_jax.evaluation import metrics, metrics_file, pimo, pixels
from diffad_jax.evaluation.ranking import NO_MASKS, image_metrics
from diffad_jax.evaluation.stack import Stack

SIDE = 12


def case(labels, masks=True):
    """(test set, scores, maps) with these labels."""
    labels, rng = np.array(labels, bool), np.random.default_rng(0)
    photos = rng.integers(0, 256, (len(labels), SIDE, SIDE, 3), np.uint8)
    truth = np.zeros((len(labels), SIDE, SIDE), bool)
    truth[labels, 2:6, 3:9] = True
    test = metrics.TestSet(
        files=[f"{i}.png" for i in range(len(labels))],
        defect_types=[("dent", "crack")[i % 2] if a else "good" for i, a in enumerate(labels)],
        labels=labels,
        photos=photos,
        masks=truth if masks else None,
    )
    maps = (0.2 * truth + 0.8 * rng.random(truth.shape)).astype(np.float32)
    return test, maps.mean((1, 2)).astype(np.float64), maps


def test_they_are_those_of_each_module():
    test, scores, maps = case([0, 0, 0, 1, 1, 1])
    found = metrics.find(test, scores, maps, seed=0, memory_mib=64)
    expected = image_metrics(test.labels, scores) | pixel_metrics(test.masks, maps)
    f1, threshold = pixel_f1_max(test.masks, maps)
    kinds = [kind if a else "" for kind, a in zip(test.defect_types, test.labels, strict=True)]
    counts = pixels.count(test.masks, maps, kinds, 64)
    overlap, of_photos = pimo.aupimo(counts, test.labels, test.masks, maps)
    expected |= {"pixel_f1_max": f1, "pixel_pro": pro(test.masks, maps), "pixel_aupimo": overlap}
    assert {n: found.metrics[n].value for n in expected} == pytest.approx(
        {n: f.value for n, f in expected.items()}, abs=1e-12
    )
    assert {found.metrics[n].reason for n in expected if n != "pixel_aupimo"} == {""}
    assert found.f1_max_thresholds["pixel_f1_max"] == threshold
    called = maps >= threshold
    assert found.pixels.best.recall == called[test.masks].mean()
    assert found.pixels.best.precision == test.masks[called].mean()
    assert found.pixels.best.false_positive_rate == called[~test.masks].mean()
    shares = [called[i][test.masks[i]].mean() for i in (3, 4, 5)]  # a region in each
    assert found.pixels.best.region_overlap == pytest.approx(np.mean(shares), abs=1e-12)
    assert found.images.points.keys() | {"pro"} == found.pixels.points.keys()
    assert found.aupimo_of_photos == of_photos
    assert list(found.by_defect) == ["crack", "dent"]
    for name, (low, high) in found.intervals.items():
        assert 0 <= low.value <= high.value <= 1, name


@pytest.mark.parametrize(
    ("labels", "masks", "undefined", "reason"),
    [
        ([], True, "image_auroc", "there are no test photos"),
        ([], True, "pixel_pro", "there are no pixels"),
        ([0, 0], True, "image_ap", "there are no anomalous test photos"),
        ([1, 1], True, "image_f1_max", "there are no normal test photos"),
        ([1, 1], True, "pixel_aupimo", "there are no normal photos to take false positives from"),
        ([0, 1, 1], False, "pixel_auroc", NO_MASKS),
        ([0, 1, 1], False, "pixel_aupimo", NO_MASKS),
    ],
)
def test_what_is_undefined_says_why(labels, masks, undefined, reason):
    found = metrics.find(*case(labels, masks), seed=0, memory_mib=64)
    assert found.metrics[undefined].value is None
    assert found.metrics[undefined].reason == reason
    assert found.images.reason or found.pixels.reason
    plain = metrics_file.plain(found.metrics, metrics_file.plain_intervals(found.intervals))
    json.dumps(plain, allow_nan=False)


def test_equal_seeds_give_equal_intervals():
    of = case([0, 0, 0, 1, 1, 1])
    first, same, other = (metrics.find(*of, s, 64).intervals for s in (0, 0, 1))
    assert first == same != other


def test_maps_on_disk_give_the_same(tmp_path):
    test, scores, maps = case([0, 0, 0, 1, 1, 1])
    stacks = [Stack(tmp_path / "new", (SIDE, SIDE), x.dtype) for x in (test.masks, maps)]
    for stack, array in zip(stacks, (test.masks, maps), strict=True):
        stack.append(array[:4])
        stack.append(array[4:])
    on_disk = dataclasses.replace(test, masks=stacks[0])
    found = metrics.find(on_disk, scores, stacks[1], 0, 64)
    expected = metrics.find(test, scores, maps, 0, 64)
    assert (found.metrics, found.intervals) == (expected.metrics, expected.intervals)
    assert found.by_defect == expected.by_defect


@settings(max_examples=8, deadline=None)
@given(st.sets(st.integers(0, 6)), st.permutations(range(6)))
def test_neither_order_nor_batches_of_photos_matter(tmp_path_factory, ends, order):
    test, scores, maps = case([0, 0, 0, 1, 1, 1])
    expected = metrics.find(test, scores, maps, 0, 64).metrics
    stacks = []
    for array in (test.masks, maps):
        stacks.append(Stack(tmp_path_factory.getbasetemp(), (SIDE, SIDE), array.dtype))
        for batch in np.split(array[order], sorted(ends)):
            stacks[-1].append(batch)
    shuffled = dataclasses.replace(
        test,
        files=[test.files[i] for i in order],
        defect_types=[test.defect_types[i] for i in order],
        labels=test.labels[order],
        masks=stacks[0],
    )
    found = metrics.find(shuffled, scores[order], stacks[1], 0, 64).metrics
    assert {n: f.value for n, f in found.items()} == pytest.approx(
        {n: f.value for n, f in expected.items()}, abs=1e-12
    )


def test_with_little_memory_metrics_come_with_bounds_that_hold():
    test, scores, maps = case([0, 0, 0, 1, 1, 1])
    exact = metrics.find(test, scores, maps, seed=0, memory_mib=64).metrics
    bounded = metrics.find(test, scores, maps, seed=0, memory_mib=0)
    for name, metric in bounded.metrics.items():
        if name.startswith("pixel"):
            low, high = map(float, metric.reason.partition("[")[2].partition("]")[0].split(","))
            assert low - 1e-9 <= exact[name].value <= high + 1e-9, name
    assert "the exact value is in" in bounded.by_defect["dent"]["pixel_ap"].reason
