"""Instant mode: a choice trained to its end at once, then the same with other seeds, so that luck is seen."""

from collections.abc import Callable
from typing import Any

from labkit.core.trainer import Trainer
from labkit.lab.scene import other_of

SEEDS = 8  # the chosen one among them
CHUNK = 1000  # steps between two looks at whether something newer is wanted


def trained(trainer: Trainer, dropped: Callable[[], bool]) -> bool:
    """Train to the end; return whether that was reached before something newer was wanted."""
    while not trainer.done and not dropped():
        trainer.advance(CHUNK)
    return trainer.done


def other_seeds(trainer: Trainer, data: tuple | None, dropped: Callable[[], bool]) -> list[dict[str, Any]]:
    """Train the same with other seeds; return how they went, or nothing where something newer is wanted."""
    spec = trainer.spec.but(steps=trainer.total)
    others = Trainer([spec.but(seed=(spec.seed + k) % 2**32) for k in range(1, SEEDS)], data=data)
    if not trained(others, dropped):
        return []
    others.finish()
    return [other_of(others, member) for member in range(len(others.specs))]
