"""Measurements of planes, speed and error, against loss-landscapes and a loop in float64.

Both sides see the same network, directions, batch and number of points, in float32 without TF32. Our time includes
set-up that depends on the directions and the copy to the host; the peer's three corners are made beforehand.
"""

import copy
import importlib.metadata
import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bench.training import Row, compare
from labkit.core import devices
from labkit.core.losses import Loss
from labkit.core.spec import Spec
from labkit.landscape.directions import Direction, flat, moved, random_directions, weights_of
from labkit.landscape.planes import plane

PEER = "loss-landscapes"
PROBE = 7  # points per side of the small planes that find the faster thread count for the other side


class Goal(NamedTuple):
    """A plane and how many times faster than the peer it should be."""

    name: str
    widths: tuple[int, ...]
    samples: int
    points: int
    target: float
    activation: type[nn.Module] = nn.ReLU


ARTICLE = (1024, *Spec.article().hidden, 1)
CPU = (
    Goal("784-128-10", (784, 128, 10), 1000, 21, 10),
    Goal("article's network", ARTICLE, 512, 21, 2.7),
    Goal("2-32-32-1", (2, 32, 32, 1), 512, 41, 2),
)
SHAPES = tuple(
    Goal(f"{inputs}-{width}-{width}-10", (inputs, width, width, 10), 1000, 21 if width < 256 else 11, 0.9)
    for inputs in (2, 64, 784)
    for width in (16, 64, 256, 512)
)
SMOOTH = tuple(  # activations that cost more than the matrix products
    Goal(f"20-(128×4)-3, {kind.__name__}", (20, 128, 128, 128, 128, 3), 4000, 15, 0.9, kind)
    for kind in (nn.GELU, nn.SiLU)
)
CUDA = (
    Goal("2-64-64-2", (2, 64, 64, 2), 1000, 51, 20),
    Goal("784-512-512-10", (784, 512, 512, 10), 10_000, 51, 2.5),
)


class Case(NamedTuple):
    """A network, its data and two directions: the input of both sides."""

    name: str
    model: nn.Module
    loss_fn: Loss
    x: Tensor
    y: Tensor
    u: Direction
    v: Direction
    points: int

    @property
    def ticks(self) -> np.ndarray:
        """The steps along either direction."""
        return np.linspace(-1, 1, self.points)


def make(goal: Goal, device: str = "cpu") -> Case:
    """Return a network with PyTorch's own initial weights, random data and random directions."""
    generator = torch.Generator().manual_seed(0)
    inputs, outputs = goal.widths[0], goal.widths[-1]
    x = torch.randn(goal.samples, inputs, generator=generator)
    if outputs == 1:
        loss_fn, y = Loss("mse"), torch.randn(goal.samples, 1, generator=generator)
    else:
        loss_fn, y = Loss("cross_entropy"), torch.randint(outputs, (goal.samples,), generator=generator)
    model = _network(goal.widths, goal.activation).to(device)
    u, v = random_directions(model, seed=0)
    return Case(f"{goal.name}, {goal.points}²", model, loss_fn, x.to(device), y.to(device), u, v, goal.points)


def _network(widths: tuple[int, ...], activation: type[nn.Module]) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [layer for sizes in pairwise(widths) for layer in (nn.Linear(*sizes), activation())]
    return nn.Sequential(*layers[:-1])


def in_float64(case: Case) -> Case:
    """Return the case in double precision, as a reference."""
    u, v = ({name: part.double() for name, part in direction.items()} for direction in (case.u, case.v))
    y = case.y.double() if case.y.is_floating_point() else case.y
    return case._replace(model=copy.deepcopy(case.model).double(), x=case.x.double(), y=y, u=u, v=v)


# The sides


def ours(case: Case) -> np.ndarray:
    """Return the lab's plane."""
    return plane(case.model, case.loss_fn, case.x, case.y, case.u, case.v, points=case.points).loss


def loop(case: Case, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Return the plane as a plain loop over its cells gives it, in the precision of the case."""  # (beta, alpha)
    model = copy.deepcopy(case.model)
    parts = [(p, p.detach().clone(), case.u[name], case.v[name]) for name, p in model.named_parameters()]
    losses = np.empty((len(beta), len(alpha)))
    with torch.no_grad():
        for i, j in np.ndindex(losses.shape):
            for weights, centre, u, v in parts:
                weights.copy_(centre + float(alpha[j]) * u + float(beta[i]) * v)
            losses[i, j] = case.loss_fn(model(case.x), case.y).item()
    return losses


def peer(case: Case) -> Callable[[], np.ndarray]:
    """Return the call of loss-landscapes that covers the plane from three of its corners, v along its first axis."""
    import loss_landscapes
    from loss_landscapes import metrics

    centre, u, v = (flat(place) for place in (weights_of(case.model), case.u, case.v))
    corners = [moved(case.model, place) for place in (centre - u - v, centre - u + v, centre + u - v)]
    metric = metrics.Loss(case.loss_fn, case.x, case.y)

    def call() -> np.ndarray:
        with torch.no_grad():
            return loss_landscapes.planar_interpolation(*corners, metric, steps=case.points, deepcopy_model=True)

    return call


def peer_truth(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return the true losses at the places the peer visits, and on the grid that it documents.

    It moves along a row first and computes the loss after each step, turning at every end: even rows begin one
    step late and odd rows do not, while its source says start + i·first + j·second for cell (i, j) of any row.
    """
    ticks = -1 + 2 * np.arange(case.points + 1) / case.points
    grid = loop(case, ticks, ticks[:-1])
    row, column = np.indices((case.points, case.points))
    return grid[row, column + 1 - row % 2], grid[:, :-1]


def error(values: np.ndarray, truth: np.ndarray) -> float:
    """Return the largest error of a cell, in units of the plane's median loss."""
    return float(np.abs(values - truth).max() / np.median(truth))


# The rows


def landscape_rows(repetitions: int) -> Iterator[Row]:
    """Measure planes against loss-landscapes, or without it against the plain loop: speed, and error of both sides."""
    yield Row(f"planes, plain: {_other_name()}")
    with _full_float32():
        for goal in (*CPU, *SHAPES, *SMOOTH):
            case = make(goal)
            yield from cpu_rows(case, goal.target, repetitions)
            yield from error_rows(case)
        for goal in CUDA if "cuda" in devices.available() else ():
            case, threads = make(goal, "cuda"), torch.get_num_threads()
            yield speed_row(case, "cuda", goal.target, repetitions, threads, threads)
            yield from error_rows(case)


def cpu_rows(case: Case, target: float, repetitions: int) -> Iterator[Row]:
    """Measure on one thread for both sides, then on the machine's best for each."""
    yield speed_row(case, "1 thread", target, repetitions, 1, 1)
    if (every := torch.get_num_threads()) > 1:
        yield speed_row(case, "best threads", target, repetitions, every, best_threads(case))


def speed_row(case: Case, place: str, target: float, repetitions: int, our_threads: int, other_threads: int) -> Row:
    """Measure the points per second of whole planes; the ratio says how many times faster ours is."""
    other = other_side(case)
    return compare(
        f"{case.name}, {place}, points/s",
        lambda: rate(case, partial(ours, case), our_threads),
        lambda: rate(case, other, other_threads),
        target if installed() else None,  # the targets are against the peer
        repetitions,
    )


def error_rows(case: Case) -> Iterator[Row]:
    """Compare every cell with a float64 loop: ours, a plain float32 loop's, and the peer's on both its grids."""
    exact = in_float64(case)
    truth = loop(exact, case.ticks, case.ticks)
    mine, plain = (error(values, truth) for values in (ours(case), loop(case, case.ticks, case.ticks)))
    yield Row(f"{case.name}, error / plain loop's", mine, plain, mine / plain, 2, at_most=True)
    yield Row(f"{case.name}, error / median loss", mine, target=1e-6, at_most=True)
    double = float(np.abs(ours(exact) / truth - 1).max())
    yield Row(f"{case.name}, relative error, float64", double, target=1e-12, at_most=True)
    if installed():
        values = peer(case)()
        visited, documented = peer_truth(exact)
        yield Row(f"{case.name}, error, where it is", plain=error(values, visited))
        yield Row(f"{case.name}, error, as documented", plain=error(values, documented))


def rate(case: Case, compute: Callable[[], np.ndarray], threads: int) -> float:
    """Return the points per second of a plane, with the copy to the host."""
    with devices.threads(threads):
        began = time.perf_counter()
        compute()
        return case.points**2 / (time.perf_counter() - began)


def best_threads(case: Case) -> int:
    """Return the faster of one thread and all threads for the other side on this machine."""
    small = case._replace(points=PROBE)
    other = other_side(small)
    return max((1, torch.get_num_threads()), key=lambda threads: max(rate(small, other, threads) for _ in range(3)))


def other_side(case: Case) -> Callable[[], np.ndarray]:
    """Return the peer's call, or the plain loop's where the peer is missing."""
    return peer(case) if installed() else partial(loop, case, case.ticks, case.ticks)


def installed() -> bool:
    """Whether the peer is installed; it comes with the `test` extra."""
    return importlib.util.find_spec("loss_landscapes") is not None


def _other_name() -> str:
    """What the column `plain` measures."""
    return f"{PEER} {importlib.metadata.version(PEER)}" if installed() else f"the loop, as {PEER} is missing"


@contextmanager
def _full_float32() -> Iterator[None]:
    """Compute without TF32, then restore the caller's setting."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
