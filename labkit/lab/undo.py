"""What was tried: changes to go back to and to make again."""

from labkit.core.spec import Spec

Change = tuple[Spec, tuple | None]  # what was chosen, and the data of a person's own
KEPT = 50


class Tried:
    """Two stacks of what was chosen before and, once taken back, after."""

    def __init__(self) -> None:
        self._before: list[Change] = []
        self._after: list[Change] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is something to go back to."""
        return bool(self._before)

    @property
    def can_redo(self) -> bool:
        """Whether something was taken back that can be made again."""
        return bool(self._after)

    def remember(self, before: Change) -> None:
        """Note what was chosen before a change; what was taken back before it is forgotten."""
        self._before, self._after = [*self._before[1 - KEPT :], before], []

    def back(self, now: Change) -> Change | None:
        """Return what was chosen before the last change."""
        return self._move(now, self._before, self._after)

    def forward(self, now: Change) -> Change | None:
        """Return what the last change that was taken back had chosen."""
        return self._move(now, self._after, self._before)

    def _move(self, now: Change, source: list[Change], other: list[Change]) -> Change | None:
        if not source:
            return None
        other.append(now)
        return source.pop()
