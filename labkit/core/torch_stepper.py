"""Training steps as torch operations, for ensembles and any module: forward, backward, update, and divergence.

A block of steps is prepared at once (batches, learning rates) and its losses are read at once, so that between the
two only tensor operations run: on CUDA they are captured in a graph and replayed.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from labkit.core import devices
from labkit.core.batches import Batches, stacked
from labkit.core.data import Split
from labkit.core.losses import Loss, score_of
from labkit.core.network import ModuleNetwork, Network, check_answer
from labkit.core.optimizers import Optimizer
from labkit.core.spec import Spec

GRAPH_WORK = 1e9  # floating-point operations in a step above which launching kernels is not what takes the time
PREDICT_NUMBERS = 2**24  # at most, in a layer's outputs at once


class TorchStepper:
    """The weights of an ensemble or a module, and the steps that train them.

    Attributes:
        step: updates made so far.
        diverged: for each member None, or the step at which its loss was no longer finite.
        kept: the last finite weights of members that diverged.
        network: what is trained.
        batches: its data; `batches.steps` are made at most in one call of `advance`.
        lr: learning rates, float64.  # (members, 1)
        wants_graph: whether whole blocks of steps are replayed as one CUDA graph; the numbers are the same.
    """

    way = "torch"

    def __init__(
        self,
        specs: Sequence[Spec],
        splits: Sequence[Split],
        initial: Tensor | nn.Module,
        device: torch.device,
        work: float,
    ) -> None:
        spec, split = specs[0], splits[0]
        self.step = 0
        self.diverged: list[int | None] = [None] * len(specs)
        self.kept: dict[int, Tensor] = {}
        self.network: Network | ModuleNetwork
        if isinstance(initial, nn.Module):
            self.network = ModuleNetwork(deepcopy(initial), device, spec.seed)
        else:
            widths, theta = (split.inputs, *spec.hidden, split.outputs), initial.to(device, copy=True)
            self.network = Network(widths, spec.activation, theta, residual=spec.residual)
        self.optimizer = Optimizer.of(spec, self.network.theta)
        self.loss, self.batches = Loss.of(spec), Batches(specs, splits, device)
        self._judged = {part: stacked(splits, part, device) for part in ("train", "test")}
        self._classes = split.classes
        self.lr = torch.tensor([[each.lr] for each in specs], dtype=torch.float64)
        self._width = max(spec.hidden, default=1)
        self._previous = self.network.theta.clone()  # the weights one step ago
        self._make_block(device)
        self.wants_graph = device.type == "cuda" and work < GRAPH_WORK and isinstance(self.network, Network)
        self._graph: torch.cuda.CUDAGraph | None = None

    def _make_block(self, device: torch.device) -> None:
        """Make what a block of steps writes into; a step's views of it are made once."""
        steps, members, size, outputs = self.batches.y.shape
        self._block_start = -steps
        self._predictions = torch.empty(steps, members, size, outputs, device=device)
        self._coefficients = torch.empty(steps, 3, members, 1, device=device)
        columns = [part.unbind(0) for part in (self.batches.x, self.batches.y, self._predictions)]
        coefficients = [each.unbind(0) for each in self._coefficients.unbind(0)]  # here, not anew in every step
        self._steps = list(zip(*columns, coefficients, strict=True))
        self._scale = torch.tensor(self.loss.scale(size, outputs), device=device)

    @property
    def theta(self) -> Tensor:
        """The weights."""  # (members, P)
        return self.network.theta

    @property
    def size(self) -> int:
        """Samples in a batch."""
        return self.batches.size

    @property
    def block(self) -> int:
        """Steps that are prepared at once."""
        return self.batches.steps

    @property
    def _block_end(self) -> int:
        return self._block_start + self.batches.steps

    def set_lr(self, lr: Tensor) -> None:
        """Change the learning rates from the next step on."""  # () or (members,), float64
        self.lr[:, 0] = lr
        if self.step < self._block_end:
            self._schedule()

    def set_weights(self, theta: Tensor) -> None:
        """Change the weights from the next step on."""  # (members, P)
        self.theta.copy_(theta)

    def _prepare(self) -> None:
        """Lay out the batches and the learning rates of the next block."""
        self._block_start = self.step
        self._schedule()
        self.batches.prepare()

    def _schedule(self) -> None:
        coefficients = self.optimizer.schedule(self._block_start, self.batches.steps, self.lr)
        self._coefficients.copy_(coefficients.float())  # here, not on the device: some have no float64

    def advance(self, stop: int) -> Tensor:
        """Train up to a step, or to the end of a block if that comes first; return the losses."""  # (steps, members)
        if self.step >= self._block_end:
            self._prepare()
        first, last = self.step - self._block_start, min(stop, self._block_end) - self._block_start
        before = {name: part.clone() for name, part in self._state().items()}
        if self.wants_graph and (first, last) == (0, self.batches.steps):
            self._replay()
        else:
            self._run_steps(first, last)
        with devices.threads(1):  # a mean shared among threads would depend on how many steps are read
            block = slice(first, last)
            losses = self.loss.values(self._predictions[block], self.batches.y[block]).cpu()  # (steps, members)
        if not losses.isfinite().all():
            self._diverge(losses, first, before)
        broken = [step for step in self.diverged if step is not None]
        self.step = max(broken) if len(broken) == len(self.diverged) else self._block_start + last
        return losses

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
            before = {name: part.clone() for name, part in self._state().items()}
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._run_steps(0, 1)  # buffers are made and libraries loaded outside the capture
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may go on with theirs
                    self._run_steps(0, self.batches.steps)
                self._graph = graph
            except RuntimeError:  # this device or driver captures no graphs: the plain way gives the same numbers
                self.wants_graph = False
            self._put_back(before)
        if self._graph is None:
            self._run_steps(0, self.batches.steps)
        else:
            self._graph.replay()

    def predict(self, x: Tensor) -> Tensor:
        """Return the predictions for scaled inputs, some at a time."""  # (members, N, inputs) → (members, N, out)
        room = max(1, PREDICT_NUMBERS // (len(x) * max(self._width, x.shape[-1])))
        return torch.cat([self.network.predict(part) for part in torch.split(x, room, 1)], 1)

    def judge(self, part: str) -> tuple[Tensor, Tensor]:
        """Return each member's loss and score on a part of its data, "train" or "test"."""  # (members,), (members,)
        x, y = self._judged[part]
        prediction = self.predict(x)
        check_answer(prediction[0], y[0])
        with devices.threads(1):  # a mean shared among threads would depend on how many there are
            return self.loss.values(prediction, y).cpu(), score_of(self._classes)(prediction, y).cpu()

    # Divergence

    def _diverge(self, losses: Tensor, first: int, before: dict[str, Tensor]) -> None:
        """Find which members' losses broke at which step, and go back for the weights before that."""
        broken = {}
        for member, row in enumerate(losses.T):
            if self.diverged[member] is None and not row.isfinite().all():
                broken[member] = int((~row.isfinite()).nonzero()[0])
        if not broken:
            return
        self._put_back(before)
        previous, done = before["previous"], 0
        for member, at in sorted(broken.items(), key=lambda pair: pair[1]):
            again = max(0, at - 1)
            self._run_steps(first + done, first + again)
            done = max(done, again)
            self._stop(member, self.step + at, previous if at == 0 else self.theta)
        if None in self.diverged:
            self._run_steps(first + done, first + len(losses))

    def check_last_update(self, finite: Tensor) -> None:
        """Find members that the last update broke: no step follows it to show a loss that is not finite.

        Args:
            finite: Whether the members' test losses are.  # (members,)
        """
        finite = finite & self.theta.isfinite().all(1).cpu()
        for member in (~finite).nonzero().flatten().tolist():
            if self.diverged[member] is None:
                self._stop(member, self.step, self._previous)

    def _stop(self, member: int, step: int, theta: Tensor) -> None:
        """Record a member's divergence and its last finite weights; all go back to these once none is left."""
        self.diverged[member], self.kept[member] = step, theta[member].clone()
        if None not in self.diverged:
            for each, kept in self.kept.items():
                self.theta[each] = kept

    # State

    def _state(self) -> dict[str, Tensor]:
        """Every tensor that a step changes, by name."""
        optimizer = {f"optimizer.{name}": part for name, part in self.optimizer.state.items()}
        return self.network.state() | optimizer | {"previous": self._previous}

    def _put_back(self, values: dict[str, Tensor]) -> None:
        for name, part in self._state().items():
            part.copy_(values[name])

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that the steps go on from: tensors by name, and facts for JSON."""
        tensors = self._state() | {"lr": self.lr} | {f"kept.{member}": theta for member, theta in self.kept.items()}
        at = {"step": self.step, "diverged": self.diverged, "block_start": self._block_start}
        return tensors, at | {"way": self.way, "taken": self.batches.taken}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go on from what `state` returned.

        Raises:
            KeyError: if a tensor is missing; nothing is changed then.
            ValueError: if one has another shape; nothing is changed then.
        """
        parts = self._state() | {"lr": self.lr}
        if any(tensors[name].shape != part.shape for name, part in parts.items()):
            raise ValueError("its weights have other shapes: another architecture's")
        taken = facts["taken"]
        broken = [member for member, step in enumerate(facts["diverged"]) if step is not None]
        self.kept = {member: tensors[f"kept.{member}"].to(self.theta.device) for member in broken}
        self._put_back(tensors)
        self.lr.copy_(tensors["lr"])
        self.batches.go_to(taken)
        self.diverged, self.step = facts["diverged"], facts["block_start"]
        self._prepare()  # the block is laid out again
        self.step = facts["step"]
