"""Fully connected networks at many places in weight space at once, as arrays; they know nothing of other modules."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from labkit import devices
from labkit.directions import Direction
from labkit.losses import Loss, accuracy, as_columns, r_squared
from labkit.network import Residual, check_answer, shortcut

CACHE = 1 << 20  # bytes that a layer's outputs may take on a CPU before they fall out of its cache
GPU_SHARE, GPU_CHUNK = 0.25, 1 << 30  # of the free memory, and bytes, for one chunk of places on a GPU
ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.Identity, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Softplus)
IN_PLACE = {nn.ReLU: lambda z: z.clamp_min_(0), nn.Tanh: torch.tanh_, nn.Sigmoid: torch.sigmoid_}
KNOWN = {functional.mse_loss: "mse", functional.huber_loss: "huber", functional.cross_entropy: "cross_entropy"}
LossFn = Callable[[Tensor, Tensor], Tensor]  # (prediction, target) → scalar


class Part(NamedTuple):
    """Data, and what is measured on them."""

    x: Tensor
    y: Tensor
    measures: tuple[LossFn, ...]


def batched(measure: LossFn, y: Tensor, outputs: int) -> Callable[[Tensor], Tensor]:
    """Return a measure of many predictions of the same targets."""  # (B, N, out) → (B,)
    if measure in KNOWN:
        measure = Loss(KNOWN[measure])
    numbers = y.ndim == 1 and not y.is_floating_point() and int(y.min()) >= 0 and int(y.max()) < outputs
    columns = as_columns(y, outputs) if numbers or y.ndim > 1 else y
    if columns.shape == (len(y), outputs):
        if isinstance(measure, Loss) and (measure.name != "cross_entropy" or numbers):
            return lambda prediction: measure.values(prediction, columns.to(prediction))
        if measure in (accuracy, r_squared):
            return lambda prediction: measure(prediction, columns)
    return lambda prediction: torch.stack([scalar(measure(each.contiguous(), y)) for each in prediction])


def scalar(value: Tensor) -> Tensor:
    """Return a loss's value, or raise `ValueError` where it is not one number."""
    if not isinstance(value, Tensor) or value.ndim:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"a loss must be one number and this one is {shape}. Take its mean, as reduction='mean' does.")
    return value


def check_targets(measure: LossFn, answer: Tensor, y: Tensor) -> None:
    """Refuse targets that a known loss would broadcast against the answers, and class numbers beyond the answers."""
    name = measure.name if isinstance(measure, Loss) else KNOWN.get(measure)
    if name in ("mse", "huber") or (name == "cross_entropy" and y.is_floating_point()):
        check_answer(answer, y)
    elif name == "cross_entropy" and int(y.max()) >= answer.shape[1]:
        raise ValueError(f"y names class {int(y.max())} and the model answers for {answer.shape[1]}, counted from 0.")


class Layer(NamedTuple):
    """One layer of a fully connected network: the names of its parameters and what follows them."""

    weight: str
    bias: str | None
    activation: nn.Module
    residual: bool


def layers_of(model: nn.Module, x: Tensor) -> list[Layer] | None:
    """Read a model as a fully connected network; None where it is something else."""
    modules = list(model.named_modules())
    hooked = any(module._forward_hooks or module._forward_pre_hooks for _, module in modules)
    every = len(list(model.named_modules(remove_duplicate=False)))
    shared = every > len(modules) or len(list(model.named_parameters(remove_duplicate=False))) > len(
        dict(model.named_parameters())
    )
    if type(model) is not nn.Sequential or hooked or shared or x.ndim != 2:
        return None
    layers: list[Layer] = []
    for name, module in model.named_children():
        kind = type(module)
        if kind is nn.Linear:
            layers.append(
                Layer(f"{name}.weight", f"{name}.bias" if module.bias is not None else None, nn.Identity(), False)
            )
        elif kind is Residual and type(module.activation) in ELEMENTWISE:
            layers.append(Layer(f"{name}.linear.weight", f"{name}.linear.bias", module.activation, True))
        elif kind in ELEMENTWISE and layers and type(layers[-1].activation) is nn.Identity and not layers[-1].residual:
            layers[-1] = layers[-1]._replace(activation=module)
        else:
            return None
    first = model.get_parameter(layers[0].weight) if layers else None
    return layers if layers and (first.shape[1], first.dtype) == (x.shape[1], x.dtype) else None


class Stacked:
    """A fully connected network at many places at once.

    Units stand before samples, as products with few units are up to four times quicker that way round.
    """

    way = "stacked"

    def __init__(
        self, layers: list[Layer], weights: Direction, directions: Sequence[Direction], parts: Sequence[Part]
    ) -> None:
        self._layers = layers
        every = [weights, *directions]
        self._weights = [torch.stack([each[layer.weight] for each in every]) for layer in layers]  # (K + 1, out, in)
        self._biases = [layer.bias and torch.stack([each[layer.bias] for each in every]) for layer in layers]
        self._parts = []
        outputs = self._weights[-1].shape[1]
        for x, y, measures in parts:
            first = torch.stack([weight @ x.T for weight in self._weights[0]])  # (K + 1, out, N)
            if self._biases[0] is not None:
                first += self._biases[0].unsqueeze(2)
            self._parts.append((first, [batched(measure, y, outputs) for measure in measures]))
        self._expected = [(part, outputs) for part in parts]
        self.chunk = self._fitting(max(len(part.x) for part in parts))
        self.release()

    def _fitting(self, samples: int) -> int:
        """How many places at once keep a layer's outputs in the cache of a CPU, or fill a GPU."""
        first, size = self._weights[0], self._weights[0].element_size()
        widest = max(weight.shape[1] for weight in self._weights)
        if first.device.type == "cpu":
            return max(2, CACHE // (size * samples * widest))
        rest = sum(weight[0].numel() for weight in self._weights[1:])
        room = min(GPU_CHUNK, GPU_SHARE * devices.free_bytes(first.device))
        return max(1, int(room / (size * (rest + 2 * samples * widest))))

    def check(self) -> None:
        """Refuse targets that torch would broadcast against the answers."""
        for part, outputs in self._expected:
            for measure in part.measures:
                check_targets(measure, part.x.new_empty(len(part.x), outputs), part.y)

    def release(self) -> None:
        """Forget the buffers."""
        self._room: dict[tuple, Tensor] = {}

    def _buffer(self, *key: object, shape: tuple[int, ...]) -> Tensor:
        """A buffer that is made once: fresh memory costs a CPU more than the numbers written to it."""
        if key not in self._room or self._room[key].shape != shape:
            self._room[key] = self._weights[0].new_empty(shape)
        return self._room[key]

    def measure(self, coefficients: Tensor) -> Tensor:
        """Return what is measured at each place."""  # (B, K) → (B, names)
        with torch.inference_mode():
            mix = functional.pad(coefficients, (1, 0), value=1.0).to(self._weights[0])  # (B, K + 1)
            weights = [self._mixed(k, mix) for k in range(1, len(self._layers))]
            columns = []
            for part, (first, measures) in enumerate(self._parts):
                prediction = self._forward(part, first, mix, weights).mT  # (B, N, out)
                columns += [measure(prediction) for measure in measures]
            return torch.stack(columns, 1)

    def _mixed(self, layer: int, mix: Tensor) -> tuple[Tensor, Tensor | None]:
        """The weights and biases of one layer at each place."""  # (B, out, in), (B, out, 1)
        base, bias = self._weights[layer], self._biases[layer]
        weight = self._buffer("weight", layer, shape=(len(mix), *base.shape[1:]))
        torch.mm(mix, base.flatten(1), out=weight.flatten(1))
        return weight, None if bias is None else (mix @ bias).unsqueeze(2)

    def _forward(self, part: int, first: Tensor, mix: Tensor, weights: list[tuple]) -> Tensor:
        """Run the layers."""  # → (B, out, N)
        h = self._buffer("out", part, 0, shape=(len(mix), *first.shape[1:]))
        torch.mm(mix, first.flatten(1), out=h.flatten(1))
        h = self._activated(0, h, self._entry(part) if self._layers[0].residual else None)
        for k, (weight, bias) in enumerate(weights, 1):
            z = self._buffer("out", part, k, shape=(len(mix), weight.shape[1], h.shape[2]))
            torch.bmm(weight, h, out=z)
            if bias is not None:
                z += bias
            h = self._activated(k, z, h if self._layers[k].residual else None)
        return h

    def _entry(self, part: int) -> Tensor:
        """The inputs, which a residual first layer adds."""  # (1, in, N)
        return self._expected[part][0].x.T.unsqueeze(0)

    def _activated(self, layer: int, z: Tensor, before: Tensor | None) -> Tensor:
        """Apply a layer's activation and shortcut."""  # (B, out, N)
        activation = self._layers[layer].activation
        act = IN_PLACE.get(type(activation), activation)
        skip = None if before is None else shortcut(before.mT, z.shape[1])
        return act(z) if skip is None else act(z) + skip.mT
