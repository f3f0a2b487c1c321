"""What is no regular file of bounded size ends in one sentence, whoever reads it."""

import contextlib
import io
import os
import signal
import sys
from types import SimpleNamespace

import ml_collections
import pytest

from diffad_jax.config import recipes, stored
from diffad_jax.convert import backbone, perceptual, sources
from diffad_jax.data import images, listing, masks, photo_table, recorded, split, strips, toy
from diffad_jax.errors import UserError
from diffad_jax.evaluation import comparison
from diffad_jax.export import artifact, run
from diffad_jax.inference import sources as photo_sources
from diffad_jax.inference import writer
from diffad_jax.models.inception import Inception
from diffad_jax.models.lpips import Lpips
from diffad_jax.runtime import files, lock, machine
from diffad_jax.training import checkpoint, journal

RULES = images.Rules("bilinear")
CARD_RULES = {"size": [8, 8], "resize": "bilinear", "bit_depth": 8}
PLACES = {
    "pipe": os.mkfifo,
    "endless device": lambda path: path.symlink_to("/dev/urandom"),
    "folder": os.mkdir,
    "sparse file": lambda path: path.touch() or os.truncate(path, 2**40),
}


def checkpoint_fault(path):
    raise UserError(f"{path}: {checkpoint._fault(path.parent)}")


def tables(path):
    made = writer.Made({}, None, None, ())
    with writer.Tables(path.parent, photo_sources.Listing("/", []), made):
        pass


def exported(path):
    (path.parent / "SHA256SUMS").write_text(f"{'0' * 64}  {path.name}\n")
    artifact.read_card(path.parent)


def locked(path):
    with lock.hold(path.parent):
        os.truncate(path, 2**40)  # a large one does no harm
        raise UserError(f"{path} is taken as it is")


READERS = {  # file -> what reads it
    "photo.png": lambda path: images.read_image(path, 8, RULES),
    "size.png": lambda path: images.photo_size(path, RULES),
    "strips.tif": lambda path: list(strips.read(path, RULES)),
    "mask.png": lambda path: masks.is_black(path, RULES),
    "recording.zip": recorded.Recording,
    "published.ckpt": sources.read,
    "published.safetensors": sources.read,
    "inception.safetensors": lambda path: backbone.read_backbone(path, Inception(("conv",))),
    "vgg.pth": lambda path: perceptual.read_lpips(path, path, Lpips()),
    "table.csv": lambda path: photo_table.read(str(path.parent), path.name),
    "config.json": lambda path: stored.read(path.parent),
    "photos.json": lambda path: split.read(path.parent),
    "threshold.json": files.read_json,
    "checksums.json": checkpoint_fault,
    "metrics.json": lambda path: comparison.read_run(path.parent),
    "metrics.jsonl": lambda path: journal.Journal(path.parent, "tiles/a", "a", 1),
    "predictions.jsonl": tables,
    "settings.json": tables,
    "toy.json": lambda path: toy._is_written(path.parent, "{}"),
    "recipe.py": lambda path: recipes.load(str(path)),
    "SHA256SUMS": lambda path: artifact.read_card(path.parent),
    "model.onnx": exported,
    "weights.safetensors": artifact.read_weights,
    "model.stablehlo": artifact.read,
    "pixels.npy": lambda path: run._pixels(path, CARD_RULES),
    ".lock": locked,
}


@contextlib.contextmanager
def seconds(most):
    """What waits or reads for ever is broken off."""

    def late(*_):
        pytest.fail("it waits, or reads without end")  # no Exception, which readers catch

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, most)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("name", READERS)
def test_each_reader_says_it_in_a_sentence(tmp_path, name, kind):
    path = tmp_path / "there" / name
    path.parent.mkdir()
    PLACES[kind](path)
    with seconds(10), pytest.raises((ValueError, OSError)) as raised:
        READERS[name](path)
    error = raised.value
    assert not isinstance(error, UnicodeDecodeError)
    said = machine.describe(error, "x") if isinstance(error, OSError) else str(error)
    assert said and str(path.parent) in said and "\n" not in said and len(said) < 500


@pytest.mark.parametrize("kind", PLACES)
def test_photos_that_cannot_be_read_have_no_hash(tmp_path, kind):
    PLACES[kind](tmp_path / "0.png")
    config = ml_collections.ConfigDict(
        {"data": {"root": str(tmp_path), "resize": "bilinear", "bit_depth": 8, "photo_mib": 1.0}}
    )
    with seconds(10):
        assert split.hashes(config, ["0.png"]) == {"0.png": ""}


class _Endless(io.RawIOBase):
    """What never ends, such as ``yes``."""

    def __init__(self, line):
        self._line, self.given = line, 0

    def read(self, size=-1):
        assert size >= 0, "all of it is wanted"
        self.given += size
        return (self._line * (size // len(self._line) + 1))[:size]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a.png\n", r"it is longer than \S+ MiB"),
        (b"a", r"it is longer than \S+ MiB"),
        (b"\xff\xfe", r"it is longer than \S+ MiB"),
    ],
)
def test_a_list_without_end(tmp_path, monkeypatch, line, reason):
    monkeypatch.setattr(photo_sources, "_MOST_LIST", 2**20)
    endless = _Endless(line)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=endless))
    with pytest.raises(listing.DataError, match=f"list on standard input: {reason}; give .*--inp"):
        photo_sources.list_photos("-", tmp_path)
    assert endless.given <= 2**20 + 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"a\n" * 20, "it has more than 9 lines"),
        (b"a" * 2**17, "a line is longer than 65536 characters"),
        ("a".encode("utf-16") * 2**17, "a line is longer than 65536 characters"),
        (b"a.png\n" + b"\xf0\x9f\x98\x80" * 2**17, "a line is longer than 65536 characters"),
    ],
)
def test_a_list_with_too_many_lines_or_a_line_without_end(tmp_path, monkeypatch, text, reason):
    monkeypatch.setattr(photo_sources, "_MOST_LINES", 9)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    with pytest.raises(listing.DataError, match=f"list on standard input: {reason}; give"):
        photo_sources.list_photos("-", tmp_path)
