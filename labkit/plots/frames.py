"""Frames: small updates of a figure that stays. They name their traces, and here names become places.

A frame is {"traces": {uid of a trace: {…}}, "layout": {…}}, plain values and arrays; None takes a value away. A uid is
letters, digits and underscores: plotly.js writes it into CSS selectors.
"""

from copy import deepcopy

import plotly.graph_objects as go


def places(figure: go.Figure) -> dict[str, int]:
    """Return where in a figure each trace stands, by its uid; `static/live_figure.js` does the same."""
    return {trace.uid: place for place, trace in enumerate(figure.data)}


def apply(figure: go.Figure, *frames: dict) -> go.Figure:
    """Write frames into a figure, each in one update, and return the figure.

    Raises:
        KeyError: if a frame names a trace that the figure does not have.
    """
    where = places(figure)
    for frame in frames:
        with figure.batch_update():
            for name, values in frame["traces"].items():
                figure.data[where[name]].update(values)
            figure.update_layout(frame.get("layout", {}))
    return figure


def merge(into: dict, part: dict) -> None:
    """Write nested values of `part` over those of `into`."""
    for key, value in part.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = deepcopy(value) if isinstance(value, dict) else value
