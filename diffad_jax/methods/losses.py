"""The loss terms; each returns one value an example, the stage takes the mean."""

import jax
import jax.numpy as jnp


def l1(image: jax.Array, reconstruction: jax.Array) -> jax.Array:
    """‖x − x̂‖₁ summed over pixels and channels: [b, h, w, c] twice -> [b]."""
    _same_shape(image, reconstruction)
    return jnp.sum(jnp.abs(image - reconstruction), axis=(1, 2, 3))


def kl(mean: jax.Array, logvar: jax.Array) -> jax.Array:
    """KL(N(mean, exp logvar) ‖ N(0, I)) summed over the latent: [b, h, w, c] twice -> [b]."""
    _same_shape(mean, logvar)
    return 0.5 * jnp.sum(mean**2 + jnp.exp(logvar) - 1.0 - logvar, axis=(1, 2, 3))


def squared_error(
    target: jax.Array, prediction: jax.Array, weight: jax.Array | None = None
) -> jax.Array:
    """‖ε − ε_θ‖² averaged over the latent: [b, h, w, c] twice -> [b].

    ``weight`` [b, h, w, 1] multiplies the square at each position; 1 where it is None.
    """
    _same_shape(target, prediction)
    squares = (target - prediction) ** 2
    return jnp.mean(squares if weight is None else weight * squares, axis=(1, 2, 3))


def hinge_discriminator(real: jax.Array, fake: jax.Array) -> jax.Array:
    """½ (max(0, 1 − real) + max(0, 1 + fake)), mean over patches: logits [b, h, w, 1] -> [b]."""
    _same_shape(real, fake)
    both = jnp.maximum(1.0 - real, 0.0) + jnp.maximum(1.0 + fake, 0.0)
    return 0.5 * jnp.mean(both, axis=(1, 2, 3))


def hinge_generator(fake: jax.Array) -> jax.Array:
    """−fake, the mean over patches: logits [b, h, w, 1] -> [b]."""
    return -jnp.mean(fake, axis=(1, 2, 3))


def adaptive_weight(likeness: jax.Array, adversarial: jax.Array) -> jax.Array:
    """‖∇L_rec‖ / (‖∇L_G‖ + 1e-4), at most 1e4 (Esser et al., CVPR 2021, eq. 7).

    Args:
      likeness, adversarial: the two terms' gradients at the same parameter, any shape.

    Returns:
      []; no gradient flows through it.
    """
    _same_shape(likeness, adversarial)
    ratio = jnp.linalg.norm(likeness.ravel()) / (jnp.linalg.norm(adversarial.ravel()) + 1e-4)
    return jax.lax.stop_gradient(jnp.clip(ratio, 0.0, 1e4))


def focal(logits: jax.Array, mask: jax.Array, gamma: float, smoothing: float = 1e-5) -> jax.Array:
    """Focal loss (Lin et al. 2017, without α) averaged over pixels.

    DRAEM's form: the one-hot label is clipped to [smoothing, 1 − smoothing] and ``smoothing`` is
    added to the probability of the true class.

    Args:
      logits: [b, h, w, 2], the last axis normal and anomalous.
      mask: [b, h, w], 1 where anomalous, 0 elsewhere.
      gamma: focusing exponent; 0 is cross-entropy.
      smoothing: see above.

    Returns:
      [b]
    """
    if logits.shape != (*mask.shape, 2):
        raise ValueError(f"logits {logits.shape} do not fit mask {mask.shape}: want [b, h, w, 2]")
    label = jnp.clip(jnp.stack([1.0 - mask, mask], axis=-1), smoothing, 1.0 - smoothing)
    p_true = jnp.sum(label * jax.nn.softmax(logits), axis=-1) + smoothing
    # With smoothing, p_true may pass 1 by 1e-5, where a fractional power would be NaN.
    focus = jnp.maximum(1.0 - p_true, 0.0) ** gamma if gamma else 1.0
    return jnp.mean(-focus * jnp.log(p_true), axis=(1, 2))


def _same_shape(a: jax.Array, b: jax.Array) -> None:
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
