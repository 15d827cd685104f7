"""Training steps by the compiled kernel, for fully connected networks on a CPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit.core import kernel, kernel_cache, kernel_math, team
from labkit.core.batches import BatchSampler
from labkit.core.data import Split
from labkit.core.spec import ACTIVATIONS, LOSSES, OPTIMIZERS, Spec

_NUMBERED = vars(kernel) | vars(kernel_math)
CODES = {  # option → its code in the kernel, or None where it has none
    name: _NUMBERED.get(name.upper()) for menu in (ACTIVATIONS, LOSSES, OPTIMIZERS) for name in menu
}
KNOWN = {"huber_delta", "momentum"}  # options of losses and optimizers
CHUNK_WORK = 4e9  # floating-point operations in one call of the kernel, so that Ctrl-C waits a tenth of a second or so
CHUNK_ORDERS = 2**20  # sample numbers laid out at once
TEAM_WORK = 3e7  # floating-point operations in a step of one network, for each thread that works on it
POOL_WORK = 1e6  # and in a chunk of several networks
MEAN, SQUARE = {"momentum", "adam", "adamw"}, {"rmsprop", "adam", "adamw"}  # who keeps what of the gradients


def knows(spec: Spec) -> bool:
    """Whether the kernel has all that a spec asks for; what it lacks trains by torch."""
    options = {*LOSSES[spec.loss].options, *OPTIMIZERS[spec.optimizer].options}
    codes = [CODES[name] for name in (spec.activation, spec.loss, spec.optimizer)]
    return options <= KNOWN and None not in codes


class KernelStepper:
    """The weights of an ensemble, and the steps that train them: each member by itself, in a fixed order.

    Attributes:
        step: updates made so far.
        diverged: for each member None, or the step at which its loss was no longer finite.
        kept: the last finite weights of members that diverged.
        theta: the weights.  # (members, P)
        lr: learning rates, float64.  # (members, 1)
        size: samples in a batch.
        block: steps that are made at most in one call of `advance`.
    """

    way = "kernel"

    def __init__(self, specs: Sequence[Spec], splits: Sequence[Split], initial: Tensor, work: float) -> None:
        spec, split, members = specs[0], splits[0], len(specs)
        self.step = 0
        self.diverged: list[int | None] = [None] * members
        self.kept: dict[int, Tensor] = {}
        self.lr = torch.tensor([[each.lr] for each in specs], dtype=torch.float64)
        self._make_state(spec, initial.numpy())
        self._sizes = np.array([split.inputs, *spec.hidden, split.outputs], np.int64)
        codes = [CODES[spec.activation], CODES[spec.loss], CODES[spec.optimizer], int(spec.residual)]
        self._choices = np.array(codes, np.int64)
        self._constants = np.array([spec.momentum, spec.l1, spec.l2, spec.huber_delta])
        distinct = list({id(each): each for each in splits}.values())
        self._places = np.array([next(k for k, one in enumerate(distinct) if one is each) for each in splits])
        self._data = {part: _stacked(distinct, part) for part in ("train", "test")}
        self._classes = split.classes
        seeds = list(dict.fromkeys(each.seed for each in specs))
        self._order_of = np.array([seeds.index(each.seed) for each in specs])
        self.size, self._whole = spec.batch_size or len(split.x_train), spec.batch_size == 0
        self.samplers = [BatchSampler(seed, len(split.x_train)) for seed in seeds]
        self._work = work / members
        self._rooms: list[tuple[np.ndarray, ...]] = []  # of threads that are done, for the next ones
        self.block = max(1, min(int(CHUNK_WORK // max(work, 1)), CHUNK_ORDERS // self.size))

    def _make_state(self, spec: Spec, initial: np.ndarray) -> None:
        members, count = initial.shape
        self._theta = initial.astype(np.float32)  # a copy
        self.theta = torch.from_numpy(self._theta)
        self._previous = self._theta.copy()
        self._mean = np.zeros((members, count if spec.optimizer in MEAN else 0), np.float32)
        self._square = np.zeros((members, count if spec.optimizer in SQUARE else 0), np.float32)
        self._powers = np.ones((members, 2))

    def set_lr(self, lr: Tensor) -> None:
        """Change the learning rates from the next step on."""  # () or (members,), float64
        self.lr[:, 0] = lr

    def set_weights(self, theta: Tensor) -> None:
        """Change the weights from the next step on."""  # (members, P)
        self._theta[:] = theta.numpy()

    def advance(self, stop: int) -> Tensor:
        """Train up to a step, or for a block if that is shorter; return the losses."""  # (steps, members)
        kernel_cache.load()
        steps = min(stop - self.step, self.block)
        orders = np.stack([self._order(sampler, steps) for sampler in self.samplers])  # (seeds, steps or 1, batch)
        losses = np.full((len(self._theta), steps), np.nan, np.float32)
        running = np.array([member for member, at in enumerate(self.diverged) if at is None])
        self._advance(running, orders, losses)
        for member in running[~np.isfinite(losses[running]).all(1)].tolist():
            self._keep(member, self.step + int(np.flatnonzero(~np.isfinite(losses[member]))[0]), self._theta[member])
        ended = [at for at in self.diverged if at is not None]
        self.step = max(ended) if len(ended) == len(self.diverged) else self.step + steps
        return torch.from_numpy(losses).T

    def _order(self, sampler: BatchSampler, steps: int) -> np.ndarray:
        """The samples of the next steps."""  # (steps, batch), or (1, N) where every step takes all
        if self._whole:
            return np.arange(self.size, dtype=np.int32)[None]
        return sampler.take(steps * self.size).reshape(steps, self.size)

    def _advance(self, members: np.ndarray, orders: np.ndarray, losses: np.ndarray) -> None:
        """Train members by as many threads as their steps are worth: a list shared out, or one network together."""
        one = len(self._theta) == 1
        many = team.size(self._work / TEAM_WORK) if one else 1
        facts = self.lr.numpy()[:, 0], self._sizes, self._choices, self._constants
        lists = self._places, *self._data["train"], self._order_of, orders, losses

        def train(some: np.ndarray) -> None:
            room, counter = self._rooms.pop() if self._rooms else self._make_room(many), np.zeros(1, np.int64)
            arguments = some, *self._parts(), *facts, *lists, *room, counter
            team.together(lambda worker: kernel.advance(*arguments, worker, many), many)
            self._rooms.append(room)

        threads = 1 if one else team.size(self._work * losses.shape[1] * len(members) / POOL_WORK)
        team.share(train, np.array_split(members, threads), threads)

    def _make_room(self, many: int) -> tuple[np.ndarray, ...]:
        """What the kernel writes into on its way, for a team of threads."""
        batch, sizes = self.size, self._sizes
        outputs, widest, parameters = batch * int(sizes.sum()), int(sizes.max()), self._theta.shape[1]
        shapes = *[outputs] * 4, parameters, (many, batch * widest), (many, 16 * max(batch, widest)), parameters
        return *(np.empty(shape, np.float32) for shape in shapes), np.empty(batch)

    def _parts(self) -> tuple[np.ndarray, ...]:
        """Every array that a step changes, a row for each member."""
        return self._theta, self._previous, self._mean, self._square, self._powers

    def _keep(self, member: int, step: int, theta: np.ndarray) -> None:
        self.diverged[member], self.kept[member] = step, torch.from_numpy(theta.copy())
        self._theta[member] = theta

    def check_last_update(self, finite: Tensor) -> None:
        """Find members that the last update broke: no step follows it to show a loss that is not finite.

        Args:
            finite: Whether the members' test losses are.  # (members,)
        """
        finite = finite & self.theta.isfinite().all(1)
        for member in (~finite).nonzero().flatten().tolist():
            if self.diverged[member] is None:
                self._keep(member, self.step, self._previous[member])

    def predict(self, x: Tensor) -> Tensor:
        """Return the predictions for scaled inputs."""  # (members or 1, N, inputs) → (members, N, out)
        shared = len({part.data_ptr() for part in x}) == 1
        inputs = [np.array(part.numpy(), np.float32, order="C") for part in (x[:1] if shared else x)]
        return torch.from_numpy(self._answers(inputs * len(self._theta) if shared else inputs))

    def _answers(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Every member's predictions for its inputs."""  # members × (N, inputs) → (members, N, out)
        kernel_cache.load()
        members, samples = len(self._theta), len(inputs[0])
        answers = np.empty((members, samples, int(self._sizes[-1])), np.float32)
        threads = team.size(self._work / self.size * samples * members / POOL_WORK)
        part = max(1, samples if members > 1 else -(-samples // threads))

        def answer(job: tuple[int, int]) -> None:
            member, first = job
            rows = slice(first, first + part)
            kernel.predict(
                self._theta[member], self._sizes, self._choices, inputs[member][rows], answers[member, rows]
            )  # fmt: skip

        team.share(answer, [(m, k) for m in range(members) for k in range(0, samples, part)], threads)
        return answers

    def judge(self, part: str) -> tuple[Tensor, Tensor]:
        """Return each member's loss and score on a part of its data, "train" or "test"."""  # (members,), (members,)
        x, labels, targets = self._data[part]
        found = np.full((len(self._theta), 2), np.nan)
        facts = self._sizes, self._choices, self._constants, self._classes
        if len(found) == 1:
            found[0] = kernel.judge(*facts[1:], self._answers([x[0]])[0], labels[0], targets[0])
        else:
            kernel_cache.load()
            threads = team.size(self._work / self.size * x.shape[1] * len(found) / POOL_WORK)
            shares = np.array_split(np.arange(len(found)), threads)
            data = self._places, x, labels, targets
            team.share(lambda some: kernel.judge_members(some, self._theta, *facts, *data, found), shares, threads)
        loss, score = torch.from_numpy(found).float().T
        return loss, score

    # State

    def _state(self) -> dict[str, Tensor]:
        names = "theta", "previous", "optimizer.mean", "optimizer.square", "powers"
        return {name: torch.from_numpy(part) for name, part in zip(names, self._parts(), strict=True)} | {"lr": self.lr}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that the steps go on from: tensors by name, and facts for JSON."""
        kept = {f"kept.{member}": theta for member, theta in self.kept.items()}
        taken = self.samplers[0].taken
        return self._state() | kept, {"way": self.way, "step": self.step, "diverged": self.diverged, "taken": taken}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go on from what `state` returned.

        Raises:
            KeyError: if a tensor is missing; nothing is changed then.
            ValueError: if one has another shape; nothing is changed then.
        """
        parts = self._state()
        if any(tensors[name].shape != part.shape for name, part in parts.items()):
            raise ValueError("its weights have other shapes: another architecture's")
        kept = {member: tensors[f"kept.{member}"] for member, at in enumerate(facts["diverged"]) if at is not None}
        step, diverged, taken = facts["step"], facts["diverged"], facts["taken"]
        for name, part in parts.items():
            part.copy_(tensors[name])
        for sampler in self.samplers:
            sampler.go_to(taken)
        self.kept, self.step, self.diverged = kept, step, diverged


def _stacked(splits: list[Split], part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A part of several data sets as the kernel reads them."""  # (D, N, inputs), (D, N) or (D, 0), (D, N · out)
    xs, ys = ([getattr(each, f"{name}_{part}").numpy() for each in splits] for name in "xy")
    numbers = ys[0].ndim == 1
    labels = np.array(ys if numbers else np.empty((len(splits), 0)), np.int64)
    targets = np.array([np.empty(0) if numbers else y.ravel() for y in ys], np.float32)
    return np.array(xs, np.float32, order="C"), labels, targets
