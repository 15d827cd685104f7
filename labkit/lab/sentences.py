"""The one sentence under the screen: what happened, and what to try. Every number in it is measured."""

from collections.abc import Sequence

import numpy as np

from labkit.core.history import Evaluation
from labkit.core.trainer import Trainer
from labkit.lab import texts

MILESTONES = (1.0, 0.99, 0.95, 0.9, 0.8, 0.7)  # of an accuracy, said when they are reached first
WORSE = 1.2  # times the best test loss: it was better before


def sentence(trainer: Trainer, state: str) -> str:
    """Return what there is to say of a training in a state."""
    if not trainer.evaluations:
        return texts.SENTENCES["waiting"]
    if state == "idle":
        return texts.SENTENCES["idle"].format(result(trainer))
    if state == "running":
        return _milestone(trainer) or texts.SENTENCES["running"].format(result(trainer))
    if state == "paused":
        return texts.SENTENCES["paused"].format(f"{trainer.step:,}", result(trainer))
    return texts.SENTENCES["done"].format(f"{trainer.step:,}", result(trainer)) + " " + _advice(trainer)


def result(trainer: Trainer) -> str:
    """Return how good the answers are, in words."""
    score, split = float(trainer.evaluations[-1].score[0]), trainer.split
    tested = len(split.y_test) > 0
    part, many = ("test" if tested else "training"), len(split.y_test if tested else split.y_train)
    if not split.classes:
        return texts.SENTENCES["explained"].format(part, f"{score:.2f}".replace("-", "−"))
    return texts.SENTENCES["right"].format(f"{round(score * many):,}", f"{many:,}", part)


def _milestone(trainer: Trainer) -> str:
    """Say which accuracy was reached first, and when."""
    if not trainer.split.classes:
        return ""
    now = float(trainer.evaluations[-1].score[0])
    mark = next((mark for mark in MILESTONES if now >= mark), None)
    if mark is None:
        return ""
    first = next(each.step for each in trainer.evaluations if float(each.score[0]) >= mark)
    part = "test" if len(trainer.split.y_test) else "training"
    return texts.SENTENCES["milestone"].format(f"{mark:.0%}".replace("%", " %"), part, f"{first:,}")


def _advice(trainer: Trainer) -> str:
    """Say whether the test loss was lower before, else what to touch."""
    best = best_of(trainer.evaluations)
    last = float(trainer.evaluations[-1].loss[0])
    if best is not None and last > WORSE * float(best.loss[0]):
        return texts.SENTENCES["was_better"].format(f"{best.step:,}", f"{float(best.loss[0]):.2g}")
    return texts.SENTENCES["touch"]


def best_of(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """Return the evaluation with the lowest test loss; nothing without a test set."""
    losses = np.array([float(each.loss[0]) for each in evaluations])
    return evaluations[int(np.nanargmin(losses))] if np.isfinite(losses).any() else None
