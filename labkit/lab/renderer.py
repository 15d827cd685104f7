"""Draws what a worker publishes on a screen: the layout once a run, what moves as often as it is asked."""

import math
import time

from labkit.core.predictions import for_plot, points_of
from labkit.core.runs import score_name
from labkit.core.trainer import Trainer
from labkit.lab.background import LandscapeView
from labkit.lab.view import Screen
from labkit.lab.worker import Status
from labkit.plots import charts, landscape_figure, learning_figure

MAP_POINTS, MAP_WORK = (24, 80), 4e8  # to a side of a map, and floating-point operations it may take
SENTENCE_GAP = 1.0  # seconds between two sentences, so that a screen reader can finish


class Renderer:
    """Draws one run after another on one screen."""

    def __init__(self, screen: Screen) -> None:
        self.screen, self.move, self.show_pins = screen, screen.controls.move, screen.show_pins
        self._layouts = 0  # drawn so far; a zoom is kept within each
        self.begin()

    def begin(self) -> None:
        """Begin a new run."""
        self.picture: LandscapeView | None = None
        self.screen.landscape.places([], 0)
        self.redraw()

    def redraw(self) -> None:
        """Draw everything again at the next call, maybe in another way."""
        self._thinned: learning_figure.Thinned | None = None
        self._next_sentence = 0.0

    def attach(self) -> None:
        """Make the figures at the first call, and draw all again: a front end came."""
        self.screen.show_figure()
        self.screen.landscape.show_figure()
        self.redraw()

    def send(self, figure: str) -> None:
        """Send all of a figure, "learning" or "landscape", to a page that asks for it."""
        {"learning": self.screen, "landscape": self.screen.landscape}[figure].send_figure()

    def show(self, status: Status) -> None:
        """Show what stands now."""
        self.screen.show(status)
        self.screen.landscape.places(status.kept, status.step)

    def draw(self, trainer: Trainer, *, at_rest: bool) -> None:
        """Draw what a trainer has come to, and say it if that is due; at rest it always is."""
        if self._thinned is None:
            self._thinned, self._seen, self._fresh = learning_figure.Thinned(), 0, True
            self._layouts += 1
        histories = self._histories(trainer)
        if self.screen.tab == "learning":
            self._draw_learning(trainer, histories)
        now = time.perf_counter()
        if at_rest or now >= self._next_sentence:
            self._next_sentence = now + SENTENCE_GAP
            self._speak(trainer)

    def draw_landscape(self, picture: LandscapeView | None = None) -> None:
        """Draw the landscape where it is seen; without another picture, the last one again."""
        self.picture = picture or self.picture
        if self.picture is not None and self.screen.tab == "landscape":
            self.screen.landscape.draw(self.picture.plane, self.picture.trail, self._layouts)

    def _draw_learning(self, trainer: Trainer, histories: dict) -> None:
        """Draw the curves and the predictions; of a new run, the layout as well."""
        picture = for_plot(trainer.split, lambda x: trainer.predict(x)[0].cpu(), _points(trainer))
        layout = []
        if self._fresh:
            words = score_name(trainer.split), self.screen.log.value, self.screen.against.value
            layout = [learning_figure.static_layout(picture, points_of(trainer.split), *words, zoom=self._layouts)]
            self._fresh = False
        self.screen.draw(*layout, histories, learning_figure.prediction_update(picture, self.screen.discrete.value))

    def _histories(self, trainer: Trainer) -> dict:
        """The curves so far; of the training losses only the new ones are read."""
        losses = trainer.loss_of()
        self._thinned.add(losses[self._seen :].numpy())
        self._seen = len(losses)
        pace = trainer.seconds / max(1, trainer.step) if self.screen.against.value == "seconds" else 0.0
        steps, test, score = _evaluations(trainer)
        return learning_figure.histories(self._thinned.curve(), (steps, test), score, seconds_per_step=pace)

    def _speak(self, trainer: Trainer) -> None:
        """Say what the open tab shows."""
        if self.screen.tab == "landscape" and self.picture is not None:
            seen = self.picture
            words = landscape_figure.in_words(seen.plane, seen.trail), landscape_figure.units(seen.plane), seen.note
            self.screen.say(" ".join(filter(None, words)))
            return
        steps, test, score = _evaluations(trainer)
        self.screen.say(charts.in_words(self._thinned.curve()[1], test, score[-1], score_name(trainer.split), steps))


def _evaluations(trainer: Trainer) -> tuple[list[int], list[float], list[float]]:
    """When the test set was evaluated, and with which losses and scores."""
    steps, losses, scores = zip(*trainer.evaluations, strict=True)
    return list(steps), [float(loss) for loss in losses], [float(score) for score in scores]


def _points(trainer: Trainer) -> int:
    """How many points to a side of a map: fewer for a network whose every answer is dear."""
    low, high = MAP_POINTS
    return int(min(high, max(low, math.sqrt(MAP_WORK / (2 * trainer.theta.shape[1])))))
