"""Predictions, ready to plot: a map, a curve, a confusion matrix or a scatter, as arrays.

Which picture is drawn follows from the data: two inputs and one answer make a map, one input makes a curve,
more classes a confusion matrix, and everything else is predictions against targets.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from labkit.core.data import Split
from labkit.core.losses import as_columns

MARGIN = 0.08  # of the data's extent, around them
Predict = Callable[[Tensor], Tensor]  # scaled inputs (N, inputs) → answers (N, out)


@dataclass(frozen=True)
class Points:
    """Data as they are drawn, in raw units; `value` is a class number or a target.

    Attributes:
        x, y: where a point stands; y is its second input on a map, its target on a curve.  # (N,)
        value: what it is.  # (N,)
        test: whether it is a test point.  # (N,)
    """

    x: np.ndarray
    y: np.ndarray
    value: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Picture:
    """Predictions of one kind.

    Attributes:
        kind: "map", "curve", "confusion" or "scatter".
        classes: how many classes; 0 for a regression.
        x, y: the axes of a map or curve, in raw units; predictions against targets of a scatter.
        z: a map (P, P) of class 1 minus class 0 in [-1, 1] or of values; a matrix (K, K) of samples by
            true and predicted class; empty otherwise.
        labels: the names of the classes.
        centre, reach: the colours of a map of values go from centre - reach to centre + reach.
        part: which part of the data a matrix or a scatter is of, "test" or, without a test set, "train".
    """

    kind: str
    classes: int
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    labels: tuple[str, ...] = ()
    centre: float = 0.0
    reach: float = 1.0
    part: str = "test"


def kind_of(split: Split) -> str:
    """Return which picture fits the data."""
    if split.raw_inputs == 2 and split.classes in (0, 2):
        return "map"
    if split.inputs == 1 and not split.classes:
        return "curve"
    return "confusion" if split.classes else "scatter"


def labels_of(split: Split) -> tuple[str, ...]:
    """Return the names of the classes."""
    return tuple(f"{label:.15g}" for label in split.labels or range(split.classes))


def values_of(split: Split, y: Tensor) -> np.ndarray:
    """Return targets as class numbers, or in raw units."""  # (N,) or (N, out) → (N,)
    if not split.classes:
        return (y[:, 0] * split.y_scale + split.y_mean).numpy()
    y = as_columns(y, split.classes)
    return (y.argmax(1) if y.shape[1] > 1 else y[:, 0] > 0).long().numpy()


def points_of(split: Split) -> Points:
    """Return the data where a map or a curve shows them; nothing for the other pictures."""
    kind = kind_of(split)
    if kind not in ("map", "curve"):
        nothing = np.empty(0)
        return Points(nothing, nothing, nothing, nothing.astype(bool))
    raw = torch.cat([split.points(part) for part in ("train", "test")]).numpy()
    value = np.concatenate([values_of(split, split.y_train), values_of(split, split.y_test)])
    test = np.arange(len(raw)) >= len(split.x_train)
    return Points(raw[:, 0], raw[:, 1] if kind == "map" else value, value, test)


def for_plot(split: Split, predict: Predict, points: int = 80) -> Picture:
    """Return the predictions that fit the data.

    Args:
        split: The data.
        predict: Scaled inputs (N, inputs) → answers (N, out), on the CPU.
        points: How many to a side of a map, or along a curve.
    """
    return {"map": _map, "curve": _curve, "confusion": _confusion, "scatter": _scatter}[kind_of(split)](
        split, predict, points
    )


def _axis(values: Tensor, points: int) -> Tensor:
    low, high = values.min().item(), values.max().item()
    pad = MARGIN * (high - low or 1)
    return torch.linspace(low - pad, high + pad, points)  # (P,)


def _map(split: Split, predict: Predict, points: int) -> Picture:
    raw = torch.cat([split.points(part) for part in ("train", "test")])
    x, y = _axis(raw[:, 0], points), _axis(raw[:, 1], points)
    grid = torch.cartesian_prod(y, x).flip(1)  # (P · P, 2), x fastest
    answer = predict(split.scale(grid))
    centre, reach = 0.0, 1.0
    if not split.classes:
        z = answer[:, 0] * split.y_scale + split.y_mean
        centre = split.y_mean
        reach = np.abs(values_of(split, torch.cat([split.y_train, split.y_test])) - centre).max().item()
    elif answer.shape[1] == 2:
        z = torch.tanh((answer[:, 1] - answer[:, 0]) / 2)  # the probability of class 1 minus that of class 0
    else:
        z = answer[:, 0].clamp(-1, 1)
    values = z.view(points, points).numpy()
    return Picture("map", split.classes, x.numpy(), y.numpy(), values, labels_of(split), centre, reach)


def _curve(split: Split, predict: Predict, points: int) -> Picture:
    x = _axis(split.raw(torch.cat([split.x_train, split.x_test]))[:, 0], 2 * points)
    answer = predict(split.scale(x.unsqueeze(1)))[:, 0] * split.y_scale + split.y_mean
    return Picture("curve", 0, x.numpy(), answer.numpy(), np.empty(0))


def _confusion(split: Split, predict: Predict, points: int) -> Picture:
    x, y, part = _judged(split)
    answer = predict(x)
    said = answer.argmax(1) if answer.shape[1] > 1 else (answer[:, 0] > 0).long()
    pairs = values_of(split, y) * split.classes + said.numpy()
    z = np.bincount(pairs, minlength=split.classes**2).reshape(split.classes, split.classes)
    ticks = np.arange(split.classes)
    return Picture("confusion", split.classes, ticks, ticks, z, labels_of(split), part=part)


def _scatter(split: Split, predict: Predict, points: int) -> Picture:
    x, y, part = _judged(split)
    said = predict(x)[:, 0] * split.y_scale + split.y_mean
    return Picture("scatter", 0, values_of(split, y), said.numpy(), np.empty(0), part=part)


def _judged(split: Split) -> tuple[Tensor, Tensor, str]:
    """The part of the data that the score is of: without a test set, the training set."""
    return (split.x_test, split.y_test, "test") if len(split.x_test) else (split.x_train, split.y_train, "train")
