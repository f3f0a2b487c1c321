"""An exported folder, checked before anything in it is used; needs NumPy alone.

Nothing of this package is imported here: exported models carry a copy of this file.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

CHECKSUMS, CARD = "SHA256SUMS", "model.json"


class ArtifactError(ValueError):
    """An exported model cannot be used; the message names the file and the remedy."""


def read_card(folder: Path) -> dict:
    """The model card, after every file has been compared with its checksum.

    Raises:
      ArtifactError: a file is missing or has changed since the export.
    """
    remedy = "copy the exported folder again, or export it again"
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{folder} is no exported model, {CHECKSUMS}: {error}") from error
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name, digest in sums.items():
        if not name or len(digest) != 64:
            raise ArtifactError(f"{folder / CHECKSUMS} is damaged: {remedy}")
        if not (folder / name).is_file():
            raise ArtifactError(f"{folder / name} is missing: {remedy}")
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise ArtifactError(f"{folder / name} has changed since its export: {remedy}")
    card = json.loads((folder / CARD).read_text(encoding="utf-8")) if CARD in sums else {}
    if missing := {CARD, *card.get("files", ())} - sums.keys():
        raise ArtifactError(f"{folder / CHECKSUMS} is cut short, without {min(missing)}: {remedy}")
    return card


def write_checksums(folder: Path) -> None:
    """For ``read_card``, and for ``sha256sum -c SHA256SUMS``; the last file to be written."""
    lines = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The float32 tensors of a safetensors file, by name."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = json.loads(data[8:start])
    return {
        name: np.frombuffer(data, np.float32, np.prod(t["shape"], dtype=int),
                            start + t["data_offsets"][0]).reshape(t["shape"])
        for name, t in tensors.items()
    }  # fmt: skip
