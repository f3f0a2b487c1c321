"""What accepting false alarms does to good photos that nobody looked at.

    python -m benchmarks.recalibration --workdir=runs/padim --categories=bottle,transistor

A category's good test photos are halved at random, again and again. The false alarms of one half
are accepted, as an inspector would on the page of --mode=serve, and the threshold is chosen anew;
then the other half is judged, and so are all defects.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import last_line
from diffad_jax.config import stored
from diffad_jax.data import layouts
from diffad_jax.inference import batching
from diffad_jax.inference.calibration import load_or_choose, measured
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import check_config

_WORKDIR = flags.DEFINE_string("workdir", None, "Of trained detectors.", required=True)
_CATEGORIES = flags.DEFINE_list("categories", [], "Some of them; all unless given.")
_SPLITS = flags.DEFINE_integer("splits", 200, "Halvings.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the halvings.")
_JSON = flags.DEFINE_string("json", None, "Writes the metrics there as well.")


def main(argv: list[str]) -> None:
    del argv
    workdir, found = Path(_WORKDIR.value), {}
    for category in _CATEGORIES.value or stored.categories(workdir):
        found[category] = measure(workdir, category, _SPLITS.value, _SEED.value)
        print(category, found[category])
    last_line.finish(found, _JSON.value)


def measure(workdir: Path, category: str, splits: int, seed: int) -> dict[str, float]:
    """Means over the halvings: of false alarms among the photos not looked at, and of defects."""
    config = stored.read(workdir / category)
    check_config(config)
    detector = Detector.from_workdir(config, workdir, category)
    before = load_or_choose(config, workdir, category, detector, accepted=())
    records = layouts.read_category(config.data.root, category, config.data.layout)
    records = [r for r in records if r.split == "test"]
    results = {
        scored.path: measured(scored.score, scored.anomaly_map)
        for batch in batching.score_photos(detector, [r.file for r in records], tile=False)
        for scored in batch
    }
    good = [results[r.file] for r in records if not r.is_anomalous]
    defects = [results[r.file] for r in records if r.is_anomalous]
    rng, halves = np.random.default_rng(seed), []
    for _ in range(splits):
        order = rng.permutation(len(good))
        seen, unseen = np.split(order, [len(good) // 2])
        alarms = [good[i] for i in seen if good[i].score > before.threshold]
        after = load_or_choose(config, workdir, category, detector, accepted=alarms)
        rest = [good[i] for i in unseen]
        halves.append(
            (
                len(alarms),
                _share(rest, before.threshold),
                _share(rest, after.threshold),
                _share(defects, after.threshold),
            )
        )
    accepted, rate_before, rate_after, defects_after = np.mean(halves, axis=0).tolist()
    return {
        "num_held_out": before.num_held_out_normal,
        "num_good": len(good),
        "num_defects": len(defects),
        "accepted": accepted,
        "false_alarm_rate_before": rate_before,
        "false_alarm_rate_after": rate_after,
        "defects_found_before": _share(defects, before.threshold),
        "defects_found_after": defects_after,
    }


def _share(photos: Sequence, threshold: float) -> float:
    return float(np.mean([photo.score > threshold for photo in photos]))


if __name__ == "__main__":
    last_line.run(main)
