"""Stage 3: the segmentation U-Net learns where a photo differs from its defect-free version."""

import jax
import jax.numpy as jnp
import ml_collections
import optax

from diffad_jax.config.common import BY_STEPS
from diffad_jax.methods import losses, train_state, validation
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.diffad import features, fields, networks, windows
from diffad_jax.methods.diffad.brightness import Exposed
from diffad_jax.methods.diffad.reconstruct import reconstruct
from diffad_jax.methods.diffad.segment import segment, segmenter_input
from diffad_jax.methods.train_state import Params, TrainState, Weights
from diffad_jax.types import Batch, Validation, to_float

NAME = "segmenter"
Config = ml_collections.FrozenConfigDict


def make_optimizer(config: Config) -> optax.GradientTransformation:
    return train_state.optimizer(config.segmentation, config.training.gradient_clip)


def init_state(config: Config, key: jax.Array, earlier_weights: Weights, batch: Batch):
    del earlier_weights, batch
    init_key, run_key = jax.random.split(key)
    channels = 3 * (2 + len(config.reconstruction.interpolation))
    inputs = jnp.zeros((1, *networks.seen_size(config), channels))
    maps = networks.no_features(config)
    variables = networks.segmenter(config).init(init_key, inputs, maps, train=False)
    return train_state.of_variables(variables, make_optimizer(config), run_key)


def train_step(state: TrainState, earlier_weights: Weights, batch: Batch, *, config: Config):
    """One step of the focal loss on concat(x_r, x_inter, x_a) against the anomaly mask.

    Returns:
      The next state and scalar metrics.
    """
    key = train_state.step_key(state)
    batch, gain = windows.drawn(earlier_weights, batch, "augmented_image", key, config=config)
    photo = Exposed(to_float(batch["augmented_image"]), gain)
    mask = jnp.squeeze(batch["anomaly_mask"], -1).astype(jnp.float32)
    reconstruction = reconstruct(
        earlier_weights,
        photo,
        key,
        config=config,
        num_steps=config.reconstruction.training_steps,
        shared_noise=False,
        label=batch.get("label"),
    )
    inputs = segmenter_input(reconstruction, photo, config=config)
    maps = features.compared(earlier_weights, reconstruction, photo, config=config)

    def loss_fn(params):
        logits, updated = networks.segmenter(config).apply(
            {"params": params, **state.variables}, inputs, maps, train=True, mutable=["batch_stats"]
        )
        focal = losses.focal(logits, mask, config.segmentation.focal_gamma)
        return jnp.mean(focal), updated

    (loss, updated), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    state = train_state.apply_gradients(state, gradients, make_optimizer(config))
    metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}
    return state.replace(variables=updated), metrics


def weights(state: TrainState) -> Params:
    """The weights that the detector needs."""
    return {"params": state.params, **state.variables}


def state_from_weights(state: TrainState, trained: Weights) -> TrainState:
    """See ``contract.Stage``."""
    return train_state.with_variables(state, trained[NAME])


def validate(weights: Weights, batch: Batch, *, config: Config) -> Validation:
    """Focal loss and pixel average precision on synthetic anomalies of held-out photos."""
    key = jax.random.key(config.seed)
    batch, gain = windows.drawn(weights, batch, "augmented_image", key, config=config)
    photo = Exposed(to_float(batch["augmented_image"]), gain)
    mask = jnp.squeeze(batch["anomaly_mask"], -1).astype(jnp.float32)
    reconstruction = reconstruct(
        weights, photo, key, config=config, num_steps=config.reconstruction.test_steps,
        label=batch.get("label"),
    )  # fmt: skip
    logits = segment(weights, reconstruction, photo, config=config)
    probability = jax.nn.softmax(logits)[..., 1]
    return Validation(
        metrics={
            "loss": jnp.mean(losses.focal(logits, mask, config.segmentation.focal_gamma)),
            "pixel_ap": validation.average_precision(mask, probability),
        },
        pictures={
            "augmented photo": photo.image,
            "reconstruction": reconstruction.reconstruction,
            "anomaly map": validation.grey(probability),
            "anomaly mask": validation.grey(mask),
        },
    )


STAGE = Stage(
    name=NAME,
    sections=(
        *BY_STEPS,
        fields.AUTOENCODER,
        fields.DIFFUSION,
        fields.SEGMENTATION,
        fields.FEATURES,
        fields.RECONSTRUCTION,
    ),
    section="segmentation",
    init_state=init_state,
    train_step=train_step,
    weights=weights,
    networks=lambda config: {NAME: networks.segmenter(config)},
    state_from_weights=state_from_weights,
    validate=validate,
    best_by="pixel_ap",
)
