"""Ways between two trained networks: hidden units matched, and a curve of low loss."""

from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from labkit.core import devices
from labkit.core.network import ACTIVATIONS
from labkit.core.optimizers import Optimizer
from labkit.core.random_state import preserved
from labkit.core.rules import Number
from labkit.core.runs import progress
from labkit.core.spec import RULES
from labkit.core.trainer import divergence
from labkit.landscape.batched_mlp import ELEMENTWISE, Layer, LossFn, layers_of
from labkit.landscape.directions import Direction, between, flat, moved, shaped, weights_of
from labkit.landscape.evaluator import LossEvaluator, Measured
from labkit.landscape.planes import LINE_POINTS, Line

ODD = tuple(each.module for each in ACTIVATIONS.values() if each.odd)  # f(−z) = −f(z)
BETTER = 1e-12  # of all products: what is less is rounding, and might never end
PLACES = 4  # on the curve, in every step of its training


def align_units(model: nn.Module, like: nn.Module) -> nn.Module:
    """Return a copy of a network whose hidden units stand in the order of another's: the same function, nearer by.

    Weight matching (Ainsworth et al. 2023, algorithm 1): layer by layer, units are paired so that their incoming
    weights, biases and outgoing weights have the largest inner product, until nothing changes. As
    tanh(−z) = −tanh(z), units of an odd activation may change sign too. It starts once from the order that is
    there, and once from the inputs up by incoming weights alone; the nearer end is taken, so the distance never grows.

    Args:
        model: A fully connected network without shortcuts; it is left as it is.
        like: Another of the same architecture.

    Raises:
        ValueError: if the two differ in architecture, or are something else.
    """
    layers = _layers(model, like)
    mine, theirs = ({name: weight.cpu() for name, weight in weights_of(each).items()} for each in (model, like))
    target = flat(theirs).double()
    widest = max(len(weight) for weight in theirs.values())
    with devices.threads(devices.threads_for(4 * len(target) * widest)):
        ends = [flat(_aligned(dict(mine), theirs, layers, upwards)) for upwards in (False, True)]
    return moved(model, max(ends, key=lambda end: float(end.double() @ target)))


def _layers(model: nn.Module, like: nn.Module) -> list[Layer]:
    """Return the layers of two networks that can be matched, or say why they cannot."""
    if str(model) != str(like):
        raise ValueError("the two models differ in architecture. Give two that differ in their weights alone.")
    layers = layers_of(model, next(iter(weights_of(model).values())))  # whose rows are as wide as an input
    if layers is None:
        raise ValueError(
            "only fully connected networks can be matched, such as run.model(): nn.Sequential of nn.Linear and "
            f"{', '.join(sorted(module.__name__ for module in ELEMENTWISE))}."
        )
    if any(layer.residual for layer in layers):
        raise ValueError(
            "residual networks cannot be matched: shortcuts tie the units of all layers to one order. Train with "
            "residual=False."
        )
    for one, other in ((model, like), (like, model)):
        between(one, other)  # refuses other dtypes and devices, and numbers that are not finite
    return layers


def _aligned(mine: Direction, theirs: Direction, layers: list[Layer], upwards: bool) -> Direction:
    """Reorder the units of `mine` until nothing changes; `upwards`, first by incoming weights alone."""
    if upwards:
        _sweep(mine, theirs, layers, outgoing=False)
    while _sweep(mine, theirs, layers):
        pass
    return mine


def _sweep(mine: Direction, theirs: Direction, layers: list[Layer], *, outgoing: bool = True) -> bool:
    """Reorder the units of one hidden layer after another; return whether any moved."""
    from scipy.optimize import linear_sum_assignment

    changed = False
    for layer, after in pairwise(layers):
        theirs_here, mine_here = (_units(each, layer, after if outgoing else None) for each in (theirs, mine))
        products = theirs_here @ mine_here.T  # (their units, my units)
        odd = type(layer.activation) in ODD
        gain = products.abs() if odd else products
        rows, order = linear_sum_assignment(gain.numpy(), maximize=True)
        if gain[rows, order].sum() > products.trace() + BETTER * products.abs().sum():
            signs = torch.where(odd & (products[rows, order] < 0), -1.0, 1.0)
            _reorder(mine, layer, after, torch.from_numpy(order), signs)
            changed = True
    return changed


def _units(weights: Direction, layer: Layer, after: Layer | None) -> Tensor:
    """What goes into each unit of a layer and what comes out of it, a row each."""  # (units, numbers)
    rows = [weights[layer.weight]]
    rows += [weights[layer.bias].unsqueeze(1)] if layer.bias else []
    rows += [weights[after.weight].T] if after else []
    return torch.cat(rows, 1).double()


def _reorder(weights: Direction, layer: Layer, after: Layer, order: Tensor, signs: Tensor) -> None:
    """Put the units of a layer in another order, some of them with the other sign."""  # (units,) each
    signs = signs.to(weights[layer.weight])
    weights[layer.weight] = weights[layer.weight][order] * signs.unsqueeze(1)
    if layer.bias:
        weights[layer.bias] = weights[layer.bias][order] * signs
    weights[after.weight] = weights[after.weight][:, order] * signs


@dataclass(frozen=True, repr=False, eq=False)
class Curve:
    """A quadratic Bezier curve through weight space: (1 − t)²·start + 2t(1 − t)·middle + t²·end.

    On the plane of `u, v = labkit.between(start, middle, end)` it runs through alpha = 2t(1 − t), beta = t², so that
    `labkit.plane(start, …, u, v, window=((-0.2, 1.2), (-0.2, 1.2)))` shows it whole: `start` is at (0, 0), `end` at
    (0, 1), and at (1, 0) `middle`, which the curve bends towards and does not touch. As u and v are not
    perpendicular, the picture is sheared.

    Attributes:
        start, middle, end: The three points as networks, with the mode and the buffers of the first.
        losses: Mean loss of the places on the curve that each training step drew, before the step.  # (steps,)
    """

    start: nn.Module
    middle: nn.Module
    end: nn.Module
    losses: np.ndarray

    def model(self, t: float) -> nn.Module:
        """Return the network at a point of the curve, from 0 at the start to 1 at the end."""
        a, b, c = _shares(Number("", 0, 1).check("t", t))
        start, middle, end = (flat(weights_of(each)) for each in (self.start, self.middle, self.end))
        return moved(self.start, a * start + b * middle + c * end)

    def line(self, loss_fn: LossFn, x: Tensor, y: Tensor, *, points: int = 41, **measured: Unpack[Measured]) -> Line:
        """Return the loss along the curve, as `labkit.line` does along the straight way between its ends.

        Args:
            loss_fn, x, y: As `LossEvaluator` takes them.
            points: Points on the way, both ends among them, evenly spread in t.
            **measured: `also`, `test` and `recompute` of `LossEvaluator`.

        Raises:
            ValueError: before any work, if something of it cannot be used.
        """
        t = np.linspace(0, 1, LINE_POINTS.check("points", points))
        ways = between(self.start, self.middle, self.end)
        evaluator = LossEvaluator(self.start, loss_fn, x, y, ways, **measured)
        return Line(t, evaluator.at(np.stack(_shares(t)[1:], 1)), {"parameters": evaluator.parameters})

    def __repr__(self) -> str:
        numbers = sum(parameter.numel() for parameter in self.middle.parameters())
        falls = f"mean loss {self.losses[0]:.4g} → {self.losses[-1]:.4g} in {len(self.losses):,} steps"
        return f"Curve: a quadratic Bezier in a space of {numbers:,} weights, {falls}"


Place = TypeVar("Place", float, np.ndarray, Tensor)


def _shares(t: Place) -> tuple[Place, Place, Place]:
    """How much of its start, its middle point and its end there is at `t` on the curve."""
    return (1 - t) ** 2, 2 * t * (1 - t), t**2


def fit_bezier(
    model_a: nn.Module,
    model_b: nn.Module,
    loss_fn: LossFn,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 500,
    lr: float = 0.03,
    seed: int = 0,
) -> Curve:
    """Bend the straight way between two networks into a curve of low loss (Garipov et al. 2018, section 3).

    The middle point of a quadratic Bezier curve begins halfway and is trained by Adam to lower the loss's mean over t,
    uniform on [0, 1]. Every step draws a `t` from each quarter of the way and sees all samples: of many, give a part.
    Any `nn.Module`, in the first one's mode: with batch norm take train mode, as stored statistics fit one place alone.
    Both are left as they are, with the random state.

    Args:
        model_a, loss_fn, x, y: Where the curve starts, the loss and the data, as `LossEvaluator` takes them.
        model_b: Where it ends: of the same architecture. `align_units(model_b, model_a)` shortens the way.
        steps: Updates of the middle point.
        lr: Adam's learning rate.
        seed: Drives the places that are drawn.

    Raises:
        ValueError: before any work, if something of it cannot be used; if the curve diverges, naming the step.
    """
    given = {"steps": steps, "lr": lr, "seed": seed}
    steps, lr, seed = (RULES[name].check(name, value) for name, value in given.items())
    LossEvaluator(model_a, loss_fn, x, y, between(model_a, model_b))  # refuses what does not fit
    start, end = (flat(weights_of(model)) for model in (model_a, model_b))
    middle = ((start + end) / 2).unsqueeze(0)  # (1, P)
    rule, scratch = Optimizer("adam", middle), deepcopy(model_a)
    rates = rule.schedule(0, steps, torch.tensor([[lr]], dtype=torch.float64)).to(middle)  # (steps, 3, 1, 1)
    places, losses = torch.Generator().manual_seed(seed), list[float]()
    work = devices.threads(devices.threads_for(6 * start.numel() * len(x)))
    with work, preserved(start.device) as generators:
        for generator in generators:
            generator.manual_seed(seed)  # of dropout, in train mode
        for step, rate in enumerate(progress(rates, unit="step")):
            t = (torch.arange(PLACES) + torch.rand(PLACES, generator=places)) / PLACES
            loss, gradient = mean_loss(scratch, (start, middle[0], end), t.to(middle), loss_fn, x, y)
            if not (np.isfinite(loss) and gradient.isfinite().all()):
                raise ValueError(f"the curve {divergence(step, losses)}.")
            losses.append(loss)
            rule.step(gradient.unsqueeze(0), *rate)
    return Curve(deepcopy(model_a), moved(model_a, middle[0]), moved(model_a, end), np.array(losses))


def mean_loss(
    model: nn.Module, points: tuple[Tensor, Tensor, Tensor], t: Tensor, loss_fn: LossFn, x: Tensor, y: Tensor
) -> tuple[float, Tensor]:
    """Return the mean loss of some places `t` on a curve through three points, and its derivative by the second."""
    with torch.enable_grad():
        middle = points[1].detach().requires_grad_()
        weights = torch.stack(_shares(t), 1) @ torch.stack([points[0], middle, points[2]])  # (T, P)
        losses = [loss_fn(functional_call(model, shaped(row, model), (x,)), y) for row in weights]
        loss = torch.stack(losses).mean()
        (gradient,) = torch.autograd.grad(loss, middle)
    return float(loss.detach()), gradient
