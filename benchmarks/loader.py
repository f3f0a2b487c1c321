"""The tf.data loader against an OpenCV/NumPy one: examples a second at 256 × 256, by core and part.

    python -m benchmarks.loader --photos=data/mvtec:bottle --textures=data/dtd

Each measurement is a process of its own, limited to its cores, and the two loaders take turns, so
that other work on the machine meets both. Printed are the median over the rounds and the best
round. The last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import pictures
from benchmarks.last_line import finish

# Name -> (measurement, cores, what it is).
RUNS = {
    "ours_1_core": ("ours", 1, "tf.data, photos and textures in memory"),
    "numpy_1_core": (
        "numpy",
        1,
        "OpenCV/NumPy, normal examples made and thrown away, as by DRAEM",
    ),
    "numpy_skipping_1_core": ("numpy_skipping", 1, "OpenCV/NumPy, normal examples skip synthesis"),
    "ours_anomalous_1_core": ("ours_anomalous", 1, "tf.data, every example with an anomaly"),
    "ours_from_disk_1_core": ("ours_from_disk", 1, "tf.data, photos and textures read each time"),
    "ours_2_cores": ("ours", 2, "tf.data, photos and textures in memory"),
    "read_1_core": ("read", 1, "decoding and resizing photos alone"),
}


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        inputs = _inputs(args, Path(folder))
        rounds: dict[str, list[dict]] = {name: [] for name in RUNS}
        for r in range(args.rounds):
            for name, (measurement, cores, _) in RUNS.items():
                print(f"round {r + 1} of {args.rounds}: {name}", file=sys.stderr)
                rounds[name].append(_measure(measurement, cores, inputs, args.seconds))
        parts = {
            ours: _measure(f"{ours}_parts", 1, inputs, args.seconds)["ms_a_call"]
            for ours in ("ours", "numpy")
        }
    report = _summarize(rounds) | {"parts_ms": parts}
    _print_table(report)
    finish(report, args.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", help="ROOT:CATEGORY of MVTec's layout; without it, 32 drawn")
    parser.add_argument(
        "--textures", default="procedural", help="a folder of images, or procedural"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--json", help="also write the last line here")
    return parser.parse_args()


def _inputs(args: argparse.Namespace, folder: Path) -> list[str]:
    """Flags that name photos and textures; what was not given is made in ``folder``."""
    photos, texture_files = args.photos, args.textures
    if not photos:
        pictures.write_folder(folder / "drawn" / "train" / "good", 32, 900, ".png", seed=0)
        photos = f"{folder}:drawn"
    if args.textures == "procedural":
        texture_files = str(folder / "textures")
        os.mkdir(texture_files)
    flags = [
        f"--photos={photos}",
        f"--textures={args.textures}",
        f"--texture_files={texture_files}",
    ]
    if args.textures == "procedural":
        _measure("write_textures", 1, flags, 0.0)
    return flags


def _measure(measurement: str, cores: int, inputs: list[str], seconds: float) -> dict:
    command = [sys.executable, "-m", "benchmarks.measure_loader", measurement, *inputs]
    command += [f"--cores={cores}", f"--seconds={seconds}"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _summarize(rounds: dict[str, list[dict]]) -> dict:
    """Metrics of each run, and the ratios of ours to the reference."""
    runs = {}
    for name, metrics in rounds.items():
        clock = [f["examples_per_second"] for f in metrics]
        cpu = [f["examples_per_cpu_second"] for f in metrics]
        runs[name] = {
            "examples_per_second": statistics.median(clock),
            "best_examples_per_second": max(clock),
            "examples_per_cpu_second": statistics.median(cpu),
            "best_examples_per_cpu_second": max(cpu),
            "first_seconds": statistics.median(f["first_seconds"] for f in metrics),
            "peak_memory_mib": max(f["peak_memory_mib"] for f in metrics),
        }

    def ratio(metric: str, reference: str) -> float:
        return runs["ours_1_core"][metric] / runs[reference][metric]

    return {
        "examples_per_second_per_core": runs["ours_1_core"]["examples_per_second"],
        "reference_examples_per_second_per_core": runs["numpy_1_core"]["examples_per_second"],
        "ratio": ratio("examples_per_second", "numpy_1_core"),
        "ratio_of_cpu_time": ratio("examples_per_cpu_second", "numpy_1_core"),
        "ratio_to_skipping": ratio("examples_per_second", "numpy_skipping_1_core"),
        "ratio_to_skipping_of_cpu_time": ratio("examples_per_cpu_second", "numpy_skipping_1_core"),
        "runs": runs,
    }


def _print_table(report: dict) -> None:
    print(f"{'run':24}{'median/s':>10}{'best/s':>10}{'/CPU s':>10}{'MiB':>8}  what")
    for name, f in report["runs"].items():
        rates = f["examples_per_second"], f["best_examples_per_second"]
        row = "".join(f"{v:10.1f}" for v in (*rates, f["examples_per_cpu_second"]))
        print(f"{name:24}{row}{f['peak_memory_mib']:8.0f}  {RUNS[name][2]}")
    print()
    for key in ("ratio", "ratio_of_cpu_time", "ratio_to_skipping", "ratio_to_skipping_of_cpu_time"):
        print(f"{key:32}{report[key]:8.2f}")
    for name, parts in report["parts_ms"].items():
        print(f"\n{name}: ms of CPU time a call")
        for part, ms in parts.items():
            print(f"  {part.strip('_'):24}{ms:8.3f}")


if __name__ == "__main__":
    main()
