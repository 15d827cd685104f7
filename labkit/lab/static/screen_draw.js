// Pictures from numbers: the network, maps, curves, matrices, the loss and thumbnails, each drawn into a canvas.
// Colours are those of Okabe and Ito, darkened or lightened for the theme; a class has its own shape as well.

const MOST_SHOWN = 8; // units of one column; the others are reached by paging
const THEMES = {
  light: { below: "#0072b2", above: "#d97b00", zero: "#f7f7f5", paleBelow: "#6aa7d2", paleAbove: "#efb366",
    unitBelow: "#0072b2", unitAbove: "#d97b00", test: "#00876c", score: "#a8447f", good: "#00795f", bad: "#b34700" },
  dark: { below: "#56b4e9", above: "#f0a030", zero: "#20211f", paleBelow: "#1f638f", paleAbove: "#8f5c12",
    unitBelow: "#3f93c6", unitAbove: "#c98628", test: "#3fbf9f", score: "#dd8fbc", good: "#45c7a4", bad: "#f28e3c" },
};
const MANY = ["#0072b2", "#d97b00", "#00876c", "#cc79a7", "#56b4e9", "#9a8700", "#d55e00", "#7d7d7d"];
const DASHES = [[], [5, 2], [2, 2], [7, 2, 2, 2], [1, 3], [9, 3]];

const channels = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
const word = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0; // a pixel of an ImageData
const mix = (from, to, t) => from.map((c, k) => Math.round(c + (to[k] - c) * t));
const thousands = (n) => Math.round(n).toLocaleString("en");
const signed = (x) => (isNumber(x) ? `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(2)}` : "—");
function digits(x, n = Math.abs(x) < 0.1 ? 2 : 3) {
  if (!isNumber(x)) return "—";
  const far = Math.abs(x) >= 1000 || (x && Math.abs(x) < 1e-3);
  return (far ? x.toExponential(1) : x.toPrecision(n)).replace(/-/g, "−");
}

/** 256 colours from `below` through `zero` to `above`. */
function ramp(below, zero, above) {
  const [low, middle, high] = [below, zero, above].map(channels);
  return Uint32Array.from({ length: 256 }, (_, k) => {
    const t = (k - 127.5) / 127.5;
    return word(mix(middle, t < 0 ? low : high, Math.abs(t)));
  });
}

/** The colours for an element, dark where the page below it is dark. */
function coloursOf(element) {
  const style = getComputedStyle(element), probe = canvasOf(1, 1).getContext("2d", { willReadFrequently: true });
  probe.fillStyle = style.backgroundColor;
  probe.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = probe.getImageData(0, 0, 1, 1).data;
  const ink = (style.color.match(/[\d.]+/g) ?? [0, 0, 0]).map(Number); // tells where the ground is transparent
  const bright = (rgb) => 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
  const dark = a > 127 ? bright([r, g, b]) < 128 : bright(ink) > 128, c = THEMES[dark ? "dark" : "light"];
  const own = (name) => style.getPropertyValue(name).trim();
  const many = MANY.map((hex) => (dark ? mix(channels(hex), [255, 255, 255], 0.25) : channels(hex)));
  return { ...c, dark, paper: style.backgroundColor, ink: style.color, faint: own("--lk-faint"), line: own("--lk-line"),
    accent: own("--lk-accent"), font: style.fontFamily, many, units: ramp(c.unitBelow, c.zero, c.unitAbove),
    map: ramp(c.paleBelow, c.zero, c.paleAbove), classes: classRamp(many, channels(c.zero)) };
}

/** 16 shades for each of many classes: the surer, the stronger. */
const classRamp = (many, zero) => many.map((rgb) =>
  Uint32Array.from({ length: 16 }, (_, k) => word(mix(zero, rgb, 0.15 + (0.5 * k) / 15))));

const classColour = (c, k, classes) =>
  (classes > 2 ? `rgb(${c.many[k % c.many.length]})` : k > 0 ? c.above : c.below);
const canvasOf = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

/** Fit a canvas to its box at the screen's resolution; draw in CSS pixels. */
function pen(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  for (const [side, length] of [["width", width], ["height", height]]) {
    if (canvas[side] !== Math.round(length * ratio)) canvas[side] = Math.round(length * ratio);
  }
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  return { g, width, height };
}

const CORNERS = [null, [[0, -1.35], [1.2, 0.85], [-1.2, 0.85]],
  [[-0.95, -0.95], [0.95, -0.95], [0.95, 0.95], [-0.95, 0.95]], [[0, -1.35], [1.35, 0], [0, 1.35], [-1.35, 0]],
  [[0, 1.35], [1.2, -0.85], [-1.2, -0.85]]];

/** The outline of a point of a class: disc, triangle, square, diamond, triangle upside down. */
function mark(g, x, y, radius, shape = 0) {
  const corners = CORNERS[shape % CORNERS.length];
  g.beginPath();
  if (!corners) { g.arc(x, y, radius, 0, 2 * Math.PI); return; }
  corners.forEach(([a, b]) => g.lineTo(x + a * radius, y + b * radius));
  g.closePath();
}

/** Write square maps as colours; -reach and reach are the ends of the ramp, and every step-th place is taken. */
function paint(pixels, at, stride, values, side, reach, colours, step = 1) {
  const gain = 127.5 / reach, first = step >> 1;
  for (let row = first, line = at; row < side; row += step, line += stride) {
    for (let column = first, p = line; column < side; column += step, p++) {
      const k = values[row * side + column] * gain + 128;
      pixels[p] = colours[k > 0 ? (k < 255 ? k : 255) | 0 : 0]; // a nan is painted as the lowest value
    }
  }
}

/** The same for a map of more than two classes: a value is the class plus how sure the network is. */
function paintClasses(pixels, values, colours) {
  for (let p = 0; p < values.length; p++) {
    const k = Math.floor(values[p]);
    pixels[p] = (colours[k % colours.length] ?? colours[0])[Math.floor((values[p] - k) * 16) || 0];
  }
}

// ---------------------------------------------------------------- the network
/** Place every unit and link for the room there is.  → {size, columns, links} */
function layOut({ scene, shape, pages, layers }, width, height) {
  const top = 24, labels = 34, room = height - top - 14, count = layers.length;
  const across = (width - labels - 6) / (1.62 * count - 0.62);
  const size = Math.floor(Math.min(across, room / MOST_SHOWN - 6, 84));
  const pitch = room / MOST_SHOWN, apart = count > 1 ? (width - labels - size - 6) / (count - 1) : 0;
  const columns = layers.map((layer, place) => {
    const units = layer ? pageOf(shape.widths[layer], pages[layer]) : inputSlots(scene, shape, pages[0]);
    const x = Math.round(labels + place * apart), y0 = top + (room - units.length * pitch + pitch - size) / 2;
    return units.map((each, row) => ({ on: true, ...each, layer, x, y: Math.round(y0 + row * pitch), row, place }));
  });
  return { size, apart, columns, links: linksOf(shape, columns, size) };
}

function pageOf(width, first) {
  return Array.from({ length: Math.min(MOST_SHOWN, width - first) }, (_, k) => ({ unit: first + k }));
}

/** What the first column shows: every feature on offer, one picture, or the columns of a table. */
function inputSlots(scene, shape, first) {
  if (scene.kind === "image") return [{ unit: -1, bundle: true }];
  if (scene.kind !== "plane") return pageOf(shape.widths[0], first);
  return Object.keys(FEATURES).map((feature) => {
    const unit = scene.features.indexOf(feature);
    return { unit, feature, on: unit >= 0 };
  });
}

/** Links between the shown units of neighbouring layers; ends fan out, so that lines do not pile up in one point. */
function linksOf(shape, columns, size) {
  const links = [], fan = (k, n) => (n > 1 ? (k / (n - 1) - 0.5) * 0.6 * size : 0) + size / 2;
  columns.slice(1).forEach((targets, before) => {
    const sources = columns[before].filter((s) => s.on), layer = targets[0].layer;
    if (columns[before][0].layer !== layer - 1) return; // layers between them are not shown
    sources.forEach((s, i) => targets.forEach((t, j) => {
      const x0 = s.x + size + 1, y0 = s.y + fan(j, targets.length), x1 = t.x - 1, y1 = t.y + fan(i, sources.length);
      const bend = (x1 - x0) / 2, line = `M${x0} ${y0}C${x0 + bend} ${y0} ${x1 - bend} ${y1} ${x1} ${y1}`;
      const index = s.bundle ? -1 : shape.weight(layer, s.unit, t.unit);
      links.push({ layer, from: s.unit, to: t.unit, index, line, path: new Path2D(line), ends: [x0, y0, x1, y1] });
    }));
  });
  return links;
}

/** Write the units' small maps, of the layers from `first` on, into one picture: one upload for all of them. */
function paintAtlas(view, first) {
  const { atlas, columns, grid, side, colours } = view, step = side / SMALL;
  for (const { layer, unit, row, place, feature, on } of columns.flat()) {
    if (layer < first) continue;
    const values = on ? grid.of(layer, unit) : view.offered[feature];
    const reach = on ? view.reachOf(layer, unit) : spread(values);
    const at = row * SMALL * atlas.width + place * SMALL;
    paint(atlas.pixels, at, atlas.width, values, side, reach, colours.units, step);
  }
  atlas.canvas.getContext("2d").putImageData(atlas.image, 0, 0);
}

function makeAtlas(columns) {
  const canvas = canvasOf(SMALL * columns, SMALL * MOST_SHOWN), image = new ImageData(canvas.width, canvas.height);
  return { canvas, image, width: canvas.width, pixels: new Uint32Array(image.data.buffer) };
}

/** Whether a link belongs to what is pointed at. */
function isLit(link, focus) {
  if (!focus) return true;
  const { layer, from, to } = link;
  const into = focus.layer === layer, outOf = focus.layer === layer - 1;
  if (focus.kind === "unit") return (into && focus.unit === to) || (outOf && focus.unit === from);
  return focus.index === link.index || (focus.from < 0 && focus.layer === layer && focus.to === to);
}

function drawNetwork(canvas, view) {
  const { g } = pen(canvas), focus = view.focus?.kind === "place" ? null : view.focus;
  for (const lit of focus ? [false, true] : [true]) {
    for (const link of view.links) if (isLit(link, focus) === lit) drawLink(g, view, link, lit, focus);
  }
  for (const slot of view.columns.flat()) drawSlot(g, view, slot, focus);
  g.globalAlpha = 1;
  drawBracket(g, view);
}

function drawLink(g, { theta, colours: c, weightReach, size }, link, lit, focus) {
  const w = link.index < 0 ? 0.3 * weightReach : theta[link.index], t = Math.min(1, Math.abs(w) / weightReach);
  const widest = clamp(size * 0.14, 2.5, 7);
  g.strokeStyle = link.index < 0 ? c.faint : w < 0 ? c.below : c.above;
  g.lineWidth = 0.5 + (widest - 0.5) * t;
  g.globalAlpha = !lit ? 0.07 : focus ? 0.4 + 0.6 * t : 0.16 + 0.64 * t;
  g.stroke(link.path);
}

function drawSlot(g, view, slot, focus) {
  const { size, colours: c, theta, shape, weightReach } = view;
  const chosen = focus?.kind === "unit" && focus.layer === slot.layer && focus.unit === slot.unit;
  const near = focus?.kind !== "unit" || chosen || Math.abs(slot.layer - focus.layer) === 1;
  const inset = slot.on ? 0 : Math.round(size * 0.2), side = size - 2 * inset;
  g.globalAlpha = 1;
  g.fillStyle = c.paper;
  g.fillRect(slot.x, slot.y, size, size);
  g.globalAlpha = slot.on ? (near ? 1 : 0.3) : 0.35;
  drawUnit(g, view, slot, slot.x + inset, slot.y + inset, side);
  g.strokeStyle = chosen ? c.ink : c.line;
  g.lineWidth = chosen ? 2 : 1;
  g.strokeRect(slot.x + inset + 0.5, slot.y + inset + 0.5, side - 1, side - 1);
  if (view.focus?.kind === "place" && view.scene.kind === "plane") {
    g.strokeStyle = c.ink;
    mark(g, slot.x + inset + view.focus.x * side, slot.y + inset + view.focus.y * side, 2.2);
    g.stroke();
  }
  if (!slot.layer) return;
  const b = theta[shape.bias(slot.layer, slot.unit)], part = Math.min(1, Math.abs(b) / weightReach);
  g.globalAlpha = near ? 1 : 0.3;
  g.fillStyle = b < 0 ? c.below : c.above;
  g.strokeStyle = c.paper;
  g.lineWidth = 1.5;
  mark(g, slot.x - 0.5, slot.y + size - 0.5, 1.3 + (size / 11) * Math.sqrt(part));
  g.stroke();
  g.fill();
}

/** A unit's own picture: a map, a curve, or the weights that lead into it. */
function drawUnit(g, view, slot, x, y, side) {
  const { scene, atlas, grid, colours: c } = view;
  if (scene.kind === "plane" && grid) {
    g.drawImage(atlas.canvas, slot.place * SMALL, slot.row * SMALL, SMALL, SMALL, x, y, side, side);
  } else if (scene.kind === "line" && grid) {
    drawUnitCurve(g, view, slot.layer, slot.unit, x, y, side);
  } else if (slot.layer) drawWeights(g, view, slot.layer, slot.unit, x, y, side);
  else {
    g.fillStyle = c.faint;
    Object.assign(g, { font: `10px ${c.font}`, textAlign: "center", textBaseline: "middle" });
    if (slot.bundle) drawDigit(g, x, y, side, c.faint);
    else g.fillText(view.names?.[slot.unit] ?? `x${slot.unit + 1}`, x + side / 2, y + side / 2);
  }
}

/** A unit of a network of one input: its answer over the input. */
function drawUnitCurve(g, view, layer, unit, x, y, side) {
  const values = view.grid.of(layer, unit), reach = view.reachOf(layer, unit), c = view.colours, step = 6;
  const down = (v) => y + side / 2 - clamp(v / reach, -1, 1) * (side / 2 - 2);
  g.fillStyle = c.zero;
  g.fillRect(x, y, side, side);
  g.strokeStyle = c.line;
  g.lineWidth = 1;
  g.beginPath(); g.moveTo(x, y + side / 2); g.lineTo(x + side, y + side / 2); g.stroke();
  g.beginPath();
  for (let k = 0; k < values.length; k += step) g.lineTo(x + (k / (values.length - 1)) * side, down(values[k]));
  g.strokeStyle = c.above;
  g.lineWidth = 1.3;
  g.stroke();
}

/** The weights that lead into a unit as an image: pixels stand where they are, other inputs row by row. */
function drawWeights(g, { shape, theta, colours: c, weightReach }, layer, unit, x, y, side) {
  const fanIn = shape.widths[layer - 1], across = Math.ceil(Math.sqrt(fanIn)), down = Math.ceil(fanIn / across);
  let reach = weightReach * 0.5;
  for (let k = 0; k < fanIn; k++) reach = Math.max(reach, Math.abs(theta[shape.weight(layer, k, unit)]));
  g.fillStyle = c.zero;
  g.fillRect(x, y, side, side);
  for (let k = 0; k < fanIn; k++) {
    const shade = c.units[clamp(Math.round((theta[shape.weight(layer, k, unit)] / reach) * 127 + 128), 0, 255)];
    const left = Math.round(((k % across) / across) * side), top = Math.round((Math.floor(k / across) / down) * side);
    g.fillStyle = `rgb(${[0, 8, 16].map((s) => (shade >> s) & 255)})`;
    g.fillRect(x + left, y + top, Math.round((((k % across) + 1) / across) * side) - left,
      Math.round(((Math.floor(k / across) + 1) / down) * side) - top);
  }
}

/** The answers become the map: a bracket behind the last column. */
function drawBracket(g, { columns, size, colours: c }) {
  const answers = columns.at(-1), x = answers[0].x + size, middle = (s) => s.y + size / 2;
  g.strokeStyle = c.faint;
  g.lineWidth = 1;
  g.beginPath();
  for (const s of answers) { g.moveTo(x + 2, middle(s)); g.lineTo(x + 5, middle(s)); }
  g.moveTo(x + 5, middle(answers[0]));
  g.lineTo(x + 5, middle(answers.at(-1)));
  g.stroke();
}

// ---------------------------------------------------------------- the large picture
/** The square map of a plane: an answer or a unit over x1 and x2, the border, and the data. */
function drawPlane(canvas, view, unit, { points, sure }) {
  const { g, width } = pen(canvas), { scene, colours: c, side } = view;
  const image = new ImageData(side, side), pixels = new Uint32Array(image.data.buffer);
  const values = unit ? view.grid.of(unit.layer, unit.unit) : view.answer;
  if (!unit && scene.classes > 2) paintClasses(pixels, values, c.classes);
  else {
    const reach = unit ? view.reachOf(unit.layer, unit.unit) : sure ? 0.02 : view.valueReach;
    paint(pixels, 0, side, values, side, reach, c.map);
  }
  view.tile ??= canvasOf(side, side);
  view.tile.getContext("2d").putImageData(image, 0, 0);
  g.imageSmoothingEnabled = scene.classes < 3 || Boolean(unit);
  g.imageSmoothingQuality = "high";
  g.drawImage(view.tile, 0, 0, width, width);
  if (!unit && scene.classes === 2) drawBorder(g, view, width);
  if (points) { g.globalAlpha = unit ? 0.6 : 1; g.drawImage(points, 0, 0, width, width); g.globalAlpha = 1; }
  if (view.focus?.kind !== "place") return;
  g.strokeStyle = c.ink;
  mark(g, view.focus.x * width, view.focus.y * width, 4);
  g.stroke();
}

/** Where the answer is neither class, as a sharp line. */
function drawBorder(g, { border, side, colours: c }, width) {
  g.save();
  g.scale(width / side, width / side);
  g.translate(0.5, 0.5);
  g.strokeStyle = c.ink;
  g.globalAlpha = 0.55;
  g.lineWidth = (1.2 * side) / width;
  g.beginPath();
  for (let k = 0; k < border.length; k += 4) {
    g.moveTo(border[k], border[k + 1]);
    g.lineTo(border[k + 2], border[k + 3]);
  }
  g.stroke();
  g.restore();
}

/** The points change rarely: they are drawn once, over a clear ground. `shown` says whether test points are. */
function pointsPicture(view, width, { x, y, cut }, shown, classes) {
  const { colours: c, scene, valueReach } = view, ratio = window.devicePixelRatio || 1;
  const canvas = canvasOf(Math.round(width * ratio), Math.round(width * ratio)), g = canvas.getContext("2d");
  const [low, high, bottom, top] = boundsOf(scene), radius = clamp(width / 125, 2, 3.4) * (y.length > 3000 ? 0.6 : 1);
  g.scale(ratio, ratio);
  const shade = (value) => c.units[clamp(Math.round((value / valueReach) * 127 + 128), 0, 255)];
  const colourOf = (value) => (classes ? classColour(c, value, classes)
    : `rgb(${[0, 8, 16].map((s) => (shade(value) >> s) & 255)})`);
  for (let k = 0; k < (shown ? y.length : cut); k++) {
    const hollow = k >= cut, colour = colourOf(y[k]), edge = classes ? c.paper : c.faint;
    const across = ((x[2 * k] - low) / (high - low)) * width, down = ((top - x[2 * k + 1]) / (top - bottom)) * width;
    mark(g, across, down, hollow ? radius : radius * 0.92, classes ? y[k] : 0);
    g.fillStyle = hollow ? c.paper : colour;
    g.strokeStyle = hollow ? colour : edge;
    g.lineWidth = hollow ? 1.3 : classes ? 1.2 : 0.6;
    if (hollow) { g.fill(); g.stroke(); } else { g.stroke(); g.fill(); }
  }
  g.font = `10px ${c.font}`;
  g.fillStyle = c.faint;
  g.fillText("x₂ ↑", 5, 12);
  g.textAlign = "right";
  g.fillText("x₁ →", width - 5, width - 5);
  return canvas;
}
