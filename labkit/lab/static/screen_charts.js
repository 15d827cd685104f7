// Charts: a curve through points, a confusion matrix, answers against targets, the loss, pinned runs, thumbnails.

const plainTick = (x) => (Math.abs(x) < 1e-9 ? "0" : String(Number(x.toPrecision(2)))).replace("-", "−");

/** Round numbers between two bounds, some four of them. */
function ticks(low, high) {
  const rough = (high - low) / 4 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((k) => k * power >= rough), list = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-6; t += step) list.push(t);
  return list;
}

/** Two axes with a few round numbers; gives back where values stand. */
function axes(g, c, [x0, x1, y0, y1], [left, top, right, bottom], [nameX, nameY] = []) {
  const x = (v) => left + ((v - x0) / (x1 - x0)) * (right - left);
  const y = (v) => bottom - ((v - y0) / (y1 - y0)) * (bottom - top);
  Object.assign(g, { font: `10px ${c.font}`, fillStyle: c.faint, strokeStyle: c.line, lineWidth: 1 });
  Object.assign(g, { textAlign: "center", textBaseline: "alphabetic" });
  for (const t of ticks(x0, x1)) g.fillText(plainTick(t), x(t), bottom + 13);
  Object.assign(g, { textAlign: "right", textBaseline: "middle" });
  for (const t of ticks(y0, y1)) {
    const at = Math.round(y(t)) + 0.5;
    g.beginPath(); g.moveTo(left, at); g.lineTo(right, at); g.stroke();
    g.fillText(plainTick(t), left - 5, at);
  }
  if (nameX) g.fillText(nameX, right, bottom - 6);
  if (nameY?.length === 1) g.fillText(nameY, left - 5, top + 3);
  g.textAlign = "left";
  if (nameY?.length > 1) g.fillText(nameY, left + 4, top + 6);
  return { x, y };
}

function extent(values, margin = 0.08) {
  let low = Infinity, high = -Infinity;
  for (const v of values) if (Number.isFinite(v)) { low = Math.min(low, v); high = Math.max(high, v); }
  if (low > high) return [-1, 1];
  const room = (high - low || 1) * margin;
  return [low - room, high + room];
}

/** A network of one input: the data, and the answer as a curve; or one unit over the same input. */
function drawLinePlot(canvas, view, unit, { x, y, cut }, shown) {
  const { g, width, height } = pen(canvas), { scene, colours: c, places } = view;
  const values = unit ? view.grid.of(unit.layer, unit.unit) : view.answer, [low, high] = boundsOf(scene);
  const range = unit ? extent([...values, 0], 0.12) : extent(y.length ? y : values, 0.2);
  const box = [34, 10, width - 8, height - 20];
  const at = axes(g, c, [low, high, ...range], box, ["x", unit ? "" : "y"]);
  g.save();
  g.beginPath(); g.rect(box[0], box[1], box[2] - box[0], box[3] - box[1]); g.clip();
  g.beginPath();
  for (let k = 0; k < values.length; k++) g.lineTo(at.x(places[k]), at.y(values[k]));
  Object.assign(g, { strokeStyle: c.above, lineWidth: 2, lineJoin: "round" });
  g.stroke();
  if (!unit) for (let k = 0; k < (shown ? y.length : cut); k++) {
    mark(g, at.x(x[k]), at.y(y[k]), 2.6, k < cut ? 0 : 1);
    g.fillStyle = k < cut ? c.below : c.paper;
    g.strokeStyle = k < cut ? c.paper : c.below;
    g.lineWidth = 1.2;
    g.stroke(); g.fill();
    if (k >= cut) g.stroke();
  }
  if (view.focus?.kind === "place") {
    const across = at.x(low + view.focus.x * (high - low));
    g.strokeStyle = c.faint; g.lineWidth = 1;
    g.beginPath(); g.moveTo(across, box[1]); g.lineTo(across, box[3]); g.stroke();
  }
  g.restore();
}

const MATRIX_LEFT = 22, MATRIX_TOP = 18; // room for the names of classes around a confusion matrix

/** How often each class was answered as which: rows are the truth, columns the answer. */
function drawConfusion(canvas, { colours: c, scene, focus }, matrix) {
  const { g, width } = pen(canvas), n = matrix.length, left = MATRIX_LEFT, top = MATRIX_TOP;
  const cell = (width - left - 2) / n;
  const labels = scene.labels?.length === n ? scene.labels : matrix.map((_, k) => k);
  Object.assign(g, { font: `${clamp(cell * 0.4, 8, 13)}px ${c.font}`, textAlign: "center", textBaseline: "middle" });
  matrix.forEach((row, i) => {
    const total = row.reduce((a, b) => a + b, 0) || 1, y = top + i * cell;
    g.fillStyle = c.faint;
    g.fillText(String(labels[i]), left - 10, y + cell / 2);
    g.fillText(String(labels[i]), left + (i + 0.5) * cell, top - 8);
    row.forEach((count, j) => {
      const x = left + j * cell, share = count / total;
      g.fillStyle = c.zero;
      g.fillRect(x, y, cell - 1, cell - 1);
      g.globalAlpha = count ? 0.15 + 0.6 * Math.sqrt(share) : 0;
      g.fillStyle = i === j ? c.below : c.above;
      g.fillRect(x, y, cell - 1, cell - 1);
      g.globalAlpha = count ? 1 : 0;
      g.fillStyle = c.ink;
      if (cell > 13) g.fillText(count, x + cell / 2 - 0.5, y + cell / 2);
      g.globalAlpha = 1;
    });
  });
  if (focus?.kind === "cell") {
    g.strokeStyle = c.ink; g.lineWidth = 1.5;
    g.strokeRect(left + focus.column * cell, top + focus.row * cell, cell - 1, cell - 1);
  }
}

/** The class and the answer of a place of the confusion matrix, or nothing. */
function cellAt(n, width, x, y) {
  const cell = (width - MATRIX_LEFT - 2) / n;
  const column = Math.floor((x - MATRIX_LEFT) / cell), row = Math.floor((y - MATRIX_TOP) / cell);
  return column >= 0 && row >= 0 && column < n && row < n ? { kind: "cell", row, column } : null;
}

/** Answers against targets of a table: right ones stand on the diagonal. */
function drawScatter(canvas, { colours: c }, { truth, answer }, names) {
  const { g, width, height } = pen(canvas), range = extent([...truth, ...answer]);
  const at = axes(g, c, [...range, ...range], [38, 10, width - 8, height - 20], names);
  g.strokeStyle = c.faint;
  g.setLineDash([4, 3]);
  g.beginPath(); g.moveTo(at.x(range[0]), at.y(range[0])); g.lineTo(at.x(range[1]), at.y(range[1])); g.stroke();
  g.setLineDash([]);
  g.fillStyle = c.below;
  g.globalAlpha = 0.7;
  truth.forEach((t, k) => { mark(g, at.x(t), at.y(answer[k]), 2.2); g.fill(); });
  g.globalAlpha = 1;
}

// ---------------------------------------------------------------- the loss
/** Axes for losses: even in the root of the step, where learning happens, and in powers of ten of the loss. */
function lossAxes(g, c, losses, total, [left, top, right, bottom]) {
  const shown = losses.filter((l) => l > 0 && Number.isFinite(l));
  let least = Infinity, most = 0;
  for (const l of shown) { least = Math.min(least, l); most = Math.max(most, l); }
  const low = shown.length ? Math.min(-1, Math.floor(Math.log10(least) + 0.3)) : -1;
  const high = Math.max(low + 1, shown.length ? Math.log10(most) : 0);
  const x = (step) => left + (right - left) * Math.sqrt(step / Math.max(1, total));
  const height = (loss) => clamp((Math.log10(Math.max(loss, 10 ** low)) - low) / (high - low), 0, 1);
  const y = (loss) => bottom - height(loss) * (bottom - top);
  Object.assign(g, { font: `10px ${c.font}`, fillStyle: c.faint, strokeStyle: c.line, lineWidth: 1 });
  Object.assign(g, { textBaseline: "middle", textAlign: "right" });
  const every = Math.max(1, Math.ceil((high - low) / Math.max(1, (bottom - top) / 16)));
  for (let k = low; k <= high; k += every) {
    const at = Math.round(y(10 ** k)) + 0.5;
    g.beginPath(); g.moveTo(left, at); g.lineTo(right, at); g.stroke();
    const plain = k < 0 ? (10 ** k).toFixed(-k) : String(10 ** k);
    g.fillText(Math.abs(k) > 3 ? `1e${k}`.replace("-", "−") : plain, left - 5, at);
  }
  Object.assign(g, { textAlign: "center", textBaseline: "alphabetic" });
  const shares = right - left > 180 ? [0, 0.05, 0.25, 0.5, 1] : [0, 0.25, 1];
  for (const share of total < 20 ? [0, 1] : shares) g.fillText(thousands(share * total), x(share * total), bottom + 13);
  return { x, y };
}

function line(g, xs, ys, colour, { alpha = 1, dash = [], width = 1.5 } = {}) {
  g.beginPath();
  xs.forEach((x, k) => { if (Number.isFinite(ys[k])) g.lineTo(x, ys[k]); });
  Object.assign(g, { strokeStyle: colour, globalAlpha: alpha, lineWidth: width, lineJoin: "round" });
  g.setLineDash(dash);
  g.stroke();
  g.setLineDash([]);
  g.globalAlpha = 1;
}

/** Training and test loss, the score, the other seeds as a band, pinned runs faintly; the names stand at the ends. */
function drawCurve(canvas, { colours: c, curve, others, pins, total, judged, names }) {
  const { g, width, height } = pen(canvas), box = [32, 6, width - 42, height - 16], bottom = box[3];
  const now = judged ? [judged.train, judged.test] : [];
  const losses = [curve.train, curve.test, now, ...others, ...pins.map((pin) => pin.test)].flatMap((list) => [...list]);
  const { x, y } = lossAxes(g, c, losses, total, box);
  const xs = Array.from(curve.step, x), at = (list) => Array.from(list, y);
  for (const pin of pins) line(g, Array.from(pin.step, x), at(pin.test), c.faint, { alpha: 0.5, width: 1 });
  if (others.length) drawBand(g, curve.step, others, x, y, c.test);
  const scoreY = Array.from(curve.score, (s) => bottom - clamp(s, 0, 1) * (bottom - box[1]));
  line(g, xs, scoreY, c.score, { alpha: 0.9, width: 1.2, dash: [1, 2] });
  line(g, xs, at(curve.train), c.ink, { dash: [3, 2] });
  line(g, xs, at(curve.test), c.test);
  const ends = [["train", c.ink, at(curve.train), judged?.train], ["test", c.test, at(curve.test), judged?.test]]
    .map(([key, colour, list, l]) => ({ key, colour, y: isNumber(l) ? y(l) : list.at(-1), open: isNumber(l) }))
    .concat({ key: "score", colour: c.score, y: scoreY.at(-1) }).filter((end) => Number.isFinite(end.y));
  if (!xs.length || !ends.length) return;
  const right = xs.at(-1);
  for (const end of ends) {
    mark(g, right, end.y, 2.5);
    g.fillStyle = end.open ? c.paper : end.colour;
    Object.assign(g, { strokeStyle: end.colour, lineWidth: 1.5 });
    g.fill(); g.stroke();
  }
  spreadOut(ends, box[1], bottom, 10.5);
  Object.assign(g, { textBaseline: "middle", textAlign: "left" });
  for (const end of ends) {
    g.fillStyle = end.colour;
    g.fillText(names[end.key], right + 7, end.y);
  }
}

/** Move labels apart so that none covers another: down from the top, then up again from the bottom. */
function spreadOut(ends, top, bottom, apart) {
  ends.sort((a, b) => a.y - b.y);
  let least = top;
  for (const end of ends) { end.y = Math.max(end.y, least); least = end.y + apart; }
  let most = bottom;
  for (const end of ends.reverse()) { end.y = Math.min(end.y, most); most = end.y - apart; }
}

/** From the lowest to the highest of the other seeds. */
function drawBand(g, steps, others, x, y, colour) {
  const n = Math.min(steps.length, ...others.map((o) => o.length));
  const edge = (pick) => (k) => [x(steps[k]), y(pick(...others.map((o) => o[k])))];
  const places = Array.from({ length: n }, (_, k) => k).filter((k) => others.every((o) => o[k] > 0));
  g.beginPath();
  for (const k of places) g.lineTo(...edge(Math.min)(k));
  for (const k of places.reverse()) g.lineTo(...edge(Math.max)(k));
  g.closePath();
  g.fillStyle = colour;
  g.globalAlpha = 0.3;
  g.fill();
  g.globalAlpha = 1;
}

/** Pinned runs over one another; each has its colour and its dashes. */
function drawCompare(canvas, c, runs) {
  const { g, width, height } = pen(canvas), total = Math.max(1, ...runs.map((r) => r.step.at(-1) ?? 1));
  const { x, y } = lossAxes(g, c, runs.flatMap((r) => [...r.test]), total, [34, 8, width - 12, height - 18]);
  runs.forEach(({ step, test }, k) => {
    line(g, Array.from(step, x), Array.from(test, y), classColour(c, k, 9), { dash: DASHES[k % DASHES.length] });
  });
}

// ---------------------------------------------------------------- thumbnails
/** Repeatable numbers in [0, 1), for pictures that are the same every time. */
function repeatable(seed) {
  let state = seed * 2654435761;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}

const about = (random) => random() + random() + random() - 1.5; // roughly normal
const square = (random) => [1.8 * random() - 0.9, 1.8 * random() - 0.9];
const SKETCHES = { // data set → a point (x, y, value), in -1 … 1; value > 0 is class 1
  circle(r, k) {
    const t = 6.28 * r(), d = k % 2 ? 0.42 * Math.sqrt(r()) : 0.66 + 0.25 * r();
    return [d * Math.cos(t), d * Math.sin(t), k % 2];
  },
  xor(r) {
    const [x, y] = square(r);
    return [x + Math.sign(x) * 0.05, y + Math.sign(y) * 0.05, Number(x * y > 0)];
  },
  gauss(r, k) {
    const s = k % 2 ? 0.42 : -0.42;
    return [s + 0.4 * about(r), s + 0.4 * about(r), k % 2];
  },
  spiral(r, k, n) {
    const t = (10 * k) / n + (k % 2 ? 3.14 : 0), d = (0.9 * k) / n;
    return [d * Math.sin(t), d * Math.cos(t), k % 2];
  },
  moons(r, k) {
    const t = 3.14 * r(), s = k % 2 ? -1 : 1;
    return [0.55 * s * Math.cos(t) - 0.27 * s, s * (0.7 * Math.sin(t) - 0.22) + 0.1 * about(r), k % 2];
  },
  plane(r) {
    const [x, y] = square(r);
    return [x, y, 0.8 * (x + y)];
  },
  bumps(r) {
    const [x, y] = square(r);
    return [x, y, Math.sin(3.6 * x) * Math.sin(3.6 * y)];
  },
};
const THREE = ["00111100", "01111110", "00000110", "00011100", "00001110", "00000110", "01111110", "00111100"];

/** The digit 3 in 8 × 8 pixels: what pictures look like to a network. */
function drawDigit(g, x, y, side, colour) {
  const cell = side / 8;
  g.fillStyle = colour;
  THREE.forEach((row, i) => [...row].forEach((on, j) => {
    if (on === "1") g.fillRect(x + j * cell, y + i * cell, cell + 0.2, cell + 0.2);
  }));
}

const GLYPHS = { // what is no cloud of points
  chebyshev(g, w, c) {
    const at = (x) => [w * (0.5 + 0.42 * x), w * (0.5 - 0.36 * (8 * x ** 4 - 8 * x * x + 1))];
    g.beginPath();
    for (let k = -50; k <= 50; k++) g.lineTo(...at(k / 50));
    Object.assign(g, { strokeStyle: c.above, lineWidth: 1.3 });
    g.stroke();
    g.fillStyle = c.below;
    for (let k = 0; k < 9; k++) { mark(g, ...at(Math.cos((Math.PI * (k + 0.5)) / 9)), w / 24); g.fill(); }
  },
  digits: (g, w, c) => drawDigit(g, w * 0.18, w * 0.18, w * 0.64, c.ink),
  teacher(g, w, c) {
    const left = [0.3, 0.7], right = [0.2, 0.5, 0.8];
    g.strokeStyle = c.faint; g.lineWidth = 0.8;
    g.beginPath();
    for (const a of left) for (const b of right) {
      g.moveTo(w * 0.22, w * a);
      g.lineTo(w * 0.56, w * b);
      g.lineTo(w * 0.84, w * 0.5);
    }
    g.stroke();
    g.fillStyle = c.below;
    for (const [x, y] of [...left.map((a) => [0.22, a]), ...right.map((b) => [0.56, b]), [0.84, 0.5]]) {
      mark(g, w * x, w * y, w / 14);
      g.fill();
    }
  },
  csv(g, w, c) {
    g.fillStyle = c.faint;
    for (let k = 0; k < 15; k++) {
      g.globalAlpha = k < 3 ? 1 : 0.45;
      g.fillRect(w * (0.16 + 0.24 * (k % 3)), w * (0.2 + 0.13 * Math.floor(k / 3)), w * 0.19, Math.max(2, w * 0.06));
    }
    g.globalAlpha = 1;
  },
  paint(g, w, c) {
    [[0.2, 0.3, 0], [0.32, 0.2, 0], [0.3, 0.42, 0], [0.78, 0.22, 1], [0.7, 0.36, 1]].forEach(([x, y, k]) => {
      g.fillStyle = classColour(c, k, 2);
      mark(g, w * x, w * y, w / 17, k); g.fill();
    });
    Object.assign(g, { strokeStyle: c.ink, lineWidth: w / 13, lineCap: "round" });
    g.beginPath(); g.moveTo(w * 0.74, w * 0.56); g.lineTo(w * 0.46, w * 0.84); g.stroke();
    g.fillStyle = c.ink; mark(g, w * 0.37, w * 0.9, w / 22, 0); g.fill();
    g.lineCap = "butt";
  },
};

/** A data set as a small picture. */
function drawThumbnail(canvas, name, c) {
  const { g, width: w } = pen(canvas), sketch = SKETCHES[name];
  if (!sketch) return void (GLYPHS[name] ?? GLYPHS.csv)(g, w, c);
  const random = repeatable(7), n = 170;
  for (let k = 0; k < n; k++) {
    const [x, y, value] = sketch(random, k, n), graded = name === "plane" || name === "bumps";
    g.fillStyle = value > 0 ? c.above : c.below;
    g.globalAlpha = graded ? clamp(Math.abs(value) * 1.1, 0.08, 1) : 0.9;
    mark(g, w * (0.5 + 0.5 * x), w * (0.5 - 0.5 * y), w / 38);
    g.fill();
  }
  g.globalAlpha = 1;
}
