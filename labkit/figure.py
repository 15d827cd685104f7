"""A plotly figure in the browser that is redrawn from small frames; it knows nothing of what it shows.

plotly's own `FigureWidget` sends every trace back to the kernel after an update (measured with the lab's figure:
1.6 MB each way for one run of 2,000 steps), forgets its updates when the page is loaded again, and takes over a
second to import.
This one sends a frame as one message, gets nothing back, and asks for the whole figure whenever it is shown.
"""

import base64
from collections.abc import Callable

import anywidget
import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

_SHOW = """
const fresh = value => value !== null && typeof value === "object" && !Array.isArray(value) && !("bdata" in value);
function merge(into, from) {
  for (const [key, value] of Object.entries(from)) {
    if (value === null) delete into[key];
    else if (fresh(value)) {
      if (!fresh(into[key])) into[key] = {};  // plotly drops objects that are empty
      merge(into[key], value);
    } else into[key] = value;
  }
}
const OPTIONS = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
export default { render({ model, el }) {
  const plot = document.createElement("div");
  plot.className = "labkit-figure";
  el.appendChild(plot);
  let figure = null, drawing = false, waiting = false;
  async function draw() {  // frames that come while one is drawn are merged and drawn together
    if (drawing) { waiting = true; return; }
    drawing = true;
    try {
      do {
        waiting = false;
        figure.layout.datarevision = (figure.layout.datarevision || 0) + 1;
        await plotly();
        await Plotly.react(plot, figure.data, figure.layout, OPTIONS);
        plot.dataset.frames = figure.layout.datarevision;
        await new Promise(requestAnimationFrame);
      } while (waiting);
    } finally { drawing = false; }
  }
  function take(message) {
    if (message.figure) {
      figure = message.figure;
      plot.style.height = figure.layout.height + "px";  // plotly fills its box, and an empty box has no height
    } else if (figure === null) return;  // the whole figure is on its way
    else {
      for (const [trace, values] of Object.entries(message.traces)) merge(figure.data[trace], values);
      merge(figure.layout, message.layout);
    }
    draw();
  }
  model.on("msg:custom", take);
  const sizes = new ResizeObserver(() => { if (plot.dataset.frames && plot.offsetParent) Plotly.Plots.resize(plot); });
  sizes.observe(el);
  model.send("view");
  return () => { model.off("msg:custom", take); sizes.disconnect(); window.Plotly?.purge(plot); };
} };
"""


class LiveFigure(anywidget.AnyWidget):
    """Shows a plotly figure and redraws it from frames.

    Args:
        viewed: Called whenever a front end shows this widget; it sees to it that `show` sends the figure.
    """

    _esm = (
        f"const load = () => {{{get_plotlyjs()}}};\n"
        # Not while the module is imported: anywidget gives up on a widget that takes over two seconds to come.
        f"const plotly = async () => {{ if (!window.Plotly?.react) load(); }};\n{_SHOW}"
    )

    def __init__(self, viewed: Callable[[], object]) -> None:
        super().__init__()
        self.on_msg(lambda widget, content, buffers: viewed())

    def show(self, figure: go.Figure) -> None:
        """Send the whole figure."""
        self.send({"figure": packed(figure.to_plotly_json())})

    def draw(self, frame: dict) -> None:
        """Send what changes: {"traces": {number: {…}}, "layout": {…}}; None takes a value away."""
        self.send(packed({"traces": frame["traces"], "layout": frame.get("layout", {})}))


class NextFigure(LiveFigure):
    """A further figure on a page that shows a `LiveFigure`: it waits for that one's plotly.js and brings none."""

    _esm = f"""const plotly = async () => {{
      while (!window.Plotly?.react) await new Promise(again => setTimeout(again, 20));
    }};
    {_SHOW}"""


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
