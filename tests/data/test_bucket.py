"""Photos in a bucket (gs://…), from listing to evaluation; the storage is one in memory."""

from pathlib import Path

import fsspec
import pytest
from etils.epath import backend, gpath
from fsspec.implementations.memory import MemoryFileSystem

from diffad_jax.commands import train
from diffad_jax.data import images, layouts, listing
from diffad_jax.data.anomaly_folder import AnomalyFolderConfig
from diffad_jax.data.listing import DataError
from diffad_jax.training.fingerprint import describe_photos


class Bucket(MemoryFileSystem):
    """As gcsfs, but in memory."""

    protocol = ("gcs", "gs")
    store: dict = {}
    pseudo_dirs = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("gs://").removeprefix("gcs://"))


@pytest.fixture
def bucket(photos, monkeypatch):
    """gs://bucket/photos with the content of ``photos``."""
    fsspec.register_implementation("gcs", Bucket, clobber=True)
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    backend.fsspec_backend._get_filesystem.cache_clear()
    storage = Bucket(finalize_on_close=True)
    for file in Path(photos).rglob("*.png"):
        storage.pipe(f"gs://bucket/photos/{file.relative_to(photos)}", file.read_bytes())
    yield storage
    storage.store.clear()
    storage.pseudo_dirs[:] = [""]
    backend.fsspec_backend._get_filesystem.cache_clear()


ROOT = "gs://bucket/photos"


def test_listing_and_reading(bucket, photos):
    here = layouts.read_category(photos, "tiles", "mvtec")
    there = layouts.read_category(ROOT, "tiles", "mvtec")
    assert [r.file for r in there] == [r.file.replace(photos, ROOT) for r in here]
    assert [r.mask for r in there] == [r.mask and r.mask.replace(photos, ROOT) for r in here]
    for mine, its in zip(here, there, strict=True):
        rules = images.Rules("bilinear")
        assert images.photo_facts(mine.file, rules) == images.photo_facts(its.file, rules)
    assert describe_photos(r.file for r in there) == describe_photos(r.file for r in here)
    assert layouts.list_categories(ROOT, "mvtec") == ["tiles"]
    found, _ = listing.find_photos(ROOT)
    assert [f.replace(ROOT, photos) for f in found] == listing.find_photos(photos)[0]
    name = AnomalyFolderConfig(root=ROOT, category="tiles").name
    assert name == AnomalyFolderConfig(root=ROOT, category="tiles").name


def test_what_is_wrong_is_named(bucket):
    bucket.pipe("gs://bucket/photos/tiles/train/good/a.webp", b"x")
    assert "1 .webp" in layouts.survey(ROOT, "tiles", "mvtec").left_out[0]
    with pytest.raises(DataError, match="no folder gs://bucket/nowhere"):
        layouts.read_category("gs://bucket/nowhere", "tiles", "mvtec")


def test_a_table(bucket):
    rows = "object,split,label,image,mask\ntiles,train,normal,tiles/train/good/000.png,\n"
    bucket.pipe("gs://bucket/photos/split_csv/1cls.csv", rows.encode())
    assert len(layouts.read_category(ROOT, "tiles", "visa")) == 1
    bucket.pipe("gs://bucket/photos/split_csv/1cls.csv", rows.replace("000", "/../1").encode())
    with pytest.raises(DataError, match="which is no place below gs://bucket/photos"):
        layouts.read_category(ROOT, "tiles", "visa")


def test_training_and_evaluating(bucket, tiny_config, tmp_path):
    tiny_config.data.root = tiny_config.data.textures = ROOT
    train.train_and_evaluate(tiny_config, tmp_path, None)
    assert (tmp_path / "metrics.json").exists() and (tmp_path / "tiles/report.html").exists()
