"""The contract of export formats."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from diffad_jax.export.artifact import Detect
from diffad_jax.export.graph import Model


class Format(NamedTuple):
    """A line of the registry.

    Attributes:
      write: (model, folder): writes the files of the graph.
      load: (folder, card) -> the graph as a function; None where the files hold no graph. Exported
        folders carry its source, so it imports its own packages; ``np``, ``Path``, ``Detect`` and
        ``artifact`` are there. It gets its files' paths from ``artifact.listed``.
      runtime: the packages that ``load`` and ``run.py`` need.
      readme: text on the format for users of the folder, as Markdown.
      takes_seed: whether the graph takes a seed; otherwise the default one is inside.
      dtype: the graph's compute dtype; empty where it takes any detector's.
      exact: whether scores equal ``predict``'s up to rounding; else the graph gets a threshold of
        its own.
      common: files of the graph that categories of one export may have in common; they lie once in
        ``artifact.SHARED``. Of tensors those that ``Model.common`` names.
      tensors: (folder, card) -> the tensors that the graph takes, on the device, by the names of
        ``graph.weights_by_name``. None where they are inside the graph.
      write_int8: (model, folder, photos [n, h, w, 3] uint8): like ``write``, with convolutions in 8
        bits; the photos give their ranges. None where the format has no such graph.
    """

    write: Callable[[Model, Path], None]
    load: Callable[[Path, dict], Detect] | None
    runtime: tuple[str, ...]
    readme: str
    takes_seed: bool = True
    dtype: str = ""
    exact: bool = True
    common: tuple[str, ...] = ()
    tensors: Callable[[Path, dict], dict[str, jax.Array]] | None = None
    write_int8: Callable[[Model, Path, np.ndarray], None] | None = None
