"""Puts every photo into the same light before the networks see it; not in the paper.

The brightness of a whole photo says little about defects, and in a dark photo defects are small
differences. The places that look as on normal photos decide a photo's light, so even a large defect
does not change it. Outside the networks images stay in their own light.

Where categories share their networks, a photo is compared with the category that it resembles most.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Float

from diffad_jax.methods.contract import Stage
from diffad_jax.methods.diffad import fields
from diffad_jax.methods.train_state import Params, Weights
from diffad_jax.types import Array, Images, Photos, to_float

NAME = "light"
Config = ml_collections.FrozenConfigDict
_CELLS = 16  # a side; light is compared by their means, in which texture evens out
_DARK = 0.005  # is added to brightness in [0, 1], so that black has no ratio
_ITERATIONS = 10
_SMALLEST_WIDTH = 0.05  # of the log of a ratio; places within it count as alike


class Exposed(NamedTuple):
    """Photos, or windows of them, beside the factor that gives them the networks' light."""

    image: Images
    gain: Float[Array, "b 1 1 1"]

    @property
    def seen(self) -> Images:
        """What the networks see."""
        return self.gain * self.image


def exposed(weights: Weights, image: Images, *, config: Config) -> Exposed:
    """``image`` beside its ``gain``."""
    return Exposed(image, gain(weights, image, config=config))


def fit(config: Config, photos: Iterator[Photos], earlier_weights: Weights) -> Params:
    """See ``contract.Stage``: how bright normal photos are, by place.

    Returns:
      ``level`` [16, 16], the photos' median of log brightness, each photo in its mean light;
      ``width`` [], the distance of normal places from it; ``gain`` [], which brings the level's
      root mean square to ``config.autoencoder.exposure``. All float32.
    """
    del earlier_weights
    cells = np.concatenate([np.asarray(_log_cells(to_float(batch))) for batch in photos])
    light = cells.mean((1, 2), keepdims=True)
    level = np.median(cells - light, axis=0) + np.median(light)
    ratios = cells - level
    width = 2.0 * np.median(np.abs(ratios - np.median(ratios, axis=(1, 2), keepdims=True)))
    gain = config.autoencoder.exposure / np.sqrt(np.mean(np.exp(2.0 * level)))
    found = {"level": level, "width": max(width, _SMALLEST_WIDTH), "gain": gain}
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def join(fitted: Sequence[Params]) -> Params:
    """See ``contract.Stage``: ``level`` [k, 16, 16], ``width`` [k], ``gain`` [k]."""
    return jax.tree.map(lambda *values: np.stack(values), *fitted)


def gain(weights: Weights, image: Images, *, config: Config) -> Float[Array, "b 1 1 1"]:
    """The factor of ``image`` before the networks.

    Places that look normal share one ratio of brightness to normal photos, which is the photo's
    light. It is estimated as the mode next to 1 of all places' ratios, by reweighted means (a
    redescending M-estimate: Huber and Ronchetti, Robust Statistics, 2009). The gain is 1 where
    ``config.autoencoder.exposure`` is 0.

    Of several categories that one counts whose normal photos explain most of the places, by the
    bounded loss that the means minimise (Geman and McClure 1985), in the largest of their widths.
    """
    if not config.autoencoder.exposure:
        return jnp.ones((image.shape[0], 1, 1, 1))
    fitted, cells = weights[NAME], _log_cells(image)
    if fitted["level"].ndim == 2:
        shift, _ = _shift(cells, fitted["level"], fitted["width"])
        return (fitted["gain"] * jnp.exp(-shift))[..., None]
    widest = jnp.max(fitted["width"])

    def of_category(level: jax.Array, width: jax.Array, exposed: jax.Array):
        shift, ratios = _shift(cells, level, width)
        squares = ((ratios - shift) / widest) ** 2
        importance = jnp.exp(level) / jnp.sum(jnp.exp(level))
        cost = jnp.sum(importance[None] * squares / (1.0 + squares), (1, 2), keepdims=True)
        return exposed * jnp.exp(-shift), cost

    # Mapped, since thirty categories one by one would be compiled thirty times.
    gains, costs = jax.vmap(of_category)(*(fitted[name] for name in ("level", "width", "gain")))
    nearest = costs == jnp.min(costs, axis=0, keepdims=True)
    return jnp.min(jnp.where(nearest, gains, jnp.inf), axis=0)[..., None]


def _shift(cells: jax.Array, level: jax.Array, width: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The log of a photo's light [b, 1, 1], and of each place's ratio to normal [b, 16, 16]."""
    ratios = cells - level[None]
    importance = jnp.exp(level)[None]  # light shows where it is bright
    shift = jnp.zeros((cells.shape[0], 1, 1))
    for _ in range(_ITERATIONS):
        near = importance / (1.0 + ((ratios - shift) / width) ** 2) ** 2
        shift = jnp.sum(near * ratios, (1, 2), keepdims=True) / jnp.sum(near, (1, 2), keepdims=True)
    return shift, ratios


def _log_cells(image: jax.Array) -> jax.Array:
    """[b, h, w, 3] in [0, 1] -> [b, 16, 16]: the log of each cell's brightness."""
    grey = jnp.mean(image, -1)
    cells = jax.image.resize(grey, (grey.shape[0], _CELLS, _CELLS), "linear", antialias=True)
    return jnp.log(cells + _DARK)


def _shapes(config: Config) -> Params:
    sizes = {"level": (_CELLS, _CELLS), "width": (), "gain": ()}
    each = (len(config.categories),) if config.shared else ()
    return {name: jax.ShapeDtypeStruct(each + size, jnp.float32) for name, size in sizes.items()}


STAGE = Stage(
    name=NAME,
    sections=(fields.AUTOENCODER.only("exposure"),),
    fit=fit,
    fitted_shapes=_shapes,
    join=join,
)
