"""The lab's one thread: it obeys commands in order, trains in chunks, and publishes what stands now.

Buttons, controls and cells leave commands, and nothing depends on the thread they come from. What is to be seen goes to
an output (`labkit.lab.renderer.Renderer`), which alone knows how a lab is drawn.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from labkit.core.devices import adopt, thread_count
from labkit.core.runs import Run, run_of
from labkit.core.trainer import Trainer, divergence
from labkit.lab import instant
from labkit.lab.background import LandscapeWorker, Options
from labkit.lab.choices import Choices
from labkit.lab.choosing import CHOOSING
from labkit.lab.commands import Commands
from labkit.lab.goals import Goal
from labkit.lab.pacing import Pacer
from labkit.lab.pins import pins_of
from labkit.lab.status import Status
from labkit.lab.undo import Tried

FINISHED = ("done", "stopped", "failed")
MAX_PINS = 6


class Worker:
    """Obeys, trains, draws.

    Args:
        trainer: What to begin with.
        data: Arrays `(x, y)` for every later trainer, or None.
        output: Where to publish; called on the worker's thread alone.
        name: Of the thread.
        goal: What is to be reached, or None.

    Attributes:
        commands: the queue; `HANDLERS` says which commands there are, and what each takes.
        state: "idle", "running", "paused", "done", "stopped" or "failed".
        run, error: the last finished run, and what went wrong since, or None.
        warning: what the screen warns of.
        pins: the pinned runs.
        watched: whether the lab was shown.
        running: whether it trains.
        instant: whether every change is trained to its end at once.
        data: arrays in place of the spec's data set, or None.
        choices, tried: what is chosen, and what was before.
    """

    def __init__(
        self, trainer: Trainer, data: tuple | None, output: object, name: str, goal: Goal | None = None
    ) -> None:
        self.trainer, self.output, self.data, self._goal = trainer, output, data, goal
        self.choices, self.pacer, self.options = Choices(trainer.spec), Pacer(), Options()
        self.state, self.warning, self.pins = "idle", "", []
        self.run: Run | None = None
        self.error: BaseException | None = None
        self.watched, self._tab, self._stale = False, "network", True
        self.instant, self._pinned = False, list[dict[str, Any]]()
        self.tried = Tried()
        self.commands = Commands(HANDLERS)
        self._threads = thread_count()
        self._start()
        self._thread = threading.Thread(target=self._work, name=f"labkit {name}", daemon=True)
        self._thread.start()

    @property
    def settled(self) -> bool:
        """Whether all that was asked for is done and drawn."""
        return self.commands.obeyed and not self._stale

    def wait(self, ticket: int | None = None) -> None:
        """Wait until a command, or every one so far, was obeyed and no training goes on."""
        self.commands.wait(lambda: not self.running, ticket)

    def close(self) -> None:
        """Stop the training and join the thread."""
        self.commands.close()
        if self._thread is not threading.current_thread():
            self._thread.join()

    # The loop

    def _work(self) -> None:
        adopt(self._threads)
        self._guarded([])  # the first evaluation may have to wait for the compiled loop: here, so that no cell does
        while not self.commands.closed:
            commands = self.commands.take(self._rest)
            if not self.commands.closed:
                self._guarded(commands)
                self.commands.done(len(commands))

    @property
    def running(self) -> bool:
        """Whether it trains."""
        return self.state == "running"

    def _rest(self) -> float | None:
        """How long there is nothing to do, in seconds; None is until a command comes."""
        now = time.perf_counter()
        if self._landscape_due(now):
            return 0.0
        return self.pacer.rest(now, self.trainer.step, running=self.running, stale=self._stale)

    def _guarded(self, commands: list[tuple]) -> None:
        """Obey, train, draw; an error is kept and shown."""
        try:
            self._evaluate_first()
            if not commands and self._landscape_due(time.perf_counter()):  # whoever waits for a command comes first
                self._advance_landscape()
            for command, *arguments in commands:
                HANDLERS[command](self, *arguments)
                self._stale = True
            if self.running:
                self._train_some()
            if self._stale and self.pacer.frame_due(time.perf_counter()):
                self._draw()
        except Exception as error:
            self._fail(error)

    def _evaluate_first(self) -> None:
        """Evaluate before the first step, so that there is something to see."""
        if not self.trainer.evaluations:
            self.trainer.finish()

    def _fail(self, error: Exception) -> None:
        self.error, self.state = error, "failed"
        self.warning = self._trouble()
        self._stale = False
        with contextlib.suppress(Exception):  # where drawing is what failed, the error waits for `Lab.result`
            self.output.show(self._status(), self.trainer)

    def _train_some(self) -> None:
        """Train for one chunk, no faster than asked."""
        began = time.perf_counter()
        steps = self.pacer.steps(began, self.trainer.step, self.trainer.block)
        if not steps:
            return
        self.trainer.advance(steps)
        self._landscape.keep()
        self.pacer.trained(steps, began, time.perf_counter(), self.trainer.step)
        self._stale = True
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self.trainer.done:
            self.warning = self._trouble()
            self.run = run_of(self.trainer)
            self.state = "stopped" if self.warning else "done"
            self.pacer.hurry()

    def _trouble(self) -> str:
        """Say what is wrong with this run, if anything is."""
        if self.error is not None:
            return f"{type(self.error).__name__}: {self.error}. Press Restart to start over."
        return divergence(self.trainer.diverged[0], self.trainer.loss_of())

    # Runs

    def _start(self) -> None:
        """Set everything to the beginning of a run."""
        self.error = None
        self.pacer.begin()
        self._landscape = LandscapeWorker(self.trainer, lambda: self.commands.closed or bool(self.commands))
        self.output.begin(self.trainer)
        self._look({"at": None})  # a place of the last run is none of this one

    def _rebuild(self) -> bool:
        """Begin a new run with what is chosen; the old one stays where the new one cannot begin."""
        try:
            self.trainer = Trainer(self.choices.spec, data=self.data)
        except ValueError as refusal:
            self.warning = str(refusal)
            return False
        self.state, self.warning = "idle", ""
        self._start()
        self._evaluate_first()
        return True

    def checked(self) -> bool:
        """Mend and check what is chosen; what is refused is said and taken back. Return whether it is allowed."""
        try:
            self.choices.settle()
        except ValueError as refusal:
            self.warning = str(refusal)
            self.choices.set(self.choices.spec)
            self.output.resend()
            return False
        self.output.move(self.choices.spec)
        return True

    def apply(self) -> bool:
        """Take over what is chosen, at once; return whether it is allowed."""
        old = self.trainer
        if not self.checked():
            return False
        self.warning, spec = self._trouble(), self.choices.spec
        if self.instant or (spec.but(lr=old.spec.lr, steps=old.spec.steps) != old.spec) or self.state == "idle":
            return self.restart(self.running)
        if self.state in ("running", "paused", "done"):
            old.total = max(spec.steps, old.step)  # a last step that is past already is now
            if self.state != "done":
                self._finish_if_done()
            elif not old.done:
                self.state = "paused"
        if spec.lr != old.lr and self.state in ("running", "paused"):
            old.set_lr(spec.lr)
        return True

    def restart(self, train: bool) -> bool:
        """Begin anew with what is chosen, and train on if that is wanted; what cannot begin is taken back."""
        if not self._rebuild():
            self.choices.set(self.trainer.spec)
            self.output.move(self.trainer.spec)
            self.output.resend()
            return False
        if self.instant:
            self._train_at_once()
        elif train:
            self._train()
        return True

    def _train_at_once(self) -> None:
        """Train to the end, show it, and then how it went with other seeds; all of it unless something newer comes."""

        def dropped() -> bool:
            return self.commands.closed or self.commands.waits_but("look", "show", "turn", "send", "pin", "speed")

        if not instant.trained(self.trainer, dropped):
            return
        self.trainer.finish()
        self._finish_if_done()
        self._draw()
        self.output.others = instant.other_seeds(self.trainer, self.data, dropped)
        self._stale = True
        self.pacer.hurry()

    # Commands

    def _train(self, full_speed: bool = False) -> None:
        """Begin or go on; `full_speed` is for a cell that waits for the run."""
        if self.state in FINISHED and not self._reset():
            return
        if self.state in ("idle", "paused"):
            self.state = "running"
            self.pacer.resume(time.perf_counter(), self.trainer.step, full_speed=full_speed)

    def _pause(self) -> None:
        if self.running:
            self.state = "paused"

    def _step(self) -> None:
        if self.state in ("idle", "paused"):
            self.state = "paused"
            self.trainer.advance(1)
            self._landscape.keep()
            self._finish_if_done()

    def _stop(self) -> None:
        if self.trainer.step == 0:
            self._pause()  # there is no run yet
        elif self.state in ("running", "paused"):
            self.trainer.total = self.trainer.step  # so that training the run's spec gives the same run
            self.run = run_of(self.trainer)
            self.state = "stopped"  # last: whoever waits for the run waits for this

    def _reset(self) -> bool:
        """Start over with what is chosen; return whether that is possible."""
        return self.checked() and self._rebuild()

    def _pin(self) -> None:
        if self.trainer.step == 0:
            return
        if len(self.pins) == MAX_PINS:
            self.warning = f"{MAX_PINS} runs are pinned already. Unpin them under Compare first."
            return
        run = run_of(self.trainer)
        if run.code() in [pin.code() for pin in self.pins]:
            self.warning = "This run is pinned already. Change something, train, and pin that."
            return
        self.pins.append(run)
        self._pinned = pins_of(self.pins)

    def _unpin(self) -> None:
        self.warning, self.pins, self._pinned = self._trouble(), [], []

    def _set_speed(self, speed: float | None) -> None:
        self.pacer.speed = math.inf if speed is None else speed
        self.pacer.resume(time.perf_counter(), self.trainer.step)

    # What is seen

    def _show(self) -> None:
        """Somebody looks, maybe not for the first time."""
        self.watched = True

    def _send(self) -> None:
        """Send all of the landscape's figure to a page that asks for it."""
        self.output.landscape.send_figure()

    def _turn(self, tab: str) -> None:
        """Another tab was opened: what it shows was not drawn meanwhile."""
        self._tab = self.output.tab = tab
        self.pacer.hurry()
        if tab == "landscape":
            self.output.landscape.show_figure()
        if self.watched and not self._landscape.blank(not self.running):
            self.output.draw_landscape()

    def _look(self, options: dict[str, object]) -> None:
        """Look at another part of the landscape, or draw it in another way."""
        self.options = replace(self.options, **options)
        if self.options.at is not None and self.options.at >= len(self._landscape.steps):
            self.options = replace(self.options, at=None)  # a place of a run that is over
        self.pacer.hurry_landscape()
        if not self._landscape.look(self.options) and self.watched:
            self.output.draw_landscape()

    def _landscape_due(self, now: float) -> bool:
        """Whether the landscape has changed and training leaves the time; unseen, one picture is made ahead at rest."""
        if not self.watched or self.state == "failed":
            return False
        if self._tab != "landscape" and (self.running or not self._landscape.blank(True)):
            return False
        if not self._landscape.due(not self.running):
            return False
        return not self.running or self.pacer.landscape_due(now, self.trainer.step, begun=self._landscape.busy)

    def _advance_landscape(self) -> None:
        """Compute some of the landscape, and draw it where there is a better picture."""
        began, begun = time.perf_counter(), self._landscape.busy
        picture = self._landscape.advance(not self.running)
        if picture is not None:
            self.output.draw_landscape(picture)
            self._stale = True  # what there is to say of it
        self.pacer.turned(began, time.perf_counter(), begun=begun)

    def _draw(self) -> None:
        began = time.perf_counter()
        if self.watched or not self.running:
            self.output.draw(self.trainer)
        self.output.show(self._status(), self.trainer)
        self._stale = False
        self.pacer.drew(began, time.perf_counter())

    def _status(self) -> Status:
        trainer = self.trainer
        return Status(
            state=self.state,
            rate=self.pacer.rate,
            chosen=self.choices.spec,
            kept=[] if self.running else [step for step in self._landscape.steps if step < trainer.step],
            warning=self.warning,
            note=self.choices.note,
            pins=self._pinned,
            goal=self._goal and {"text": self._goal.text, "met": self._reached(self._goal)},
            can_undo=self.tried.can_undo,
            can_redo=self.tried.can_redo,
            instant=self.instant,
            speed=None if self.pacer.speed == math.inf else self.pacer.speed,
        )

    def _reached(self, goal: Goal) -> bool:
        trainer, last = self.trainer, self.trainer.evaluations[-1] if self.trainer.evaluations else None
        return goal.met(
            score=last and float(last.score[0]),
            loss=last and float(last.loss[0]),
            parameters=trainer.theta.shape[1],
            steps=trainer.step,
        )


HANDLERS: dict[str, Callable] = {
    "train": Worker._train,
    "pause": Worker._pause,
    "step": Worker._step,
    "stop": Worker._stop,
    "reset": Worker._reset,
    "pin": Worker._pin,
    "unpin": Worker._unpin,
    "speed": Worker._set_speed,
    "show": Worker._show,
    "send": Worker._send,
    "turn": Worker._turn,
    "look": Worker._look,
    **CHOOSING,
}
