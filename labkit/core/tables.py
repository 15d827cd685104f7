"""Real tables as arrays: scikit-learn's own, or a user-supplied csv file."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from labkit.core.data import MOST_CLASSES, read_csv
from labkit.core.spec import CSV, Spec

TABLES = ("digits", "breast_cancer", "wine", "diabetes")


@dataclass(frozen=True, repr=False, eq=False)
class Table:
    """Inputs and targets in their own units, in the order of the file.

    Attributes:
        name: What it was asked for by.
        x: Inputs.  # (N, inputs)
        y: Targets; class numbers, or the values of a regression.  # (N,)
        columns: A name for every input.
        regression: Whether the targets are values: not whole numbers, or more than 20 different ones.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    columns: tuple[str, ...]
    regression: bool

    def __repr__(self) -> str:
        kind = "a regression" if self.regression else f"{len(np.unique(self.y))} classes"
        return f"Table {self.name}: {len(self.x):,} samples, {self.x.shape[1]} inputs, {kind}"


def load_table(name: str) -> Table:
    """Return one of `TABLES`, or the table of a csv file.

    Args:
        name: One of `TABLES`, or `csv:PATH`: numbers, the target in the last column, a first row of names or none.

    Raises:
        ValueError: if there is no such table, or the file cannot be used; with what to mend.
    """
    if name in TABLES:
        loaded = _loader(name)()
        return _table(name, loaded.data, loaded.target, loaded.feature_names)
    if not name.startswith(CSV):
        raise ValueError(f"table={name!r} is not allowed: table takes {', '.join(TABLES)}, or csv:PATH of your own.")
    return _table(name, *read_csv(Path(Spec(dataset=name).dataset.removeprefix(CSV))))  # a missing file is refused


def _loader(name: str) -> Callable[[], Any]:
    from sklearn import datasets  # slow to import

    raw = {"scaled": False} if name == "diabetes" else {}
    return partial(getattr(datasets, f"load_{name}"), **raw)


def _table(name: str, x: np.ndarray, y: np.ndarray, columns: list[str]) -> Table:
    values = np.unique(y)
    regression = bool((y != y.round()).any()) or len(values) > MOST_CLASSES
    return Table(name, x, y, tuple(map(str, columns)), regression)
