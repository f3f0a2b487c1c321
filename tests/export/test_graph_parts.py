"""Parts of exported graphs that need no trained detector."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from diffad_jax.data import photo
from diffad_jax.export import (
    onnx_builder,
    onnx_jaxpr,
    onnx_random,
    quantized,
)
from diffad_jax.export.errors import ExportError


def test_more_verdicts_than_allowed_are_refused():
    verdicts = {"photos": 50, "changed": 2, "share": 0.04}
    aurocs = {"drawn_defects": {"before": None, "after": None}}
    aurocs["test_photos"] = {"before": 0.99, "after": 0.5}
    report = {"verdicts": verdicts, "image_auroc": aurocs}
    quantized.refuse(report, max_changed=0.04)
    text = (
        "change 2 of 50 verdicts.*=0.01 allows .image AUROC of test photos 0.9900 and then 0.5000"
    )
    with pytest.raises(ExportError, match=text):
        quantized.refuse(report, max_changed=0.01)


def test_onnx_refuses_what_it_does_not_know():
    unknown = jax.make_jaxpr(jax.numpy.cumsum)(np.zeros(3, np.float32))
    with pytest.raises(ExportError, match="does not know JAX's operation 'cumsum'"):
        onnx_jaxpr.add(onnx_builder.Builder("image", None), unknown, ["x"])


@pytest.mark.parametrize("shape", [(), (5,), (1, 3, 2)])
def test_threefry_draws_the_bits_of_jax_random(shape):
    counts = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)
    x, y = onnx_random.threefry(np.array([7, 4_000_000_000], np.uint32), counts)
    key = jax.random.wrap_key_data(np.array([7, 4_000_000_000], np.uint32))
    np.testing.assert_array_equal(x ^ y, jax.random.bits(key, shape))


@pytest.mark.parametrize("rule", ["bilinear", "antialias"])
def test_tensorflow_reads_the_same_pixels(rule):
    import tensorflow as tf

    from diffad_jax.export import tensorflow_photo

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def read(data):
        return tensorflow_photo.read(data, (16, 24), rule, 12)

    rng, rules = np.random.default_rng(0), photo.Rules(rule, bit_depth=12)
    for height, width in ((20, 20), (16, 16), (301, 77), (9, 200), (1, 5)):
        for kind in ("PNG", "JPEG", "BMP"):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(file, kind)
            expected = photo.resized(photo.decode(file.getvalue(), rules), (16, 24), rule)
            np.testing.assert_array_equal(read(file.getvalue()), expected)
    for top, deep in ((4095, True), (4096, False)):
        levels = rng.integers(0, 4096, (20, 24), np.uint16)
        levels[3, 4] = top
        file = io.BytesIO()
        Image.fromarray(levels).save(file, "PNG")
        if deep:
            expected = photo.resized(photo.decode(file.getvalue(), rules), (16, 24), rule)
            np.testing.assert_array_equal(read(file.getvalue()), expected)
            continue
        with pytest.raises(tf.errors.InvalidArgumentError, match="exceed 12 bit"):
            read(file.getvalue())
