"""What a person does to the choices of a lab: commands of its worker that set, undo, open, paint and edit."""

from collections.abc import Callable
from typing import Any

from labkit.core.rules import option
from labkit.core.spec import CSV, PLAIN, Spec
from labkit.lab import tables
from labkit.lab.presets import PRESETS
from labkit.lab.undo import Change

OWN = {"batch_size": 0, "features": PLAIN}  # what fits data of any size


def _here(worker: Any) -> Change:
    return worker.choices.spec, worker.data


def _choose(worker: Any, values: dict[str, Any]) -> None:
    """Take over moved controls, field by field."""
    before = _here(worker)
    worker.choices.values |= {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    if worker.apply() and before != _here(worker):
        worker.tried.remember(before)


def _undo(worker: Any) -> None:
    """Take the last change back."""
    _go(worker, worker.tried.back(_here(worker)))


def _redo(worker: Any) -> None:
    """Make the change again."""
    _go(worker, worker.tried.forward(_here(worker)))


def _go(worker: Any, change: Change | None) -> None:
    if change is not None:
        spec, worker.data = change
        _take(worker, spec, train=worker.running)


def _take(worker: Any, spec: Spec, *, train: bool) -> None:
    """Choose a whole spec and begin with it."""
    worker.choices.set(spec)
    worker.output.move(spec)
    worker.warning = ""
    worker.restart(train)


def _open(worker: Any, text: str) -> None:
    """Start what a share string says."""
    try:
        spec = Spec.from_share(text)
    except ValueError as refusal:
        worker.warning = str(refusal)
        return
    worker.tried.remember(_here(worker))
    _take(worker, spec, train=True)


def _preset(worker: Any, key: str) -> None:
    """Start a telling experiment."""
    spec = option("preset", key, PRESETS).spec
    worker.tried.remember(_here(worker))
    worker.data = None
    _take(worker, spec, train=True)


def _file(worker: Any, file: dict[str, str]) -> None:
    """Take a table that was dropped or picked: it is kept in a folder of the user's own."""
    _choose(worker, {"dataset": f"{CSV}{tables.keep(file['name'], file['text'])}", **OWN})


def _paint(worker: Any, points: dict[str, list]) -> None:
    """Take points that were painted."""
    before = _here(worker)
    worker.data = points["x"], points["y"]
    worker.choices.values |= OWN
    if worker.checked() and worker.restart(worker.running):
        worker.tried.remember(before)
    else:
        worker.data = before[1]


def _edit(worker: Any, weights: dict[str, float]) -> None:
    """Change weights and biases by name; training goes on from there."""
    try:
        worker.trainer.edit(weights)
    except ValueError as refusal:
        worker.warning = str(refusal)
        return
    worker.trainer.history.forget(worker.trainer.step)
    worker.trainer.finish()
    worker.pacer.hurry()


def _set_instant(worker: Any, on: bool) -> None:
    """Train every change to its end at once, or no longer."""
    worker.instant = bool(on)
    if worker.instant:
        worker.restart(False)


CHOOSING: dict[str, Callable] = {
    "choose": _choose,
    "undo": _undo,
    "redo": _redo,
    "open": _open,
    "preset": _preset,
    "file": _file,
    "paint": _paint,
    "edit": _edit,
    "instant": _set_instant,
}
