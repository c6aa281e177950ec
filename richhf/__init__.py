"""RAHF in JAX/Flax."""
