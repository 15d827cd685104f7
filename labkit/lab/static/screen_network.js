// What a network answers, in numbers alone: shapes, features, forward passes, losses, scores and border lines. No DOM.
// A scene says what is trained (its traits are listed in NOTES.md); theta holds the weights, layer after layer.

const SMALL = 24; // places along one side of a unit's small map
const LINE = 241; // places along the input of a network of one input
const TOO_LARGE = 3e4; // parameters beyond which the browser draws no maps
const FEATURES = { // name → how people write it, and its value at (x1, x2)
  "x1": ["x₁", (a) => a], "x2": ["x₂", (a, b) => b],
  "x1^2": ["x₁²", (a) => a * a], "x2^2": ["x₂²", (a, b) => b * b], "x1*x2": ["x₁x₂", (a, b) => a * b],
  "sin(x1)": ["sin x₁", (a) => Math.sin(a)], "sin(x2)": ["sin x₂", (a, b) => Math.sin(b)],
};

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const isNumber = (x) => typeof x === "number" && Number.isFinite(x);

/** float32 numbers from whatever carried them: a DataView, an ArrayBuffer, a typed array, a list or nothing. */
function floats(bytes) {
  if (!bytes) return new Float32Array(0);
  if (Array.isArray(bytes)) return Float32Array.from(bytes);
  if (bytes instanceof Float32Array) return bytes.slice();
  const view = bytes instanceof ArrayBuffer ? new Uint8Array(bytes)
    : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return new Float32Array(view.slice().buffer, 0, view.length >> 2); // a copy: the view may start at any byte
}

/** The error function to 1.5e-7 (Abramowitz and Stegun 7.1.26). */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  const y = 1 - series * Math.exp(-x * x);
  return x < 0 ? -y : y;
}

const ACTIVATIONS = { // sums z → answers; a loop each, because a call for every place is slower
  tanh: (z, out) => { for (let p = 0; p < z.length; p++) out[p] = 1 - 2 / (Math.exp(2 * z[p]) + 1); },
  relu: (z, out) => { for (let p = 0; p < z.length; p++) out[p] = z[p] > 0 ? z[p] : 0; },
  sigmoid: (z, out) => { for (let p = 0; p < z.length; p++) out[p] = 1 / (1 + Math.exp(-z[p])); },
  gelu: (z, out) => { for (let p = 0; p < z.length; p++) out[p] = 0.5 * z[p] * (1 + erf(z[p] * Math.SQRT1_2)); },
  linear: (z, out) => out.set(z),
};

/** Where a layer's numbers stand in theta: layer after layer, weights (fan_in, fan_out) before biases. */
class Shape {
  constructor(widths) {
    this.widths = widths;
    this.last = widths.length - 1;
    this.start = [0, 0];
    for (let l = 2; l <= this.last; l++) this.start.push(this.start[l - 1] + (widths[l - 2] + 1) * widths[l - 1]);
    this.size = this.start[this.last] + (widths[this.last - 1] + 1) * widths[this.last];
  }

  weight(layer, from, to) { return this.start[layer] + from * this.widths[layer] + to; }
  bias(layer, to) { return this.weight(layer, this.widths[layer - 1], to); }
}

/** Add to a residual layer what goes around it: its input, or the mean of neighbours where the width halves. */
function addShortcut(below, out, widthIn, widthOut, places) {
  if (widthIn === widthOut) for (let p = 0; p < out.length; p++) out[p] += below[p];
  if (widthIn !== 2 * widthOut) return;
  for (let to = 0; to < widthOut; to++) {
    for (let p = 0, a = 2 * to * places, at = to * places; p < places; p++, a++, at++) {
      out[at] += (below[a] + below[a + places]) / 2;
    }
  }
}

/** What every unit answers at a fixed set of places: one array a layer, one unit after the other. */
class Answers {
  constructor(scene, shape, inputs) {
    Object.assign(this, { scene, shape, places: inputs.length / shape.widths[0] });
    this.sums = new Float64Array(this.places); // summed in float64, so that only the activations are rounded
    this.layers = shape.widths.map((width, l) => (l ? new Float32Array(width * this.places) : inputs));
  }

  of(layer, unit) { return this.layers[layer].subarray(unit * this.places, (unit + 1) * this.places); }

  /** Run the layers from `first` on: those before it are as they were. */
  run(theta, first = 1) {
    const { shape, scene, layers } = this, { widths, last } = shape;
    for (let layer = Math.max(1, first); layer <= last; layer++) {
      const activate = ACTIVATIONS[layer < last ? scene.activation : "linear"] ?? ACTIVATIONS.linear;
      for (let to = 0; to < widths[layer]; to++) activate(this.sum(theta, layer, to), this.of(layer, to));
      if (!scene.residual || layer === last) continue;
      addShortcut(layers[layer - 1], layers[layer], widths[layer - 1], widths[layer], this.places);
    }
  }

  /** The weighted sum of one unit at all places: two inputs at a time is half the traffic through z. */
  sum(theta, layer, to) {
    const { shape, places } = this, fanIn = shape.widths[layer - 1], z = this.sums.fill(theta[shape.bias(layer, to)]);
    for (let from = 0; from < fanIn; from += 2) {
      const two = from + 1 < fanIn, a = this.of(layer - 1, from), b = two ? this.of(layer - 1, from + 1) : a;
      const v = theta[shape.weight(layer, from, to)], w = two ? theta[shape.weight(layer, from + 1, to)] : 0;
      for (let p = 0; p < places; p++) z[p] += v * a[p] + w * b[p];
    }
    return z;
  }

  /** The answer as it is shown: class 1 minus class 0 in [-1, 1], a class and how sure it is, or the value. */
  shown(out) {
    const { scene, places, shape } = this, outputs = shape.widths[shape.last];
    const a = this.of(shape.last, 0), b = outputs > 1 ? this.of(shape.last, 1) : null;
    if (scene.classes > 2) for (let p = 0; p < places; p++) out[p] = this.winner(p);
    else if (b) for (let p = 0; p < places; p++) out[p] = 1 - 2 / (Math.exp(b[p] - a[p]) + 1);
    else if (scene.classes) for (let p = 0; p < places; p++) out[p] = clamp(a[p], -1, 1);
    else for (let p = 0; p < places; p++) out[p] = a[p] * scene.y_scale + scene.y_mean;
    return out;
  }

  /** Of more than two classes: the number of the answer, plus how sure it is as a fraction below 1. */
  winner(p) {
    const { layers, shape, places, scene } = this, z = layers[shape.last], k = shape.widths[shape.last];
    let best = 0, total = 0;
    for (let c = 1; c < k; c++) if (z[c * places + p] > z[best * places + p]) best = c;
    const top = z[best * places + p];
    for (let c = 0; c < k; c++) total += Math.exp(z[c * places + p] - top);
    return best + clamp(scene.loss === "cross_entropy" ? 1 / total : top, 0, 0.999);
  }
}

/** Features of points, scaled as the network sees them.  (N · raw inputs) → (features · N), one after the other */
function inputsOf(scene, points) {
  const features = scene.kind === "plane" ? scene.features : ["x1"], step = scene.kind === "plane" ? 2 : 1;
  const places = points.length / step, out = new Float32Array(features.length * places);
  features.forEach((name, f) => {
    const value = FEATURES[name]?.[1] ?? FEATURES.x1[1], mean = scene.mean?.[f] ?? 0, scale = scene.scale?.[f] || 1;
    for (let p = 0; p < places; p++) {
      out[f * places + p] = (value(points[step * p], points[step * p + 1]) - mean) / scale;
    }
  });
  return out;
}

/** How many places along one side of the map: fewer for large networks, always a multiple of the small map's. */
function gridSide(size) { return SMALL * (size < 6000 ? 3 : size < 25000 ? 2 : 1); }

/** Where the network is asked: the square of a plane row by row from the top, or points along a line. */
function placesOf(scene, side) {
  const [low, high, bottom, top] = boundsOf(scene);
  const between = (k, n) => low + ((high - low) * k) / n;
  if (scene.kind === "line") return Float32Array.from({ length: LINE }, (_, k) => between(k, LINE - 1));
  const along = (k, from, to) => from + ((k + 0.5) / side) * (to - from);
  return Float32Array.from({ length: 2 * side * side }, (_, k) => {
    const place = k >> 1;
    return k % 2 ? along(Math.floor(place / side), top, bottom) : along(place % side, low, high);
  });
}

const boundsOf = (scene) => (scene.bounds?.length === 4 ? scene.bounds : [-6, 6, -6, 6]);

/** The points of a scene as numbers, training points first; `cut` is where the test points begin. */
function pointsOf(scene) {
  const [trainX, trainY, testX, testY] = ["x_train", "y_train", "x_test", "y_test"].map((each) => floats(scene[each]));
  const join = (a, b) => {
    const both = new Float32Array(a.length + b.length);
    both.set(a);
    both.set(b, a.length);
    return both;
  };
  return { x: join(trainX, testX), y: join(trainY, testY), cut: trainY.length };
}

// ---------------------------------------------------------------- losses and scores
/** What output `k` should answer for a target: ±1 for two classes, 1 or 0 of more, or the scaled value. */
function targetOf(scene, y, k, outputs) {
  if (!scene.classes) return (y - scene.y_mean) / scene.y_scale;
  return outputs === 1 ? 2 * y - 1 : Number(y === k);
}

const ELEMENTWISE = {
  mse: (error) => error * error,
  huber: (error, delta) => {
    const size = Math.abs(error), inside = Math.min(size, delta);
    return inside * (size - inside / 2);
  },
};

/** The loss of one point, a mean over outputs as in torch. */
function lossAt(answers, y, p) {
  const { scene, shape, layers, places } = answers, outputs = shape.widths[shape.last], z = layers[shape.last];
  if (scene.loss === "cross_entropy") {
    let top = -Infinity, total = 0;
    for (let k = 0; k < outputs; k++) top = Math.max(top, z[k * places + p]);
    for (let k = 0; k < outputs; k++) total += Math.exp(z[k * places + p] - top);
    return Math.log(total) + top - z[y * places + p];
  }
  const each = ELEMENTWISE[scene.loss] ?? ELEMENTWISE.mse, delta = scene.huber_delta ?? 1;
  let sum = 0;
  for (let k = 0; k < outputs; k++) sum += each(z[k * places + p] - targetOf(scene, y, k, outputs), delta);
  return sum / outputs;
}

/** The class that the network answers at a place. */
function classAt(answers, p) {
  const { shape, layers, places } = answers, outputs = shape.widths[shape.last], z = layers[shape.last];
  if (outputs === 1) return Number(z[p] > 0);
  let best = 0;
  for (let k = 1; k < outputs; k++) if (z[k * places + p] > z[best * places + p]) best = k;
  return best;
}

/** Mean loss and score (accuracy, or R²) of the points `from` to `to`; nothing where there are none. */
function judge(answers, targets, from, to) {
  const { scene } = answers, n = to - from;
  if (!n) return { loss: null, score: null };
  let loss = 0, right = 0, sum = 0, squares = 0, unexplained = 0;
  for (let p = from; p < to; p++) {
    const y = targets[p];
    loss += lossAt(answers, y, p);
    if (scene.classes) { right += classAt(answers, p) === y; continue; }
    const value = answers.of(answers.shape.last, 0)[p] * scene.y_scale + scene.y_mean;
    sum += y; squares += y * y; unexplained += (value - y) ** 2;
  }
  return { loss: loss / n, score: scene.classes ? right / n : 1 - unexplained / (squares - (sum * sum) / n) };
}

// ---------------------------------------------------------------- borders and sizes
/** Where values are exactly 0 on a square grid: x0, y0, x1, y1 of line after line, in places (marching squares). */
function zeroLines(values, side) {
  const lines = [];
  for (let row = 0; row < side - 1; row++) for (let column = 0; column < side - 1; column++) {
    const k = row * side + column, a = values[k], b = values[k + 1], c = values[k + side + 1], d = values[k + side];
    if (((a > 0) + (b > 0) + (c > 0) + (d > 0)) % 4 === 0) continue;
    if (a > 0 !== b > 0) lines.push(column + a / (a - b), row);
    if (b > 0 !== c > 0) lines.push(column + 1, row + b / (b - c));
    if (d > 0 !== c > 0) lines.push(column + d / (d - c), row + 1);
    if (a > 0 !== d > 0) lines.push(column, row + a / (a - d));
  }
  return lines;
}

/** Where the colours of an unbounded map end, so that one far corner does not leave the rest pale. */
function spread(values) {
  let squares = 0, n = 0;
  for (let p = 0; p < values.length; p += values.length > 99 ? 7 : 1) { squares += values[p] * values[p]; n++; }
  return 1.8 * Math.sqrt(squares / Math.max(1, n)) + 1e-6;
}

/** The 97th percentile of the sizes of some 500 weights: what the widest line stands for. */
function largeWeight(theta) {
  const step = Math.max(1, Math.floor(theta.length / 500)), sizes = [];
  for (let k = 0; k < theta.length; k += step) sizes.push(Math.abs(theta[k]) || 0);
  sizes.sort((a, b) => a - b);
  return sizes[Math.floor(0.97 * (sizes.length - 1))] || 0;
}

/** How much a unit moves over the places: the standard deviation of its answers. */
function movement(values) {
  let sum = 0, squares = 0, n = 0;
  for (let p = 0; p < values.length; p += 5) { sum += values[p]; squares += values[p] * values[p]; n++; }
  return Math.sqrt(Math.max(0, squares / n - (sum / n) ** 2));
}

/** A unit's part in what the next layer receives: Σ |weight| × movement, as a share of its layer's. */
function shareOf(shape, theta, layer, unit, answers) {
  const { widths } = shape;
  const part = (k) => {
    let sizes = 0;
    for (let to = 0; to < widths[layer + 1]; to++) sizes += Math.abs(theta[shape.weight(layer + 1, k, to)]);
    return sizes * (answers ? movement(answers.of(layer, k)) : 1);
  };
  let total = 0;
  for (let k = 0; k < widths[layer]; k++) total += part(k);
  return total ? part(unit) / total : 0;
}
