"""Side-by-side measurements of the lab against plain PyTorch, in one process on this machine."""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from labkit import devices
from labkit.data import Split, load_data
from labkit.network import MODULES
from labkit.runs import train
from labkit.spec import Spec
from labkit.training import Trainer

REPETITIONS, QUICK = 7, 3
STEPS = 2000  # of a tiny network in one repetition: a Spec's own default, evaluations and set-up included
TINY = Spec(dataset="circle", loss="mse", activation="tanh", batch_size=10, steps=STEPS, lr=0.01, device="cpu")
DIGITS = Spec(
    dataset="digits", depth=2, width=256, activation="relu", batch_size=256, steps=200, lr=0.001, device="cpu"
)
NETWORKS = {
    "2-4-2-1": TINY.but(shape="funnel", width=4, depth=2),
    "2-8-8-8-1": TINY.but(width=8, depth=3),
    "2-(8×6)-1": TINY.but(width=8, depth=6),
    "2-32-32-1": TINY.but(width=32, depth=2),
}
SWEEP = [TINY.but(width=8, depth=2, lr=0.001 * 1.2**k, seed=seed) for k in range(16) for seed in range(4)]
GRAPH_START = 1024  # steps after which a CUDA run is all whole blocks, so that its graph has been captured
HEADINGS = ("what", "ours", "plain", "ratio", "target", "met?")


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        what: what was measured, with its unit.
        ours: the lab's number.
        plain: the other side's, or None where the target bounds the lab's own number.
        ratio: ours over plain; the median over repetitions, each within one moment of the machine.
        target: what `ratio`, or `ours` where there is no ratio, should come to; None where nothing was promised.
        at_most: the target is an upper bound.
    """

    what: str
    ours: float
    plain: float | None = None
    ratio: float | None = None
    target: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        value = self.ours if self.ratio is None else self.ratio
        return value <= self.target if self.at_most else value >= self.target

    def cells(self) -> tuple[str, ...]:
        """The row in words, in the order of `HEADINGS`."""
        bound = "" if self.target is None else f"{'≤' if self.at_most else '≥'} {self.target:g}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        verdict = {True: "yes", False: "NO", None: ""}[self.met]
        return self.what, _number(self.ours), _number(self.plain), ratio, bound, verdict


def _number(value: float | None) -> str:
    """A number at three digits or so."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# The other side: the training loop that a careful person writes in plain PyTorch


def plain_rate(spec: Spec, split: Split, threads: int) -> float:
    """Train a spec's network with `nn.Sequential` and `torch.optim`; return steps per second.

    Fast as plain PyTorch goes: a fused optimizer, gradients set to None, one shuffle and one gather an epoch,
    the losses kept as tensors. No evaluations, and the model is made before the clock starts.
    """
    place = torch.device(spec.device)
    model = plain_model(spec, split).to(place)
    x, y = split.x_train.to(place), split.y_train.to(place)
    optimizer = torch.optim.Adam(model.parameters(), lr=spec.lr, fused=True)
    loss_fn = functional.cross_entropy if spec.loss == "cross_entropy" else functional.mse_loss
    losses = []
    with devices.threads(threads):
        _finish(place)
        began = time.perf_counter()
        for batch_x, batch_y in _batches(x, y, spec.batch_size, spec.steps):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_fn(model(batch_x), batch_y)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        torch.stack(losses).cpu()
        return spec.steps / (time.perf_counter() - began)


def plain_model(spec: Spec, split: Split) -> nn.Sequential:
    """The network of a spec as one writes it in PyTorch."""
    layers, fan_in = [], split.inputs
    for width in spec.hidden:
        layers += [nn.Linear(fan_in, width), MODULES[spec.activation]()]
        fan_in = width
    return nn.Sequential(*layers, nn.Linear(fan_in, split.outputs))


def _batches(x: torch.Tensor, y: torch.Tensor, size: int, steps: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches, shuffled anew for every epoch."""
    made = 0
    while True:
        order = torch.randperm(len(x)).to(x.device)
        for pair in zip(x[order].split(size), y[order].split(size), strict=True):
            if len(pair[0]) < size:
                break
            if made == steps:
                return
            made += 1
            yield pair


def best_threads(spec: Spec, split: Split) -> int:
    """Which of one thread and all of them makes the plain loop faster here."""
    if torch.get_num_threads() == 1 or spec.device != "cpu":
        return torch.get_num_threads()
    short = spec.but(steps=max(20, spec.steps // 10))
    counts = (1, torch.get_num_threads())
    return max(counts, key=lambda count: max(plain_rate(short, split, count) for _ in range(2)))


# Our side


def train_rate(spec: Spec | list[Spec]) -> float:
    """Steps per second, of every member, of a whole call of `labkit.train`, its evaluations included."""
    members, steps = (1, spec.steps) if isinstance(spec, Spec) else (len(spec), spec[0].steps)
    began = time.perf_counter()
    train(spec)
    return members * steps / (time.perf_counter() - began)


def trainer_rate(trainer: Trainer, steps: int) -> float:
    """Steps per second of a `Trainer` that is under way, its evaluations included."""
    place = trainer.device.device
    trainer.total = trainer.step + steps
    _finish(place)
    began = time.perf_counter()
    trainer.advance(steps)
    _finish(place)
    return steps / (time.perf_counter() - began)


def _finish(place: torch.device) -> None:
    """Wait for a GPU before a clock is read."""
    if place.type == "cuda":
        torch.cuda.synchronize()


# Rows


def compare(
    what: str, ours: Callable[[], float], plain: Callable[[], float], target: float | None, repetitions: int
) -> Row:
    """Measure two sides in turns, after one turn each that does not count."""
    ours(), plain()
    pairs = [(ours(), plain()) for _ in range(repetitions)]
    mine, other = (median(side) for side in zip(*pairs, strict=True))
    return Row(what, mine, other, median(a / b for a, b in pairs), target)


def train_row(name: str, spec: Spec, target: float, repetitions: int) -> Row:
    """`labkit.train` on the CPU against the plain loop."""
    split = load_data(spec)
    threads = best_threads(spec, split)
    what = f"train {name}, steps/s"
    return compare(what, lambda: train_rate(spec), lambda: plain_rate(spec, split, threads), target, repetitions)


def sweep_row(specs: list[Spec], target: float, repetitions: int) -> Row:
    """A list of specs against the plain loop, one network after another."""
    split = load_data(specs[0])
    threads = best_threads(specs[0], split)
    what = f"train a list of {len(specs)}, member steps/s"
    return compare(
        what, lambda: train_rate(specs), lambda: plain_rate(specs[0], split, threads), target, repetitions
    )


def cuda_rows(name: str, spec: Spec, target: float | None, repetitions: int) -> Iterator[Row]:
    """The `Trainer` on CUDA against the plain loop there, and its graph against the same steps launched one by one."""
    spec = spec.but(device="cuda")
    split = load_data(spec)
    graph, launched = Trainer(spec), Trainer(spec)
    launched.use_graph(False)
    for trainer in (graph, launched):
        trainer.total = GRAPH_START
        trainer.advance(GRAPH_START)
    return
