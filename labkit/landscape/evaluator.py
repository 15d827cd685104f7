"""The loss of one network at many places in weight space, by the fastest way that its architecture allows.

A place is the network's own weights plus some steps along each of a few directions.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypedDict, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from labkit.core import devices, random_state
from labkit.landscape.batched_mlp import BatchedMLP, LossFn, Part, all_known, check_targets, layers_of, scalar
from labkit.landscape.directions import Direction, check, flat, shaped, weights_of

LAUNCH = 1e9  # floating-point operations at one place below which a GPU spends its time on starting kernels
VMAP_CHUNK = 256  # places at once


class Measured(TypedDict, total=False):
    """What `LossEvaluator` takes beyond the loss on the training data, for functions that hand it on."""

    also: dict[str, LossFn] | None
    test: tuple[Tensor, Tensor] | None
    recompute: bool


class LossEvaluator:
    """What is measured at any place near a network, such as its loss: what planes, lines and paths stand on.

    Fully connected networks (`nn.Sequential` of `nn.Linear` and elementwise activations) are evaluated many at
    once. As h = (W + aU + bV) x = Wx + a·Ux + b·Vx, their first layer costs three products in all. Any other
    module goes the general way: one place after another on a copy, or on a GPU many at once by `vmap`.

    Args:
        model: Any `nn.Module`; it is left as it is, bit for bit, with the random state. Its own mode (train or eval)
            is used, its own dtype and device compute, and what it draws at random is the same at every place.
        loss_fn: (prediction, target) → scalar, such as `run.loss_fn`; one that the lab does not know sees the
            whole batch at once.
        x: Inputs, on the model's device.  # (N, …)
        y: Targets, as the loss takes them; a shape that it would broadcast is refused.
        directions: What the coefficients count steps along: dicts, an entry for every named parameter.
        also: More to measure from the same prediction, such as {"accuracy": labkit.accuracy}.
        test: Test data (x, y): everything is measured on them too, under "test …".
        recompute: Recompute the statistics of batch norm from x at every place, as training would leave them
            (Garipov et al. 2018, appendix), in place of the stored ones of eval mode.

    Attributes:
        names: What is measured, in order: "loss", the keys of `also`, and the same of the test data.
        parameters: How many the model has.
        way: "stacked", "in place" or "vmap".
        batch_norm: Which statistics batch norm uses: "none", "stored", "of the batch" or "recomputed".

    Raises:
        ValueError: before any work, if the model, the data and the directions do not fit each other.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFn,
        x: Tensor,
        y: Tensor,
        directions: Sequence[Direction],
        *,
        also: dict[str, LossFn] | None = None,
        test: tuple[Tensor, Tensor] | None = None,
        recompute: bool = False,
    ) -> None:
        weights = weights_of(model)
        first = next(iter(weights.values()))
        self.parameters, self.dtype = sum(weight.numel() for weight in weights.values()), first.dtype
        self._model, self._device, self._recompute = model, first.device, recompute
        self._directions = [check(each, model, "uvw"[k] if k < 3 else str(k)) for k, each in enumerate(directions)]
        data = {"": (x, y)} | ({"test ": test} if test is not None else {})
        self.names, self._parts = _measured(data, loss_fn, also or {}, first)
        self.batch_norm = _batch_norm(model, recompute)
        self._flops = 2 * self.parameters * sum(len(part.x) for part in self._parts)
        self._draws = may_draw(model, self._parts)
        self._copy: InPlace | None = None
        threads = devices.thread_count()
        with self._computing():
            self._evaluator = self._choose(threads)
            self._evaluator.check()
        self.way, self.chunk = self._evaluator.way, self._evaluator.chunk

    def _choose(self, threads: int) -> "BatchedMLP | InPlace | _Vmapped":
        """Pick the way: by the architecture, the device and a count of operations, never by a stopwatch."""
        if layers := layers_of(self._model, *(part.x for part in self._parts)):
            return BatchedMLP(layers, [weights_of(self._model), *self._directions], self._parts, threads)
        self._copy = InPlace(self._model, self._directions, self._parts, recompute=self._recompute)
        if self._device.type == "cpu" or self._flops > LAUNCH or self._recompute:
            return self._copy
        many = _Vmapped(self._copy, self._directions)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # torch warns where its vmap is a loop after all
                many.measure(torch.zeros(2, len(self._directions)))
        except Exception:  # torch.func cannot take it apart, or it draws at random: the plain way can, or says why not
            return self._copy
        return many

    def at(self, coefficients: Tensor | np.ndarray) -> dict[str, np.ndarray]:
        """Return what is measured at every place, by name.

        Args:
            coefficients: Steps along each direction, a row for each place.  # (B, K)

        Raises:
            ValueError: if the coefficients have another shape.
        """
        coefficients, steps = torch.as_tensor(coefficients, dtype=torch.float64), len(self._directions)
        if coefficients.ndim != 2 or coefficients.shape[1] != steps or not len(coefficients):
            raise ValueError(
                f"the coefficients have shape {tuple(coefficients.shape)}; give a row of {steps} for each place."
            )
        values = np.concatenate([values for _, values in self.chunks(coefficients)])  # (B, names)
        return dict(zip(self.names, values.T.copy(), strict=True))

    def at_weights(self, rows: Tensor) -> dict[str, np.ndarray]:
        """Return what is measured with other weights in place of the model's own, by name.

        Args:
            rows: Weights in the order of `nn.utils.parameters_to_vector(model.parameters())`.  # (S, P)

        Raises:
            ValueError: if the weights are not as many as the model's.
        """
        if rows.ndim != 2 or rows.shape[1] != self.parameters or not len(rows):
            raise ValueError(f"the weights have shape {tuple(rows.shape)}; give rows of {self.parameters:,}.")
        with self._computing():
            if self._copy is None:  # of a fully connected network, in which nothing but the weights counts
                self._copy = InPlace(self._model, (), self._parts)
            values = self._copy.measure_weights(rows.to(self._device, self.dtype))  # (S, names)
        return dict(zip(self.names, values.T.cpu().double().numpy(), strict=True))

    def chunks(self, coefficients: Tensor) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the places and what was measured there, chunk by chunk, each sized for the memory."""  # (B, K)
        start = 0
        while start < len(coefficients):
            places = slice(start, start + self.chunk)
            try:
                with self._computing(1 if self.way == "stacked" else None):  # which has threads of its own
                    values = self._evaluator.measure(coefficients[places]).cpu().double().numpy()
            except RuntimeError as error:
                if not _out_of_memory(error) or self.chunk == 1:
                    raise
                self.chunk = max(1, self.chunk // 2)
                self._evaluator.release()
                continue
            yield places, values
            start += len(values)

    @contextmanager
    def _computing(self, threads: int | None = None) -> Iterator[None]:
        """Compute with the threads that the work deserves, and leave torch's global generators as they were.

        Where nothing draws from these they are not touched: another thread may use them meanwhile.
        """
        kept = random_state.preserved(self._device) if self._draws else nullcontext()
        with devices.threads(threads or devices.threads_for(self._flops)), kept:
            yield

    def __repr__(self) -> str:
        what = f"{', '.join(self.names)} of {self.parameters:,} parameters"
        return f"LossEvaluator: {what}, {self.way}, {self.chunk} at a time"


def _measured(
    data: dict[str, tuple[Tensor, Tensor]], loss_fn: LossFn, also: dict[str, LossFn], weight: Tensor
) -> tuple[tuple[str, ...], list[Part]]:
    """Return the names of everything to be measured, and what is measured on which data."""
    if not isinstance(also, dict) or "loss" in also:
        raise ValueError("also must be a dict of names and measures, without 'loss': {'accuracy': labkit.accuracy}.")
    measures = {"loss": loss_fn, **also}
    for measure in measures.values():
        if not callable(measure):
            raise ValueError(f"{measure!r} cannot be called: give (prediction, target) → scalar, such as run.loss_fn.")
    for name, pair in data.items():
        check_data(name, pair, weight)
    names = tuple(before + name for before in data for name in measures)
    if len(set(names)) < len(names):
        raise ValueError(f"duplicate measure name: {', '.join(names)}. Rename what is in also.")
    return names, [Part(x, y, tuple(measures.values())) for x, y in data.values()]


def check_data(name: str, data: tuple[Tensor, Tensor], weight: Tensor) -> None:
    """Raise `ValueError` unless data are a pair of tensors that suit a model's weights."""
    device, dtype = weight.device, weight.dtype
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ValueError("test must be a pair of tensors (x, y), such as (run.data.x_test, run.data.y_test).")
    for what, tensor in zip(("x", "y"), data, strict=True):
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f"{name}{what} is a {type(tensor).__name__}; give a torch tensor, such as run.data.x_train."
            )
        if tensor.device != device:
            raise ValueError(f"{name}{what} is on {tensor.device} and the model on {device}. Move one of them.")
        if not tensor.ndim:
            raise ValueError(f"{name}{what} is a single number; give one {what} for each sample.")
    if data[0].is_floating_point() and data[0].dtype != dtype:
        raise ValueError(f"{name}x is {data[0].dtype} and the model {dtype}. Write x.to({dtype}).")
    if len(data[0]) != len(data[1]) or not len(data[0]):
        raise ValueError(f"{name}x has {len(data[0]):,} samples and {name}y {len(data[1]):,}; give one y for each x.")


def _out_of_memory(error: Exception) -> bool:
    """Whether memory was short; some devices say so in words alone."""
    words = "can't allocate memory", "out of memory"  # of a CPU, of an Apple GPU
    return isinstance(error, torch.OutOfMemoryError) or any(each in str(error) for each in words)


def may_draw(model: nn.Module, parts: Sequence[Part]) -> bool:
    """Whether the model or a measure may draw at random."""
    return not (layers_of(model, *(part.x for part in parts)) and all_known(parts))


def _batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def _batch_norm(model: nn.Module, recompute: bool) -> str:
    """Say which statistics batch norm uses."""
    norms = _batch_norms(model)
    if not norms:
        if recompute:
            raise ValueError("the model has no batch norm, so there is nothing to recompute. Leave recompute out.")
        return "none"
    batch = any(norm.training or norm.running_mean is None for norm in norms)
    if recompute and batch:
        raise ValueError("batch norm uses each batch's own statistics here; recompute needs model.eval() first.")
    return "recomputed" if recompute else "of the batch" if batch else "stored"


def _values(parts: Sequence[Part], predict: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Measure everything, by one prediction for each part of the data."""  # (names,)
    values = []
    for x, y, measures in parts:
        prediction = predict(x)
        values += [scalar(measure(prediction, y), like) for measure in measures]
    return torch.stack(values)


class InPlace:
    """A copy of any module that is moved from place to place."""

    way = "in place"
    chunk = 16  # places between two points where a caller can stop: nothing is computed together

    def __init__(
        self, model: nn.Module, directions: Sequence[Direction], parts: Sequence[Part], *, recompute: bool = False
    ) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.start, self.parts = flat(weights_of(model)), parts  # (P,)
        self._ways = [flat(direction) for direction in directions]
        self._theta = self.start.clone()
        sizes = [parameter.numel() for parameter in self.model.parameters()]
        for parameter, view in zip(self.model.parameters(), torch.split(self._theta, sizes), strict=True):
            parameter.data = view.view_as(parameter)
        self._recompute = recompute
        self._training = any(module.training for module in model.modules())
        boxes = [cast(dict[str, Tensor], module._buffers) for module in self.model.modules()]
        self._kept = [(box, name, kept.clone()) for box in boxes for name, kept in box.items() if kept is not None]
        self._generators = random_state.generators(self._theta.device) if may_draw(model, parts) else []

    def check(self) -> None:
        """Refuse targets that torch would broadcast against the answers, and measures that are not one number."""
        self._prepare()
        for x, y, measures in self.parts:
            answer = self._answer(x)
            for measure in measures:
                check_targets(measure, answer, y)
                scalar(measure(answer, y), self._theta)

    def _answer(self, x: Tensor) -> Tensor:
        """What the model answers, or a sentence where it cannot read its inputs."""
        try:
            answer: Tensor = self.model(x)
        except (RuntimeError, IndexError) as error:
            if _out_of_memory(error):
                raise
            said = str(error).splitlines()[0]
            raise ValueError(f"the model cannot read inputs {x.dtype} of shape {tuple(x.shape)}: {said}") from error
        return answer

    def release(self) -> None:
        """There is nothing to forget."""

    def measure(self, coefficients: Tensor) -> Tensor:
        """Return what is measured at each place."""  # (B, K) → (B, names)
        with torch.no_grad():
            rows = []
            for steps in coefficients.tolist():
                self._theta.copy_(self.start)
                for step, way in zip(steps, self._ways, strict=True):
                    self._theta.add_(way, alpha=step)
                rows.append(self._here())
            return torch.stack(rows)

    def measure_weights(self, rows: Tensor) -> Tensor:
        """Return what is measured at given weights."""  # (S, P) → (S, names)
        with torch.no_grad():
            values = []
            for row in rows:
                self._theta.copy_(row)
                values.append(self._here())
            return torch.stack(values)

    def _here(self) -> Tensor:
        """Measure where the copy stands."""  # (names,)
        self._prepare()
        return _values(self.parts, self.model, self._theta)

    def _prepare(self) -> None:
        """Bring everything but the weights to the same state for every place."""
        for generator in self._generators:  # the same dropout everywhere
            generator.manual_seed(0)
        if self._training:  # running statistics that remember no other place
            for box, name, kept in self._kept:
                box[name].copy_(kept)
        if self._recompute:
            self._recompute_statistics()

    def _recompute_statistics(self) -> None:
        """Fill the running statistics of batch norm from the whole training set."""
        norms = _batch_norms(self.model)
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
            norm.momentum = None  # the plain mean, of one batch
        self._answer(self.parts[0].x)
        for norm in norms:
            norm.eval()


class _Vmapped:
    """A module at many places at once by `torch.func.vmap`, for a GPU that would wait for each kernel."""

    way = "vmap"
    chunk = VMAP_CHUNK

    def __init__(self, plain: InPlace, directions: Sequence[Direction]) -> None:
        self._plain, self._directions = plain, directions
        self._weights = shaped(plain.start, plain.model)  # copies: the model may go on training between two chunks
        self._many, self.check, self.release = vmap(self._one), plain.check, plain.release

    def _one(self, steps: Tensor) -> Tensor:
        """Measure one place, whose weights are made in here so that only a chunk of them exists."""  # (K,) → (names,)
        place = {}
        for name, weight in self._weights.items():
            moves = [step * way[name] for step, way in zip(steps.unbind(), self._directions, strict=True)]
            place[name] = weight + sum(moves)
        return _values(self._plain.parts, lambda x: functional_call(self._plain.model, place, (x,)), self._plain.start)

    def measure(self, coefficients: Tensor) -> Tensor:
        """Return what is measured at each place."""  # (B, K) → (B, names)
        with torch.no_grad():
            many: Tensor = self._many(coefficients.to(self._plain.start))
        return many
