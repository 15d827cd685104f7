"""Gradient descent, momentum, RMSprop, Adam and AdamW as plain update rules on tensors; they know no networks.

A rule moves all parameters of an ensemble at once, in place. What changes from step to step (the learning
rate, Adam's corrections for its start) is worked out ahead by `schedule`, so that a rule is the same few
tensor operations at every step and can be captured in a CUDA graph.
"""

import torch
from torch import Tensor

from labkit.core.costs import STATES

BETA2 = 0.999  # Adam's memory of squared gradients (Kingma and Ba, 2015, section 2)
ALPHA = 0.99  # RMSprop's, as in torch.optim.RMSprop
EPSILON = 1e-8


class Optimizer:
    """One of the rules of `spec.OPTIMIZERS`, with its state for an ensemble's parameters.

    Args:
        name: Which rule.
        parameters: What is moved.  # (members, P)
        momentum: Share of the last step that is kept; Adam's beta1.
        l1: Adds l1·sign(w) to the gradient.
        l2: Adds l2·w to the gradient, torch.optim's `weight_decay`; adamw takes it off the weights instead.
    """

    def __init__(self, name: str, parameters: Tensor, *, momentum: float = 0.9, l1: float = 0.0, l2: float = 0.0):
        self.name = name
        self.parameters = parameters
        self.beta = momentum
        self.l1, self.l2 = l1, l2
        self.state = [torch.zeros_like(parameters) for _ in range(STATES[name])]
        self._scratch = torch.empty_like(parameters)
        self._memory = BETA2 if name.startswith("adam") else ALPHA
        self._keep = parameters.new_tensor(self._memory)
        self._new = parameters.new_tensor(1 - momentum)
        self._beta = parameters.new_tensor(momentum)

    def schedule(self, first: int, steps: int, lr: Tensor) -> Tensor:
        """Return what each of the next steps multiplies and adds: step size, epsilon, and what decay leaves.

        Args:
            first: Steps already made.
            steps: How many to schedule.
            lr: Learning rates, float64.  # (members, 1)
        """
        made = torch.arange(first + 1, first + steps + 1, dtype=torch.float64).reshape(-1, 1, 1)
        size, epsilon = lr.expand(steps, -1, 1).clone(), torch.full_like(made, EPSILON)
        if self.name.startswith("adam"):
            correction = (1 - BETA2**made).sqrt()
            size *= correction / (1 - self.beta**made)
            epsilon *= correction
        left = 1 - lr.expand_as(size) * self.l2
        return torch.stack([size, epsilon.expand_as(size), left], 1)  # (steps, 3, members, 1)

    def step(self, gradient: Tensor, size: Tensor, epsilon: Tensor, left: Tensor) -> None:
        """Move the parameters against `gradient`, which is overwritten where there are penalties."""  # (members, P)
        if self.l1:
            gradient.add_(self.parameters.sign(), alpha=self.l1)
        if self.l2 and self.name == "adamw":
            self.parameters.mul_(left)
        elif self.l2:
            gradient.add_(self.parameters, alpha=self.l2)
        self.parameters.addcmul_(self._direction(gradient, epsilon), size, value=-1)

    def _direction(self, gradient: Tensor, epsilon: Tensor) -> Tensor:
        """Where to go, before the step size."""
        if self.name == "sgd":
            return gradient
        if self.name == "momentum":
            return self.state[0].mul_(self._beta).add_(gradient)
        mean, square = (gradient, *self.state)[-2:]
        square.mul_(self._keep).addcmul_(gradient, gradient, value=1 - self._memory)
        if self.name.startswith("adam"):
            mean.lerp_(gradient, self._new)
        torch.sqrt(square, out=self._scratch).add_(epsilon)
        return torch.div(mean, self._scratch, out=self._scratch)

    def __repr__(self) -> str:
        return f"Optimizer: {self.name} over {self.parameters.shape[1]:,} parameters of {len(self.parameters)} members"
