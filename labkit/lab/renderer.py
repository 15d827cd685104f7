"""Draws a trainer on a screen: the scene once a run, what moves as often as it is asked. It knows no threads."""

import math
import time

from labkit.core.predictions import for_plot, points_of
from labkit.core.runs import score_name
from labkit.core.trainer import Trainer
from labkit.lab.background import LandscapeView
from labkit.lab.view import Screen
from labkit.plots import charts, landscape_figure, learning_figure

MAP_POINTS, MAP_WORK = (24, 80), 4e8  # to a side of a map, and floating-point operations it may take
SENTENCE = 1.0  # seconds between two sentences, so that a screen reader can finish


class Renderer:
    """Draws one run after another on one screen."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self._scenes = 0
        self.begin()

    def begin(self) -> None:
        """Know nothing of the run before."""
        self._sight: LandscapeView | None = None
        self.forget()

    def forget(self) -> None:
        """Draw everything anew at the next call."""
        self._thinned: learning_figure.Thinned | None = None
        self._next_sentence = 0.0

    def draw(self, trainer: Trainer, *, at_rest: bool) -> None:
        """Draw what a trainer has come to, and say it if that is due; at rest it always is."""
        if self._thinned is None:
            self._thinned, self._seen, self._fresh = learning_figure.Thinned(), 0, True
            self._scenes += 1
        histories = self._histories(trainer)
        if self.screen.tab == "Learning":
            self._draw_learning(trainer, histories)
        now = time.perf_counter()
        if at_rest or now >= self._next_sentence:
            self._next_sentence = now + SENTENCE
            self._speak(trainer)

    def draw_ground(self, sight: LandscapeView | None = None) -> None:
        """Draw the landscape with the path on it where it is seen; without another sight, the last one anew."""
        self._sight = sight or self._sight
        if self._sight is not None and self.screen.tab == "Landscape":
            self.screen.lookout.draw(self._sight.plane, self._sight.trail, self._scenes)

    def _draw_learning(self, trainer: Trainer, histories: dict) -> None:
        """Draw the curves and what the network says; of a new run, the scene as well."""
        picture = for_plot(trainer.split, lambda x: trainer.predict(x)[0].cpu(), _points(trainer))
        scene = []
        if self._fresh:
            words = score_name(trainer.split), self.screen.log.value, self.screen.against.value
            scene = [learning_figure.static_layout(picture, points_of(trainer.split), *words, zoom=self._scenes)]
            self._fresh = False
        self.screen.draw(*scene, histories, learning_figure.prediction_update(picture, self.screen.discrete.value))

    def _histories(self, trainer: Trainer) -> dict:
        """The curves so far; of the training losses only the new ones are looked at."""
        losses = trainer.loss_of()
        self._thinned.add(losses[self._seen :].numpy())
        self._seen = len(losses)
        pace = trainer.seconds / max(1, trainer.step) if self.screen.against.value == "seconds" else 0.0
        test = [step for step, _, _ in trainer.evaluations], [float(loss) for _, loss, _ in trainer.evaluations]
        score = [float(score) for _, _, score in trainer.evaluations]
        return learning_figure.histories(self._thinned.curve(), test, score, seconds_per_step=pace)

    def _speak(self, trainer: Trainer) -> None:
        """Say what the open tab shows."""
        if self.screen.tab == "Landscape" and self._sight is not None:
            seen = self._sight
            words = landscape_figure.in_words(seen.plane, seen.trail), landscape_figure.units(seen.plane), seen.note
            self.screen.say(" ".join(filter(None, words)))
            return
        test = [float(loss) for _, loss, _ in trainer.evaluations]
        score = float(trainer.evaluations[-1][2])
        self.screen.say(charts.in_words(self._thinned.curve()[1], test, score, score_name(trainer.split)))


def _points(trainer: Trainer) -> int:
    """How many points to a side of a map: fewer for a network whose every answer is dear."""
    low, high = MAP_POINTS
    return int(min(high, max(low, math.sqrt(MAP_WORK / (2 * trainer.theta.shape[1])))))
