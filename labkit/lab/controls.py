"""ipywidgets for the choices of a `Spec`: a labelled control for every field.

Each control takes its menu, bounds and help from the rules that check the values. Controls whose field has no
meaning just now are hidden.
"""

import threading
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from labkit.core.rules import Menu, Number, Whole
from labkit.core.spec import CSV, RULES, Spec
from labkit.lab import texts
from labkit.lab.choices import LIVE, meaningful, shown

GROUPS = {
    "data": ("dataset", "csv", "samples", "noise", "train_share", "inputs", "seed"),
    "network": ("depth", "width", "shape", "activation", "init", "residual"),
    "training": ("loss", "huber_delta", "optimizer", "lr", "momentum", "batch_size", "l1", "l2", "steps", "device"),
}
ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
SIZES = (10, 20, 50, 100, 200, 300, 500, 1000, 2000, 5000, 10_000)
STRENGTHS = (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
STOPS = {  # the stops of a slider; a value between them, or beyond, becomes one more stop
    "samples": SIZES,
    "width": ROWS,
    "batch_size": (0, *ROWS),
    "l1": STRENGTHS,
    "l2": STRENGTHS,
    "noise": tuple(k / 20 for k in range(11)),
    "train_share": tuple(k / 10 for k in range(1, 11)),
    "momentum": (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99),
    "huber_delta": (0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
    "lr": (*(float(f"{digit}e{power}") for power in range(-5, 1) for digit in (1, 2, 3, 5, 7)), 10.0, 100.0),
    "depth": tuple(range(13)),
}


class Controls:
    """A control for every field of a `Spec`.

    Args:
        spec: Where they begin.
        changed: Called with {field: value} when somebody moved one.
        own_data: Whether the user passed arrays, so that no data set is to be chosen.

    Attributes:
        widgets: the ipywidgets by field; the dataset `CSV` takes its path from the control "csv".
        view: all of them, in groups.
    """

    def __init__(self, spec: Spec, changed: Callable[[dict], object], *, own_data: bool = False) -> None:
        self._changed, self._own_data = changed, own_data
        self._mover: int | None = None  # the thread that is moving controls to what is chosen already
        self.widgets = {name: _control(name, getattr(spec, name)) for name in RULES}
        self.widgets["csv"] = widgets.Text(placeholder=texts.CSV_PATH, continuous_update=False)
        for name, widget in self.widgets.items():
            _dress(name, widget)
            widget.observe(lambda change, name=name: self._tell(name), names="value")
        self.set(spec)
        self.view = widgets.VBox([_group(key, [self.widgets[n] for n in names]) for key, names in GROUPS.items()])
        self.view.add_class("labkit-controls")

    def set(self, spec: Spec) -> None:
        """Move the controls to a spec."""
        self.move({name: getattr(spec, name) for name in RULES})
        self.show(spec)

    def move(self, values: dict[str, object]) -> None:
        """Move controls to what is chosen already, so that it is no news."""
        self._mover = threading.get_ident()
        try:
            for name, value in values.items():
                widget = self.widgets[name]
                if name == "dataset" and value.startswith(CSV):
                    self.widgets["csv"].value, value = value.removeprefix(CSV), CSV
                if name in STOPS:
                    widget.options = _stops(name, value)
                widget.value = value
        finally:
            self._mover = None

    def show(self, spec: Spec) -> None:
        """Show the controls that mean something now, and no others."""
        for name, visible in meaningful(spec, self._own_data).items():
            self._show(name, visible or (name == "csv" and self.widgets["dataset"].value == CSV))

    def _tell(self, name: str) -> None:
        """Say what was moved."""
        if threading.get_ident() == self._mover:
            return
        value = self.widgets[name].value
        if name in ("dataset", "csv"):
            name, value = "dataset", self.widgets["dataset"].value
            self._show("csv", value == CSV)  # at once: without a path the choice is refused
            value += self.widgets["csv"].value.strip() if value == CSV else ""
        self._changed({name: value})

    def _show(self, name: str, visible: bool) -> None:
        self.widgets[name].layout.display = None if visible else "none"


def _stops(name: str, value: Any) -> list[tuple[str, Any]]:
    """The stops of a slider, `value` among them."""
    numbers = set(STOPS[name]) if isinstance(value, tuple) else {*STOPS[name], value}
    stops = [*sorted(numbers), *([value] if isinstance(value, tuple) else [])]  # widths of single layers stand last
    return [(shown(name, stop), stop) for stop in stops]


def _control(name: str, value: object) -> widgets.Widget:
    """The control that suits a field's rule."""
    rule = RULES[name]
    if name in STOPS:
        return widgets.SelectionSlider(options=_stops(name, value), value=value, continuous_update=name in LIVE)
    if isinstance(rule, Menu):
        own = [(texts.CSV_FILE, CSV)] if name == "dataset" else []
        return widgets.Dropdown(options=[*((option, option) for option in rule.options), *own])
    if isinstance(rule, Whole):
        return widgets.BoundedIntText(min=rule.low, max=rule.high, value=value)
    if isinstance(rule, Number):
        return widgets.BoundedFloatText(min=rule.low, max=rule.high, value=value)
    return widgets.Checkbox(indent=False)


def _dress(name: str, widget: widgets.Widget) -> None:
    """Give a control its label, its help and its place in the tab order."""
    rule = RULES.get(name)
    widget.description = texts.field(name)
    widget.tooltip = rule.about if rule else texts.CSV_HELP
    if isinstance(rule, Menu):
        widget.tooltip += ": " + rule.allowed
    widget.tabbable = True
    widget.style.description_width = "92px"
    widget.layout.width = "auto"


def _group(key: str, children: list[widgets.Widget]) -> widgets.VBox:
    heading = widgets.HTML(f"<b class='labkit-heading'>{texts.GROUPS[key]}</b>")
    return widgets.VBox([heading, *children])
