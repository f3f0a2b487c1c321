"""What the segmenter sees."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from configs import mvtec
from diffad_jax.methods.diffad.brightness import Exposed
from diffad_jax.methods.diffad.reconstruct import Reconstruction
from diffad_jax.methods.diffad.segment import segmenter_input

X_R, X_INTER, IMAGE = jax.random.uniform(jax.random.key(0), (3, 2, 4, 4, 3))


def seen(kind):
    config = mvtec.get_config()
    config.segmentation.input = kind
    repaired = Reconstruction(reconstruction=X_R, interpolated=X_INTER[:, None])
    photo = Exposed(IMAGE, jnp.ones((2, 1, 1, 1)))
    return segmenter_input(repaired, photo, config=ml_collections.FrozenConfigDict(config))


def test_images_in_the_published_order():
    np.testing.assert_array_equal(seen("images"), np.concatenate([X_R, X_INTER, IMAGE], axis=-1))


def test_differences_say_the_same_and_vanish_where_nothing_changed():
    of_r, of_inter, image = np.split(np.asarray(seen("differences")), 3, axis=-1)
    image = (image + 1.0) / 2.0
    np.testing.assert_allclose(of_r / 4.0 + image, X_R, atol=1e-6)
    np.testing.assert_allclose(of_inter / 4.0 + image, X_INTER, atol=1e-6)
