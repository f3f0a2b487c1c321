"""Takes a trained DiffAD apart on held-out normal photos, with drawn defects and in other light.

    python -m benchmarks.held_out --config=configs/mvtec_small.py:bottle --workdir=runs/small \
      --config.data.root=data/mvtec

Settings are chosen by it, since it needs no labelled photo. Defects are drawn at
``defect_kinds.SIZE`` pixels and then resized, so that runs of different sizes see the same ones.
"""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import flags
from ml_collections import config_flags
from PIL import Image

from benchmarks import defect_kinds, last_line
from benchmarks.ablations import replacement
from diffad_jax.data import images, split
from diffad_jax.evaluation import curve
from diffad_jax.inference.detector import Detector
from diffad_jax.inference.thresholds import threshold_at_rate
from diffad_jax.methods.diffad import brightness, windows
from diffad_jax.methods.diffad.method import judge
from diffad_jax.methods.diffad.reconstruct import Reconstruction, reconstruct
from diffad_jax.methods.registry import check_config
from diffad_jax.methods.validation import psnr
from diffad_jax.runtime.batches import in_batches
from diffad_jax.training.held_out import load_split
from diffad_jax.types import height_width, to_float

_BATCH = 8
_LIGHT = 0.05  # more or less of it, or across a photo


def main(argv: list[str]) -> None:
    del argv
    config, workdir = flags.FLAGS.config, Path(flags.FLAGS.workdir)
    check_config(config)
    for category in config.categories:
        detector = Detector.from_workdir(config, workdir, category)
        held_out = load_split(config, workdir / category, category).held_out
        photos = held_out_photos(detector.config, split.paths(config, held_out))
        metrics = take_apart(detector.weights, detector.config, photos)
        print_table(category, metrics)
        alarms = false_alarms(detector, photos)
        for light, share in alarms.items():
            print(f"normal photos called anomalous, {light}: {share:.2f}")
        last_line.finish({"category": category, "metrics": metrics, "false_alarms": alarms})


def take_apart(
    weights: dict, config: ml_collections.FrozenConfigDict, photos: np.ndarray
) -> dict[str, dict[str, float]]:
    """Metrics by kind of defect, and over all of them; ``photos`` are ``held_out_photos``.

    ``image_auroc`` is that of photos with against those without the defect, which somebody can see
    at ``defect_kinds.SIZE``. Pixel metrics are of pixels that it covers by half; where there are
    none they are nan, and left out of the mean. ``pixel_ap`` is given as it is, and with what the
    segmenter compares the photo to replaced: by the defect-free photo (``ap_of_normal``, a perfect
    reconstruction) and by the autoencoder's copy of the photo itself (``ap_of_copy``, none).
    ``damaged``, ``inside`` and ``outside`` are PSNRs in dB against the defect-free photo: of the
    photo inside the mask, and of its reconstruction in- and outside.
    """
    normal = _as_seen(photos, config)
    run = functools.partial(jax.jit(functools.partial(_run, config=config)), weights)
    good = in_batches(run, [normal, normal], _BATCH)
    found = {}
    for kind in defect_kinds.KINDS:
        drawn = [defect_kinds.draw(kind, p, i) for i, p in enumerate(photos)]
        damaged = _as_seen([p for p, _ in drawn], config)
        masks = np.stack([_shrunk(m, height_width(config.image_size)) for _, m in drawn])
        shown = [m.any() for _, m in drawn]  # where nothing is to be seen there is nothing to find
        bad = in_batches(run, [damaged[shown], normal[shown]], _BATCH)
        found[kind] = _metrics(normal[shown], damaged[shown], masks[shown], good, bad)
    found["mean"] = {k: _mean_of_known([f[k] for f in found.values()]) for k in found["blur"]}
    return found


def false_alarms(detector: Detector, photos: np.ndarray) -> dict[str, float]:
    """The share of normal photos above the threshold that they give, and under other light.

    The light is a twentieth less or more, or so much from one edge to the middle.
    """
    config = detector.config
    along = _LIGHT * np.linspace(-1.0, 1.0, defect_kinds.SIZE)
    gains = {
        "as they are": 1.0,
        "darker": 1.0 - _LIGHT,
        "brighter": 1.0 + _LIGHT,
        "brighter below": 1.0 + along[:, None, None],
        "brighter to the right": 1.0 + along[:, None],
    }
    scores = {}
    for light, gain in gains.items():
        lit = np.clip(np.round(gain * photos), 0, 255).astype(np.uint8)
        seen = _as_seen(lit, config)
        scores[light] = in_batches(lambda x: detector.predict(x).score, [seen], _BATCH)
    threshold = threshold_at_rate(scores["as they are"], config.evaluation.false_alarm_rate)
    return {light: float(np.mean(s > threshold)) for light, s in scores.items()}


def print_table(category: str, metrics: dict[str, dict[str, float]]) -> None:
    names = list(metrics["mean"])
    print(f"\n{category:<16}" + "".join(f"{n:>14}" for n in names))
    for kind, row in metrics.items():
        print(f"{kind:<16}" + "".join(f"{row[n]:>14.3f}" for n in names))


def held_out_photos(config: ml_collections.FrozenConfigDict, files: Sequence[str]) -> np.ndarray:
    """[n, s, s, 3] uint8 with s = ``defect_kinds.SIZE``."""
    rules = images.rules(config.data)
    return np.stack([images.read_image(f, defect_kinds.SIZE, rules) for f in files])


def _run(weights: dict, pixels: jax.Array, normal: jax.Array, *, config) -> dict[str, jax.Array]:
    key = jax.random.key(config.seed)
    photo, perfect = (
        brightness.exposed(weights, to_float(x), config=config) for x in (pixels, normal)
    )
    parts, perfect = (windows.cut(x, config=config) for x in (photo, perfect))
    repaired = reconstruct(
        weights, parts, key, config=config, num_steps=config.reconstruction.test_steps
    )
    share = jnp.array(config.reconstruction.interpolation).reshape(1, -1, 1, 1, 1)
    mixed = share * parts.image[:, None] + (1.0 - share) * perfect.image[:, None]
    seen = {
        "pixel_ap": repaired,
        "ap_of_normal": Reconstruction(perfect.image, mixed),
        "ap_of_copy": replacement(weights, parts, "copy", config=config),
    }
    judged = {k: judge(weights, photo, r, config=config) for k, r in seen.items()}
    maps = {k: p.anomaly_map for k, p in judged.items()}
    shown = windows.joined(repaired.reconstruction, config=config)
    return maps | {"score": judged["pixel_ap"].score, "repaired": shown}


def _metrics(normal, damaged, masks, good: dict, bad: dict) -> dict[str, float]:
    labels = np.repeat([False, True], [len(good["score"]), len(bad["score"])])
    scores = np.concatenate([good["score"], bad["score"]])
    truth = np.concatenate([np.zeros_like(good["pixel_ap"], dtype=bool), masks]).ravel()
    metrics = {"image_auroc": curve.auroc(curve.exact(labels, scores))}
    for name in ("pixel_ap", "ap_of_normal", "ap_of_copy"):
        maps = np.concatenate([good[name], bad[name]]).ravel()
        ap = curve.average_precision(curve.exact(truth, maps)) if truth.any() else np.nan
        metrics[name] = ap
    original, where = normal / 255.0, masks[..., None].astype(np.float64)
    metrics["damaged"] = psnr(damaged / 255.0, original, where)
    metrics["inside"] = psnr(bad["repaired"], original, where)
    metrics["outside"] = psnr(bad["repaired"], original, 1.0 - where)
    return {k: float(v) for k, v in metrics.items()}


def _mean_of_known(values: list[float]) -> float:
    """The mean of what is not nan; nan where all is, without numpy's warning."""
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")


def _as_seen(photos: Iterable[np.ndarray], config: ml_collections.FrozenConfigDict) -> np.ndarray:
    """Resized as the detector's photos are."""
    return np.stack(
        [images.resized(p, height_width(config.image_size), config.data.resize) for p in photos]
    )


def _shrunk(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    pixels = Image.fromarray(255 * mask.astype(np.uint8))
    return np.asarray(pixels.resize(size[::-1], Image.Resampling.BOX)) >= 128


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "FILE:CATEGORY, as for training.")
    flags.DEFINE_string("workdir", None, "Where it was trained.")
    flags.mark_flags_as_required(["config", "workdir"])
    last_line.run(main)
