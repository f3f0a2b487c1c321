"""Exported models: predict's scores from other runtimes, without this project's dependencies."""

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ml_collections
import numpy as np
import onnxruntime
import pytest
import safetensors.numpy
from exported_case import (
    TOLERANCE,
    assert_scored,
    exported,
    run_program,
    run_without,
    trained,
)
from PIL import Image

from diffad_jax.commands.modes import MODES
from diffad_jax.convert.importer import import_file
from diffad_jax.data import images
from diffad_jax.export import artifact, exporter, quantized, registry, run
from diffad_jax.export.errors import ExportError
from diffad_jax.inference import calibration
from diffad_jax.inference.detector import Detector

__all__ = ["exported", "trained"]  # fixtures
OURS = ("diffad_jax", "flax", "orbax", "ml_collections", "etils", "optax", "safetensors", "sklearn")


@pytest.mark.parametrize(
    ("name", "others"),
    [("stablehlo", ("tensorflow", "onnx")), ("onnx", ("tensorflow", "jax", "jaxlib", "onnx"))],
)
def test_a_moved_folder_needs_its_runtime_alone(trained, exported, tmp_path, name, others):
    _, _, files, _, predicted = trained
    model = tmp_path / "moved"
    shutil.copytree(exported(name), model)
    limit = artifact.read_card(model)["threshold"]["value"]
    for places in (files, [str(Path(files[0]).parents[1])]):
        output = run_without((*OURS, *others), run_program(model, *places), tmp_path)
        assert_scored(output, files, predicted.score, limit)


@pytest.mark.parametrize("name", ["stablehlo", "onnx_seeded"])
def test_maps_and_seeds(trained, exported, name):
    config, _, _, pixels, predicted = trained
    card = artifact.read_card(exported(name))
    detect = registry.load(exported(name), card)
    found = detect(pixels[:2], card["seed"])
    np.testing.assert_allclose(found["score"], predicted.score[:2], atol=TOLERANCE)
    np.testing.assert_allclose(found["anomaly_map"], predicted.anomaly_map[:2], atol=TOLERANCE)
    with ml_collections.ConfigDict(config).unlocked() as other:
        other.seed = 2**32 - 5
    weights = Detector.from_workdir(*trained[:2], "tiles").weights
    seeded = Detector(other, weights).predict(pixels[:2]).score
    assert np.abs(seeded - predicted.score[:2]).max() > 10 * TOLERANCE
    np.testing.assert_allclose(detect(pixels[:2], 2**32 - 5)["score"], seeded, atol=TOLERANCE)


def test_onnx_has_the_seed_inside(trained, exported):
    _, _, _, pixels, predicted = trained
    card = artifact.read_card(exported("onnx"))
    assert "seed" not in card["inputs"] and artifact.seed(card, None) == card["seed"]
    with pytest.raises(artifact.ArtifactError, match="has the seed 0 inside: export one"):
        artifact.seed(card, 5)
    session = onnxruntime.InferenceSession(exported("onnx") / "model.onnx")
    assert [x.name for x in session.get_inputs()] == ["image"]
    (score,) = session.run(["score"], {"image": pixels})
    np.testing.assert_allclose(score, predicted.score, atol=TOLERANCE)


SERVE = """
import base64, json, tensorflow as tf
body = json.loads({body!r})
data = [base64.b64decode(i["image_bytes"]["b64"]) for i in body["instances"]]
model = tf.saved_model.load({model!r} + "/1")
serve = model.signatures
bytes_in = serve["serving_default"](image_bytes=tf.constant(data))
pixels_in = serve["pixels"](image=tf.constant(json.loads({pixels!r}), tf.float32))
print(json.dumps([
    {{k: v.numpy().tolist() for k, v in found.items()}} for found in (bytes_in, pixels_in)
]))
"""


def test_a_saved_model_serves_requests_with_tensorflow_alone(trained, exported, tmp_path):
    _, _, files, pixels, predicted = trained
    model = tmp_path / "moved"
    shutil.copytree(exported("saved_model"), model)
    encoded = [base64.b64encode(Path(f).read_bytes()).decode() for f in files]
    program = SERVE.format(
        model=str(model),
        body=json.dumps({"instances": [{"image_bytes": {"b64": e}} for e in encoded]}),
        pixels=json.dumps((pixels / 255.0).tolist()),
    )
    program += run_program(model, *files)
    first, rest = run_without((*OURS, "jax", "jaxlib", "onnx"), program, tmp_path).split("\n", 1)
    for found in json.loads(first):
        np.testing.assert_allclose(found["score"], predicted.score, atol=TOLERANCE)
        np.testing.assert_allclose(found["anomaly_map"], predicted.anomaly_map, atol=TOLERANCE)
    limit = artifact.read_card(model)["threshold"]["value"]
    assert_scored(rest, files, predicted.score, limit)


def test_the_card_tells_all(trained, exported):
    config, workdir, *_ = trained
    card = artifact.read_card(exported("onnx"))
    assert card["preprocessing"]["resize"] == config.data.resize
    assert card["preprocessing"]["channels"] == "RGB"
    for field in ("smoothing", "smoothing_power"):
        assert card["score"]["settings"][f"evaluation.{field}"] == config.evaluation[field]
    assert card["data"] == {
        "normal_photos": "not known: imported weights",
        "licence": "not stated",
    }
    stored = json.loads((workdir / "tiles" / "threshold.json").read_text())
    assert card["threshold"]["value"] == stored["threshold"]
    assert card["pixel_threshold"]["value"] == stored["pixel_threshold"]
    assert card["weights"] == stored["weights"]
    assert card["config"]["segmentation"]["channels"] == config.segmentation.channels
    assert card["files"] == ["model.onnx"]
    assert "pip install onnxruntime" in (exported("onnx") / "README.md").read_text()


def test_weights_under_documented_and_published_names(trained, exported, tmp_path):
    config, workdir, *_ = trained
    folder = exported("safetensors")
    found = safetensors.numpy.load_file(folder / "weights.safetensors")
    ours = artifact.read_weights(folder / "weights.safetensors")
    assert found.keys() == ours.keys()
    assert "denoiser/params/conv_in/kernel" in found and "denoiser/scale" in found
    for name in ("denoiser", "segmenter"):
        import_file(config, tmp_path, folder / "published" / f"{name}.safetensors")
    again = Detector.from_workdir(config, tmp_path, "tiles")
    assert again.weights_hash == artifact.read_card(folder)["weights"]
    for name, value in ours.items():
        np.testing.assert_array_equal(value, found[name])
    with pytest.raises(artifact.ArtifactError, match="holds safetensors, which cannot be run"):
        registry.load(folder, artifact.read_card(folder))


def score(monkeypatch, model: Path, name: str, *arguments: str | Path) -> None:
    """``run.py``'s command in this process."""
    monkeypatch.setattr(sys, "argv", ["run.py", *map(str, arguments)])
    run.main(model, registry.FORMATS[name].load)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_lines(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("weights.safetensors", flip, "weights.safetensors has changed since it was written"),
        ("model.stablehlo", cut, "model.stablehlo has changed since it was written"),
        ("model.json", cut, "model.json has changed since it was written"),
        ("SHA256SUMS", cut_lines, "cut short, without weights.safetensors"),
        ("SHA256SUMS", cut, "list of checksums is damaged|is missing: copy|is cut short"),
        ("SHA256SUMS", Path.unlink, "no exported model, SHA256SUMS"),
        ("model.stablehlo", Path.unlink, "model.stablehlo is missing: copy the exported folder"),
    ],
)
def test_damage_is_refused(exported, photos, tmp_path, monkeypatch, name, damage, message):
    model = tmp_path / "model"
    shutil.copytree(exported("stablehlo"), model)
    damage(model / name)
    with pytest.raises(SystemExit, match=message) as error:
        score(monkeypatch, model, "stablehlo", photos)
    assert str(error.value).startswith("error: ")


def test_overlays_and_unreadable_photos(trained, exported, tmp_path, monkeypatch, capsys):
    source, output = tmp_path / "in", tmp_path / "out"
    (source / "lot").mkdir(parents=True)
    shutil.copy(trained[2][0], source / "lot" / "a.png")
    (source / "b.png").write_bytes(b"")
    with pytest.raises(SystemExit) as end:
        score(monkeypatch, exported("onnx"), "onnx", source, "--output", output)
    assert end.value.code == 1
    assert re.search(r"^1 unreadable, 1 (normal|anomalous); threshold 0", capsys.readouterr().err)
    rows = (output / "predictions.csv").read_text().splitlines()
    assert "unreadable: is an empty file" in rows[1]
    assert rows[2].startswith(f"{source / 'lot' / 'a.png'},0.")
    with Image.open(output / "lot" / "a.png.overlay.png") as overlay:
        assert overlay.width >= 20 and overlay.height > 20  # with a legend below


def test_overlays_have_the_colours_of_the_card(trained, exported, tmp_path, monkeypatch):
    output, read_card = tmp_path / "out", artifact.read_card
    assert read_card(exported("onnx"))["colours"] == {"low": 0.0, "high": 1.0}
    changed = {"colours": {"low": 2, "high": 3}, "pixel_threshold": None}
    monkeypatch.setattr(artifact, "read_card", lambda path: read_card(path) | changed)
    with pytest.raises(SystemExit, match="0"):
        score(monkeypatch, exported("onnx"), "onnx", trained[2][0], "--output", output)
    photo = np.asarray(Image.open(trained[2][0]))
    with Image.open(output / f"{Path(trained[2][0]).name}.overlay.png") as overlay:
        np.testing.assert_array_equal(np.asarray(overlay)[:20, :20], photo)  # far below 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: photos"),
        (("nothing.png",), "error: nothing.png is not there: name photos or folders of photos"),
        ((".",), "error: no photo in .: name a folder of images"),
        (("a.npy",), "unreadable: holds float64 (2,), not uint8 [16, 16, 3]"),
        (("--seed=x", "."), "invalid int value: 'x'"),
    ],
)
def test_a_mistake_gives_a_sentence(exported, tmp_path, arguments, message):
    if arguments == ("a.npy",):
        np.save(tmp_path / "a.npy", np.zeros(2))
    command = [sys.executable, str(exported("onnx") / "run.py"), *arguments]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode in (1, 2) and message in run.stdout + run.stderr
    assert "Traceback" not in run.stderr


def test_help_says_how_to_score(exported):
    command = [sys.executable, str(exported("onnx") / "run.py"), "--help"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0 and "python run.py PHOTO_OR_FOLDER" in run.stdout


@pytest.mark.parametrize("package", ["numpy", "onnxruntime", "PIL"])
def test_a_missing_runtime_is_named(trained, exported, package):
    program = f"import sys; sys.modules[{package!r}] = None\n"
    program += run_program(exported("onnx"), trained[2][0])
    program = program.replace("assert not end.code, end.code", "raise")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert package in run.stderr and ("pip install" in run.stderr or "README" in run.stderr)


def test_a_format_is_asked_for_and_nothing_is_overwritten(trained, exported, tmp_path):
    config, workdir, *_ = trained
    output = exported("onnx").parent
    with pytest.raises(ExportError, match="tiles is there already: choose another --output"):
        exporter.export(config, workdir, output, "onnx")
    assert MODES["export"].needs[-1].name == "format"
    exporter.export(config, workdir, tmp_path, "published")
    names = {path.name for path in (tmp_path / "tiles").iterdir()}
    assert names == {"autoencoder.ckpt", "denoiser.ckpt", "segmenter.pckl", "SHA256SUMS"}


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("stablehlo", "flatbuffers"),
        ("saved_model", "tensorflow"),
        ("onnx", "onnx"),
        ("openvino", "openvino"),
    ],
)
def test_a_missing_package_is_named(trained, tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    extra = "openvino" if name == "openvino" else "export"
    with pytest.raises(ExportError, match=rf"--format={name} needs .*diffad-jax\[{extra}\]"):
        exporter.export(*trained[:2], tmp_path, name)
    assert not any(tmp_path.iterdir())


def test_openvino_has_float16_weights_and_a_threshold_of_its_own(trained, exported, monkeypatch):
    config, workdir, files, pixels, predicted = trained
    folder = exported("openvino")
    card = artifact.read_card(folder)
    assert card["files"] == ["model.bin", "model.xml"]
    assert (folder / "model.bin").stat().st_size < 0.6 * onnx_bytes(exported)
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    detect = registry.load(folder, card)
    assert sys.modules["openvino_telemetry"] is None  # importing OpenVINO reports to nobody
    found = detect(pixels, card["seed"])
    assert 0 < np.abs(found["score"] - predicted.score).max() < 100 * TOLERANCE
    stored = json.loads((workdir / "tiles" / "threshold_openvino.json").read_text())
    names = [str(Path(config.data.root) / name) for name in stored["predictions"]["names"]]
    held_out, _, _ = images.read_images(names, config.image_size, images.rules(config.data))
    scores = detect(held_out, card["seed"])["score"]
    np.testing.assert_allclose(stored["predictions"]["scores"], scores, rtol=1e-5)
    assert card["threshold"]["value"] == stored["threshold"]


def test_openvinos_folder_needs_openvino_alone(exported, trained, tmp_path):
    card = artifact.read_card(exported("openvino"))
    scores = registry.load(exported("openvino"), card)(trained[3], card["seed"])["score"]
    others = (*OURS, "tensorflow", "jax", "jaxlib", "onnx", "onnxruntime")
    output = run_without(others, run_program(exported("openvino"), *trained[2]), tmp_path)
    assert_scored(output, trained[2], scores, card["threshold"]["value"])


def test_a_graph_in_8_bits_is_compared_and_reported(trained, exported, tmp_path):
    config, workdir, files, pixels, _ = trained
    exporter.export(config, workdir, tmp_path, "onnx", "int8", max_changed=1.0)
    folder = tmp_path / "tiles"
    card = artifact.read_card(folder)
    report = json.loads((folder / "quantization.json").read_text())
    assert report["threshold"]["after"] == card["threshold"]["value"]
    whole = artifact.read_card(exported("onnx"))["threshold"]["value"]
    assert report["threshold"]["before"] == whole != report["threshold"]["after"]
    photos = {photo["name"]: photo for photo in report["photos"]}
    assert {photo["kind"] for photo in photos.values()} == {"held out", "drawn defect", "test"}
    found = registry.load(folder, card)(pixels, card["seed"])["score"]
    np.testing.assert_allclose([photos[f]["after"] for f in files], found, atol=TOLERANCE)
    differences = [abs(photo["after"] - photo["before"]) for photo in photos.values()]
    assert TOLERANCE < max(differences) < 0.3
    limits, verdicts = report["threshold"], report["verdicts"]
    changed = [
        (p["before"] > limits["before"]) != (p["after"] > limits["after"]) for p in photos.values()
    ]
    assert changed == [photo["verdict_changes"] for photo in photos.values()]
    assert verdicts["changed"] == sum(changed) and verdicts["photos"] == len(photos)
    assert card["quantization"] == {"dtype": "int8", "verdicts": verdicts}
    assert f"{sum(changed)} of {len(photos)} verdicts changed" in (folder / "README.md").read_text()
    assert report["mib"]["after"] < report["mib"]["before"] and not report["no_drawn_defects"]
    assert min(report["milliseconds_of_1"].values()) > 0
    assert 0 <= report["image_auroc"]["test_photos"]["after"] <= 1


@pytest.mark.parametrize("name", ["stablehlo", "onnx_seeded", "published"])
def test_only_some_formats_have_8_bits(trained, tmp_path, name):
    with pytest.raises(ExportError, match=f"is for --format=onnx and openvino, not {name}"):
        exporter.export(*trained[:2], tmp_path, name, "int8")
    assert not any(tmp_path.iterdir())


def test_without_a_threshold_there_are_no_verdicts_to_compare(trained):
    config, workdir, *_ = trained
    none = calibration.Calibration(None, (0.0, 1.0), 0.05, 3, 1)
    judged = quantized.Judged(None, none)
    with pytest.raises(ExportError, match="3 held-out normal photos are too few"):
        quantized.compare(config, workdir, "tiles", judged, judged)


def onnx_bytes(exported) -> int:
    return (exported("onnx") / "model.onnx").stat().st_size


def test_a_bfloat16_detector_becomes_a_float32_graph(trained, tmp_path):
    """With a threshold of its own; the work directory keeps that of bfloat16."""
    config, workdir, _, pixels, _ = trained
    config = ml_collections.ConfigDict(config)
    config.training.compute_dtype = "bfloat16"
    for name in ("denoiser.ckpt", "segmenter.pckl"):
        import_file(config, tmp_path / "run", workdir / name)
    rounded = Detector.from_workdir(config, tmp_path / "run", "tiles")
    stored = calibration.load_or_choose(config, tmp_path / "run", "tiles", rounded)
    before = (tmp_path / "run" / "tiles" / "threshold.json").read_bytes()
    exporter.export(config, tmp_path / "run", tmp_path / "exported", "onnx")
    assert (tmp_path / "run" / "tiles" / "threshold.json").read_bytes() == before
    folder = tmp_path / "exported" / "tiles"
    card = artifact.read_card(folder)
    assert card["config"]["training"]["compute_dtype"] == "float32"
    assert card["threshold"]["value"] != stored.threshold
    found = registry.load(folder, card)(pixels, card["seed"])
    wanted = Detector(exporter.computing_in(config, "float32"), rounded.weights).predict(pixels)
    assert np.abs(rounded.predict(pixels).score - wanted.score).max() > 10 * TOLERANCE
    np.testing.assert_allclose(found["score"], wanted.score, atol=TOLERANCE)
