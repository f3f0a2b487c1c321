"""What four ways to choose a threshold keep of their promise where good photos are few.

    python -m benchmarks.thresholds --config=configs/patchcore.py:bottle --config.image_size=128 \\
      --config.data.root=data/mvtec

Good photos are drawn from the training photos, again and again; each way fits the detector on its
part of them and chooses a threshold by ``evaluation.false_alarm_rate``. Good photos are judged that
no way has seen, and so are all defects. For methods that fit in one pass.
"""

from collections.abc import Sequence

import ml_collections
import numpy as np
from absl import flags
from ml_collections import config_flags

from benchmarks import last_line
from diffad_jax.convert import pretrained
from diffad_jax.data import images, layouts
from diffad_jax.errors import ConfigError
from diffad_jax.inference.detector import Detector
from diffad_jax.inference.thresholds import threshold_at_rate
from diffad_jax.methods.registry import check_config, get_method

_MOST_GOOD = 60  # that are judged: those of the test first, then training photos not drawn
_FOLDS = 5


def main(argv: list[str]) -> None:
    del argv
    config = flags.FLAGS.config
    check_config(config)
    found = {}
    for category in config.categories:
        for count in map(int, flags.FLAGS.counts):
            found[f"{category}, {count} photos"] = rows = measure(
                config, category, count, flags.FLAGS.draws
            )
            for way, (alarms, finds) in rows.items():
                print(f"{category}, {count} photos, {way}: false alarms {100 * alarms:.0f} %, "
                      f"defects found {100 * finds:.0f} %")  # fmt: skip
    last_line.finish(found, flags.FLAGS.json)


def measure(
    config: ml_collections.ConfigDict, category: str, count: int, draws: int
) -> dict[str, tuple[float, float]]:
    """{way: (false-alarm rate, share of defects found)}, means over the draws.

    Raises:
      ConfigError: the method trains by steps.
    """
    stages = get_method(config).stages(ml_collections.FrozenConfigDict(config))
    if len(stages) != 1 or not stages[0].fit:
        raise ConfigError(f"config.method = {config.method!r} is not fitted in one pass")
    records = layouts.read_category(config.data.root, category, config.data.layout)
    normal = _read(config, [r for r in records if r.split == "train"])
    test = [r for r in records if r.split == "test"]
    good = _read(config, [r for r in test if not r.is_anomalous])
    defects = _read(config, [r for r in test if r.is_anomalous])
    results = []
    for draw in range(draws):
        order = np.random.default_rng((config.seed, draw)).permutation(len(normal))
        unseen = np.concatenate([good, normal[order[count:]]])[:_MOST_GOOD]
        results.append(_ways(config, normal[order[:count]], unseen, defects))
    return {way: tuple(np.mean([r[way] for r in results], axis=0).tolist()) for way in results[0]}


def _ways(
    config: ml_collections.ConfigDict, photos: np.ndarray, good: np.ndarray, defects: np.ndarray
) -> dict[str, tuple[float, float]]:
    rate, found = config.evaluation.false_alarm_rate, {}

    def judge(detector: Detector, thresholds: dict[str, float]) -> None:
        of_good, of_defects = _scores(detector, good), _scores(detector, defects)
        for name, threshold in thresholds.items():
            found[name] = (np.mean(of_good > threshold), np.mean(of_defects > threshold))

    for way, part in (("a tenth held out", 10), ("a third held out", 3)):
        held_out, rest = np.split(photos, [max(len(photos) // part, 1)])
        detector = _fitted(config, rest)
        scores = _scores(detector, held_out)
        thresholds = {way: threshold_at_rate(scores, rate)}
        if part == 3:
            middle = np.median(scores)
            spread = 1.4826 * np.median(np.abs(scores - middle))
            thresholds["a third, median + 3 MAD"] = middle + 3.0 * spread
        judge(detector, thresholds)
    scores = np.zeros(len(photos))
    for fold in range(_FOLDS):
        out = np.arange(len(photos)) % _FOLDS == fold
        scores[out] = _scores(_fitted(config, photos[~out]), photos[out])
    way = "five folds"
    judge(_fitted(config, photos), {way: threshold_at_rate(scores, rate)})
    return found


def _fitted(config: ml_collections.ConfigDict, photos: np.ndarray) -> Detector:
    frozen = ml_collections.FrozenConfigDict(config)
    (stage,) = get_method(config).stages(frozen)
    stands_on = pretrained.load(stage.pretrained(frozen), frozen)
    size = config.evaluation.batch_size
    batches = iter([photos[i : i + size] for i in range(0, len(photos), size)])
    return Detector(frozen, {stage.name: stage.fit(frozen, batches, stands_on)})


def _scores(detector: Detector, photos: np.ndarray) -> np.ndarray:
    return detector.predict_all(photos, detector.config.evaluation.batch_size).score


def _read(config: ml_collections.ConfigDict, records: Sequence[layouts.Record]) -> np.ndarray:
    files = [r.file for r in records]
    return images.read_images(files, config.image_size, images.rules(config.data))[0]


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "Of the method and the photos.")
    flags.mark_flag_as_required("config")
    flags.DEFINE_list("counts", ["10", "20", "40"], "Good photos to draw.")
    flags.DEFINE_integer("draws", 5, "Of each.", 1)
    flags.DEFINE_string("json", None, "Writes the metrics there as well.")
    last_line.run(main)
