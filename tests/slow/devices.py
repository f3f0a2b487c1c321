"""The same batches on one device, on eight simulated ones, and on several real processes: how far
apart are the losses of each step, and the weights at the end? And when one process is lost?
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.sharding import AbstractMesh, AxisType

from diffad_jax.runtime import sharding
from tests.slow.lost_process import EVENTS, interrupt, start_all, wait_all
from tests.slow.tiny import CATEGORY, NAMES, Tiny, losses

BATCH_SIZE = 8
# Sums over a batch in another order, through all the steps of Adam.
LOSS_TOLERANCE = 1e-3  # relative, any step
WEIGHTS_TOLERANCE = 1e-2  # norm of the difference to the norm, any stage
# Wide enough for arrays that fsdp splits.
WIDER = {"autoencoder.channels": 32, "diffusion.channels": 32, "segmentation.channels": 16}
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
    parser.add_argument("--json", type=Path, help="also write the metrics there")
    args = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory(prefix="devices.") as folder:
        tiny = Tiny(Path(folder) / "data", args.steps, BATCH_SIZE, args.steps // 3, WIDER)
        if tiny.record(Path(folder) / "log"):
            raise SystemExit((Path(folder) / "log").read_text())
        for name, case in CASES.items():
            started = time.monotonic()
            workdir = Path(folder) / name
            wait_all(tiny, start_all(tiny, workdir, *case))
            found[name] = read(workdir, args.steps)
            print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
        lost = []
        for processes in EVENTS:
            name = f"{processes} processes"
            lost += interrupt(tiny, Path(folder) / f"{name}, interrupted", processes)
            found[f"{name}, interrupted"] = read(Path(folder) / f"{name}, interrupted", args.steps)
    metrics = compare(found) | {
        "lost": lost,
        "interrupted_equal_uninterrupted": [
            equal(found[f"{n} processes"], found[f"{n} processes, interrupted"]) for n in EVENTS
        ],
        "share_of_the_weights_that_fsdp_splits": split_share(workdir, args.steps),
        "steps_a_stage": args.steps,
        "batch_size": BATCH_SIZE,
        "loss_tolerance": LOSS_TOLERANCE,
        "weights_tolerance": WEIGHTS_TOLERANCE,
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }
    if args.json:
        curves = {name: case["losses"] for name, case in found.items()}
        args.json.write_text(json.dumps(metrics | {"losses": curves}, indent=1) + "\n")
    print(json.dumps(metrics))


def split_share(workdir: Path, step: int) -> float:
    """Of all values, those in arrays that ``fsdp = 2`` splits."""
    mesh = AbstractMesh((4, 2), ("data", "fsdp"), (AxisType.Auto, AxisType.Auto))
    arrays = [x for name in NAMES for x in jax.tree.leaves(shapes(workdir, name, step))]
    split = [x.size for x in arrays if any(sharding.weights_sharding(mesh, x).spec)]
    return sum(split) / sum(x.size for x in arrays)


def shapes(workdir: Path, name: str, step: int) -> dict:
    """Of a stage's weights, to be restored on one device, whatever they were written on."""
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    folder = (workdir / CATEGORY / name / str(step) / "weights").absolute()
    found = ocp.StandardCheckpointer().metadata(folder).item_metadata.tree
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), found)


def read(workdir: Path, steps: int) -> dict:
    return {"losses": losses(workdir), "weights": weights(workdir, steps)}


def equal(a: dict, b: dict) -> bool:
    """Bit for bit."""
    same = all(np.array_equal(a["weights"][n], b["weights"][n]) for n in NAMES)
    return same and a["losses"] == b["losses"]


def weights(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """Of each stage, as one vector."""
    found = {}
    for name in NAMES:
        folder = (workdir / CATEGORY / name / str(step) / "weights").absolute()
        tree = ocp.StandardCheckpointer().restore(folder, shapes(workdir, name, step))
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
