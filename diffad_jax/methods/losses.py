"""The loss terms; each returns one value an example, the stage takes the mean."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from diffad_jax.types import AnomalyMaps, Array, FeatureMaps

Logits = Float[Array, "b h w 1"]


def l1(image: FeatureMaps, reconstruction: FeatureMaps) -> Float[Array, " b"]:
    """‖x − x̂‖₁ summed over pixels and channels."""
    return jnp.sum(jnp.abs(image - reconstruction), axis=(1, 2, 3))


def kl(mean: FeatureMaps, logvar: FeatureMaps) -> Float[Array, " b"]:
    """KL(N(mean, exp logvar) ‖ N(0, I)) summed over the latent."""
    return 0.5 * jnp.sum(mean**2 + jnp.exp(logvar) - 1.0 - logvar, axis=(1, 2, 3))


def squared_error(
    target: FeatureMaps, prediction: FeatureMaps, weight: Float[Array, "b h w 1"] | None = None
) -> Float[Array, " b"]:
    """‖ε − ε_θ‖² averaged over the latent.

    ``weight`` multiplies the square at each position; 1 where it is None.
    """
    squares = (target - prediction) ** 2
    return jnp.mean(squares if weight is None else weight * squares, axis=(1, 2, 3))


def hinge_discriminator(real: Logits, fake: Logits) -> Float[Array, " b"]:
    """½ (max(0, 1 − real) + max(0, 1 + fake)), the mean over patches."""
    both = jnp.maximum(1.0 - real, 0.0) + jnp.maximum(1.0 + fake, 0.0)
    return 0.5 * jnp.mean(both, axis=(1, 2, 3))


def hinge_generator(fake: Logits) -> Float[Array, " b"]:
    """−fake, the mean over patches."""
    return -jnp.mean(fake, axis=(1, 2, 3))


def adaptive_weight(
    likeness: Float[Array, "*shape"], adversarial: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """‖∇L_rec‖ / (‖∇L_G‖ + 1e-4), at most 1e4 (Esser et al., CVPR 2021, eq. 7).

    The arguments are the two terms' gradients at the same parameter. None flows through the result.
    """
    ratio = jnp.linalg.norm(likeness.ravel()) / (jnp.linalg.norm(adversarial.ravel()) + 1e-4)
    return jax.lax.stop_gradient(jnp.clip(ratio, 0.0, 1e4))


def focal(
    logits: Float[Array, "b h w 2"], mask: AnomalyMaps, gamma: float, smoothing: float = 1e-5
) -> Float[Array, " b"]:
    """Focal loss (Lin et al. 2017, without α) averaged over pixels.

    DRAEM's form: the one-hot label is clipped to [smoothing, 1 − smoothing] and ``smoothing`` is
    added to the probability of the true class.

    Args:
      logits: of normal and anomalous.
      mask: 1 where anomalous, 0 elsewhere.
      gamma: focusing exponent; 0 is cross-entropy.
      smoothing: see above.
    """
    label = jnp.clip(jnp.stack([1.0 - mask, mask], axis=-1), smoothing, 1.0 - smoothing)
    p_true = jnp.sum(label * jax.nn.softmax(logits), axis=-1) + smoothing
    # With smoothing, p_true may pass 1 by 1e-5, where a fractional power would be NaN.
    focus = jnp.maximum(1.0 - p_true, 0.0) ** gamma if gamma else 1.0
    return jnp.mean(-focus * jnp.log(p_true), axis=(1, 2))
