"""How much memory each reader takes at its limit, next to what the limit allows.

Each case is a file as large as a limit lets it be, honest or made to take memory, and a process
that reads it: the peak of its memory, less what it held before, is to stay below 4 times the limit.
"""

import argparse
import json
import multiprocessing
import os
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import ml_collections
import numpy as np
import safetensors.numpy

from diffad_jax.convert import pickle_machine, sources, torch_file
from diffad_jax.data import images, masks, photo_table, recorded
from diffad_jax.data.split import Split
from diffad_jax.export import artifact
from diffad_jax.inference import sources as photo_sources
from diffad_jax.models import pretrained
from diffad_jax.runtime import regular
from tests.slow.large_photos import (
    MIB,
    PHOTO_MIB,
    chunks,
    compressed,
    deep_tiff,
    image,
    pixels,
    segments,
)

MOST = 4  # times the limit
RULES = images.Rules("bilinear", bit_depth=16, photo_mib=PHOTO_MIB)
HIGH = int(PHOTO_MIB * MIB) // 600_000
RECORDED = 2048  # pixels
WEIGHTS_MIB = 128
MOST_JSON = regular.MOST_JSON / MIB
_TURNED = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
_WIDE = "\U0001f600"  # makes Python take 4 bytes for each character of a text


class Case(NamedTuple):
    name: str
    limit_mib: float
    make: Callable[[Path], object]
    read: Callable[[Path], object]


def _read_photo(path: Path) -> None:
    images.read_image(path, 64, RULES)
    images.photo_size(path, RULES)


def _read_facts(path: Path) -> None:
    images.photo_facts(path, RULES)


def _read_mask(path: Path) -> None:
    found, _ = masks.survey([str(path)], RULES)
    found.read(path, 64, "half")


def _record(path: Path) -> None:
    config = ml_collections.ConfigDict(
        {
            "seed": 0,
            "image_size": RECORDED,
            "data": {"resize": "antialias", "bit_depth": 8, "validation_share": 0.1},
            "synthesis": {},
        }
    )
    image = pixels(3, height=RECORDED, width=RECORDED)[None]
    mask = pixels(1, height=RECORDED, width=RECORDED)[None] & 1
    batch = {"image": image, "augmented_image": image[:, ::-1], "anomaly_mask": mask}
    recorded.write(config, path, {"a": Split({}, {})}, {"train": (1, iter([batch]))})


def _read_recording(path: Path) -> None:
    recorded.Recording(path, cache_mib=0).example("train", 0)


def _entries(path: Path, name: str, size: int) -> None:
    """A zip whose table of contents is ``size`` bytes of empty entries."""
    count = size // (46 + 8)
    head = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0)
    with path.open("wb") as file:
        file.write(head + name.encode())
        begin = file.tell()
        for i in range(count):
            shown = f"{i:08x}".encode()
            file.write(struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0,
                                   len(shown), 0, 0, 0, 0, 0, 0) + shown)  # fmt: skip
        length, few = file.tell() - begin, min(count, 0xFFFF)
        if few == 0xFFFF:
            end = file.tell()
            file.write(struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length,
                                   begin))  # fmt: skip
            file.write(struct.pack("<4sIQI", b"PK\6\7", 0, end, 1))
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, few, few, length, begin, 0))


def _meta(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.json", content)


def _json(kind: str, most: int = regular.MOST_JSON) -> bytes:
    """JSON of ``most`` bytes, or as many values as one may hold."""
    entry = '"photo/%07d.png": "' + "0" * 64 + '"'
    values = regular._MOST_VALUES - 10
    content = {
        "names": lambda: "{" + ", ".join(entry % i for i in range(min(values, most // 90))) + "}",
        "lists": lambda: "[" + "[]," * (values // 2) + "[]]",
        "objects": lambda: "[" + '{"":0},' * (values // 2) + "0]",
        "text": lambda: '["\U0001f600' + "x" * (most - 9) + '"]',
        "escapes": lambda: '["' + "\\ud83d\\ude00" * (most // 12 - 1) + '"]',
    }[kind]()
    return content.encode() + b" " * (most - len(content.encode()))


def _torch(path: Path, legacy: bool = False) -> None:
    tensors = {f"layer.{i}": np.ones((MIB // 4,), np.float32) * i for i in range(WEIGHTS_MIB)}
    torch_file.write(path, tensors)


def _pickle(path: Path, program: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + program + b".")


def _safetensors(path: Path, dtype: type = np.float32) -> None:
    tensors = {f"layer/{i}": np.full((MIB // 4,), i, dtype) for i in range(WEIGHTS_MIB)}
    path.write_bytes(safetensors.numpy.save(tensors))


def _header(path: Path, most: int) -> None:
    """Safetensors of as many tensors as its header may name."""
    entry = '"%x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    names = (entry % i for i in range(most // 64))
    text = ("{" + ",".join(names) + "}").encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


def _table(path: Path, row: Callable[[int], str], rows: int = photo_table._MOST_ROWS) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("object,split,label,image,mask\n")
        for i in range(rows):
            if file.tell() > 63 * MIB:
                break
            file.write(row(i))


def _listed(path: Path, line: Callable[[int], str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for i in range(photo_sources._MOST_LINES):
            file.write(line(i))
            if i % 1000 == 0 and file.tell() > photo_sources._MOST_LIST - 2**23:
                break


def _read_table(path: Path) -> None:
    photo_table.read(str(path.parent), path.name)


def _read_list(path: Path) -> None:
    sys.stdin = SimpleNamespace(buffer=path.open("rb"))
    photo_sources.list_photos("-", Path("/none"))


def _sums(path: Path) -> None:
    path.mkdir()
    with (path / artifact.CHECKSUMS).open("w") as file:
        for i in range(artifact._MOST_BYTES // 76):
            file.write(f"{'0' * 64}  {i:08x}\n")


def _photos() -> list[Case]:
    photos = {
        "PNG, RGB": image("PNG", 3),
        "PNG, grey": image("PNG"),
        "PNG, RGBA": image("PNG", 4),
        "PNG, palette": image("PNG", mode="P"),
        "PNG, grey of 16 bits": image("PNG", dtype=np.uint16),
        "PNG, 200,000 wide": image("PNG", 3, width=200_000, height=HIGH),
        "JPEG": image("JPEG", 3),
        "JPEG, progressive": image("JPEG", 3, progressive=True),
        "JPEG, CMYK": image("JPEG", 3, mode="CMYK"),
        "JPEG, turned": image("JPEG", 3, exif=_TURNED),
        "BMP": image("BMP", 3),
        "TIFF": image("TIFF", 3),
        "TIFF, LZW": image("TIFF", 3, compression="tiff_lzw"),
        "TIFF, RGB of 16 bits": deep_tiff,
        "JPEG, all EXIF": lambda p: segments(p, b"\xff\xe1"),
        "JPEG, all comments": lambda p: segments(p, b"\xff\xfe"),
        "PNG, one unknown chunk": lambda p: chunks(p, b"abCd", bytes),
        "PNG, one EXIF chunk": lambda p: chunks(p, b"eXIf", lambda n: b"II*\0" + bytes(n - 4)),
        "PNG, many texts": lambda p: chunks(p, b"tEXt", lambda n: b"a\0" + b"b" * (n - 2), 100),
        "PNG, one compressed text": lambda p: chunks(p, b"zTXt", compressed),
    }
    found = [Case(f"photo: {k}", PHOTO_MIB, make, _read_photo) for k, make in photos.items()]
    found += [
        Case(f"facts: {k}", PHOTO_MIB, photos[k], _read_facts)
        for k in ("PNG, RGB", "PNG, grey of 16 bits", "TIFF, RGB of 16 bits")
    ]
    masked = {
        "grey": image("PNG"),
        "of 16 bits": image("PNG", dtype=np.uint16),
        "RGB": image("PNG", 3),
        "black and white": image("PNG", mode="1"),
    }
    found += [Case(f"mask: {k}", PHOTO_MIB, make, _read_mask) for k, make in masked.items()]
    return found


def _recordings() -> list[Case]:
    pictures, whole = 7 * RECORDED**2 / MIB, recorded.Recording  # image, augmented image, mask
    most = recorded._MOST_DIRECTORY
    both = MOST_JSON + most / MIB
    return [
        Case("recording: an example", pictures, _record, _read_recording),
        Case("recording: meta.json", both, lambda p: _meta(p, _json("names")), whole),
        Case("recording: all contents", both, lambda p: _entries(p, "a", most - 4000), whole),
    ]


def _jsons() -> list[Case]:
    def case(kind: str) -> Case:
        return Case(
            f"JSON: {kind}", MOST_JSON, lambda p: p.write_bytes(_json(kind)), regular.read_json
        )

    return [case(kind) for kind in ("names", "lists", "objects", "text", "escapes")]


def _weights() -> list[Case]:
    directory, pickled = torch_file._MAX_DIRECTORY, torch_file._MAX_PICKLE
    header = artifact._MOST_BYTES
    steps = pickle_machine.MAX_STEPS - 10
    programs = {
        "lists": b"(" + b"]" * steps + b"l",
        "dicts": b"(" + b"}" * steps + b"l",
        "tuples": b")" + b"\x85" * steps,
        "marks": b"(" * steps + b"l",
        "memo": b"".join(b"]r" + struct.pack("<I", i) for i in range(steps // 2)),
        "one text": b"X" + struct.pack("<I", pickled - 200) + b"x" * (pickled - 200),
        "many texts": b"(" + (b"X\x1c\0\0\0" + _WIDE.encode() * 7) * (steps - 9) + b"l",
    }

    def of_pickle(kind: str) -> Case:
        name = f"torch file: a pickle of {kind}"
        return Case(name, pickled / MIB, lambda p: _pickle(p, programs[kind]), sources.read)

    return [
        Case("torch file", WEIGHTS_MIB, _torch, sources.read),
        Case("torch file: all contents", (directory + pickled) / MIB,
             lambda p: _entries(p, "a", directory - 4000), sources.read),
        *map(of_pickle, programs),
        Case("safetensors", WEIGHTS_MIB, _safetensors, sources.read),
        Case("safetensors: all header", pretrained._MAX_HEADER / MIB,
             lambda p: _header(p, pretrained._MAX_HEADER), sources.read),
        Case("exported: weights", WEIGHTS_MIB, _safetensors, artifact.read_weights),
        Case("exported: all header", header / MIB, lambda p: _header(p, header),
             artifact.read_weights),
        Case("exported: SHA256SUMS", header / MIB, _sums, artifact.read_card),
    ]  # fmt: skip


def _tables() -> list[Case]:
    rows = {
        "short": lambda i: f"a,test,b,{i:x},\n",
        "long": lambda i: f"a,test,bad,a/{i:090d}.png,a/{i:05d}.png\n",
        "all different": lambda i: f"c{i:x},test,b{i:x},{i:x},m{i:x}\n",
        "no ASCII": lambda i: f"a,test,bad,{_WIDE * 25}{i}.png,\n",
        "many columns": lambda i: f"a,test,b,{i},," + "," * 60000 + "\n",
        "one row": lambda i: '"\n",' * (2**24),
    }
    lines = {
        "short": lambda i: f"{i:x}\n",
        "long": lambda i: f"photos/{i:0240d}.png\n",
        "no ASCII": lambda i: f"{_WIDE * 60}{i}.png\n",
    }
    most = photo_sources._MOST_LIST / MIB
    return [
        *(Case(f"table: {k}", 64, lambda p, r=r: _table(p, r), _read_table)
          for k, r in rows.items()),
        *(Case(f"list on stdin: {k}", most, lambda p, r=r: _listed(p, r), _read_list)
          for k, r in lines.items()),
    ]  # fmt: skip


def _suffix(name: str) -> str:
    return ".safetensors" if name.startswith("safetensors") else ""


def _peak(field: str) -> float:
    """MiB, of this process: VmRSS, or VmHWM since it was forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _measure(case: Case, path: Path, answers: Any) -> None:
    """Sends the peak, and how the reading ended."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # what takes memory is one photo
    Path("/proc/self/clear_refs").write_text("5")
    before, said = _peak("VmRSS"), "read"
    try:
        case.read(path)
    except ValueError as error:
        said = type(error).__name__ + ": " + str(error)[-70:].replace("\n", " ")
    answers.put((_peak("VmHWM") - before, said))


def run(case: Case, folder: Path) -> dict[str, Any]:
    """Processes of their own, so that no memory is there that another case has let go of."""
    path, start = folder / f"file{_suffix(case.name)}", multiprocessing.get_context("fork")
    answers = start.SimpleQueue()
    for work in (lambda: case.make(path), lambda: _measure(case, path, answers)):
        process = start.Process(target=work)
        process.start()
        process.join()
    peak, said = (float("nan"), "killed") if answers.empty() else answers.get()
    return {"case": case.name, "limit_mib": case.limit_mib, "peak_mib": round(peak, 1),
            "ratio": round(peak / case.limit_mib, 2), "end": said}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose names begin so")
    args = parser.parse_args()
    rows = []
    for case in (*_photos(), *_recordings(), *_jsons(), *_weights(), *_tables()):
        if case.name.startswith(args.only):
            with tempfile.TemporaryDirectory(prefix="reader_memory.") as folder:
                row = run(case, Path(folder))
            rows.append(row)
            print(f"{row['case']:<40} {row['limit_mib']:>7.1f} {row['peak_mib']:>8.1f} "
                  f"{row['ratio']:>6.2f}  {row['end']}", flush=True)  # fmt: skip
    bad = [row["case"] for row in rows if not row["ratio"] <= MOST]
    largest = max(row["ratio"] for row in rows)
    print(json.dumps({"cases": len(rows), "above": bad, "largest_ratio": largest, "limit": MOST}))


if __name__ == "__main__":
    main()
