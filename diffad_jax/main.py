"""Flags only: ``python -m diffad_jax.main --config=configs/mvtec.py:bottle --workdir=runs/a``."""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

from diffad_jax.commands.modes import MODES
from diffad_jax.config.check import check_config
from diffad_jax.errors import UserError, quieten_storage
from diffad_jax.runtime import console, machine, processes
from diffad_jax.runtime.compilation import keep_compiled

_CONFIG = config_flags.DEFINE_config_file("config", None, "FILE or FILE:CATEGORY.")
_MODE = flags.DEFINE_enum(
    "mode", "train", list(MODES), "; ".join(f"{name}: {mode.help}" for name, mode in MODES.items())
)
flags.mark_flags_as_required(["config"])


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; every option begins with --")
    # Orbax reports every file at level INFO.
    logging.set_verbosity(logging.WARNING)
    quieten_storage()
    config = _CONFIG.value
    keep_compiled()
    processes.start()
    with processes.exit_together_on_failure():
        try:
            check_config(config)
            MODES[_MODE.value](config, _MODE.value)
        except UserError as error:
            console.note(f"error: {error}")
            processes.end(error.exit_status)
        except (OSError, RuntimeError, ValueError, AssertionError) as error:
            said = machine.describe(error, flags.FLAGS.output or flags.FLAGS.workdir)
            if said is None:
                raise
            console.note(f"error: {said}")
            processes.end(1)


def _parse(argv: list[str]) -> list[str]:
    """A misspelt field surfaces here, while the flags override the config."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, OSError) as error:
        sys.exit(f"error: the flags name a file or a config field that does not exist: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
