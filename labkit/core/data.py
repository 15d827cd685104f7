"""Data sets: a `Spec` or user-supplied arrays → a `Split`, scaled for a network."""

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from labkit.core.costs import outputs_of
from labkit.core.features import made_of
from labkit.core.rules import option
from labkit.core.seeds import generator
from labkit.core.spec import CSV, DATASETS, FOR_REGRESSION, LOSSES, PLAIN, Spec, check_batch, check_features, share_of

LARGEST = torch.finfo(torch.float32).max
MOST_CLASSES = 20  # a target column of whole numbers with at most this many values is read as classes


@dataclass(frozen=True, repr=False)
class Split:
    """Training and test data as the network sees them, on the CPU.

    Attributes:
        x_train, x_test: inputs, float32, standardised from the training part.  # (N, inputs)
        y_train, y_test: targets. Regression: float32 (N, 1). Classes: under cross entropy int64 class
            numbers (N,); otherwise float32, ±1 (N, 1) for two classes and one-hot (N, K) for more.
        classes: how many classes; 0 for a regression.
        x_mean, x_scale: raw input = input · x_scale + x_mean.  # (inputs,)
        y_mean, y_scale: raw target = target · y_scale + y_mean, for a regression.
        labels: the class values as they stand in a user-supplied table.
        features: what the network is given of two raw inputs; raw_train, raw_test: these, where it is others.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: int
    x_mean: Tensor
    x_scale: Tensor
    y_mean: float = 0.0
    y_scale: float = 1.0
    labels: tuple[float, ...] = ()
    features: tuple[str, ...] = PLAIN
    raw_train: Tensor = field(default_factory=lambda: torch.empty(0))
    raw_test: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def inputs(self) -> int:
        """Numbers that the network is given of a sample."""
        return self.x_train.shape[1]

    @property
    def raw_inputs(self) -> int:
        """Numbers in one raw input."""
        return self.inputs if self.features == PLAIN else 2

    def points(self, part: str) -> Tensor:
        """Return the raw inputs of a part, "train" or "test"."""  # (N, raw inputs)
        return self.raw(getattr(self, f"x_{part}")) if self.features == PLAIN else getattr(self, f"raw_{part}")

    @property
    def outputs(self) -> int:
        """Numbers in one answer of the network."""
        return self.classes if self.y_train.ndim == 1 else self.y_train.shape[1]

    def scale(self, x: Tensor) -> Tensor:
        """Turn raw inputs into what the network sees."""  # (N, raw inputs) → (N, inputs)
        x = made_of(x, self.features)
        return ((x - self.x_mean) / self.x_scale).float()

    def raw(self, x: Tensor) -> Tensor:
        """Turn what the network sees back into inputs before scaling."""  # (N, inputs) → (N, inputs)
        return x * self.x_scale + self.x_mean

    def __repr__(self) -> str:
        kind = f"{self.classes} classes" if self.classes else "regression"
        return f"Split: {len(self.x_train)} training and {len(self.x_test)} test samples, {self.inputs} inputs, {kind}"


def load_data(spec: Spec, data: tuple[Any, Any] | None = None) -> Split:
    """Make, read or take the data of a spec.

    Args:
        spec: The choices.
        data: Your own `(x, y)`: x (N, inputs), y (N,) or (N, 1) numbers or class numbers, or one-hot (N, K).

    Raises:
        ValueError: if the data cannot be used, saying which part of it and what to do.
    """
    if data is not None:
        if not isinstance(data, tuple | list) or len(data) != 2:
            raise ValueError("data must be a pair (x, y): inputs, one row a sample, and targets.")
        return _own(spec, *data)
    if spec.dataset.startswith(CSV):
        table = read_csv(path := Path(spec.dataset.removeprefix(CSV)))
        try:
            return _own(spec, table.x, table.y)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    rng, known = generator(spec.seed, "data"), DATASETS[spec.dataset]
    x, y = _MAKERS[spec.dataset](spec, rng)
    if known.all_for_training:
        return _split(spec, x, y, torch.arange(len(x)), known.classes, scaling=(torch.zeros(1), torch.ones(1)))
    return _split(spec, x, y, _permutation(len(x), rng), known.classes)


def _split(
    spec: Spec,
    x: Tensor,
    y: Tensor,
    order: Tensor,
    classes: int,
    scaling: tuple[Tensor, Tensor] | None = None,
    **more: Any,
) -> Split:
    """Shuffle, cut into training and test part, scale by the training part alone."""
    cut = len(order) if scaling else share_of(len(order), spec.train_share)
    check_batch(spec.batch_size, cut)
    train, test = order[:cut], order[cut:]
    check_features(spec.features, x.shape[1])
    if spec.features != PLAIN:
        more |= {"features": spec.features, "raw_train": x[train], "raw_test": x[test]}
        x = made_of(x, spec.features)
    mean, scale = scaling or _moments(x[train])
    x = ((x - mean) / scale).float()
    y = _targets(y, classes, spec.loss)
    return Split(x[train], y[train], x[test], y[test], classes, mean, scale, **more)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column, in float64; a constant column keeps its scale."""
    values = x.double().numpy()  # whose sums have one order on every machine
    mean, scale = values.mean(0), values.std(0)
    return torch.as_tensor(mean), torch.as_tensor(np.where(values.max(0) == values.min(0), 1.0, scale))


def _targets(y: Tensor, classes: int, loss: str) -> Tensor:
    """Write targets the way that a loss wants them."""
    if not classes:
        return y.float().reshape(-1, 1)
    if option("loss", loss, LOSSES).classes_only:
        return y.long()
    if outputs_of(classes, loss) == 1:
        return y.float().reshape(-1, 1) * 2 - 1
    return torch.nn.functional.one_hot(y.long(), classes).float()


# Data are made in float64 and rounded to float32 at the end, which hides that sin and cos differ in their last bit
# from machine to machine.


def _permutation(n: int, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.permutation(n))


def _random(shape: int | tuple[int, ...], rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.random(shape))


def _normal(shape: int | tuple[int, ...], rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.normal(size=shape))


# The two-dimensional sets live on about [-6, 6] and their noise is a share of what would blur them.


def _square(n: int, rng: np.random.Generator) -> Tensor:
    return 10 * _random((n, 2), rng) - 5  # (n, 2)


def _jitter(x: Tensor, scale: float, rng: np.random.Generator) -> Tensor:
    return x + scale * _normal(tuple(x.shape), rng)


def _circle(spec: Spec, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    inner = torch.arange(spec.samples) % 2
    draw = _random(spec.samples, rng)
    radius = torch.where(inner == 1, 2.5 * draw.sqrt(), 3.5 + 1.5 * draw)
    angle = 2 * math.pi * _random(spec.samples, rng)
    x = torch.stack([radius * angle.sin(), radius * angle.cos()], 1)
    return _jitter(x, 2.5 * spec.noise, rng), inner


def _xor(spec: Spec, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    x = _square(spec.samples, rng)
    y = (x[:, 0] * x[:, 1] > 0).long()
    return _jitter(x + 0.3 * x.sign(), 2.5 * spec.noise, rng), y


def _gauss(spec: Spec, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    y = torch.arange(spec.samples) % 2
    centres = (4.0 * y - 2).unsqueeze(1).expand(-1, 2)
    return _jitter(centres, 1 + 2 * spec.noise, rng), y


def _spiral(spec: Spec, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    y = torch.arange(spec.samples) % 2
    along = _random(spec.samples, rng).sqrt()
    angle = 3.5 * math.pi * along + math.pi * y
    x = 5 * along.unsqueeze(1) * torch.stack([angle.sin(), angle.cos()], 1)
    return _jitter(x, 1.4 * spec.noise, rng), y  # 1.4 is the gap between the arms


def _moons(spec: Spec, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    y = torch.arange(spec.samples) % 2
    angle = math.pi * _random(spec.samples, rng)
    side = 1.0 - 2 * y
    x = torch.stack([side * angle.cos() + y - 0.5, side * angle.sin() + 0.5 * y - 0.25], 1)
    return _jitter(3 * x, 3 * spec.noise, rng), y


def _plane(spec: Spec, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    x = _square(spec.samples, rng)
    return x, _jitter(x.sum(1) / 10, spec.noise, rng)


def _bumps(spec: Spec, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    x = _square(spec.samples, rng)
    centres = torch.tensor([[-4, 2.5], [0, 2.5], [4, 2.5], [-4, -2.5], [0, -2.5], [4, -2.5]], dtype=torch.float64)
    signs = torch.tensor([1, -1, 1, -1, 1, -1], dtype=torch.float64)
    away = (x.unsqueeze(1) - centres).square().sum(2)  # (n, 6)
    y = (torch.exp(-away / 4) * signs).sum(1)
    return x, _jitter(y, spec.noise, rng)


def _chebyshev(spec: Spec, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    x = torch.linspace(-1, 1, DATASETS["chebyshev"].size, dtype=torch.float64).unsqueeze(1)
    return x, 8 * x[:, 0] ** 4 - 8 * x[:, 0] ** 2 + 1


@lru_cache(maxsize=1)
def _images() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # slow to import, and needed by this data set alone

    digits = load_digits()
    return torch.tensor(digits.data, dtype=torch.float32), torch.tensor(digits.target)


def _digits(spec: Spec, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    x, y = _images()
    return _jitter(x, 16 * spec.noise, rng), y  # 16 is the range of a pixel


def teacher(inputs: int) -> Callable[[Tensor], Tensor]:
    """Return the fixed random network of 8 tanh units that the `teacher` data set asks.

    Its answers have mean 0 and variance 1 over standard normal inputs, as measured on 4,096 of them. The
    mean squared error that no network can go below is the spec's noise, squared.
    """
    rng = np.random.Generator(np.random.PCG64(inputs))
    hidden = 1.5 * _normal((inputs, 8), rng) / inputs**0.5
    out = _normal((8, 1), rng)
    sample = torch.tanh(_normal((4096, inputs), rng) @ hidden) @ out
    mean, scale = sample.mean(), sample.std()
    return lambda x: ((torch.tanh(x.double() @ hidden) @ out - mean) / scale).to(x.dtype)[:, 0]  # (N, inputs) → (N,)


def _teacher(spec: Spec, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    x = _normal((spec.samples, spec.inputs), rng)
    return x, _jitter(teacher(spec.inputs)(x), spec.noise, rng)


_MAKERS = {
    "circle": _circle,
    "xor": _xor,
    "gauss": _gauss,
    "spiral": _spiral,
    "moons": _moons,
    "plane": _plane,
    "bumps": _bumps,
    "chebyshev": _chebyshev,
    "digits": _digits,
    "teacher": _teacher,
}


class CsvTable(NamedTuple):
    """The numbers of a csv file, and the names of its inputs."""

    x: np.ndarray  # (N, inputs)
    y: np.ndarray  # (N,)
    columns: list[str]


def read_csv(path: Path) -> CsvTable:
    """Read a table of numbers, last column the target, under a row of names or none; again only if it has changed.

    Raises:
        ValueError: with the line, the column and what to mend.
    """
    about = path.stat()
    return _read_csv(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=1)
def _read_csv(path: Path, changed: int, size: int) -> CsvTable:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a text table: {error}. Save it as CSV in UTF-8.") from None
    named = bool(lines) and not any(map(_is_number, lines[0][1]))
    names, lines = (lines[0][1], lines[1:]) if named else ([], lines)
    if len(lines) < 10:
        rows = "1 row" if len(lines) == 1 else f"{len(lines)} rows"
        raise ValueError(f"{path} has {rows} of data; at least 10 are needed.")
    columns = len(lines[0][1])
    if columns < 2:
        raise ValueError(f"{path} has one column; it takes inputs first and the target last, parted by commas.")
    table = np.array([_read_row(path, number, row, columns) for number, row in lines])
    inputs = columns - 1
    titles = [name.strip() for name in names[:inputs]] if named else [f"column {k + 1}" for k in range(inputs)]
    return CsvTable(table[:, :-1], table[:, -1], titles)


def _read_row(path: Path, number: int, row: list[str], columns: int) -> list[float]:
    if len(row) != columns:
        raise ValueError(f"{path} line {number} has {len(row)} cells where the first has {columns}. Mend that line.")
    for column, cell in enumerate(row, 1):
        where = f"{path} line {number}, column {column}"
        if not cell.strip():
            raise ValueError(f"{where} is empty. Fill the gap, or leave the line out.")
        if not _is_number(cell):
            raise ValueError(f"{where} holds {cell!r}, which is not a finite number. Write text as numbers first.")
    return [float(cell) for cell in row]


def _is_number(cell: str) -> bool:
    """Whether a cell of a table holds a finite number."""
    try:
        return abs(float(cell)) <= LARGEST  # not so for nan
    except ValueError:
        return False


def _own(spec: Spec, x: object, y: object) -> Split:
    """Split and scale user-supplied inputs and targets."""
    x, y = _array("x", x), _array("y", y)
    x = x.reshape(len(x), -1)
    values = None
    if y.ndim == 2 and y.shape[1] > 1:
        values, y = torch.arange(y.shape[1]).double(), _from_one_hot(y)
    y = y.reshape(-1)
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} rows and y has {len(y)}. Give one target for each row of inputs.")
    if len(x) < 2:
        raise ValueError(f"x has {len(x)} rows. Give at least 2, so that there is something to learn.")
    found: Tensor = torch.unique(y)
    if len(found) == 1:
        raise ValueError(f"every target is {y[0]:.15g}: one class, nothing to learn. Give at least two values.")
    values = found if values is None else values
    is_classes = bool((y == y.round()).all()) and len(values) <= MOST_CLASSES
    if LOSSES[spec.loss].classes_only and not is_classes:
        raise ValueError(
            f"loss={spec.loss!r} is not allowed: the targets are no classes (whole numbers, at most {MOST_CLASSES} "
            f"different ones) but a regression. {FOR_REGRESSION}"
        )
    order = _permutation(len(x), generator(spec.seed, "data"))
    if is_classes:
        y = torch.searchsorted(values, y.contiguous())
        _check_classes(values, y, y[order[: share_of(len(y), spec.train_share)]])
        return _split(spec, x, y, order, len(values), labels=tuple(values.tolist()))
    mean, scale = (float(part) for part in _moments(y[order[: share_of(len(y), spec.train_share)]]))
    return _split(spec, x, (y - mean) / scale, order, 0, y_mean=mean, y_scale=scale)


def _check_classes(values: Tensor, y: Tensor, trained: Tensor) -> None:
    """Raise `ValueError` for a class in the test part alone: the network would never have met it."""
    counts = y.bincount(minlength=len(values)), trained.bincount(minlength=len(values))
    for value, rows, shown in zip(values.tolist(), *(count.tolist() for count in counts), strict=True):
        if rows and not shown:
            raise ValueError(
                f"class {value:g} has no training sample ({rows} in all). Give it more rows or leave it out; or take "
                "a larger train_share, or another seed."
            )


def _array(name: str, values: object) -> Tensor:
    """Return a user-supplied array as float64 until it is scaled, or say what is wrong with it."""
    try:
        array = torch.as_tensor(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError, RuntimeError) as error:  # the last: a tensor that requires a gradient
        raise ValueError(f"{name} is not an array of numbers: {error}") from None
    if array.ndim == 0 or array.numel() == 0 or not (array.abs() <= LARGEST).all():
        raise ValueError(f"{name} must be an array of finite numbers, one row a sample; drop rows with gaps.")
    return array


def _from_one_hot(y: Tensor) -> Tensor:
    if not (((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all()):
        raise ValueError(f"y has {y.shape[1]} columns and is not one-hot. Give one target a row, or one-hot classes.")
    return y.argmax(1).double()
