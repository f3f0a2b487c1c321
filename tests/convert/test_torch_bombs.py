"""Small files of weights that claim much: they are refused, and cost little."""

import os
import resource
import struct
import time
import zipfile

import numpy as np
import pytest
import weight_files
from torch_pickles import plain, save, state, tensor

from diffad_jax.convert import sources, torch_file
from diffad_jax.convert.errors import ConvertError

DOUBLING = b")q\0" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(200))  # 2**200 leaves
DOUBLED = b"h\xc8"  # behind it: the largest once more, with nothing of the others above it
NESTED = b")" + b"\x85" * 300_000
ORDERED_DICT = b"ccollections\nOrderedDict\n"


def peak_memory() -> int:
    """Bytes that this process has held at most."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


BOMBS = {
    "doubled by DUP": b")" + b"2\x86" * 40 + b")R.",
    "doubled, called": DOUBLING + b")R.",
    "doubled, a key": DOUBLING + b"}" + DOUBLED + b"Ns.",
    "doubled, a pair's key": DOUBLING + ORDERED_DICT + b"](](" + DOUBLED + b"Nee\x85R.",
    "doubled, the arguments": DOUBLING + ORDERED_DICT + DOUBLED + b"R.",
    "doubled, made": DOUBLING + b")\x81.",
    "doubled, its state set": DOUBLING + b"}b.",
    "doubled, a global": DOUBLING + DOUBLING + b"\x93.",
    "doubled, a storage": DOUBLING + b"Q.",
    "doubled, in a storage": DOUBLING + tensor(0, (2,), (1,)).replace(plain("cpu"), DOUBLED) + b".",
    "doubled, a storage's name": DOUBLING
    + tensor(0, (2,), (1,)).replace(plain("0"), DOUBLED, 1) + b".",
    "doubled, a shape": DOUBLING + tensor(0, (2,), (1,)).replace(plain((2,)), DOUBLED) + b".",
    "doubled, an offset": DOUBLING + tensor(7, (2,), (1,)).replace(plain(7), DOUBLED) + b".",
    "nested, a key": b"}" + NESTED + b"Ns.",
    "nested, a pair's key": ORDERED_DICT + b"](](" + NESTED + b"Nee\x85R.",
    "nested, called": NESTED + b")R.",
    "nested, the result": NESTED + b".",
    "nested lists": b"]" * 300_000 + b"a" * 299_999 + b".",
    "a far memo": b"Nr\xff\xff\xff\x7f.",
    "a long text": b"\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "long bytes": b"\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "a long bytearray": b"\x96" + struct.pack("<Q", 2**40) + b"x.",
    "a long integer": b"\x8b" + struct.pack("<i", 2**20) + b"\x7f" * 2**20 + b".",
    "a long integer, a key": b"}\x8b" + struct.pack("<i", 2**20) + b"\x7f" * 2**20 + b"q\0Ns"
    + b"h\0Ns" * 200_000 + b".",
    "many bytes": b"X" + struct.pack("<I", 2**26) + bytes(2**26) + b".",
    "one list copied": ORDERED_DICT + b"q\0](" + b"K\0N\x86" * 50_000
    + b"e\x85q\1" + b"h\0h\1R" * 5_000 + b".",
    "many axes": tensor(0, (1,) * 100_000, (1,) * 100_000) + b".",
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_small_files_cost_little(tmp_path, kind):
    """Whatever is shared, nested or long in a pickle: refused within bounded time and memory."""
    path = save(tmp_path / "a", b"\x80\x02" + BOMBS[kind])
    start, peak = time.process_time(), peak_memory()
    with pytest.raises(ConvertError):
        torch_file.read(path)
    assert time.process_time() - start < 20
    assert peak_memory() - peak < 200 * 2**20


def test_a_pickle_of_many_bytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "_MAX_PICKLE", 1000)
    path = save(tmp_path / "a", b"\x80\x02" + plain("x" * 1000) + b".")
    with pytest.raises(ConvertError, match="names its tensors in over 1000 bytes"):
        torch_file.read(path)


def test_a_pickle_of_many_steps_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file.pickle_machine, "MAX_STEPS", 1000)
    path = save(tmp_path / "a", b"\x80\x02" + b"}" * 1001 + b".")
    with pytest.raises(ConvertError, match="over 1000 steps: refused"):
        torch_file.read(path)


def test_tensors_that_share_a_storage_claim_little_more_than_the_file(tmp_path):
    content = np.arange(1000, dtype=np.float32).tobytes()
    views = b"".join(
        plain(f"x{i}") + tensor(0, (1000,), (1,), count=1000) + b"s" for i in range(100)
    )
    path = save(tmp_path / "a", b"\x80\x02}" + views + b".", content)
    with pytest.raises(ConvertError, match="bytes, and its tensors 400000: refused"):
        torch_file.read(path)
    overlapping = tensor(0, (500, 500), (1, 1), count=1000)
    with pytest.raises(ConvertError, match="does not fit into its 4000 bytes"):
        torch_file.read(save(tmp_path / "a", state(overlapping), content))


@pytest.mark.parametrize("name", ["a\x1b[2J", "\ud800", "x" * 1000])
def test_names_that_no_terminal_shows_are_refused(tmp_path, name):
    text = name.encode("utf-8", "surrogatepass")
    program = b"}X" + struct.pack("<I", len(text)) + text + tensor(0, (2,), (1,)) + b"s."
    with pytest.raises(ConvertError, match="cannot be printed") as error:
        torch_file.read(save(tmp_path / "a", b"\x80\x02" + program))
    assert str(error.value).isprintable()


def test_a_large_table_of_contents_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "_MAX_DIRECTORY", 1000)
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        for i in range(50):
            archive.writestr(f"any/{i}", b"")
    with pytest.raises(ConvertError, match="damaged .* bytes in one piece"):
        torch_file.read(tmp_path / "a")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_zip_is_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a", "w", method) as archive:
        archive.writestr("any/data.pkl", b"\x80\x02}.")
        archive.writestr("any/padding", os.urandom(100), zipfile.ZIP_STORED)
    with pytest.raises(ConvertError, match="is compressed"):
        torch_file.read(tmp_path / "a")


def test_a_zip_that_swells_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("any/data.pkl", bytes(10**7))
    with pytest.raises(ConvertError, match="bytes and declares 10000000: refused"):
        torch_file.read(tmp_path / "bomb")


@pytest.mark.parametrize("seed", weight_files.SEEDS, ids=lambda path: path.name)
def test_what_pytorch_wrote_is_read(seed):
    tensors = sources.read(seed)
    np.testing.assert_array_equal(tensors["view"], [[0, 3], [1, 4], [2, 5]])
    assert tensors["0.weight"].shape == (3, 2) and tensors["half"].dtype == np.float16
    assert len(tensors) == 10


def test_mutants_of_files_of_weights_give_their_error(tmp_path):
    peak = peak_memory()
    refused, read = weight_files.fuzz(tmp_path, rounds=2000, seed=0)
    assert refused > 500 and read > 100
    assert peak_memory() - peak < 50 * 2**20
