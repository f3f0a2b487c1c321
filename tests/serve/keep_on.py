"""Keeps corrections and takes calibrations without end, and says of each when it is done."""

import hashlib
import sys
from pathlib import Path

import numpy as np

from diffad_jax.data.corrections import Correction, Corrections, Measured, Taken, file_name

kept = Corrections(Path(sys.argv[1]))
number = len(kept.of("good"))
while True:
    number += 1
    data = b"\x89PNG" + number.to_bytes(4, "big") * 5000
    sha = hashlib.sha256(data).hexdigest()
    measured = Measured(number / 7, 0.0, 1.0)
    kept.keep(data, Correction(sha, "", "good", "", "", file_name(sha, data), "d", measured))
    print("kept", sha, flush=True)
    if number % 3 == 0:
        level = {"level": {"level": np.full((4, 4), number, np.float32)}}
        kept.take(Taken("", "", "d", float(number), {sha: measured}), level)
        print("taken", number, flush=True)
