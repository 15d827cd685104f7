"""How fast to train, when to draw, and how much time the landscape gets; times are `time.perf_counter` seconds.

Training at full speed gets nine tenths of the time, a slower training waits for its next step, and a click never
waits longer than one chunk of steps.
"""

import math

WATCH_SPEED = 300  # steps a second that the eye can follow
CHUNK_SECONDS = 0.03  # that a chunk of training aims to take
MIN_FRAME_GAP, MAX_FRAME_GAP = 0.04, 2.0  # seconds between two pictures
TRAIN_TO_DRAW_RATIO = 9  # training gets this many times the time that a picture took, up to the longest gap
LANDSCAPE_TIME_SHARE = 0.05  # of the time may go to the landscape while training goes at full speed,
LANDSCAPE_GAP = 0.3  # and this many seconds, at least, lie between two pictures of it


class Pacer:
    """What was done when since training last went on, and what is due.

    Attributes:
        speed: The steps a second that are asked for.
        rate: The steps a second that were made.
        landscape_seconds: What went to the landscape.
    """

    def __init__(self) -> None:
        self.speed: float = WATCH_SPEED
        self._full_speed = False
        self._next_frame = 0.0
        self.begin()

    def begin(self) -> None:
        """Forget the run before."""
        self._chunk, self.rate = 1, 0.0
        self._last_turn, self._next_landscape = 0.0, 0.0
        self.resume(0.0, 0)

    def resume(self, now: float, step: int, *, full_speed: bool | None = None) -> None:
        """Count from here on: training goes on, or its speed was changed.

        Args:
            now: The time.
            step: The step where training stands.
            full_speed: Train as fast as possible, whatever the speed; None leaves that as it is.
        """
        self.since, self._from = now, step
        self.landscape_seconds = 0.0
        if full_speed is not None:
            self._full_speed = full_speed

    # Training

    def due(self, now: float, step: int) -> float:
        """Return how many steps the speed allows by now."""
        return (now - self.since) * (math.inf if self._full_speed else self.speed) + self._from - step + 1

    def steps(self, now: float, step: int, block: int) -> int:
        """Return how many steps to train at once, 0 where none is due.

        A chunk that gets so far ends where a block of the trainer ends: only whole blocks are graphs on CUDA.
        """
        due = self.due(now, step)
        if due < 1:
            return 0
        steps = int(min(self._chunk, due))
        beyond = (step + steps) % block
        return steps - beyond if beyond < steps else steps

    def trained(self, steps: int, began: float, now: float, step: int) -> None:
        """Note how long a chunk of steps took, and size the next."""
        self.rate = (step - self._from) / max(now - self.since, 1e-6)
        took = max(now - began, 1e-6)  # some clocks tick slowly
        self._chunk = max(1, min(2 * self._chunk, int(steps * CHUNK_SECONDS / took)))

    # Drawing

    def frame_due(self, now: float) -> bool:
        """Return whether a picture may be drawn."""
        return now >= self._next_frame

    def hurry(self) -> None:
        """Let the next picture wait for nothing."""
        self._next_frame = 0.0

    def hurry_landscape(self) -> None:
        """Let the next picture of the landscape wait for nothing."""
        self._next_landscape = 0.0

    def drew(self, began: float, now: float) -> None:
        """Note how long a picture took, which says when the next one may come."""
        next_frame = max(began + MIN_FRAME_GAP, now + TRAIN_TO_DRAW_RATIO * (now - began))
        self._next_frame = min(next_frame, now + MAX_FRAME_GAP)

    def rest(self, now: float, step: int, *, running: bool, stale: bool) -> float | None:
        """Return the seconds until there is something to do; None is until a command comes."""
        frame = max(0.0, self._next_frame - now) if stale else None
        if not running:
            return frame
        return 0.0 if self.due(now, step) >= 1 else min(CHUNK_SECONDS / 3, CHUNK_SECONDS if frame is None else frame)

    # The landscape

    def landscape_due(self, now: float, step: int, *, begun: bool) -> bool:
        """Return whether a running training leaves time for the landscape."""
        if now < self._next_landscape and not begun:
            return False
        share = LANDSCAPE_TIME_SHARE * (now - self.since)
        return self.due(now, step) < 1 or self.landscape_seconds + self._last_turn <= share

    def turned(self, began: float, now: float, *, begun: bool) -> None:
        """Note how long some work on the landscape took, and whether a picture was begun before."""
        if not begun:
            self._next_landscape = began + LANDSCAPE_GAP
        self._last_turn = now - began
        self.landscape_seconds += self._last_turn
