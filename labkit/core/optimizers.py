"""Update rules on plain tensors: gradient descent, momentum, RMSprop, Adam and AdamW.

A rule moves all parameters of an ensemble at once, in place. What changes from step to step (the learning
rate, Adam's corrections for its start) is worked out ahead by `schedule`, so that a rule is the same few
tensor operations at every step and can be captured in a CUDA graph.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.core.rules import option
from labkit.core.spec import Spec

BETA2 = 0.999  # Adam's memory of squared gradients (Kingma and Ba, 2015, section 2)
ALPHA = 0.99  # RMSprop's, as in torch.optim.RMSprop
EPSILON = 1e-8


@dataclass(frozen=True)
class Rule:
    """How a gradient becomes a step."""

    direction: Callable[["Optimizer", Tensor, Tensor], Tensor]  # of gradient and epsilon, before the step size
    states: tuple[str, ...] = ()  # names of the tensors that it keeps, each of the parameters' shape
    memory: float = 0.0  # share of the squared gradients that is kept
    corrected: bool = False  # the step size, for Adam's start
    decoupled: bool = False  # l2 is taken off the weights instead of added to the gradient


def _momentum(self: "Optimizer", gradient: Tensor, epsilon: Tensor) -> Tensor:
    return self.state["velocity"].mul_(self._beta).add_(gradient)


def _rmsprop(self: "Optimizer", gradient: Tensor, epsilon: Tensor) -> Tensor:
    return self._over_root(gradient, gradient, epsilon)


def _adam(self: "Optimizer", gradient: Tensor, epsilon: Tensor) -> Tensor:
    return self._over_root(self.state["mean"].lerp_(gradient, self._new), gradient, epsilon)


RULES = {
    "sgd": Rule(lambda self, gradient, epsilon: gradient),
    "momentum": Rule(_momentum, ("velocity",)),
    "rmsprop": Rule(_rmsprop, ("square",), ALPHA),
    "adam": Rule(_adam, ("mean", "square"), BETA2, corrected=True),
    "adamw": Rule(_adam, ("mean", "square"), BETA2, corrected=True, decoupled=True),
}


class Optimizer:
    """One of `RULES`, with its state for an ensemble's parameters.

    Args:
        name: Which rule.
        parameters: What is moved.  # (members, P)
        momentum: Share of the last step that is kept; Adam's beta1.
        l1: Adds l1·sign(w) to the gradient.
        l2: Adds l2·w to the gradient, torch.optim's `weight_decay`; adamw takes it off the weights instead.

    Raises:
        ValueError: if there is no rule of that name.
    """

    def __init__(
        self, name: str, parameters: Tensor, *, momentum: float = 0.9, l1: float = 0.0, l2: float = 0.0
    ) -> None:
        self.name, self.rule = name, option("optimizer", name, RULES)
        self.parameters = parameters
        self.beta = momentum
        self.l1, self.l2 = l1, l2
        self.state = {state: torch.zeros_like(parameters) for state in self.rule.states}
        self._scratch = torch.empty_like(parameters)
        self._keep = parameters.new_tensor(self.rule.memory)
        self._new = parameters.new_tensor(1 - momentum)
        self._beta = parameters.new_tensor(momentum)

    @classmethod
    def of(cls, spec: Spec, parameters: Tensor) -> "Optimizer":
        """Return the optimizer that a spec asks for."""
        return cls(spec.optimizer, parameters, momentum=spec.momentum, l1=spec.l1, l2=spec.l2)

    def schedule(self, first: int, steps: int, lr: Tensor) -> Tensor:
        """Return what each of the next steps multiplies and adds: step size, epsilon, and what decay leaves.

        Args:
            first: Steps already made.
            steps: How many to schedule.
            lr: Learning rates, float64.  # (members, 1)
        """
        made = torch.arange(first + 1, first + steps + 1, dtype=torch.float64).reshape(-1, 1, 1)
        size, epsilon = lr.expand(steps, -1, 1).clone(), torch.full_like(made, EPSILON)
        if self.rule.corrected:
            correction = (1 - BETA2**made).sqrt()
            size *= correction / (1 - self.beta**made)
            epsilon *= correction
        left = 1 - lr.expand_as(size) * self.l2
        return torch.stack([size, epsilon.expand_as(size), left], 1)  # (steps, 3, members, 1)

    def step(self, gradient: Tensor, size: Tensor, epsilon: Tensor, left: Tensor) -> None:
        """Move the parameters against `gradient`, which is overwritten where there are penalties."""  # (members, P)
        if self.l1:
            gradient.add_(self.parameters.sign(), alpha=self.l1)
        if self.l2 and self.rule.decoupled:
            self.parameters.mul_(left)
        elif self.l2:
            gradient.add_(self.parameters, alpha=self.l2)
        self.parameters.addcmul_(self.rule.direction(self, gradient, epsilon), size, value=-1)

    def _over_root(self, mean: Tensor, gradient: Tensor, epsilon: Tensor) -> Tensor:
        """Divide by the root of the mean square of the gradients."""
        square = self.state["square"].mul_(self._keep)
        square.addcmul_(gradient, gradient, value=1 - self.rule.memory)
        torch.sqrt(square, out=self._scratch).add_(epsilon)
        return torch.div(mean, self._scratch, out=self._scratch)

    def __repr__(self) -> str:
        return f"Optimizer: {self.name} over {self.parameters.shape[1]:,} parameters of {len(self.parameters)} members"
