"""Draws what a worker publishes: traits of the screen, the Landscape tab, and the one sentence."""

from collections.abc import Callable
from typing import Any

from labkit.core.costs import cost
from labkit.core.recipes import recipe
from labkit.core.spec import Spec
from labkit.core.trainer import Trainer
from labkit.lab.background import LandscapeView
from labkit.lab.landscape_tab import LandscapeTab
from labkit.lab.scene import frame_of, scene_of
from labkit.lab.screen import Screen, choices_of, menus_of
from labkit.lab.sentences import sentence
from labkit.lab.status import Status
from labkit.plots import landscape_figure

WAYS = {"kernel": "compiled loop", "torch": "PyTorch"}


class Renderer:
    """Draws one run after another on one screen.

    Args:
        screen: The widget.
        landscape: Its Landscape tab.
        move: Called with a spec when it is chosen.
    """

    def __init__(self, screen: Screen, landscape: LandscapeTab, move: Callable[[Spec], object]) -> None:
        self.screen, self.landscape, self.move = screen, landscape, move
        self._number, self.tab = 0, "network"  # of the scene, and which part of the screen is open
        self._chosen: tuple[Spec, bool] | None = None
        self.others: list[dict[str, Any]] = []  # the same with other seeds
        self.picture: LandscapeView | None = None

    def begin(self, trainer: Trainer) -> None:
        """Show a new run: its data, its network and its first weights."""
        self._number += 1
        self.others, self.picture = [], None
        self.landscape.places([], 0)
        with self.screen.hold_trait_notifications():
            self.screen.scene = scene_of(trainer, self._number)
            self.screen.frame = frame_of(trainer, self._number)

    def show(self, status: Status, trainer: Trainer) -> None:
        """Show what stands now, in words and numbers."""
        chosen = status.chosen, "data" in trainer.own
        if chosen != self._chosen:
            self._chosen = chosen
            self.screen.menus, self.screen.choices = menus_of(*chosen), choices_of(status.chosen)
        ends = {"inputs": trainer.split.inputs, "outputs": trainer.split.outputs, "batch": trainer.batch}
        spec = trainer.spec if trainer.spec.steps == trainer.total else trainer.spec.but(steps=trainer.total)
        words = " ".join(filter(None, (status.note, self._words(status, trainer))))
        self.screen.status = {
            "state": status.state, "total": trainer.total, "rate": status.rate, "sentence": words,
            "parameters": cost(trainer.spec, **ends).parameters, "warning": status.warning,
            "way": f"{WAYS[trainer.stepper.way]} on {trainer.device.why}", "share": spec.share(),
            "code": recipe(spec, trainer.lr_changes, trainer.own, trainer.edits), "pins": status.pins,
            "can_undo": status.can_undo, "can_redo": status.can_redo, "goal": status.goal,
        }  # fmt: skip
        if self.screen.settings["instant"] != status.instant or self.screen.settings["speed"] != status.speed:
            self.screen.settings = self.screen.settings | {"instant": status.instant, "speed": status.speed}
        self.landscape.places(status.kept, trainer.step)

    def _words(self, status: Status, trainer: Trainer) -> str:
        """Say what the open tab shows."""
        seen = self.picture
        if self.tab != "landscape" or seen is None:
            return sentence(trainer, status.state)
        words = landscape_figure.in_words(seen.plane, seen.trail).split(". ")
        kept = [words[0], *(each for each in words[1:] if "directions" in each)]  # there is room for a line
        return " ".join(f"{each.rstrip('.')}." for each in kept) + (f" {seen.note}" if seen.note else "")

    def resend(self) -> None:
        """Send the choices again: a field of the screen may show one that was refused."""
        self._chosen, self.screen.choices = None, {}

    def draw(self, trainer: Trainer) -> None:
        """Send the weights and curves as they are now."""
        self.screen.frame = frame_of(trainer, self._number, self.others)

    def draw_landscape(self, picture: LandscapeView | None = None) -> None:
        """Draw the landscape; without another picture, the last one again."""
        self.picture = picture or self.picture
        if self.picture is not None and self.tab == "landscape":
            self.landscape.draw(self.picture.plane, self.picture.trail, self._number)
