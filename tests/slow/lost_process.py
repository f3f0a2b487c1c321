"""One of several processes is killed, hangs or is told to stop: when and how do the others end?"""

import json
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from tests.slow.tiny import CATEGORY, Tiny


class Event(NamedTuple):
    signal: signal.Signals
    victim: int  # 0 holds the service that the others ask
    stage: str  # in whose middle it comes


EVENTS = {
    2: (
        Event(signal.SIGKILL, 1, "autoencoder"),
        Event(signal.SIGKILL, 0, "denoiser"),
        Event(signal.SIGSTOP, 1, "segmenter"),  # hangs, and no connection breaks
    ),
    4: (Event(signal.SIGKILL, 1, "autoencoder"), Event(signal.SIGTERM, 2, "denoiser")),
}


def start_all(
    tiny: Tiny, workdir: Path, processes: int, devices: int = 1, flags: tuple = ()
) -> list[subprocess.Popen]:
    flags = (f"--workdir={workdir}", *flags)
    if processes > 1:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        flags += (f"--coordinator=localhost:{port}", f"--num_processes={processes}")
    return [
        tiny.start(
            log_of(tiny, i),
            *flags,
            *((f"--process_id={i}",) if processes > 1 else ()),
            devices=devices,
        )
        for i in range(processes)
    ]


def log_of(tiny: Tiny, index: int) -> Path:
    return tiny.folder / f"log{index}"


def wait_all(tiny: Tiny, running: list[subprocess.Popen]) -> None:
    for i, process in enumerate(running):
        if process.wait(timeout=3000):
            raise SystemExit(log_of(tiny, i).read_text())


def interrupt(tiny: Tiny, workdir: Path, processes: int) -> list[dict]:
    """Trains to the end through all events, and says how the others ended at each."""
    rows = []
    for event in EVENTS[processes]:
        running = start_all(tiny, workdir, processes)
        while not _is_in_the_middle(workdir, event.stage, tiny.steps):
            if any(p.poll() is not None for p in running):
                raise SystemExit("\n".join(log_of(tiny, i).read_text() for i in range(processes)))
            time.sleep(0.05)
        running[event.victim].send_signal(event.signal)
        started, ends = time.monotonic(), {}
        while len(ends) < processes - (event.signal == signal.SIGSTOP):
            for i, process in enumerate(running):
                if i not in ends and process.poll() is not None:
                    ends[i] = (process.returncode, round(time.monotonic() - started, 1))
            time.sleep(0.05)
        running[event.victim].kill()
        others = {i: end for i, end in ends.items() if i != event.victim}
        rows.append(
            {
                "processes": processes,
                "signal": event.signal.name,
                "victim": event.victim,
                "statuses_of_the_others": [s for s, _ in others.values()],
                "victims_status": running[event.victim].wait(),
                "seconds_to_the_last": max(seconds for _, seconds in others.values()),
            }
        )
        print(rows[-1], flush=True)
    wait_all(tiny, start_all(tiny, workdir, processes))
    return rows


def _is_in_the_middle(workdir: Path, stage: str, steps: int) -> bool:
    path = workdir / CATEGORY / "metrics.jsonl"
    if not path.exists():
        return False
    lines = path.read_text().splitlines()
    entries = [json.loads(line) for line in lines if line.endswith("}")]
    return any(e["stage"].endswith(stage) and e["step"] > steps // 2 for e in entries)
