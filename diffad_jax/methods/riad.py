"""RIAD (Zavrtanik et al., Pattern Recognition 2021): parts of a photo are hidden and inpainted.

A place that cannot be inpainted from its surroundings is anomalous.
"""

import functools
import math

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jaxtyping import Float32

from diffad_jax.config import common
from diffad_jax.config.common import levels, steps
from diffad_jax.config.fields import COUNT, Field
from diffad_jax.errors import ConfigError
from diffad_jax.methods import similarity, train_state, validation
from diffad_jax.methods.computing import computing
from diffad_jax.methods.contract import Method, Stage
from diffad_jax.methods.filters import mean_filter
from diffad_jax.methods.train_state import Params, TrainState, Weights
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

NAME = "riad"
Config = ml_collections.FrozenConfigDict


def _check_squares(config: Config) -> None:
    sizes = tuple(config.riad.square_sizes)
    if any(side % size for size in sizes for side in height_width(config.image_size)):
        raise ConfigError(
            f"config.riad.square_sizes = {sizes}: each must divide config.image_size = "
            f"{config.image_size}"
        )


SECTION = common.trained(
    NAME,
    "As published but for the network.",
    _check_squares,
    **levels(64, (1, 2, 4, 8, 8)),
    patch_size=common.PATCH_SIZE,
    square_sizes=Field((2, 4, 8, 16), "sides in pixels of the squares that are hidden", COUNT),
    num_masks=Field(3, "parts in which a photo is inpainted", COUNT),
    **steps(epochs=300, batch_size=4, learning_rate=1e-4, decay="late"),
)


def inpainter(config: Config) -> Segmenter:
    """Its classes are the colours."""
    c = config.riad
    return Segmenter(
        channels=c.channels,
        multipliers=tuple(c.multipliers),
        patch_size=c.patch_size,
        num_classes=3,
        **computing(config),
    )


def make_optimizer(config: Config) -> optax.GradientTransformation:
    return train_state.optimizer(config.riad, config.training.gradient_clip)


def init_state(config: Config, key: jax.Array, earlier_weights: Weights, batch: Batch):
    del earlier_weights, batch
    init_key, run_key = jax.random.split(key)
    image = jnp.zeros((1, *height_width(config.image_size), 3))
    variables = inpainter(config).init(init_key, image, train=False)
    return train_state.of_variables(variables, make_optimizer(config), run_key)


def train_step(state: TrainState, earlier_weights: Weights, batch: Batch, *, config: Config):
    """One step of L = ‖x − x_r‖² + mean MSGMS loss + mean SSIM loss, squares of one size (eq. 7).

    Returns:
      The next state and scalar metrics.
    """
    del earlier_weights
    c, image = config.riad, to_float(batch["image"])
    size_key, mask_key = jax.random.split(train_state.step_key(state))
    which = jax.random.randint(size_key, (), 0, len(c.square_sizes))
    masks = disjoint_masks(mask_key, config)[which]

    def loss_fn(params):
        reconstruction, statistics = _inpaint(
            params, state.variables, image, masks, config, train=True
        )
        scales = similarity.gradient_similarities(image, reconstruction)
        terms = {
            "l2": jnp.mean((reconstruction - image) ** 2),
            "msgms": 1.0 - jnp.mean(jnp.stack([jnp.mean(x) for x in scales])),
            "ssim": 1.0 - jnp.mean(similarity.ssim(reconstruction, image)),
        }
        return sum(terms.values()), (terms, statistics)

    (loss, (terms, statistics)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    state = train_state.apply_gradients(state, gradients, make_optimizer(config))
    metrics = {"loss": loss, **terms, "gradient_norm": optax.tree.norm(gradients)}
    return state.replace(variables=statistics), metrics


def weights(state: TrainState) -> Params:
    """The weights that the detector needs."""
    return {"params": state.params, **state.variables}


def state_from_weights(state: TrainState, trained: Weights) -> TrainState:
    """See ``contract.Stage``."""
    return train_state.with_variables(state, trained[NAME])


def validate(weights: Weights, batch: Batch, *, config: Config) -> Validation:
    """PSNR of inpainted held-out photos, normal ones and ones with synthetic anomalies."""
    image, mask = to_float(batch["image"]), jnp.asarray(batch["anomaly_mask"], jnp.float32)
    augmented = to_float(batch["augmented_image"])
    run = functools.partial(predict, weights, seed=config.seed, config=config)
    normal, predicted = run(batch["image"]).reconstruction, run(batch["augmented_image"])
    brightest = jnp.max(predicted.anomaly_map)
    return Validation(
        metrics={
            "psnr_normal_db": validation.psnr(normal, image),
            "copied_inside_db": validation.psnr(predicted.reconstruction, augmented, mask),
        },
        pictures={
            "augmented photo": augmented,
            "reconstruction": predicted.reconstruction,
            "anomaly map, scaled": validation.grey(predicted.anomaly_map / brightest),
            "anomaly mask": validation.grey(mask[..., 0]),
        },
    )


def predict(weights: dict, images: Photos, *, seed: int | jax.Array, config: Config) -> Prediction:
    """See ``contract.Method``. The score is the largest value of the map.

    The map is the mean over the square sizes of 1 − MSGMS after a mean filter (eq. 8). All photos
    have the same squares, drawn from ``seed``. The reconstruction is the mean over the sizes.
    """
    trained, image = weights[NAME], to_float(images)
    statistics = {"batch_stats": trained["batch_stats"]}
    total_map, total_image = jnp.zeros(image.shape[:3]), jnp.zeros_like(image)
    sets = disjoint_masks(jax.random.key(seed), config)
    for masks in sets:
        reconstruction, _ = _inpaint(
            trained["params"], statistics, image, masks, config, train=False
        )
        total_image += reconstruction
        scales = similarity.gradient_similarities(image, reconstruction)
        large = [jax.image.resize(x, total_map.shape, "linear") for x in scales]
        total_map += 1.0 - jnp.mean(jnp.stack(large), axis=0)
    anomaly_map = mean_filter(total_map / len(sets), config.evaluation.smoothing)
    return Prediction(
        score=anomaly_map.max((1, 2)),
        anomaly_map=anomaly_map,
        reconstruction=jnp.clip(total_image / len(sets), 0.0, 1.0),
    )


def score_map(anomaly_map: AnomalyMaps, *, config: Config) -> AnomalyMaps:
    """See ``contract.Method``: the map as it is."""
    del config
    return anomaly_map


def describe(config: Config) -> dict[str, str]:
    """See ``contract.Method``."""
    c, width = config.riad, config.evaluation.smoothing
    return {
        "score": "the map's largest value",
        "map": "dissimilarity of gradient magnitudes at four scales, after a "
        f"{width} × {width} mean filter",
        "reconstruction": f"inpainted in {c.num_masks} parts, squares of "
        f"{', '.join(map(str, c.square_sizes))} pixels",
    }


def disjoint_masks(key: jax.Array, config: Config) -> Float32[jax.Array, "sizes n h w 1"]:
    """For each square size, n masks that together hide every pixel exactly once (section 3.1).

    They are 1 where the photo is shown, 0 in the squares that are hidden.
    """
    c = config.riad
    sets = []
    for i, size in enumerate(c.square_sizes):
        squares = [side // size for side in height_width(config.image_size)]
        order = jax.random.permutation(jax.random.fold_in(key, i), math.prod(squares))
        part = (order % c.num_masks).reshape(squares)
        part = jnp.repeat(jnp.repeat(part, size, axis=0), size, axis=1)
        hidden = part[None] == jnp.arange(c.num_masks)[:, None, None]
        sets.append(1.0 - hidden[..., None].astype(jnp.float32))
    return jnp.stack(sets)


def _inpaint(
    params: Params,
    statistics: Params,
    image: jax.Array,
    masks: jax.Array,
    config: Config,
    *,
    train: bool,
) -> tuple[jax.Array, Params]:
    """x_r = Σ (1 − M_i) f(M_i x) (eq. 2), [b, h, w, 3]; and the batch statistics after it.

    ``masks`` is [n, h, w, 1]; the n parts are one batch.
    """
    shown = masks[:, None] * image[None]
    logits, changed = inpainter(config).apply(
        {"params": params, **statistics},
        shown.reshape(-1, *image.shape[1:]),
        train=train,
        mutable=["batch_stats"],
    )
    guessed = jax.nn.sigmoid(logits).reshape(shown.shape)
    return jnp.sum((1.0 - masks[:, None]) * guessed, axis=0), changed


STAGE = Stage(
    name=NAME,
    sections=(*common.BY_STEPS, SECTION),
    section="riad",
    init_state=init_state,
    train_step=train_step,
    weights=weights,
    networks=lambda config: {NAME: inpainter(config)},
    state_from_weights=state_from_weights,
    validate=validate,
    best_by="psnr_normal_db",
)

METHOD = Method(
    name=NAME,
    sections=(*common.BY_STEPS, SECTION, common.SMOOTHING),
    stages=lambda config: (STAGE,),
    predict=predict,
    score_map=score_map,
    reconstructs=True,
    needs_synthesis=True,  # for its validation alone
    describe=describe,
)
