"""The lab on the screen: buttons, status, tabs and the live figure, drawn from a `View`; it knows no threads."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anywidget
import ipywidgets as widgets
import numpy as np
import traitlets

from labkit.lab.landscape_tab import LandscapeTab
from labkit.lab.live_figure import PLOTLY, STATIC, LiveFigure, packed
from labkit.plots.frames import apply, merge

BUTTONS = {  # label → what it does
    "Train": "train until the last step, or until you pause; after a finished run, a new one",
    "Pause": "hold the training where it is",
    "Step": "make one update of the weights",
    "Stop": "end this run here and keep it",
    "Reset": "start over with what the controls say",
    "Pin": "keep this run to compare it with others",
}
FINISHED = ("done", "stopped", "failed")
ENABLED = {  # state → buttons that do something
    "idle": {"Train", "Step", "Reset"},
    "running": {"Pause", "Stop", "Reset", "Pin"},
    "paused": {"Train", "Step", "Stop", "Reset", "Pin"},
    "done": {"Train", "Reset", "Pin"},
    "stopped": {"Train", "Reset", "Pin"},
    "failed": {"Train", "Reset"},
}
SPEEDS = {"slow: 30 steps/s": 30, "watch: 300 steps/s": 300, "fast: 3,000 steps/s": 3000, "full speed": float("inf")}
WATCH = 300
SPEED_HELP = "how fast to train while you watch; the numbers are the same, and seconds count the computing alone"
DISCRETE_HELP = "colour the map by the answer alone, not by how sure the network is"
TABS = ("Learning", "Landscape", "Compare", "Share")


class Ready(anywidget.AnyWidget):
    """Tells the kernel that somebody is looking, whenever a front end shows the lab.

    It also keeps JupyterLab's one-letter shortcuts out of the lab: in a menu of ours, typing "m" for
    momentum would turn the cell into Markdown and the lab would be gone.
    """

    _esm, _css = STATIC / "ready.js", STATIC / "lab.css"


class Copy(anywidget.AnyWidget):
    """A button that copies `text` to the clipboard."""

    _esm = STATIC / "copy.js"
    text = traitlets.Unicode().tag(sync=True)


@dataclass(frozen=True)
class View:
    """What is to be seen just now."""

    state: str
    step: int
    total: int
    epoch: float
    seconds: float
    pace: float  # steps a second
    parameters: int
    device: str
    share: str
    code: str
    pending: Sequence[str] = ()  # choices that wait for a reset
    warning: str = ""
    note: str = ""


@dataclass
class Screen:
    """Everything on the screen, and the one place that writes to it.

    Attributes:
        controls: the column of choices.
        ask: what a button calls, with a command and its argument.
        view: the widget to display.
        figure: the live figure, or None while nobody is looking.
    """

    controls: widgets.Widget
    ask: Callable[..., None]
    figure: object = field(default=None, init=False)
    _drawn: dict = field(default_factory=lambda: {"traces": {}, "layout": {}}, init=False)

    def __post_init__(self) -> None:
        self.buttons = {name: self._button(name) for name in BUTTONS}
        self.buttons["Train"].button_style = "primary"
        self.status = widgets.HTML()
        self.sentence = widgets.HTML()
        self._make_options()
        self.ready = Ready()
        self.ready.on_msg(lambda widget, content, buffers: self.ask("show"))
        self._charts = widgets.VBox([widgets.HTML(WAIT)])
        self._compare = widgets.Output()
        self._table = widgets.HTML(NO_PINS)
        self.lookout = LandscapeTab(self.ask)
        clear = widgets.Button(description="Unpin all", tooltip="forget the pinned runs")
        clear.on_click(lambda button: self.ask("unpin"))
        self.tabs = widgets.Tab(
            [
                widgets.VBox([_row(self.log, self.discrete, self.against), self._charts]),
                self.lookout.view,
                widgets.VBox([self._table, self._compare, _row(clear)]),
                self._share_tab(),
            ],
            titles=TABS,
        )
        self.tabs.observe(lambda change: self.ask("turn"), names="selected_index")
        right = widgets.VBox([_row(*self.buttons.values(), self.speed), self.status, self.tabs, self.sentence])
        right.add_class("labkit-right")
        main = widgets.HBox([self.controls, right])
        main.add_class("labkit-main")
        self.view = widgets.VBox([main, self.ready])
        self.view.add_class("labkit")

    def _make_options(self) -> None:
        """Make what changes the drawing and its speed, never the numbers."""
        self.log = widgets.Checkbox(
            value=True, description="log scale", indent=False, tooltip="draw losses by powers of ten"
        )
        self.against = widgets.ToggleButtons(options=["steps", "seconds"], tooltip="what the curves are drawn against")
        self.against.style.button_width = "74px"
        self.speed = widgets.Dropdown(options=SPEEDS, value=WATCH, description="speed", tooltip=SPEED_HELP)
        self.discrete = widgets.Checkbox(description="only the answer", indent=False, tooltip=DISCRETE_HELP)
        for option in (self.log, self.discrete, self.against, self.speed):
            option.layout.width = "auto"
            option.style.description_width = "auto"
            option.tabbable = True
            option.observe(lambda change: self.ask("redraw"), names="value")

    def _button(self, name: str) -> widgets.Button:
        button = widgets.Button(description=name, tooltip=BUTTONS[name], tabbable=True)
        button.on_click(lambda clicked: self.ask(name.lower()))
        return button

    def _share_tab(self) -> widgets.VBox:
        style = {"description_width": "90px"}
        line = {"layout": widgets.Layout(flex="1 1 0", min_width="0"), "style": style}
        self.share = widgets.Text(description="share string", disabled=True, **line)
        self.code = widgets.Textarea(description="Python", disabled=True, rows=5, **line)
        self.copies = Copy(), Copy()
        self.load = widgets.Text(description="open one", placeholder="paste a share string here", **line)
        apply = widgets.Button(description="Open", tooltip="move the controls to what the share string says")
        apply.on_click(lambda button: self.ask("open", self.load.value))
        rows = [(self.share, self.copies[0]), (self.code, self.copies[1]), (self.load, apply)]
        return widgets.VBox([widgets.HBox(row) for row in rows])

    @property
    def tab(self) -> str:
        """Which tab is open."""
        return TABS[self.tabs.selected_index or 0]

    # Drawing

    def show(self, view: View) -> None:
        """Draw the buttons and the lines of text from the state."""
        few = ", ".join(view.pending) if len(view.pending) <= 3 else f"{len(view.pending)} changes"
        waiting = f" to apply {few}" if view.pending else ""
        for name, button in self.buttons.items():
            button.disabled = name not in ENABLED[view.state]
        self.buttons["Train"].description = "Train again" if view.state in FINISHED else "Train"
        self.buttons["Reset"].description = "Reset" + waiting
        self.buttons["Reset"].button_style = "warning" if waiting else ""
        self.status.value = status_line(view)
        self.share.value = self.copies[0].text = view.share
        self.code.value = self.copies[1].text = view.code

    def say(self, sentence: str) -> None:
        """Write the one sentence below the charts, which a screen reader speaks."""
        self.sentence.value = f"<div role='status'>{html.escape(sentence)}</div>"

    def show_figure(self) -> None:
        """Make the live figure, once somebody is looking."""
        if self.figure is None:
            waiting, self.figure = self._charts.children, LiveFigure(lambda: self.ask("view"))
            self._charts.children = [self.figure]
            _close(*waiting)

    def send_figure(self) -> None:
        """Send the figure as it is now, for a front end that just came."""
        from labkit.plots import learning_figure

        self.figure.show(apply(learning_figure.blank(), self._drawn))

    def draw(self, *frames: dict) -> None:
        """Write frames into the live figure, as one message."""
        frame: dict = {"traces": {}, "layout": {}}
        for part in frames:
            merge(frame, part)
        merge(self._drawn, frame)
        self.figure.draw(frame)

    def close(self) -> None:
        """Take every widget off the screen and out of the kernel."""
        _close(self.view)

    def show_pins(self, pins: dict[str, object]) -> None:
        """Draw the pinned runs, and what they came to as a table."""
        if not pins:
            self._table.value, self._compare.outputs = NO_PINS, ()
            return
        from labkit.plots import charts

        figure = packed(charts.compare(pins, log=self.log.value).to_plotly_json())
        bundle = {PLOTLY: figure, "text/plain": "pinned runs"}
        self._compare.outputs = ({"output_type": "display_data", "data": bundle, "metadata": {}},)
        self._table.value = table(pins)


def _row(*children: widgets.Widget) -> widgets.HBox:
    """A row that goes on in a second line where it is too narrow."""
    row = widgets.HBox(children)
    row.add_class("labkit-row")
    return row


def _close(*queue: widgets.Widget) -> None:
    """Close widgets and everything in them."""
    queue = list(queue)
    for widget in queue:
        queue += getattr(widget, "children", ())
    for widget in queue:
        for part in (getattr(widget, "layout", None), getattr(widget, "style", None), widget):
            if part is not None and hasattr(part, "close"):
                part.close()


WAIT = "<i>The charts are on their way. While other cells of the notebook run, they wait for those.</i>"
NO_PINS = "Pin up to six runs with the button <b>Pin</b> above; they are compared here, against steps and seconds."


def status_line(view: View) -> str:
    """Return the line under the buttons, and what else there is to say, as HTML."""
    facts = [
        f"<span class='labkit-state'>{view.state}</span>",
        f"step {view.step:,} of {view.total:,}",
        f"epoch {view.epoch:,.1f}",
        f"{view.seconds:.2g} s of training" if view.seconds < 10 else f"{view.seconds:,.0f} s of training",
        f"{view.pace:,.0f} steps/s",
        f"{view.parameters:,} parameters",
        html.escape(view.device),
    ]
    lines = [" · ".join(facts)]
    if view.note:
        lines.append(html.escape(view.note))
    if view.warning:
        lines.append(f"<span class='labkit-warning'>⚠ {html.escape(view.warning)}</span>")
    return "".join(f"<div class='labkit-line'>{line}</div>" for line in lines)


def table(pins: dict[str, object]) -> str:
    """Return what the pinned runs came to, as an HTML table."""
    rows = ["<tr><th>run</th><th>steps</th><th>seconds</th><th>test loss</th><th>score</th><th></th></tr>"]
    for name, run in pins.items():
        cells = [name, f"{run.steps:,}", f"{run.seconds:.2f}", _last(run.test_loss), _last(run.score), run.score_name]
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    apart = [what for what in ("dataset", "loss") if len({getattr(run.spec, what) for run in pins.values()}) > 1]
    warning = f"<p>These runs differ in {' and '.join(apart)}: compare their scores, not their losses.</p>" * bool(
        apart
    )
    return f"<table class='labkit-table'>{''.join(rows)}</table>{warning}"


def _last(values: np.ndarray) -> str:
    return f"{values[-1]:.4g}" if len(values) and np.isfinite(values[-1]) else "–"
