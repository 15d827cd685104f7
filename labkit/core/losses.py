"""Mean squared error, cross entropy and Huber: value and slope with respect to the prediction.

Targets have the shape of the prediction: classes are one-hot. Everything is a mean over samples and
outputs, for each member of an ensemble apart, as in `torch.nn.functional`.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


class Loss:
    """One of the losses of `spec.LOSSES`.

    Called as `loss(prediction, target)` it is the scalar that `torch.nn.functional` gives, for autograd,
    planes and sharpness; class numbers or one-hot targets both serve under cross entropy.
    """

    def __init__(self, name: str, huber_delta: float = 1.0) -> None:
        self.name = name
        self.delta = huber_delta

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss as a scalar."""  # (N, out), (N, out) or (N,) → ()
        if self.name == "mse":
            return functional.mse_loss(prediction, target)
        if self.name == "huber":
            return functional.huber_loss(prediction, target, delta=self.delta)
        return functional.cross_entropy(prediction, target)

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each member."""  # (…, N, out), (…, N, out) → (…)
        if self.name == "cross_entropy":
            each = prediction.logsumexp(-1) - (prediction * target).sum(-1)
            return each.mean(-1)
        error = prediction - target
        if self.name == "mse":
            return error.square().mean((-2, -1))
        inside = error.abs().clamp(max=self.delta)
        return (inside * (error.abs() - 0.5 * inside)).mean((-2, -1))

    def slope(self, prediction: Tensor, target: Tensor, out: Tensor) -> Tensor:
        """Write into `out` the derivative of the summed member losses, times the count that `scale` divides by."""
        if self.name == "cross_entropy":
            return torch.softmax(prediction, -1, out=out).sub_(target)
        torch.sub(prediction, target, out=out)
        return out.clamp_(-self.delta, self.delta) if self.name == "huber" else out

    def scale(self, samples: int, outputs: int) -> float:
        """What turns `slope` into the derivative of the mean."""
        count = samples if self.name == "cross_entropy" else samples * outputs
        return 2 / count if self.name == "mse" else 1 / count

    def __repr__(self) -> str:
        return f"Loss: {self.name}" + (f", delta {self.delta:g}" if self.name == "huber" else "")


def accuracy(prediction: Tensor, target: Tensor) -> Tensor:
    """Share of right answers of each member; one output answers by its sign. Targets may be class numbers."""
    target = as_columns(target, prediction.shape[-1])  # (…, N, out), (…, N, out) or (N,) → (…)
    if target.shape[-1] == 1:
        return ((prediction > 0) == (target > 0)).squeeze(-1).float().mean(-1)
    return (prediction.argmax(-1) == target.argmax(-1)).float().mean(-1)


def r_squared(prediction: Tensor, target: Tensor) -> Tensor:
    """Share of the targets' variance that is explained: below 0 is worse than the mean."""  # (…, N, 1) → (…)
    unexplained = (prediction - target).square().sum((-2, -1))
    total = (target - target.mean(-2, keepdim=True)).square().sum((-2, -1))
    return torch.where(total > 0, 1 - unexplained / total, torch.nan)


def score_of(classes: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Return accuracy for classes, R² for a regression."""
    return accuracy if classes else r_squared


def as_columns(target: Tensor, classes: int) -> Tensor:
    """Write class numbers one-hot; leave other targets as they are."""  # (N,) or (N, out) → (N, out)
    return functional.one_hot(target, classes).float() if target.ndim == 1 else target
