"""The live session: one worker thread that trains and draws, one lab on the screen. It knows no papermill.

Buttons and controls only leave a command; the worker obeys in order, trains in chunks and draws the newest
numbers at most ten times a second. Nothing depends on which thread a front end's message is handled in.
"""

import atexit
import contextlib
import math
import threading
import time
from collections.abc import Callable

from labkit.core.costs import cost
from labkit.core.devices import adopt, thread_count
from labkit.core.runs import Run, recipe, run_of
from labkit.core.spec import RULES, Spec
from labkit.core.trainer import Trainer, divergence
from labkit.lab.background import LandscapeWorker, Options
from labkit.lab.controls import LIVE, Controls
from labkit.lab.view import FINISHED, Screen, View

FRAME = 0.1  # seconds between two pictures, at least
TRAIN_TO_DRAW_RATIO = 9  # training gets this many times the time that a picture took,
MAX_FRAME_GAP = 2.0  # but no picture is further off than so many seconds
CHUNK = 0.03  # seconds that a chunk of training aims to take, so that a click never waits long
LANDSCAPE_TIME_SHARE = 0.05  # of the time may go to the landscape and its drawing while training goes at full speed,
LOOK = 0.3  # with at least so many seconds from the start of one look around to the next
REPEATED = ("settle",), ("around",)  # a thousand slider moves are one command
PINS = 6

_LABS: dict[str, "Lab"] = {}  # name → the lab on the screen; a new one of the same name replaces it


class Lab:
    """Choose a network, press Train, watch it learn.

    A bare `lab` at the end of a cell shows it. A second lab of the same name stops, joins and closes the first.

    Args:
        spec: What to begin with.
        name: Which lab of the notebook this is.
        data: A person's own `(x, y)` in place of the spec's data set.

    Attributes:
        state: "idle", "running", "paused", "done", "stopped" or "failed".
        controls: the choices; `controls.widgets["depth"].value = 4` moves one.

    Raises:
        ValueError: if the spec's data or device cannot be used.
    """

    def __init__(self, spec: Spec | None = None, *, name: str = "main", data: tuple | None = None) -> None:
        self.name, self.data = name, data
        self.trainer = Trainer(spec or Spec(), data=data)
        if name in _LABS:
            _LABS[name].close()
        self._threads = thread_count()
        self.state = "idle"
        self.controls = Controls(self.trainer.spec, lambda: self._ask("settle"), own=data is not None)
        self.screen = Screen(self.controls.view, self._ask)
        self._renderer = None  # made once somebody is looking
        self._bell = threading.Condition()
        self._commands: list[tuple] = []
        self._asked = self._obeyed = 0
        self._closing = False
        self._run: Run | None = None
        self._error: BaseException | None = None
        self._alone = False  # training for a waiting cell, with nobody to watch step by step
        self._warning = ""
        self._pins: dict[str, Run] = {}
        self._resumed = 0.0, 0  # when training last went on, and at which step
        self._looked = 0.0  # seconds spent on the landscape since then
        self._glance = 0.0  # and by its last turn
        self._next_look = 0.0
        self._pace = 0.0  # steps a second since then
        self._next_frame, self._stale = 0.0, True
        self._start()
        self._thread = threading.Thread(target=self._work, name=f"labkit {name}", daemon=True)
        self._thread.start()
        _LABS[name] = self

    # For people

    def run(self) -> Run:
        """Train from the first step to the last, and return the run: the same numbers as `labkit.train`.

        Raises:
            ValueError: if what the controls say is not allowed.
            RuntimeError: if somebody paused or reset it on the way.
            Exception: whatever went wrong in the thread.
        """
        if self.trainer.step or self.state != "idle":
            if self.state == "running":
                self._ask("stop")
            self._wait(self._ask("reset"))
        before, self._alone = self._run, True
        try:
            if self.state == "idle":
                self._wait(self._ask("train"))
        except KeyboardInterrupt:
            self._wait(self._ask("stop"))
            raise
        finally:
            self._alone = False
        if self._error is None and self._run is before:
            if self._warning:
                raise ValueError(self._warning)
            raise RuntimeError(f"this run was not finished: the lab is {self.state}.")
        run = self.result()
        if self.screen.figure is None:
            _show_plainly(run)
        return run

    def result(self) -> Run:
        """Return the last finished run; while one is running, wait for it.

        Raises:
            Exception: whatever went wrong in the thread.
            RuntimeError: if no run was finished yet.
        """
        self._wait(self._asked)
        if self._error is not None:
            raise self._error
        if self._run is None:
            raise RuntimeError("no run is finished yet. Press Train and wait, press Stop, or call lab.run().")
        return self._run

    def close(self) -> None:
        """Stop the training, join the thread and take the lab off the screen."""
        with self._bell:
            self._closing = True
            self._bell.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self.screen.close()
        if _LABS.get(self.name) is self:
            del _LABS[self.name]

    def _repr_mimebundle_(self, **options: object) -> dict:
        return self.screen.view._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        trainer = self.trainer
        return f"Lab {self.name!r}: {self.state} at step {trainer.step:,} of {trainer.total:,}; {trainer.spec!r}"

    # For any thread

    def _ask(self, *command: object) -> int:
        """Leave a command for the worker, and return a ticket to wait for."""
        with self._bell:
            if command not in REPEATED or command not in self._commands:
                self._commands.append(command)
                self._asked += 1
                self._bell.notify_all()
            return self._asked

    def _wait(self, ticket: int) -> None:
        """Wait until a command was obeyed and no training goes on."""
        with self._bell:
            self._bell.wait_for(lambda: self._closing or (self._obeyed >= ticket and self.state != "running"))

    # For the worker alone

    def _work(self) -> None:
        adopt(self._threads)
        while True:
            with self._bell:
                if not self._commands and not self._closing:
                    self._bell.wait(self._idle_for())
                if self._closing:
                    return
                commands, self._commands = self._commands, []
            self._guarded(commands)
            with self._bell:
                self._obeyed += len(commands)
                self._bell.notify_all()

    def _idle_for(self) -> float | None:
        """How long there is nothing to do, in seconds; None is until the bell rings."""
        now = time.perf_counter()
        frame = max(0.0, self._next_frame - now) if self._stale else None
        if self._may_look(now):
            return 0.0
        if self.state != "running":
            return frame
        return 0.0 if self._due(now) >= 1 else min(CHUNK / 3, CHUNK if frame is None else frame)

    def _guarded(self, commands: list[tuple]) -> None:
        """Obey, train, draw; an error is kept for `result` and shown."""
        try:
            if not commands and self._may_look(time.perf_counter()):  # whoever waits for a command comes first
                self._look_around()
            for name, *argument in commands:
                HANDLERS[name](self, *argument)
                self._stale = True
            if self.state == "running":
                self._train_some()
            if self._stale and time.perf_counter() >= self._next_frame:
                self._draw()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._error, self.state = error, "failed"
        self._warning = self._trouble()
        self._stale = False
        with contextlib.suppress(Exception):  # where drawing is what failed, the error waits for `result`
            self.screen.show(self._view())

    def _start(self) -> None:
        """Set the clocks of a run that begins."""
        self._error, self._pace = None, 0.0
        self.trainer.finish()  # the first look at the test set, so that there is something to see
        self._chunk = 1  # steps to train at once
        self._survey, self._glance = LandscapeWorker(self.trainer, lambda: self._closing or bool(self._commands)), 0.0
        self.screen.lookout.places([], self.trainer.step, False)  # a place of the last run is none of this one
        if self._renderer is not None:
            self._renderer.begin()
        self._around()

    def _forget_scene(self) -> None:
        if self._renderer is not None:
            self._renderer.forget()

    def _rebuild(self, spec: Spec) -> bool:
        """Begin a new run; the old one stays where the new one cannot begin. Return whether it began."""
        try:
            self.trainer = Trainer(spec, data=self.data)
        except ValueError as refusal:
            self._warning = str(refusal)
            return False
        self.state, self._warning = "idle", ""
        self._start()
        return True

    def _settle(self) -> bool:
        """Take over what the controls say: at once where nothing is lost by it, else after a reset.

        Returns:
            Whether training may go on: a run does not begin with something else than what the controls say.
        """
        fresh = self.state == "idle"
        try:
            spec = self.controls.settle()
        except ValueError as refusal:
            self._warning = str(refusal)
            return not fresh
        self._warning = self._trouble()
        trainer = self.trainer
        if fresh:
            return spec == trainer.spec or self._rebuild(spec)
        if self.state in ("running", "paused", "done"):
            trainer.total = max(spec.steps, trainer.step)  # a last step that is past already is now
            if self.state != "done":
                self._finish_if_done()
            elif not trainer.done:
                self.state = "paused"
        if spec.lr != trainer.lr and self.state in ("running", "paused"):
            trainer.set_lr(spec.lr)
        return True

    def _train(self) -> None:
        if self.state in FINISHED and not self._reset():
            return
        if self._settle() and self.state in ("idle", "paused"):
            self.state = "running"
            self._resume()

    def _resume(self) -> None:
        self._resumed, self._looked = (time.perf_counter(), self.trainer.step), 0.0

    def _pause(self) -> None:
        if self.state == "running":
            self.state = "paused"

    def _step(self) -> None:
        if self._settle() and self.state in ("idle", "paused"):
            self.state = "paused"
            self.trainer.advance(1)
            self._survey.keep()
            self._finish_if_done()

    def _stop(self) -> None:
        if self.trainer.step == 0:
            self._pause()  # there is no run yet
        elif self.state in ("running", "paused"):
            self.trainer.total = self.trainer.step  # so that training the run's spec gives the same run
            self._run = run_of(self.trainer)
            self.state = "stopped"  # last: whoever waits for the run looks for this

    def _reset(self) -> bool:
        """Start over with what the controls say. Return whether that is possible."""
        try:
            spec = self.controls.settle()
        except ValueError as refusal:
            self._warning = str(refusal)
            return False
        return self._rebuild(spec)

    def _pin(self) -> None:
        if self.trainer.step == 0:
            return
        if len(self._pins) == PINS:
            self._warning = f"{PINS} runs are pinned already. Unpin them under Compare first."
            return
        run = run_of(self.trainer)
        if any(
            (pin.spec, pin.lr_changes, pin.steps) == (run.spec, run.lr_changes, run.steps)
            for pin in self._pins.values()
        ):
            self._warning = "This run is pinned already. Change something, train, and pin that."
            return
        self._pins = named([*self._pins.values(), run])
        self.screen.show_pins(self._pins)

    def _unpin(self) -> None:
        self._warning = self._trouble()
        self._pins = {}
        self.screen.show_pins(self._pins)

    def _open(self, text: str) -> None:
        try:
            self.controls.set(Spec.from_share(text))
        except ValueError as refusal:
            self._warning = str(refusal)
            return
        self._settle()

    def _show(self) -> None:
        from labkit.lab.renderer import Renderer  # brings plotly, which is of no use while nobody is looking

        self.screen.show_figure()
        self.screen.lookout.show_figure()
        if self._renderer is None:
            self._renderer = Renderer(self.screen)
        self._renderer.forget()

    def _send(self) -> None:
        if self._renderer is not None:
            self.screen.send_figure()

    def _turn(self) -> None:
        """Another tab was opened: what it shows was not drawn meanwhile."""
        self._next_frame = 0.0
        if self._renderer is not None and not self._survey.blank(self.state != "running"):
            self._renderer.draw_ground()

    def _send_ground(self) -> None:
        self.screen.lookout.send_figure()

    def _around(self) -> None:
        """Look at what the Landscape tab asks for, and draw it as it asks."""
        self._next_look = 0.0
        if not self._survey.look(Options(**self.screen.lookout.chosen())) and self._renderer is not None:
            self._renderer.draw_ground()

    def _redraw(self) -> None:
        self._resume()
        self._forget_scene()
        self.screen.show_pins(self._pins)

    def _train_some(self) -> None:
        """Train for one chunk, sized so that it takes about `CHUNK` seconds, and no faster than asked."""
        began = time.perf_counter()
        due = self._due(began)
        if due < 1:
            return
        steps = self._whole_blocks(int(min(self._chunk, due)))
        self.trainer.advance(steps)
        self._survey.keep()
        now = time.perf_counter()
        since, step = self._resumed
        self._pace = (self.trainer.step - step) / max(now - since, 1e-6)
        took = max(now - began, 1e-6)  # some clocks tick slowly
        self._chunk = max(1, min(2 * self._chunk, int(steps * CHUNK / took)))
        self._stale = True
        self._finish_if_done()

    def _whole_blocks(self, steps: int) -> int:
        """End a chunk where a block of the trainer ends, if it gets that far: only whole blocks are graphs on CUDA."""
        trainer = self.trainer
        past_the_end = (trainer.step + steps) % trainer.block
        return steps - past_the_end if past_the_end < steps else steps

    def _due(self, now: float) -> float:
        """How many steps the speed on the screen allows by now; a run without a person goes at full speed."""
        since, step = self._resumed
        speed = math.inf if self._alone else self.screen.speed.value
        return (now - since) * speed + step - self.trainer.step + 1

    def _may_look(self, now: float) -> bool:
        """Whether the landscape has changed and training leaves the time; unseen, one picture is made ahead at rest."""
        running = self.state == "running"
        if self._renderer is None or self.state == "failed":
            return False
        if self.screen.tab != "Landscape" and (running or not self._survey.blank(True)):
            return False
        if not self._survey.due(not running) or (running and now < self._next_look and not self._survey.busy):
            return False
        return (
            not running
            or self._due(now) < 1
            or self._looked + self._glance <= LANDSCAPE_TIME_SHARE * (now - self._resumed[0])
        )

    def _look_around(self) -> None:
        """Compute some of the landscape, and draw it where there is a better picture."""
        began = time.perf_counter()
        if not self._survey.busy:
            self._next_look = began + LOOK
        sight = self._survey.advance(self.state != "running")
        if sight is not None:
            self._renderer.draw_ground(sight)
            self._stale = True  # what there is to say of it
        self._glance = time.perf_counter() - began
        self._looked += self._glance

    def _finish_if_done(self) -> None:
        if self.trainer.done:
            self._warning = self._trouble()
            self._run = run_of(self.trainer)
            self.state = "stopped" if self._warning else "done"
            self._next_frame = 0.0  # the last picture is never dropped

    def _trouble(self) -> str:
        """Say what is wrong with this run, if anything is."""
        if self._error is not None:
            return f"{type(self._error).__name__}: {self._error}. Press Reset to start over."
        return divergence(self.trainer.diverged[0], self.trainer.loss_of())

    # Drawing

    def _draw(self) -> None:
        began = time.perf_counter()
        self._stale = False
        self.screen.show(self._view())
        self.screen.lookout.places(self._survey.steps, self.trainer.step, self.state == "running")
        if self._renderer is not None:
            self._renderer.draw(self.trainer, at_rest=self.state != "running")
        now = time.perf_counter()
        self._next_frame = min(max(began + FRAME, now + TRAIN_TO_DRAW_RATIO * (now - began)), now + MAX_FRAME_GAP)

    def _view(self) -> View:
        trainer, spec = self.trainer, self.controls.last
        ends = {"inputs": trainer.split.inputs, "outputs": trainer.split.outputs, "batch": trainer.batch}
        pending = [name for name in RULES if name not in LIVE and getattr(spec, name) != getattr(trainer.spec, name)]
        return View(
            state=self.state,
            step=trainer.step,
            total=trainer.total,
            epoch=trainer.step * trainer.batch / len(trainer.split.x_train),
            seconds=trainer.seconds,
            pace=self._pace,
            parameters=cost(trainer.spec, **ends).parameters,
            device=trainer.device.device.type,
            share=trainer.spec.but(steps=trainer.total).share(),
            code=recipe(trainer.spec.but(steps=trainer.total), trainer.lr_changes, trainer.own),
            pending=pending,
            warning=self._warning,
            note=self.controls.note,
        )


HANDLERS: dict[str, Callable] = {
    "train": Lab._train,
    "pause": Lab._pause,
    "step": Lab._step,
    "stop": Lab._stop,
    "reset": Lab._reset,
    "pin": Lab._pin,
    "unpin": Lab._unpin,
    "open": Lab._open,
    "show": Lab._show,
    "view": Lab._send,
    "turn": Lab._turn,
    "ground": Lab._send_ground,
    "around": Lab._around,
    "redraw": Lab._redraw,
    "settle": Lab._settle,
}


def named(runs: list[Run]) -> dict[str, Run]:
    """Name runs by a letter and by what sets them apart from each other."""
    names = {}
    for letter, run in zip("ABCDEF", runs, strict=False):
        apart = [n for n in RULES if any(getattr(other.spec, n) != getattr(run.spec, n) for other in runs)]
        names[f"{letter}: " + (", ".join(f"{n} {getattr(run.spec, n)}" for n in apart) or "as it stands")] = run
    return names


def _show_plainly(run: Run) -> None:
    """Without a front end: a plain figure in the cell's output, if this is a notebook at all."""
    import sys

    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from IPython.display import display

        from labkit.plots import charts

        display(charts.learning(run))


@atexit.register
def _close_all() -> None:
    for lab in list(_LABS.values()):
        lab.close()
