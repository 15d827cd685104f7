"""A plotly figure in the browser that is redrawn from small frames, as `labkit.plots.frames` defines them.

plotly's own `FigureWidget` sends every trace back to the kernel after an update (measured with the lab's figure:
1.6 MB each way for one run of 2,000 steps), forgets its updates when the page is loaded again, and takes over a
second to import.
This one sends a frame as one message, gets nothing back, and asks for the whole figure whenever it is shown.
plotly.js (5 MB) travels once for a page, whichever figure comes first.
"""

import base64
from collections.abc import Callable
from pathlib import Path

import anywidget
import numpy as np
import plotly.graph_objects as go
import traitlets
from plotly.offline import get_plotlyjs

PLOTLY = "application/vnd.plotly.v1+json"  # how a notebook names a figure in its outputs
STATIC = Path(__file__).parent / "static"


class LiveFigure(anywidget.AnyWidget):
    """Shows a plotly figure and redraws it from frames.

    Args:
        viewed: Called whenever a front end shows this widget; it sees to it that `show` sends the figure.
        picked: A point of the first axes that a person may move, or nothing.

    Attributes:
        picked: Where the person moved it; observe it.
    """

    _esm, _css = STATIC / "live_figure.js", STATIC / "lab.css"
    picking = traitlets.Bool(False).tag(sync=True)
    picked = traitlets.List().tag(sync=True)

    def __init__(self, viewed: Callable[[], object], picked: tuple[float, float] | tuple = ()) -> None:
        super().__init__(picking=bool(picked), picked=list(picked))
        self._viewed = viewed
        self.on_msg(self._answer)

    def _answer(self, widget: object, content: object, buffers: object) -> None:
        if content == "plotly":
            self.send({"plotly": True}, buffers=[get_plotlyjs().encode()])
        else:
            self._viewed()

    def show(self, figure: go.Figure) -> None:
        """Send the whole figure."""
        self.send({"figure": packed(figure.to_plotly_json())})

    def draw(self, frame: dict) -> None:
        """Send a frame: what changes."""
        self.send(packed({"traces": frame["traces"], "layout": frame.get("layout", {})}))


def packed(value: object) -> object:
    """Turn numpy arrays anywhere in `value` into what plotly.js reads as binary, so that they travel small."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        small = value.astype(np.float32 if value.dtype.kind == "f" else np.int32) if value.dtype.itemsize > 4 else value
        kind = small.dtype.str.lstrip("<|=")
        data = base64.b64encode(np.ascontiguousarray(small).tobytes()).decode()
        return {"dtype": kind, "bdata": data, "shape": ", ".join(map(str, small.shape))}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: packed(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [packed(part) for part in value]
    return value
