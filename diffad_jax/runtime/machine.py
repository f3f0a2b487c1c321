"""Faults of the machine in words: folders that refuse, devices that are not there."""

import errno

import jax

from diffad_jax.errors import is_disk_full, is_refused

# Errors that the place causes, not the program.
_OF_THE_PLACE = (
    errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.ESTALE,
    errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT, errno.ENXIO, errno.EFBIG,
)  # fmt: skip


def describe(error: Exception, place: object) -> str | None:
    """A sentence on what to do; None for any other error.

    Args:
      error: the error that ended the work.
      place: a folder to name if the error names none.
    """
    if isinstance(error, OSError):
        where = error.filename or place
        if is_disk_full(error):
            return f"{where}: the disk is full. Make room and run the same command again."
        if is_refused(error):
            return (
                f"{where}: {error.strerror}. Change its permissions, or choose a folder that this "
                "user may read and write."
            )
        if error.errno in _OF_THE_PLACE:
            return (
                f"{where}: {error.strerror}. Mend or remove what is there, or choose another path."
            )
        return None
    if "PERMISSION_DENIED" in str(error) or "Permission denied" in str(error):  # of TensorStore
        return f"{place}: a file there cannot be read or written by this user: {_first(error)}"
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as missing:
        wanted = jax.config.jax_platforms
        return (
            f"JAX_PLATFORMS={wanted} asks for devices that JAX does not find here"
            f"{': ' if str(missing) else ''}{_first(missing)}. Unset it to take what is there, or "
            "install what is missing (README.md names the packages)"
        )
    return None


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
