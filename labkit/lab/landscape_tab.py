"""The lab's Landscape tab: what to look at, and the figure of the ground. It knows no threads and no torch."""

from collections.abc import Callable, Sequence

import ipywidgets as widgets

from labkit.plots import landscape_figure, learning_figure
from labkit.plots.frames import apply

BELOW = {"3-D": 10, "contours": 55}  # pixels under the picture, for the title of its axis
CHOICES = {"random": "random", "path (PCA)": "path", "Hessian": "Hessian"}
HELP = {
    "directions": "which two of the many directions through weight space span the picture",
    "seed": "another seed draws other random directions",
    "span": "how far to look: twice as far shows four times the ground",
    "kind": "the same ground as a relief that you can turn, or as a map",
    "log": "draw losses by powers of ten",
    "at": "look around the weights that the network had at this step",
}
WAIT = "<i>The ground is being measured …</i>"


class LandscapeTab:
    """Everything in the Landscape tab.

    Args:
        ask: What a moved control calls, with a command.

    Attributes:
        view: the widget to display.
        figure: the live figure, or None until somebody looks.
    """

    def __init__(self, ask: Callable[..., None]) -> None:
        self._ask = ask
        self.directions = widgets.Dropdown(options=CHOICES, description="directions")
        self.seed = widgets.BoundedIntText(0, 0, 10**6, description="seed")
        self.span = widgets.FloatLogSlider(
            1.0, base=10, min=-1, max=1, step=0.1, description="span", readout_format=".2g"
        )
        self.kind = widgets.ToggleButtons(
            options=landscape_figure.KINDS, value="contours"
        )  # 3-D is slow where no GPU draws it
        self.log = widgets.Checkbox(value=True, description="log scale", indent=False)
        self.at = widgets.IntSlider(0, 0, 0, description="around step", readout=False)
        self.play = widgets.Play(interval=400, max=0, show_repeat=False)
        widgets.link((self.play, "value"), (self.at, "value"))
        self.when = widgets.Label("now")
        self.figure = None
        self._steps: Sequence[int] = []
        self._drawn: dict = {}
        self._empty: dict = {}  # a figure made ahead, by its kind
        self._wait = widgets.HTML(WAIT)
        self._charts = widgets.VBox([self._wait])
        self._dress()
        self._time = widgets.HBox([self.play, self.at, self.when], layout={"visibility": "hidden"})
        choices = widgets.HBox([self.kind, self.directions, self.seed, self.span, self.log])
        for row in (choices, self._time):
            row.add_class("labkit-row")
        self.view = widgets.VBox([choices, self._time, self._charts])

    def _dress(self) -> None:
        """Set sizes and help, and listen."""
        for name, width in (
            ("directions", "190px"),
            ("seed", "110px"),
            ("span", "230px"),
            ("at", "250px"),
            ("log", "auto"),
            ("kind", "auto"),
        ):
            option = getattr(self, name)
            option.tooltip, option.layout.width, option.tabbable = HELP[name], width, True
            option.style.description_width = "auto"
            option.observe(lambda change: self._ask("around"), names="value")
        self.kind.style.button_width = "78px"
        self.directions.observe(self._hide_seed, names="value")

    def _hide_seed(self, change: dict) -> None:
        """Only random directions have a seed."""
        self.seed.layout.display = None if change["new"] == "random" else "none"

    def chosen(self) -> dict:
        """Return what to look at, by the names of `labkit.lab.background.Options`."""
        at = self.at.value if self.at.value < len(self._steps) else None
        return {"directions": self.directions.value, "seed": self.seed.value, "span": self.span.value, "at": at}

    def places(self, steps: Sequence[int], now: int, moving: bool) -> None:
        """Offer the steps whose weights were kept; while training moves on, only the present one.

        Args:
            steps: When weights were kept.
            now: The step where training stands.
            moving: Whether it goes on.
        """
        kept = [] if moving else [step for step in steps if step < now]
        if kept != self._steps:
            self._steps = kept
            self._time.layout.visibility = "visible" if kept else "hidden"
            self.at.max = self.play.max = len(kept)
            self.at.value = self.play.value = len(kept)
            self._ask("around")  # the same number of the slider may mean another place now
        at = self.chosen()["at"]
        self.when.value = f"{now if at is None else kept[at]:,} of {now:,}" + (" (now)" if at is None else "")

    def show_figure(self) -> None:
        """Make the live figure, once somebody looks at the lab."""
        if self.figure is None:
            from labkit.lab.live_figure import LiveFigure  # brings plotly, which is of no use while nobody is looking

            self.figure = LiveFigure(lambda: self._ask("ground"))
            self._charts.children = [self._wait, self.figure]  # closing what a browser just builds a view of breaks it

    def send_figure(self) -> None:
        """Send the whole figure as it is now; with nothing to send yet, make ready for it."""
        kind = self._drawn.get("kind", self.kind.value)
        empty = self._empty.pop(kind, None)
        if empty is None:
            empty = landscape_figure.blank(kind)  # a tenth of a second, the first time
        if not self._drawn:
            self._empty[kind] = empty
            return
        self._wait.value = ""
        figure = apply(empty, self._drawn["frame"])
        self.figure.show(figure.update_layout(height=learning_figure.LEARNING_HEIGHT, margin_b=BELOW[kind]))

    def draw(self, plane: object, trail: object, zoom: int) -> None:
        """Draw a plane and the path on it.

        Args:
            plane: A `labkit.landscape.planes.Plane`.
            trail: A `labkit.landscape.trajectories.Trajectory`.
            zoom: A person's zoom is kept until this changes.
        """
        kind = self.kind.value
        frame = landscape_figure.frame(kind, plane, {"path": trail}, log=self.log.value, zoom=zoom)
        frame["layout"]["annotations"] = []  # what a caption would say stands below the tabs
        anew, self._drawn = self._drawn.get("kind") != kind, {"kind": kind, "frame": frame}
        if anew:
            self.send_figure()
        else:
            self.figure.draw(frame)
