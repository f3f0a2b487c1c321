"""Which steps are traced."""

import jax
import jax.numpy as jnp
import pytest

from diffad_jax.training.profiling import Profiler, Steps, parse_steps


def trace(steps, directory, total=6):
    step_fn = jax.jit(lambda x: x + 1.0)
    x = jnp.zeros(())
    with Profiler(steps, directory) as profiler:
        for step in range(1, total + 1):
            profiler.before(step)
            x = step_fn(x)
            profiler.after(step, x)
    return sorted(p.name for p in directory.rglob("*.gz"))


def test_from_to_is_read():
    assert parse_steps("20:24") == Steps(20, 24)


@pytest.mark.parametrize("text", ["", "20", "24:20", "0:3", "-1:3", "a:b", "1:2:3"])
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="FROM:TO, e.g. 20:24"):
        parse_steps(text)


def test_a_trace_is_written_also_where_training_ends_inside_it(tmp_path, capsys):
    files = trace(Steps(5, 99), tmp_path)
    assert "perfetto_trace.json.gz" in files
    assert f"trace of the training steps in {tmp_path}" in capsys.readouterr().err


def test_without_the_flag_and_beyond_the_last_step_there_is_none(tmp_path):
    assert trace(None, tmp_path) == [] and trace(Steps(7, 8), tmp_path) == []
