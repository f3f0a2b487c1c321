"""The detector gets better by its inspectors: corrections, and calibrations that follow them."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffad_jax.data import corrections, images
from diffad_jax.data.corrections import Correction, Corrections, Measured, Taken
from diffad_jax.data.photo import BadImage
from diffad_jax.errors import UserError
from diffad_jax.inference.calibration import load_or_choose, measured
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.train_state import Weights
from diffad_jax.runtime import lock
from diffad_jax.serve import model
from diffad_jax.serve.model import Model
from diffad_jax.serve.service import Inspected, Service
from diffad_jax.training.held_out import load_split
from diffad_jax.types import Prediction


class LearningError(UserError):
    """It cannot be done now; the message says why."""


class _Proposal(NamedTuple):
    """A calibration that can be taken."""

    stands_on: tuple[Model, list[Correction], list[Correction]]
    fitted: Weights
    accepted: dict[str, Measured]  # by SHA-256
    threshold: float
    effect: dict[str, Any]  # what clients are told


class Learning:
    """What one category's inspectors say, and what follows from it."""

    def __init__(self, service: Service, trained: Detector, workdir: Path, category: str):
        """Reads what is kept; see ``holding`` for who may.

        Args:
          service: its model is that of ``present``.
          trained: the detector as training left it.
          workdir: holds the category's folder.
          category: its name.
        """
        self._service, self._trained = service, trained
        self._workdir, self._category = workdir, category
        self._corrections = Corrections(workdir / category)
        self._photos = load_split(trained.config, workdir / category, category)
        self._turn = asyncio.Lock()
        self._last: _Proposal | None = None

    async def keep(self, inspected: Inspected, label: str, who: str) -> None:
        """Keeps a photo and what was said of it; both are on the disk when this returns.

        Raises:
          LearningError: no such label.
          OSError: the disk is full, or refuses.
        """
        if label not in corrections.LABELS:
            raise LearningError(f"label={label!r}: choose one of {', '.join(corrections.LABELS)}")
        upload, found = inspected.upload, inspected.found
        correction = Correction(
            sha256=inspected.sha256,
            name=upload.name,
            label=label,
            who=who,
            when=corrections.now(),
            file=corrections.file_name(inspected.sha256, upload.data),
            detector=inspected.model.mark,
            measured=measured(found.score, found.anomaly_map),
        )
        await asyncio.to_thread(self._corrections.keep, upload.data, correction)
        self._service.common.counts.corrections.labels(label).inc()

    def state(self) -> dict[str, Any]:
        """How many photos have which label, and the calibrations, the present one last.

        ``known`` are the good ones that were trained on or held out, and so choose no threshold.
        """
        taken = [
            {
                "who": t.who,
                "when": t.when,
                "threshold": t.threshold,
                "num_accepted": len(t.accepted),
                "counts": t.detector == self._trained.mark,
            }
            for t in self._corrections.taken
        ]
        good, defects = self._corrections.of("good"), self._corrections.of("defect")
        return {
            "good": len(good),
            "known": len(good) - len(self._accepted()),
            "defect": len(defects),
            "calibrations": taken,
        }

    def _accepted(self) -> list[Correction]:
        """Good photos that choose the threshold: without those that training knows."""
        known = {*self._photos.train.values(), *self._photos.held_out.values()}
        return [c for c in self._corrections.of("good") if c.sha256 not in known]

    async def effect(self) -> dict[str, Any]:
        """What recalibration would change; see ``take``."""
        async with self._turn:
            return (await asyncio.to_thread(self._propose)).effect

    async def take(self, threshold: float, who: str) -> dict[str, Any]:
        """Takes the calibration whose effect was shown, which has this threshold.

        Raises:
          LearningError: corrections that came since have moved it; there is none.
          OSError: the disk is full, or refuses.
        """
        async with self._turn:
            found = await asyncio.to_thread(self._propose)
            if found.threshold != threshold:
                raise LearningError(
                    f"by now the threshold would be {found.threshold!r}: look at the effect again"
                )
            mark = self._trained.mark
            taken = Taken(who, corrections.now(), mark, found.threshold, found.accepted)
            await asyncio.to_thread(self._corrections.take, taken, found.fitted)
            await self._renew()
            return found.effect

    async def undo(self, who: str) -> None:
        """The calibration before the present one counts again.

        Raises:
          LearningError: the present one is the first.
          OSError: the disk is full, or refuses.
        """
        async with self._turn:
            if not self._corrections.taken:
                raise LearningError("there is no calibration to undo: this is the first one")
            await asyncio.to_thread(self._corrections.undo, who)
            await self._renew()

    async def _renew(self) -> None:
        found = await asyncio.to_thread(present, self._trained, self._workdir, self._category)
        self._service.model = found

    def _propose(self) -> _Proposal:
        """The calibration by all accepted photos; found once for the same ones."""
        before = self._service.model
        if before.calibration.threshold is None:
            why = before.calibration.why_no_threshold
            raise LearningError(f"there is no threshold to move: {why}")
        good, defects = self._accepted(), self._corrections.of("defect")
        stands_on = (before, good, defects)
        if self._last is None or self._last.stands_on != stands_on:
            self._last = self._found(*stands_on)
        return self._last

    def _found(self, before: Model, good: list[Correction], defects: list[Correction]) -> _Proposal:
        trained = self._trained
        fitted = trained.fitted_with(self._windows(good), len(self._photos.train)) if good else {}
        after = trained.recalibrated(fitted)

        def measure(kept: list[Correction]) -> tuple[dict[str, Measured], dict[str, Measured]]:
            of_before = self._measure(kept, before.mark, before.predict)
            return of_before, self._measure(kept, after.mark, after.predict_all)

        accepted, marked = measure(good), measure(defects)
        # What the level was fitted on says little of photos that it was not fitted on.
        unfitted = self._measure(good, trained.mark, trained.predict_all)
        calibration = load_or_choose(
            trained.config, self._workdir, self._category, after, accepted=[*unfitted.values()]
        )

        def alarms(old: Iterable[float], new: Iterable[float]) -> dict[str, int]:
            kept = [*old]
            return {
                "before": sum(score > before.calibration.threshold for score in kept),
                "after": sum(score > calibration.threshold for score in new),
                "of": len(kept),
            }

        effect = {
            "threshold": {"before": before.calibration.threshold, "after": calibration.threshold},
            "held_out_called_anomalous": alarms(
                before.calibration.held_out_scores, calibration.held_out_scores
            ),
            "accepted_called_anomalous": alarms(*map(_scores, accepted)),
            "defects_called_anomalous": alarms(*map(_scores, marked)),
            "refitted": [*fitted],
        }
        return _Proposal((before, good, defects), fitted, unfitted, calibration.threshold, effect)

    def _measure(
        self,
        kept: list[Correction],
        mark: str,
        predict: Callable[[np.ndarray, int], Prediction],
    ) -> dict[str, Measured]:
        """By the detector of this mark; what another one measured is scored again."""
        found = {each.sha256: each.measured for each in kept}
        others = [each for each in kept if each.detector != mark]
        size = self._service.model.batch_size
        for i, windows in enumerate(self._windows(others)):
            again = predict(windows, size)
            for j, each in enumerate(others[i * size : (i + 1) * size]):
                found[each.sha256] = measured(float(again.score[j]), again.anomaly_map[j])
        return found

    def _windows(self, kept: Sequence[Correction]) -> Iterator[np.ndarray]:
        """What the detector sees of kept photos, in batches [b, *image_size, 3] uint8."""
        of = self._service.model
        for start in range(0, len(kept), of.batch_size):
            windows = []
            for each in kept[start : start + of.batch_size]:
                try:
                    pixels = images.read_bytes(self._corrections.photo(each), of.rules)
                except BadImage as error:
                    raise LearningError(f"{each.file} {error}") from error
                windows.append(images.resized(pixels, of.image_size, of.rules.resize))
            yield np.stack(windows)


def present(trained: Detector, workdir: Path, category: str) -> Model:
    """The model that counts: as trained, and as inspectors calibrated it last."""
    detector = trained.as_inspected(workdir / category)
    calibration = load_or_choose(trained.config, workdir, category, detector)
    return model.of_detector(detector, calibration)


@contextlib.contextmanager
def holding(workdir: Path, category: str) -> Iterator[None]:
    """While entered, no other server keeps corrections of the category.

    Raises:
      lock.LockedError: another one does.
      OSError: nothing can be written there.
    """
    with lock.hold(workdir / category / corrections.FOLDER):
        yield


def _scores(found: dict[str, Measured]) -> list[float]:
    return [each.score for each in found.values()]
