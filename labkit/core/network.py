"""Fully connected networks, an ensemble at a time, with their backward pass by hand.

A network is a stack of members: weights (members, fan_in, fan_out), biases (members, 1, fan_out). All
parameters of a member lie in one row, so that an optimizer moves them with a handful of operations.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from labkit.core import random_state
from labkit.core.rules import option

ROOT_2 = math.sqrt(2)
SEED_STRIDE = 100_000_007  # more than a run has steps, so that no two seeds draw alike


def _gelu(z: Tensor, out: Tensor) -> Tensor:
    return torch.mul(z, torch.erf(z / ROOT_2).add_(1).mul_(0.5), out=out)


def _gelu_slope(z: Tensor, a: Tensor, one: Tensor, out: Tensor) -> Tensor:
    density = torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return torch.add(torch.erf(z / ROOT_2).add_(1).mul_(0.5), z * density, out=out)


@dataclass(frozen=True)
class Activation:
    """What a hidden unit does to its sum z; without a value, nothing."""

    module: type[nn.Module]
    value: Callable[[Tensor, Tensor], Tensor] | None = None  # (z, out): writes a = f(z) into out
    slope: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None = None  # (z, a, 1, out): writes f'(z)
    slope_reads_z: bool = False  # z is kept beside a
    odd: bool = False  # f(-z) = -f(z)


ACTIVATIONS = {
    "relu": Activation(
        nn.ReLU, lambda z, out: torch.clamp_min(z, 0, out=out), lambda z, a, one, out: torch.sign(a, out=out)
    ),
    "tanh": Activation(
        nn.Tanh,
        lambda z, out: torch.tanh(z, out=out),
        lambda z, a, one, out: torch.addcmul(one, a, a, value=-1, out=out),
        odd=True,
    ),
    "sigmoid": Activation(
        nn.Sigmoid,
        lambda z, out: torch.sigmoid(z, out=out),
        lambda z, a, one, out: torch.addcmul(a, a, a, value=-1, out=out),
    ),
    "gelu": Activation(nn.GELU, _gelu, _gelu_slope, slope_reads_z=True),
    "linear": Activation(nn.Identity, odd=True),
}


def _normal(variance: Callable[[int, int], float]) -> Callable[[Tensor, Tensor, np.random.Generator], None]:
    def fill(weight: Tensor, bias: Tensor, rng: np.random.Generator) -> None:
        weight.copy_(torch.from_numpy(rng.normal(size=weight.shape) * math.sqrt(variance(*weight.shape[1:]))))

    return fill


def _uniform(weight: Tensor, bias: Tensor, rng: np.random.Generator) -> None:
    for part in (weight, bias):
        part.copy_(torch.from_numpy((2 * rng.random(part.shape) - 1) / math.sqrt(weight.shape[1])))


INITS = {  # name → fills the weights (1, fan_in, fan_out) and, unless they stay 0, the biases of one layer
    "he": _normal(lambda fan_in, fan_out: 2 / fan_in),
    "xavier": _normal(lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
    "pytorch": _uniform,
}


def count(widths: tuple[int, ...]) -> int:
    """How many parameters a network of these widths has."""
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(widths))


def views(flat: Tensor, widths: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Return each layer's weights and biases as views of the rows of `flat`."""
    weights, biases, start = [], [], 0
    for fan_in, fan_out in pairwise(widths):
        end = start + fan_in * fan_out
        weights.append(flat[:, start:end].view(len(flat), fan_in, fan_out))  # (members, fan_in, fan_out)
        biases.append(flat[:, end : end + fan_out].unsqueeze(1))  # (members, 1, fan_out)
        start = end + fan_out
    return weights, biases


def place_of(name: str, widths: tuple[int, ...]) -> int:
    """Return where in a row of theta the weight "w1.2.3" or the bias "b1.3" stands (layer, from, to; from 1).

    Raises:
        ValueError: if there is no such weight.
    """
    kind, numbers = name[:1], name[1:].split(".")
    if (kind, len(numbers)) in (("w", 3), ("b", 2)) and all(number.isdecimal() for number in numbers):
        layer, *units = map(int, numbers)
        if 0 < layer < len(widths):
            bounds = widths[layer - 1 : layer + 1] if kind == "w" else widths[layer : layer + 1]
            if all(0 < unit <= bound for unit, bound in zip(units, bounds, strict=True)):
                row = units[0] - 1 if kind == "w" else widths[layer - 1]
                return count(widths[:layer]) + row * widths[layer] + units[-1] - 1
    shape = "-".join(map(str, widths))
    raise ValueError(
        f"{name!r} names no weight of {shape}: take 'w1.2.3' (layer, from, to) or 'b1.3' (layer, unit), from 1."
    )


def draw(widths: tuple[int, ...], init: str, rng: np.random.Generator) -> Tensor:
    """Draw the first parameters of one member.

    Raises:
        ValueError: if `init` is none of `INITS`.
    """  # (P,)
    fill = option("init", init, INITS)
    flat = torch.zeros(1, count(widths))
    for weight, bias in zip(*views(flat, widths), strict=True):
        fill(weight, bias, rng)
    return flat[0]


def shortcut(h: Tensor, width: int) -> Tensor | None:
    """What a residual layer adds to its output: its input, or the averages of neighbours where the width halves."""
    if h.shape[-1] == width:
        return h
    return h.reshape(*h.shape[:-1], width, 2).mean(-1) if h.shape[-1] == 2 * width else None


def _shortcut_back(gradient: Tensor, fan_in: int) -> Tensor:
    """The derivative of `shortcut` with respect to its input."""
    return gradient if gradient.shape[-1] == fan_in else gradient.repeat_interleave(2, -1) / 2


class Network:
    """An ensemble of fully connected networks that share a shape.

    Attributes:
        theta: all parameters, layer after layer, weights before biases.  # (members, P)
        gradient: the derivative with respect to theta that `backward` leaves.  # (members, P)
    """

    def __init__(self, widths: tuple[int, ...], activation: str, theta: Tensor, *, residual: bool = False) -> None:
        self.widths, self.activation, self.residual = tuple(widths), activation, residual
        self._act = option("activation", activation, ACTIVATIONS)
        self.theta = theta
        self.gradient = torch.empty_like(theta)
        self.weights, self.biases = views(theta, self.widths)
        self._turned = [weight.transpose(1, 2) for weight in self.weights]
        self._weight_slopes, self._bias_slopes = views(self.gradient, self.widths)
        self._one = theta.new_ones(())
        self._samples = 0

    def _room(self, samples: int) -> tuple[list[Tensor], list[Tensor]]:
        """Make buffers for the layers' sums and outputs: the same ones unless the slope needs both."""
        sums = [self.theta.new_empty(len(self.theta), samples, width) for width in self.widths[1:]]
        return sums, [torch.empty_like(z) for z in sums] if self._act.slope_reads_z else sums

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """Write the predictions into `out` and return it; what the layers said is kept for `backward`."""
        if x.shape[1] != self._samples:  # buffers are made once for a batch size, then written into
            self._samples = x.shape[1]
            self._sums, self._acts = self._room(self._samples)
            self._slopes = [torch.empty_like(z) for z in self._sums[:-1]]
            self._deltas = [torch.empty_like(z) for z in self._sums]
            self._ones = self.theta.new_ones(len(self.theta), 1, self._samples)
            self.delta = self._deltas[-1]  # where a loss writes its slope  # (members, N, out)
        self._inputs: list[Tensor] = []
        return self._through_layers(x, [*self._sums[:-1], out], self._acts, self._inputs)

    def predict(self, x: Tensor) -> Tensor:
        """Return the predictions for any number of samples, leaving the buffers of training alone."""
        return self._through_layers(x, *self._room(x.shape[1]), [])

    def _through_layers(self, h: Tensor, sums: list[Tensor], acts: list[Tensor], inputs: list[Tensor]) -> Tensor:
        """Run the layers; `inputs` takes what each of them read."""  # h (members, N, fan_in)
        value = self._act.value
        for weight, bias, z, a in zip(self.weights[:-1], self.biases, sums, acts, strict=False):
            inputs.append(h)
            torch.bmm(h, weight, out=z).add_(bias)  # (members, N, fan_out)
            if value:
                value(z, a)
            skip = shortcut(h, z.shape[-1]) if self.residual else None
            h = a if skip is None else a + skip
        inputs.append(h)
        return torch.bmm(h, self.weights[-1], out=sums[-1]).add_(self.biases[-1])  # (members, N, out)

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that training changes, by name."""
        return {"theta": self.theta}

    def backward(self, delta: Tensor) -> Tensor:
        """Write the derivative of the loss into `gradient`, from its derivative by the prediction.

        Must follow `forward` on the same samples. For a layer z = h W + b, a = f(z) the chain rule gives
        dW = hᵀ dz, db = Σ dz, dh = dz Wᵀ, and dz = dh · f'(z) one layer below.

        Args:
            delta: The derivative by the prediction; overwritten.  # (members, N, out)
        """
        slope = self._act.slope
        through = None  # what reaches this layer's output past its weights, in a residual network
        for layer in range(len(self.weights) - 1, -1, -1):
            torch.bmm(self._inputs[layer].mT, delta, out=self._weight_slopes[layer])
            torch.bmm(self._ones, delta, out=self._bias_slopes[layer])
            if layer == 0:
                break
            below = torch.bmm(delta, self._turned[layer], out=self._deltas[layer - 1])
            if through is not None:
                below += through
            if self.residual:
                through = self._through(layer, below)
            if slope:
                one, out = self._one, self._slopes[layer - 1]
                below.mul_(slope(self._sums[layer - 1], self._acts[layer - 1], one, out))
            delta = below
        return self.gradient

    def _through(self, layer: int, gradient: Tensor) -> Tensor | None:
        """What a shortcut around hidden layer `layer - 1` carries further down."""
        fan_in, fan_out = self.widths[layer - 1], self.widths[layer]
        if layer == 1 or fan_in not in (fan_out, 2 * fan_out):
            return None
        return _shortcut_back(gradient.clone(), fan_in)

    def __repr__(self) -> str:
        shape = "-".join(map(str, self.widths))
        return (
            f"Network: {len(self.theta)} members of {shape} {self.activation}, {self.theta.shape[1]:,} parameters each"
        )


def torch_order(widths: tuple[int, ...]) -> Tensor:
    """Return where in a row of theta each number of `nn.utils.parameters_to_vector(module.parameters())` stands."""
    weights, biases = views(torch.arange(count(widths)).unsqueeze(0), widths)
    pairs = zip(weights, biases, strict=True)
    return torch.cat([part for weight, bias in pairs for part in (weight[0].T.reshape(-1), bias.reshape(-1))])  # (P,)


def check_answer(answer: Tensor, target: Tensor) -> None:
    """Raise `ValueError` when a model's answer has another shape than the targets: torch would broadcast the two."""
    if answer.shape != target.shape:
        raise ValueError(
            f"the model answers with shape {tuple(answer.shape)} where the targets need {tuple(target.shape)}. "
            "Change its last layer, or the loss."
        )


class ModuleNetwork:
    """Any `nn.Module` behind the same four names, differentiated by autograd: an ensemble of one.

    The module's parameters become views of `theta` and their gradients views of `gradient`. It trains in
    train mode and predicts in eval mode. What it draws at random (dropout) follows from the seed and the
    step, and torch's global generator is left as it was.
    """

    def __init__(self, module: nn.Module, device: torch.device, seed: int = 0) -> None:
        self.module = module.to(device)
        self._seed = seed
        self._passes = torch.zeros((), dtype=torch.int64)  # part of the state: going back, the same is drawn again
        self._device = device
        parameters = [p for p in module.parameters() if p.requires_grad]
        if not parameters:
            raise ValueError("the model has no parameters to train. Give one with requires_grad parameters.")
        with torch.no_grad():
            self.theta = torch.cat([p.detach().reshape(-1) for p in parameters]).unsqueeze(0)  # (1, P)
            self.gradient = torch.zeros_like(self.theta)
            start = 0
            for p in parameters:
                end = start + p.numel()
                p.data = self.theta[0, start:end].view_as(p)
                p.grad = self.gradient[0, start:end].view_as(p)
                start = end

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that training changes, by name."""
        buffers = {f"buffer.{name}": buffer for name, buffer in self.module.named_buffers()}
        return {"theta": self.theta, "passes": self._passes, **buffers}

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """Write the prediction in train mode into `out`, with its graph kept for `backward`."""  # (1, N, inputs)
        with random_state.preserved(self._device) as generators, torch.inference_mode(False), torch.enable_grad():
            for generator in generators:
                generator.manual_seed(self._seed * SEED_STRIDE + int(self._passes))
            self._passes += 1
            self._prediction = self.module.train()(x[0].clone())
        check_answer(self._prediction, out[0])
        self.delta = torch.empty_like(out)
        return out.copy_(self._prediction.detach())

    def backward(self, delta: Tensor) -> Tensor:
        """Write the derivative of the loss into `gradient`."""
        with torch.inference_mode(False), torch.enable_grad():
            self.gradient.zero_()
            self._prediction.backward(delta[0].clone())
        return self.gradient

    def predict(self, x: Tensor) -> Tensor:
        """Return the prediction in eval mode."""
        with torch.no_grad():
            prediction: Tensor = self.module.eval()(x[0])
        return prediction.unsqueeze(0)


class Residual(nn.Module):
    """A hidden layer that adds its input, or the averages of its neighbours, to its output."""

    def __init__(self, linear: nn.Linear, activation: nn.Module) -> None:
        super().__init__()
        self.linear, self.activation = linear, activation

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""  # (N, fan_in) → (N, fan_out)
        skip = shortcut(x, self.linear.out_features)
        a: Tensor = self.activation(self.linear(x))
        return a if skip is None else a + skip


def to_module(widths: tuple[int, ...], activation: str, theta: Tensor, *, residual: bool = False) -> nn.Sequential:
    """Return one member as a plain `nn.Sequential` on the CPU, its weights copied."""  # theta (P,)
    layers: list[nn.Module] = []
    act = option("activation", activation, ACTIVATIONS).module
    weights, biases = views(theta.detach().cpu().unsqueeze(0), widths)
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        # On "meta" nothing is drawn. nn.utils.skip_init would do, but imports sympy: half a second at the first Stop.
        linear = nn.Linear(weight.shape[1], weight.shape[2], dtype=theta.dtype, device="meta")
        linear.weight = nn.Parameter(weight[0].T.clone(memory_format=torch.contiguous_format))
        linear.bias = nn.Parameter(bias[0, 0].clone())
        if layer == len(weights) - 1:
            layers.append(linear)
        elif residual:
            layers.append(Residual(linear, act()))
        else:
            layers += [linear, act()]
    return nn.Sequential(*layers)
