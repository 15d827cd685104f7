"""Fully connected networks at many places in weight space at once, as arrays."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from labkit.core import devices
from labkit.core.losses import Loss, accuracy, as_columns, r_squared
from labkit.core.network import ACTIVATIONS, Residual, check_answer, shortcut
from labkit.landscape.directions import Direction

CACHE = 2 << 20  # bytes that a layer's outputs may take on a CPU before they fall out of its cache
FEW_INPUTS = 8  # up to this many, the first layer is quicker computed at every place than mixed from its parts
WORK, TILES = 5e7, 4  # minimum work (floating-point operations) and tiles per thread: with less it waits for the others
GPU_SHARE, GPU_CHUNK = 0.25, 1 << 30  # of the free memory, and bytes, for one chunk of places on a GPU
CPU_SHARE = 0.5  # of the free memory, for the buffers of all threads
IN_PLACE: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {  # (module, z) → z, overwritten:
    nn.ReLU: lambda module, z: z.clamp_min_(0),  # fresh memory for every layer costs a CPU more than the numbers
    nn.Tanh: lambda module, z: z.tanh_(),
    nn.Sigmoid: lambda module, z: z.sigmoid_(),
    nn.GELU: lambda module, z: torch.ops.aten.gelu_(z, approximate=module.approximate),
    nn.SiLU: lambda module, z: functional.silu(z, inplace=True),
    nn.ELU: lambda module, z: functional.elu(z, module.alpha, inplace=True),
    nn.LeakyReLU: lambda module, z: functional.leaky_relu(z, module.negative_slope, inplace=True),
}
ELEMENTWISE = {*(row.module for row in ACTIVATIONS.values()), *IN_PLACE, nn.Softplus}  # what may follow a linear layer
BATCHED_SCORES = (accuracy, r_squared)  # beside the losses: they take the predictions of many networks at once
LossFn = Callable[[Tensor, Tensor], Tensor]  # (prediction, target) → scalar


class Known(NamedTuple):
    """A loss in the form that measures many predictions at once, (…, N, out), (…, N, out) → (…)."""

    values: Callable[[Tensor, Tensor], Tensor]
    classes_only: bool = False


def _of(name: str, delta: float = 1.0, scale: float = 1.0) -> Known:
    loss = Loss(name, delta)
    return Known(loss.values if scale == 1 else lambda *pair: loss.values(*pair) / scale, loss.classes_only)


def _plain_cross_entropy(module: nn.CrossEntropyLoss) -> Known | None:
    plain = module.weight is None and module.ignore_index == -100 and module.label_smoothing == 0
    return _of("cross_entropy") if plain else None


def _smooth(beta: float) -> Known:
    """Smooth L1 is Huber's loss over beta; at 0 it is the absolute error."""
    return _of("huber", beta, beta) if beta else ABSOLUTE


ABSOLUTE = Known(lambda prediction, target: (prediction - target).abs().mean((-2, -1)))
LOSS_FUNCTIONS = {
    functional.mse_loss: _of("mse"),
    functional.huber_loss: _of("huber"),
    functional.cross_entropy: _of("cross_entropy"),
    functional.l1_loss: ABSOLUTE,
    functional.smooth_l1_loss: _smooth(1.0),
}
LOSS_MODULES: dict[type[nn.Module], Callable[[Any], Known | None]] = {  # all with reduction="mean"
    nn.MSELoss: lambda module: _of("mse"),
    nn.HuberLoss: lambda module: _of("huber", module.delta),
    nn.CrossEntropyLoss: _plain_cross_entropy,
    nn.L1Loss: lambda module: ABSOLUTE,
    nn.SmoothL1Loss: lambda module: _smooth(module.beta),
}


class Part(NamedTuple):
    """Data, and what is measured on them."""

    x: Tensor
    y: Tensor
    measures: tuple[LossFn, ...]


def batched(measure: LossFn, y: Tensor, outputs: int) -> Callable[[Tensor], Tensor]:
    """Return a measure of many predictions of the same targets."""  # (B, N, out) → (B,)
    loss = known(measure)
    numbers = y.ndim == 1 and y.dtype == torch.int64 and int(y.min()) >= 0 and int(y.max()) < outputs
    columns = as_columns(y, outputs) if numbers else y
    if columns.shape == (len(y), outputs):
        if loss and (not loss.classes_only or numbers):
            return lambda prediction: loss.values(prediction, columns.to(prediction))
        if measure in BATCHED_SCORES:
            return lambda prediction: measure(prediction, columns)
    return lambda prediction: torch.stack([scalar(measure(each.contiguous(), y), each) for each in prediction])


def known(measure: LossFn) -> Known | None:
    """Return how a loss measures many predictions at once; None where it has options that this does not cover."""
    if isinstance(measure, Loss):
        return Known(measure.values, measure.classes_only)
    if isinstance(measure, nn.Module):
        row = LOSS_MODULES.get(type(measure))
        return row(measure) if row and getattr(measure, "reduction", "") == "mean" else None
    return next((row for function, row in LOSS_FUNCTIONS.items() if function is measure), None)


def all_known(parts: Sequence[Part]) -> bool:
    """Whether every measure is the lab's own: such draw nothing at random, and may be called from several threads."""
    return all(known(each) or each in BATCHED_SCORES for part in parts for each in part.measures)


def scalar(value: Tensor | float, like: Tensor) -> Tensor:
    """Return a loss's value as a tensor, or raise `ValueError` where it is not one number."""
    if isinstance(value, Real):
        return like.new_tensor(value)
    if not isinstance(value, Tensor) or value.ndim:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"a loss must be one number and this one is {shape}. Take its mean, as reduction='mean' does.")
    return value


def check_targets(measure: LossFn, answer: Tensor, y: Tensor) -> None:
    """Refuse targets that a known loss would broadcast against the answers, and class numbers beyond the answers."""
    if not (loss := known(measure)):
        return
    if not isinstance(answer, Tensor):
        raise ValueError(f"the model answers with a {type(answer).__name__}. Give a loss_fn that takes it apart.")
    if not loss.classes_only or (y.is_floating_point() and y.ndim == answer.ndim):
        check_answer(answer, y)
    else:
        _check_classes(y, answer)


def _check_classes(y: Tensor, answer: Tensor) -> None:
    """Refuse class numbers that torch's cross entropy cannot read; it leaves out those of -100."""
    needs = answer.shape[:1] + answer.shape[2:]
    if y.dtype != torch.int64 or y.shape != needs:
        raise ValueError(
            f"y is {y.dtype} of shape {tuple(y.shape)}; cross entropy needs class numbers, torch.int64 of shape "
            f"{tuple(needs)}, or one-hot floating-point numbers of shape {tuple(answer.shape)}."
        )
    if len(wrong := y[(y != -100) & ((y < 0) | (y >= answer.shape[1]))]):
        raise ValueError(f"y names class {int(wrong[0])} and the model answers for {answer.shape[1]}, counted from 0.")


class Layer(NamedTuple):
    """One layer of a fully connected network: the names of its parameters and what follows them."""

    weight: str
    bias: str | None
    activation: nn.Module
    residual: bool


def layers_of(model: nn.Module, *inputs: Tensor) -> list[Layer] | None:
    """Read a model as a fully connected network of these inputs; None where it is something else."""  # (N, in) each
    layers: list[Layer] = []
    for name, module in model.named_children() if _plain(model) else ():
        last = layers[-1] if layers else None
        if last and type(module) in ELEMENTWISE and type(last.activation) is nn.Identity and not last.residual:
            layers[-1] = last._replace(activation=module)
        elif layer := _layer(name, module):
            layers.append(layer)
        else:
            return None
    if not layers:
        return None
    first = model.get_parameter(layers[0].weight)
    fits = all(x.ndim == 2 and (x.shape[1], x.dtype) == (first.shape[1], first.dtype) for x in inputs)
    return layers if fits else None


def _plain(model: nn.Module) -> bool:
    """Whether modules are applied one after another, without hooks, and nothing stands in several places."""
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    named = model.named_modules, model.named_parameters
    shared = any(len(list(each(remove_duplicate=False))) > len(list(each())) for each in named)
    return type(model) is nn.Sequential and not hooked and not shared


def _layer(name: str, module: nn.Module) -> Layer | None:
    """Read one module as a linear layer, plain or residual."""
    if type(module) is nn.Linear:
        return Layer(f"{name}.weight", None if module.bias is None else f"{name}.bias", nn.Identity(), residual=False)
    if type(module) is Residual and type(module.activation) in ELEMENTWISE:
        inner = _layer(f"{name}.linear", module.linear)
        return inner and inner._replace(activation=module.activation, residual=True)
    return None


Mixed = tuple[Tensor, Tensor | None]  # the weights and biases of a layer at each place: (B, out, in), (B, out, 1)


class BatchedMLP:
    """A fully connected network at many places at once.

    Units stand before samples, as products with few units are up to four times quicker that way round. On a CPU
    each thread computes places of its own: sharing every product among threads brings less, and on a busy machine
    it costs ten times more.
    """

    way = "stacked"

    def __init__(self, layers: list[Layer], places: Sequence[Direction], parts: Sequence[Part], threads: int) -> None:
        self._layers, self._data = layers, parts
        self._weights = [torch.stack([each[layer.weight] for each in places]) for layer in layers]  # (K + 1, out, in)
        self._biases = [  # (K + 1, out)
            None if layer.bias is None else torch.stack([each[layer.bias] for each in places]) for layer in layers
        ]
        self._outputs = self._weights[-1].shape[1]
        self._mixes_first = self._weights[0].shape[2] > FEW_INPUTS
        rows = [part for pair in zip(self._weights, self._biases, strict=True) for part in pair if part is not None]
        skipped = (1 if self._biases[0] is None else 2) if self._mixes_first else 0
        self._flat = torch.cat([part.flatten(1) for part in rows[skipped:]] or [rows[0][:, :0, 0]], 1)  # (K + 1, P)
        self._parts = [self._prepared(part) for part in parts]
        self._tile, self.chunk, self._workers = self._fitting([len(part.x) for part in parts], threads)
        if not all_known(parts):
            self._workers = 1  # a user-supplied function may not bear two calls at once
        self._pool: ThreadPoolExecutor | None = None
        self.release()

    def _prepared(self, part: Part) -> tuple[Tensor | None, list[Callable[[Tensor], Tensor]]]:
        """The first layer along each direction, where that is less to read than the inputs; and the measures."""
        first, bias = None, self._biases[0]
        if self._mixes_first:
            first = torch.stack([weight @ part.x.T for weight in self._weights[0]])  # (K + 1, out, N)
            if bias is not None:
                first += bias.unsqueeze(2)
        return first, [batched(measure, part.y, self._outputs) for measure in part.measures]

    def _fitting(self, samples: list[int], threads: int) -> tuple[int, int, int]:
        """How many places make a tile, how many are asked for at once, and by how many threads.

        A layer's outputs of a tile stay in the cache of a CPU, or fill a GPU; all that is at work fits the free memory.
        """
        first, size = self._weights[0], self._weights[0].element_size()
        units = [weight.shape[1] for weight in self._weights]
        rest = sum(weight[0].numel() for weight in self._weights[1:])
        place, free = size * (rest + sum(samples) * sum(units)), devices.free_bytes(first.device)  # bytes
        if first.device.type != "cpu":
            tile = max(1, int(min(GPU_CHUNK, GPU_SHARE * free) / place))
            return tile, tile, 1
        places = max(1, int(CPU_SHARE * free / place))  # that all threads together have room for
        tile = min(places, max(2, CACHE // (size * max(samples) * max(units))))
        each = 2 * sum(samples) * (rest + len(first) * units[0])  # operations at one place
        tiles = max(TILES, int(WORK / each) // tile)
        busy = each * tile * tiles * threads // devices.WORK_PER_THREAD
        workers = int(max(1, min(threads, busy, places // tile)))
        return tile, tile * tiles * workers, workers

    def check(self) -> None:
        """Refuse targets that torch would broadcast against the answers, and measures that are not one number."""
        for x, y, measures in self._data:
            for measure in measures:
                check_targets(measure, x.new_empty(len(x), self._outputs), y)
        self.measure(torch.zeros(1, len(self._weights[0]) - 1))
        self.release()

    def release(self) -> None:
        """Forget the buffers."""
        self._room: dict[tuple[object, ...], Tensor] = {}

    def _buffer(self, *key: object, shape: tuple[int, ...]) -> Tensor:
        """A thread's buffer, made once: fresh memory costs a CPU more than the numbers written to it."""
        key = threading.get_ident(), *key
        if key not in self._room or self._room[key].shape != shape:
            self._room[key] = self._weights[0].new_empty(shape)
        return self._room[key]

    def measure(self, coefficients: Tensor) -> Tensor:
        """Return what is measured at each place."""  # (B, K) → (B, names)
        if self._workers == 1 or len(coefficients) <= self._tile:
            return self._measure(coefficients)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, initializer=torch.set_num_threads, initargs=(1,))
        share = -(-len(coefficients) // (self._tile * self._workers)) * self._tile
        return torch.cat(list(self._pool.map(self._measure, torch.split(coefficients, share))))

    def _measure(self, coefficients: Tensor) -> Tensor:
        """Measure in one thread, tile by tile; the weights of as many tiles as a cache holds are made at once."""
        tile, row = self._tile, self._flat.element_size() * max(1, self._flat.shape[1])  # (B, K) → (B, names)
        mix, found = functional.pad(coefficients, (1, 0), value=1.0).to(self._weights[0]), []  # (B, K + 1)
        with torch.inference_mode():
            for part in torch.split(mix, max(1, CACHE // row // tile) * tile):
                flat = self._buffer("flat", shape=(len(part), self._flat.shape[1]))
                torch.mm(part, self._flat, out=flat)
                pairs = zip(torch.split(part, tile), torch.split(flat, tile), strict=True)
                found += [self._measure_tile(*pair) for pair in pairs]
        return torch.cat(found)

    def _measure_tile(self, mix: Tensor, flat: Tensor) -> Tensor:
        weights, columns = self._unpacked(flat), []  # (B, K + 1), (B, P) → (B, names)
        for part, (first, measures) in enumerate(self._parts):
            prediction = self._forward(part, first, mix, weights).mT  # (B, N, out)
            columns += [measure(prediction) for measure in measures]
        return torch.stack(columns, 1)

    def _unpacked(self, flat: Tensor) -> dict[int, Mixed]:
        """The weights and biases of each layer that is computed at every place, as views."""  # (B, P)
        unpacked: dict[int, Mixed] = {}
        start = 0
        for k in range(1 if self._mixes_first else 0, len(self._layers)):
            end = start + self._weights[k][0].numel()
            weight, bias = flat[:, start:end].view(len(flat), *self._weights[k].shape[1:]), None
            start = end
            if self._biases[k] is not None:
                start += weight.shape[1]
                bias = flat[:, end:start].unsqueeze(2)
            unpacked[k] = weight, bias
        return unpacked

    def _forward(self, part: int, first: Tensor | None, mix: Tensor, weights: dict[int, Mixed]) -> Tensor:
        """Run the layers."""  # → (B, out, N)
        h = self._data[part].x.T.unsqueeze(0)  # (1, in, N)
        for k, layer in enumerate(self._layers):
            z = self._buffer("out", part, k, shape=(len(mix), self._weights[k].shape[1], h.shape[2]))
            if k or first is None:
                _product(*weights[k], h, out=z)
            else:
                torch.mm(mix, first.flatten(1), out=z.flatten(1))
            skip = shortcut(h.mT, z.shape[1]) if layer.residual else None
            act = layer.activation
            a = IN_PLACE[type(act)](act, z) if type(act) in IN_PLACE else act(z)
            h = a if skip is None else a + skip.mT
        return h


def _product(weight: Tensor, bias: Tensor | None, h: Tensor, out: Tensor) -> None:
    """Write weight · h + bias; where h is the same for all places, as one product."""  # (B, out, in), (B or 1, in, N)
    if len(h) == 1:
        torch.mm(weight.flatten(0, 1), h[0], out=out.flatten(0, 1))
    else:
        torch.bmm(weight, h, out=out)
    if bias is not None:
        out += bias
