"""PyTorch's files of weights, read and written without PyTorch.

Since PyTorch 1.6 such a file is an uncompressed zip: NAME/data.pkl, a pickle in which tensors refer
to storages by a persistent id, and NAME/data/KEY, the bytes of each storage.
"""

import dataclasses
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffad_jax.convert import pickle_machine
from diffad_jax.convert.errors import ConvertError
from diffad_jax.runtime import files

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
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # a pickled magic number
_DATE = (1980, 1, 1, 0, 0, 0)  # so that equal weights make equal files


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    kind: str


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A view of a storage that is not read yet; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch file, by name.

    Nothing in the file is run. Of a checkpoint only the entry ``state_dict`` is read, of a bare
    state_dict all of it; what is no tensor is left out.

    Returns:
      Read-only arrays in the file's types (bfloat16 as ``jnp.bfloat16``).

    Raises:
      ConvertError: not such a file, damaged, of the format before PyTorch 1.6, or it wants to run
        something.
    """
    path = Path(path)
    with _open(path) as archive:
        try:
            return _read(archive, path)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise ConvertError(f"{path} is damaged ({error}): fetch it again") from error


def _open(path: Path) -> zipfile.ZipFile:
    try:
        with path.open("rb") as file:
            start = file.read(len(_LEGACY))
        return zipfile.ZipFile(path)
    except OSError as error:
        raise ConvertError(f"cannot read {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        if start == _LEGACY:
            raise ConvertError(
                f"{path} is of the format before PyTorch 1.6: re-save it with a current PyTorch, "
                "torch.save(torch.load(FILE), FILE)"
            ) from error
        if start[:2] == b"PK":
            raise ConvertError(f"{path} is cut short or damaged: fetch it again") from error
        raise ConvertError(f"{path} is no PyTorch file: it is no zip archive") from error


def _read(archive: zipfile.ZipFile, path: Path) -> dict[str, np.ndarray]:
    names = archive.namelist()
    roots = [n.removesuffix("data.pkl") for n in names if n.endswith("data.pkl")]
    if len(roots) != 1:
        raise ConvertError(f"{path} is no PyTorch file: a zip with {len(roots)} entries data.pkl")
    declared, size = sum(i.file_size for i in archive.infolist()), path.stat().st_size
    if declared > size:  # PyTorch never compresses
        raise ConvertError(f"{path} holds {size} bytes and declares {declared}: refused")
    if f"{roots[0]}byteorder" in names and archive.read(f"{roots[0]}byteorder") != b"little":
        raise ConvertError(f"{path} was saved on a big-endian machine: re-save it on another")
    tree = pickle_machine.load(
        archive.read(f"{roots[0]}data.pkl"), calls=_CALLS, persistent=_storage, source=str(path)
    )
    contents: dict[str, bytes] = {}
    tensors = {}
    for name, tensor in _tensors(tree, path).items():
        key = tensor.storage.key
        if key not in contents:
            entry = f"{roots[0]}data/{key}"
            if entry not in names:
                raise ConvertError(f"{path} is damaged: it lacks {entry}, the data of {name}")
            contents[key] = archive.read(entry)
        tensors[name] = _view(tensor, contents[key], name, path)
    return tensors


def _tensors(tree: Any, path: Path) -> dict[str, _Tensor]:
    """The tensors of the ``state_dict``, or of the top level where there is none."""
    if isinstance(tree, dict) and isinstance(tree.get("state_dict"), dict):
        tree = tree["state_dict"]
    found = {}
    if isinstance(tree, dict):
        found = {k: v for k, v in tree.items() if isinstance(k, str) and isinstance(v, _Tensor)}
    if not found:
        raise ConvertError(f"{path} holds no tensors: neither a checkpoint nor a state_dict")
    return found


def _view(tensor: _Tensor, content: bytes, name: str, path: Path) -> np.ndarray:
    if tensor.storage.kind not in _DTYPES:
        raise ConvertError(f"{path}: {name} is a {tensor.storage.kind}, which cannot be read here")
    dtype = _DTYPES[tensor.storage.kind]
    try:
        return np.ndarray(
            tensor.shape,
            dtype,
            content,
            tensor.offset * dtype.itemsize,
            tuple(s * dtype.itemsize for s in tensor.strides),
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise ConvertError(
            f"{path} is damaged: {name} of shape {tensor.shape} does not fit into its "
            f"{len(content)} bytes"
        ) from error


def _storage(persistent_id: Any) -> _Storage:
    kind, of_type, key, _, _ = persistent_id
    if kind != "storage":
        raise ValueError(f"a reference to a {kind}")
    return _Storage(str(key), of_type.name)


def _rebuild_tensor(storage: _Storage, offset, shape, strides, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage) or any(n < 0 for n in (offset, *shape, *strides)):
        raise ValueError("a tensor of negative size or without a storage")
    if any(n > 1 and s == 0 for n, s in zip(shape, strides, strict=True)):
        raise ValueError("a tensor that repeats its values")  # as large as it likes
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


_CALLS = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "collections.OrderedDict": lambda *items: dict(*items),
}


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
