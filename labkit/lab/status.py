"""What a worker says of itself, for the screen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labkit.core.spec import Spec


@dataclass(frozen=True)
class Status:
    """What stands now, beside the trainer.

    Attributes:
        chosen: The last spec that was allowed.
        kept: The steps whose weights are kept, and may be looked around.
        warning: What is wrong, in words.
        note: What was mended last, in words.
        pins: The pinned runs, as the screen draws them.
        goal: {"text", "met"}, or None.
    """

    state: str
    rate: float  # steps a second
    chosen: Spec
    kept: Sequence[int]
    warning: str
    note: str
    pins: Sequence[dict[str, Any]]
    goal: dict[str, Any] | None
    can_undo: bool
    can_redo: bool
    instant: bool
    speed: float | None
