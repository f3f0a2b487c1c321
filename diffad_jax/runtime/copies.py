"""Files in object storage that are read here and there: copied once to the user's cache folder."""

import hashlib
import shutil
from pathlib import Path

from fsspec.core import url_to_fs

from diffad_jax.runtime import caches, console, files, lock, storage


def local_copy(place: str) -> Path:
    """The copy of a file in object storage; fetched where there is none, or an older one.

    An older one is deleted. Of several processes one fetches, and the others wait for it.

    Raises:
      FileNotFoundError: there is no such file.
      ImportError: the package of this kind of storage is not installed.
      OSError: it is a folder; the cache folder cannot be written to, or the disk is full.
      Exception: each kind of storage has its own errors.
    """
    found = storage.look(place)
    folder = caches.folder("copies") / hashlib.sha256(place.encode()).hexdigest()[:16]
    name = place.rpartition("/")[2]
    path = folder / f"{found.num_bytes}-{found.modified_ns}" / name
    with lock.wait(folder):
        if not path.exists():
            for older in folder.glob("*/"):
                shutil.rmtree(older)
            console.note(f"fetching {place}, {found.num_bytes / 2**20:.1f} MiB, to {path}")
            system, remote = url_to_fs(place)
            with files.whole(path) as temporary:
                storage.again(lambda: system.get_file(remote, str(temporary)))
    return path
