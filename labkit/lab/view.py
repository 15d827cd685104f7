"""The lab on the screen: buttons, status, tabs and the live figure, drawn from a worker's `Status`."""

import html
from collections.abc import Callable

import anywidget
import ipywidgets as widgets
import numpy as np
import traitlets

from labkit.core.runs import Run
from labkit.core.spec import RULES
from labkit.lab import texts
from labkit.lab.controls import Controls
from labkit.lab.landscape_tab import LandscapeTab
from labkit.lab.live_figure import PLOTLY, STATIC, LiveFigure, packed
from labkit.lab.pacing import WATCH_SPEED
from labkit.lab.worker import FINISHED, Status
from labkit.plots import charts, learning_figure
from labkit.plots.frames import apply, merge

BUTTONS = ("train", "pause", "step", "stop", "reset", "pin")  # commands
ENABLED = {  # state → buttons that do something
    "idle": {"train", "step", "reset"},
    "running": {"pause", "stop", "reset", "pin"},
    "paused": {"train", "step", "stop", "reset", "pin"},
    "done": {"train", "reset", "pin"},
    "stopped": {"train", "reset", "pin"},
    "failed": {"train", "reset"},
}
TABS = ("learning", "landscape", "compare", "share")


class Ready(anywidget.AnyWidget):
    """Tells the kernel that somebody is looking, whenever a front end shows the lab, and brings the lab's styles."""

    _esm, _css = STATIC / "ready.js", STATIC / "lab.css"


class Copy(anywidget.AnyWidget):
    """A button that copies `text` to the clipboard."""

    _esm = STATIC / "copy.js"
    text = traitlets.Unicode().tag(sync=True)
    labels = traitlets.List().tag(sync=True)


class Screen:
    """Everything on the screen, and the one place that writes to it.

    Args:
        controls: The column of choices.
        ask: What a button calls, with a command and its arguments.

    Attributes:
        view: the widget to display.
        figure: the live figure, or None while nobody is looking.
        landscape: the Landscape tab.
    """

    def __init__(self, controls: Controls, ask: Callable[..., object]) -> None:
        self.controls, self.ask = controls, ask
        self.figure: LiveFigure | None = None
        self._drawn: dict = {"traces": {}, "layout": {}}
        self.buttons = {command: self._button(command) for command in BUTTONS}
        self.buttons["train"].button_style = "primary"
        self.status, self.sentence = widgets.HTML(), widgets.HTML()
        self.landscape = LandscapeTab(ask)
        self._make_options()
        self.ready = Ready()
        self.ready.on_msg(lambda widget, content, buffers: self.ask("show"))
        self.tabs: widgets.Tab = self._make_tabs()
        right = widgets.VBox([row(*self.buttons.values(), self.speed), self.status, self.tabs, self.sentence])
        right.add_class("labkit-right")
        main = widgets.HBox([controls.view, right])
        main.add_class("labkit-main")
        self.view = widgets.VBox([main, self.ready])
        self.view.add_class("labkit")

    def _button(self, command: str) -> widgets.Button:
        label, meaning = texts.BUTTONS[command]
        button = widgets.Button(description=label, tooltip=meaning, tabbable=True)
        button.on_click(lambda clicked: self.ask(command))
        return button

    def _make_options(self) -> None:
        """Make what changes the drawing and its speed, never the numbers."""
        self.log = widgets.Checkbox(value=True, indent=False)
        self.against = widgets.ToggleButtons(options=[(texts.AGAINST[key], key) for key in learning_figure.AGAINST])
        self.against.style.button_width = "74px"
        speeds = [(label, speed) for speed, label in texts.SPEEDS.items()]
        self.speed = widgets.Dropdown(options=speeds, value=WATCH_SPEED)
        self.discrete = widgets.Checkbox(indent=False)
        for name in ("log", "discrete", "against", "speed"):
            option = getattr(self, name)
            option.description, option.tooltip = texts.OPTIONS[name]
            option.layout.width = option.style.description_width = "auto"
            option.tabbable = True
            if option is not self.speed:
                option.observe(lambda change: self.ask("redraw"), names="value")
        self.speed.observe(lambda change: self.ask("speed", change["new"]), names="value")

    def _make_tabs(self) -> widgets.Tab:
        self._charts = widgets.VBox([widgets.HTML(f"<i>{texts.CHARTS_COME}</i>")])
        self._compare, self._table = widgets.Output(), widgets.HTML(texts.NO_PINS)
        pages = {
            "learning": widgets.VBox([row(self.log, self.discrete, self.against), self._charts]),
            "landscape": self.landscape.view,
            "compare": widgets.VBox([self._table, self._compare, row(self._button("unpin"))]),
            "share": self._share_tab(),
        }
        tabs = widgets.Tab([pages[key] for key in TABS], titles=[texts.TABS[key] for key in TABS])
        tabs.observe(lambda change: self.ask("turn", self.tab), names="selected_index")
        return tabs

    def _share_tab(self) -> widgets.VBox:
        line = {"layout": widgets.Layout(flex="1 1 0", min_width="0"), "style": {"description_width": "90px"}}
        self.share = widgets.Text(description=texts.SHARE["share"], disabled=True, **line)
        self.code = widgets.Textarea(description=texts.SHARE["code"], disabled=True, rows=5, **line)
        self.copies = [Copy(labels=[texts.COPY, texts.COPIED, texts.COPY_HELP]) for _ in range(2)]
        self.load = widgets.Text(description=texts.SHARE["load"], placeholder=texts.PASTE, **line)
        label, meaning = texts.BUTTONS["open"]
        apply = widgets.Button(description=label, tooltip=meaning)
        apply.on_click(lambda button: self.ask("open", self.load.value))
        rows = [(self.share, self.copies[0]), (self.code, self.copies[1]), (self.load, apply)]
        return widgets.VBox([widgets.HBox(row) for row in rows])

    @property
    def tab(self) -> str:
        """Which tab is open, of `TABS`."""
        return TABS[self.tabs.selected_index or 0]

    def show(self, status: Status) -> None:
        """Draw the controls, the buttons and the lines of text from the state."""
        self.controls.show(status.chosen)
        names = [texts.field(name) for name in status.pending]
        changes = ", ".join(names) if len(names) <= 3 else texts.CHANGES.format(len(names))
        for command, button in self.buttons.items():
            button.disabled = command not in ENABLED[status.state]
        train, reset = self.buttons["train"], self.buttons["reset"]
        train.description = texts.TRAIN_AGAIN if status.state in FINISHED else texts.BUTTONS["train"][0]
        reset.description = texts.RESET_TO_APPLY.format(changes) if names else texts.BUTTONS["reset"][0]
        reset.button_style = "warning" if names else ""
        self.status.value = status_line(status)
        self.share.value = self.copies[0].text = status.share
        self.code.value = self.copies[1].text = status.code

    def say(self, sentence: str) -> None:
        """Write the one sentence below the charts, which a screen reader speaks."""
        self.sentence.value = f"<div role='status'>{html.escape(sentence)}</div>"

    def show_figure(self) -> None:
        """Make the live figure, once somebody is looking."""
        if self.figure is None:
            waiting, self.figure = self._charts.children, LiveFigure(lambda: self.ask("send", "learning"))
            self._charts.children = [self.figure]
            _close(*waiting)

    def send_figure(self) -> None:
        """Send the figure as it is now, for a front end that just came."""
        self.figure.show(apply(learning_figure.blank(), self._drawn))

    def draw(self, *frames: dict) -> None:
        """Write frames into the live figure, as one message."""
        frame: dict = {"traces": {}, "layout": {}}
        for part in frames:
            merge(frame, part)
        merge(self._drawn, frame)
        self.figure.draw(frame)

    def show_pins(self, pins: list[Run]) -> None:
        """Draw the pinned runs, and their results as a table."""
        if not pins:
            self._table.value, self._compare.outputs = texts.NO_PINS, ()
            return
        runs = named(pins)
        figure = packed(charts.compare(runs, log=self.log.value).to_plotly_json())
        bundle = {PLOTLY: figure, "text/plain": "pinned runs"}
        self._compare.outputs = ({"output_type": "display_data", "data": bundle, "metadata": {}},)
        self._table.value = table(runs)

    def close(self) -> None:
        """Take every widget off the screen and out of the kernel."""
        _close(self.view)


def row(*children: widgets.Widget) -> widgets.HBox:
    """Return a row that goes on in a second line where it is too narrow."""
    box = widgets.HBox(children)
    box.add_class("labkit-row")
    return box


def _close(*queue: widgets.Widget) -> None:
    """Close widgets and everything in them."""
    queue = list(queue)
    for widget in queue:
        queue += getattr(widget, "children", ())
    for widget in queue:
        for part in (getattr(widget, "layout", None), getattr(widget, "style", None), widget):
            if part is not None and hasattr(part, "close"):
                part.close()


def status_line(status: Status) -> str:
    """Return the line under the buttons, and what else there is to say, as HTML."""
    seconds = f"{status.seconds:.2g}" if status.seconds < 10 else f"{status.seconds:,.0f}"
    facts = [
        f"<span class='labkit-state'>{texts.STATES[status.state]}</span>",
        f"step {status.step:,} of {status.total:,}",
        f"epoch {status.epoch:,.1f}",
        f"{seconds} s of training",
        f"{status.rate:,.0f} steps/s",
        f"{status.parameters:,} parameters",
        html.escape(status.device),
    ]
    lines = [" · ".join(facts)]
    if status.note:
        lines.append(html.escape(status.note))
    if status.warning:
        lines.append(f"<span class='labkit-warning'>⚠ {html.escape(status.warning)}</span>")
    return "".join(f"<div class='labkit-line'>{line}</div>" for line in lines)


def named(runs: list[Run]) -> dict[str, Run]:
    """Name runs by a letter and by what sets them apart from each other."""
    names = {}
    for letter, run in zip("ABCDEF", runs, strict=False):
        apart = [n for n in RULES if any(getattr(other.spec, n) != getattr(run.spec, n) for other in runs)]
        names[f"{letter}: " + (", ".join(f"{n} {getattr(run.spec, n)}" for n in apart) or "as it stands")] = run
    return names


def table(runs: dict[str, Run]) -> str:
    """Return the results of named runs as an HTML table."""
    rows = ["<tr>" + "".join(f"<th>{column}</th>" for column in texts.PIN_COLUMNS) + "</tr>"]
    for name, run in runs.items():
        cells = [name, f"{run.steps:,}", f"{run.seconds:.2f}", _last(run.test_loss), _last(run.score), run.score_name]
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    apart = [what for what in ("dataset", "loss") if len({getattr(run.spec, what) for run in runs.values()}) > 1]
    words = f"<p>These runs differ in {' and '.join(apart)}: compare their scores, not their losses.</p>"
    return f"<table class='labkit-table'>{''.join(rows)}</table>{words if apart else ''}"


def _last(values: np.ndarray) -> str:
    return f"{values[-1]:.4g}" if len(values) and np.isfinite(values[-1]) else "–"
