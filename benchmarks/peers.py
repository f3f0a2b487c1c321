"""PaDiM, PatchCore, DRAEM against anomalib's: the same networks and photos, one core, in turns.

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
    /tmp/peers/bin/pip install anomalib==2.7.0
    python -m benchmarks.peers --peer=/tmp/peers/bin/python

anomalib runs in that environment, in a process that answers one question at a time, on the same
core. PaDiM (ResNet-18) and PatchCore (WideResNet-50-2, a bank of 1 %) have equal random weights.
DRAEM's are random on either side, and of it there is the latency of one photo alone: it is trained
by steps, and a batch takes a minute. EfficientAD-S is known for its speed. We do not have it, so it
stands beside our PaDiM as its recipe is (EfficientNet-Lite0, the extra ``backbone``). Photos are
noise, 256 × 256. Times are those of the processor, medians; ``ratio`` is ours to anomalib's. The
last line is one JSON object.
"""

import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import last_line

_FIT_ROUNDS = 3
_SIZE, _BATCH = 256, 16
_LAYERS = {"padim": ("layer1", "layer2", "layer3"), "patchcore": ("layer2", "layer3")}
_NETWORKS = {"padim": "resnet18", "patchcore": "wide_resnet50_2"}


def main(_) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # and so do the peer and XLA's threads
    report: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        photos = np.random.default_rng(0).integers(
            0, 256, (flags.FLAGS.photos, _SIZE, _SIZE, 3), np.uint8
        )
        np.save(Path(folder) / "photos.npy", photos)
        peer = _Peer(flags.FLAGS.peer, Path(folder))
        report["versions"] = peer("versions")
        for method in ("padim", "patchcore", "draem", "efficientad"):
            peer("make", method, _NETWORKS.get(method, ""), *_LAYERS.get(method, ()))
            sides = {"ours": _ours(method, Path(folder), photos), "anomalib": peer}
            found = report[method] = {}
            if method in _NETWORKS:
                found[f"fit_{len(photos)}"] = _in_turns(sides, "fit", _FIT_ROUNDS)
            for size in (1, _BATCH) if method in _NETWORKS else (1,):
                found[f"predict_{size}"] = _in_turns(sides, f"predict_{size}", flags.FLAGS.rounds)
            for what, row in found.items():
                print(f"{method:12} {what:10} " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()))
        peer.end()
    last_line.finish(report)


def _in_turns(sides: dict[str, Callable], what: str, rounds: int) -> dict[str, float]:
    """Median seconds of the processor of each side, after a call that compiles; their ratio."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(1 + rounds):
        for name, side in sides.items():
            seconds[name].append(side(what))
    found = {name: float(np.median(values[1:])) for name, values in seconds.items()}
    return {f"{k}_seconds": v for k, v in found.items()} | {
        "ratio": found["ours"] / found["anomalib"]
    }


class _Peer:
    """anomalib's side, see ``peers_anomalib``: a question is a line, and so is its answer."""

    def __init__(self, python: str, folder: Path):
        script = str(Path(__file__).with_name("peers_anomalib.py"))
        self._process = subprocess.Popen(
            [python, script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, *question: str):
        with contextlib.suppress(BrokenPipeError):  # it has said why
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            self.end()
            sys.exit("error: the peer has ended, see above: is anomalib installed for --peer?")
        return json.loads(answer)

    def end(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def _ours(method: str, folder: Path, photos: np.ndarray) -> Callable[[str], float]:
    """A function: fit or predict_N -> seconds of the processor."""
    import jax  # after the affinity is set
    import ml_collections

    from configs import draem, padim, patchcore
    from diffad_jax.convert import pretrained
    from diffad_jax.methods.registry import get_method

    recipes = {"draem": draem, "padim": padim, "patchcore": patchcore, "efficientad": padim}
    config = recipes[method].get_config("noise")
    config.image_size = _SIZE
    if method in _NETWORKS:
        config.backbone.update(
            name=_NETWORKS[method], layers=_LAYERS[method], weights=str(folder / "weights.pth")
        )
    frozen = ml_collections.FrozenConfigDict(config)
    chosen = get_method(frozen)
    (stage,) = chosen.stages(frozen)
    weights, rng = {}, np.random.default_rng(0)
    if stage.fit:
        earlier = pretrained.load(stage.pretrained(frozen), frozen)
    else:
        shapes = stage.weights_shapes(frozen, {})
        draw = lambda leaf: np.float32(rng.uniform(0.01, 0.03, leaf.shape))  # noqa: E731
        weights[stage.name] = jax.device_put(jax.tree.map(draw, shapes))
    predict = jax.jit(functools.partial(chosen.predict, seed=0, config=frozen))

    def fit() -> None:
        batches = (photos[i : i + _BATCH] for i in range(0, len(photos), _BATCH))
        weights[stage.name] = jax.device_put(stage.fit(frozen, batches, earlier))
        jax.block_until_ready(weights)

    if method not in _NETWORKS and stage.fit:
        fit()

    def run(what: str) -> float:
        started = time.process_time()
        if what == "fit":
            fit()
        else:
            batch = photos[: int(what.rpartition("_")[2])]
            found = predict(weights, batch)
            jax.device_get((found.score, found.anomaly_map))
        return time.process_time() - started

    return run


if __name__ == "__main__":
    flags.DEFINE_string("peer", None, "The Python that has anomalib.", required=True)
    flags.DEFINE_integer("photos", 32, "Fitted on.")
    flags.DEFINE_integer("rounds", 5, "Of each; of fits 3.")
    last_line.run(main)
