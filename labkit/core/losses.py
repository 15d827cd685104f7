"""Mean squared error, cross entropy and Huber: value and slope with respect to the prediction.

Targets have the shape of the prediction: classes are one-hot. Everything is a mean over samples and
outputs, for each member of an ensemble apart, as in `torch.nn.functional`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from labkit.core.rules import option
from labkit.core.spec import LOSSES as OPTIONS
from labkit.core.spec import Spec


@dataclass(frozen=True)
class LossRule:
    """One loss, in the forms that `Loss` gives it: functions of prediction, target and the `Loss` with its options."""

    functional: Callable[[Tensor, Tensor, "Loss"], Tensor]
    values: Callable[[Tensor, Tensor, "Loss"], Tensor]
    slope: Callable[[Tensor, Tensor, "Loss", Tensor], Tensor]  # written into the last one
    scale: Callable[[int, int], float]  # of samples and outputs


def _huber(prediction: Tensor, target: Tensor, loss: "Loss") -> Tensor:
    error = (prediction - target).abs()
    inside = error.clamp(max=loss.delta)
    return (inside * (error - 0.5 * inside)).mean((-2, -1))


def _huber_slope(prediction: Tensor, target: Tensor, loss: "Loss", out: Tensor) -> Tensor:
    return torch.sub(prediction, target, out=out).clamp_(-loss.delta, loss.delta)


LOSSES = {
    "mse": LossRule(
        functional=lambda prediction, target, loss: functional.mse_loss(prediction, target),
        values=lambda prediction, target, loss: (prediction - target).square().mean((-2, -1)),
        slope=lambda prediction, target, loss, out: torch.sub(prediction, target, out=out),
        scale=lambda samples, outputs: 2 / (samples * outputs),
    ),
    "cross_entropy": LossRule(
        functional=lambda prediction, target, loss: functional.cross_entropy(prediction, target),
        values=lambda prediction, target, loss: (prediction.logsumexp(-1) - (prediction * target).sum(-1)).mean(-1),
        slope=lambda prediction, target, loss, out: torch.softmax(prediction, -1, out=out).sub_(target),
        scale=lambda samples, outputs: 1 / samples,
    ),
    "huber": LossRule(
        functional=lambda prediction, target, loss: functional.huber_loss(prediction, target, delta=loss.delta),
        values=_huber,
        slope=_huber_slope,
        scale=lambda samples, outputs: 1 / (samples * outputs),
    ),
}


class Loss:
    """One of `LOSSES`.

    Called as `loss(prediction, target)` it is the scalar that `torch.nn.functional` gives, for autograd,
    planes and sharpness; class numbers or one-hot targets both serve under cross entropy.

    Raises:
        ValueError: if there is no loss of that name.
    """

    def __init__(self, name: str, huber_delta: float = 1.0) -> None:
        option("loss", name, LOSSES)
        self.name = name
        self.delta: float = huber_delta

    @classmethod
    def of(cls, spec: Spec) -> "Loss":
        """Return the loss that a spec asks for."""
        return cls(spec.loss, spec.huber_delta)

    @property
    def classes_only(self) -> bool:
        """Whether it compares class probabilities."""
        return OPTIONS[self.name].classes_only

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss as a scalar."""  # (N, out), (N, out) or (N,) → ()
        return LOSSES[self.name].functional(prediction, target, self)

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each member."""  # (…, N, out), (…, N, out) → (…)
        return LOSSES[self.name].values(prediction, target, self)

    def slope(self, prediction: Tensor, target: Tensor, out: Tensor) -> Tensor:
        """Write into `out` the derivative of the summed member losses, times the count that `scale` divides by."""
        return LOSSES[self.name].slope(prediction, target, self, out)

    def scale(self, samples: int, outputs: int) -> float:
        """What turns `slope` into the derivative of the mean."""
        return LOSSES[self.name].scale(samples, outputs)

    def __repr__(self) -> str:
        return f"Loss: {self.name}" + (f", delta {self.delta:g}" if "huber_delta" in OPTIONS[self.name].options else "")


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
