"""Whether the device ever waits for the training loop: for logging, validation, checkpoints.

    python -m benchmarks.loop --steps=60 --milliseconds=100 --state_mib=256

The loop is the real one, the stage a stand-in: each step is a sleep on the device's own thread, so
that it takes no processor time from the loop, and notes when it began and ended; it then adds 1 to
the whole state. The last line is one JSON object; ``ratio`` is a step's time with all of it over
that with none.
"""

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from configs import mvtec
from diffad_jax.methods import train_state
from diffad_jax.methods.contract import Stage
from diffad_jax.training import loop
from diffad_jax.training.data import Data
from diffad_jax.types import Validation

RUNS = {  # name -> (log_every, checkpoint_every); none of them before the last step
    "neither": (10**9, 10**9),
    "logged at each step": (1, 10**9),
    "logged at each step, a checkpoint at each 10th": (1, 10),
}


class Sleeper:
    """A stage whose step sleeps, and moves a state of a chosen size."""

    def __init__(self, seconds: float, state_mib: int):
        self._seconds, self._values = seconds, state_mib * 2**20 // 4
        self.times: list[tuple[float, float]] = []  # beginning and end of each step

    def stage(self):
        return Stage(
            name="sleeper",
            sections=(),
            section="autoencoder",
            init_state=self.init_state,
            train_step=self.train_step,
            weights=self.weights,
            validate=self.validate,
            best_by="quality",
        )

    def init_state(self, config, key, earlier_weights, batch):
        return train_state.create(
            {"w": jnp.zeros(self._values), "of use": jnp.zeros(1024)}, (), key
        )

    def train_step(self, state, earlier_weights, batch, *, config):
        step = jax.pure_callback(self._sleep, jax.ShapeDtypeStruct((), np.int32), state.step)
        params = jax.tree.map(lambda w: w + 1.0, state.params)
        metrics = {"loss": step.astype(jnp.float32)}
        return state.replace(step=step + 1, params=params), metrics

    def _sleep(self, step):
        begun = time.perf_counter()
        time.sleep(self._seconds)
        self.times.append((begun, time.perf_counter()))
        return np.int32(step)

    def weights(self, state):
        return {"of use": state.params["of use"]}

    def validate(self, weights, batch, *, config):
        pictures = {"photo": batch["image"].astype(jnp.float32) / 255.0}
        return Validation({"quality": jnp.mean(weights["sleeper"]["of use"])}, pictures)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--milliseconds", type=float, default=100.0, help="a step takes")
    parser.add_argument("--state_mib", type=int, default=256)
    args = parser.parse_args()
    print(f"{'':48}{'ms a step':>11}{'longest gap, ms':>17}")
    report = {}
    for name, intervals in RUNS.items():
        found = measure(args.steps, args.milliseconds / 1e3, args.state_mib, *intervals)
        report[name] = found
        print(f"{name:48}{1e3 * found['seconds_per_step']:11.1f}"
              f"{1e3 * found['longest_gap_seconds']:17.1f}")  # fmt: skip
    base, *_, full = (r["seconds_per_step"] for r in report.values())
    print(json.dumps({"ratio": full / base, "state_mib": args.state_mib, "runs": report}))


def measure(
    steps: int, seconds: float, state_mib: int, log_every: int, checkpoint_every: int
) -> dict[str, float]:
    """Trains once; what the device did between its first and its last step."""
    config = mvtec.get_config("none")
    config.image_size = 16
    config.autoencoder.steps = steps
    config.training.log_every, config.training.checkpoint_every = log_every, checkpoint_every
    batch = {"image": np.zeros((8, 16, 16, 3), np.uint8)}
    data = Data(
        batches=lambda stage, start, size: itertools.repeat(batch),
        held_out=lambda: batch,
        normal_photos=(),
        num_photos=8,
        num_train=8,
        photos="none",
    )
    stage = Sleeper(seconds, state_mib)
    with tempfile.TemporaryDirectory() as folder:
        frozen_config = ml_collections.FrozenConfigDict(config)
        loop.train_stage(stage.stage(), frozen_config, {}, Path(folder), data, "loop")
    times = np.array(stage.times)
    return {
        "seconds_per_step": float(times[-1, 0] - times[0, 0]) / (steps - 1),
        "longest_gap_seconds": float((times[1:, 0] - times[:-1, 1]).max()),
    }


if __name__ == "__main__":
    main()
