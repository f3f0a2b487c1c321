"""Errors that a user can put right: the program ends with the message, without a traceback."""

import errno
import logging
import sys


class UserError(ValueError):
    """Bad input, of any kind; the message names the file or the field, and the remedy."""

    exit_status = 1  # of the program


class ConfigError(UserError):
    """A config field has an impossible value; the message names the field and possible values."""


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk is full: by the error's number, or by its text, as from TensorStore."""
    number = getattr(error, "errno", None)
    return number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)


def is_refused(error: BaseException) -> bool:
    """Whether the system forbids this user to read or write a file."""
    number = getattr(error, "errno", None)
    return number in (errno.EACCES, errno.EPERM, errno.EROFS)


def quieten_storage() -> None:
    """Mutes the tracebacks that Orbax and TensorStore print where a disk is full, or refuses.

    Whoever waits for the checkpoint gets the error itself.
    """
    for source in ("absl", "asyncio"):
        logging.getLogger(source).addFilter(
            lambda record: (
                not (
                    record.exc_info
                    and (is_disk_full(record.exc_info[1]) or is_refused(record.exc_info[1]))
                )
            )
        )
    sys.unraisablehook = _unraisable


def _unraisable(found: "sys.UnraisableHookArgs") -> None:
    """Mutes TensorStore's error once Orbax has given up waiting; prints any other."""
    if str(found.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(found)
