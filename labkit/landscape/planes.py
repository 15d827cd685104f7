"""Lines and planes through weight space: the loss of one network at many weights, as arrays. It knows no plots."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from labkit import __version__
from labkit.core.runs import progress
from labkit.core.spec import Number, Whole
from labkit.landscape.batched_mlp import LossFn
from labkit.landscape.directions import Direction, Drawn, between, flat
from labkit.landscape.evaluator import LossEvaluator
from labkit.storage import tensor_folder

FIRST = 2  # the first picture of `refine` has 2² + 1 points to a side
SAVE_EVERY = 10.0  # seconds between two savings of a half-made plane
PROBES = 8  # cells of a half-made plane that are computed anew, to see that it is the same one
POINTS = Whole("points to a side", 3, 4097)
SPAN = Number("how far to go along each direction", 0, 1e6, open_low=True)
Window = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, repr=False, eq=False)
class Plane:
    """The ground around a network, along two directions.

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
    facts: dict

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

    def save(self, folder: str | os.PathLike) -> Path:
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


def load_plane(folder: str | os.PathLike) -> Plane:
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
    """The ground on the way from one network to another, straight or curved.

    Attributes:
        t: How far on the way: 0 is the first network, 1 the second.  # (P,)
        values: What was measured there, under the names of `Plane.values`.  # (P,)
        facts: What made it, as plain values.
    """

    t: np.ndarray
    values: dict[str, np.ndarray]
    facts: dict

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
    also: dict[str, LossFn] | None = None,
    test: tuple[Tensor, Tensor] | None = None,
    recompute: bool = False,
    folder: str | os.PathLike | None = None,
    notes: dict | None = None,
) -> Plane:
    """Return the loss around a network, on the plane of two directions.

    Any `nn.Module`, any `loss_fn(prediction, target)` → scalar. The module's own mode (train or eval) is
    used and kept, and it is left as it was, bit for bit, with the random state. A `loss_fn` that the lab does not
    know sees the whole batch at once. Values are computed in the model's own dtype and device.

    Args:
        model: The network at the plane's centre.
        loss_fn: (prediction, target) → scalar, such as `run.loss_fn`.
        x: Inputs, on the model's device.  # (N, …)
        y: Targets.
        u: First direction, an entry for every named parameter.
        v: Second direction.
        span: Steps along each direction to either side of the centre.
        points: Points to a side: odd, so that one is the centre.
        window: ((from, to) along u, (from, to) along v) in place of the span; any number of points.
        also: More to measure from the same prediction, such as {"accuracy": labkit.accuracy}.
        test: Test data (x, y): everything is measured on them too, under "test …".
        recompute: Recompute batch norm's statistics at every point, in place of the stored ones.
        folder: Where the plane is kept while it is made; a half-made one there is continued, once a few of its
            cells are computed anew and come out the same.
        notes: Facts to keep with it, as JSON, such as {"seed": 0}; "axes" and "units" name the directions in charts.

    Raises:
        ValueError: before any work, if something of it cannot be used.
    """
    more = {"also": also, "test": test, "recompute": recompute}
    cells = _Cells(model, loss_fn, x, y, u, v, span=span, points=points, window=window, **more)
    made = cells.begin(notes)
    if folder is not None:
        made.facts["sum"] = checksum(model, x, y, *(test or ()), u, v)
        made = _resumed(Path(folder), made, cells)
    with progress(total=made.computed.size, initial=int(made.computed.sum()), unit="point") as bar:
        saved = time.monotonic()
        for count in cells.fill(made, np.argwhere(~made.computed)):
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
    points: int = 65,
    notes: dict | None = None,
    **more: object,
) -> Iterator[Plane]:
    """Yield a plane as it grows from coarse to fine, after every chunk: nested grids that use every earlier point.

    `coarse()` of what is yielded is the finest whole picture so far; the first is there after 5 × 5 points. Between
    two chunks the caller can stop (`close()` the generator), or do something else.

    Args:
        model: The network at the plane's centre.
        loss_fn: (prediction, target) → scalar.
        x: Inputs, on the model's device.  # (N, …)
        y: Targets.
        u: First direction.
        v: Second direction.
        points: Points to a side: 5, 9, 17, 33, 65 and so on.
        notes: Facts to keep with it.
        **more: span, window, also, test and recompute, as for `plane`.

    Raises:
        ValueError: before any work, if something of it cannot be used.
    """
    points = POINTS.check("points", points)
    if points < 5 or (points - 1) & (points - 2):
        raise ValueError(f"points={points!r} is not allowed: nested grids have 5, 9, 17, 33, 65, 129 … to a side.")
    cells = _Cells(model, loss_fn, x, y, u, v, points=points, **more)
    return _levels(cells, cells.begin(notes))


def _levels(cells: "_Cells", made: Plane) -> Iterator[Plane]:
    """Fill one nested grid after the other."""
    stride = (len(made.alpha) - 1) >> FIRST
    while stride:
        level = np.zeros_like(made.computed)
        level[::stride, ::stride] = True
        for _ in cells.fill(made, np.argwhere(level & ~made.computed)):
            yield made
        stride //= 2


class _Cells:
    """The cells of a plane, ready to be computed in any order."""

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFn,
        x: Tensor,
        y: Tensor,
        u: Direction,
        v: Direction,
        *,
        points: int,
        span: float = 1.0,
        window: Window | None = None,
        **more: object,
    ) -> None:
        self.alpha, self.beta = _axes(span, points, window)
        self.ground = LossEvaluator(model, loss_fn, x, y, (u, v), **more)
        self._drawn = {name: each.made for name, each in (("u", u), ("v", v)) if isinstance(each, Drawn)}

    def begin(self, notes: dict | None) -> Plane:
        """Return a plane with nothing on it yet."""
        shape = len(self.beta), len(self.alpha)
        ground = self.ground
        made = {"parameters": ground.parameters, "way": ground.way, "batch_norm": ground.batch_norm}
        made |= {"dtype": str(ground.dtype), "labkit": __version__, "torch": torch.__version__, "numpy": np.__version__}
        made |= {"directions": self._drawn} if self._drawn else {}
        values = {name: np.full(shape, np.nan) for name in ground.names}
        facts = made | _checked(notes or {}, {*made, "directions", "format", "sha256", "sum"})
        return Plane(self.alpha, self.beta, values, np.zeros(shape, dtype=bool), facts)

    def fill(self, made: Plane, cells: np.ndarray) -> Iterator[int]:
        """Compute cells (M, 2) of rows and columns; after each chunk, yield how many there were."""
        rows, columns = cells.T
        steps = torch.from_numpy(np.stack([self.alpha[columns], self.beta[rows]], 1))
        for places, values in self.ground.chunks(steps):
            for name, column in zip(self.ground.names, values.T, strict=True):
                made.values[name][rows[places], columns[places]] = column
            made.computed[rows[places], columns[places]] = True
            yield len(values)


def _checked(notes: dict, taken: set[str]) -> dict:
    """Return notes that a plane can be saved with."""
    try:
        json.dumps(notes)
    except TypeError as error:
        raise ValueError(f"notes are kept as JSON, of plain numbers, strings, lists and dicts: {error}.") from None
    if clash := sorted(taken & notes.keys()):
        raise ValueError(f"notes cannot bear the names of the plane's own facts: {', '.join(clash)}. Rename them.")
    return notes


def _axes(span: float, points: int, window: Window | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps along u and along v, or say what is wrong with them."""
    points = POINTS.check("points", points)
    if window is not None:
        return tuple(np.linspace(low, high, points) for low, high in _edges(window))
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


def _resumed(folder: Path, made: Plane, cells: _Cells) -> Plane:
    """Return the plane that a folder holds, if it is the one to be made; a fresh one where there is none."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return made
    earlier = load_plane(folder)
    axes = np.array_equal(earlier.alpha, made.alpha) and np.array_equal(earlier.beta, made.beta)
    same = earlier.facts.get("sum") == made.facts["sum"] and earlier.values.keys() == made.values.keys()
    if not (axes and same and _agree(earlier, cells)):
        raise ValueError(
            f"{folder} holds another plane: another loss, other weights, data, directions or points. "
            "Choose another folder."
        )
    return replace(earlier, facts=made.facts)


def _agree(earlier: Plane, cells: _Cells) -> bool:
    """Whether some cells come out as they did: what a loss or a module computes has no checksum."""
    known = np.argwhere(earlier.computed)
    anew = cells.begin(None)
    for _ in cells.fill(anew, known[:: max(1, len(known) // PROBES)]):
        pass
    pairs = [(anew.values[name][anew.computed], value[anew.computed]) for name, value in earlier.values.items()]
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
    also: dict[str, LossFn] | None = None,
    test: tuple[Tensor, Tensor] | None = None,
    recompute: bool = False,
) -> Line:
    """Return the loss on the straight way between two networks of one shape (Goodfellow et al. 2015, section 3).

    Args:
        model_a: The first end; its buffers and its mode are used. Both models are left as they are.
        model_b: The other end.
        loss_fn: (prediction, target) → scalar.
        x: Inputs, on the models' device.  # (N, …)
        y: Targets.
        points: Points on the way, both ends among them.
        also: More to measure from the same prediction.
        test: Test data (x, y), measured too, under "test …".
        recompute: Recompute batch norm's statistics at every point: between two networks the stored ones fit neither.

    Raises:
        ValueError: before any work, if something of it cannot be used.
    """
    points = Whole("points on the way", 2, 1_000_001).check("points", points)
    (way,) = between(model_a, model_b)
    ground = LossEvaluator(model_a, loss_fn, x, y, (way,), also=also, test=test, recompute=recompute)
    t = np.linspace(0, 1, points)
    return Line(t, ground.at(t[:, None]), {"parameters": ground.parameters, "length": float(flat(way).double().norm())})
