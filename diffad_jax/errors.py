"""What a user can put right; the program ends with the message instead of a traceback."""


class UserError(ValueError):
    """Bad input, of any kind; the message names the file or the field, and the remedy."""

    exit_status = 1  # of the program
