// A plotly figure that is redrawn from small frames: {"traces": {uid: {…}}, "layout": {…}}, or a whole {"figure"}.
// Messages to the kernel: "view" whenever the figure is shown, "plotly" where the page has no plotly.js yet.

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
function themed(layout, plot) {  // a dark theme is dark here, too
  const style = getComputedStyle(plot), colour = name => style.getPropertyValue(name).trim();
  layout.paper_bgcolor = layout.plot_bgcolor = "transparent";
  layout.font = { ...layout.font, color: colour("--jp-ui-font-color1") || undefined };
  for (const axis of Object.keys(layout).filter(name => /^[xy]axis/.test(name)))
    layout[axis].gridcolor = layout[axis].zerolinecolor = colour("--jp-border-color2") || undefined;
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
  let figure = null, places = {}, frames = 0, drawing = false, waiting = false, asked = false, gone = false;
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
        themed(figure.layout, plot);
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
      places = Object.fromEntries(figure.data.map((trace, place) => [trace.uid, place]));
      plot.style.height = figure.layout.height + "px";  // plotly fills its box, and an empty box has no height
    } else if (figure === null) return;  // the whole figure is on its way
    else {
      for (const [name, values] of Object.entries(message.traces)) merge(figure.data[places[name]], values);
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
