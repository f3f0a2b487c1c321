"""A stack gives back what was put on it, leaves no file, and speaks up where the disk is full."""

import errno

import numpy as np
import pytest

from diffad_jax.evaluation.stack import Stack, StackError


def test_what_goes_on_comes_back(tmp_path):
    stack = Stack(tmp_path / "new", (3, 2), np.float32)
    assert len(stack) == 0 and stack.shape == (0, 3, 2)
    values = np.random.default_rng(0).random((5, 3, 2), np.float32)
    for part in (values[:2], values[2:2], values[2:]):
        stack.append(part)
    assert stack.shape == values.shape
    np.testing.assert_array_equal(np.stack(list(stack)), values)
    assert not list((tmp_path / "new").iterdir()), "the file has no name"
    with pytest.raises(IndexError, match="5 of a stack of 5"):
        stack[5]


def test_bool_and_bytes(tmp_path):
    for dtype in (bool, np.uint8):
        stack = Stack(tmp_path, (2,), dtype)
        stack.append(np.array([[1, 0]], dtype))
        assert stack[0].dtype == dtype and stack[0].tolist() == [1, 0]


def test_other_arrays_are_refused(tmp_path):
    stack = Stack(tmp_path, (2, 2), np.uint8)
    with pytest.raises(ValueError, match=r"uint8 \(2, 2\) got float64 \(2, 3\)"):
        stack.append(np.zeros((1, 2, 3)))


def test_a_full_disk_names_the_folder(tmp_path, monkeypatch):
    stack = Stack(tmp_path, (2,), np.uint8)

    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        close = stack._file.close

    monkeypatch.setattr(stack, "_file", Full())
    with pytest.raises(StackError, match=f"{tmp_path} .No space left on device.: make room"):
        stack.append(np.zeros((1, 2), np.uint8))
