"""Side-by-side measurements of the lab against plain PyTorch, on this machine's devices; printed as a table."""

import platform
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from labkit.core import devices
from labkit.core.data import Split, load_data
from labkit.core.forecast import calibrate
from labkit.core.network import ACTIVATIONS
from labkit.core.runs import train
from labkit.core.spec import Spec
from labkit.core.trainer import Trainer

REPETITIONS, QUICK = 7, 3
TINY = Spec(dataset="circle", loss="mse", activation="tanh", batch_size=10, steps=10_000, device="cpu")
DIGITS = Spec(
    dataset="digits", depth=2, width=256, activation="relu", batch_size=256, steps=600, lr=0.001, device="cpu"
)
NETWORKS = {
    "2-4-2-1": TINY.but(shape="funnel", width=4, depth=2),
    "2-8-8-8-1": TINY.but(width=8, depth=3),
    "2-(8×6)-1": TINY.but(width=8, depth=6),
    "2-32-32-1": TINY.but(width=32, depth=2),
}
TARGETS = {"2-4-2-1": 60, "2-8-8-8-1": 60, "2-(8×6)-1": 60, "2-32-32-1": 35}
DEFAULT = Spec(device="cpu")
WIDE = {  # name → spec, and the target
    "digits 64-64-64-10, batch 64": (DIGITS.but(width=64, batch_size=64, steps=3000), 1.5),
    "digits 64-256-256-10, batch 256": (DIGITS, 1.4),
    "the article's network, batch 128": (Spec.article().but(batch_size=128, device="cpu"), 1.1),
}
PLAIN_STEPS = 2000  # at most, for the plain loop, whose rate does not depend on them
SWEEP = [TINY.but(width=8, depth=2, lr=0.001 * 1.2**k, seed=seed) for k in range(16) for seed in range(4)]
FORECAST = DIGITS.but(steps=200)
FORECAST_CUDA = Spec(
    dataset="teacher", inputs=64, samples=20_000, loss="mse", depth=2, activation="relu", batch_size=1024, steps=500
)
CUDA_WIDTHS = (((64, 256, 1024), 512), ((64, 512, 2048), 1024), ((1024, 2048, 4096), 2048), ((1024, 2048, 4096), 3072))
GRAPH_START = 1024  # steps after which a CUDA run consists of whole blocks, and its graph has been captured
HEADINGS = ("what", "ours", "plain", "ratio", "target", "met?")
WIDTHS = (-42, 10, 10, 8, 8, 6)  # of the columns; below 0: flush left


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        what: What was measured, with its unit, or why it was not.
        ours: The lab's number; None where it was not measured.
        plain: The other side's number; None where the target bounds the lab's own.
        ratio: Ours over plain: the median over repetitions, both sides measured one after the other in each.
        target: What `ratio`, or without one `ours`, should reach; None where there is no target.
        at_most: The target is an upper bound.
    """

    what: str
    ours: float | None = None
    plain: float | None = None
    ratio: float | None = None
    target: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is no target or no number to compare with it."""
        value = self.ours if self.ratio is None else self.ratio
        if self.target is None or value is None:
            return None
        return value <= self.target if self.at_most else value >= self.target

    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of `HEADINGS`."""
        target = "" if self.target is None else f"{'≤' if self.at_most else '≥'} {self.target:g}"
        verdict = {True: "yes", False: "NO", None: ""}[self.met]
        return self.what, _number(self.ours), _number(self.plain), _number(self.ratio), target, verdict


def _number(value: float | None) -> str:
    """A number to about three digits."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the table line by line, each as soon as its row is measured."""
    yield _line(HEADINGS)
    for row in rows:
        yield _line(row.cells())


def _line(cells: tuple[str, ...]) -> str:
    pairs = zip(cells, WIDTHS, strict=True)
    return " ".join(f"{cell:<{-width}}" if width < 0 else f"{cell:>{width}}" for cell, width in pairs).rstrip()


# The baseline: a careful training loop in plain PyTorch


def plain_rate(spec: Spec, split: Split, threads: int) -> float:
    """Train a spec's network with `nn.Sequential` and `torch.optim.Adam`; return steps per second.

    As fast as plain PyTorch goes: a fused optimizer, gradients set to None, one shuffle and one gather an
    epoch, losses kept on the device. It evaluates nothing, and its set-up is not timed.
    """
    place = torch.device(spec.device)
    model = plain_model(spec, split).to(place)
    x, y = split.x_train.to(place), split.y_train.to(place)
    optimizer = torch.optim.Adam(model.parameters(), lr=spec.lr, fused=True)
    loss_fn = {"cross_entropy": functional.cross_entropy, "mse": functional.mse_loss}[spec.loss]
    losses = []
    with devices.threads(threads):
        began = _clock(place)
        for batch_x, batch_y in _batches(x, y, spec.batch_size, spec.steps):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_fn(model(batch_x), batch_y)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        torch.stack(losses).cpu()
        return spec.steps / (_clock(place) - began)


def plain_model(spec: Spec, split: Split) -> nn.Sequential:
    """Return the network of a spec as an `nn.Sequential`."""
    layers, fan_in = [], split.inputs
    for width in spec.hidden:
        layers += [nn.Linear(fan_in, width), ACTIVATIONS[spec.activation].module()]
        fan_in = width
    return nn.Sequential(*layers, nn.Linear(fan_in, split.outputs))


def _batches(x: Tensor, y: Tensor, size: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one full batch a step, shuffled anew for every epoch."""
    whole = len(x) // size
    for step in range(steps):
        if step % whole == 0:
            order = torch.randperm(len(x))[: whole * size].to(x.device)
            xs, ys = x[order].split(size), y[order].split(size)
        yield xs[step % whole], ys[step % whole]


def best_threads(spec: Spec, split: Split) -> int:
    """Return the faster of one thread and all threads for the plain loop on this machine."""
    every = torch.get_num_threads()
    if every == 1 or spec.device != "cpu":
        return every
    short = spec.but(steps=max(20, spec.steps // 10))
    return max((1, every), key=lambda threads: max(plain_rate(short, split, threads) for _ in range(3)))


# Our side


def train_rate(spec: Spec | list[Spec]) -> float:
    """Return the steps per second, of every member, of a whole call of `labkit.train`: set-up, history and all."""
    specs = [spec] if isinstance(spec, Spec) else spec
    began = time.perf_counter()
    train(spec)
    return len(specs) * specs[0].steps / (time.perf_counter() - began)


def trainer_rate(trainer: Trainer, steps: int) -> float:
    """Return the steps per second of a running `Trainer`, its evaluations and history included."""
    trainer.total = trainer.step + steps
    place = trainer.device.device
    began = _clock(place)
    trainer.advance(steps)
    return steps / (_clock(place) - began)


def _clock(place: torch.device) -> float:
    """Read the clock once the device has finished its queued work."""
    if place.type == "cuda":
        torch.cuda.synchronize(place)
    return time.perf_counter()


# The rows


def compare(
    what: str, ours: Callable[[], float], plain: Callable[[], float], target: float | None, repetitions: int
) -> Row:
    """Measure two sides in turns; the first turn of each warms up and is not counted."""
    ours(), plain()
    pairs = [(ours(), plain()) for _ in range(repetitions)]
    mine, other = (median(side) for side in zip(*pairs, strict=True))
    return Row(what, mine, other, median(a / b for a, b in pairs), target)


def train_row(name: str, specs: Spec | list[Spec], target: float, repetitions: int) -> Row:
    """Measure `labkit.train` on one spec or a list against the plain loop on one."""
    one = specs if isinstance(specs, Spec) else specs[0]
    split = load_data(one)
    threads = best_threads(one, split)
    short = one.but(steps=min(one.steps, PLAIN_STEPS))
    return compare(name, lambda: train_rate(specs), lambda: plain_rate(short, split, threads), target, repetitions)


def tiny_rows(repetitions: int) -> Iterator[Row]:
    """Measure the networks of the playground on the CPU, and a sweep."""
    for name, spec in NETWORKS.items():
        yield train_row(f"train {name}, steps/s", spec, TARGETS[name], repetitions)
    yield train_row(f"train a list of {len(SWEEP)}, member steps/s", SWEEP, 250, repetitions)
    yield train_row("train the default spec, steps/s", DEFAULT, 25, repetitions)


def wide_rows(repetitions: int) -> Iterator[Row]:
    """Measure networks whose time goes into matrix products."""
    try:
        for name, (spec, target) in WIDE.items():
            yield train_row(f"train {name}, steps/s", spec, target, repetitions)
    except ImportError as error:
        yield Row(f"train digits: left out, {error.name} is missing")


def cuda_rows(repetitions: int) -> Iterator[Row]:
    """Measure the same on CUDA, where there is a device."""
    if "cuda" not in devices.available():
        return
    for name, spec in NETWORKS.items():
        yield from _cuda_pair(name, spec, 5, repetitions)
    yield from _cuda_pair("digits", DIGITS, 0.95, repetitions)


def _cuda_pair(name: str, spec: Spec, target: float, repetitions: int) -> Iterator[Row]:
    """Measure the `Trainer` against the plain loop, and its graph against launching the same steps one by one."""
    spec = spec.but(device="cuda", steps=GRAPH_START)
    try:
        split, graph, launched = load_data(spec), Trainer(spec), Trainer(spec)
    except ImportError as error:
        yield Row(f"cuda {name}: left out, {error.name} is missing")
        return
    launched.stepper.wants_graph = False
    for trainer in (graph, launched):
        trainer.advance(GRAPH_START)

    def ours() -> float:
        return trainer_rate(graph, spec.steps)

    threads = best_threads(spec, split)
    yield compare(f"cuda {name}, steps/s", ours, lambda: plain_rate(spec, split, threads), target, repetitions)
    one_by_one = compare("", ours, lambda: trainer_rate(launched, spec.steps), None, repetitions)
    yield one_by_one._replace(what=f"cuda {name}, graph / no graph, steps/s")


def forecast_rows(repetitions: int) -> Iterator[Row]:
    """Measure how well timings of three sizes predict the seconds of a fourth."""
    yield _forecast_row("cpu", FORECAST, (64, 160, 512), 256, 0.3, repetitions)
    if "cuda" in devices.available():
        for widths, fourth in CUDA_WIDTHS:
            yield _forecast_row("cuda", FORECAST_CUDA, widths, fourth, 0.15, repetitions)


def _forecast_row(device: str, spec: Spec, widths: Iterable[int], fourth: int, target: float, repetitions: int) -> Row:
    """Calibrate and train in turns; return the median relative error of the predicted seconds."""
    spec, off = spec.but(device=device), []
    for _ in range(repetitions):
        model, run = calibrate([spec.but(width=width) for width in widths]), train(spec.but(width=fourth))
        off.append(abs(model.seconds(run.spec) / run.seconds - 1))
    what = f"{device} forecast, width {fourth} from {', '.join(map(str, widths))}, off by"
    return Row(what, median(off), target=target, at_most=True)


GROUPS: tuple[Callable[[int], Iterable[Row]], ...] = (tiny_rows, wide_rows, cuda_rows, forecast_rows)


def machine() -> str:
    """Return one line that describes the machine."""
    parts = [_processor(), f"{torch.get_num_threads()} threads", f"torch {torch.__version__}"]
    return ", ".join(parts + [words for name, words in devices.available().items() if name != "cpu"])


def _processor() -> str:
    """The processor's name; Linux has it in a file."""
    path = Path("/proc/cpuinfo")
    found = [line for line in path.read_text().splitlines() if line.startswith("model name")] if path.exists() else []
    return found[0].partition(":")[2].strip() if found else platform.processor() or platform.machine()


def bench(*more: Callable[[int], Iterable[Row]], quick: bool = False) -> int:
    """Measure everything and print the table; a missed target is reported and changes no exit code.

    Args:
        more: Groups of rows to measure beside those of training.
        quick: Repeat less often.
    """
    repetitions = QUICK if quick else REPETITIONS
    print(machine())
    print(f"plain: nn.Sequential and fused Adam, the better of 1 and all threads; medians of {repetitions} turns\n")
    for line in lines(row for group in (*GROUPS, *more) for row in group(repetitions)):
        print(line, flush=True)
    return 0
