"""The detector's parts give what the whole gives, and all are timed. No time is judged."""

import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from parity.parity_cases import formula_weight

from diffad_jax.commands import benchmark
from diffad_jax.errors import ConfigError
from diffad_jax.export import exporter
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.diffad import networks

PARTS = ("encode", "denoise", "decode", "segment", "score")


@pytest.fixture
def detector(tiny_config):
    config = tiny_config
    config.diffusion.multipliers = (1,)
    config.autoencoder.num_res_blocks = 0
    key, image = jax.random.key(0), jnp.zeros((1, 16, 16, 3))
    height, width, channels = networks.latent_shape(config)
    latents, t = jnp.zeros((1, height, width, 2 * channels)), jnp.zeros(1, jnp.int32)
    seen = jnp.zeros((1, 16, 16, 3 * (2 + len(config.reconstruction.interpolation))))
    frozen = ml_collections.FrozenConfigDict(config)
    shapes = {
        "autoencoder": jax.eval_shape(networks.autoencoder(frozen).init, key, image),
        "denoiser": jax.eval_shape(networks.denoiser(frozen).init, key, latents, t),
        "segmenter": jax.eval_shape(
            lambda k, x: networks.segmenter(frozen).init(k, x, train=False), key, seen
        ),
    }
    weights = jax.tree_util.tree_map_with_path(
        lambda path, leaf: formula_weight(tuple(entry.key for entry in path), leaf.shape), shapes
    )
    stats = weights["segmenter"]["batch_stats"]
    weights["segmenter"]["batch_stats"] = jax.tree.map(lambda leaf: 1.0 + 0.0 * leaf, stats)
    weights["denoiser"]["scale"] = np.float32(1.5)
    level = np.linspace(0.2, 0.8, 16 * 16, dtype=np.float32).reshape(16, 16)
    weights["normal_level"] = {"level": level}
    return Detector(config, weights)


def test_metrics_table_and_file(detector, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Detector, "from_workdir", lambda *args: detector)
    config = ml_collections.ConfigDict(detector.config)
    config.evaluation.batch_size = 1  # one shape to compile
    benchmark.benchmark(config, tmp_path, num_runs=3)
    written = json.loads((tmp_path / "benchmark.json").read_text())
    assert written["device"]["platform"] == "cpu" and "jax" in written["versions"]
    found = written["categories"]["tiles"]
    assert found.pop("weights") == detector.weights_hash
    assert found.keys() == {"latency", "throughput"}
    for measured in found.values():
        assert measured["runs"] == 3
        assert measured["parts_score_difference"] <= 1e-6
        assert set(measured["milliseconds"]) == {"whole", *PARTS}
        for ms in measured["milliseconds"].values():
            assert 0 < ms["p50"] <= ms["p90"] <= ms["p99"]
        whole = measured["milliseconds"]["whole"]["p50"]
        assert measured["images_per_second"] == pytest.approx(1e3 * measured["batch_size"] / whole)
    printed = capsys.readouterr().out
    for word in ("tiles, latency: batch 1", "images/s", "p99 ms", *PARTS):
        assert word in printed


def test_the_parts_together_are_the_detector(detector):
    photos = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    whole = detector.predict(photos)
    together = jnp.float32(photos) / 255
    for run in benchmark.parts(detector.config).values():
        together = run(detector.weights, together)
    for part, of_whole in zip(jax.tree.leaves(together), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(part, of_whole, rtol=0, atol=1e-5)
    assert np.ptp(whole.anomaly_map) > 0, "a constant map would hide a difference"


def test_exported_folders_take_turns_with_it(tiny_config, trained_workdir, tmp_path, capsys):
    tiny_config.evaluation.batch_size = 1
    exporter.export(tiny_config, trained_workdir, tmp_path / "out", "stablehlo")
    compare = [str(tmp_path / "out")]
    benchmark.benchmark(tiny_config, trained_workdir, num_runs=2, compare=compare)
    found = json.loads((trained_workdir / "benchmark.json").read_text())["categories"]["tiles"]
    assert "stablehlo" not in found["latency"]["parts"] and PARTS[0] in found["latency"]["parts"]
    assert found["latency"]["milliseconds"]["stablehlo"]["p50"] > 0
    printed = capsys.readouterr().out.splitlines()
    (row,) = [line for line in printed[: len(printed) // 2] if line.startswith("stablehlo")]
    assert "%" not in row, "a graph is no part of the detector"

    detector = Detector.from_workdir(tiny_config, trained_workdir, "tiles")
    with pytest.raises(ConfigError, match="no exported lamps is there"):
        benchmark._graph(tmp_path / "out", "lamps", detector)
    detector.weights_hash = "other"
    with pytest.raises(ConfigError, match="is of other weights: export tiles again"):
        benchmark._graph(tmp_path / "out", "tiles", detector)
    (tmp_path / "out" / "tiles" / "model.stablehlo").write_bytes(b"cut")
    with pytest.raises(ConfigError, match="model.stablehlo"):
        benchmark._graph(tmp_path / "out", "tiles", detector)
