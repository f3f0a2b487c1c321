"""The program as a user runs it: trains, evaluates, predicts, resumes, and explains its errors."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import ml_collections
import numpy as np
import pytest
from conftest import tiny_flags_for
from PIL import Image

from diffad_jax.data import images, listing
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.diffad import STAGES
from diffad_jax.training.checkpoint import CheckpointError

ROOT = Path(__file__).parents[2]
NO_TENSORFLOW = (
    "import sys, runpy; sys.modules['tensorflow'] = sys.modules['tensorflow_datasets'] = None; "
    "runpy.run_module('diffad_jax.main', run_name='__main__', alter_sys=True)"
)


def start(*flags, program=("-m", "diffad_jax.main"), stdin=None, cwd=ROOT) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *program, *map(str, flags)],
        cwd=cwd,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ.copy(),
    )


def run(*flags, program=("-m", "diffad_jax.main"), cwd=ROOT) -> subprocess.CompletedProcess:
    process = start(*flags, program=program, cwd=cwd)
    out, err = process.communicate(timeout=600)
    return subprocess.CompletedProcess(flags, process.returncode, out, err)


def size(picture):
    with Image.open(picture) as image:
        return image.size


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def metrics(workdir):
    """But for what the run cost."""
    categories = json.loads((workdir / "metrics.json").read_text())["categories"]
    return {
        c: {k: v for k, v in f.items() if k not in ("cost", "reasons")}
        for c, f in categories.items()
    }


def assert_alike(ours, theirs):
    """XLA's convolutions on a busy CPU may differ in the last bit between processes."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert_alike(value, theirs[name])
    elif isinstance(ours, list):
        for pair in zip(ours, theirs, strict=True):
            assert_alike(*pair)
    else:
        assert ours == (pytest.approx(theirs, rel=1e-5) if isinstance(theirs, float) else theirs)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, trained):
    """To evaluate and to predict with."""
    return shutil.copytree(trained.workdir, tmp_path_factory.mktemp("copy") / "trained")


@pytest.fixture(scope="module")
def tiny_flags_of_module(photos):
    return tiny_flags_for(photos)


def test_training_shows_progress_and_ends_in_a_table(trained):
    workdir, result = trained.workdir, trained
    assert "image AUROC" in result.stdout and "tiles" in result.stdout
    for stage in STAGES:
        assert f"tiles/{stage.name}: step 4/4, loss" in result.stderr
    assert "images/s" in result.stderr and " left" in result.stderr
    assert not any(said in result.stderr for said in ("oneDNN", "absl::", "E0000", "WARNING: All"))
    content = metrics(workdir)["tiles"]
    assert 0.0 <= content["image_auroc"] <= 1.0 and 0.0 <= content["pixel_ap"] <= 1.0
    assert (content["num_normal"], content["num_anomalous"]) == (3, 3)
    width, height = size(workdir / "tiles" / "contact_sheet.png")
    assert width > 700 and height > 600
    for file in ("table.md", "table.tex", "tiles/report.html"):
        assert (workdir / file).stat().st_size > 500
    lines = (workdir / "tiles" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4] * 3
    stages = json.loads((workdir / "tiles/stages.json").read_text())
    assert stages.keys() == {*(s.name for s in STAGES), "normal_level"}


def test_a_second_call_trains_nothing(workdir, tiny_flags_of_module):
    before = (workdir / "tiles" / "metrics.jsonl").read_text()
    result = run(*tiny_flags_of_module, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("finished before") == 4
    assert (workdir / "tiles" / "metrics.jsonl").read_text() == before


def test_killed_in_each_stage_and_stopped_it_ends_the_same(trained, tiny_flags_of_module, tmp_path):
    """One training, which goes on three times."""
    flags = [*tiny_flags_of_module, f"--workdir={tmp_path}"]
    stops = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)
    for i, (stage, number) in enumerate(zip(STAGES, stops, strict=True)):
        process = start(*flags)
        checkpoint = tmp_path / "tiles" / stage.name / "2"
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate()
        if number == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL, err
        else:
            assert process.returncode == 75 and "the same command goes on from there" in err
        assert err.count("finished before") >= i - 1
    result = run(*flags)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("finished before") >= 2
    digests = [
        json.loads((workdir / "tiles/threshold.json").read_text())["weights"]
        for workdir in (tmp_path, trained.workdir)
    ]
    assert digests[0] == digests[1], "the weights differ"
    assert_alike(metrics(tmp_path)["tiles"], metrics(trained.workdir)["tiles"])
    assert_alike(stage_metrics(tmp_path), stage_metrics(trained.workdir))


def stage_metrics(workdir):
    """Without what they cost, which a run that was killed cannot tell."""
    stages = json.loads((workdir / "tiles" / "stages.json").read_text())
    spent = ("seconds_this_run", "peak_memory_mib")
    return {s: {k: v for k, v in found.items() if k not in spent} for s, found in stages.items()}


def test_evaluate_and_predict_do_without_tensorflow(
    workdir, tiny_flags_of_module, photos, tmp_path
):
    before = metrics(workdir)
    flags = [*tiny_flags_of_module, f"--workdir={workdir}"]
    result = run(*flags, "--mode=evaluate", "--compare=paper", program=("-c", NO_TENSORFLOW))
    assert result.returncode == 0, result.stderr
    assert (
        "this run" in result.stdout and "no published metrics" in (workdir / "table.md").read_text()
    )
    assert_alike(metrics(workdir), before)

    source = Path(photos) / "tiles" / "test"
    for tile, below in (("--notile", ""), ("--tile", "*/*.png")):
        output = tmp_path / tile
        flags += ["--config.normal_level.floor=0"] if tile == "--tile" else []
        predict = ["--mode=predict", f"--input={source / below}", f"--output={output}"]
        pictures = "--save=overlay,heat_map,reconstruction,mask"
        result = run(*flags, *predict, tile, pictures, program=("-c", NO_TENSORFLOW))
        assert result.returncode == 0, result.stderr
        rows = read_csv(output / "predictions.csv")
        assert len(rows) == 6
        for row in rows:
            assert 0.0 <= float(row["score"]) <= 1.0 and row["is_anomalous"] in ("0", "1")
            for kind in ("reconstruction", "mask"):
                assert size(output / row[kind]) == (20, 20)
            for kind in ("overlay", "heat_map"):  # the photo above its legend
                assert all(side > 20 for side in size(output / row[kind]))


def test_a_moved_work_directory_remembers_its_config(trained, tiny_flags_of_module, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(trained.workdir, moved)
    result = run(f"--workdir={moved}", "--mode=evaluate", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert_alike(metrics(moved), metrics(trained.workdir))

    flags = [*tiny_flags_of_module, f"--workdir={moved}", "--mode=evaluate"]
    result = run(*flags, "--config.diffusion.steps=9")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "config.diffusion.steps = 9, trained with 4" in result.stderr
    assert "--workdir remembers its config" in result.stderr
    result = run(*flags[1:], "--config.evaluation.smoothing=5", "--config.data.root=nowhere")
    assert result.returncode == 1
    assert "tiles: config.evaluation.smoothing = 5, trained with 3" in result.stderr
    assert "gone from nowhere" in result.stderr


def test_predict_scores_what_it_can_and_names_the_rest(workdir, tiny_flags_of_module, tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    Image.fromarray(np.full((9, 30, 3), 80, np.uint8)).save(source / "wide.jpg")
    (source / "bad.png").write_bytes(b"")
    flags = [*tiny_flags_of_module, f"--workdir={workdir}", "--mode=predict"]
    process = start(*flags, "--input=-", f"--output={output}", stdin=subprocess.PIPE)
    listed = f"{source}/wide.jpg\n\n{source}/bad.png\n{source}/wide.jpg\n"
    _, err = process.communicate(listed, timeout=600)
    assert process.returncode == 3, err
    assert "1 of 2 photos could not be read" in err and "bad.png" in err
    rows = {Path(r["file"]).name: r for r in read_csv(output / "predictions.csv")}
    assert rows["wide.jpg"]["score"] and "empty file" in rows["bad.png"]["error"]
    width, height = size(output / rows["wide.jpg"]["overlay"])
    assert width >= 30 and height > 9  # the photo above its legend


def test_a_photos_score_depends_on_nothing_but_the_photo(trained, tiny_config):
    detector = Detector.from_workdir(tiny_config, trained.workdir, "tiles")
    files = listing.find_photos(Path(tiny_config.data.root) / "tiles" / "test")[0]
    photos, _, _ = images.read_images(files, 16, images.Rules("antialias"))
    together = detector.predict_all(photos, 4)
    alone = detector.predict_all(photos[2:3], 1)
    assert together.score.shape == (6,) and together.anomaly_map.shape == (6, 16, 16)
    np.testing.assert_allclose(alone.score[0], together.score[2], atol=1e-6)
    with pytest.raises(ValueError, match=r"images must be \[b, 16, 16, 3\] uint8"):
        detector.predict(photos[:, :8])


def test_broken_weights_give_no_score(tiny_config):
    """Rather than a threshold of NaN that nothing ever passes."""
    frozen = ml_collections.FrozenConfigDict(tiny_config)
    weights = {}
    for stage in STAGES:
        shapes = stage.weights_shapes(frozen, weights)
        weights[stage.name] = jax.tree.map(lambda s: np.full(s.shape, np.nan, s.dtype), shapes)
    weights["normal_level"] = {"level": np.zeros((16, 16), np.float32)}
    with pytest.raises(CheckpointError, match="not finite"):
        Detector(tiny_config, weights).predict_all(np.zeros((1, 16, 16, 3), np.uint8), 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.autoencder.steps=3"], "autoencder"),
        (["--config.data.rot=x"], "rot"),
        (["--config.data.root=nowhere"], "no folder nowhere: name the one that holds"),
        (["--config.diffusion.head_channels=7"], "set config.diffusion.head_channels to a divisor"),
        (["--config.categories=cups"], "no category 'cups'"),
        (["--config.reconstruction.spacing=even"], "config.reconstruction.spacing = 'even'"),
        (["--mode=evaluate"], "no trained autoencoder in"),
        (["--mode=predict"], "--mode=predict needs --input"),
        (["traim"], "unknown argument 'traim'"),
    ],
)
def test_wrong_use_is_explained(flags, message, tiny_flags_of_module, tmp_path):
    result = run(*tiny_flags_of_module, f"--workdir={tmp_path}", *flags)
    assert result.returncode != 0
    assert message in result.stderr + result.stdout
    assert "Traceback" not in result.stderr


def test_another_config_is_refused_with_the_differing_field(trained, tiny_flags_of_module):
    flags = [
        *tiny_flags_of_module,
        f"--workdir={trained.workdir}",
        "--config.autoencoder.channels=16",
    ]
    result = run(*flags)
    assert result.returncode != 0
    assert "autoencoder.channels: 8 there, 16 here" in result.stderr
