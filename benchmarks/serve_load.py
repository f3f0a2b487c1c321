"""Photos a second through the server of --mode=serve against the detector alone, on one machine.

    python -m benchmarks.serve_load --workdir=runs/padim --category=bottle

The server is a process of its own. Clients ask one photo at a time over kept connections, each the
next as soon as it has its answer; the detector alone goes through the same files as predict does,
without pictures, before and after.
"""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import last_line
from diffad_jax.config import stored
from diffad_jax.data import layouts
from diffad_jax.inference import batching
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import check_config


def main(argv: list[str]) -> None:
    del argv
    workdir, category = Path(flags.FLAGS.workdir), flags.FLAGS.category
    config = stored.read(workdir / category)
    check_config(config)
    records = layouts.read_category(config.data.root, category, config.data.layout)
    files = [r.file for r in records if r.split == "test"]
    files = (files * (flags.FLAGS.photos // len(files) + 1))[: flags.FLAGS.photos]
    detector = Detector.from_workdir(config, workdir, category)
    alone(detector, files[: config.evaluation.batch_size])
    found = {"predict_photos_per_second": [alone(detector, files)]}
    with subprocess.Popen(
        [sys.executable, "-m", "diffad_jax.main", "--mode=serve", f"--workdir={workdir}",
         f"--config.categories={category}", "--port=0"], stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        port = int(server.stdout.readline().rstrip("/\n").rpartition(":")[2])
        bodies = [Path(file).read_bytes() for file in files]
        for clients in map(int, flags.FLAGS.clients):
            before = memory_mib(server.pid)
            found[f"clients_{clients}"] = through(port, bodies, clients) | {
                "memory_mib_before": before,
                "memory_mib_after": memory_mib(server.pid),
            }
            print(clients, found[f"clients_{clients}"])
        server.terminate()
    found["predict_photos_per_second"].append(alone(detector, files))
    best = max(found["predict_photos_per_second"])
    last = found[f"clients_{flags.FLAGS.clients[-1]}"]["photos_per_second"]
    last_line.finish(found | {"ratio": last / best}, flags.FLAGS.json)


def alone(detector: Detector, files: list[str]) -> float:
    """Photos a second of the detector, decoding included."""
    started = time.monotonic()
    scored = sum(len(batch) for batch in batching.score_photos(detector, files, tile=False))
    assert scored == len(files)
    return scored / (time.monotonic() - started)


def through(port: int, bodies: list[bytes], clients: int) -> dict[str, float]:
    """Photos a second of the server, and milliseconds of an answer."""
    left, seconds, lock = list(bodies), [], threading.Lock()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        while True:
            with lock:
                if not left:
                    return
                body = left.pop()
            started = time.monotonic()
            connection.request("POST", "/v1/predict", body)
            answer = connection.getresponse()
            content = json.loads(answer.read())
            assert answer.status == 200, content
            seconds.append(time.monotonic() - started)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - started
    assert len(seconds) == len(bodies), "none is lost"
    p50, p99 = np.percentile(1000 * np.array(seconds), [50, 99]).tolist()
    return {"photos_per_second": len(bodies) / took, "p50_ms": p50, "p99_ms": p99}


def memory_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Of trained detectors.", required=True)
    flags.DEFINE_string("category", None, "One of them.", required=True)
    flags.DEFINE_list("clients", ["1", "8", "64"], "At the same time.")
    flags.DEFINE_integer("photos", 256, "Of each measurement.", 1)
    flags.DEFINE_string("json", None, "Writes the metrics there as well.")
    last_line.run(main)
