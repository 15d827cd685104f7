"""Checkpoints of a training: the two newest on disk, each whole or not at all.

A training has a subfolder of its own, named by its specs, data and model. So one folder takes many.
"""

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from labkit.core.data import Split
from labkit.core.kernel_stepper import KernelStepper
from labkit.core.spec import LATER, Spec
from labkit.core.trainer import Trainer
from labkit.storage import atomic, tensor_folder

Facts = dict[str, Any]
KIND = "checkpoint"
KEPT = 2  # where the newest is damaged there is one before it
PAUSE = 1.0  # seconds from one to the next, at least
SHARE = 0.05  # of the time that may go into writing


@contextmanager
def checkpointing(
    folder: str | os.PathLike[str], trainer: Trainer, changes: Sequence[tuple[int, object]] = ()
) -> Iterator[Callable[[], None]]:
    """Take a new trainer to its newest checkpoint, and keep more while it trains.

    Args:
        folder: The folder of all checkpoints.
        trainer: A trainer before its first step.
        changes: The changes of learning rates and weights that it will make on the way.

    Yields:
        What to call between steps: it writes a checkpoint when it is time for one, and at the end.

    Raises:
        OutputLocked: if another process trains the same.
    """
    of = _made_of(trainer, changes)
    place = Path(folder) / hashlib.sha256(json.dumps(of).encode()).hexdigest()[:12]
    place.mkdir(parents=True, exist_ok=True)
    with atomic.lock(place):
        for half_written in place.glob(".step-*"):
            shutil.rmtree(half_written)
        _resume(place, trainer, of)
        due = time.monotonic() + PAUSE

        def offer() -> None:
            nonlocal due
            began = time.monotonic()
            if began >= due or trainer.done:
                _write(place, trainer, of)
                ended = time.monotonic()
                due = ended + max(PAUSE, (ended - began) / SHARE)

        yield offer


def _write(place: Path, trainer: Trainer, of: Facts) -> None:
    tensors, facts = trainer.state()
    made = {"of": of, "where": _where(trainer)}
    tensor_folder.write(place / f"step-{trainer.step:012}", KIND, tensors, facts | made)
    for old in _there(place, trainer)[:-KEPT]:
        shutil.rmtree(old)


def _resume(place: Path, trainer: Trainer, of: Facts) -> None:
    """Take the trainer to the newest checkpoint that is whole, and say why if that is not the newest one."""
    for folder in reversed(_there(place, trainer)):
        try:
            tensors, facts = tensor_folder.read(folder, KIND)
            if facts["of"] != of:
                raise ValueError(f"the {KIND} in {folder} is of another training.")
            trainer.restore(tensors, facts)
        except ValueError as reason:
            aside = folder.with_name(f"refused-{time.time_ns()}-{folder.name}")
            folder.rename(aside)
            warnings.warn(f"Refused: {reason} It lies in {aside}; the one before it is used, if any.", stacklevel=4)
            continue
        if facts["where"] != _where(trainer):
            was, now = (", ".join(map(str, each.values())) for each in (facts["where"], _where(trainer)))
            warnings.warn(f"Made on {was} and going on with {now}: not the same to the last bit.", stacklevel=4)
        return


def _there(place: Path, trainer: Trainer) -> list[Path]:
    """The checkpoints that a training can go on from; one with more steps may have left later ones."""
    return sorted(each for each in place.glob("step-*") if int(each.name[5:]) <= trainer.total)


def _where(trainer: Trainer) -> Facts:
    """What the last bit of a number depends on, beside the training itself."""
    if isinstance(trainer.stepper, KernelStepper):
        return {"loop": "the compiled loop"}
    return {"torch": torch.__version__, "device": trainer.device.device.type, "threads": f"{trainer.threads} threads"}


def _made_of(trainer: Trainer, changes: Sequence[tuple[int, object]]) -> Facts:
    """What makes two trainings the same one; how long it is to go on does not."""
    specs = [asdict(spec) for spec in trainer.specs]
    for spec in specs:
        del spec["steps"]
        for name in LATER:
            if spec[name] == getattr(Spec, name):
                del spec[name]
    model = repr(trainer.model_of()) if "model" in trainer.own else ""
    data = [_digest(split) for split in {id(split): split for split in trainer.splits}.values()]
    parts = {
        "specs": specs,
        "data": data,
        "model": model,
        "lr_changes": changes,
        "snapshots": trainer.history.to_keep,
    }
    made: Facts = json.loads(json.dumps(parts))
    return made


def _digest(split: Split) -> str:
    seen = hashlib.sha256()
    for part in (split.x_train, split.y_train, split.x_test, split.y_test):
        seen.update(part.numpy().tobytes())
    return seen.hexdigest()
