"""Ray's rows are those of --mode=predict, though a worker or the driver is killed on the way."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from pyarrow import dataset, parquet

from configs import padim
from diffad_jax.commands import predict, train
from diffad_jax.config import stored
from diffad_jax.errors import UserError
from diffad_jax.inference import writer
from tests.conftest import ROOT

pytest.importorskip("ray")
from launch import ray_predict

NUM = 2000


@pytest.fixture(scope="module")
def scored(photos, weights_file, tmp_path_factory):
    """A folder: ``work``, a detector; ``in``, photos and one that is none; and rows by file."""
    folder = tmp_path_factory.mktemp("ray")
    config = padim.get_config("tiles")
    config.image_size, config.data.root, config.evaluation.batch_size = 16, photos, 4
    config.data.validation_share = 0.6
    config.backbone.name, config.backbone.layers = "resnet18", ("layer1",)
    config.backbone.weights, config.padim.dimensions = weights_file, 8
    train.train_and_evaluate(config, folder / "work", None)
    (folder / "in").mkdir()
    files = sorted(Path(photos).glob("tiles/*/*/*.png"))
    for i in range(NUM):
        os.link(files[i % len(files)], folder / "in" / f"{i:05d}.png")
    (folder / "in" / "none.png").write_text("junk")
    with pytest.raises(predict.UnreadableError):
        predict.predict_photos(
            stored.of_workdir(folder / "work", []), folder / "work", folder / "in",
            folder / "plain", predict.How(save=[]),
        )  # fmt: skip
    lines = (folder / "plain" / "predictions.jsonl").read_text().splitlines()
    rows = {row["file"]: row for row in map(json.loads, lines)}
    assert len(rows) == NUM + 1 and rows[str(folder / "in" / "none.png")]["error"]
    return folder, rows


@pytest.fixture
def start(scored):
    """(output, source) -> a run; none outlives its test."""
    started: list[subprocess.Popen] = []

    def run(output, source, workdir=scored[0] / "work") -> subprocess.Popen:
        started.append(start_ray(workdir, output, source))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def start_ray(workdir, output, source, rows_per_file=100, environment=()):
    """The script, with two workers."""
    flags = [f"--workdir={workdir}", f"--input={source}", f"--output={output}", "--workers=2"]
    flags.append(f"--rows_per_file={rows_per_file}")
    return subprocess.Popen(
        [sys.executable, "-m", "launch.ray_predict", *flags],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_rows(process, output):
    limit = time.monotonic() + 300
    while not list(output.glob("*.parquet")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit
        time.sleep(0.02)


def assert_as_predicted(output, wanted):
    found = dataset.dataset(output, format="parquet").to_table().to_pylist()
    assert sorted(row["file"] for row in found) == sorted(wanted)  # none lost, none doubled
    for row in found:
        plain = wanted[row["file"]]
        for field in ("score", "is_anomalous", "threshold", "detector", "error", "width"):
            assert row[field] == plain.get(field), (row["file"], field)
        assert (row["regions"] or []) == (plain.get("regions") or [])


@pytest.mark.parametrize("kills", [1, 10])
def test_workers_are_killed(scored, start, tmp_path, kills):
    folder, rows = scored
    process = start(tmp_path / "out", folder / "in")
    if kills == 1:  # in the middle; the others come as soon as there is somebody to kill
        wait_for_rows(process, tmp_path / "out")
    killed: set[int] = set()
    while len(killed) < kills:
        assert process.poll() is None, process.communicate()[1]
        for worker in workers(process.pid):
            if worker.pid not in killed and len(killed) < kills:
                worker.kill()
                killed.add(worker.pid)
                time.sleep(0.5)
        time.sleep(0.5)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 3, err
    assert f"{NUM + 1} photos in" in out and "1 could not be read" in out
    assert_as_predicted(tmp_path / "out", rows)


def workers(driver: int) -> list[psutil.Process]:
    of_ray = psutil.Process(driver).children(recursive=True)
    with contextlib.suppress(psutil.NoSuchProcess):
        return [p for p in of_ray if "MapWorker" in " ".join(p.cmdline())]
    return []  # one was gone before it was asked


def test_the_driver_is_killed_and_goes_on_from_a_table(scored, start, tmp_path):
    folder, rows = scored
    source, output = tmp_path / "list.parquet", tmp_path / "out"
    parquet.write_table(pa.table({"file": list(rows)}), source)
    process = start(output, source)
    wait_for_rows(process, output)
    process.kill()
    process.communicate()
    cut = min(output.glob("*.parquet"))
    shutil.copy(cut, output / "cut.parquet")
    os.truncate(output / "cut.parquet", cut.stat().st_size // 2)
    process = start(output, source)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 3, err
    assert "cut.parquet: left half-written by a killed run, removed" in err
    assert " 0 had been scored before" not in out
    assert_as_predicted(output, rows)


def test_what_an_output_holds(tmp_path):
    """Photos without a score are tried again; tables of others stay, and are an error."""
    made = writer.Made({}, 0.5, None, ())
    rows = {"file": ["a", "b"], "detector": 2 * [made.detector], "threshold": [0.5, 0.5]}
    rows |= {"error": [None, "is no photo"], "score": [0.1, None]}
    parquet.write_table(pa.table(rows), tmp_path / "a.parquet")
    output = ray_predict.Output(str(tmp_path))
    for _ in range(2):
        assert output.done(made).to_pylist() == ["a"]
        assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == [
            {"file": "a", "detector": made.detector, "threshold": 0.5, "error": None, "score": 0.1}
        ]
    for other, said in (
        (rows | {"detector": 2 * ["another"]}, "holds rows of another detector or threshold"),
        (rows | {"threshold": [0.5, 0.6]}, "holds rows of another detector or threshold"),
        ({"file": ["a"]}, "holds no rows of this script"),
    ):
        parquet.write_table(pa.table(other), tmp_path / "b.parquet")
        with pytest.raises(UserError, match=f"b.parquet {said}: choose another --output"):
            output.done(made)
        assert (tmp_path / "b.parquet").exists()


def test_what_fails_on_a_worker_is_said_in_a_sentence(scored, start, tmp_path):
    (tmp_path / "in").mkdir()
    process = start(tmp_path / "out", tmp_path / "in", workdir=tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "error: --config=FILE is missing, and no category was trained in" in err
    assert "Traceback" not in err
