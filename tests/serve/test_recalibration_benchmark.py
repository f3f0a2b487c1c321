"""What accepting false alarms does, measured as inspectors do it."""

import pytest
from serving import bright_config, let_the_stage_extend, png

from benchmarks import recalibration
from diffad_jax.commands.train import train_category


@pytest.mark.parametrize("extends", [False, True])
def test_one_half_is_accepted_and_the_other_is_judged(monkeypatch, tmp_path, extends):
    """Where a recalibration changes scores, all are scored again."""
    config = bright_config(monkeypatch, tmp_path / "photos")
    for kind, reds in {"good": [0.5] * 4, "broken": [0.45, 0.9]}.items():
        folder = tmp_path / "photos" / "lamps" / "test" / kind
        folder.mkdir(parents=True)
        for i, red in enumerate(reds):
            (folder / f"{i}.png").write_bytes(png(red, seed=100 + i))
    train_category(config, tmp_path / "work" / "lamps", "lamps", None)
    if extends:
        let_the_stage_extend(monkeypatch)
    assert recalibration.measure(config, tmp_path / "work", "lamps", splits=3, seed=0) == {
        "num_held_out": 10,
        "num_good": 4,
        "num_defects": 2,
        "accepted": 2.0,
        "false_alarm_rate_before": 1.0,
        "false_alarm_rate_after": 0.0,
        "defects_found_before": 1.0,
        "defects_found_after": 0.5,
    }
