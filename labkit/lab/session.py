"""The lab of a notebook: one worker thread that trains, one screen that shows it, and the calls of a cell."""

import atexit

from labkit.core.runs import Run
from labkit.core.spec import Spec
from labkit.core.trainer import Trainer
from labkit.lab.choice_traits import ChoiceTraits
from labkit.lab.goals import Goal
from labkit.lab.landscape_tab import LandscapeTab
from labkit.lab.renderer import Renderer
from labkit.lab.screen import Screen
from labkit.lab.worker import Worker

_LABS: dict[str, "Lab"] = {}  # name → the lab on the screen; a new one of the same name replaces it


class Lab:
    """Choose a network, press Train, watch it learn.

    A bare `lab` at the end of a cell shows it. A second lab of the same name stops, joins and closes the first.

    Args:
        spec: What to begin with.
        name: Which lab of the notebook this is.
        data: Arrays `(x, y)` in place of the spec's data set.
        goal: What is to be reached, as "score >= 0.95 with < 100 parameters"; the screen says when it is.

    Attributes:
        state: "idle", "running", "paused", "done", "stopped" or "failed".
        trainer: the `labkit.Trainer` of the present run.
        choices: every choice as a trait: `lab.choices.depth = 4` moves the screen.
        screen: the widget.

    Raises:
        ValueError: if the spec's data or device cannot be used, or the goal is no comparison.
    """

    def __init__(
        self, spec: Spec | None = None, *, name: str = "main", data: tuple | None = None, goal: str | None = None
    ) -> None:
        self.name = name
        aim, trainer = Goal.of(goal) if goal is not None else None, Trainer(spec or Spec(), data=data)
        if name in _LABS:
            _LABS[name].close()

        def ask(command: str, *arguments: object) -> int:
            return self.worker.commands.ask(command, *arguments)

        self.worker: Worker
        self.choices = ChoiceTraits(trainer.spec, lambda values: ask("choose", values))
        self.landscape = LandscapeTab(ask)
        self.screen = Screen(ask, self.landscape.view, name)
        self.worker = Worker(trainer, data, Renderer(self.screen, self.landscape, self.choices.move), name, aim)
        _LABS[name] = self

    @property
    def state(self) -> str:
        """What the lab is doing."""
        return self.worker.state

    @property
    def trainer(self) -> Trainer:
        """What trains."""
        return self.worker.trainer

    def run(self) -> Run:
        """Train from the first step to the last, and return the run: the same numbers as `labkit.train`.

        Raises:
            ValueError: if what the controls say is not allowed.
            RuntimeError: if somebody paused or reset it on the way.
            Exception: whatever went wrong in the thread.
        """
        worker, ask = self.worker, self.worker.commands.ask
        if self.trainer.step or self.state != "idle":
            if self.state == "running":
                ask("stop")
            worker.wait(ask("reset"))
        before = worker.run
        try:
            if self.state == "idle":
                worker.wait(ask("train", True))
        except KeyboardInterrupt:
            worker.wait(ask("stop"))
            raise
        if worker.error is None and worker.run is before:
            if worker.warning:
                raise ValueError(worker.warning)
            raise RuntimeError(f"this run was not finished: the lab is {self.state}.")
        run = self.result()
        if not self.worker.watched:
            _show_plainly(run)
        return run

    def result(self) -> Run:
        """Return the last finished run; while one is running, wait for it.

        Raises:
            Exception: whatever went wrong in the thread.
            RuntimeError: if no run was finished yet.
        """
        self.worker.wait()
        if self.worker.error is not None:
            raise self.worker.error
        if self.worker.run is None:
            raise RuntimeError("no run is finished yet. Press Train and wait, press Stop, or call lab.run().")
        return self.worker.run

    def close(self) -> None:
        """Stop the training, join the thread and take the lab off the screen."""
        self.worker.close()
        self.landscape.close()
        self.screen.close()
        if _LABS.get(self.name) is self:
            del _LABS[self.name]

    def _repr_mimebundle_(self, **options: object) -> dict:
        return self.screen._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        trainer = self.trainer
        return f"Lab {self.name!r}: {self.state} at step {trainer.step:,} of {trainer.total:,}; {trainer.spec!r}"


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
