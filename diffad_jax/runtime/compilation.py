"""Compiled programs are kept between runs."""

import logging
import os

import jax

from diffad_jax.runtime import caches

logger = logging.getLogger(__name__)


def keep_compiled() -> None:
    """Turns on JAX's persistent compilation cache, below the user's cache folder.

    JAX_COMPILATION_CACHE_DIR names another folder; JAX_ENABLE_COMPILATION_CACHE=false is without.
    The key of an entry holds the kind of device, so machines may share the folder. Where it cannot
    be written to, programs are not kept, and that is said.
    """
    if jax.config.jax_compilation_cache_dir:
        return
    try:
        folder = str(caches.folder("xla"))
        os.makedirs(folder, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} cannot be written to")
    except OSError as error:
        logger.warning(
            "compiled programs are not kept, so each start compiles anew: %s; "
            "JAX_COMPILATION_CACHE_DIR can name a folder",
            error,
        )
        return
    jax.config.update("jax_compilation_cache_dir", folder)
