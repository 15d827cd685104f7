"""How the numbers inside a network spread from layer to layer: what its start does to them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Signal:
    """The sums of a network's linear layers (weights times inputs plus bias, before the activation), layer by layer.

    Attributes:
        square: Their mean square, over samples and units.  # (layers,)
        variance: Their variance over the samples, a mean over units: what depends on the input.  # (layers,)
        dead_fraction: The share of units whose sum is never above 0: a ReLU lets nothing through.  # (layers,)
    """

    square: np.ndarray
    variance: np.ndarray
    dead_fraction: np.ndarray

    def __repr__(self) -> str:
        ends = f"{self.variance[0]:.3g} in the first layer, {self.variance[-1]:.3g} in the last"
        return f"Signal through {len(self.variance)} layers: variance over the samples {ends}"


def signal(model: nn.Module, x: Tensor) -> Signal:
    """Measure the sums of every linear layer for a batch (He et al. 2015, arXiv:1502.01852, section 2.2).

    Args:
        model: Any module; its `nn.Linear` layers are measured in the order in which they are used.
        x: The inputs.  # (N, inputs), N at least 2

    Raises:
        ValueError: if the model has no linear layer, or there are fewer than two samples.
    """
    if len(x) < 2:
        raise ValueError(f"x has {len(x)} samples: a variance over samples needs at least 2.")
    rows: list[tuple[float, float, float]] = []

    def measure(layer: nn.Module, inputs: object, sums: Tensor) -> None:
        wide = sums.double().reshape(-1, sums.shape[-1])  # (N, out)
        dead = (wide <= 0).all(0).double().mean()
        rows.append((float(wide.square().mean()), float(wide.var(0).mean()), float(dead)))

    hooks = [part.register_forward_hook(measure) for part in model.modules() if isinstance(part, nn.Linear)]
    if not hooks:
        raise ValueError(f"{type(model).__name__} has no linear layer to measure.")
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return Signal(*np.array(rows).T)
