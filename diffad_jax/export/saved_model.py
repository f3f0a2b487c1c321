"""A TensorFlow SavedModel with three signatures, in the folder layout of TensorFlow Serving."""

from pathlib import Path

import numpy as np

from diffad_jax.export import artifact
from diffad_jax.export.artifact import Detect
from diffad_jax.export.contract import Format
from diffad_jax.export.errors import ExportError
from diffad_jax.export.graph import Model
from diffad_jax.export.stablehlo import PLATFORMS
from diffad_jax.types import height_width

VERSION = "1"  # TensorFlow Serving takes the folder with the largest number


def write(model: Model, folder: Path) -> None:
    """Writes ``1/saved_model.pb`` and ``1/variables``.

    All signatures give ``score`` [b] and ``anomaly_map`` [b, h, w]:

    - ``serving_default`` takes ``image_bytes`` [b] string, whole files, and does the
      pre-processing of ``data.photo`` itself;
    - ``pixels`` takes ``image`` [b, h, w, 3] float32 RGB in [0, 1], resized;
    - ``seeded`` takes ``image`` and ``seed`` [] int64 in 0 … 2³² − 1.

    Raises:
      ExportError: TensorFlow is not installed.
    """
    try:
        import tensorflow as tf
        from jax.experimental import jax2tf

        from diffad_jax.export import tensorflow_photo
    except ImportError as error:
        raise ExportError(
            "--format=saved_model needs TensorFlow: pip install 'diffad-jax[export]'"
        ) from error
    size, c = height_width(model.config.image_size), model.config.data
    graph = jax2tf.convert(
        model.__call__,
        polymorphic_shapes=[None, f"(b, {size[0]}, {size[1]}, 3)", None],
        with_gradient=False,
        native_serialization_platforms=PLATFORMS,
    )
    module = tf.Module()
    module.weights = {name: tf.Variable(value) for name, value in model.weights.items()}

    image_bytes = tf.TensorSpec((None,), tf.string, "image_bytes")
    image = tf.TensorSpec((None, *size, 3), tf.float32, "image")
    seed = tf.TensorSpec((), tf.int64, "seed")
    default = tf.constant(model.seed, tf.int64)

    @tf.function(autograph=False, input_signature=[image, seed])  # so the graph is stored once
    def detect(levels: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        return graph(dict(module.weights), levels, tf.cast(seed, tf.uint32))

    def from_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        photos = tf.map_fn(
            lambda data: tensorflow_photo.read(data, size, c.resize, c.bit_depth),
            image_bytes,
            fn_output_signature=tf.TensorSpec((*size, 3), tf.uint8),
        )
        return detect(tf.cast(photos, tf.float32), default)

    signatures = {
        "serving_default": (from_bytes, [image_bytes]),
        "pixels": (lambda image: detect(255.0 * image, default), [image]),
        "seeded": (lambda image, seed: detect(255.0 * image, seed), [image, seed]),
    }
    tf.saved_model.save(
        module,
        str(folder / VERSION),
        signatures={
            name: tf.function(f, autograph=False, input_signature=inputs).get_concrete_function()
            for name, (f, inputs) in signatures.items()
        },
    )


def load(folder: Path, card: dict) -> Detect:
    """See ``contract.Format``."""
    import tensorflow as tf

    model = tf.saved_model.load(str(artifact.listed(folder, card, "1")))

    def detect(image: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        scaled = tf.constant(image.astype(np.float32) / 255.0)
        # Through the model, because a signature does not keep its weights alive.
        found = model.signatures["seeded"](image=scaled, seed=tf.constant(seed, tf.int64))
        return {name: value.numpy() for name, value in found.items()}

    return detect


FORMAT = Format(
    write,
    load,
    ("tensorflow", "pillow"),
    """`1` is the detector as a TensorFlow SavedModel, for any number of photos at once.

| signature | takes |
|---|---|
| `serving_default` | `image_bytes` [b] string: whole PNG, JPEG or BMP files; decodes and resizes them itself |
| `pixels` | `image` [b, h, w, 3] float32 RGB in [0, 1], resized |
| `seeded` | the same, and `seed` [] int64 in 0 … 2³² − 1 |

`serving_default` does not read TIFF and does not obey a camera's orientation tag: store photos
upright. The graph is one operation, `XlaCallModule`, which an older TensorFlow than it was written
with may not take.

This folder is a `--model_base_path` of TensorFlow Serving:

    tensorflow_model_server --rest_api_port=8501 --model_name=detector --model_base_path=$PWD
    echo '{"instances": [{"image_bytes": {"b64": "'$(base64 -w0 PHOTO.png)'"}}]}' |
      curl -d @- http://localhost:8501/v1/models/detector:predict
""",  # noqa: E501
)
