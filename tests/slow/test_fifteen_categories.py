"""Fifteen categories, one process: what is compiled for the first serves all."""

import os
import shutil
from pathlib import Path

import pytest

from diffad_jax.commands import evaluate, train

NAMES = tuple(f"product_{i:02d}" for i in range(15))


@pytest.fixture
def fifteen(photos, tmp_path) -> Path:
    """The same photos fifteen times, of which each category lacks up to three good ones."""
    for i, name in enumerate(NAMES):
        shutil.copytree(f"{photos}/tiles", tmp_path / name, copy_function=os.link)
        good = sorted((tmp_path / name / "train" / "good").iterdir())
        for photo in good[len(good) - i % 4 :]:
            photo.unlink()
    return tmp_path


def test_what_is_trained_and_evaluated_is_compiled_once(
    fifteen, tiny_config, compilations, monkeypatch, tmp_path
):
    tiny_config.categories, tiny_config.data.root = NAMES, str(fifteen)
    compiled: dict[str, list[list[str]]] = {}

    def counted(module, name: str) -> None:
        function = getattr(module, name)

        def call(*args, **how):
            before = len(compilations)
            result = function(*args, **how)
            compiled.setdefault(name, []).append(compilations[before:])
            return result

        monkeypatch.setattr(module, name, call)

    counted(train, "train_category")
    counted(evaluate, "evaluate_category")
    train.train_and_evaluate(tiny_config, tmp_path / "work", None)
    for first, *others in compiled.values():
        assert first and len(others) == 14
        # What picks photos of another number is no network, and is compiled in milliseconds.
        assert {name for one in others for name in one} <= {"jit(dynamic_slice)"}, others
