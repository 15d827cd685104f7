"""The lab on one screen, as a widget: traits that the browser draws from, and messages that it sends.

The browser computes every picture from the weights (static/screen_*.js). All state is in traits, so that a page that is
loaded again, a second view or a screen shown late finds everything there, and nothing waits for an answer.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from labkit.core import devices
from labkit.core.rules import Flag, Menu, Number, Several
from labkit.core.spec import (
    ACTIVATIONS,
    DATASETS,
    DEVICES,
    FEATURES,
    INITS,
    LOSSES,
    OPTIMIZERS,
    RULES,
    SHAPES,
    Spec,
)
from labkit.lab import texts
from labkit.lab.choices import meaningful
from labkit.lab.pacing import WATCH_SPEED
from labkit.lab.presets import PRESETS

STATIC = Path(__file__).parent / "static"
PARTS = ("network", "draw", "charts", "page", "touch", "panels", "view", "screen")  # joined into one module, in order
REGISTRIES: dict[str, dict[str, Any]] = {
    "dataset": DATASETS, "features": FEATURES, "shape": SHAPES, "activation": ACTIVATIONS, "init": INITS,
    "loss": LOSSES, "optimizer": OPTIMIZERS, "device": DEVICES,
}  # fmt: skip


class Screen(anywidget.AnyWidget):
    """What a front end shows.

    Args:
        ask: What is called with a command and its arguments, for each message of the browser.
        landscape: The widget of the Landscape tab.
        name: Of the lab.
    """

    _esm = "\n".join((STATIC / f"screen_{part}.js").read_text("utf-8") for part in PARTS)
    _css = (STATIC / "screen.css").read_text("utf-8") + (STATIC / "lab.css").read_text("utf-8")
    scene, frame, status, choices, menus, settings, texts, slots = (traitlets.Dict().tag(sync=True) for _ in range(8))
    heard = traitlets.List().tag(sync=True)  # the newest messages: the browser repeats what is not among them

    def __init__(self, ask: Callable[..., object], landscape: Any, name: str) -> None:
        self._ask = ask
        speeds = [{"value": None if speed == float("inf") else speed, "label": text} for speed, text in SPEEDS]
        settings = {"speed": WATCH_SPEED, "speeds": speeds, "instant": False, "name": name}
        presets = [{"key": key, "label": each.label, "about": each.about} for key, each in PRESETS.items()]
        slots = {"landscape": f"IPY_MODEL_{landscape.model_id}", "compare": None}
        super().__init__(settings=settings | {"presets": presets}, texts=texts.SCREEN, slots=slots)
        self.on_msg(self._hear)

    def _hear(self, widget: object, content: dict[str, Any], buffers: object) -> None:
        """Pass a message of the browser on; one that is no command is refused by the queue."""
        number = content.get("id")  # None: of a test, or of a page of an older version
        if number in self.heard:
            return
        if number is not None:
            self.heard = [*self.heard[1 - KEPT :], number]
        self._ask(content["command"], *content["arguments"])

    def close(self) -> None:
        """Take the widget out of the kernel, with what belongs to it."""
        self.layout.close()
        super().close()

    def _repr_mimebundle_(self, **options: object) -> Any:
        self._ask("show")  # shown: frames are wanted, even where the browser's own message waits behind other cells
        return super()._repr_mimebundle_(**options)


KEPT = 40  # messages that are remembered
SPEEDS = tuple(texts.SPEEDS.items())


def menus_of(spec: Spec, own_data: bool) -> dict[str, dict[str, Any]]:
    """Return what each field of a spec may be, and whether it means something now."""
    shown = meaningful(spec, own_data)
    found = devices.available()
    menus = {}
    for name, rule in RULES.items():
        kind = "menu" if isinstance(rule, Menu) else "flag" if isinstance(rule, Flag) else "whole"
        kind = "number" if isinstance(rule, Number) else "several" if isinstance(rule, Several) else kind
        menus[name] = {
            "label": texts.field(name), "about": rule.about, "kind": kind,
            "options": [_option(name, key, row, found) for key, row in REGISTRIES.get(name, {}).items()],
            "low": getattr(rule, "low", None), "high": getattr(rule, "high", None), "shown": shown.get(name, True),
        }  # fmt: skip
    return menus


def _option(name: str, key: str, row: Any, found: dict[str, str]) -> dict[str, Any]:
    """One row of a menu; a device that is not here is not offered, with the reason."""
    missing = name == "device" and key not in ("auto", *found)
    reason = devices.why_not(key) if missing else ""
    return {"value": key, "label": key, "about": getattr(row, "about", row), "disabled": missing, "reason": reason}


def choices_of(spec: Spec) -> dict[str, Any]:
    """Return a spec's fields for the browser, whose lists are no tuples."""
    values = {name: getattr(spec, name) for name in RULES}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
