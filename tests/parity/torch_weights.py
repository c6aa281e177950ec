"""Random weights for PyTorch's modules: none that is zero or one, as fresh norms and biases are."""

import numpy as np
import torch


@torch.no_grad()
def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Fills a module with numbers of a trained network's size.

    T5 does not scale its attention, so that its query kernels are smaller by the root of a head's width.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, weight in module.named_parameters():
        weight.normal_(generator=generator)
        if weight.ndim == 2 and ("shared" in name or "relative" in name):
            # Small embeddings: what is decoded then depends on more than the last token.
            weight.mul_(0.03 if "shared" in name else 1.0)
        elif name.endswith("SelfAttention.q.weight") or name.endswith("EncDecAttention.q.weight"):
            weight.mul_((weight.shape[1] * 64) ** -0.5)
        elif weight.ndim in (2, 4):
            fan_in = weight[0].numel()
            weight.mul_(fan_in**-0.5)
        else:
            is_scale = name.endswith("scale") or ("norm" in name and name.endswith("weight"))
            weight.mul_(0.1).add_(float(is_scale))


def arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """A module's `state_dict` as arrays by name, in its own memory."""
    return {name: value.numpy() for name, value in module.state_dict().items()}
