"""ipywidgets ↔ `Spec`: a labelled control for every choice; it knows no training.

Each control takes its menu, bounds and help from the rules that check the values. Controls whose choice
has no meaning just now are hidden, and a choice that another one rules out is mended, with a word about it.
"""

from collections.abc import Callable

import ipywidgets as widgets

from labkit.core.spec import CSV, LOSSES, OPTIMIZERS, RULES, Menu, Spec, Whole

GROUPS = {
    "Data": ("dataset", "csv", "samples", "noise", "train_share", "inputs", "seed"),
    "Network": ("depth", "width", "shape", "activation", "init", "residual"),
    "Training": (
        "loss",
        "huber_delta",
        "optimizer",
        "lr",
        "momentum",
        "batch_size",
        "l1",
        "l2",
        "steps",
        "device",
    ),
}
LABELS = {"lr": "learning rate", "steps": "stop at step"}  # every other label is the field's name
ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
SIZES = (10, 20, 50, 100, 200, 300, 500, 1000, 2000, 5000, 10_000)
STRENGTHS = (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
STOPS = {  # the stops of a slider; a value between them, or beyond, becomes a stop of its own
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
OWN = "csv file …"  # the entry of the data set menu that asks for a path
LIVE = ("lr", "steps")  # what may change while training


class Controls:
    """A control for every choice of a `Spec`.

    Args:
        spec: Where they begin.
        changed: Called when one moved.
        own: Whether the data are a person's own arrays, so that no data set is to be chosen.

    Attributes:
        widgets: the ipywidgets by field name; "csv" is the path of a person's own table.
        view: all of them, in groups.
        note: what was mended last, in words.
    """

    def __init__(self, spec: Spec, changed: Callable[[], None], *, own: bool = False) -> None:
        self._own = own
        self.widgets = {name: _control(name, getattr(spec, name)) for name in RULES}
        self.widgets["csv"] = widgets.Text(placeholder="path/to/table.csv", continuous_update=False)
        for name, widget in self.widgets.items():
            _dress(name, widget)
        self.set(spec)
        for widget in self.widgets.values():
            widget.observe(lambda change: changed(), names="value")
        self.view = widgets.VBox([_group(title, [self.widgets[n] for n in names]) for title, names in GROUPS.items()])
        self.view.add_class("labkit-controls")

    def values(self) -> dict[str, object]:
        """Return what the controls say, field by field, checked or not."""
        said = {name: self.widgets[name].value for name in RULES}
        if said["dataset"] == OWN:
            said["dataset"] = CSV + self.widgets["csv"].value.strip()
        return said

    def spec(self) -> Spec:
        """Return the spec that the controls say.

        Raises:
            ValueError: if it is not allowed.
        """
        return Spec(**self.values())

    def set(self, spec: Spec) -> None:
        """Move the controls to a spec."""
        for name in RULES:
            value, widget = getattr(spec, name), self.widgets[name]
            if name == "dataset" and value.startswith(CSV):
                self.widgets["csv"].value, value = value.removeprefix(CSV), OWN
            if name in STOPS:
                widget.options = _stops(name, value)
            widget.value = value
        self._hide(spec.dataset.startswith(CSV), spec)
        self.last, self.note = spec, ""  # the last spec that was allowed
        self._taken: dict[str, tuple] = {}  # choices that a data set made impossible: (the person's, ours)

    def settle(self) -> Spec:
        """Mend what the latest change rules out, hide what has no meaning now, and return the spec.

        Raises:
            ValueError: if what the controls say is not allowed and is not to be mended.
        """
        said = self.values()
        self._show("csv", said["dataset"].startswith(CSV))  # at once: without a path the choice is refused
        mended = self._mended(said)
        spec = Spec(**said | mended)
        if mended or spec != self.last:  # moving a control below comes back here, and is no news
            self.note = " ".join(f"{name} was changed to {_shown(name, value)}." for name, value in mended.items())
        self.last = spec
        for name, value in mended.items():
            self.widgets[name].value = value
        self._hide(spec.dataset.startswith(CSV), spec)
        return spec

    def _mended(self, said: dict[str, object]) -> dict[str, object]:
        """What a new data set makes impossible: a loss without meaning, a batch that is too large.

        What was taken away like that comes back with the next data set that allows it.
        """
        if said["dataset"] == self.last.dataset:
            return {}  # what the person chose here is refused with its reason, not mended
        trial = Spec(**said | {"loss": "mse", "batch_size": 0})
        if not trial.known:
            return {}  # only its reading tells what a csv makes impossible
        back = {name: old for name, (old, new) in self._taken.items() if said[name] == new}
        wanted = said | back
        mended = {}
        if LOSSES[wanted["loss"]].classes_only and not trial.known.classes:
            mended["loss"] = "mse"
        if wanted["batch_size"] > trial.training_samples:
            mended["batch_size"] = 0
        self._taken = {name: (wanted[name], new) for name, new in mended.items()}
        return {name: value for name, value in (back | mended).items() if said[name] != value}

    def _hide(self, own: bool, spec: Spec) -> None:
        """Show the controls that mean something now, and no others."""
        fixed = own or self._own or bool(spec.known and spec.known.size)
        whole = not self._own and bool(spec.known and spec.known.all_for_training)
        shown = {
            "dataset": not self._own,
            "csv": own and not self._own,
            "samples": not fixed,
            "noise": not (own or self._own or whole),
            "train_share": not whole,
            "inputs": spec.dataset == "teacher" and not self._own,
            "huber_delta": LOSSES[spec.loss].uses_delta,
            "momentum": OPTIMIZERS[spec.optimizer].uses_momentum,
        }
        for name, visible in shown.items():
            self._show(name, visible)

    def _show(self, name: str, visible: bool) -> None:
        self.widgets[name].layout.display = None if visible else "none"


def _stops(name: str, value: float) -> list[tuple[str, float]]:
    """The stops of a slider, `value` among them."""
    return [(_shown(name, stop), stop) for stop in sorted({*STOPS[name], value})]


def _shown(name: str, value: object) -> str:
    """A value as a control shows it."""
    if name == "batch_size" and value == 0:
        return "all"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def _control(name: str, value: object) -> widgets.Widget:
    """The control that suits a field's rule."""
    rule = RULES[name]
    if name in STOPS:
        return widgets.SelectionSlider(options=_stops(name, value), value=value, continuous_update=name in LIVE)
    if isinstance(rule, Menu):
        return widgets.Dropdown(options=[*rule.options, *([OWN] if name == "dataset" else [])])
    if isinstance(rule, Whole):
        return widgets.BoundedIntText(min=rule.low, max=rule.high, value=value)
    return widgets.Checkbox(indent=False)


def _dress(name: str, widget: widgets.Widget) -> None:
    """Give a control its label, its help and its place in the tab order."""
    rule = RULES.get(name)
    widget.description = LABELS.get(name, name.replace("_", " "))
    widget.tooltip = rule.about if rule else "a table of numbers: inputs first, the target in the last column"
    if isinstance(rule, Menu):
        widget.tooltip += ": " + rule.allowed
    widget.tabbable = True
    widget.style.description_width = "92px"
    widget.layout.width = "auto"


def _group(title: str, children: list[widgets.Widget]) -> widgets.VBox:
    heading = widgets.HTML(f"<b class='labkit-heading'>{title}</b>")
    return widgets.VBox([heading, *children])
