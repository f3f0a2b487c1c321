"""A Gaussian of features, set by set, without keeping them: NumPy's arrays or JAX's."""

import flax.struct
import jax
import numpy as np


@flax.struct.dataclass
class Statistics:
    """All that a Gaussian needs of n features, at each position there is; its size knows no n."""

    count: int | jax.Array
    mean: np.ndarray | jax.Array  # [..., d]
    scatter: np.ndarray | jax.Array  # [..., d, d]: Σ (x - mean)(x - mean)ᵀ

    @property
    def covariance(self) -> np.ndarray | jax.Array:
        """[..., d, d], divided by n - 1; n must be at least 2."""
        return self.scatter / (self.count - 1)


def merge(a: Statistics, b: Statistics) -> Statistics:
    """Of the features of both (Chan, Golub and LeVeque, 1979); at least one side must have some.

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
