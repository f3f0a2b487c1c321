"""A Gaussian of features in NumPy or JAX, updated set by set, without keeping the features."""

import flax.struct
from jaxtyping import Float

from diffad_jax.types import Array


@flax.struct.dataclass
class Statistics:
    """A Gaussian of n features at each position; its memory does not depend on n."""

    count: int | Array
    mean: Float[Array, "*positions d"]
    scatter: Float[Array, "*positions d d"]  # Σ (x - mean)(x - mean)ᵀ

    @property
    def covariance(self) -> Float[Array, "*positions d d"]:
        """Divided by n - 1; n must be at least 2."""
        return self.scatter / (self.count - 1)


def merge(a: Statistics, b: Statistics) -> Statistics:
    """The statistics of both (Chan, Golub and LeVeque, 1979); at least one side has features.

    Raises:
      ValueError: they are of different numbers of features.
    """
    require_equal_shapes(a, b)
    count = a.count + b.count
    shift = b.mean - a.mean
    between = shift[..., :, None] * shift[..., None, :]
    return Statistics(
        count=count,
        mean=a.mean + shift * (b.count / count),
        scatter=a.scatter + b.scatter + between * (a.count * b.count / count),
    )


def require_equal_shapes(a: Statistics, b: Statistics) -> None:
    """Raises ValueError where they are of different numbers of features."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"statistics of {a.mean.shape[-1]} and of {b.mean.shape[-1]} features do not mix"
        )
