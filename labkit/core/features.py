"""What a network is given of data with two inputs: the inputs themselves, squares, a product, sines."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.core.spec import PLAIN

FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "x1": lambda x: x[:, 0],
    "x2": lambda x: x[:, 1],
    "x1^2": lambda x: x[:, 0] ** 2,
    "x2^2": lambda x: x[:, 1] ** 2,
    "x1*x2": lambda x: x[:, 0] * x[:, 1],
    "sin(x1)": lambda x: torch.sin(x[:, 0]),
    "sin(x2)": lambda x: torch.sin(x[:, 1]),
}


def made_of(x: Tensor, features: tuple[str, ...]) -> Tensor:
    """Return what a network is given of raw inputs."""  # (N, inputs) → (N, features), or as they are
    return x if features == PLAIN else torch.stack([FEATURES[name](x) for name in features], 1)
