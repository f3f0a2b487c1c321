"""PatchCore (Roth et al., CVPR 2022): distances to a memory bank of normal patches.

A patch is the average of 3 × 3 features of a trained network's middle layers. The bank is a coreset
of the normal photos' patches, and a photo's map holds the distances of its patches to the nearest
ones in the bank.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Float, Int

from diffad_jax.config.fields import COUNT, POSITIVE, PREDICTION, Field, section
from diffad_jax.methods import backbone, patch_bank
from diffad_jax.methods.contract import Method, Stage, Telling
from diffad_jax.methods.coreset import Candidates, coreset
from diffad_jax.methods.train_state import Params, Weights
from diffad_jax.runtime.sharding import over_photos
from diffad_jax.types import Array, Photos, Prediction, height_width

NAME = "patchcore"
Config = ml_collections.FrozenConfigDict
SECTION = section(
    NAME,
    "As published for a bank of one in a hundred patches.",
    bank_share=Field(0.01, "of the normal photos' patches", "(0, 1]"),
    max_bank=Field(10_000, "patches at most", COUNT),
    max_candidates=Field(
        200_000, "patches that the bank is chosen from, a uniform sample of all", COUNT
    ),
    projection=Field(128, "dimensions of distances while the bank is chosen", COUNT),
    neighbours=Field(
        9,
        "of the bank's nearest patch, which weigh a score; 1: no weighing",
        COUNT,
        use=PREDICTION,
    ),
    smoothing_sigma=Field(
        4.0, "of the Gaussian filter over the map, in pixels", POSITIVE, use=PREDICTION
    ),
)


def patches(params: Params, images: Photos, *, config: Config) -> Float[Array, "b _ _ c"]:
    """See ``patch_bank.joined``."""
    return patch_bank.joined(backbone.maps(params, images, config=config))


def fit(config: Config, photos: Iterator[Photos], earlier_weights: Weights) -> Params:
    """See ``contract.Stage``."""
    c, params, candidates = config.patchcore, earlier_weights["backbone"], None
    for found in over_photos(patches, params, photos, config):
        rows = found.reshape(-1, found.shape[-1])
        candidates = candidates or Candidates(c.max_candidates, rows.shape[-1], config.seed)
        candidates.add(rows)
    features = candidates.features()
    count = min(max(round(c.bank_share * candidates.seen), 1), c.max_bank, len(features))
    bank = coreset(features, count, c.projection, config.seed)
    return {"backbone": jax.device_get(params), "bank": bank}


def reweighted(
    patch: Float[Array, "b c"],
    distance: Float[Array, " b"],
    index: Int[Array, " b"],
    bank: patch_bank.Bank,
    neighbours: int,
) -> Float[Array, " b"]:
    """Image scores from the most anomalous patch of each photo (equation 7).

    s = (1 - exp ‖m_test - m*‖ / Σ_m exp ‖m_test - m‖) ‖m_test - m*‖. Here m* is the bank's patch
    nearest to m_test. m runs over the ``neighbours`` patches nearest to m*, m* included. So a patch
    counts more where the bank is sparse.

    Args:
      patch: m_test.
      distance, index: the distance to m*, and its index.
      bank: of normal patches.
      neighbours: below 2 (or with a bank of one) the distances stay as they are.
    """
    neighbours = min(neighbours, len(bank))
    if neighbours < 2:
        return distance
    bank = bank.astype(jnp.float32)
    # Sorted, because TensorFlow cannot yet read the graph that JAX writes for top_k.
    around = jax.vmap(lambda x: jnp.argsort(patch_bank.length(bank - x[None]))[:neighbours])(
        bank[index]
    )
    to_all = patch_bank.length(patch[:, None] - bank[around])
    return (1.0 - jnp.exp(distance - jax.nn.logsumexp(to_all, axis=-1))) * distance


def predict(weights: dict, images: Photos, *, seed: int | jax.Array, config: Config) -> Prediction:
    """See ``contract.Method``."""
    del seed  # nothing is drawn
    c, fitted = config.patchcore, weights[NAME]
    found = patches(fitted["backbone"], images, config=config)
    b, h, w, channels = found.shape
    rows = found.reshape(b, h * w, channels)
    distance, index = patch_bank.nearest(rows, fitted["bank"])
    worst, photo = distance.argmax(1), jnp.arange(b)
    score = reweighted(
        rows[photo, worst], distance[photo, worst], index[photo, worst], fitted["bank"],
        c.neighbours,
    )  # fmt: skip
    anomaly_map = backbone.upsampled_and_smoothed(
        distance.reshape(b, h, w), height_width(config.image_size), c.smoothing_sigma
    )
    return Prediction(score=score, anomaly_map=anomaly_map)


def _features(params: Params, images: Photos, *, config: Config) -> patch_bank.Patches:
    found = patches(params, images, config=config)
    return found.reshape(len(images), -1, found.shape[-1])


def tell(config: Config) -> Telling:
    """See ``contract.Method``: by the median of a photo's patches."""
    del config
    return Telling(
        network=lambda weights: weights[NAME]["backbone"],
        features=_features,
        distance=_distance,
    )


def _distance(
    weights: Weights, patches: patch_bank.Patches, *, config: Config
) -> Float[Array, " b"]:
    del config
    return patch_bank.median_distance(patches, weights[NAME]["bank"])


def describe(config: Config) -> dict[str, str]:
    """See ``contract.Method``."""
    c, b = config.patchcore, config.backbone
    return {
        "score": "the largest distance of a patch to the bank, "
        f"weighed by {c.neighbours} neighbours",
        "map": "distances of patches to the bank, smoothed by a Gaussian of "
        f"{c.smoothing_sigma:g} pixels",
        "features": f"{b.name}, {', '.join(b.layers)}",
        "bank": f"a share of {c.bank_share:g} of the normal patches, {c.max_bank} at most",
    }


STAGE = Stage(
    name=NAME, sections=(backbone.SECTION, SECTION), pretrained=backbone.pretrained, fit=fit
)

METHOD = Method(
    name=NAME,
    sections=(backbone.SECTION, SECTION),
    stages=lambda config: (STAGE,),
    predict=predict,
    tell=tell,
    score_map=None,  # a score is a weighed distance
    reconstructs=False,
    needs_synthesis=False,
    describe=describe,
)
