"""Explorers: a figure with a control for each choice of the function that draws it.

The function is pure, from choices to a figure, so a report shows the same picture as the screen.
"""

import html
import inspect
from collections.abc import Callable, Sequence

import ipywidgets as widgets

from labkit.lab.live_figure import PLOTLY, LiveFigure, packed

DEFAULT_HEIGHT = 420  # pixels, where the figure names none
WIDGET = "application/vnd.jupyter.widget-view+json"


class Explorer:
    """What `explore` returns: a bare one at the end of a cell shows itself.

    Attributes:
        widgets: The ipywidgets by the names of the choices; `explorer.widgets["depth"].value = 4` moves one.
        figure: The plotly figure as it is drawn now.
        sentence: What is said of it.
        view: The widget to display.
    """

    def __init__(self, draw: Callable, choices: dict[str, Sequence], pick: str | None) -> None:
        self._draw, self._pick = draw, pick
        starts = _starts(draw, choices, pick)
        self.widgets = {name: _control(name, stops, starts[name]) for name, stops in choices.items()}
        self._picked = starts.get(pick)
        self._live = LiveFigure(self._send, () if pick is None else self._picked)
        self._said = widgets.HTML()
        self._redraw()  # what goes wrong at once goes wrong in the cell
        for widget in self.widgets.values():
            widget.observe(self._answer, names="value")
        self._live.observe(self._move, names="picked")
        row = widgets.HBox([*self.widgets.values()])
        row.add_class("labkit-choices")
        self.view = widgets.VBox([row, self._live, self._said])
        self.view.add_class("labkit-explorer")

    @property
    def values(self) -> dict[str, object]:
        """What the choices are now."""
        picked = {} if self._pick is None else {self._pick: self._picked}
        return {name: widget.value for name, widget in self.widgets.items()} | picked

    def _move(self, change: dict) -> None:
        self._picked = tuple(change["new"])
        self._answer(change)

    def _answer(self, change: dict) -> None:
        """Draw what was chosen; an error is said in place, and the last picture stays."""
        try:
            self._redraw()
        except Exception as error:
            words = html.escape(f"{type(error).__name__}: {error}. Choose something else.")
            self._said.value = f"<div role='alert' class='labkit-said labkit-warning'>{words}</div>"
        else:
            self._send()

    def _redraw(self) -> None:
        drawn = self._draw(**self.values)
        self.figure, self.sentence = drawn if isinstance(drawn, tuple) else (drawn, "")
        layout = self.figure.layout
        layout.uirevision = layout.uirevision or "kept"  # a person's zoom stays
        layout.height = layout.height or DEFAULT_HEIGHT
        if self._pick is not None:
            layout.dragmode = False  # a drag moves the point
        self._said.value = f"<div role='status' class='labkit-said'>{html.escape(self.sentence)}</div>"

    def _send(self) -> None:
        self._live.show(self.figure)

    def _repr_mimebundle_(self, **options: object) -> dict:
        shown = self.view._repr_mimebundle_(**options)
        return {WIDGET: shown[WIDGET], PLOTLY: packed(self.figure.to_plotly_json()), "text/plain": repr(self)}

    def __repr__(self) -> str:
        chosen = ", ".join(f"{name} {_shown(value)}" for name, value in self.values.items())
        return f"Explorer of {self._draw.__name__}: {chosen}." + (f" {self.sentence}" if self.sentence else "")


def explore(draw: Callable, *, pick: str | None = None, **choices: Sequence) -> Explorer:
    """Show a picture with a control for each of its choices.

    In a report, and wherever no widgets are shown, the picture of the first choices stands there.

    Args:
        draw: From choices to a plotly figure, or to a figure and a sentence about it. Its own defaults are where the
            choices start.
        pick: A parameter of `draw`, a pair (x, y) that a click, a drag or the arrow keys move in the first axes.
        **choices: What a parameter of `draw` may be: numbers make a slider, words a menu, False and True a checkbox.

    Raises:
        ValueError: if a choice is no parameter of `draw`, or its default is not among what is offered.
        Exception: whatever `draw` raises for the first choices.
    """
    return Explorer(draw, choices, pick)


def _starts(draw: Callable, choices: dict[str, Sequence], pick: str | None) -> dict[str, object]:
    """The defaults of `draw`, checked against what is offered."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(draw).parameters.items()}
    for name in [*choices, *([] if pick is None else [pick])]:
        if name not in defaults:
            raise ValueError(f"{name!r} is no parameter of {draw.__name__}, which has {', '.join(defaults) or 'none'}.")
        if defaults[name] is inspect.Parameter.empty:
            raise ValueError(f"{draw.__name__} has no default for {name!r}: write {name}=… where it is defined.")
    for name, stops in choices.items():
        if not len(stops):
            raise ValueError(f"there is nothing to choose for {name!r}: list at least one value.")
        if defaults[name] not in stops:
            offered = ", ".join(map(_shown, stops))
            raise ValueError(f"{name!r} starts at {_shown(defaults[name])}, which is not offered: {offered}.")
    if pick is not None and not (isinstance(defaults[pick], tuple) and len(defaults[pick]) == 2):
        raise ValueError(f"{pick!r} starts at {defaults[pick]!r}: what is picked is a pair of numbers, (x, y).")
    return defaults


def _control(name: str, stops: Sequence, start: object) -> widgets.Widget:
    """A checkbox, a slider over the stops or a menu, as the values ask for."""
    label = name.replace("_", " ")
    if all(isinstance(stop, bool) for stop in stops):
        return widgets.Checkbox(value=start, description=label, indent=False, layout={"width": "auto"}, tabbable=True)
    if all(isinstance(stop, int | float) for stop in stops):
        options = [(_shown(stop), stop) for stop in stops]
        control = widgets.SelectionSlider(options=options, value=start, description=label, layout={"width": "300px"})
    else:
        control = widgets.Dropdown(options=list(stops), value=start, description=label, layout={"width": "auto"})
    control.style.description_width, control.tabbable = "auto", True
    return control


def _shown(value: object) -> str:
    """A value as a control shows it."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
