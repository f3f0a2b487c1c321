"""What training leaves to be looked at: metrics.jsonl and pictures always, TensorBoard's files too
where tensorboardX is installed."""

import importlib.util
import json
import time
from pathlib import Path

import jax
import numpy as np

from diffad_jax.data import pictures
from diffad_jax.runtime import files
from diffad_jax.runtime.regular import open_regular

_MOST_BYTES, _MOST_LINE = 2**32, 2**16  # of metrics.jsonl


class Journal:
    """One stage's record in ``directory``; only process 0 writes, the others do nothing.

    A run that goes on from a checkpoint writes again what came after it, so that is removed first.
    """

    def __init__(self, directory: Path, title: str, stage: str, start: int):
        self._title, self._stage, self._directory = title, stage, directory
        self._file, self._tensorboard = None, None
        if jax.process_index() != 0:
            return
        path = directory / "metrics.jsonl"
        if path.exists():
            _forget(path, title, start)
        self._file = path.open("a", encoding="utf-8")
        if importlib.util.find_spec("tensorboardX"):
            self._tensorboard = _EventFile(directory / "tensorboard" / stage, start)

    def write(self, step: int, metrics: dict[str, float | None]) -> None:
        """One line of metrics.jsonl, with the stage and the step; one point of each curve."""
        if not self._file:
            return
        self._file.write(json.dumps({"stage": self._title, "step": step, **metrics}) + "\n")
        self._file.flush()
        if self._tensorboard:
            for name, value in metrics.items():
                if value is not None:
                    self._tensorboard.add_scalar(f"{self._stage}/{name}", value, step)
            self._tensorboard.flush()

    def show(self, step: int, columns: dict[str, np.ndarray]) -> None:
        """The newest pictures, each row an example: ``pictures/STAGE.png``.

        Args:
          step: at which they were made.
          columns: title -> [n, h, w, 3] float in [0, 1].
        """
        if not self._file:
            return
        lines = zip(*map(pictures.to_bytes, columns.values()), strict=True)
        rows = [pictures.Row(f"example {i}, step {step}", line) for i, line in enumerate(lines)]
        path = self._directory / "pictures" / f"{self._stage}.png"
        sheet = pictures.contact_sheet(path, tuple(columns), rows)
        if self._tensorboard:
            self._tensorboard.add_image(self._stage, sheet, step)

    def close(self) -> None:
        for file in (self._file, self._tensorboard):
            if file:
                file.close()


class _EventFile:
    """What TensorBoard reads. It hides the points behind step ``start`` of files before this one.

    Not tensorboardX's ``SummaryWriter``: that writes in a thread, which a full disk ends, and then
    waits for it for ever.
    """

    def __init__(self, folder: Path, start: int):
        from tensorboardX import event_file_writer, summary
        from tensorboardX.proto import event_pb2

        folder.mkdir(parents=True, exist_ok=True)
        self._summary, self._event = summary, event_pb2.Event
        self._file = event_file_writer.EventsWriter(str(folder / "events"), f".{start}")
        begins = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._file.write_event(self._event(step=start + 1, session_log=begins))
        self.flush, self.close = self._file.flush, self._file.close

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._add(step, self._summary.scalar(name, value))

    def add_image(self, name: str, image: np.ndarray, step: int) -> None:
        """[h, w, 3] uint8."""
        self._add(step, self._summary.image(name, image, dataformats="HWC"))

    def _add(self, step: int, content: object) -> None:
        self._file.write_event(self._event(step=step, wall_time=time.time(), summary=content))


def _forget(path: Path, title: str, start: int) -> None:
    """Removes the stage's lines behind step ``start``, and those that are cut off or damaged."""
    with files.whole(path) as new, open_regular(path, _MOST_BYTES) as old, new.open("wb") as kept:
        while line := old.readline(_MOST_LINE):
            try:
                entry = json.loads(line)
                if entry["stage"] != title or entry["step"] <= start:
                    kept.write(line.rstrip(b"\n") + b"\n")
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
