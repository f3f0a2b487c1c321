"""The same batches on one device, on eight simulated ones, and on several real processes: how far
apart are the losses of each step, and the weights at the end?
"""

import argparse
import json
import os
import platform
import socket
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from benchmarks.tiny import CATEGORY, NAMES, Tiny, losses

BATCH_SIZE = 8
# Sums over a batch in another order, through all the steps of Adam.
LOSS_TOLERANCE = 1e-3  # relative, any step
WEIGHTS_TOLERANCE = 1e-2  # norm of the difference to the norm, any stage
CASES = {  # name -> (processes, devices of each, flags)
    "1 device": (1, 1, ()),
    "8 devices, data 8": (1, 8, ()),
    "8 devices, data 4 x fsdp 2": (1, 8, ("--config.mesh.fsdp=2",)),
    "2 processes": (2, 1, ()),
    "4 processes": (4, 1, ()),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30, help="of each stage")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory(prefix="devices.") as folder:
        tiny = Tiny(Path(folder) / "data", args.steps, BATCH_SIZE, checkpoint_every=args.steps)
        if tiny.record(Path(folder) / "log"):
            raise SystemExit((Path(folder) / "log").read_text())
        for name, case in CASES.items():
            started = time.monotonic()
            workdir = Path(folder) / name
            train(tiny, workdir, *case)
            found[name] = {"losses": losses(workdir), "weights": weights(workdir, args.steps)}
            found[name]["seconds"] = time.monotonic() - started
            print(f"{name}: {found[name]['seconds']:.0f} s", flush=True)
    figures = compare(found) | {
        "steps_a_stage": args.steps,
        "batch_size": BATCH_SIZE,
        "loss_tolerance": LOSS_TOLERANCE,
        "weights_tolerance": WEIGHTS_TOLERANCE,
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }
    if args.json:
        curves = {name: case["losses"] for name, case in found.items()}
        args.json.write_text(json.dumps(figures | {"losses": curves}, indent=1) + "\n")
    print(json.dumps(figures))


def train(tiny: Tiny, workdir: Path, processes: int, devices: int, flags: tuple) -> None:
    flags = (f"--workdir={workdir}", *flags)
    logs = [tiny.folder / f"log{i}" for i in range(processes)]
    if processes == 1:
        running = [tiny.start(logs[0], *flags, devices=devices)]
    else:
        flags += (f"--coordinator=localhost:{free_port()}", f"--num_processes={processes}")
        running = [tiny.start(log, *flags, f"--process_id={i}") for i, log in enumerate(logs)]
    for process, log in zip(running, logs, strict=True):
        if process.wait(timeout=1800):
            raise SystemExit(log.read_text())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def weights(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """Of each stage, as one vector."""
    found = {}
    for name in NAMES:
        folder = (workdir / CATEGORY / name / str(step) / "weights").absolute()
        # Written on other devices than there are here.
        template = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(
                x.shape, x.dtype, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0])
            ),
            ocp.StandardCheckpointer().metadata(folder).item_metadata.tree,
        )
        tree = ocp.StandardCheckpointer().restore(folder, template)
        found[name] = np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    return found


def compare(found: dict[str, dict]) -> dict:
    """Prints a table of the differences to the first case."""
    (_, one), *others = found.items()
    rows: dict[str, dict] = {}
    print(f"\n{'':<28} {'loss, largest':>14} {'at last step':>14} {'weights':>14}")
    for name, case in others:
        gaps = [np.abs(np.divide(case["losses"][n], one["losses"][n]) - 1) for n in NAMES]
        norms = [np.linalg.norm(case["weights"][n] - one["weights"][n])
                 / np.linalg.norm(one["weights"][n]) for n in NAMES]  # fmt: skip
        rows[name] = {
            "largest_relative_loss_difference": float(np.max(gaps)),
            "relative_loss_difference_at_the_last_step": float(np.max([g[-1] for g in gaps])),
            "relative_weights_difference": float(np.max(norms)),
        }
        print(f"{name:<28}" + "".join(f"{v:>15.2e}" for v in rows[name].values()))
    within = all(
        r["largest_relative_loss_difference"] <= LOSS_TOLERANCE
        and r["relative_weights_difference"] <= WEIGHTS_TOLERANCE
        for r in rows.values()
    )
    return {"differences_to_1_device": rows, "within_tolerance": within}


if __name__ == "__main__":
    main()
