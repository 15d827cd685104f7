"""What was changed on the way of a training: checked before it begins, and written as the Python that repeats it."""

from collections.abc import Callable, Sequence

import numpy as np

from labkit.core.rules import Whole
from labkit.core.spec import RULES, Spec

Change = tuple[int, float | list[float] | dict[str, float]]  # (step, learning rate or one for each, or weights by name)


def planned(
    lr_changes: Sequence[tuple[int, object]], changes: Sequence[tuple[int, dict[str, float]]], many: int | None
) -> list[Change]:
    """Return what `train` is to change, in order: learning rates and weights.

    Args:
        lr_changes: (step, learning rate), or with a list of specs one for each.
        changes: (step, {"lr": …, "w1.2.3": …}).
        many: How many specs, or None for one that stands alone.

    Raises:
        ValueError: if a step or a learning rate is not allowed; weights are checked by `Trainer.check_edit`.
    """
    step = Whole("", 0, RULES["steps"].high)
    for at, change in changes:
        if not isinstance(change, dict):
            raise ValueError(
                f"changes has ({at}, {change!r}); give (step, {{'lr': 0.003}}) or (step, {{'w1.2.3': 0.5}})."
            )
    rates = [*lr_changes, *((at, change["lr"]) for at, change in changes if "lr" in change)]
    found: list[Change] = [(step.check("step", at), _rates(lr, many)) for at, lr in rates]
    edits = [(at, {name: value for name, value in change.items() if name != "lr"}) for at, change in changes]
    found += [(step.check("step", at), edit) for at, edit in edits if edit]
    return sorted(found, key=lambda change: change[0])


def _rates(lr: object, many: int | None) -> float | list[float]:
    """A learning rate for all specs, or a list with one for each of `many`."""
    check: Callable[[str, object], float] = RULES["lr"].check
    if many is None or not isinstance(lr, list | tuple | np.ndarray):
        return check("lr", lr)
    if len(lr) != many:
        raise ValueError(f"lr_changes has {len(lr)} learning rates for {many} specs: give one number, or one for each.")
    return [check("lr", each) for each in lr]


def recipe(
    spec: Spec, lr_changes: Sequence[tuple[int, float]], own: Sequence[str] = (), edits: Sequence[Change] = ()
) -> str:
    """Return the Python that trains a spec, changes on the way included.

    User-supplied data and a model have no text: they stand as the names `data`, a pair (x, y), and `model`.
    """
    changes = f", lr_changes={list(lr_changes)}" if lr_changes else ""
    if edits:
        together = [(step, {"lr": lr}) for step, lr in lr_changes] + list(edits)
        changes = f", changes={sorted(together, key=lambda change: change[0])}"
    given = "".join(f", {name}={name}" for name in own)
    return f"import labkit\n\nrun = labkit.train({spec.code()}{given}{changes})\nrun"
