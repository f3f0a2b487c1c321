"""How far a photo's features are from those of normal photos, beside the segmenter's map.

Not in the paper. A denoiser of few steps rebuilds what it has not seen (a part in the wrong place,
another surface) half as the photo shows it, half as normal photos do, and its segmenter knows drawn
anomalies alone. Distances to patches of normal photos (PatchCore, Roth et al., CVPR 2022) see such
defects, though coarsely. They make the map, and count more where the segmenter suspects something.
"""

import itertools
from collections.abc import Iterator

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from jaxtyping import Float

from diffad_jax.methods import backbone, patch_bank
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.coreset import Candidates, coreset
from diffad_jax.methods.diffad import brightness, features, fields, networks
from diffad_jax.methods.train_state import Params, Weights
from diffad_jax.runtime.sharding import over_photos
from diffad_jax.types import AnomalyMaps, Array, Images, Photos, height_width, to_float

NAME = "memory"
Config = ml_collections.FrozenConfigDict
_MAX_CANDIDATES = 50_000  # patches that the bank is chosen from, a uniform sample of all
_PROJECTION = 128  # dimensions that distances are compared in while choosing
SUSPICION = 2.0  # so many times more a distance counts where the segmenter is sure
_SEEN = 224  # pixels, the side of what the network learned from; smaller photos are enlarged twice
_ASIDE = 8  # one photo of so many is not in the bank, but says how far normal patches are from it
_MAX_ASIDE = 32
_SMALLEST_SCALE = np.float32(1e-6)  # where all photos are alike
_SIGMA = 0.5  # of the Gaussian filter over distances, in patches


def fit(config: Config, photos: Iterator[Photos], earlier_weights: Weights) -> Params:
    """See ``contract.Stage``: {"bank": [k, c] float16, "scale": [] float32}.

    ``scale`` is how far the farthest patch of a normal photo is from the bank, in the median of
    photos that the bank does not hold: of every eighth one. Of fewer than eight all are in the
    bank, and measured.
    """
    candidates, aside, number = None, [], itertools.count(1)
    for found in over_photos(_of_pixels, earlier_weights, photos, config):
        rows = np.asarray(found).reshape(len(found), -1, found.shape[-1])
        candidates = candidates or Candidates(_MAX_CANDIDATES, rows.shape[-1], config.seed)
        for photo in rows:
            if next(number) % _ASIDE == 0 and len(aside) < _MAX_ASIDE:
                aside.append(photo)
            else:
                candidates.add(photo)
    rows = candidates.features()
    # At most half of all, so that the bank's own photos are not all at distance zero.
    bank = coreset(
        rows, max(1, min(config.memory.patches, len(rows) // 2)), _PROJECTION, config.seed
    )
    farthest = jax.jit(lambda patches, bank: patch_bank.nearest(patches[None], bank)[0].max())
    scale = np.median([farthest(np.float32(photo), bank) for photo in aside or [rows]])
    return {"bank": bank, "scale": np.maximum(np.float32(scale), _SMALLEST_SCALE)}


def distances(weights: Weights, image: Images, *, config: Config) -> AnomalyMaps:
    """In units in which a normal photo just exceeds 1."""
    fitted, found = weights[NAME], patches(weights, image, config=config)
    b, h, w, channels = found.shape
    distance, _ = patch_bank.nearest(found.reshape(b, h * w, channels), fitted["bank"])
    size = height_width(config.image_size)
    return backbone.upsampled_and_smoothed(
        distance.reshape(b, h, w) / fitted["scale"], size, _SIGMA * size[0] / h
    )


def patches(weights: Weights, image: Images, *, config: Config) -> Float[Array, "b _ _ c"]:
    """Features of patches in the light in which the networks see photos.

    A patch is the mean of four: places of the finest features tell hardly more, at four times the
    time.
    """
    seen = brightness.gain(weights, image, config=config) * image
    b, height, width, channels = seen.shape
    if min(height, width) < _SEEN:
        seen = jax.image.resize(
            seen, (b, 2 * height, 2 * width, channels), "linear", antialias=False
        )
    params = weights[features.NAME][backbone.NAME]
    maps = backbone.layers_of(networks.feature_network(config), params, seen)
    found = patch_bank.joined([maps[name] for name in networks.memory_layers(config)])
    return nn.avg_pool(found, (2, 2), (2, 2), padding="SAME", count_include_pad=False)


def _of_pixels(weights: Weights, images: Photos, *, config: Config) -> jax.Array:
    return patches(weights, to_float(images), config=config)


STAGE = Stage(name=NAME, sections=(fields.FEATURES, fields.MEMORY), fit=fit)
