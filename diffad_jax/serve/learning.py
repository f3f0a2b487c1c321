"""The detector gets better by its inspectors: corrections, and thresholds that follow them."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diffad_jax.data import corrections
from diffad_jax.data.corrections import Correction, Corrections, Measured, Taken
from diffad_jax.errors import UserError
from diffad_jax.inference.calibration import (
    Calibration,
    detector_mark,
    load_or_choose,
    measured,
)
from diffad_jax.runtime import lock
from diffad_jax.serve.limits import Upload
from diffad_jax.serve.service import Inspected, Service


class LearningError(UserError):
    """It cannot be done now; the message says why."""


class Learning:
    """What one category's inspectors say, and what follows from it."""

    def __init__(self, service: Service, workdir: Path, category: str):
        """Reads what is kept; see ``holding`` for who may."""
        self._service, self._workdir, self._category = service, workdir, category
        self._corrections = Corrections(workdir / category)
        self._mark = detector_mark(service.detector)
        self._turn = asyncio.Lock()

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
            detector=self._mark,
            measured=measured(found.score, found.anomaly_map),
        )
        await asyncio.to_thread(self._corrections.keep, upload.data, correction)
        self._service.counts.corrections.labels(label).inc()

    def state(self) -> dict[str, Any]:
        """How many photos have which label, and the calibrations, the present one last."""
        taken = [
            {
                "who": t.who,
                "when": t.when,
                "threshold": t.threshold,
                "num_accepted": len(t.accepted),
                "counts": t.detector == self._mark,
            }
            for t in self._corrections.taken
        ]
        labels = ("good", "defect")
        return {name: len(self._corrections.of(name)) for name in labels} | {"calibrations": taken}

    async def effect(self) -> dict[str, Any]:
        """What recalibration would change; see ``take``."""
        async with self._turn:
            return (await self._proposed())[0]

    async def take(self, threshold: float, who: str) -> dict[str, Any]:
        """Takes the calibration whose effect was shown, which has this threshold.

        Raises:
          LearningError: corrections that came since have moved it; there is none.
          OSError: the disk is full, or refuses.
        """
        async with self._turn:
            effect, found, accepted = await self._proposed()
            if found.threshold != threshold:
                raise LearningError(
                    f"by now the threshold would be {found.threshold!r}: look at the effect again"
                )
            taken = Taken(who, corrections.now(), self._mark, found.threshold, accepted)
            await asyncio.to_thread(self._corrections.take, taken)
            self._service.calibration = found
            return effect

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
            self._service.calibration = await asyncio.to_thread(self._choose, None)

    async def _proposed(self) -> tuple[dict[str, Any], Calibration, dict[str, Measured]]:
        before = self._service.calibration
        if before.threshold is None:
            raise LearningError(f"there is no threshold to move: {before.why_no_threshold}")
        accepted = await self._measure(self._corrections.of("good"))
        defects = await self._measure(self._corrections.of("defect"))
        after = await asyncio.to_thread(self._choose, [*accepted.values()])

        def above(scores: Iterable[float], of: int) -> dict[str, int]:
            kept = [*scores]
            return {
                "before": sum(score > before.threshold for score in kept),
                "after": sum(score > after.threshold for score in kept),
                "of": of,
            }

        effect = {
            "threshold": {"before": before.threshold, "after": after.threshold},
            "held_out_called_anomalous": above(before.held_out_scores, len(before.held_out_scores)),
            "accepted_called_anomalous": above((m.score for m in accepted.values()), len(accepted)),
            "defects_called_anomalous": above((m.score for m in defects.values()), len(defects)),
        }
        return effect, after, accepted

    def _choose(self, accepted: Sequence[Measured] | None) -> Calibration:
        detector = self._service.detector
        return load_or_choose(
            detector.config, self._workdir, self._category, detector, accepted=accepted
        )

    async def _measure(self, kept: Iterable[Correction]) -> dict[str, Measured]:
        """By the present detector: what another one measured is scored again."""
        found = {}
        for each in kept:
            found[each.sha256] = each.measured
            if each.detector != self._mark:
                data = await asyncio.to_thread(self._corrections.photo, each)
                again = (await self._service.inspect(Upload(each.name, data))).found
                found[each.sha256] = measured(again.score, again.anomaly_map)
        return found


@contextlib.contextmanager
def holding(workdir: Path, category: str) -> Iterator[None]:
    """While entered, no other server keeps corrections of the category.

    Raises:
      lock.LockedError: another one does.
      OSError: nothing can be written there.
    """
    with lock.hold(workdir / category / corrections.FOLDER):
        yield
