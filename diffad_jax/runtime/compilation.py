"""Compiles each program once, for all categories of a run and for later runs."""

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

import jax
import ml_collections

from diffad_jax.runtime import caches

logger = logging.getLogger(__name__)
_PROGRAMS = 64  # more than a method has
_QUICKLY = (("xla_backend_optimization_level", 1),)  # 0 gives other bits


def keep_compiled() -> None:
    """Turns on JAX's persistent compilation cache, below the user's cache folder.

    JAX_COMPILATION_CACHE_DIR names another folder; JAX_ENABLE_COMPILATION_CACHE=false turns it off.
    The key of an entry holds the kind of device, so machines may share the folder. If it cannot be
    written to, a note says that programs are not kept.
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


def jitted(
    function: Callable[..., Any],
    config: ml_collections.FrozenConfigDict,
    *,
    out_shardings: Any = None,
    donate_argnums: tuple[int, ...] = (),
    runs_once: bool = False,
    **static: Any,
) -> Callable[..., Any]:
    """``jax.jit`` of ``function(…, config=config, **static)``.

    The same arguments give the same object, whose programs are compiled already. Categories differ
    in fields that shape no program: ``function`` sees the first category's.

    Args:
      function: a function of a module, because another object would be compiled anew.
      config: the whole config.
      out_shardings: as for ``jax.jit``.
      donate_argnums: as for ``jax.jit``.
      runs_once: a CPU's compiler then spends no time on making it fast.
      **static: further arguments, hashable.
    """
    shardings, tree = jax.tree.flatten(out_shardings)
    static = tuple(sorted(static.items()))
    options = _QUICKLY if runs_once and jax.default_backend() == "cpu" else ()
    return _jitted(
        function, _shaping(config), tree, tuple(shardings), donate_argnums, options, static
    )


@functools.lru_cache(_PROGRAMS)
def _jitted(function, config, tree, shardings, donate_argnums, options, static):
    return jax.jit(
        _bound(function, config, static),
        out_shardings=jax.tree.unflatten(tree, shardings),
        donate_argnums=donate_argnums,
        compiler_options=dict(options) or None,
    )


@functools.lru_cache(_PROGRAMS)
def _bound(function, config, static):
    """One object for all ``jax.jit`` of it, so that it is traced once for all."""
    return functools.partial(function, config=config, **dict(static))


def _shaping(config: ml_collections.FrozenConfigDict) -> ml_collections.FrozenConfigDict:
    """``config`` without fields that differ by category and only name the data to read."""
    changed = ml_collections.ConfigDict(config).copy_and_resolve_references()
    with changed.unlocked():
        changed.categories = ()
        changed.data.bit_depth = 8
    return ml_collections.FrozenConfigDict(changed)
