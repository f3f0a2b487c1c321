"""What ``loader.py`` measures; each in a process of its own, which prints one JSON object."""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable

import ml_collections
import numpy as np

from configs import mvtec

BATCH_SIZE = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurement", choices=MEASUREMENTS)
    parser.add_argument("--photos", required=True, help="ROOT:CATEGORY")
    parser.add_argument("--textures", required=True, help="procedural, or a folder of images")
    parser.add_argument("--texture_files", required=True, help="the folder that OpenCV reads")
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    # Before any library counts the cores to make its threads.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    root, category = args.photos.rsplit(":", 1)
    config = mvtec.get_config(category)
    config.data.root, config.data.textures = root, args.textures
    metrics = MEASUREMENTS[args.measurement](config, args)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(metrics | {"peak_memory_mib": peak}))


def _ours(config: ml_collections.ConfigDict, args: argparse.Namespace) -> dict:
    _limit_tensorflow(args.cores)
    from diffad_jax.data import pipeline

    batches = pipeline.batches(config, config.categories[0], split="train", batch_size=BATCH_SIZE)
    return _rate(lambda: next(batches), BATCH_SIZE, args.seconds)


def _ours_anomalous(config: ml_collections.ConfigDict, args: argparse.Namespace) -> dict:
    config.synthesis.normal_probability = 0.0
    return _ours(config, args)


def _ours_from_disk(config: ml_collections.ConfigDict, args: argparse.Namespace) -> dict:
    config.data.cache_mib = 0
    return _ours(config, args)


def _ours_parts(config: ml_collections.ConfigDict, args: argparse.Namespace) -> dict:
    """Milliseconds a call inside tf.data, less those of an empty step."""
    tf = _limit_tensorflow(args.cores)
    from diffad_jax.data import augment, geometry, images, listing, perlin, synthesis, textures

    c, size = config.synthesis, config.image_size
    source = textures.texture_source(config)
    files = listing.find_photos(args.texture_files)[0]
    texture = tf.constant(images.read_image(files[0], size, images.Rules("antialias")), tf.float32)

    def mask_of(seed: tf.Tensor) -> tf.Tensor:
        return tf.cast(
            perlin.anomaly_noise(size, seed, endless=c.perlin_endless) > synthesis.NOISE_THRESHOLD,
            tf.float32,
        )

    mask = mask_of(tf.constant([0, 1], tf.int64))

    def in_tf_data(op: Callable) -> float:
        dataset = tf.data.Dataset.counter().map(lambda i: op(tf.stack([i, i])))
        examples = iter(dataset)
        return 1e3 / _rate(lambda: next(examples), 1, args.seconds / 20)["examples_per_cpu_second"]

    empty = in_tf_data(lambda seed: seed)
    steps: dict[str, Callable] = {
        "rotation of the photo": lambda seed: geometry.rotate(
            texture, tf.cast(seed[0], tf.float32)
        ),
        "texture": source,
        "three augmenters": lambda seed: augment.augment(texture, seed),
        "Perlin mask": mask_of,
        "blend": lambda seed: synthesis.blend(
            texture, 255.0 - texture, mask, geometry.uniform([], seed, 0.0, c.max_beta)
        ),
    }
    for op in augment.AUGMENTERS:
        steps[op.__name__] = lambda seed, op=op: op(texture, geometry.uniform([3], seed))
    parts = {name: in_tf_data(step) - empty for name, step in steps.items()}
    return {"ms_a_call": {"decode and resize": _decode_ms(config, args)} | parts}


def _numpy(
    config: ml_collections.ConfigDict, args: argparse.Namespace, skips_normal: bool = False
) -> dict:
    loader = _numpy_loader(config, args, skips_normal)

    def batch() -> dict[str, np.ndarray]:
        examples = [loader.example() for _ in range(BATCH_SIZE)]
        return {k: np.stack([e[k] for e in examples]) for k in examples[0]}

    return _rate(batch, BATCH_SIZE, args.seconds)


def _numpy_skipping(config: ml_collections.ConfigDict, args: argparse.Namespace) -> dict:
    return _numpy(config, args, skips_normal=True)


def _numpy_parts(config: ml_collections.ConfigDict, args: argparse.Namespace) -> dict:
    """Milliseconds an example of each part, and a call of each augmenter."""
    import cv2

    from benchmarks import numpy_loader

    loader = _numpy_loader(config, args, skips_normal=False)
    count = 200
    for i in range(count + 10):
        if i == 10:
            loader.seconds.clear()
        loader.example()
    parts = {name: 1e3 * s / count for name, s in loader.seconds.items()}
    rng = np.random.default_rng(0)
    size = (config.image_size, config.image_size)
    texture = cv2.resize(cv2.imread(loader.textures[0]), size)
    for op in numpy_loader.AUGMENTERS:
        metrics = _rate(lambda op=op: op(texture, rng, config.synthesis), 1, args.seconds / 20)
        parts[op.__name__] = 1e3 / metrics["examples_per_cpu_second"]
    return {"ms_a_call": parts}


def _read(config: ml_collections.ConfigDict, args: argparse.Namespace) -> dict:
    """Decoding and resizing alone."""
    from diffad_jax.data import images

    files = iter(_photo_files(config) * 10_000)
    size, rules = config.image_size, images.rules(config.data)
    return _rate(lambda: images.read_image(next(files), size, rules), 1, args.seconds)


def _write_textures(config: ml_collections.ConfigDict, args: argparse.Namespace) -> dict:
    """Procedural textures as files, for the reference, which can only read files."""
    tf = _limit_tensorflow(args.cores)
    from PIL import Image

    from diffad_jax.data import textures

    for i in range(50):
        texture = textures.procedural_texture(tf.constant([0, i]), config.image_size)
        pixels = Image.fromarray(texture.numpy().astype(np.uint8))
        pixels.save(os.path.join(args.texture_files, f"{i:03d}.png"))
    return {}


MEASUREMENTS: dict[str, Callable[[ml_collections.ConfigDict, argparse.Namespace], dict]] = {
    "ours": _ours,
    "ours_anomalous": _ours_anomalous,
    "ours_from_disk": _ours_from_disk,
    "ours_parts": _ours_parts,
    "numpy": _numpy,
    "numpy_skipping": _numpy_skipping,
    "numpy_parts": _numpy_parts,
    "read": _read,
    "write_textures": _write_textures,
}


def _rate(step: Callable[[], object], examples: int, seconds: float) -> dict[str, float]:
    """Examples a second of the clock and of the CPU, after a warm-up of a quarter of the time.

    On a machine with other work the CPU's seconds say more: of the clock's, others take a share.
    """
    started = time.perf_counter()
    step()
    first = time.perf_counter() - started
    while time.perf_counter() - started < first + seconds / 4:
        step()
    count, started, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        step()
        count += examples
    return {
        "examples_per_second": count / (time.perf_counter() - started),
        "examples_per_cpu_second": count / (time.process_time() - cpu),
        "first_seconds": first,
    }


def _limit_tensorflow(cores: int):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(cores)
    tf.config.threading.set_inter_op_parallelism_threads(cores)
    return tf


def _numpy_loader(config: ml_collections.ConfigDict, args: argparse.Namespace, skips_normal: bool):
    import cv2

    from benchmarks import numpy_loader
    from diffad_jax.data import listing

    cv2.setNumThreads(args.cores)
    textures = listing.find_photos(args.texture_files)[0]
    return numpy_loader.NumpyLoader(
        _photo_files(config), textures, config.image_size, config.synthesis, 0, skips_normal
    )


def _photo_files(config: ml_collections.ConfigDict) -> list[str]:
    from diffad_jax.data import layouts

    records = layouts.read_category(config.data.root, config.categories[0], config.data.layout)
    return [r.file for r in records if r.split == "train"]


def _decode_ms(config: ml_collections.ConfigDict, args: argparse.Namespace) -> float:
    return (
        1e3
        / _read(config, argparse.Namespace(seconds=args.seconds / 10))["examples_per_cpu_second"]
    )


if __name__ == "__main__":
    main()
