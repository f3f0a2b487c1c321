"""The error of the whole package."""

from diffad_jax.errors import UserError


class ExportError(UserError):
    """A model cannot be exported; the message names the cause and the remedy."""
