"""Lines and planes through weight space: the loss of one network at many weights, as arrays."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from labkit import __version__
from labkit.core.rules import Number, Whole
from labkit.core.runs import progress
from labkit.landscape.batched_mlp import LossFn
from labkit.landscape.directions import Direction, Drawn, between, flat
from labkit.landscape.evaluator import LossEvaluator, Measured
from labkit.storage import tensor_folder

FIRST = 2  # the first picture of `refine` has 2² + 1 points to a side
SAVE_EVERY = 10.0  # seconds between two savings of a half-made plane
PROBES = 8  # cells of a half-made plane that are computed anew, to see that it is the same one
POINTS = Whole("points to a side", 3, 4097)
LINE_POINTS = Whole("points on the way", 2, 1_000_001)
SPAN = Number("how far to go along each direction", 0, 1e6, open_low=True)
Window = tuple[tuple[float, float], tuple[float, float]]
Ticks = tuple[np.ndarray, np.ndarray]  # steps along u and along v
Folder = str | os.PathLike[str]


@dataclass(frozen=True, repr=False, eq=False)
class Plane:
    """The loss around a network, along two directions.

    Attributes:
        alpha: Steps along u.  # (A,)
        beta: Steps along v.  # (B,)
        values: What was measured in every cell, under its name: "loss", with test data "test loss", and
            what else was asked for, such as "accuracy"; nan where nothing is computed yet.  # (B, A)
        computed: Which cells are.  # (B, A)
        facts: What made it, as plain values: how many parameters, the way, the statistics of batch norm,
            versions, how its directions were drawn if they were, and what the caller noted.
    """

    alpha: np.ndarray
    beta: np.ndarray
    values: dict[str, np.ndarray]
    computed: np.ndarray
    facts: dict[str, Any]

    @property
    def loss(self) -> np.ndarray:
        """The training loss: `loss[i, j]` at weights + alpha[j]·u + beta[i]·v; not finite where the network's is."""
        return self.values["loss"]

    @property
    def done(self) -> bool:
        """Whether every cell is computed."""
        return bool(self.computed.all())

    def coarse(self) -> "Plane":
        """Return the finest nested grid whose every cell is computed; the plane itself once it is done."""
        stride = 1
        while stride < len(self.computed) and not self.computed[::stride, ::stride].all():
            stride *= 2
        cut = slice(None, None, stride)
        values = {name: value[cut, cut] for name, value in self.values.items()}
        return replace(
            self, alpha=self.alpha[cut], beta=self.beta[cut], values=values, computed=self.computed[cut, cut]
        )

    def save(self, folder: Folder) -> Path:
        """Write the plane, half-made or whole, with what made it.

        Raises:
            FileExistsError: if the folder is there and holds something else than a plane.
        """
        arrays = {"alpha": self.alpha, "beta": self.beta, "computed": self.computed}
        arrays |= {f"value.{name}": value for name, value in self.values.items()}
        parts = {name: torch.tensor(part) for name, part in arrays.items()}
        return tensor_folder.write(folder, "plane", parts, self.facts)

    def __repr__(self) -> str:
        share = "" if self.done else f", {self.computed.mean():.0%} of it computed"
        seen = self.loss[np.isfinite(self.loss)]
        losses = f"losses from {seen.min():.4g} to {seen.max():.4g}" if len(seen) else "no finite loss"
        return f"Plane: {len(self.beta)} × {len(self.alpha)} points{share}, {losses} ({self.facts['way']})"


def load_plane(folder: Folder) -> Plane:
    """Read a plane that `Plane.save` wrote.

    Raises:
        ValueError: if the folder holds no plane, or it is damaged.
    """
    tensors, facts = tensor_folder.read(folder, "plane")
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    values = {name.removeprefix("value."): part for name, part in arrays.items() if name.startswith("value.")}
    facts.pop("format")
    return Plane(arrays["alpha"], arrays["beta"], values, arrays["computed"], facts)


@dataclass(frozen=True, repr=False, eq=False)
class Line:
    """The loss on the way from one network to another, straight or curved.

    Attributes:
        t: How far on the way: 0 is the first network, 1 the second.  # (P,)
        values: What was measured there, under the names of `Plane.values`.  # (P,)
        facts: What made it, as plain values.
    """

    t: np.ndarray
    values: dict[str, np.ndarray]
    facts: dict[str, Any]

    @property
    def loss(self) -> np.ndarray:
        """The training loss."""
        return self.values["loss"]

    @property
    def barrier(self) -> float:
        """How far the loss rises above the straight line between its two ends (Frankle et al. 2020, section 2)."""
        return float((self.loss - ((1 - self.t) * self.loss[0] + self.t * self.loss[-1])).max())

    def __repr__(self) -> str:
        return f"Line: {len(self.t)} points, loss {self.loss[0]:.4g} → {self.loss[-1]:.4g}, barrier {self.barrier:.4g}"


def plane(
    model: nn.Module,
    loss_fn: LossFn,
    x: Tensor,
    y: Tensor,
    u: Direction,
    v: Direction,
    *,
    span: float = 1.0,
    points: int = 41,
    window: Window | None = None,
    folder: Folder | None = None,
    notes: dict[str, Any] | None = None,
    **measured: Unpack[Measured],
) -> Plane:
    """Return the loss around a network, on the plane of two directions.

    Args:
        model, loss_fn, x, y: The network at the plane's centre, its loss and data, as `LossEvaluator` takes them.
        u, v: Two directions.
        span: Steps along each direction to either side of the centre.
        points: Points to a side: odd, so that one is the centre.
        window: ((from, to) along u, (from, to) along v) in place of the span; any number of points.
        folder: Where the plane is kept while it is made; a half-made one there is continued, once a few of its
            cells are computed anew and come out the same.
        notes: Facts to keep with it, as JSON, such as {"seed": 0}; "axes" and "units" name the directions in charts.
        **measured: `also`, `test` and `recompute` of `LossEvaluator`.

    Raises:
        ValueError: before any work, if something of it cannot be used.
    """
    ticks, evaluator = _ticks(span, points, window), LossEvaluator(model, loss_fn, x, y, (u, v), **measured)
    made = _blank(ticks, evaluator, {"u": u, "v": v}, notes)
    if folder is not None:
        made.facts["sum"] = checksum(model, x, y, *(measured.get("test") or ()), u, v)
        made = _resumed(Path(folder), made, evaluator)
    with progress(total=made.computed.size, initial=int(made.computed.sum()), unit="point") as bar:
        saved = time.monotonic()
        for count in _fill(made, evaluator, np.argwhere(~made.computed)):
            bar.update(count)
            if folder is not None and time.monotonic() - saved > SAVE_EVERY:
                made.save(folder)
                saved = time.monotonic()
    if folder is not None:
        made.save(folder)
    return made


def refine(
    model: nn.Module,
    loss_fn: LossFn,
    x: Tensor,
    y: Tensor,
    u: Direction,
    v: Direction,
    *,
    span: float = 1.0,
    points: int = 65,
    window: Window | None = None,
    notes: dict[str, Any] | None = None,
    **measured: Unpack[Measured],
) -> Iterator[Plane]:
    """Yield a plane as it grows from coarse to fine, after every chunk: nested grids that use every earlier point.

    `coarse()` of what is yielded is the finest whole picture so far; the first is there after 5 × 5 points. Between
    two chunks the caller can stop (`close()` the generator), or do something else.

    Args:
        model, loss_fn, x, y, u, v, span, window, notes, **measured: As for `plane`.
        points: Points to a side: 5, 9, 17, 33, 65 and so on.

    Raises:
        ValueError: before any work, if something of it cannot be used.
    """
    points = POINTS.check("points", points)
    if points < 5 or (points - 1) & (points - 2):
        raise ValueError(f"points={points!r} is not allowed: nested grids have 5, 9, 17, 33, 65, 129 … to a side.")
    ticks, evaluator = _ticks(span, points, window), LossEvaluator(model, loss_fn, x, y, (u, v), **measured)
    return _levels(_blank(ticks, evaluator, {"u": u, "v": v}, notes), evaluator)


def _levels(made: Plane, evaluator: LossEvaluator) -> Iterator[Plane]:
    """Fill one nested grid after the other."""
    stride = (len(made.alpha) - 1) >> FIRST
    while stride:
        level = np.zeros_like(made.computed)
        level[::stride, ::stride] = True
        for _ in _fill(made, evaluator, np.argwhere(level & ~made.computed)):
            yield made
        stride //= 2


def _blank(ticks: Ticks, evaluator: LossEvaluator, along: dict[str, Direction], notes: dict[str, Any] | None) -> Plane:
    """Return a plane with nothing on it yet."""
    facts = {"parameters": evaluator.parameters, "way": evaluator.way, "batch_norm": evaluator.batch_norm}
    facts |= {"dtype": str(evaluator.dtype), "labkit": __version__, "torch": torch.__version__, "numpy": np.__version__}
    if drawn := {name: each.made for name, each in along.items() if isinstance(each, Drawn)}:
        facts["directions"] = drawn
    facts |= _checked(notes or {}, {*facts, "directions", "format", "sha256", "sum"})
    alpha, beta = ticks
    values = {name: np.full((len(beta), len(alpha)), np.nan) for name in evaluator.names}
    return Plane(alpha, beta, values, np.zeros((len(beta), len(alpha)), dtype=bool), facts)


def _fill(made: Plane, evaluator: LossEvaluator, cells: np.ndarray) -> Iterator[int]:
    """Compute cells (M, 2) of rows and columns; after each chunk, yield how many there were."""
    rows, columns = cells.T
    steps = torch.from_numpy(np.stack([made.alpha[columns], made.beta[rows]], 1))
    for places, values in evaluator.chunks(steps):
        for name, column in zip(evaluator.names, values.T, strict=True):
            made.values[name][rows[places], columns[places]] = column
        made.computed[rows[places], columns[places]] = True
        yield len(values)


def _checked(notes: dict[str, Any], taken: set[str]) -> dict[str, Any]:
    """Return notes that a plane can be saved with."""
    try:
        json.dumps(notes)
    except TypeError as error:
        raise ValueError(f"notes are kept as JSON, of plain numbers, strings, lists and dicts: {error}.") from None
    if clash := sorted(taken & notes.keys()):
        raise ValueError(f"notes may not use these reserved keys: {', '.join(clash)}. Rename them.")
    return notes


def _ticks(span: float, points: int, window: Window | None) -> Ticks:
    """Return the steps along u and along v, or say what is wrong with them."""
    points = POINTS.check("points", points)
    if window is not None:
        (left, right), (low, high) = _edges(window)
        return np.linspace(left, right, points), np.linspace(low, high, points)
    span = SPAN.check("span", span)
    if points % 2 == 0:
        raise ValueError(
            f"points={points} has no point at the centre: take {points - 1} or {points + 1}, or give a window=."
        )
    half = span * np.arange(1, points // 2 + 1) / (points // 2)
    axis = np.concatenate([-half[::-1], [0.0], half])  # the same on both sides to the last bit, and 0 exactly
    return axis, axis.copy()


def _edges(window: Window) -> np.ndarray:
    """Return from where to where a window goes, or say what is wrong with it."""  # (2, 2)
    try:
        edges = np.asarray(window, dtype=float)
    except (TypeError, ValueError):
        edges = np.empty(0)
    if edges.shape != (2, 2) or not np.isfinite(edges).all() or (edges[:, 0] >= edges[:, 1]).any():
        raise ValueError(f"window={window!r} is not allowed: give ((from, to), (from, to)), each rising and finite.")
    return edges


def _resumed(folder: Path, made: Plane, evaluator: LossEvaluator) -> Plane:
    """Return the plane that a folder holds, if it is the one to be made; a fresh one where there is none."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return made
    earlier = load_plane(folder)
    axes = np.array_equal(earlier.alpha, made.alpha) and np.array_equal(earlier.beta, made.beta)
    same = earlier.facts.get("sum") == made.facts["sum"] and earlier.values.keys() == made.values.keys()
    if not (axes and same and _agree(earlier, evaluator)):
        raise ValueError(
            f"{folder} holds another plane: another loss, other weights, data, directions or points. "
            "Choose another folder."
        )
    return replace(earlier, facts=made.facts)


def _agree(earlier: Plane, evaluator: LossEvaluator) -> bool:
    """Whether some cells come out as they did: what a loss or a module computes has no checksum."""
    cells = np.argwhere(earlier.computed)
    cells = cells[:: max(1, len(cells) // PROBES)]
    blank = {name: np.empty_like(value) for name, value in earlier.values.items()}
    anew = replace(earlier, values=blank, computed=earlier.computed.copy())
    for _ in _fill(anew, evaluator, cells):
        pass
    rows, columns = cells.T
    pairs = [(anew.values[name][rows, columns], each[rows, columns]) for name, each in earlier.values.items()]
    return all(np.allclose(now, before, rtol=1e-3, atol=1e-6, equal_nan=True) for now, before in pairs)


def checksum(model: nn.Module, *parts: Tensor | Direction) -> str:
    """Return a checksum of a model's parameters and buffers, and of data and directions."""
    every = [*model.parameters(), *model.buffers()]
    for part in parts:
        every += part.values() if isinstance(part, dict) else [part]
    found = hashlib.sha256()
    for tensor in every:
        found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def line(
    model_a: nn.Module,
    model_b: nn.Module,
    loss_fn: LossFn,
    x: Tensor,
    y: Tensor,
    *,
    points: int = 41,
    **measured: Unpack[Measured],
) -> Line:
    """Return the loss on the straight way between two networks of one shape (Goodfellow et al. 2015, section 3).

    Args:
        model_a, loss_fn, x, y: The first end, the loss and the data, as `LossEvaluator` takes them.
        model_b: The other end; the buffers and the mode are those of the first.
        points: Points on the way, both ends among them.
        **measured: `also`, `test` and `recompute` of `LossEvaluator`: between two networks the stored statistics of
            batch norm fit neither.

    Raises:
        ValueError: before any work, if something of it cannot be used.
    """
    t = np.linspace(0, 1, LINE_POINTS.check("points", points))
    (way,) = between(model_a, model_b)
    evaluator = LossEvaluator(model_a, loss_fn, x, y, (way,), **measured)
    facts = {"parameters": evaluator.parameters, "length": float(flat(way).cpu().double().norm())}
    return Line(t, evaluator.at(t[:, None]), facts)
