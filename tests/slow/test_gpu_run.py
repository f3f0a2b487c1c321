"""All parts of the GPU run, at toy size and on any device."""

import os
import subprocess
import sys

from conftest import ROOT


def test_every_part_ends_well(photos, tmp_path):
    recorded, out = tmp_path / "tiles.zip", tmp_path / "out"
    command = [
        sys.executable, "-m", "diffad_jax.main", "--config=configs/mvtec_fast.py:tiles",
        f"--config.data.root={photos}", "--config.image_size=64", "--mode=record",
        "--num_examples=16", f"--output={recorded}",
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    settings = {
        "ROOT_OF_PHOTOS": photos, "RECORDED": str(recorded), "OUT": str(out), "SIZE": "toy",
        "CATEGORY": "tiles", "PYTHON": sys.executable, "BUDGET": "1500",
    }  # fmt: skip
    script = ["bash", "benchmarks/gpu_run.sh"]
    subprocess.run(script, cwd=ROOT, env=os.environ | settings, check=True, timeout=1800)
    rows = [line.split("\t") for line in (out / "parts.tsv").read_text().splitlines()[1:]]
    logs = {name: (out / f"{name}.log").read_text() for name, _, _ in rows}
    assert [status for _, status, _ in rows] == ["0"] * 5, logs
    assert all((out / name).is_file() for name in ("fast.json", "patchcore.json", "train.json"))
