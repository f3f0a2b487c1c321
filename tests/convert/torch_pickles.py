"""The opcodes of PyTorch's files, by hand."""

import pickle
import zipfile

import numpy as np


def plain(value) -> bytes:
    return pickle.dumps(value, protocol=2)[2:-1]


def tensor(
    offset, shape, strides, *, key="0", count=12, storage=b"ctorch\nFloatStorage\n"
) -> bytes:
    """The opcodes that PyTorch writes for a tensor."""
    persistent = (
        b"(" + plain("storage") + storage + plain(key) + plain("cpu") + plain(count) + b"tQ"
    )
    arguments = plain(offset) + plain(shape) + plain(strides) + plain(False)
    empty = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + persistent + arguments + empty + b"tR"


def save(path, program: bytes, content: bytes = np.arange(12, dtype=np.float32).tobytes()):
    """A PyTorch file around the opcodes of one object."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("any/data.pkl", program)
        archive.writestr("any/data/0", content)
        archive.writestr("any/version", "3\n")
    return path


def state(value: bytes, *, extra: bytes = b"") -> bytes:
    """A pickle of {"state_dict": {"x": value}}, with more opcodes in the outer dict."""
    inner = b"}" + plain("x") + value + b"s"
    return b"\x80\x02}" + plain("state_dict") + inner + b"s" + extra + b"."
