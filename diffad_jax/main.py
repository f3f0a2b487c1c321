"""Flags only: ``python -m diffad_jax.main --config=configs/mvtec.py:bottle --workdir=runs/a``."""

import logging as stdlib_logging
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from diffad_jax import processes
from diffad_jax.check_config import check_config
from diffad_jax.compilation import keep_compiled
from diffad_jax.errors import UserError, is_disk_full
from diffad_jax.modes import MODES

_CONFIG = config_flags.DEFINE_config_file("config", None, "FILE or FILE:CATEGORY.")
_MODE = flags.DEFINE_enum(
    "mode", "train", list(MODES), "; ".join(f"{name}: {mode.help}" for name, mode in MODES.items())
)
flags.mark_flags_as_required(["config"])
_MAKE_ROOM = "Make room below --workdir or --output, and run the same command again."


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; every option begins with --")
    # Orbax reports every file at level INFO, and a full disk with tracebacks of its own.
    logging.set_verbosity(logging.WARNING)
    for source in ("absl", "asyncio"):
        stdlib_logging.getLogger(source).addFilter(
            lambda record: not (record.exc_info and is_disk_full(record.exc_info[1]))
        )
    config = _CONFIG.value
    keep_compiled()
    processes.start()
    with processes.leaving_the_others():
        try:
            check_config(config)
            MODES[_MODE.value](config, _MODE.value)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_status)
        except OSError as error:
            if not is_disk_full(error):
                raise
            print(f"error: {error}. {_MAKE_ROOM}", file=sys.stderr)
            sys.exit(1)


def _parse(argv: list[str]) -> list[str]:
    """A misspelt field surfaces here, while the flags override the config."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, OSError) as error:
        sys.exit(f"error: the flags name a file or a config field that does not exist: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
