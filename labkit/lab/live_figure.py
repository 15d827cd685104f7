"""A plotly figure in the browser that is redrawn from small frames; it knows nothing of what it shows.

plotly's own `FigureWidget` sends every trace back to the kernel after an update (measured with the lab's figure:
1.6 MB each way for one run of 2,000 steps), forgets its updates when the page is loaded again, and takes over a
second to import.
This one sends a frame as one message, gets nothing back, and asks for the whole figure whenever it is shown.
plotly.js (5 MB) travels once for a page, whichever figure comes first.
"""

import base64
from collections.abc import Callable

import anywidget
import numpy as np
import plotly.graph_objects as go
import traitlets
from plotly.offline import get_plotlyjs

PLOTLY = "application/vnd.plotly.v1+json"  # how a notebook names a figure in its outputs
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
const soon = () => new Promise(again => setTimeout(again, 20));
async function run(source) {  // in a function of its own, so that nothing but window.Plotly is left behind
  const address = URL.createObjectURL(new Blob(["(() => {", source, "})();"], { type: "text/javascript" }));
  await import(address);
  URL.revokeObjectURL(address);
}
const OPTIONS = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
export default { render({ model, el }) {
  const plot = document.createElement("div");
  plot.className = "labkit-figure";
  el.appendChild(plot);
  let figure = null, frames = 0, drawing = false, waiting = false, asked = false, gone = false;
  async function plotly() {
    while (!window.Plotly?.react && !gone) {
      if (!window.labkitAsked) {
        window.labkitAsked = asked = true;
        model.send("plotly");
      }
      await soon();
    }
  }
  async function draw() {  // frames that come while one is drawn are merged and drawn together
    if (drawing) { waiting = true; return; }
    drawing = true;
    try {
      do {
        waiting = false;
        await plotly();
        if (gone) return;
        figure.layout.datarevision = ++frames;
        await Plotly.react(plot, figure.data, figure.layout, OPTIONS);
        plot.dataset.frames = frames;
        await new Promise(requestAnimationFrame);
      } while (waiting);
    } finally { drawing = false; }
  }
  function take(message, buffers) {
    if (message.plotly) {
      if (!window.Plotly?.react) run(buffers[0]);
      return;
    }
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
  listenForPicks(model, plot);
  model.send("view");
  return () => {
    gone = true;
    if (asked && !window.Plotly?.react) window.labkitAsked = false;  // another figure has to ask
    model.off("msg:custom", take);
    sizes.disconnect();
    window.Plotly?.purge(plot);
  };
} };
"""

_PICK = """
function listenForPicks(model, plot) {  // a press, a drag or the arrow keys move a point inside the first axes
  if (!model.get("picking")) return;
  const axes = () => [plot._fullLayout.xaxis, plot._fullLayout.yaxis];
  const move = point => { model.set("picked", point); model.save_changes(); };
  let dragged = false;
  function follow(event) {
    if (!plot._fullLayout) return false;  // nothing is drawn yet
    const [x, y] = axes(), box = plot.getBoundingClientRect();
    const at = [event.clientX - box.left - x._offset, event.clientY - box.top - y._offset];
    const within = at[0] >= 0 && at[0] <= x._length && at[1] >= 0 && at[1] <= y._length;
    if (within) move([x.p2d(at[0]), y.p2d(at[1])]);
    return within;
  }
  plot.addEventListener("pointerdown", event => {
    if (event.button !== 0 || event.target.closest(".modebar, .legend") || !follow(event)) return;
    dragged = true;
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", event => { if (dragged) follow(event); });
  plot.addEventListener("pointerup", () => { dragged = false; });
  plot.tabIndex = 0;
  plot.style.touchAction = "none";
  plot.addEventListener("keydown", event => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
    if (!way || !plot._fullLayout) return;
    event.preventDefault();
    event.stopPropagation();  // JupyterLab would go to the next cell
    const step = axes().map(axis => (axis.range[1] - axis.range[0]) / 50);
    move(model.get("picked").map((value, k) => value + way[k] * step[k]));
  });
}
"""


class LiveFigure(anywidget.AnyWidget):
    """Shows a plotly figure and redraws it from frames.

    Args:
        viewed: Called whenever a front end shows this widget; it sees to it that `show` sends the figure.
        picked: A point of the first axes that a person may move, or nothing.

    Attributes:
        picked: Where the person moved it; observe it.
    """

    _esm = _PICK + _SHOW
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
        """Send what changes: {"traces": {number: {…}}, "layout": {…}}; None takes a value away."""
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
