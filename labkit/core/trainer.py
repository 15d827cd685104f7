"""The `Trainer` that advances networks in chunks and stops at divergence; it knows no widgets, plots or files.

A chunk of steps is prepared at once (batches, learning rates) and looked at once (losses), so that between
the two only tensor operations run: on CUDA they are captured in a graph and replayed.
"""

import math
import time
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from labkit.core import devices
from labkit.core.costs import FLOAT, cost, data_bytes, widest
from labkit.core.data import Split, generator, load_data
from labkit.core.losses import Loss, as_columns, score_of
from labkit.core.network import ModuleNetwork, Network, check_answer, draw
from labkit.core.optimizers import Optimizer
from labkit.core.spec import RULES, Spec

FREE_AMONG_MEMBERS = ("lr", "seed", "noise", "init")  # what may differ within one ensemble
BLOCK_STEPS = 64  # steps prepared at once, at most
BLOCK_BYTES = 2**22
GRAPH_WORK = 1e9  # floating-point operations in a step above which launching kernels is not what takes the time
DATA_COPIES = 4  # of the data at once while they are made, shuffled and scaled
REMEMBERED = ("step", "seconds", "diverged", "lr_changes", "_block_start")  # what `state` keeps beside tensors
USABLE = 0.9  # share of the free memory that a run may ask for


class DoesNotFit(ValueError, MemoryError):
    """A run that needs more memory than its device has free."""


def same_ensemble(spec: Spec) -> Spec:
    """Return what specs must have in common to be trained as one ensemble."""
    default = Spec()
    return spec.but(**{name: getattr(default, name) for name in FREE_AMONG_MEMBERS})


def next_evaluation(step: int) -> int:
    """Return the first step after `step` at which the test set is looked at: eight times in every doubling."""
    stride = 1 << max(0, step.bit_length() - 4)
    return (step // stride + 1) * stride


def scheduled(step: int) -> bool:
    """Whether the test set is looked at by schedule at a step."""
    return step == 0 or next_evaluation(step - 1) == step


def divergence(step: int | None, losses: Sequence[float]) -> str:
    """Say how a run diverged at `step`, or nothing if it did not."""
    if step is None:
        return ""
    last = f"last finite loss {losses[-1]:.4g}" if len(losses) else "the first loss already"
    return f"diverged at step {step:,}, {last}; try a smaller lr"


class Trainer:
    """Trains one spec, or several that share a shape as one ensemble.

    The numbers depend on the spec, the device and its thread count alone, never on the chunks in which
    it is advanced.

    Args:
        spec: One spec, or specs that differ in learning rate, seed, noise or init only.
        data: A person's own `(x, y)` in place of the spec's data set.
        model: Any `nn.Module` in place of the spec's network; a deep copy is trained.
        snapshots: How many times along the way the weights are kept, first and last step among them.

    Attributes:
        step: updates made so far.
        total: where training ends; may be moved while it goes on.
        seconds: time spent training, evaluations aside.
        diverged: for each member None, or the step at which its loss was no longer finite.
        own: which of "data" and "model" are a person's own.
        to_keep: the steps still to come at which the weights are kept, the next one last.
        wants_graph: whether whole blocks of steps are replayed as one CUDA graph; the numbers are the same.

    Raises:
        ValueError: if the data, the device or the model cannot be used.
        DoesNotFit: if the run needs more memory than is free.
    """

    def __init__(
        self,
        spec: Spec | Sequence[Spec],
        *,
        data: tuple | None = None,
        model: nn.Module | None = None,
        snapshots: int = 0,
    ) -> None:
        if isinstance(snapshots, bool) or not isinstance(snapshots, int) or snapshots < 0:
            raise ValueError(f"snapshots={snapshots!r} is not allowed: snapshots takes a whole number from 0.")
        self.specs = [spec] if isinstance(spec, Spec) else list(spec)
        self.spec = self.specs[0]
        if any(same_ensemble(each) != same_ensemble(self.spec) for each in self.specs):
            raise ValueError(f"one ensemble may differ in {', '.join(FREE_AMONG_MEMBERS)} only; use labkit.train([…]).")
        self.device = devices.choose(self.spec.device)
        self.own = tuple(name for name, given in (("data", data), ("model", model)) if given is not None)
        if data is None:
            _check_data(self.specs)
        made: dict[Spec, Split] = {}
        self.splits = [_split_of(made, each, data) for each in self.specs]
        self.split = self.splits[0]
        self.loss = Loss(self.spec.loss, self.spec.huber_delta)
        self.step, self.total, self.seconds = 0, self.spec.steps, 0.0
        self.diverged: list[int | None] = [None] * len(self.specs)
        self.lr_changes: list[tuple[int, float | list[float]]] = []
        self.evaluations: list[tuple[int, Tensor, Tensor]] = []  # (step, test loss (members,), score (members,))
        self.snapshots: list[tuple[int, Tensor]] = []  # (step, theta (members, P))
        ends = max(1, snapshots - 1)
        self.to_keep = sorted({round(k * self.spec.steps / ends) for k in range(snapshots)}, reverse=True)
        self._losses = torch.empty(0, len(self.specs))  # grows by doubling; the first `_recorded` rows are losses
        self._recorded = 0
        self._set_up(model)

    # What is made once

    def _set_up(self, model: nn.Module | None) -> None:
        members, place = len(self.specs), self.device.device
        self.batch = self.spec.batch_size or len(self.split.x_train)
        widths = (self.split.inputs, *self.spec.hidden, self.split.outputs)
        self.work = self._check_memory(model)
        self.threads = devices.threads_for(self.work)
        if model is not None:
            self.network = ModuleNetwork(deepcopy(model).float(), place, self.spec.seed)
        else:
            rows = [draw(widths, each.init, generator(each.seed, "init")) for each in self.specs]
            self.network = Network(
                widths, self.spec.activation, torch.stack(rows).to(place), residual=self.spec.residual
            )
        self.initial = deepcopy(self.network.module).cpu() if model is not None else self.network.theta.cpu().clone()
        self.optimizer = Optimizer(
            self.spec.optimizer,
            self.network.theta,
            momentum=self.spec.momentum,
            l1=self.spec.l1,
            l2=self.spec.l2,
        )
        self._lr = torch.tensor([[each.lr] for each in self.specs], dtype=torch.float64)  # (members, 1)
        self._previous = self.network.theta.clone()  # the weights one step ago
        self._kept: dict[int, Tensor] = {}  # last finite weights of members that diverged
        self._load_data(members, place)
        self._make_block(members, place)

    def _check_memory(self, model: nn.Module | None) -> float:
        """Refuse a run that is too big for its device; return the floating-point operations of a step."""
        split, members = self.split, len(self.specs)
        ends = {"inputs": split.inputs, "outputs": split.outputs, "batch": self.batch}
        one = cost(self.spec, **ends)
        numbers = sum(p.numel() for p in model.parameters()) if model is not None else one.parameters
        per_parameter = (one.bytes_training - one.bytes) // max(1, one.parameters)
        need = members * (one.bytes_training if model is None else numbers * max(FLOAT, per_parameter))
        free = int(USABLE * devices.free_bytes(self.device.device))
        if need > free:
            fits = widest(self.spec, free // members, **ends)
            hint = f"the largest width that fits is {fits:,}" if fits and model is None else "take a smaller model"
            raise DoesNotFit(
                f"width={self.spec.width} is not allowed here: training needs {need:,} bytes and the "
                f"{self.device.device} has {free:,} bytes free for it; {hint}."
            )
        return members * (one.flops_step if model is None else 6 * numbers * self.batch)

    def _load_data(self, members: int, place: torch.device) -> None:
        """Stack the members' data on the device: x (members, N, inputs), targets (members, N, out)."""
        splits = self.splits if any(split is not self.split for split in self.splits) else [self.split]

        def stack(parts: list[Tensor]) -> Tensor:
            return torch.stack(parts).to(place).expand(members, *parts[0].shape)

        self._x, self._x_test = (stack([getattr(s, name) for s in splits]) for name in ("x_train", "x_test"))
        self._y, self._y_test = (
            stack([as_columns(getattr(s, name), s.classes) for s in splits]) for name in ("y_train", "y_test")
        )
        seeds = dict.fromkeys(each.seed for each in self.specs)
        self._orders = {seed: BatchSampler(seed, len(self.split.x_train)) for seed in seeds}

    def _make_block(self, members: int, place: torch.device) -> None:
        """Make the buffers that a block of steps is prepared in; a step's views of them are made once."""
        inputs, outputs = self._x.shape[-1], self._y.shape[-1]
        per_step = FLOAT * members * self.batch * (inputs + 2 * outputs)
        self.block = 1 << int(math.log2(min(BLOCK_STEPS, max(1, BLOCK_BYTES // per_step))))
        self._block_start = -self.block
        rows = (self.block, members, self.batch)
        self._predictions = torch.empty(*rows, outputs, device=place)
        if self.spec.batch_size:
            self._batch_x = torch.empty(*rows, inputs, device=place)
            self._batch_y = torch.empty(*rows, outputs, device=place)
        else:
            self._batch_x, self._batch_y = (part.expand(self.block, *part.shape) for part in (self._x, self._y))
        self._coefficients = torch.empty(self.block, 3, members, 1, device=place)
        columns = [part.unbind(0) for part in (self._batch_x, self._batch_y, self._predictions)]
        coefficients = [each.unbind(0) for each in self._coefficients.unbind(0)]  # here, not anew in every step
        self._steps = list(zip(*columns, coefficients, strict=True))
        self._scale = torch.tensor(self.loss.scale(self.batch, outputs), device=place)
        small = self.work < GRAPH_WORK and isinstance(self.network, Network)
        self.wants_graph = place.type == "cuda" and small
        self._graph: torch.cuda.CUDAGraph | None = None

    # Training

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return self.step >= self.total or None not in self.diverged

    def advance(self, steps: int) -> None:
        """Train for so many steps, or until the end or a divergence."""
        end = min(self.step + steps, self.total)
        with torch.inference_mode(), devices.threads(self.threads):
            while self.step < end and not self.done:
                self._forget_extra_look()
                if not self.evaluations or next_evaluation(self.evaluations[-1][0]) <= self.step:
                    self._evaluate()
                self._keep_snapshot()
                began = time.perf_counter()
                if self.step >= self._block_start + self.block:
                    self._prepare()
                stops = end, next_evaluation(self.step), self._block_start + self.block, *self.to_keep[-1:]
                self._train_until(min(stops))
                self.seconds += time.perf_counter() - began
            self._keep_snapshot()

    def _forget_extra_look(self) -> None:
        """Drop a look that `finish` took off schedule: training goes on, and a history follows from its spec alone."""
        if self.evaluations and self.evaluations[-1][0] == self.step and not scheduled(self.step):
            self.evaluations.pop()

    @property
    def lr(self) -> float:
        """The learning rate of the first member."""
        return float(self._lr[0])

    def set_lr(self, lr: float | list[float]) -> None:
        """Change the learning rate from the next step on: one for all members, or one for each.

        Raises:
            ValueError: if a learning rate is not allowed.
        """
        check = RULES["lr"].check
        lr = [check("lr", each) for each in lr] if isinstance(lr, list) else check("lr", lr)
        self._lr[:, 0] = torch.tensor(lr, dtype=torch.float64)
        if self.lr_changes and self.lr_changes[-1][0] == self.step:
            self.lr_changes.pop()  # no step was made with it
        self.lr_changes.append((self.step, lr))
        if self.step < self._block_start + self.block:
            self._schedule()

    def _prepare(self) -> None:
        """Lay out the batches and the learning rates of the next block."""
        self._block_start = self.step
        self._schedule()
        if not self.spec.batch_size:
            return
        taken = {seed: order.take(self.block * self.batch) for seed, order in self._orders.items()}
        samples = self._x.shape[1]
        shared = self._x.stride(0) == 0  # all members read the same data
        places = [taken[each.seed] + (0 if shared else m * samples) for m, each in enumerate(self.specs)]
        index = torch.stack([p.view(self.block, self.batch) for p in places], 1).view(-1)  # (block · members · batch,)
        index = index.to(self._x.device)
        for source, batch in ((self._x, self._batch_x), (self._y, self._batch_y)):
            flat = source[0] if shared else source.flatten(0, 1)
            torch.index_select(flat, 0, index, out=batch.view(-1, batch.shape[-1]))

    def _schedule(self) -> None:
        coefficients = self.optimizer.schedule(self._block_start, self.block, self._lr)
        self._coefficients.copy_(coefficients.float())  # here, not on the device: some know no float64

    def _train_until(self, stop: int) -> None:
        """Train within the prepared block, then look at the losses."""
        first, last = self.step - self._block_start, stop - self._block_start
        before = [part.clone() for part in self._state()]
        previous = self._previous.clone()
        if self.wants_graph and (first, last) == (0, self.block):
            self._replay()
        else:
            self._run_steps(first, last)
        with devices.threads(1):  # a mean shared among threads would depend on how many steps are looked at
            block = slice(first, last)
            losses = self.loss.values(self._predictions[block], self._batch_y[block]).cpu()  # (steps, members)
        self._record(losses)
        if not losses.isfinite().all():
            self._diverge(losses, first, before, previous)
        self.step = self._block_start + last if None in self.diverged else max(self.diverged)

    def _run_steps(self, first: int, last: int) -> None:
        """Make the block's steps from `first` up to `last`: forward, backward, update."""
        network, loss, optimizer, scale = self.network, self.loss, self.optimizer, self._scale
        for k, (x, y, out, coefficients) in enumerate(self._steps[first:last], first + 1):
            prediction = network.forward(x, out)
            delta = loss.slope(prediction, y, network.delta).mul_(scale)
            gradient = network.backward(delta)
            if k == last:
                self._previous.copy_(network.theta)
            optimizer.step(gradient, *coefficients)

    def _replay(self) -> None:
        """Make a whole block of steps as one CUDA graph, captured on first use; plainly where that fails."""
        if self._graph is None:
            before = [part.clone() for part in (*self._state(), self._previous)]
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._run_steps(0, 1)  # buffers are made and libraries loaded outside the capture
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may go on with theirs
                    self._run_steps(0, self.block)
                self._graph = graph
            except RuntimeError:  # this device or driver captures no graphs: the plain way gives the same numbers
                self.wants_graph = False
            for part, kept in zip((*self._state(), self._previous), before, strict=True):
                part.copy_(kept)
        if self._graph is None:
            self._run_steps(0, self.block)
        else:
            self._graph.replay()

    def _state(self) -> list[Tensor]:
        return [*self.network.state(), *self.optimizer.state]

    # What training goes on from

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """Return all that training goes on from: tensors, which are the trainer's own, and facts for JSON."""
        tensors = {f"part.{k}": part for k, part in enumerate((*self._state(), self._previous, self._lr))}
        tensors |= {f"kept.{member}": theta for member, theta in self._kept.items()}
        for seed, order in self._orders.items():
            tensors |= {f"order.{seed}.{k}": part for k, part in enumerate(order.before)}
        for name, rows in (("look", self.evaluations), ("snapshot", self.snapshots)):
            tensors |= {f"{name}.{k}.{j}": part for k, (_, *row) in enumerate(rows) for j, part in enumerate(row)}
        if isinstance(self.initial, nn.Module):  # a person's own weights follow from no seed
            tensors |= {f"initial.{name}": part for name, part in self.initial.state_dict().items()}
        facts = {name: getattr(self, name) for name in REMEMBERED}
        facts |= {"looks": [look[0] for look in self.evaluations], "snapshots": [step for step, _ in self.snapshots]}
        return tensors | {"losses": self._losses[: self._recorded]}, facts

    def restore(self, tensors: dict[str, Tensor], facts: dict) -> None:
        """Go on from what `state` returned, of a trainer of the same specs, data and model: the same way to the bit.

        Raises:
            ValueError: if the state is another architecture's; the trainer is as it was then.
        """
        parts = (*self._state(), self._previous, self._lr)
        try:
            came = [tensors[f"part.{k}"] for k in range(len(parts))]
            orders = {order: [tensors[f"order.{seed}.{k}"] for k in (0, 1)] for seed, order in self._orders.items()}
            kept = {k: tensors[f"kept.{k}"] for k, step in enumerate(facts["diverged"]) if step is not None}
            looks = [(step, tensors[f"look.{k}.0"], tensors[f"look.{k}.1"]) for k, step in enumerate(facts["looks"])]
            snapshots = [(step, tensors[f"snapshot.{k}.0"]) for k, step in enumerate(facts["snapshots"])]
        except KeyError as missing:
            raise ValueError(f"it has no {missing.args[0]!r}: another architecture's") from None
        if [part.shape for part in came] != [part.shape for part in parts]:
            raise ValueError("its weights have other shapes: another architecture's")
        for part, value in zip(parts, came, strict=True):
            part.copy_(value)
        self._kept = {member: theta.to(self.device.device) for member, theta in kept.items()}
        self.evaluations, self.snapshots = looks, snapshots
        self.to_keep = [step for step in self.to_keep if step not in facts["snapshots"]]
        self._losses, self._recorded = tensors["losses"], len(tensors["losses"])
        if isinstance(self.initial, nn.Module):
            self.initial.load_state_dict({name: tensors[f"initial.{name}"] for name in self.initial.state_dict()})
        for name in REMEMBERED:
            setattr(self, name, facts[name])
        self.lr_changes = [(step, lr) for step, lr in self.lr_changes]
        for order, before in orders.items():
            order.back(*before)
        self.step, stands = self._block_start, self.step  # the block is laid out again
        self._prepare()
        self.step = stands

    # Divergence

    def _diverge(self, losses: Tensor, first: int, before: list[Tensor], previous: Tensor) -> None:
        """Find which members' losses broke at which step, and go back for the weights before that."""
        broken = {}
        for member, row in enumerate(losses.T):
            if self.diverged[member] is None and not row.isfinite().all():
                broken[member] = int((~row.isfinite()).nonzero()[0])
        if not broken:
            return
        for part, kept in zip(self._state(), before, strict=True):
            part.copy_(kept)
        done = 0
        for member, at in sorted(broken.items(), key=lambda pair: pair[1]):
            self.diverged[member] = self.step + at
            again = max(0, at - 1)
            self._run_steps(first + done, first + again)
            done = max(done, again)
            self._kept[member] = (previous if at == 0 else self.network.theta)[member].clone()
        if None in self.diverged:
            self._run_steps(first + done, first + len(losses))
        else:
            for member, theta in self._kept.items():
                self.network.theta[member] = theta

    # What is read off

    def loss_of(self, member: int = 0) -> Tensor:
        """Return the training loss before each update, up to a divergence."""  # (steps,)
        return self._losses[: self._recorded][: self.diverged[member], member]

    def _record(self, losses: Tensor) -> None:
        """Append losses."""  # (steps, members)
        end = self._recorded + len(losses)
        if end > len(self._losses):
            grown = torch.empty(2 * end, len(self.specs))
            grown[: self._recorded] = self._losses[: self._recorded]
            self._losses = grown
        self._losses[self._recorded : end] = losses
        self._recorded = end

    def theta_of(self, member: int = 0) -> Tensor:
        """Return the parameters: the last ones, or the last with a finite loss."""  # (P,)
        return self._kept.get(member, self.network.theta[member])

    def predict(self, x: Tensor) -> Tensor:
        """Return what the networks say of scaled inputs."""  # (members or 1, N, inputs) → (members, N, out)
        x = x.to(self.device.device).expand(len(self.specs), -1, -1)
        room = max(1, 2**24 // (len(self.specs) * max(self.spec.width, x.shape[-1])))  # samples at a time
        with torch.inference_mode(), devices.threads(self.threads):
            return torch.cat([self.network.predict(part) for part in x.split(room, 1)], 1)

    def finish(self) -> None:
        """Look at the test set where training stands, unless that was just done.

        At the last step this is also where a last update that broke the weights comes to light.
        """
        if None in self.diverged and (not self.evaluations or self.evaluations[-1][0] != self.step):
            with torch.inference_mode():
                self._evaluate()
        if self.step >= self.total:
            self._check_last_update()

    def _check_last_update(self) -> None:
        """No step follows the last one to show a loss that is no longer finite: look at the weights and the test."""
        finite = self.network.theta.isfinite().all(1).cpu()
        if self._x_test.shape[1]:
            finite &= self.evaluations[-1][1].isfinite()
        for member in (~finite).nonzero().flatten().tolist():
            if self.diverged[member] is None:
                self.diverged[member] = self.step
                self._kept[member] = self._previous[member].clone()
        if None not in self.diverged:
            for member, theta in self._kept.items():
                self.network.theta[member] = theta

    def _evaluate(self) -> None:
        """Record test loss and score; without a test set the score is the training set's."""
        score = score_of(self.split.classes)
        tested = self._x_test.shape[1] > 0
        x, y = (self._x_test, self._y_test) if tested else (self._x, self._y)
        prediction = self.predict(x)
        check_answer(prediction[0], y[0])
        with devices.threads(1):  # a mean shared among threads would depend on how many there are
            loss = self.loss.values(prediction, y).cpu() if tested else torch.full((len(self.specs),), math.nan)
            self.evaluations.append((self.step, loss, score(prediction, y).cpu()))

    def _keep_snapshot(self) -> None:
        if self.to_keep and self.to_keep[-1] == self.step:
            self.snapshots.append((self.to_keep.pop(), self.network.theta.cpu().clone()))

    def __repr__(self) -> str:
        return f"Trainer: step {self.step:,} of {self.total:,}, {len(self.specs)} members of {self.spec!r}"


def _check_data(specs: list[Spec]) -> None:
    """Refuse data that are too big to be made."""
    spec = specs[0]
    need = DATA_COPIES * data_bytes(spec) * len({(each.seed, each.noise) for each in specs})
    free = int(USABLE * devices.free_bytes(torch.device("cpu")))
    if need > free:
        raise DoesNotFit(
            f"samples={spec.samples} is not allowed here: making the data needs {need:,} bytes and the memory has "
            f"{free:,} bytes free for it; {spec.samples * free // need:,} samples would fit."
        )


def _split_of(made: dict[Spec, Split], spec: Spec, data: tuple | None) -> Split:
    """Load a member's data, once for all members whose data are the same."""
    key = spec.but(lr=1.0, init="he")
    if key not in made:
        made[key] = load_data(spec, data)
    return made[key]


class BatchSampler:
    """An endless stream of sample numbers: one shuffle of the training set after another."""

    def __init__(self, seed: int, samples: int) -> None:
        self._rng = generator(seed, "batches")
        self._samples = samples
        self._left = torch.empty(0, dtype=torch.int64)
        self.before = (self._rng.get_state(), self._left)  # where the last numbers were taken from

    def back(self, rng: Tensor, left: Tensor) -> None:
        """Go back to a place of the stream."""
        self._rng.set_state(rng)
        self._left = left

    def take(self, many: int) -> Tensor:
        """Return the next sample numbers."""  # (many,)
        self.before = (self._rng.get_state(), self._left)
        parts, have = [self._left], len(self._left)
        while have < many:
            parts.append(torch.randperm(self._samples, generator=self._rng))
            have += self._samples
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        self._left = joined[many:]
        return joined[:many]
