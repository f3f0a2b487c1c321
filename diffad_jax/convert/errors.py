"""The error of the whole package."""

from diffad_jax.errors import UserError


class ConvertError(UserError):
    """A file cannot be converted; the message names the file, what is wrong and the remedy."""
