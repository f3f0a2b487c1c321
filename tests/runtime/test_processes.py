"""Several processes share work, and one of them writes."""

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from diffad_jax.runtime import console, processes


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 6])
@pytest.mark.parametrize("num", [1, 2, 3])
def test_each_does_its_share_and_all_get_all(monkeypatch, count, num):
    done = {}
    for index in range(num):
        calls = []

        def work(i, calls=calls):
            calls.append(i)
            return {"a": np.full(2, i / 3)}

        def gathered(mine, index=index, calls=calls):
            """As from ``num`` processes, of which this one is the last to be asked."""
            first = calls[-1] // num * num
            assert mine["a"][0] == calls[-1] / 3
            return {"a": np.stack([np.full(2, (first + k) / 3) for k in range(num)])}

        monkeypatch.setattr(jax, "process_count", lambda: num)
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        monkeypatch.setattr(multihost_utils, "process_allgather", gathered)
        found = [x["a"].tolist() for x in processes.share_out(count, work)]
        assert found == [[i / 3] * 2 for i in range(count)]
        done[index] = set(calls)
        assert len(calls) == -(-count // num)
    assert set().union(*done.values()) == set(range(count))


@pytest.mark.parametrize("index", [0, 1])
def test_one_writes_and_speaks(monkeypatch, tmp_path, capsys, index):
    monkeypatch.setattr(jax, "process_index", lambda: index)
    with processes.one_writes(tmp_path) as folder:
        (folder / "a").touch()
        console.say("said")
        console.note("noted")
    assert (tmp_path / "a").exists() == (index == 0)
    assert tuple(capsys.readouterr()) == (("said\n", "noted\n") if index == 0 else ("", ""))
