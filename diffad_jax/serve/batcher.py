"""The one thread that owns the device and scores waiting photos in batches."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from diffad_jax.types import Prediction

_Job = tuple[np.ndarray, "Future[Found]"]


class Stopping(Exception):
    """The server is closing and takes nothing new."""


class Found(NamedTuple):
    """The detector's result for one photo."""

    score: float
    anomaly_map: np.ndarray  # [s, s] float32
    reconstruction: np.ndarray | None  # [s, s, 3] float32 in [0, 1]


class Batcher:
    """Collects photos up to a size or a time, whichever comes first.

    A batch is filled up to the next power of two. So few programs are compiled, and a single photo
    does not cost a whole batch.
    """

    def __init__(
        self,
        predict: Callable[[np.ndarray, int], Prediction],
        most: int,
        wait: float = 0.005,
    ):
        """Starts the thread.

        Args:
          predict: (images [b, s, s, 3] uint8, batch size ≥ b) -> results of b photos as NumPy.
          most: photos of a batch.
          wait: seconds that a photo waits for others, where the device is free.
        """
        self._predict, self._most, self._wait = predict, most, wait
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed, self._lock = False, threading.Lock()
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    def sizes(self) -> list[int]:
        """The sizes of batches on the device, rising."""
        powers = [2**i for i in range(self._most.bit_length()) if 2**i < self._most]
        return [*powers, self._most]

    def submit(self, image: np.ndarray) -> "Future[Found]":
        """Hands over a photo, [s, s, 3] uint8. Raises Stopping once it is closed."""
        future: Future[Found] = Future()
        with self._lock:
            if self._closed:
                raise Stopping("the server is stopping")
            self._jobs.put((image, future))
        return future

    def close(self) -> None:
        """Finishes what was handed over, then ends the thread."""
        with self._lock:
            if not self._closed:
                self._jobs.put(None)
            self._closed = True
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch, last = self._gather(job)
            self._finish(batch)
            if last:
                return

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        """A batch, and whether nothing comes after it."""
        batch, until = [first], time.monotonic() + self._wait
        while len(batch) < self._most:
            try:
                job = self._jobs.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _finish(self, batch: list[_Job]) -> None:
        try:
            images = np.stack([image for image, _ in batch])
            size = next(s for s in self.sizes() if s >= len(batch))
            found = self._predict(images, size)
        except Exception as error:  # the waiting request reports it, and the thread goes on
            for _, future in batch:
                future.set_exception(error)
            return
        for i, (_, future) in enumerate(batch):
            made = None if found.reconstruction is None else found.reconstruction[i]
            future.set_result(Found(float(found.score[i]), found.anomaly_map[i], made))
