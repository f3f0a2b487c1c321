"""PyTorch's files without PyTorch: what is written is read back, and nothing in a file is run."""

import os
import pickle
import struct
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from torch_pickles import plain, save, state, tensor

from diffad_jax.convert import torch_file
from diffad_jax.convert.errors import ConvertError

RNG = np.random.default_rng(0)
TYPES = (np.float32, np.float64, np.float16, jnp.bfloat16, np.int64, np.int32, np.uint8, np.bool_)


@pytest.mark.parametrize("bare", [False, True])
def test_what_is_written_is_read_back_bit_for_bit(tmp_path, bare):
    tensors = {
        f"{np.dtype(t)}.{i}": (9 * RNG.standard_normal(shape)).astype(t)
        for t in TYPES
        for i, shape in enumerate([(), (3,), (2, 3, 4), (0, 2)])
    }
    tensors["transposed"] = RNG.standard_normal((3, 4)).T
    torch_file.write(tmp_path / "a.ckpt", tensors, bare=bare)
    found = torch_file.read(tmp_path / "a.ckpt")
    assert list(found) == list(tensors)
    for name, array in tensors.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes(), name
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_one_array_under_two_names_is_stored_once(tmp_path):
    array = np.zeros(10_000, np.float32)
    torch_file.write(tmp_path / "a.ckpt", {"x": array, "y": array})
    assert (tmp_path / "a.ckpt").stat().st_size < 1.1 * array.nbytes
    assert torch_file.read(tmp_path / "a.ckpt").keys() == {"x", "y"}


def test_equal_tensors_make_equal_files(tmp_path):
    for name in ("a", "b"):
        torch_file.write(tmp_path / name, {"x": np.arange(3.0)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_type_that_pytorch_lacks_is_refused(tmp_path):
    with pytest.raises(ConvertError, match="x: PyTorch files cannot hold uint64"):
        torch_file.write(tmp_path / "a", {"x": np.zeros(2, np.uint64)})


def test_offsets_and_strides_are_followed(tmp_path):
    path = save(tmp_path / "a", state(tensor(1, (3, 2), (1, 6))))
    np.testing.assert_array_equal(torch_file.read(path)["x"], [[1, 7], [2, 8], [3, 9]])


def test_a_parameter_is_its_tensor(tmp_path):
    program = b"ctorch._utils\n_rebuild_parameter\n(" + tensor(0, (2,), (1,))
    program += plain(True) + b"ccollections\nOrderedDict\n)RtR"
    np.testing.assert_array_equal(
        torch_file.read(save(tmp_path / "a", state(program)))["x"], [0, 1]
    )


def test_classes_may_lie_about_as_data(tmp_path):
    extra = plain("callbacks") + b"}cpytorch_lightning.callbacks\nModelCheckpoint\n" + plain(1)
    extra += b"ss" + plain("kind") + b"cos\nsystem\ns"
    path = save(tmp_path / "a", state(tensor(0, (2,), (1,)), extra=extra))
    assert torch_file.read(path).keys() == {"x"}


class Reduced:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def calls(marker) -> dict[str, bytes]:
    """Pickles that create ``marker`` when Python loads them."""
    command = f"touch {marker}"
    source = f"open({str(marker)!r}, 'w').close()"
    return {
        "reduce-2": pickle.dumps(Reduced(os.system, command), 2),
        "reduce-4": pickle.dumps(Reduced(os.system, command), 4),
        "reduce-0": pickle.dumps(Reduced(os.system, command), 0),
        "eval": pickle.dumps({"state_dict": Reduced(eval, source)}, 2),
        "exec": pickle.dumps([Reduced(exec, source)], 4),
        "inst": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\n" + plain(command) + b"o.",
        "build": b"ccollections\nOrderedDict\n)R}" + plain("__setstate__")
        + b"cos\nsystem\nsb" + plain(command) + b"b.",
        "partial": b"cfunctools\npartial\n(cos\nsystem\n" + plain(command) + b"tR)R.",
    }  # fmt: skip


@pytest.mark.parametrize("kind", calls("x"))
def test_no_call_is_made(tmp_path, kind):
    marker = tmp_path / "marker"
    program = calls(marker)[kind]
    pickle.loads(program)
    assert marker.exists(), "this pickle proves nothing"
    marker.unlink()
    # "build": an OrderedDict's attributes are dropped, so there is nothing left to call
    with pytest.raises(ConvertError, match="holds no tensors" if kind == "build" else "wants to"):
        torch_file.read(save(tmp_path / "a", program))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"cos\nsystem\n" + plain(("ls",)) + b"R.", "wants to run os.system: refused"),
        (b"csubprocess\nPopen\n" + plain(("ls",)) + b"\x81.", "an object of subprocess.Popen: ref"),
        (b"csubprocess\nPopen\n)}\x92.", "wants to make an object of subprocess.Popen"),
        (
            b"ccopyreg\n_reconstructor\n(cA\nB\ncbuiltins\nobject\nNtR.",
            "run copyreg._reconstructor",
        ),
        (b"ccollections\nOrderedDict\n}b.", "set the state of collections.OrderedDict"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n}b.", "set the state of torch._utils._rebuild"),
        (b"\x82\x01.", "use the pickle opcode EXT1"),
        (b"P0\n.", "use the pickle opcode PERSID"),
        (b"((tt}" + plain(0) + b"s.", "damaged"),
        (b"})" + plain(0) + b"s.", "damaged .a tuple as a key"),
        (b"R.", "damaged"),
        (b"}", "damaged"),
        (b"]" + plain(0) + b"b.", "set the state of"),
        (b"h\x07.", "damaged"),
        (b"\xff", "damaged"),
        (state(plain(3)), "holds no tensors"),
        (plain(3) + b".", "holds no tensors"),
    ],
)
def test_nonsense_is_refused_by_name(tmp_path, program, message):
    path = save(tmp_path / "evil.ckpt", program)
    with pytest.raises(ConvertError, match=message) as error:
        torch_file.read(path)
    assert "evil.ckpt" in str(error.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (tensor(0, (13,), (1,)), "x of shape .13,. does not fit into its 48 bytes"),
        (tensor(8, (5,), (1,)), "does not fit"),
        (tensor(-1, (2,), (1,)), "damaged"),
        (tensor(0, (2,), (-1,)), "damaged"),
        (tensor(0, (10**15,), (0,)), "does not fit"),
        (tensor(0, (2,), (1,), key="7"), "lacks any/data/7"),
        (
            tensor(0, (2,), (1,), storage=b"ctorch\nQInt8Storage\n"),
            "holds a QInt8Storage, which cannot be read",
        ),
        (tensor(0, (2,), (1,)).replace(b"Q", b""), "damaged"),
    ],
)
def test_tensors_outside_their_storage_are_refused(tmp_path, value, message):
    with pytest.raises(ConvertError, match=message):
        torch_file.read(save(tmp_path / "a", state(value)))


def test_files_of_other_kinds_are_explained(tmp_path):
    whole = tmp_path / "whole"
    torch_file.write(whole, {"x": RNG.standard_normal(1000)})
    content = bytearray(whole.read_bytes())
    cut = tmp_path / "cut"
    cut.write_bytes(content[: len(content) // 2])
    content[len(content) // 2] ^= 1
    flipped = tmp_path / "flipped"
    flipped.write_bytes(content)
    legacy = tmp_path / "legacy"
    legacy.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
    os.mkfifo(tmp_path / "fifo")
    text = tmp_path / "text"
    text.write_text("weights")
    other = tmp_path / "other"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.txt", "x")
    for path, message in (
        (cut, "cut short or damaged .*: fetch it again"),
        (flipped, "damaged .Bad CRC"),
        (legacy, "its pickle is damaged .pickle exhausted"),
        (text, "is no PyTorch file: neither a zip archive nor the format before it"),
        (other, "with 0 entries data.pkl"),
        (tmp_path / "missing", "cannot read .*missing: No such file"),
        (tmp_path, "cannot read .*: Is a directory"),
        (tmp_path / "fifo", "cannot read .*fifo: no regular file, but a pipe"),
    ):
        with pytest.raises(ConvertError, match=message):
            torch_file.read(path)


def legacy(path, *, value=None, keys=("0",), sizes=(12,), system=None, version=1001):
    """A file as PyTorch wrote it before 1.6, around the opcodes of one tensor "x"."""
    state = b"\x80\x02}" + plain("x") + (value or tensor(0, (3, 4), (4, 1))) + b"s."
    system = {"little_endian": True} if system is None else system
    parts = (0x1950A86A20F9469CFC6C, version, system, None, list(keys))
    content = b"".join(state if p is None else pickle.dumps(p, 2) for p in parts)
    for size in sizes:
        content += struct.pack("<q", size) + np.arange(12, dtype=np.float32).tobytes()
    path.write_bytes(content)
    return path


def test_the_format_before_pytorch_1_6_is_read(tmp_path):
    expected = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(torch_file.read(legacy(tmp_path / "a"))["x"], expected)
    wrapped = b"ccollections\nOrderedDict\n(](](" + plain("x") + tensor(0, (2,), (1,))
    path = save(tmp_path / "b", b"\x80\x02" + wrapped + b"eetR.")
    np.testing.assert_array_equal(torch_file.read(path)["x"], [0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1000}, "another version"),
        ({"system": {"little_endian": False}}, "big-endian"),
        ({"system": {}}, "big-endian"),
        ({"keys": ()}, "lacks the data of x"),
        ({"keys": ("0", "0"), "sizes": (12, 12)}, "or one twice"),
        ({"keys": ("1",)}, "that no tensor has"),
        ({"keys": (("0",),)}, "that no tensor has"),
        ({"sizes": (13,)}, "not as long as its tensors say"),
        ({"sizes": (-1,)}, "not as long as its tensors say"),
        ({"sizes": ()}, "not as long as its tensors say"),
        ({"value": tensor(0, (13,), (1,))}, "does not fit into its 48 bytes"),
        ({"value": tensor(0, (12,), (1,), count=2**61)}, "not as long as its tensors say"),
        ({"value": plain(3)}, "holds no tensors"),
        ({"value": b"cos\nsystem\n" + plain(("ls",)) + b"R"}, "wants to run os.system"),
    ],
)
def test_damaged_files_of_the_old_format_are_refused(tmp_path, change, message):
    with pytest.raises(ConvertError, match=message):
        torch_file.read(legacy(tmp_path / "a", **change))
