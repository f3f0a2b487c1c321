"""Files of weights that are no weights: damaged, special, unknown."""

import json
import os
import struct

import numpy as np
import pytest

from diffad_jax.convert import sources, torch_file
from diffad_jax.convert.errors import ConvertError


def safetensors_file(path, entries: dict, size: int = 48):
    header = json.dumps(entries).encode() if isinstance(entries, dict) else entries
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    return path


def entry(dtype="F32", shape=(12,), offsets=(0, 48)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"x": entry(shape=(13,))}, "damaged"),
        ({"x": entry(), "y": entry()}, "damaged"),  # of the same bytes
        ({"x": entry(offsets=(0, 44), shape=(11,))}, "damaged"),
        ({"x": entry(shape=(0, 2**63), offsets=(0, 0))}, "a"),
        ({"x": entry("F8_E4M3", (48,))}, "of a type that NumPy lacks .*float8_e4m3.*: save them"),
        ({"x\x1b[2J": entry()}, "cannot be printed"),
        ({"x" * 1000: entry()}, "too long"),
        (b"[" * 100_000, "damaged"),
        (b"{", "damaged"),
        (b"", "damaged"),
    ],
)
def test_damaged_safetensors_files_are_refused(tmp_path, entries, message):
    path = safetensors_file(tmp_path / "a.safetensors", entries)
    with pytest.raises(ConvertError, match=f"a.safetensors .*{message}") as error:
        sources.read(path)
    assert str(error.value).isprintable()


def test_special_files_and_long_headers_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "fifo.safetensors")
    with pytest.raises(ConvertError, match="fifo.safetensors: no regular file"):
        sources.read(tmp_path / "fifo.safetensors")
    with pytest.raises(ConvertError, match="there is no weights file"):
        sources.read(tmp_path / "missing.safetensors")
    path = safetensors_file(tmp_path / "a.safetensors", b" " * 2**25)
    with pytest.raises(ConvertError, match="its header claims 33554432 bytes"):
        sources.read(path)
    path = safetensors_file(tmp_path / "a.safetensors", b'{"a":[' + b"0," * 2**19 + b"0]}")
    with pytest.raises(ConvertError, match="more than 262144 values"):  # not all are parsed
        sources.read(path)


def test_an_unknown_file_says_what_is_expected(tmp_path):
    torch_file.write(tmp_path / "a.pt", {"fc.weight": np.zeros(2)})
    with pytest.raises(ConvertError, match="no known kind, its tensors begin with fc.weight"):
        sources.recognise(sources.read(tmp_path / "a.pt"), "a.pt")
    (tmp_path / "a.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ConvertError, match="is not a safetensors file, or is damaged"):
        sources.read(tmp_path / "a.safetensors")


def test_a_library_that_quotes_the_file_sends_no_control_characters(tmp_path):
    header = b'{"a":{"dtype":"F3\\u001b[2J%s","shape":[1],"data_offsets":[0,4]}}' % (b"x" * 5000)
    path = safetensors_file(tmp_path / "a.safetensors", header)
    with pytest.raises(ConvertError, match="unknown variant") as caught:
        sources.read(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600
