"""What the whole package raises."""


class ConvertError(ValueError):
    """A file cannot be converted; the message names the file, what is wrong and the remedy."""
