"""Train, evaluate and predict with photos on an S3 server of this machine (moto's)."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.slow import tiny
from tests.slow.s3_server import Server

SETTINGS = {
    "image_size": 16,
    "data.validation_share": 0.6,
    "evaluation.batch_size": 4,
    "padim.dimensions": 8,
    "backbone.name": "resnet18",
    "backbone.layers": "('layer1',)",
}
TRAINED = {"steps": 2, "batch_size": 4}  # of a stage


@pytest.fixture
def server(photos):
    found = Server(photos)
    yield found
    found.kill()


def test_a_work_directory_and_an_output_in_the_bucket(server, photos, weights_file, tmp_path):
    """The same table as of folders; a second training finds the first one's weights."""
    flags = [f"--config.{k}={v}".replace(" ", "") for k, v in SETTINGS.items()]
    flags += ["--config=configs/padim.py:tiles", f"--config.backbone.weights={weights_file}"]
    flags += ["--config.data.root=s3://photos"]
    for workdir, output in ((tmp_path / "a", tmp_path / "b"), ("s3://runs/a", "s3://runs/b")):
        for arguments in (
            (*flags, f"--workdir={workdir}"),
            (*flags, f"--workdir={workdir}"),
            ("--mode=predict", f"--workdir={workdir}", "--input=s3://photos/tiles/test",
             f"--output={output}"),
        ):  # fmt: skip
            done = run(server, *arguments)
            assert done.returncode == 0, done.stderr
        assert (done.stderr.count("files fetched to") == 2) == isinstance(workdir, str)
    here = (tmp_path / "b" / "predictions.csv").read_bytes()
    assert server.storage.cat("runs/b/predictions.csv") == here and here.count(b"\n") == 7
    assert server.storage.exists("runs/a/tiles/report.html")


def run(server, *arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "diffad_jax.main", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | server.environment,
        capture_output=True,
        text=True,
        timeout=1500,
    )


def test_the_whole_way_equals_that_of_local_photos(server, photos, weights_file, tmp_path):
    flags = [f"--config.{k}={v}".replace(" ", "") for k, v in SETTINGS.items()]
    flags += ["--config=configs/padim.py:tiles", f"--config.backbone.weights={weights_file}"]
    found = {}
    for name, root in (("here", photos), ("there", "s3://photos")):
        workdir = f"--workdir={tmp_path / name}"
        done = run(server, *flags, f"--config.data.root={root}", workdir)
        assert done.returncode == 0, done.stderr
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        output = tmp_path / f"{name}_scores"
        predicting = ("--mode=predict", f"--input={root}/tiles/test", f"--output={output}")
        done = run(server, workdir, *predicting)
        assert done.returncode == 0, done.stderr
        with (output / "predictions.csv").open() as file:
            rows = {r["file"].removeprefix(root): r["score"] for r in csv.DictReader(file)}
        tiles = metrics["categories"]["tiles"]
        found[name] = rows, {k: v for k, v in tiles.items() if k not in ("cost", "test_photos")}
    assert len(found["here"][0]) == 6
    assert found["here"] == found["there"]
    again = run(server, workdir, *predicting)
    assert "6 photos had been scored before" in again.stdout

    server.kill()
    shutil.rmtree(output)
    refused = run(server, workdir, *predicting)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "--input=s3://photos/tiles/test cannot be listed" in refused.stderr
    server.start()
    done = run(server, workdir, *predicting)
    assert done.returncode == 0, done.stderr


def test_a_training_from_a_recording_in_the_bucket(server, photos, tmp_path, monkeypatch):
    """Written there, and trained from: the same states as from a local one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # to compile sooner
    stages = ("autoencoder", "diffusion", "segmentation")
    settings = tiny.SETTINGS | {f"{s}.{k}": n for s in stages for k, n in TRAINED.items()}
    flags = [f"--config.{k}={v}" for k, v in settings.items()]
    flags += ["--config=configs/folder.py:tiles", f"--config.data.root={photos}"]
    place, copied = "s3://runs/tiles.zip", tmp_path / "tiles.zip"
    recording = ("--mode=record", "--num_examples=8", f"--output={place}")
    done = run(server, *flags, *recording)
    assert done.returncode == 0, done.stderr
    server.storage.invalidate_cache()
    copied.write_bytes(server.storage.cat("runs/tiles.zip"))
    refused = run(server, *flags, *recording)
    assert refused.returncode == 1 and "tiles.zip is there already" in refused.stderr
    for workdir, recorded in ((tmp_path / "a", copied), (tmp_path / "b", place)):
        training = (*flags, f"--config.data.recorded={recorded}", f"--workdir={workdir}")
        done = run(server, *training)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(f"fetching {place}") == (recorded == place)
    steps = TRAINED["steps"]
    assert tiny.final_state(tmp_path / "a", steps) == tiny.final_state(tmp_path / "b", steps)

    server.kill()
    refused = run(server, *training)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert f"{place} cannot be fetched" in refused.stderr
