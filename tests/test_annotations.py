"""The suite checks the shapes that annotations state. Nothing else refuses these calls."""

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from diffad_jax.methods import losses
from diffad_jax.methods.diffad import windows
from diffad_jax.methods.diffad.brightness import Exposed
from diffad_jax.types import to_float

WHOLE = ml_collections.FrozenConfigDict({"autoencoder": {"window": 0}})


def test_arguments_that_do_not_fit_each_other_are_refused():
    with pytest.raises(TypeCheckError, match="'reconstruction'"):
        losses.l1(jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2, 1)))


def test_a_record_is_checked_where_a_function_takes_it():
    photo = Exposed(np.zeros((2, 4, 4, 3), np.float32), np.ones((2, 1, 1, 1), np.float32))
    assert windows.cut(photo, config=WHOLE) is photo
    with pytest.raises(TypeCheckError, match="'photo'"):
        windows.cut(photo._replace(gain=np.ones(2, np.float32)), config=WHOLE)
    with pytest.raises(TypeCheckError, match="'photo'"):
        windows.cut(photo._replace(image=np.zeros((2, 4, 4, 3), np.uint8)), config=WHOLE)


def test_other_annotations_are_left_alone():
    assert losses.focal(jnp.zeros((1, 2, 2, 2)), jnp.zeros((1, 2, 2)), gamma="").shape == (1,)
    with pytest.raises(TypeCheckError):
        to_float([0, 255])
