"""Every photo at the same brightness as the networks see it; not in the paper.

How bright a whole photo is says little of defects, and in a dark photo they are small differences.
Outside the networks images stay in their own light.
"""

import jax
import jax.numpy as jnp
import ml_collections

_DARKEST = 0.02  # root mean square, of which darker photos are taken to be


def gain(image: jax.Array, *, config: ml_collections.FrozenConfigDict) -> jax.Array:
    """What the networks see ``image`` multiplied by: [b, h, w, 3] in [0, 1] -> [b, 1, 1, 1].

    It brings the root mean square over pixels and channels to ``config.autoencoder.exposure``; it
    is 1 where that is 0.
    """
    if not config.autoencoder.exposure:
        return jnp.ones((len(image), 1, 1, 1))
    square = jnp.mean(image * image, (1, 2, 3), keepdims=True)
    return config.autoencoder.exposure * jax.lax.rsqrt(jnp.maximum(square, _DARKEST**2))
