"""A category's folder that another process writes to is left alone."""

from types import SimpleNamespace

import pytest

from diffad_jax.commands import evaluate, serve, train
from diffad_jax.data import corrections
from diffad_jax.runtime import lock


def test_a_second_training_is_refused_before_it_touches_the_checkpoints(tiny_config, tmp_path):
    half = tmp_path / "tiles" / "autoencoder" / "2.orbax-checkpoint-tmp-1"
    half.mkdir(parents=True)
    with (
        lock.hold(tmp_path / "tiles"),
        pytest.raises(lock.LockedError, match="is writing here"),
    ):
        train.train_and_evaluate(tiny_config, tmp_path, None)
    assert half.is_dir()
    assert sorted(p.name for p in (tmp_path / "tiles").iterdir()) == [".lock", "autoencoder"]


def test_a_second_evaluation_is_refused_before_it_reads_the_weights(tiny_config, tmp_path):
    with (
        lock.hold(tmp_path),
        pytest.raises(lock.LockedError, match="is writing here"),
    ):
        evaluate.evaluate(tiny_config, tmp_path)


def test_a_second_server_is_refused_before_it_listens(tiny_config, tmp_path, monkeypatch):
    pytest.importorskip("uvicorn")
    model = SimpleNamespace(reconstructs=False, batch_size=1)
    loaded = {"tiles": SimpleNamespace(trained=None)}
    monkeypatch.setattr(serve.products, "load", lambda *_: loaded)
    monkeypatch.setattr("diffad_jax.serve.learning.present", lambda *_: model)
    monkeypatch.setattr("diffad_jax.serve.server.run", lambda *_: pytest.fail("it listens"))
    with (
        lock.hold(tmp_path / "tiles" / corrections.FOLDER),
        pytest.raises(lock.LockedError, match="is writing here"),
    ):
        serve.serve(tiny_config, tmp_path, "127.0.0.1", 0)
