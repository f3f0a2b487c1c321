"""An exported folder in Python, as ``diffad_jax.load`` gives it."""

import exported_folder
import numpy as np

import diffad_jax
from diffad_jax.export import registry


def test_an_exported_folder(tmp_path, monkeypatch):
    seen = []

    def detect(pixels, seed):
        seen.append((pixels.shape, pixels.dtype, seed))
        maps = pixels.mean(-1).astype(np.float32) / 255
        return {"score": maps.max((1, 2)), "anomaly_map": maps}

    monkeypatch.setattr(registry, "load", lambda folder, card: detect)
    loaded = diffad_jax.load(exported_folder.write(tmp_path / "cups"))
    assert (loaded.category, loaded.image_size, loaded.threshold) == ("tiles", (16, 16), 0.5)
    photo = np.zeros((40, 32, 3), np.uint8)
    photo[10:20, 4:8] = 255
    good, bad = loaded.predict([np.zeros_like(photo), photo])
    assert seen == [((1, 16, 16, 3), np.uint8, 0)] * 2
    assert bad.is_anomalous and not good.is_anomalous and good.regions == []
    (region,) = bad.regions
    assert region.peak > 0.6 and region.box[0] <= 4 and region.box[1] <= 10
