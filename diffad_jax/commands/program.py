"""The program behind the command line: reads it, runs its mode, and says what went wrong."""

import signal
import sys
from collections.abc import Sequence

from absl import flags, logging

from diffad_jax.commands import command_line
from diffad_jax.commands.modes import MODES
from diffad_jax.errors import UserError, quieten_storage
from diffad_jax.methods.registry import check_config
from diffad_jax.runtime import console, machine, processes
from diffad_jax.runtime.compilation import keep_compiled
from diffad_jax.runtime.mirror import Mirrors
from diffad_jax.runtime.signals import ENDED, INTERRUPTED, Interruptible, Stopped

_EXTRAS = {  # what pip installs them with, by the package that is missing
    "tensorflow": "data",
    "tensorflow_datasets": "data",
    "flatbuffers": "export",
    "onnx": "export",
    "onnxruntime": "export",
    "tensorboardX": "tensorboard",
    **dict.fromkeys(("prometheus_client", "starlette", "uvicorn"), "serve"),
}


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the mode that the command line asks for; Ctrl-C ends it with one line."""
    try:
        with Interruptible():
            _run(sys.argv if argv is None else argv)
    except KeyboardInterrupt:
        console.note(ENDED)
        processes.end(INTERRUPTED)


def _run(argv: Sequence[str]) -> None:
    # Orbax reports every file at level INFO.
    logging.set_verbosity(logging.WARNING)
    logging.use_absl_handler()
    logging.get_absl_handler().setFormatter(None)  # a warning is its sentence, without a prefix
    quieten_storage()
    mirrors = Mirrors()
    try:
        config, mode = command_line.parse(argv, mirrors)
    except (UserError, flags.Error) as error:
        mirrors.forget()
        console.note(f"error: {error}")
        sys.exit(1)
    keep_compiled()
    processes.start()
    with processes.exit_together_on_failure():
        try:
            check_config(config)
            with mirrors.kept():
                MODES[mode](config, mode)
        except UserError as error:
            _end(str(error), error.exit_status)
        except Stopped:
            for number in (signal.SIGINT, signal.SIGTERM):  # it is on its way out
                signal.signal(number, signal.SIG_IGN)
            raise
        except ModuleNotFoundError as error:
            if error.name not in _EXTRAS:
                raise
            _end(
                f"--mode={mode} needs {error.name}, which is not installed: "
                f"pip install 'diffad_jax[{_EXTRAS[error.name]}]'"
            )
        except (OSError, RuntimeError, ValueError, AssertionError) as error:
            said = machine.describe(error, flags.FLAGS.output or flags.FLAGS.workdir)
            if said is None:
                raise
            _end(said)


def _end(message: str, status: int = 1) -> None:
    console.note(f"error: {message}")
    processes.end(status)
