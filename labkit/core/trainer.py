"""The `Trainer` that advances networks in chunks, keeps their history and stops at divergence."""

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit.core import devices
from labkit.core.data import Split, load_data
from labkit.core.history import Evaluation, History, next_evaluation
from labkit.core.kernel_stepper import KernelStepper, knows
from labkit.core.losses import Loss
from labkit.core.memory import FREE_AMONG_MEMBERS, check_data, check_training, same_ensemble, step_work
from labkit.core.network import ModuleNetwork, draw, place_of, to_module
from labkit.core.rules import Number, Whole
from labkit.core.seeds import generator
from labkit.core.spec import RULES, Spec
from labkit.core.torch_stepper import TorchStepper

WEIGHT = Number("a weight", -1e6, 1e6)
SNAPSHOTS = Whole("how many times along the way the weights are kept", 0, RULES["steps"].high + 1)


def divergence(step: int | None, losses: Sequence[float] | np.ndarray) -> str:
    """Say how a run diverged at `step`, or nothing if it did not."""
    if step is None:
        return ""
    last = f"last finite loss {losses[-1]:.4g}" if len(losses) else "the first loss already"
    return f"diverged at step {step:,}, {last}; try a smaller lr"


class Trainer:
    """Trains one spec, or several that share a shape as one ensemble.

    The numbers never depend on the chunks in which it is advanced; by the compiled loop (`run.way`) they follow from
    the spec alone, by torch from the spec, the device and its thread count.

    Args:
        spec: One spec, or specs that differ in learning rate, seed, noise or init only.
        data: Your own `(x, y)` in place of the spec's data set.
        model: Any `nn.Module` in place of the spec's network; a deep copy is trained.
        snapshots: How many times along the way the weights are kept, first and last step among them.

    Attributes:
        specs, splits: the members' choices and data; `spec` and `split` are the first one's.
        stepper: what makes the steps and holds the weights.
        history: what is recorded on the way.
        initial: the weights before the first step, or the module.  # (members, P)
        total: where training ends; may be moved while it goes on.
        seconds: time spent training, evaluations aside.
        own: which of "data" and "model" are user-supplied.

    Raises:
        ValueError: if the data, the device or the model cannot be used.
        DoesNotFit: if the run needs more memory than is free.
    """

    def __init__(
        self,
        spec: Spec | Sequence[Spec],
        *,
        data: tuple[Any, Any] | None = None,
        model: nn.Module | None = None,
        snapshots: int = 0,
    ) -> None:
        snapshots = SNAPSHOTS.check("snapshots", snapshots)
        self.specs = [spec] if isinstance(spec, Spec) else list(spec)
        self.spec = self.specs[0]
        if any(same_ensemble(each) != same_ensemble(self.spec) for each in self.specs):
            raise ValueError(f"one ensemble may differ in {', '.join(FREE_AMONG_MEMBERS)} only; use labkit.train([…]).")
        self.own = tuple(name for name, given in (("data", data), ("model", model)) if given is not None)
        if data is None:
            check_data(self.specs)
        made: dict[tuple[int, float], Split] = {}
        self.splits = [_split_of(made, each, data) for each in self.specs]
        self.split = self.splits[0]
        work = step_work(self.specs, self.split, model)
        compiled = model is None and knows(self.spec)
        self.device = devices.choose(self.spec.device, work if compiled else math.inf)
        place = self.device.device
        check_training(self.specs, self.split, place, model)
        self.initial = self._first_weights() if model is None else deepcopy(model).float().cpu()
        self.loss = Loss.of(self.spec)
        self.stepper: KernelStepper | TorchStepper
        if isinstance(self.initial, Tensor) and compiled and place.type == "cpu":
            self.stepper = KernelStepper(self.specs, self.splits, self.initial, work)
            self.threads = devices.thread_count()  # of which it takes as many as help
        else:
            self.stepper = TorchStepper(self.specs, self.splits, self.initial, place, work)
            self.threads = devices.threads_for(work)
        self.history = History(len(self.specs), self.spec.steps, snapshots)
        self.total, self.seconds = self.spec.steps, 0.0
        self.lr_changes: list[tuple[int, float | list[float]]] = []
        self.edits: list[tuple[int, dict[str, float]]] = []

    @property
    def widths(self) -> tuple[int, ...]:
        """Inputs, units of each hidden layer, outputs."""
        return (self.split.inputs, *self.spec.hidden, self.split.outputs)

    def _first_weights(self) -> Tensor:
        rows = [draw(self.widths, each.init, generator(each.seed, "init")) for each in self.specs]
        return torch.stack(rows)  # (members, P)

    # Where training stands

    @property
    def step(self) -> int:
        """Updates made so far."""
        return self.stepper.step

    @property
    def diverged(self) -> list[int | None]:
        """For each member None, or the step at which its loss was no longer finite."""
        return self.stepper.diverged

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return self.step >= self.total or None not in self.diverged

    @property
    def theta(self) -> Tensor:
        """The weights of all members."""  # (members, P)
        return self.stepper.theta

    @property
    def batch(self) -> int:
        """Samples in a step."""
        return self.stepper.size

    @property
    def block(self) -> int:
        """Steps that are prepared at once."""
        return self.stepper.block

    @property
    def lr(self) -> float:
        """The learning rate of the first member."""
        return float(self.stepper.lr[0])

    @property
    def evaluations(self) -> list[Evaluation]:
        """(step, test loss (members,), score (members,)) of every evaluation so far."""
        return self.history.evaluations

    def loss_of(self, member: int = 0) -> Tensor:
        """Return the training loss before each update, up to a divergence."""  # (steps,)
        return self.history.losses[: self.diverged[member], member]

    def theta_of(self, member: int = 0) -> Tensor:
        """Return the weights: the last ones, or the last with a finite loss."""  # (P,)
        return self.stepper.kept.get(member, self.theta[member])

    def model_of(self, member: int = 0) -> nn.Module:
        """Return a member's network as a module on the CPU, its weights copied."""
        return self.copies_of(member)()

    def copies_of(self, member: int = 0, *, initial: bool = False) -> Callable[[], nn.Module]:
        """Return what makes copies of a member's network as it is now, or as it was before its first step."""
        if isinstance(self.initial, Tensor):
            theta = self.initial[member] if initial else self.theta_of(member).cpu().clone()
            return partial(to_module, self.widths, self.spec.activation, theta, residual=self.spec.residual)
        copy = deepcopy(self.initial)
        if isinstance(self.stepper, TorchStepper) and isinstance(self.stepper.network, ModuleNetwork) and not initial:
            trained = self.stepper.network.module.state_dict()
            copy.load_state_dict({name: value.cpu().clone() for name, value in trained.items()})
        return partial(deepcopy, copy)

    def predict(self, x: Tensor) -> Tensor:
        """Return the networks' predictions for scaled inputs."""  # (members or 1, N, inputs) → (members, N, out)
        x = x.to(self.device.device).expand(len(self.specs), -1, -1)
        with torch.inference_mode(), devices.threads(self.threads):
            return self.stepper.predict(x)

    # Training

    def advance(self, steps: int) -> None:
        """Train for `steps` steps, or until the end or a divergence."""
        end, history = min(self.step + steps, self.total), self.history
        with torch.inference_mode(), devices.threads(self.threads):
            while self.step < end and not self.done:
                history.forget_unscheduled(self.step)
                if history.due(self.step):
                    self._evaluate()
                history.keep(self.step, self.theta)
                began = time.perf_counter()
                history.record(self.stepper.advance(min(end, next_evaluation(self.step), *history.to_keep[-1:])))
                self.seconds += time.perf_counter() - began
            history.keep(self.step, self.theta)

    def set_lr(self, lr: float | list[float]) -> None:
        """Change the learning rate from the next step on: one for all members, or one for each.

        Raises:
            ValueError: if a learning rate is not allowed.
        """
        check = RULES["lr"].check
        lr = [check("lr", each) for each in lr] if isinstance(lr, list) else check("lr", lr)
        self.stepper.set_lr(torch.tensor(lr, dtype=torch.float64))
        if self.lr_changes and self.lr_changes[-1][0] == self.step:
            self.lr_changes.pop()  # no step was made with it
        self.lr_changes.append((self.step, lr))

    def check_edit(self, weights: dict[str, float]) -> dict[int, float]:
        """Return where in a row of theta weights stand, and what they shall be; raise what `edit` does."""
        if isinstance(self.initial, nn.Module):
            raise ValueError(
                "weights of a model of your own have no such names: change its parameters before training."
            )
        return {place_of(name, self.widths): WEIGHT.check(name, value) for name, value in weights.items()}

    def edit(self, weights: dict[str, float]) -> None:
        """Change weights of all members from the next step on.

        Args:
            weights: "w1.2.3" is the weight into layer 1 from unit 2 to unit 3, "b1.3" the bias of unit 3 in layer 1;
                inputs are layer 0, and the last layer is that of the outputs.

        Raises:
            ValueError: if there is no such weight, a value is not a finite number, or the model is user-supplied.
        """
        theta = self.theta.clone()
        for place, value in self.check_edit(weights).items():
            theta[:, place] = value
        self.stepper.set_weights(theta)
        if self.edits and self.edits[-1][0] == self.step:
            weights = self.edits.pop()[1] | weights
        self.edits.append((self.step, dict(weights)))

    def finish(self) -> None:
        """Evaluate where training stands, unless that was just done.

        At the last step this is also where a last update that broke the weights comes to light.
        """
        if None in self.diverged and not self.history.evaluated(self.step):
            with torch.inference_mode():
                self._evaluate()
        if self.step >= self.total:
            tested = self.evaluations[-1].loss.isfinite()
            self.stepper.check_last_update(tested if len(self.split.x_test) else torch.ones_like(tested))

    def _evaluate(self) -> None:
        """Record test loss and score; without a test set the score is the training set's."""
        tested = len(self.split.x_test) > 0
        loss, score = self.stepper.judge("test" if tested else "train")
        loss = loss if tested else torch.full_like(loss, math.nan)
        self.evaluations.append(Evaluation(self.step, loss, score))

    # What training goes on from

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that training goes on from: tensors by name, which are the trainer's own, and facts for JSON."""
        (made, at), (seen, when) = self.stepper.state(), self.history.state()
        tensors = made | seen
        if isinstance(self.initial, nn.Module):  # the weights of a user-supplied model follow from no seed
            tensors |= {f"initial.{name}": part for name, part in self.initial.state_dict().items()}
        return tensors, at | when | {"seconds": self.seconds, "lr_changes": self.lr_changes, "edits": self.edits}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go on from what `state` returned, of a trainer of the same specs, data and model: the same way to the bit.

        Raises:
            ValueError: if the state is another architecture's; the trainer is as it was then.
        """
        try:
            history = self.history.restored(tensors, facts)
            initial = self.initial.state_dict() if isinstance(self.initial, nn.Module) else {}
            weights = {name: tensors[f"initial.{name}"] for name in initial}
            self.stepper.restore(tensors, facts)
        except KeyError as missing:
            raise ValueError(f"it has no {missing.args[0]!r}: another architecture's") from None
        if isinstance(self.initial, nn.Module):
            self.initial.load_state_dict(weights)
        self.history, self.seconds = history, facts["seconds"]
        self.lr_changes = [(step, lr) for step, lr in facts["lr_changes"]]
        self.edits = [(step, edit) for step, edit in facts["edits"]]

    def __repr__(self) -> str:
        return f"Trainer: step {self.step:,} of {self.total:,}, {len(self.specs)} members of {self.spec!r}"


def _split_of(made: dict[tuple[int, float], Split], spec: Spec, data: tuple[Any, Any] | None) -> Split:
    """Load a member's data, once for all members of the same seed and noise."""
    key = spec.seed, spec.noise
    if key not in made:
        made[key] = load_data(spec, data)
    return made[key]
