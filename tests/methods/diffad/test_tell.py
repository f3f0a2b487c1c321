"""Which of several products a photo shows, by the features of their normal photos."""

import functools

import jax
import ml_collections
import numpy as np
import pytest
from scipy.spatial import distance

from diffad_jax.methods.diffad import features, memory, networks, products
from diffad_jax.types import to_float

RNG = np.random.default_rng(0)


def drawn(base: np.ndarray, number: int) -> np.ndarray:
    noise = RNG.integers(-4, 5, (number, *base.shape))
    return np.clip(base + noise, 0, 255).astype(np.uint8)


GREY, STRIPES = np.full((32, 32, 3), 110), np.full((32, 32, 3), 60)
STRIPES[:, ::4] = 200


@pytest.fixture
def config(tiny_config):
    tiny_config.image_size, tiny_config.evaluation.batch_size = 32, 4
    tiny_config.segmentation.features = "efficientnet_lite0"
    tiny_config.segmentation.multipliers = (1, 2)
    tiny_config.memory.patches = 40
    return ml_collections.FrozenConfigDict(tiny_config)


def test_a_photo_is_nearest_to_its_own_product_whatever_its_defect(config):
    network = networks.feature_network(config)
    params = jax.jit(network.init)(jax.random.key(0), to_float(drawn(GREY, 1)))["params"]
    photos = [drawn(base, 8) for base in (GREY, STRIPES)]
    both = (batch for of_one in photos for batch in (of_one[:4], of_one[4:]))
    shared = {"features": features.fit(config, both, {"backbone": params})}
    own = [{"memory": memory.fit(config, iter([p[:4], p[4:]]), shared)} for p in photos]
    seen = np.concatenate([drawn(GREY, 1), drawn(STRIPES, 1)])
    seen[:, 4:14, 4:14] = (255, 0, 0)
    told = products.tell(config)
    weights = [shared | fitted for fitted in own]
    assert told.network(weights[0]).keys() == {"features"}
    patches = jax.jit(functools.partial(told.features, config=config))(
        told.network(weights[0]), seen
    )
    found = np.stack([told.distance(w, patches, config=config) for w in weights], axis=1)
    assert found.shape == (2, 2)
    assert found[0, 0] < 1.0 < found[0, 1] and found[1, 1] < 1.0 < found[1, 0]
    patches = memory.patches(shared, to_float(seen[:1]), config=config).reshape(-1, 24)
    bank, scale = own[1]["memory"]["bank"], own[1]["memory"]["scale"]
    nearest = distance.cdist(patches, bank.astype(np.float64)).min(axis=1)
    np.testing.assert_allclose(found[0, 1], np.median(nearest) / scale, rtol=1e-4)


def test_without_banks_nothing_tells_products_apart(config, tiny_config):
    assert products.tell(config) is not None
    tiny_config.memory.patches = 0
    assert products.tell(ml_collections.FrozenConfigDict(tiny_config)) is None
