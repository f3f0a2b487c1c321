"""A training step of each stage by batch size and dtype, against PyTorch: seconds, FLOP/s, memory.

    python -m benchmarks.train --config=configs/mvtec.py --batches 8 32 --dtypes float32 bfloat16

Each row is a process of its own (``measure_train.py``) on random weights and one random batch that
stays on the device. In it our step, compiled as training compiles it, and PyTorch's, eager and by
torch.compile, take turns. Runs with jax, flax, optax and ml_collections (which the configs need),
and what these bring along; without PyTorch its runs are left out. Linux. The last line is one JSON
object.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile

from benchmarks.last_line import finish

STAGES = ("autoencoder", "denoiser", "segmenter")
DTYPES = ("float32", "bfloat16")
RUNS = ("jax", "torch_eager", "torch_compiled")
_COLUMNS = ("ms a step", "CPU ms", "examples/s", "TFLOP/s", "of peak", "peak MiB", "compile s")


def main() -> None:
    args = _arguments()
    rows, machine = [], {}
    print(f"{'stage':12}{'batch':>6} {'dtype':9} {'run':15}"
          + "".join(f"{c:>11}" for c in _COLUMNS))  # fmt: skip
    for stage in args.stages:
        for batch in args.batches:
            for dtype in args.dtypes:
                row, found = _measure(args, stage, batch, dtype)
                rows.append(row)
                machine |= found
                print(table(row), flush=True)
    report = {
        "date": datetime.date.today().isoformat(),
        "config": args.config,
        "seed": args.seed,
        "rounds": args.rounds,
        **machine,
        "rows": rows,
    }
    finish(report, args.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/mvtec.py")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--batches", nargs="+", type=int, default=[0], help="0: the config's")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=0, help="a run and round; 0: by --seconds")
    parser.add_argument("--seconds", type=float, default=2.0, help="a run and round")
    parser.add_argument(
        "--memory_gib", type=float, default=0.0,
        help="do not run a step that needs more; 0: what the device has",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="also write the last line here")
    return parser.parse_args()


def _measure(args: argparse.Namespace, stage: str, batch: int, dtype: str) -> tuple[dict, dict]:
    """The row and what is known of the machine; a process that dies leaves a reason."""
    command = [sys.executable, "-m", "benchmarks.measure_train"]
    command += [f"--stage={stage}", f"--batch={batch}", f"--dtype={dtype}", "--runs", *args.runs]
    for name in ("config", "rounds", "steps", "seconds", "memory_gib", "seed"):
        command.append(f"--{name}={getattr(args, name)}")
    # PyTorch needs memory on the same GPU.
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
    with tempfile.TemporaryDirectory() as folder:  # nothing comes compiled from an earlier run
        environment["TORCHINDUCTOR_CACHE_DIR"] = folder
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode == 0:
        found = json.loads(done.stdout.splitlines()[-1])
        return found["row"], found["machine"]
    if done.returncode == 2:  # it has said what is wrong with the command line
        sys.exit(2)
    reason = f"the process ended with status {done.returncode}"
    if done.returncode == -9:
        reason = "the process was killed, most likely for want of memory"
    runs = dict.fromkeys(args.runs, {"reason": reason})
    return {"stage": stage, "batch_size": batch, "dtype": dtype, "runs": runs, "ratio": None}, {}


def table(row: dict) -> str:
    """A line for each run, then how many times faster ours is than PyTorch's faster one."""
    lines = []
    for name, metrics in row["runs"].items():
        start = f"{row['stage']:12}{row['batch_size']:>6} {row['dtype']:9} {name:15}"
        lines.append(start + (f"  {metrics['reason']}" if "reason" in metrics else _cells(metrics)))
    if row["ratio"]:
        ratios = row["ratio"], row.get("ratio_of_cpu_time")
        lines.append(f"{'ratio':44}" + "".join(f"{r:11.2f}" for r in ratios if r))
    return "\n".join(lines)


def _cells(metrics: dict) -> str:
    values = (
        (1e3 * metrics["step_seconds"], ".1f"),
        (1e3 * metrics["cpu_seconds_per_step"], ".1f"),
        (metrics["examples_per_second"], ".2f"),
        (metrics["flop_per_second"] / 1e12, ".3f"),
        (metrics["utilisation"], ".1%"),
        (metrics.get("peak_memory_mib"), ".0f"),
        (metrics.get("compile_seconds"), ".1f"),
    )
    return "".join(f"{'not known' if v is None else format(v, f):>11}" for v, f in values)


if __name__ == "__main__":
    main()
