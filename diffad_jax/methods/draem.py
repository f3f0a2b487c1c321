"""DRAEM (Zavrtanik et al., ICCV 2021): an autoencoder removes anomalies, and a segmenter (also
DiffAD's) marks what it changed; both learn together."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from diffad_jax.config import common
from diffad_jax.config.common import levels, steps
from diffad_jax.methods import filters, losses, similarity, train_state, validation
from diffad_jax.methods.computing import computing
from diffad_jax.methods.contract import Method, Stage
from diffad_jax.methods.train_state import Params, TrainState, Weights
from diffad_jax.models.reconstructor import Reconstructor
from diffad_jax.models.segmenter import Segmenter
from diffad_jax.types import (
    AnomalyMaps,
    Batch,
    Photos,
    Prediction,
    Validation,
    height_width,
    to_float,
)

NAME = "draem"
Config = ml_collections.FrozenConfigDict
SECTION = common.trained(
    NAME,
    "As published.",
    **levels(128, (1, 2, 4, 8, 8), "reconstructor_", " of the reconstructor"),
    **levels(64, (1, 2, 4, 8, 8, 8), "segmenter_", " of the segmenter"),
    patch_size=common.PATCH_SIZE,
    focal_gamma=common.FOCAL_GAMMA,
    **steps(epochs=700, batch_size=8, learning_rate=1e-4, decay="steps"),
)


def reconstructor(config: Config) -> Reconstructor:
    c = config.draem
    return Reconstructor(
        channels=c.reconstructor_channels,
        multipliers=tuple(c.reconstructor_multipliers),
        patch_size=c.patch_size,
        **computing(config),
    )


def segmenter(config: Config) -> Segmenter:
    c = config.draem
    return Segmenter(
        channels=c.segmenter_channels,
        multipliers=tuple(c.segmenter_multipliers),
        patch_size=c.patch_size,
        **computing(config),
    )


def networks(config: Config) -> dict[str, nn.Module]:
    """See ``contract.Stage``."""
    return {"reconstructor": reconstructor(config), "segmenter": segmenter(config)}


def make_optimizer(config: Config) -> optax.GradientTransformation:
    return train_state.optimizer(config.draem, config.training.gradient_clip)


def init_state(config: Config, key: jax.Array, earlier_weights: Weights, batch: Batch):
    del earlier_weights, batch
    keys = jax.random.split(key, 3)
    image = jnp.zeros((1, *height_width(config.image_size), 3))
    both = jnp.concatenate([image, image], axis=-1)
    made = {
        "reconstructor": reconstructor(config).init(keys[0], image, train=False),
        "segmenter": segmenter(config).init(keys[1], both, train=False),
    }
    params = {name: variables["params"] for name, variables in made.items()}
    statistics = {name: variables["batch_stats"] for name, variables in made.items()}
    opt_state = make_optimizer(config).init(params)
    return train_state.create(params, opt_state, keys[2], variables=statistics)


def train_step(state: TrainState, earlier_weights: Weights, batch: Batch, *, config: Config):
    """One step of L = ‖x − x_r‖² + (1 − SSIM(x_r, x)) + L_focal, x_r made of x_a (eqs. 2 to 5).

    Returns:
      The next state and scalar metrics.
    """
    del earlier_weights
    image, augmented = to_float(batch["image"]), to_float(batch["augmented_image"])
    mask = jnp.squeeze(batch["anomaly_mask"], -1).astype(jnp.float32)

    def loss_fn(params):
        reconstruction, logits, statistics = _run(
            params, state.variables, augmented, config, train=True
        )
        terms = {
            "l2": jnp.mean((reconstruction - image) ** 2),
            "ssim": 1.0 - jnp.mean(similarity.ssim(reconstruction, image)),
            "focal": jnp.mean(losses.focal(logits, mask, config.draem.focal_gamma)),
        }
        return sum(terms.values()), (terms, statistics)

    (loss, (terms, statistics)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    state = train_state.apply_gradients(state, gradients, make_optimizer(config))
    metrics = {"loss": loss, **terms, "gradient_norm": optax.tree.norm(gradients)}
    return state.replace(variables=statistics), metrics


def weights(state: TrainState) -> Params:
    """The weights that the detector needs."""
    return {"params": state.params, "batch_stats": state.variables}


def state_from_weights(state: TrainState, trained: Weights) -> TrainState:
    """See ``contract.Stage``: ``reconstructor`` and ``segmenter``."""
    return state.replace(
        params={name: variables["params"] for name, variables in trained.items()},
        variables={name: variables["batch_stats"] for name, variables in trained.items()},
    )


def validate(weights: Weights, batch: Batch, *, config: Config) -> Validation:
    """Pixel average precision, and PSNR of the reconstruction, on held-out synthetic anomalies."""
    image, mask = to_float(batch["image"]), jnp.asarray(batch["anomaly_mask"], jnp.float32)
    predicted = predict(weights, batch["augmented_image"], seed=config.seed, config=config)
    return Validation(
        metrics={
            "pixel_ap": validation.average_precision(mask[..., 0], predicted.anomaly_map),
            "repaired_inside_db": validation.psnr(predicted.reconstruction, image, mask),
            "repaired_outside_db": validation.psnr(predicted.reconstruction, image, 1.0 - mask),
        },
        pictures={
            "augmented photo": to_float(batch["augmented_image"]),
            "reconstruction": predicted.reconstruction,
            "anomaly map": validation.grey(predicted.anomaly_map),
            "anomaly mask": validation.grey(mask[..., 0]),
        },
    )


def predict(weights: dict, images: Photos, *, seed: int | jax.Array, config: Config) -> Prediction:
    """See ``contract.Method``; map and score are those of DiffAD."""
    del seed  # nothing is drawn
    trained = weights[NAME]
    reconstruction, logits, _ = _run(
        trained["params"], trained["batch_stats"], to_float(images), config, train=False
    )
    anomaly_map = jax.nn.softmax(logits)[..., 1]
    c = config.evaluation
    return Prediction(
        score=filters.image_score(anomaly_map, c.smoothing, c.smoothing_power),
        anomaly_map=anomaly_map,
        reconstruction=jnp.clip(reconstruction, 0.0, 1.0),
    )


def score_map(anomaly_map: AnomalyMaps, *, config: Config) -> AnomalyMaps:
    """See ``contract.Method``."""
    c = config.evaluation
    return filters.power_mean_filter(anomaly_map, c.smoothing, c.smoothing_power)


def describe(config: Config) -> dict[str, str]:
    """See ``contract.Method``."""
    c = config.evaluation
    return {"score": filters.describe(c.smoothing, c.smoothing_power)}


def _run(
    params: Params, statistics: Params, image: jax.Array, config: Config, *, train: bool
) -> tuple[jax.Array, jax.Array, Params]:
    """x_r [b, h, w, 3], logits [b, h, w, 2] of concat(x_r, x), batch statistics after it."""
    after = {}

    def apply(name, network, x):
        variables = {"params": params[name], "batch_stats": statistics[name]}
        result, changed = network.apply(variables, x, train=train, mutable=["batch_stats"])
        after[name] = changed["batch_stats"]
        return result

    reconstruction = apply("reconstructor", reconstructor(config), image)
    both = jnp.concatenate([reconstruction, image], axis=-1)
    return reconstruction, apply("segmenter", segmenter(config), both), after


STAGE = Stage(
    name=NAME,
    sections=(*common.BY_STEPS, SECTION),
    section="draem",
    init_state=init_state,
    train_step=train_step,
    weights=weights,
    networks=networks,
    state_from_weights=state_from_weights,
    validate=validate,
    best_by="pixel_ap",
)

METHOD = Method(
    name=NAME,
    sections=(*common.BY_STEPS, SECTION, common.SMOOTHING, common.SMOOTHING_POWER),
    stages=lambda config: (STAGE,),
    predict=predict,
    score_map=score_map,
    map_range=lambda config: (0.0, 1.0),  # probabilities
    reconstructs=True,
    needs_synthesis=True,
    describe=describe,
)
