"""Kills a training with SIGKILL, damages its files and fills its disk; is what it ends in the same?

Each restart has to end in the state of an uninterrupted run, bit for bit, or to stop with an error
that names the file and the remedy; and no stage that was finished may be trained again.
"""

import argparse
import collections
import contextlib
import json
import os
import platform
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from tests.slow.fault_files import drill_files, drill_gone
from tests.slow.tiny import CATEGORY, NAMES, Tiny, final_state

STEPS = 6
PARTS = ("kills", "checkpoints", "gone", "disk")
_SHARES = {"any moment": 18, "save": 13, "between stages": 7, "evaluation": 4, "live": 5,
           "recording": 3}  # fmt: skip
_TOGETHER = 8  # kills of one training, before it may end
_POLL_SECONDS = 0.01


class Kill(NamedTuple):
    """A moment: ``delay`` seconds after ``aim`` is there, for the ``count``-th time if a save."""

    number: int
    aim: str
    count: int
    delay: float


class Outcome(NamedTuple):
    kind: str
    result: str  # "same", "clear error", or what is wrong
    detail: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", choices=PARTS, help="instead of all of them")
    parser.add_argument("--json", type=Path, help="also write the metrics there")
    args = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fault_drill.") as folder:
        outcomes = _Drill(Path(folder)).run(args.only, args.kills, args.seed)
    metrics = _tally(outcomes) | {
        "kills": args.kills,
        "seed": args.seed,
        "seconds": round(time.monotonic() - started),
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "outcomes": [o._asdict() for o in outcomes],
    }
    if args.json:
        args.json.write_text(json.dumps(metrics, indent=1) + "\n")
    print(json.dumps({k: v for k, v in metrics.items() if k != "outcomes"}))


def _tally(outcomes: list[Outcome]) -> dict:
    """Prints how often which kind of fault ended how."""
    count = collections.Counter((o.kind, o.result) for o in outcomes)
    good = ("same", "clear error", "not run: needs root")
    bad = sum(n for (_, result), n in count.items() if result not in good)
    print(f"\n{'fault':<44} {'times':>5}  end")
    for (kind, result), n in sorted(count.items()):
        print(f"{kind:<44} {n:>5}  {result}")
    return {"faults": len(outcomes), "bad": bad, "tally": [[*k, n] for k, n in count.items()]}


class _Drill:
    def __init__(self, folder: Path):
        self.folder = folder
        self.tiny = Tiny(folder / "data", STEPS, batch_size=2, checkpoint_every=2)
        self.log = folder / "log"
        self.outcomes: list[Outcome] = []
        self.trainings = 0

    def run(self, only: str | None, kills: int, seed: int) -> list[Outcome]:
        self._uninterrupted()
        if only in (None, "kills"):
            self._kills(plan(kills, seed, self.seconds))
        for part, drill in (("checkpoints", drill_files), ("gone", drill_gone)):
            for outcome in drill(self) if only in (None, part) else ():
                self.note(*outcome)
        if only in (None, "disk"):
            self._full_disk()
        return self.outcomes

    def note(self, kind: str, result: str, detail: str) -> None:
        print(f"  {kind}: {result} ({detail})", flush=True)
        self.outcomes.append(Outcome(kind, result, detail))

    def workdir(self) -> Path:
        """A fresh one."""
        self.trainings += 1
        return self.folder / f"training{self.trainings}"

    def train(self, workdir: Path, **how: object) -> int:
        return self.tiny.run(self.log, f"--workdir={workdir}", **how)

    def _uninterrupted(self) -> None:
        """The first run compiles, the second shows that runs are equal at all."""
        if self.tiny.record(self.log):
            raise SystemExit(self.log.read_text())
        states = []
        for live in (True, False, False):
            started = time.monotonic()
            self.finished = self.workdir()
            if self.train(self.finished, live=live):
                raise SystemExit(self.log.read_text())
            self.seconds = time.monotonic() - started
            states.append(final_state(self.finished, STEPS))
        if states[1] != states[2]:
            raise SystemExit("two uninterrupted runs differ: nothing can be shown here")
        self.expected = {True: states[0], False: states[1]}
        print(f"uninterrupted: {self.seconds:.0f} s, {STEPS} steps a stage", flush=True)

    def compare(self, workdir: Path, live: bool = False) -> str:
        try:
            found = final_state(workdir, STEPS)
        except (OSError, ValueError, KeyError) as error:
            return f"unfinished: {error}"
        differing = [k for k, v in self.expected[live].items() if found[k] != v]
        if list((workdir / CATEGORY).glob("*/*.orbax-checkpoint-tmp*")):
            differing.append("half a checkpoint is left")
        return f"differs: {', '.join(differing)}" if differing else "same"

    def _kills(self, kills: list[Kill]) -> None:
        """Several kills go to one training; it is compared when it has got to its end."""
        recordings = [k for k in kills if k.aim == "recording"]
        live = [k for k in kills if k.aim == "live"]
        rest = [k for k in kills if k not in recordings and k not in live]
        self._kill_recordings(recordings)
        for group in (live, *(rest[i : i + _TOGETHER] for i in range(0, len(rest), _TOGETHER))):
            self._one_training(collections.deque(group), live=group is live)

    def _one_training(self, kills: collections.deque[Kill], live: bool) -> None:
        hits: list[tuple[str, str]] = []
        workdir = self.workdir()
        while kills or hits:
            before = finished_stages(workdir)
            kill, since = kills.popleft() if kills else None, time.time()
            process = self.tiny.start(self.log, f"--workdir={workdir}", live=live)
            killed = kill is not None and _kill_when(process, kill, workdir)
            status = process.wait()
            text = self.log.read_text()
            again = [n for n in before if f"{CATEGORY}/{n}: compiled" in text]
            wrong = f"finished stages trained again: {again}" if again else ""
            if killed:
                hits.append((where(workdir, text, since), f"{kill}{wrong}"))
                continue
            if kill:  # it was over before its moment came
                kills.appendleft(kill._replace(delay=kill.delay / 2, count=1))
            if status:
                wrong = f"status {status}: {text[-300:]}"
            result = wrong or self.compare(workdir, live)
            for place, detail in hits:
                lost = "finished stages" in detail
                self.note(f"SIGKILL {place}", "trained again" if lost else result, detail)
            hits, workdir = [], self.workdir()

    def _kill_recordings(self, kills: list[Kill]) -> None:
        """Of --mode=record: there is no file, or the whole one; the next call writes it."""
        whole = _entries(self.tiny.recording)
        for kill in kills:
            self.tiny.recording.unlink()
            flags = ("--mode=record", f"--output={self.tiny.recording}", "--num_examples=32")
            process = self.tiny.start(self.log, *flags, live=True)
            killed = _kill_when(process, kill, self.folder)
            process.wait()
            left = self.tiny.recording.exists() and _entries(self.tiny.recording)
            status = self.tiny.record(self.log)
            same = left in (False, whole) and status == 0 and _entries(self.tiny.recording) == whole
            if killed:
                self.note("SIGKILL while recording", "same" if same else "differs", str(kill))

    def _full_disk(self) -> None:
        """Training on a small disk ends with an error; with room it goes on to the same end."""
        if os.geteuid() != 0:
            self.note("full disk", "not run: needs root", "")
            return
        disk = self.folder / "disk"
        disk.mkdir()
        needed = sum(f.stat().st_size for f in self.finished.rglob("*") if f.is_file()) // 1024
        for share in (0.03, 0.3, 0.8):
            options = f"size={int(share * needed)}k"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)
            try:
                status = self.train(disk / "run")
                text = self.log.read_text()
                clear = status == 1 and f"{disk}" in text and "disk is full. Make room" in text
                if not clear or "Traceback" in text:
                    self.note("full disk", "no clear error", f"status {status}: {text[-300:]}")
                subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
                status = self.train(disk / "run")
                result = self.compare(disk / "run") if status == 0 else f"status {status}"
                if result.startswith("status"):
                    result += self.log.read_text()[-300:]
                self.note("full disk, then room", result, options)
            finally:
                subprocess.run(["umount", disk], check=True)


def plan(count: int, seed: int, seconds: float) -> list[Kill]:
    """Moments over the whole length of a run, in the shares of ``_SHARES``; shuffled."""
    rng = np.random.default_rng(seed)
    total = sum(_SHARES.values())
    aims = [a for a, n in _SHARES.items() for _ in range(max(1, round(n * count / total)))][:count]
    longest = {"any moment": seconds, "save": 0.15, "between stages": 2.0, "evaluation": 3.0,
               "live": 0.6 * seconds, "recording": 0.5 * seconds}  # fmt: skip
    kills = []
    for number, i in enumerate(rng.permutation(len(aims))):
        delay = float(rng.uniform(0, longest[aims[i]]))
        kills.append(Kill(number, aims[i], int(rng.integers(1, 4)), round(delay, 3)))
    return kills


def _entries(recording: Path) -> dict[str, bytes]:
    """Without their dates."""
    with zipfile.ZipFile(recording) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _kill_when(process: subprocess.Popen, kill: Kill, workdir: Path) -> bool:
    """Kills the process at its moment; False if it ended before."""
    saves, was = set(), kill.aim in ("any moment", "live", "recording")
    since, finished = time.time(), len(finished_stages(workdir))
    while process.poll() is None:
        if was:
            try:
                process.wait(timeout=kill.delay)
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait() < 0
            return False
        if kill.aim == "save":
            saves.update(half_checkpoints(workdir, since))
            was = len(saves) >= kill.count
        else:
            done = len(finished_stages(workdir))
            between = kill.aim == "between stages" and finished < done < len(NAMES)
            was = between or (kill.aim == "evaluation" and done == len(NAMES))
        time.sleep(_POLL_SECONDS)
    return False


def half_checkpoints(workdir: Path, since: float) -> list[Path]:
    """Those that were begun after that time."""
    found = []
    for path in (workdir / CATEGORY).glob("*/*.orbax-checkpoint-tmp*"):
        with contextlib.suppress(FileNotFoundError):  # it has got its name meanwhile
            if path.stat().st_mtime >= since:
                found.append(path)
    return found


def finished_stages(workdir: Path) -> list[str]:
    return [n for n in NAMES if (workdir / CATEGORY / n / str(STEPS)).is_dir()]


def where(workdir: Path, text: str, since: float) -> str:
    """What the killed process was doing, by what it left behind."""
    said = [line for line in text.splitlines() if line.startswith(CATEGORY)]
    if half_checkpoints(workdir, since):
        return "during a save"
    if not said:
        return "while starting and preparing data"
    if "held-out" in said[-1] or "finished before" in said[-1] or f"step {STEPS}/" in said[-1]:
        return "in the evaluation" if NAMES[-1] in said[-1] else "between stages"
    return "in a step" if "step" in said[-1] else "before the first step of a stage"


if __name__ == "__main__":
    main()
