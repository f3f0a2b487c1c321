"""What accepting false alarms does to good photos that nobody looked at.

    python -m benchmarks.recalibration --workdir=runs/padim --categories=bottle,transistor

A category's good test photos are halved at random, again and again. The false alarms of one half
are accepted, as an inspector would on the page of --mode=serve, and the detector is calibrated
anew; then the other half is judged, and so are all defects. Where a recalibration changes scores
(DiffAD's level of normal photos), each halving scores all photos again: take fewer --splits.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import ml_collections
import numpy as np
from absl import flags
from ml_collections import config_flags

from benchmarks import last_line
from diffad_jax.config import stored
from diffad_jax.data import images, layouts
from diffad_jax.data.corrections import Measured
from diffad_jax.inference import batching
from diffad_jax.inference.calibration import load_or_choose, measured
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import check_config
from diffad_jax.runtime.compilation import keep_compiled
from diffad_jax.training.held_out import load_split


def main(argv: list[str]) -> None:
    del argv
    keep_compiled()  # each halving fits with a program of its own
    wanted, found = flags.FLAGS, {}
    workdir, given = Path(wanted.workdir), wanted.config
    names = given.categories if given else wanted.categories or stored.categories(workdir)
    for category in names:
        config = given or stored.read(workdir / category)
        check_config(config)
        found[category] = measure(config, workdir, category, wanted.splits, wanted.seed)
        print(category, found[category])
    last_line.finish(found, wanted.json)


def measure(
    config: ml_collections.ConfigDict, workdir: Path, category: str, splits: int, seed: int
) -> dict[str, float]:
    """Means over the halvings: of false alarms among the photos not looked at, and of defects."""
    trained = Detector.as_trained(config, workdir, category)
    before = load_or_choose(config, workdir, category, trained, accepted=())
    records = layouts.read_category(config.data.root, category, config.data.layout)
    records = [r for r in records if r.split == "test"]
    good = [r.file for r in records if not r.is_anomalous]
    defects = [r.file for r in records if r.is_anomalous]
    results = _score(trained, good + defects)
    num_trained = len(load_split(config, workdir / category, category).train)
    rng, halves = np.random.default_rng(seed), []
    for _ in range(splits):
        order = [good[i] for i in rng.permutation(len(good))]
        seen, unseen = order[: len(good) // 2], order[len(good) // 2 :]
        alarms = [file for file in seen if results[file].score > before.threshold]
        windows = _windows(trained.config, alarms)
        fitted = trained.fitted_with(windows, num_trained) if alarms else {}
        detector = trained.recalibrated(fitted)
        again = _score(detector, good + defects) if fitted else results
        accepted = [results[file] for file in alarms]
        after = load_or_choose(config, workdir, category, detector, accepted=accepted)
        halves.append(
            (
                len(alarms),
                _share(results, unseen, before.threshold),
                _share(again, unseen, after.threshold),
                _share(again, defects, after.threshold),
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
        "defects_found_before": _share(results, defects, before.threshold),
        "defects_found_after": defects_after,
    }


def _score(detector: Detector, files: list[str]) -> dict[str, Measured]:
    return {
        scored.path: measured(scored.score, scored.anomaly_map)
        for batch in batching.score_photos(detector, files, tile=False)
        for scored in batch
    }


def _windows(config: ml_collections.ConfigDict, files: list[str]) -> Iterator[np.ndarray]:
    c, size = config.data, config.evaluation.batch_size
    return images.read_batches(files, size, config.image_size, images.rules(c), c.on_bad_image)


def _share(results: dict[str, Measured], files: Sequence[str], threshold: float) -> float:
    return float(np.mean([results[file].score > threshold for file in files]))


if __name__ == "__main__":
    config_flags.DEFINE_config_file(
        "config", None, "FILE:CATEGORY, as for training; unless given, what the workdir remembers."
    )
    flags.DEFINE_string("workdir", None, "Of trained detectors.", required=True)
    flags.DEFINE_list("categories", [], "Some of those that the workdir remembers.")
    flags.DEFINE_integer("splits", 200, "Halvings.", 1)
    flags.DEFINE_integer("seed", 0, "Of the halvings.")
    flags.DEFINE_string("json", None, "Writes the metrics there as well.")
    last_line.run(main)
