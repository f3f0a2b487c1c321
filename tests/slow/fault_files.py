"""The part of the fault drill that damages what lies on the disk."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.slow.tiny import CATEGORY, NAMES

Found = Iterator[tuple[str, str, str]]  # kind of fault, how it ended, detail


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "bit-flipped": _flip,
    "deleted": lambda path: path.unlink(),
}
# Of a checkpoint; the largest file that matches.
FILES = {
    "state, data": "state/ocdbt.process_0/d/*",
    "state, index": "state/d/*",
    "state, manifest": "state/manifest.ocdbt",
    "state, metadata": "state/_METADATA",
    "weights, data": "weights/ocdbt.process_0/d/*",
    "weights, metadata": "weights/_METADATA",
    "plan": "plan/metadata",
    "fingerprint": "fingerprint/metadata",
    "held-out metrics": "held_out/metadata",
    "checksums.json": "checksums.json",
    "Orbax metadata": "_CHECKPOINT_METADATA",
}


def largest(folder: Path, pattern: str) -> Path:
    """The largest file that matches."""
    return max(folder.glob(pattern), key=lambda p: p.stat().st_size)


def drill_files(drill: Any) -> Found:
    """A fault in the newest checkpoint of each stage of a finished training, and a restart.

    Args:
      drill: of ``fault_drill``.
    """
    faults = [(f, d) for d in DAMAGE for f in FILES] + [("whole checkpoint", "deleted")]
    for i in range(0, len(faults), len(NAMES)):
        workdir = drill.workdir()
        shutil.copytree(drill.finished, workdir)
        chosen = list(zip(NAMES, faults[i : i + len(NAMES)], strict=False))
        for name, (file, damage) in chosen:
            newest = workdir / CATEGORY / name / str(drill.tiny.steps)
            if file == "whole checkpoint":
                shutil.rmtree(newest)
            else:
                DAMAGE[damage](largest(newest, FILES[file]))
        status = drill.train(workdir)
        text = drill.log.read_text()
        result = drill.compare(workdir) if status == 0 else f"status {status}: {text[-300:]}"
        for name, (file, damage) in chosen:
            needless = file == "Orbax metadata" and f"{CATEGORY}/{name}: compiled" in text
            wrong = "trained again for nothing" if needless else result
            yield f"{damage}: {file}", wrong, name


def drill_gone(drill: Any) -> Found:
    """Where all is damaged, the error names the file and the remedy; the remedy helps."""
    for name, damage in zip(NAMES, DAMAGE, strict=True):
        workdir = drill.workdir()
        shutil.copytree(drill.finished, workdir)
        folder = workdir / CATEGORY / name
        for step in folder.iterdir():
            DAMAGE[damage](largest(step, FILES["state, data"]))
        status = drill.train(workdir)
        text = drill.log.read_text()
        named = f"delete {folder} to train this stage again" in text and "ocdbt" in text
        clear = status == 1 and named and "Traceback" not in text
        yield (
            f"{damage}: state of all checkpoints of a stage",
            "clear error" if clear else f"status {status}: {text[-300:]}",
            name,
        )
        shutil.rmtree(folder)
        status = drill.train(workdir)
        yield "deleted: folder of a stage", _end(drill, workdir, status), name
    files = ("stages.json", "threshold.json", "metrics.jsonl")
    for damage in DAMAGE:
        workdir = drill.workdir()
        shutil.copytree(drill.finished, workdir)
        for file in files:
            DAMAGE[damage](workdir / CATEGORY / file)
        # So that there is something to log.
        shutil.rmtree(workdir / CATEGORY / NAMES[-1] / str(drill.tiny.steps))
        result = _end(drill, workdir, drill.train(workdir))
        for file in files:
            yield f"{damage}: {file}", result, ""
    whole = drill.tiny.recording.read_bytes()
    for damage in DAMAGE:
        DAMAGE[damage](drill.tiny.recording)
        workdir = drill.workdir()
        status = drill.train(workdir)
        text = drill.log.read_text()
        clear = status == 1 and f"{drill.tiny.recording}" in text and "Traceback" not in text
        drill.tiny.recording.write_bytes(whole)
        yield f"{damage}: recording", "clear error" if clear else _end(drill, workdir, status), ""


def _end(drill: Any, workdir: Path, status: int) -> str:
    if status:
        return f"status {status}: {drill.log.read_text()[-300:]}"
    return drill.compare(workdir)
