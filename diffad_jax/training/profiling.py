"""``--profile=FROM:TO``: a trace of some training steps, made by JAX's profiler."""

from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import jax

from diffad_jax.runtime import console


class Steps(NamedTuple):
    """Those to trace, in each stage that trains them; both ends included."""

    first: int
    last: int


def parse_steps(text: str) -> Steps:
    """``FROM:TO``, e.g. ``20:24``.

    Raises:
      ValueError: the text is something else.
    """
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
        raise ValueError(f"{text!r}: give the steps to trace as FROM:TO, e.g. 20:24")
    return Steps(int(first), int(last))


class Profiler:
    """Traces ``steps`` into ``directory``; nothing where ``steps`` is None.

    The trace opens in TensorBoard's profile plugin, and in ui.perfetto.dev
    (``perfetto_trace.json.gz``).
    """

    def __init__(self, steps: Steps | None, directory: Path):
        self._steps, self._directory, self._tracing = steps, directory, False

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._stop()

    def before(self, step: int) -> None:
        """To be called before ``step`` is dispatched."""
        if self._steps and step == self._steps.first:
            jax.profiler.start_trace(self._directory, create_perfetto_trace=True)
            self._tracing = True

    def after(self, step: int, result: object) -> None:
        """To be called with what ``step`` computes; waits for it where it is the last one."""
        if self._tracing and step == self._steps.last:
            jax.block_until_ready(result)
            self._stop()

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
            console.note(f"trace of the training steps in {self._directory}")
