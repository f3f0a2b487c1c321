"""PyTorch's files of weights, read and written without PyTorch.

Since PyTorch 1.6 such a file is an uncompressed zip. NAME/data.pkl is a pickle in which tensors
refer to storages by a persistent id, and NAME/data/KEY holds the bytes of each storage. Older files
are a row of pickles: a magic number, a version, the machine's types, the object, the storages'
keys. Each storage follows, its number of elements first.
"""

import dataclasses
import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from diffad_jax.convert import pickle_machine
from diffad_jax.convert.errors import ConvertError
from diffad_jax.convert.pickle_machine import Global
from diffad_jax.models.pretrained import MOST_WEIGHTS
from diffad_jax.runtime import files, zips
from diffad_jax.runtime.regular import open_regular

_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": jnp.dtype(jnp.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_STORAGES = {dtype: name for name, dtype in _DTYPES.items()}
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # a pickled magic number
_DATE = (1980, 1, 1, 0, 0, 0)  # so that equal weights make equal files
_MAX_PICKLE = 2**25  # bytes; 20,000 tensors take a fifth of it
_MAX_DIRECTORY = 2**23  # bytes of a zip's table of contents
_MAX_AXES = 32
_MAX_NAME = 500  # characters
_MAX_SHARING = 4  # times the file's size that its tensors may claim: some share a storage


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    kind: str
    size: int  # in elements


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A view of a storage that is not read yet; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch file, by name.

    Nothing in the file is run. A checkpoint gives its entry ``state_dict`` alone, a bare state_dict
    all of it. Objects that are no tensors are left out.

    Returns:
      Read-only arrays in the file's types (bfloat16 as ``jnp.bfloat16``). Together they take as
      much memory as the file.

    Raises:
      ConvertError: not such a file, damaged, or it wants to run something.
    """
    path = Path(path)
    try:
        with open_regular(path, MOST_WEIGHTS) as file:
            start = file.read(len(_LEGACY))
            file.seek(0)
            if start == _LEGACY:
                return _read_legacy(file, path)
            if start[:2] == b"PK":
                return _read_zip(file, path)
    except ConvertError:
        raise
    except OSError as error:
        raise ConvertError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # zipfile lets damage through as a dozen kinds of errors
        raise ConvertError(f"{path} is cut short or damaged ({error}): fetch it again") from error
    raise ConvertError(f"{path} is no PyTorch file: neither a zip archive nor the format before it")


def _read_zip(file: BinaryIO, path: Path) -> dict[str, np.ndarray]:
    size = path.stat().st_size
    with zips.open_zip(lambda: file, _MAX_DIRECTORY) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        roots = [n.removesuffix("data.pkl") for n in entries if n.endswith("data.pkl")]
        if len(roots) != 1:
            raise ConvertError(
                f"{path} is no PyTorch file: a zip with {len(roots)} entries data.pkl"
            )
        declared = sum(entry.file_size for entry in entries.values())
        if declared > size:
            raise ConvertError(f"{path} holds {size} bytes and declares {declared}: refused")

        def content(name: str) -> bytes:
            entry = entries.get(roots[0] + name)
            if entry is None:
                raise ValueError(f"it lacks {roots[0]}{name}")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ConvertError(f"{path} is compressed, as PyTorch never does: refused")
            return archive.read(entry)

        if f"{roots[0]}byteorder" in entries and content("byteorder") != b"little":
            raise _other_machine(path)
        tree = _Builder(path).load(io.BytesIO(content("data.pkl")))
        tensors = _tensors(tree, path)
        keys = {tensor.storage.key for tensor in tensors.values()}
        return _views(tensors, {key: content(f"data/{key}") for key in keys}, path)


def _read_legacy(file: BinaryIO, path: Path) -> dict[str, np.ndarray]:
    head, builder = io.BytesIO(file.read(_MAX_PICKLE)), _Builder(path)
    head.seek(len(_LEGACY))
    version, machine, tree, keys = (builder.load(head) for _ in range(4))
    if version != 1001 or type(machine) is not dict or type(keys) is not list:
        raise ValueError("another version of the format")
    if machine.get("little_endian") is not True:
        raise _other_machine(path)
    tensors = _tensors(tree, path)
    wanted = {tensor.storage.key for tensor in tensors.values()}
    contents, left = {}, path.stat().st_size - file.seek(head.tell())
    for key in keys:
        if type(key) is not str or (storage := builder.storages.pop(key, None)) is None:
            raise ValueError("it lists a storage that no tensor has, or one twice")
        length = storage.size * _dtype(storage, path).itemsize
        left -= 8 + length
        if left < 0 or int.from_bytes(file.read(8), "little") != storage.size:
            raise ValueError(f"storage {key} is not as long as its tensors say")
        if key in wanted:
            contents[key] = file.read(length)
        else:
            file.seek(length, io.SEEK_CUR)
    return _views(tensors, contents, path)


def _other_machine(path: Path) -> ConvertError:
    return ConvertError(f"{path} was saved on a big-endian machine: re-save it on another")


class _Builder:
    """Makes the objects of one file's pickles that are no plain data."""

    def __init__(self, path: Path):
        self.storages: dict[str, _Storage] = {}
        self._path = path
        self._copied = 0
        self._calls = {
            ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
            ("collections", "OrderedDict"): self._ordered_dict,
        }

    def load(self, file: io.BytesIO) -> Any:
        if file.getbuffer().nbytes > _MAX_PICKLE:
            raise ConvertError(f"{self._path} names its tensors in over {_MAX_PICKLE} bytes")
        return pickle_machine.load(
            file, calls=self._calls, persistent=self._persistent, source=str(self._path)
        )

    def _persistent(self, reference: Any) -> _Storage | Global:
        if type(reference) is not tuple or not 4 <= len(reference) <= 6:
            raise ValueError("a reference of impossible length")
        what, kind, key, *rest = reference
        if what == "module" and type(kind) is Global:  # a class, with its source beside it
            return kind
        _, size, *part = rest
        if what != "storage" or type(kind) is not Global or part not in ([], [None]):
            raise ValueError("a reference to no storage, or to a part of one")
        if not is_name(key) or type(size) is not int or size < 0:
            raise ValueError("a storage without a name or a size")
        storage = _Storage(key, str(kind).rpartition(".")[2], size)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key} has two types or sizes")
        return storage

    def _ordered_dict(self, items: Any = ()) -> dict:
        """Python 2 gives the items at once, as a list of lists."""
        if type(items) not in (list, tuple):
            raise ValueError("an OrderedDict of no list")
        self._copied += len(items)  # one list may be given over and over
        if self._copied > pickle_machine.MAX_STEPS:
            raise ValueError("too many items")
        if not all(type(item) in (list, tuple) and len(item) == 2 for item in items):
            raise ValueError("an OrderedDict of no pairs")
        return pickle_machine.checked_dict(items)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if type(storage) is not _Storage or not type(shape) is type(strides) is tuple:
        raise ValueError("a tensor without a storage or a shape")
    if len(shape) != len(strides) or len(shape) > _MAX_AXES:
        raise ValueError("a tensor of too many axes")
    if any(type(n) is not int or n < 0 for n in (offset, *shape, *strides)):
        raise ValueError("a tensor of negative size")
    return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: Any, *_: Any) -> _Tensor:
    if type(tensor) is not _Tensor:
        raise ValueError("a parameter without a tensor")
    return tensor


def _tensors(tree: Any, path: Path) -> dict[str, _Tensor]:
    """The tensors of the ``state_dict``, or of the top level where there is none."""
    if type(tree) is dict and type(tree.get("state_dict")) is dict:
        tree = tree["state_dict"]
    items = tree.items() if type(tree) is dict else ()
    found = {k: v for k, v in items if type(k) is str and type(v) is _Tensor}
    if not found:
        raise ConvertError(f"{path} holds no tensors: neither a checkpoint nor a state_dict")
    if not all(map(is_name, found)):
        raise ValueError("a tensor's name is too long, or cannot be printed")
    return found


def is_name(key: Any) -> bool:
    """Whether a tensor may have this name: a text that can be printed."""
    return type(key) is str and len(key) <= _MAX_NAME and key.isprintable()


def _views(
    tensors: dict[str, _Tensor], contents: dict[str, bytes], path: Path
) -> dict[str, np.ndarray]:
    views = {name: _view(tensor, contents, name, path) for name, tensor in tensors.items()}
    claimed, size = sum(view.nbytes for view in views.values()), path.stat().st_size
    if claimed > _MAX_SHARING * size:
        raise ConvertError(f"{path} holds {size} bytes, and its tensors {claimed}: refused")
    return views


def _view(tensor: _Tensor, contents: dict[str, bytes], name: str, path: Path) -> np.ndarray:
    if (content := contents.get(tensor.storage.key)) is None:
        raise ValueError(f"it lacks the data of {name}")
    dtype = _dtype(tensor.storage, path)
    try:
        if math.prod(tensor.shape) * dtype.itemsize > len(content):
            raise ValueError("more elements than the storage")
        return np.ndarray(
            tensor.shape,
            dtype,
            content,
            tensor.offset * dtype.itemsize,
            tuple(s * dtype.itemsize for s in tensor.strides),
        )
    except (ValueError, OverflowError) as error:
        raise ConvertError(
            f"{path} is damaged: {name} of shape {tensor.shape} does not fit into its "
            f"{len(content)} bytes"
        ) from error


def _dtype(storage: _Storage, path: Path) -> np.dtype:
    if storage.kind not in _DTYPES:
        raise ConvertError(f"{path} holds a {storage.kind}, which cannot be read here")
    return _DTYPES[storage.kind]


def write(path: str | Path, tensors: Mapping[str, np.ndarray], *, bare: bool = False) -> None:
    """Writes a file that ``torch.load(path, weights_only=True)`` reads.

    Args:
      path: of the file; replaced whole or not at all.
      tensors: by name; entries that are the same array object share their storage.
      bare: the file holds the state_dict itself; otherwise {"state_dict": it}.

    Raises:
      ConvertError: PyTorch has no storage for an array's type.
    """
    path = Path(path)
    keys = {id(array): str(i) for i, array in enumerate(_unique(tensors.values()))}
    state = _ORDERED_DICT + b"("
    for name, array in tensors.items():
        if array.dtype not in _STORAGES:
            raise ConvertError(f"{name}: PyTorch files cannot hold {array.dtype}")
        state += _plain(name) + _tensor_program(array, keys[id(array)])
    state += b"u"
    program = state if bare else b"}" + _plain("state_dict") + state + b"s"
    with files.whole(path) as new, zipfile.ZipFile(new, "w", zipfile.ZIP_STORED) as archive:
        for entry, content in (
            ("data.pkl", b"\x80\x02" + program + b"."),
            ("byteorder", b"little"),
            *((f"data/{keys[id(a)]}", np.ascontiguousarray(a)) for a in _unique(tensors.values())),
            ("version", b"3\n"),
        ):
            raw = content if isinstance(content, bytes) else content.tobytes()
            archive.writestr(zipfile.ZipInfo(f"archive/{entry}", _DATE), raw)


def _unique(arrays) -> list[np.ndarray]:
    return list({id(array): array for array in arrays}.values())


_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def _plain(value: Any) -> bytes:
    """Opcodes that push a string, a number or a tuple of numbers."""
    return pickle.dumps(value, protocol=2)[2:-1]


def _tensor_program(array: np.ndarray, key: str) -> bytes:
    """Opcodes that push a call of ``_rebuild_tensor_v2``."""
    strides = [int(np.prod(array.shape[i + 1 :], dtype=int)) for i in range(array.ndim)]
    storage = b"ctorch\n" + _STORAGES[array.dtype].encode() + b"\n"
    persistent = b"(" + _plain("storage") + storage + _plain(key) + _plain("cpu")
    persistent += _plain(array.size) + b"tQ"
    arguments = _plain(0) + _plain(array.shape) + _plain(tuple(strides)) + _plain(False)
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return rebuild + persistent + arguments + _ORDERED_DICT + b"tR"
