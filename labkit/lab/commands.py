"""The queue between whoever sits at the lab, on any thread, and its one worker: commands, tickets, waiting."""

import threading
from collections.abc import Callable, Collection

MERGED = ("choose", "look")  # of these, what one more asks for joins what the last one asked for


class Commands:
    """Commands in the order in which they came.

    Args:
        known: The names of all commands.

    Attributes:
        closed: Whether the worker is to end.
    """

    def __init__(self, known: Collection[str]) -> None:
        self._known = known
        self._bell = threading.Condition()
        self._waiting: list[tuple] = []
        self._asked = self._obeyed = 0
        self.closed = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def waits_but(self, *names: str) -> bool:
        """Whether a command waits that is none of these."""
        with self._bell:
            return any(command[0] not in names for command in self._waiting)

    def ask(self, command: str, *arguments: object) -> int:
        """Leave a command, and return a ticket to wait for.

        Raises:
            ValueError: if there is no such command.
        """
        if command not in self._known:
            raise ValueError(f"{command!r} is no command of the lab: use one of {', '.join(self._known)}.")
        with self._bell:
            last = self._waiting[-1] if self._waiting else ("",)
            if command in MERGED and last[0] == command:
                self._waiting[-1] = command, last[1] | arguments[0]
            else:
                self._waiting.append((command, *arguments))
                self._asked += 1
            self._bell.notify_all()
            return self._asked

    def take(self, rest: Callable[[], float | None]) -> list[tuple]:
        """Return the commands that wait; without any, wait `rest()` seconds for one, or, if that is None, for good."""
        with self._bell:
            if not self._waiting and not self.closed:
                self._bell.wait(rest())
            taken, self._waiting = self._waiting, []
            return taken

    def done(self, count: int) -> None:
        """Note that as many commands were obeyed."""
        with self._bell:
            self._obeyed += count
            self._bell.notify_all()

    @property
    def obeyed(self) -> bool:
        """Whether every command was obeyed."""
        return self._obeyed >= self._asked

    def wait(self, until: Callable[[], bool], ticket: int | None = None) -> None:
        """Wait until a command, or every one so far, was obeyed and something else holds, or until the end."""
        with self._bell:
            ticket = self._asked if ticket is None else ticket
            self._bell.wait_for(lambda: self.closed or (self._obeyed >= ticket and until()))

    def close(self) -> None:
        """Let the worker end."""
        with self._bell:
            self.closed = True
            self._bell.notify_all()
