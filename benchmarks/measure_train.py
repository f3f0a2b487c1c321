"""One row of ``train.py``: a stage at a batch size and a dtype, in a process of its own.

Prints one JSON object. Needs jax, flax, optax and ml_collections (of the configs) alone.
"""

import argparse
import dataclasses
import functools
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from benchmarks import flops as cost
from diffad_jax.errors import UserError
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.diffad import STAGES, method, networks
from diffad_jax.methods.train_state import TrainState
from diffad_jax.runtime import flops, peaks, sharding
from diffad_jax.types import height_width

Config = ml_collections.FrozenConfigDict
Times = tuple[float, float]  # seconds a step, of the clock and of the CPU
Run = Callable[[int], float]  # takes so many steps and waits for them; the last one's loss
RUNS = ("jax", "torch_eager", "torch_compiled")
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long to measure what."""

    runs: tuple[str, ...] = RUNS
    rounds: int = 5
    steps: int = 0  # of each run in a round; 0: as many as take ``seconds``
    seconds: float = 2.0
    memory_gib: float = 0.0  # a step that needs more is not run; 0: what the device has
    seed: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--stage", required=True, choices=[stage.name for stage in STAGES])
    parser.add_argument("--batch", type=int, required=True, help="0: the config's")
    parser.add_argument("--dtype", required=True, choices=("float32", "bfloat16"))
    parser.add_argument("--runs", nargs="+", choices=RUNS, required=True)
    for field in dataclasses.fields(Plan)[1:]:
        parser.add_argument(f"--{field.name}", type=field.type, required=True)
    args = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        config = settle(cost.load(args.config), args.stage, args.batch, args.dtype)
    except UserError as error:
        parser.error(str(error))
    plan = Plan(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Plan)})
    row = measure(config, args.stage, dataclasses.replace(plan, runs=tuple(args.runs)))
    print(json.dumps({"row": row, "machine": machine()}))


def settle(config: ml_collections.ConfigDict, stage: str, batch_size: int, dtype: str) -> Config:
    """The config of a row. Stage 1 goes without its adversarial term.

    With the published config training ends before that term starts.
    """
    config = ml_collections.ConfigDict(config)
    config.autoencoder.adversarial_weight = 0.0
    config.training.compute_dtype = dtype
    if batch_size:
        _named(stage).settings(config).batch_size = batch_size
    return Config(config)


def measure(config: Config, name: str, plan: Plan) -> dict:
    """Metrics of each run of the stage ``name``; of one that cannot be, a ``reason`` instead."""
    stage, state, frozen, batch = next(
        found for found in cost.shapes(config) if found[0] is _named(name)
    )
    flop = flops.count(functools.partial(stage.train_step, config=config), state, frozen, batch)
    row = {
        "stage": name,
        "batch_size": stage.settings(config).batch_size,
        "dtype": config.training.compute_dtype,
        "flop_per_step": flop,
    }
    try:
        ours = Ours(stage, config, state, frozen)
        if "jax" in plan.runs:
            ours.compile(batch)
            ours.check_fits(plan.memory_gib * _GIB or _memory_bytes())
        ours.begin(plan.seed)
    except (RuntimeError, UserError) as error:
        runs = dict.fromkeys(plan.runs, {"reason": _reason(error)})
        return row | {"runs": runs, "ratio": None}
    metrics, live = _first_steps(ours, plan)
    seconds = _take_turns(live, plan, stage.settings(config).accumulation)
    for run, taken in seconds.items():
        metrics[run] |= _rates(taken, row, flop)
    if "jax" in live:
        metrics["jax"] |= ours.memory()
    return row | {"runs": metrics} | _ratios(seconds)


class Ours:
    """A stage's training as ``train.py`` sets it up; ``state`` and ``frozen`` are shapes."""

    def __init__(self, stage: Stage, config: Config, state: TrainState, frozen: dict):
        self.stage, self.config, self.mesh = stage, config, sharding.make_mesh(config)
        size = stage.settings(config).batch_size
        sharding.check_batch_size(self.mesh, size, f"batch size of the {stage.name}")
        self.shardings = sharding.weights_sharding(self.mesh, (state, frozen))
        self.shapes = sharding.with_shardings((state, frozen), self.shardings)

    def compile(self, batch: dict) -> None:
        """The step for a batch of these shapes; it gives its input's state up."""
        split = dict.fromkeys(batch, sharding.batch_sharding(self.mesh))
        started = time.perf_counter()
        step = jax.jit(
            functools.partial(self.stage.train_step, config=self.config),
            donate_argnums=0,
            out_shardings=(self.shardings[0], None),
        )
        self.step = step.lower(*self.shapes, sharding.with_shardings(batch, split)).compile()
        self.compile_seconds = time.perf_counter() - started
        m = self.step.memory_analysis()
        self.needed_bytes = (
            m.argument_size_in_bytes
            + m.output_size_in_bytes
            - m.alias_size_in_bytes
            + m.temp_size_in_bytes
        )

    def check_fits(self, limit: float) -> None:
        """Raises UserError where the step needs more than ``limit`` bytes of a device."""
        if self.needed_bytes > limit:
            needs, has = self.needed_bytes / _GIB, limit / _GIB
            raise UserError(f"does not fit in memory: ours needs {needs:.1f} GiB of {has:.1f}")

    def begin(self, seed: int) -> None:
        """Puts random weights and a random batch on the devices."""
        key = jax.random.key(seed)
        batch = random_batch(self.config, self.stage.settings(self.config).batch_size, seed)
        self.batch = sharding.to_global(batch, sharding.batch_sharding(self.mesh))
        self.frozen = {}
        for name in self.shapes[1]:
            init = jax.jit(_initialiser(self.config, name), out_shardings=self.shardings[1][name])
            self.frozen[name] = init(key, self.frozen, self.batch)
        init = functools.partial(self.stage.init_state, self.config)
        init = jax.jit(init, out_shardings=self.shardings[0])
        self.state = init(key, self.frozen, self.batch)

    def run(self, steps: int) -> float:
        """Takes so many steps, waits for them and gives the last one's loss."""
        metrics = {}
        for _ in range(steps):
            self.state, metrics = self.step(self.state, self.frozen, self.batch)
        jax.block_until_ready((self.state, metrics))
        return float(metrics["loss"])

    def memory(self) -> dict:
        """The peak of one device and where it is from."""
        stats = jax.local_devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in stats:
            return {"peak_memory_mib": stats["peak_bytes_in_use"] / 2**20,
                    "peak_memory_source": "device"}  # fmt: skip
        return {"peak_memory_mib": self.needed_bytes / 2**20,
                "peak_memory_source": "compiled program"}  # fmt: skip


def _initialiser(config: Config, name: str) -> Callable:
    """(key, frozen, batch) -> random weights of what a later stage stands on.

    The perceptual network's too, and ones for what is fitted: they only serve to be timed.
    """
    if name == "perceptual":
        image = jnp.zeros((1, *height_width(config.image_size), 3))
        return lambda key, _, __: networks.perceptual(config).init(key, image, image)["params"]
    stages = {stage.name: stage for stage in method.stages(config)}
    if stages[name].fit:
        shapes = stages[name].fitted_shapes(config)
        return lambda *_: jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), shapes)
    return lambda *args: stages[name].weights(stages[name].init_state(config, *args))


def random_batch(config: Config, batch_size: int, seed: int) -> dict[str, np.ndarray]:
    """Noise of the shapes and the dtypes of ``types.Batch``."""
    rng = np.random.default_rng(seed)
    shape = (batch_size, *height_width(config.image_size))
    ranges = {"image": (256, 3), "augmented_image": (256, 3), "anomaly_mask": (2, 1)}
    return {k: rng.integers(0, n, (*shape, c), np.uint8) for k, (n, c) in ranges.items()}


def _first_steps(ours: Ours, plan: Plan) -> tuple[dict[str, dict], dict[str, Run]]:
    """Takes the first step of each run: what is known by then, and the runs that came through."""
    theirs = functools.cache(lambda: _theirs(ours, plan))
    starts: dict[str, Callable[[], tuple[Run, dict]]] = {
        "jax": lambda: (
            ours.run,
            {"first_loss": ours.run(1), "compile_seconds": ours.compile_seconds},
        ),
        "torch_eager": lambda: _first_step(theirs(), compiled=False),
        "torch_compiled": lambda: _first_step(theirs(), compiled=True),
    }
    metrics, live = {}, {}
    # Ours last: PyTorch starts from the same weights, which our first step gives up.
    for name in sorted(plan.runs, key=RUNS.index, reverse=True):
        try:
            live[name], metrics[name] = starts[name]()
        except (RuntimeError, ImportError, UserError) as error:
            metrics[name] = {"reason": _reason(error)}
    return {k: metrics[k] for k in plan.runs}, {k: live[k] for k in plan.runs if k in live}


def _theirs(ours: Ours, plan: Plan):
    """PyTorch's training with our weights; alone, it has the memory to itself."""
    from benchmarks import torch_training

    state, platform_name = ours.state, jax.local_devices()[0].platform
    arrays = jax.device_get((state.params, state.variables, ours.frozen, ours.batch))
    if "jax" not in plan.runs:
        del ours.state, ours.frozen, state
    return torch_training.Training(ours.stage, ours.config, *arrays, platform_name, plan.seed)


def _first_step(training, *, compiled: bool) -> tuple[Run, dict]:
    """The run, and the time of its first step, in which what is to be compiled is."""
    run = functools.partial(training.run, compiled=compiled)
    training.reset_peak_memory()
    started = time.perf_counter()
    if compiled:
        training.compile()
    metrics: dict = {"first_loss": run(1)}
    if compiled:
        metrics["compile_seconds"] = time.perf_counter() - started
    peak = training.peak_memory_bytes()
    if peak is not None:
        metrics |= {"peak_memory_mib": peak / 2**20, "peak_memory_source": "device"}
    return run, metrics


def _reason(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0][:200]
    if isinstance(error, ImportError) and error.name == "torch":
        return "PyTorch is not installed"
    if isinstance(error, UserError):
        return first
    if "RESOURCE_EXHAUSTED" in first or type(error).__name__ == "OutOfMemoryError":
        return f"does not fit in memory: {first}"
    return f"{type(error).__name__}: {first}"


def _take_turns(live: dict[str, Run], plan: Plan, accumulation: int) -> dict[str, list[Times]]:
    """Seconds a step of each run, a value a round; a round holds whole updates."""
    counts = {}
    for name, run in live.items():
        wanted = plan.steps or plan.seconds / _seconds_a_step(run, accumulation)[0]
        counts[name] = accumulation * math.ceil(wanted / accumulation)
    seconds: dict[str, list[Times]] = {name: [] for name in live}
    for _ in range(plan.rounds):
        for name, run in live.items():
            seconds[name].append(_seconds_a_step(run, counts[name]))
    return seconds


def _seconds_a_step(run: Run, steps: int) -> Times:
    started, cpu = time.perf_counter(), time.process_time()
    run(steps)
    return (time.perf_counter() - started) / steps, (time.process_time() - cpu) / steps


def _rates(taken: list[Times], row: dict, flop: float) -> dict:
    step_seconds, cpu_seconds = (statistics.median(values) for values in zip(*taken, strict=True))
    peak = peaks.peak_flop_per_second(jax.devices()[0].device_kind, row["dtype"])
    return {
        "step_seconds": step_seconds,
        "best_step_seconds": min(clock for clock, _ in taken),
        "cpu_seconds_per_step": cpu_seconds,
        "examples_per_second": row["batch_size"] / step_seconds,
        "flop_per_second": flop / step_seconds,
        "utilisation": peak and flop / step_seconds / (peak * jax.device_count()),
    }


def _ratios(seconds: dict[str, list[Times]]) -> dict:
    """PyTorch's seconds over ours, the median over the rounds; ``ratio`` by its faster run."""
    references = [name for name in RUNS[1:] if name in seconds and "jax" in seconds]

    def by_reference(which: int) -> dict[str, float]:
        return {
            name: statistics.median(
                theirs[which] / own[which]
                for theirs, own in zip(seconds[name], seconds["jax"], strict=True)
            )
            for name in references
        }

    ratios = by_reference(0)
    report = {"ratio": min(ratios.values(), default=None)}
    report |= {f"ratio_to_{name}": ratio for name, ratio in ratios.items()}
    if jax.devices()[0].platform == "cpu":
        report["ratio_of_cpu_time"] = min(by_reference(1).values(), default=None)
    return report


def _memory_bytes() -> float:
    """Of a device; on a CPU what is free now."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    lines = Path("/proc/meminfo").read_text().splitlines()
    (kib,) = (int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return kib * 1024


def machine() -> dict:
    """Devices and versions."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "device_kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cpu_cores": len(os.sched_getaffinity(0)),
        "versions": versions,
    }


def _named(name: str) -> Stage:
    return {stage.name: stage for stage in STAGES}[name]


if __name__ == "__main__":
    main()
