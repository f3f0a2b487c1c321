"""A thread that scores waiting photos in batches, with the device for itself meanwhile."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

_Job = tuple[np.ndarray, "Future[Any]"]


class Stopping(Exception):
    """The server is closing and takes nothing new."""


class Batcher:
    """Collects photos up to a size or a time, whichever comes first.

    A batch is filled up to the next power of two. So few programs are compiled, and a single photo
    does not cost a whole batch.
    """

    def __init__(
        self,
        predict: Callable[[np.ndarray, int], Sequence[Any]],
        most: int,
        device: threading.Lock,
        wait: float = 0.005,
    ):
        """Starts the thread.

        Args:
          predict: (images [b, s, s, 3] uint8, batch size ≥ b) -> the results of b photos.
          most: photos of a batch.
          device: held while ``predict`` runs.
          wait: seconds that a photo waits for others, where the device is free.
        """
        self._predict, self._most, self._device, self._wait = predict, most, device, wait
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed, self._lock = False, threading.Lock()
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    def sizes(self) -> list[int]:
        """The sizes of batches on the device, rising."""
        powers = [2**i for i in range(self._most.bit_length()) if 2**i < self._most]
        return [*powers, self._most]

    def warm_up(self, image_size: tuple[int, int]) -> None:
        """Compiles ``predict`` for photos of this size, for all sizes of batches."""
        for size in self.sizes():
            self._predict(np.zeros((1, *image_size, 3), np.uint8), size)

    def submit(self, image: np.ndarray) -> "Future[Any]":
        """Hands over a photo, [s, s, 3] uint8. Raises Stopping once it is closed."""
        future: Future[Any] = Future()
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
        # A request that was given up takes no result; setting it would end the thread.
        batch = [job for job in batch if job[1].set_running_or_notify_cancel()]
        if not batch:
            return
        try:
            images = np.stack([image for image, _ in batch])
            size = next(s for s in self.sizes() if s >= len(batch))
            with self._device:
                found = self._predict(images, size)
        except Exception as error:  # the waiting request reports it, and the thread goes on
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), result in zip(batch, found, strict=True):
            future.set_result(result)
