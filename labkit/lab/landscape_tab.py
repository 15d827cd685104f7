"""The lab's Landscape tab: what to look at, and the figure of it."""

from collections.abc import Callable, Sequence

import ipywidgets as widgets

from labkit.lab import texts
from labkit.lab.background import DIRECTIONS, SEEDED
from labkit.lab.live_figure import LiveFigure
from labkit.plots import landscape_figure
from labkit.plots.frames import apply

MARGIN_BELOW = {"3-D": 4, "contours": 38}  # pixels under the picture, for the title of its axis
HEIGHT = 278  # pixels of the picture: with two rows of controls it stands in the place of the network
WIDTHS = {"kind": "auto", "directions": "150px", "seed": "84px", "span": "150px", "log": "auto", "at": "190px"}


class LandscapeTab:
    """Everything in the Landscape tab.

    Args:
        ask: What a moved control calls, with a command and its arguments.

    Attributes:
        view: the widget to display.
        figure: the live figure, or None until somebody looks.
    """

    def __init__(self, ask: Callable[..., object]) -> None:
        self._ask = ask
        kinds = [(texts.KINDS[kind], kind) for kind in landscape_figure.KINDS]
        self.kind = widgets.ToggleButtons(options=kinds, value="contours")  # 3-D is slow where no GPU draws it
        self.directions = widgets.Dropdown(options=[(texts.DIRECTIONS.get(key, key), key) for key in DIRECTIONS])
        self.seed = widgets.BoundedIntText(0, 0, 10**6)
        self.span = widgets.FloatLogSlider(1.0, base=10, min=-1, max=1, step=0.1, readout_format=".2g")
        self.log = widgets.Checkbox(value=True, indent=False)
        self.at = widgets.IntSlider(0, 0, 0, readout=False)
        self.play = widgets.Play(interval=400, max=0, show_repeat=False)
        widgets.link((self.play, "value"), (self.at, "value"))
        self.when = widgets.Label()
        self.figure: LiveFigure | None = None
        self._steps: Sequence[int] = []
        self._drawn: dict = {}
        self._empty: dict = {}  # a figure made ahead, by its kind
        self._wait = widgets.HTML(f"<i>{texts.LANDSCAPE_COMES}</i>")
        self._charts = widgets.VBox([self._wait])
        self._dress()
        self._time = widgets.HBox([self.play, self.at, self.when], layout={"visibility": "hidden"})
        first, second = (widgets.HBox(row) for row in ([self.kind, self.directions, self.seed], [self.span, self.log]))
        for row in (first, second, self._time):
            row.add_class("labkit-row")
        self.view = widgets.VBox([first, widgets.HBox([second, self._time]), self._charts])

    def _dress(self) -> None:
        """Set labels, help and sizes, and listen."""
        for name, width in WIDTHS.items():
            option = getattr(self, name)
            option.description, option.tooltip = texts.LANDSCAPE[name]
            option.layout.width, option.style.description_width, option.tabbable = width, "auto", True
            if name in ("kind", "log"):
                option.observe(lambda change: self._ask("look", {}), names="value")  # drawn in another way
        for name in ("directions", "seed", "span"):
            listen = getattr(self, name).observe
            listen(lambda change, name=name: self._ask("look", {name: change["new"]}), names="value")
        self.at.observe(lambda change: self._look_at(), names="value")
        self.kind.style.button_width = "64px"
        self.directions.observe(self._hide_seed, names="value")

    def _hide_seed(self, change: dict) -> None:
        """Only some directions have a seed."""
        self.seed.layout.display = None if change["new"] in SEEDED else "none"

    @property
    def place(self) -> int | None:
        """Which kept step to look around; None is where training stands."""
        return self.at.value if self.at.value < len(self._steps) else None

    def _look_at(self) -> None:
        self._ask("look", {"at": self.place})

    def places(self, kept: Sequence[int], now: int) -> None:
        """Offer the steps whose weights are kept, besides the step where training stands."""
        if kept != self._steps:
            self._steps = kept
            self._time.layout.visibility = "visible" if kept else "hidden"
            self.at.max = self.play.max = len(kept)
            self.at.value = self.play.value = len(kept)
            self._look_at()  # the same number of the slider may mean another place now
        at = self.place
        self.when.value = texts.STEP_OF.format(now if at is None else kept[at], now) + texts.NOW * (at is None)

    def show_figure(self) -> None:
        """Make the live figure, once somebody looks at the lab."""
        if self.figure is None:
            self.figure = LiveFigure(lambda: self._ask("send"))
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
        self.figure.show(figure.update_layout(height=HEIGHT, margin_b=MARGIN_BELOW[kind], margin_t=30, margin_l=44))

    def close(self) -> None:
        """Take every widget out of the kernel."""
        queue: list[widgets.Widget] = [self.view]
        for widget in queue:
            queue += getattr(widget, "children", ())
        for widget in queue:
            for part in (getattr(widget, "layout", None), getattr(widget, "style", None), widget):
                if part is not None and hasattr(part, "close"):
                    part.close()

    def draw(self, plane: object, path: object, zoom: int) -> None:
        """Draw a plane and the path on it.

        Args:
            plane: A `labkit.landscape.planes.Plane`.
            path: A `labkit.landscape.trajectories.Trajectory`.
            zoom: The zoom is kept until this changes.
        """
        kind = self.kind.value
        frame = landscape_figure.frame(kind, plane, {"path": path}, log=self.log.value, zoom=zoom)
        frame["layout"]["annotations"] = []  # what a caption would say stands below the tabs
        anew, self._drawn = self._drawn.get("kind") != kind, {"kind": kind, "frame": frame}
        if anew:
            self.send_figure()
        else:
            self.figure.draw(frame)
