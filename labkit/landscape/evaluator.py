"""The loss of one network at many places in weight space, by the fastest way that its architecture allows.

A place is the network's own weights plus so many steps along each of a few directions. It knows no planes and no files.
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from labkit.core import devices
from labkit.landscape.batched_mlp import FIT_FOR_MANY, BatchedMLP, LossFn, Part, check_targets, known, layers_of, scalar
from labkit.landscape.directions import Direction, check, flat, weights_of

LAUNCH = 1e9  # floating-point operations at one place below which a GPU spends its time on starting kernels
VMAP_CHUNK = 256  # places at once


class LossEvaluator:
    """What is measured at any place near a network, such as its loss.

    Fully connected networks (`nn.Sequential` of `nn.Linear` and elementwise activations) are evaluated many at
    once. As h = (W + aU + bV) x = Wx + a·Ux + b·Vx, their first layer costs three products in all. Any other
    module goes the general way: one place after another on a copy, or on a GPU many at once by `vmap`.

    Args:
        model: The network; it is left as it is, bit for bit. Its own mode (train or eval) is used.
        loss_fn: (prediction, target) → scalar; one that the lab does not know sees the whole batch at once.
        x: Inputs, on the model's device.  # (N, …)
        y: Targets.
        directions: What the coefficients count steps along.
        also: More to measure from the same prediction, name → (prediction, target) → scalar.
        test: Test data (x, y): everything is measured on them too, under "test …".
        recompute: Recompute the statistics of batch norm from x at every place, as training would leave them
            (Garipov et al. 2018, appendix), in place of the stored ones of eval mode.

    Attributes:
        names: what is measured, in order.
        way: "stacked", "in place" or "vmap".
        batch_norm: which statistics batch norm uses: "none", "stored", "of the batch" or "recomputed".

    Raises:
        ValueError: if the model, the data and the directions do not fit each other.
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
        self.parameters = sum(weight.numel() for weight in weights.values())
        first = next(iter(weights.values()))
        self._device, self.dtype = first.device, first.dtype
        directions = [check(each, model, "uvw"[k] if k < 3 else str(k)) for k, each in enumerate(directions)]
        measures = _checked(loss_fn, also or {})
        parts = {"": (x, y)} | ({"test ": test} if test is not None else {})
        for name, data in parts.items():
            check_data(name, data, first)
        self.names = tuple(before + name for before in parts for name in measures)
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"two measures bear one name: {', '.join(self.names)}. Rename what is in also.")
        self.batch_norm = _batch_norm(model, recompute)
        self._flops = 2 * self.parameters * sum(len(data[0]) for data in parts.values())
        parts = [Part(*data, tuple(measures.values())) for data in parts.values()]
        self._draws = _draws(model, parts)
        every = devices.thread_count()
        self._threads = devices.threads_for(self._flops)
        with torch.no_grad(), devices.threads(self._threads), _random_state_kept(self._device, self._draws):
            self._evaluator = self._choose(every, model, weights, directions, parts, recompute)
            self._evaluator.check()
            self._evaluator.release()
        self.way, self.chunk = self._evaluator.way, self._evaluator.chunk
        if self.way == "stacked":
            self._threads = 1  # it has some of its own

    def _choose(
        self,
        threads: int,
        model: nn.Module,
        weights: Direction,
        directions: Sequence[Direction],
        parts: list[Part],
        recompute: bool,
    ) -> "BatchedMLP | InPlace | _Vmapped":
        """Pick the way: by the architecture, the device and a count of operations, never by a stopwatch."""
        if layers := layers_of(model, *(part.x for part in parts)):
            return BatchedMLP(layers, weights, directions, parts, threads)
        plain = InPlace(model, directions, parts, recompute=recompute)
        if self._device.type == "cpu" or self._flops > LAUNCH or recompute:
            return plain
        many = _Vmapped(plain, weights, directions, parts)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # torch warns where its vmap is a loop after all
                many.measure(torch.zeros(2, len(directions)))
        except Exception:  # torch.func cannot take it apart, or it draws at random: the plain way can, or says why not
            return plain
        return many

    def at(self, coefficients: Tensor | np.ndarray) -> dict[str, np.ndarray]:
        """Return what is measured at every place, by name.

        Args:
            coefficients: Steps along each direction.  # (B, K)
        """
        coefficients = torch.as_tensor(coefficients, dtype=torch.float64)
        values = np.concatenate([values for _, values in self.chunks(coefficients)])  # (B, names)
        return dict(zip(self.names, values.T.copy(), strict=True))

    def chunks(self, coefficients: Tensor) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the places and what was measured there, chunk by chunk, each sized for the memory."""  # (B, K)
        start = 0
        while start < len(coefficients):
            places = slice(start, start + self.chunk)
            try:
                values = self._measure(coefficients[places])
            except RuntimeError as error:
                if not _out_of_memory(error) or self.chunk == 1:
                    raise
                self.chunk = max(1, self.chunk // 2)
                self._evaluator.release()
                continue
            yield places, values
            start += len(values)

    def _measure(self, coefficients: Tensor) -> np.ndarray:
        """Measure one chunk."""  # (B, K) → (B, names)
        with devices.threads(self._threads), _random_state_kept(self._device, self._draws):
            return self._evaluator.measure(coefficients).cpu().double().numpy()

    def __repr__(self) -> str:
        what = f"{', '.join(self.names)} of {self.parameters:,} parameters"
        return f"LossEvaluator: {what}, {self.way}, {self.chunk} at a time"


def _checked(loss_fn: LossFn, also: dict[str, LossFn]) -> dict[str, LossFn]:
    """Return everything to be measured, by name."""
    if not isinstance(also, dict) or "loss" in also:
        raise ValueError("also must be a dict of names and measures, without 'loss': {'accuracy': labkit.accuracy}.")
    measures = {"loss": loss_fn, **also}
    for measure in measures.values():
        if not callable(measure):
            raise ValueError(f"{measure!r} cannot be called: give (prediction, target) → scalar, such as run.loss_fn.")
    return measures


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


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether memory was short; a CPU says so in words alone."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextmanager
def _random_state_kept(device: torch.device, draws: bool) -> Iterator[None]:
    """Give the global generators back as they were: the CPU's, and that of a GPU."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], enabled=draws):
        yield


def _draws(model: nn.Module, parts: Sequence[Part]) -> bool:
    """Whether anything may draw at random; else other threads keep the global generators to themselves."""
    plain = layers_of(model, *(part.x for part in parts))
    return not plain or not all(known(each) or each in FIT_FOR_MANY for part in parts for each in part.measures)


def _batch_norm(model: nn.Module, recompute: bool) -> str:
    """Say which statistics batch norm uses."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        if recompute:
            raise ValueError("the model has no batch norm, so there is nothing to recompute. Leave recompute out.")
        return "none"
    batch = any(norm.training or norm.running_mean is None for norm in norms)
    if recompute and batch:
        raise ValueError("batch norm uses each batch's own statistics here; recompute needs model.eval() first.")
    return "recomputed" if recompute else "of the batch" if batch else "stored"


class InPlace:
    """A copy of any module that is moved from place to place."""

    way = "in place"
    chunk = 16  # places between two looks at the clock: nothing is computed together

    def __init__(
        self, model: nn.Module, directions: Sequence[Direction], parts: Sequence[Part], *, recompute: bool = False
    ) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._start = flat(weights_of(model))  # (P,)
        self._ways = [flat(direction) for direction in directions]
        self._theta = self._start.clone()
        sizes = [parameter.numel() for parameter in self.model.parameters()]
        for parameter, view in zip(self.model.parameters(), self._theta.split(sizes), strict=True):
            parameter.data = view.view_as(parameter)
        self._parts, self._recompute = parts, recompute
        self._training = any(module.training for module in model.modules())
        boxes = [module._buffers for module in self.model.modules()]
        self._kept = [(box, name, box[name].clone()) for box in boxes for name in box if box[name] is not None]
        self._draws = _draws(model, parts)
        self._generators = [torch.default_generator] if self._draws else []
        if self._draws and self._theta.is_cuda:
            self._generators.append(torch.cuda.default_generators[self._theta.device.index])

    def check(self) -> None:
        """Refuse targets that torch would broadcast against the answers, and measures that are not one number."""
        self._prepare()
        for x, y, measures in self._parts:
            answer = self._answer(x)
            for measure in measures:
                check_targets(measure, answer, y)
                scalar(measure(answer, y), self._theta)

    def _answer(self, x: Tensor) -> Tensor:
        """What the model answers, or a sentence where it cannot read its inputs."""
        try:
            return self.model(x)
        except (RuntimeError, IndexError) as error:
            if _out_of_memory(error):
                raise
            said = str(error).splitlines()[0]
            raise ValueError(f"the model cannot read inputs {x.dtype} of shape {tuple(x.shape)}: {said}") from error

    def release(self) -> None:
        """There is nothing to forget."""

    def measure(self, coefficients: Tensor) -> Tensor:
        """Return what is measured at each place."""  # (B, K) → (B, names)
        with torch.no_grad():
            rows = []
            for steps in coefficients.tolist():
                self._theta.copy_(self._start)
                for step, way in zip(steps, self._ways, strict=True):
                    self._theta.add_(way, alpha=step)
                rows.append(self._here())
            return torch.stack(rows)

    def measure_weights(self, rows: Tensor) -> Tensor:
        """Return what is measured at given weights."""  # (S, P) → (S, names)
        with torch.no_grad(), _random_state_kept(self._theta.device, self._draws):
            return torch.stack([self._at(row) for row in rows])

    def _at(self, row: Tensor) -> Tensor:
        self._theta.copy_(row)
        return self._here()

    def _here(self) -> Tensor:
        """Measure where the copy stands."""  # (names,)
        self._prepare()
        values = []
        for x, y, measures in self._parts:
            prediction = self.model(x)
            values += [scalar(measure(prediction, y), self._theta) for measure in measures]
        return torch.stack(values)

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
        norms = [module for module in self.model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        modes = [(norm, norm.training, norm.momentum) for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
            norm.momentum = None  # the plain mean, of one batch
        self._answer(self._parts[0].x)
        for norm, training, momentum in modes:
            norm.train(training)
            norm.momentum = momentum


class _Vmapped:
    """Any module at many places at once by `torch.func.vmap`, for a GPU that would wait for each kernel."""

    way = "vmap"
    chunk = VMAP_CHUNK

    def __init__(
        self,
        plain: InPlace,
        weights: Direction,
        directions: Sequence[Direction],
        parts: Sequence[Part],
    ) -> None:
        model = plain.model  # a copy, as the weights are: the person's own may go on training between two chunks
        weights = {name: weight.clone() for name, weight in weights.items()}
        first = next(iter(weights.values()))

        def one(steps: Tensor) -> Tensor:  # the weights are made in here, so that only a chunk of them exists
            place = {
                name: weight + sum(step * way[name] for step, way in zip(steps.unbind(), directions, strict=True))
                for name, weight in weights.items()
            }
            values = []
            for x, y, measures in parts:
                prediction = functional_call(model, place, (x,))
                values += [scalar(measure(prediction, y), first) for measure in measures]
            return torch.stack(values)

        self._many, self.check = vmap(one), plain.check
        self._device, self._dtype = first.device, first.dtype

    def release(self) -> None:
        """There is nothing to forget."""

    def measure(self, coefficients: Tensor) -> Tensor:
        """Return what is measured at each place."""  # (B, K) → (B, names)
        with torch.no_grad():
            return self._many(coefficients.to(self._device, self._dtype))
