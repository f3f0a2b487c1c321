"""Training batches: shuffle, synthesise, batch, shard by process; they can start at any step.

An example is a pure function of (seed, stage, split, index); index counts examples from the start
of the stage. So nothing is replayed on resuming, and any number of processes sees the same images.
"""

import functools
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_collections
import tensorflow as tf

from diffad_jax.data import images, layouts, picture_store, synthesis, textures
from diffad_jax.data.geometry import stream
from diffad_jax.types import Batch, Size

Frozen = ml_collections.FrozenConfigDict
_SPLIT_SALT = {"train": 0, "validation": 1}
_BATCH_FIELDS = ("image", "augmented_image", "anomaly_mask")


def batches(
    config: ml_collections.ConfigDict,
    category: str,
    *,
    split: str,
    batch_size: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    files: Sequence[Sequence[str]] | None = None,
    stage: str = "",
) -> Iterator[Batch]:
    """Endless batches of normal photos and their synthetic anomalies.

    Photos are drawn with replacement, as published.

    Args:
      config: the whole config.
      category: a folder below ``config.data.root``.
      split: ``train`` or ``validation`` (the held-out normal photos).
      batch_size: of all processes together; must be a multiple of ``process_count``.
      start_step: the first batch yielded is the one that an uninterrupted run sees at this step.
      process_index: this process's rank; it gets its own contiguous share of each batch.
      process_count: number of processes.
      stage: the one that learns from them; each stage sees examples of its own.
      files: the photos of ``split``, from the work's ``split.Split``, of each category that is
        learned from: their examples take turns. None draws the split from the photos of
        ``category`` that are there now.

    Raises:
      layouts.DataError: no such category, or no photo in this split.
      images.ImageError: an unreadable photo, unless ``config.data.on_bad_image`` is ``skip``.
    """
    dataset = examples(
        config,
        category,
        split,
        start_step,
        batch_size,
        process_index,
        process_count,
        fields=_BATCH_FIELDS,
        files=files,
        stage=stage,
    )
    dataset = dataset.batch(batch_size // process_count, drop_remainder=True)
    return dataset.prefetch(4).as_numpy_iterator()


def examples(
    config: ml_collections.ConfigDict,
    category: str,
    split: str,
    start_step: int = 0,
    batch_size: int = 1,
    process_index: int = 0,
    process_count: int = 1,
    fields: tuple[str, ...] = (*_BATCH_FIELDS, "texture"),
    files: Sequence[Sequence[str]] | None = None,
    stage: str = "",
) -> tf.data.Dataset:
    """The examples behind ``batches``, unbatched; by default each with its ``texture``."""
    local, left = divmod(batch_size, process_count)
    if left or not local:
        raise ValueError(
            f"batch_size = {batch_size} is not a multiple of {process_count} processes"
        )
    _hide_xla_flags()
    if files is None:
        files = [[r.file for r in split_records(config, category, split)]]
    c, rules = config.data, images.rules(config.data)
    stores = [
        picture_store.open_files(own, config.image_size, rules, c, share=len(files))
        for own in files
    ]
    counts = tf.constant([count for _, count in stores])
    synthesize = _synthesizer(config.image_size, Frozen(config.data), Frozen(config.synthesis))
    drawn = (_stage_salt(stage) << 32) + 2 * config.seed + _SPLIT_SALT[split]
    run = tf.constant(drawn, tf.int64)

    def index(k: tf.Tensor) -> tf.Tensor:
        return (start_step + k // local) * batch_size + process_index * local + k % local

    def example(i: tf.Tensor) -> dict[str, tf.Tensor]:
        seed = tf.stack([run, i])
        turn = tf.cast(i % len(stores), tf.int32)
        which = tf.random.stateless_uniform([], stream(seed, 4), 0, counts[turn], tf.int32)
        photo = tf.switch_case(turn, [functools.partial(look, which) for look, _ in stores])
        made = synthesize(photo, seed)
        return {k: made[k] for k in fields}

    # One map for all parts: with three maps, a core made 5 % fewer examples. Conversion of Python's
    # own ifs and loops, of which there are none, would take half of the time to begin.
    made = tf.autograph.experimental.do_not_convert(lambda k: example(index(k)))
    dataset = tf.data.Dataset.counter()
    return dataset.map(made, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@functools.lru_cache(maxsize=1)
def _synthesizer(image_size: Size, data: Frozen, of_anomalies: Frozen) -> Callable[..., Any]:
    """``synthesis.synthesize`` with its textures, which all stages and categories share."""
    source = textures.texture_source(
        ml_collections.ConfigDict({"image_size": image_size, "data": data})
    )
    return tf.function(
        lambda photo, seed: synthesis.synthesize(photo, source, seed, of_anomalies), autograph=False
    )


def _stage_salt(stage: str) -> int:
    """A number in 0 … 2³¹ − 1 for each stage, so that no two stages see the same examples."""
    return zlib.crc32(stage.encode()) >> 1


@functools.cache
def _hide_xla_flags() -> None:
    """Makes TensorFlow's XLA read its flags once a process, while there are none.

    XLA_FLAGS is meant for JAX, whose XLA is newer. An unknown flag would end the process.
    """
    flags = os.environ.pop("XLA_FLAGS", None)
    tf.function(lambda: tf.constant(0), jit_compile=True)()
    if flags is not None:
        os.environ["XLA_FLAGS"] = flags


def split_records(
    config: ml_collections.ConfigDict, category: str, split: str
) -> list[layouts.Record]:
    """The normal photos of ``split``.

    Raises:
      layouts.DataError: there are none.
    """
    train, held_out = layouts.normal_photos(config, category)
    chosen = train if split == "train" else held_out
    if not chosen:
        raise layouts.DataError(
            f"none of the {len(train)} normal photos in {config.data.root}/{category} is held out: "
            f"config.data.validation_share = {config.data.validation_share}"
        )
    return chosen
