"""Strict flags for every test: 8 virtual CPU devices, no silent rank promotion, array shapes checked.

They are set before anything imports jax; `richhf` is imported under jaxtyping's hook, so that every declared
shape and dtype is checked by beartype while tests run and costs nothing in production.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

import jaxtyping

jaxtyping.install_import_hook("richhf", "beartype.beartype")
