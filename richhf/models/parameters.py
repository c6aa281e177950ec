"""Parameters by part of the network, and how many there are."""

from collections.abc import Mapping
from typing import Any

import jax


def parameter_parts(params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Parameters by part: vit, visual_token_projection, t5, heatmap_heads, score_heads, and if there are any
    word_head and image_word_head.
    """
    parts: dict[str, dict[str, Any]] = {}
    for name, tree in params.items():
        part = next((kind + "s" for kind in ("heatmap_head", "score_head") if name.startswith(kind)), name)
        parts.setdefault(part, {})[name] = tree
    networks, heads = ("vit", "visual_token_projection", "t5"), ("heatmap_heads", "score_heads")
    order = (*networks, *heads, "word_head", "image_word_head")
    return {part: parts[part] for part in order if part in parts}


def parameter_counts(variables: Mapping[str, Any]) -> dict[str, int]:
    """Number of parameters by part.

    Args:
        variables: {"params": tree}, of arrays or of `jax.eval_shape`'s structs, boxed or not.

    Returns:
        counts by part (`parameter_parts`).
    """
    parts = parameter_parts(variables["params"])
    return {part: sum(leaf.size for leaf in jax.tree.leaves(tree)) for part, tree in parts.items()}
