"""The user's cache folder, for files that can be made or fetched again."""

import os
from pathlib import Path


def folder(name: str) -> Path:
    """Our cache folder of this name, below ``XDG_CACHE_HOME`` or ``~/.cache``; it may not exist.

    Raises:
      OSError: the user has no home folder.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if caches.startswith("~"):
        raise OSError("there is no home folder")
    return Path(caches, "diffad_jax", name)
