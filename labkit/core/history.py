"""What is recorded while a training goes on: losses, evaluations on the test set, and snapshots of the weights."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


def next_evaluation(step: int) -> int:
    """Return the first step after `step` with an evaluation by schedule: there are eight in every doubling."""
    stride = 1 << max(0, step.bit_length() - 4)
    return (step // stride + 1) * stride


class Evaluation(NamedTuple):
    """Test loss and score at a step."""

    step: int
    loss: Tensor  # (members,)
    score: Tensor  # (members,)


class History:
    """The record of an ensemble.

    Attributes:
        evaluations: on the test set, in order.
        snapshots: (step, weights) along the way.  # (members, P) each
        to_keep: the steps still to come at which the weights are kept, the next one last.
    """

    def __init__(self, members: int, steps: int, snapshots: int) -> None:
        self.evaluations: list[Evaluation] = []
        self.snapshots: list[tuple[int, Tensor]] = []
        ends = max(1, snapshots - 1)
        self.to_keep = sorted({round(k * steps / ends) for k in range(snapshots)}, reverse=True)
        self._losses = torch.empty(0, members)  # grows by doubling; the first `_recorded` rows are losses
        self._recorded = 0

    @property
    def losses(self) -> Tensor:
        """The training losses before each update."""  # (steps, members)
        return self._losses[: self._recorded]

    def record(self, losses: Tensor) -> None:
        """Append losses."""  # (steps, members)
        end = self._recorded + len(losses)
        if end > len(self._losses):
            grown = torch.empty(2 * end, self._losses.shape[1])
            grown[: self._recorded] = self.losses
            self._losses = grown
        self._losses[self._recorded : end] = losses
        self._recorded = end

    def due(self, step: int) -> bool:
        """Whether an evaluation is due by schedule at a step."""
        return not self.evaluations or next_evaluation(self.evaluations[-1].step) <= step

    def evaluated(self, step: int) -> bool:
        """Whether the last evaluation was at a step."""
        return bool(self.evaluations) and self.evaluations[-1].step == step

    def forget(self, step: int) -> None:
        """Drop an evaluation at a step: the weights are others now."""
        if self.evaluated(step):
            self.evaluations.pop()

    def forget_unscheduled(self, step: int) -> None:
        """Drop an evaluation off schedule when training goes on: a history follows from its spec alone."""
        if step and self.evaluated(step) and next_evaluation(step - 1) != step:
            self.evaluations.pop()

    def keep(self, step: int, theta: Tensor) -> None:
        """Keep the weights if a snapshot is due."""  # (members, P)
        if self.to_keep and self.to_keep[-1] == step:
            self.snapshots.append((self.to_keep.pop(), theta.cpu().clone()))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors by name, and facts for JSON."""
        tensors = {f"snapshot.{k}": theta for k, (_, theta) in enumerate(self.snapshots)}
        for k, (_, loss, score) in enumerate(self.evaluations):
            tensors |= {f"evaluation.{k}.loss": loss, f"evaluation.{k}.score": score}
        steps = {"evaluations": [each.step for each in self.evaluations]}
        return tensors | {"losses": self.losses}, steps | {"snapshots": [step for step, _ in self.snapshots]}

    def restored(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> "History":
        """Return a history that goes on from what `state` returned, to the same snapshots as this one.

        Raises:
            KeyError: if a tensor is missing.
        """
        history = History(self._losses.shape[1], 1, 0)
        for k, step in enumerate(facts["evaluations"]):
            loss, score = (tensors[f"evaluation.{k}.{name}"] for name in ("loss", "score"))
            history.evaluations.append(Evaluation(step, loss, score))
        history.snapshots = [(step, tensors[f"snapshot.{k}"]) for k, step in enumerate(facts["snapshots"])]
        history.to_keep = [step for step in self.to_keep if step not in facts["snapshots"]]
        history._losses, history._recorded = tensors["losses"], len(tensors["losses"])
        return history
