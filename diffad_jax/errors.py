"""What a user can put right; the program ends with the message instead of a traceback."""

import errno


class UserError(ValueError):
    """Bad input, of any kind; the message names the file or the field, and the remedy."""

    exit_status = 1  # of the program


def is_disk_full(error: BaseException) -> bool:
    """Whether the system says so, or TensorStore, which tells it in its text alone."""
    number = getattr(error, "errno", None)
    return number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)
