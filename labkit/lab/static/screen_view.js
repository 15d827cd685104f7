// What the screen shows: the pictures of one moment, drawn at most once a frame, and the words and numbers beside them.
// `Screen` adds to this what the kernel says and what people do.

const LEAST_UNIT = 20; // pixels: with more layers than fit at this size, a window over the layers is shown

const NARROWEST = 120; // pixels: where a window leaves less, there is nothing to draw on

class View {
  /** Layers from `first` on need computing again: at most once a frame, however often this is called. */
  changed(first = Infinity) {
    this.first = Math.min(this.first ?? Infinity, first);
    this.waiting ??= requestAnimationFrame(() => this.redraw());
  }

  /** Compute and draw everything now. */
  redraw() {
    const first = this.first ?? Infinity, { grid, shape, touch } = this;
    cancelAnimationFrame(this.waiting);
    this.waiting = undefined;
    if (performance.now() < this.until) return this.changed(); // the first weights of a new network are on their way
    this.first = undefined;
    if (first <= shape.last && grid) {
      grid.run(this.theta, first);
      grid.shown(this.answer);
      this.reaches = [];
      this.border = this.scene.kind === "plane" && this.scene.classes === 2 ? zeroLines(this.answer, this.side) : null;
    }
    if (first <= shape.last && (touch.editing?.moved || touch.overlay.size)) this.judged = this.judge();
    const maps = this.atlas && grid && this.scene.kind === "plane";
    if (first <= shape.last && maps) paintAtlas(this, first > 1 ? first : 0);
    this.draw();
    this.redraws++;
    this.root.dataset.frames = this.redraws;
  }

  draw() {
    if (!this.colours || this.root.clientWidth < NARROWEST) return;
    if (this.columns && this.panels.tab === "network") drawNetwork(this.parts.wires, this);
    this.drawMap();
    if (this.curve) this.drawCurve();
    this.sayCaption();
    this.sayFigures();
    this.saySentence();
    if (!this.running) this.sayTwins(); // a screen reader is told of pictures that stand still
  }

  /** Loss and score of the weights as they are now, where the points are here. */
  judge() {
    const { scene, scenePoints: points, shape, theta } = this;
    if (!["plane", "line"].includes(scene.kind) || !points.y.length || points.y.length * shape.size > 2e7) return null;
    this.asked ??= new Answers(scene, shape, inputsOf(scene, points.x));
    this.asked.run(theta);
    const part = (from, to) => judge(this.asked, points.y, from, to);
    return { train: part(0, points.cut), test: part(points.cut, points.y.length) };
  }

  // ---------------------------------------------------------------- colours and sizes
  takeTheme() {
    const c = (this.colours = coloursOf(this.root));
    this.theme = `${c.paper} ${c.ink} ${c.accent}`;
    this.root.dataset.dark = c.dark;
    for (const name of ["good", "bad", "test"]) this.root.style.setProperty(`--lk-${name}`, c[name]);
    this.parts.key.style.background = `linear-gradient(to right, ${c.below}, ${c.zero}, ${c.above})`;
  }

  retheme() {
    const before = this.theme;
    if (this.gone) return;
    this.takeTheme();
    if (this.theme === before) return;
    this.drawThumbnails();
    this.pointsChanged();
    this.panels.fill();
    this.changed(0);
  }

  drawThumbnails() {
    if (!this.colours || this.root.clientWidth < NARROWEST) return;
    const { thumbs } = this.parts;
    for (const each of thumbs.children) drawThumbnail(each.querySelector("canvas"), each.dataset.set, this.colours);
  }

  /** Fit everything to the room there is. */
  resize() {
    const { clientWidth: width, clientHeight: height } = this.parts.net;
    if (!this.root.clientWidth) return;
    if (this.laidOut !== this.root.clientWidth) { this.retheme(); this.drawThumbnails(); this.panels.fill(); }
    this.laidOut = this.root.clientWidth;
    if (width) {
      this.layers = this.windowOf(width);
      const { size, apart, columns, links } = layOut(this, width, height);
      Object.assign(this, { size, apart, columns, links, atlas: makeAtlas(columns.length) });
      this.placeElements();
    }
    this.pointsTile = null;
    this.changed(0);
  }

  /** Which layers have a column: all of them, or as many as fit. */
  windowOf(width) {
    const { parts, t, shape: { last } } = this, hidden = last - 1;
    const fit = Math.max(1, Math.floor(((width - 40) / LEAST_UNIT + 0.62) / 1.62) - 2);
    this.mostLayers = fit;
    this.layer0 = clamp(this.layer0, 1, Math.max(1, hidden - fit + 1));
    const end = Math.min(hidden, this.layer0 + fit - 1);
    parts.layers.classList.toggle("lk-gone", hidden <= fit);
    this.say("window", t("layers_shown", this.layer0, end));
    return [0, ...Array.from({ length: Math.max(0, end - this.layer0 + 1) }, (_, k) => this.layer0 + k), last];
  }

  /** The transparent elements over the picture: what is pointed at, focused and read aloud. */
  placeElements() {
    const { parts, columns, t, shape } = this, active = this.focused()?.dataset;
    const html = columns.flat().map((slot) => this.slotHtml(slot));
    for (const [slot] of columns) html.push(this.headHtml(slot));
    parts.units.innerHTML = html.join("");
    const link = (l) => `<path d="${l.line}" data-link="${addressOf(l)}" tabindex="-1" role="button"
      ${named(this.nameOf(l))}/>`;
    parts.links.innerHTML = this.links.filter((l) => l.index >= 0).map(link).join("");
    this.focusAgain(active);
    const first = parts.units.querySelector('[data-unit="1.1"]') ?? parts.units.querySelector("[data-unit]");
    if (!parts.net.querySelector('[tabindex="0"]') && first) first.tabIndex = 0;
    this.say("network-twin", t("network_twin", shape.last, thousands(shape.size)));
  }

  /** Rebuilding must not throw the keyboard out of the network. */
  focusAgain(active) {
    if (!active || !["unit", "link", "bias", "feature", "widthOf", "page"].some((key) => key in active)) return;
    const want = ["unit", "link", "bias", "feature", "page"].find((key) => key in active);
    const found = want ? this.parts.net.querySelector(`[data-${want}="${active[want]}"]`)
      : this.parts.net.querySelector(`[data-width-of="${active.widthOf}"][data-by="${active.by}"]`);
    if (!found) return;
    if (!active.widthOf && !active.page) found.tabIndex = 0;
    found.focus();
  }

  slotHtml(slot) {
    const { size, t } = this, { layer, unit, x, y, place, row } = slot;
    const box = `left:${x}px;top:${y}px;width:${size}px;height:${size}px`;
    const at = `class="lk-unit" style="${box}" data-slot="${place}.${row}" tabindex="-1"`;
    if (slot.feature) {
      const name = FEATURES[slot.feature][0], about = t(slot.on ? "feature_on" : "feature_off", name);
      return `<span class="lk-input${slot.on ? "" : " lk-off"}" style="top:${y}px;height:${size}px">${name}</span>
        <button type="button" ${at} ${slot.on ? `data-unit="0.${unit + 1}"` : ""}
          data-feature="${escaped(slot.feature)}" aria-pressed="${slot.on}" ${titled(about)}
          ${named(t("input", name))}></button>`;
    }
    if (slot.bundle) return `<span role="img" ${titled(t("pixels"))} ${named(t("pixels"))} ${at}></span>`;
    const name = this.nameOf(layer, unit);
    return `<button type="button" ${at} data-unit="${layer}.${unit + 1}" ${named(name)} ${titled(name)}></button>
      ${layer ? `<button type="button" tabindex="-1" class="lk-bias" style="left:${x - 8}px;top:${y + size - 8}px"
        data-bias="${layer}.${unit + 1}" ${named(t("bias_of", this.nameOf(layer, unit)))}
        ${titled(t("bias_of", this.nameOf(layer, unit)))}></button>` : ""}`;
  }

  /** Above a column: how many units, with − and +; below it, the way to the others. */
  headHtml({ layer, x }) {
    const { t, shape, size, pages, scene } = this, count = shape.widths[layer], left = `style="left:${x + size / 2}px"`;
    const words = layer === 0 ? t("inputs") : layer === shape.last ? t("answer") : "", tight = this.apart < 42;
    const about = (by) => t(by < 0 ? "fewer_units" : "more_units", layer);
    const side = (by) => `<button type="button" data-width-of="${layer}" data-by="${by}" ${titled(about(by))}
      ${named(about(by))}>${by < 0 ? "−" : "+"}</button>`;
    const head = words ? `<span class="lk-widths lk-word" ${left}>${tight ? "" : words}</span>`
      : `<span class="lk-widths" ${left}>${tight ? "" : side(-1)}<b>${count}</b>${tight ? "" : side(1)}</span>`;
    const more = count - MOST_SHOWN;
    if (more <= 0 || (layer === 0 && scene.kind !== "table")) return head;
    const page = `${pages[layer] + 1}–${Math.min(count, pages[layer] + MOST_SHOWN)}`;
    return `${head}<button type="button" class="lk-more" ${left} data-page="${layer}" ${titled(t("next_units"))}>${
      pages[layer] ? page : tight ? `+${more}` : t("n_more", more)}</button>`;
  }

  reachOf(layer, unit) {
    const bounded = ["tanh", "sigmoid"].includes(this.scene.activation) && !this.scene.residual;
    if (layer && layer < this.shape.last && bounded) return 1;
    return layer ? ((this.reaches ??= [])[layer] ??= spread(this.grid.layers[layer])) : spread(this.grid.of(0, unit));
  }

  // ---------------------------------------------------------------- the large picture and the curve
  pointsChanged() { this.pointsTile = null; this.changed(); }

  drawMap() {
    const { parts, scene, touch, frame } = this, canvas = parts.map, { unit, painting } = touch;
    const points = painting ? { x: painting.x, y: painting.y, cut: painting.y.length } : this.scenePoints;
    parts.map.classList.toggle("lk-paints", Boolean(painting));
    if (painting && scene.kind !== "plane") this.drawBlank(canvas, points);
    else if (this.grid && scene.kind === "plane") {
      const classes = painting ? 2 : scene.classes;
      this.pointsTile ??= pointsPicture(this, canvas.clientWidth, points, parts.tests.checked, classes);
      drawPlane(canvas, this, unit, { points: this.pointsTile, sure: parts.sure.checked && scene.classes === 2 });
    } else if (this.grid) drawLinePlot(canvas, this, unit, points, parts.tests.checked);
    else if (unit?.layer) this.drawUnitWeights(canvas, unit);
    else if (frame.confusion?.length) drawConfusion(canvas, this, frame.confusion);
    else if (frame.scatter) {
      const { truth, answer } = frame.scatter;
      drawScatter(canvas, this, { truth: floats(truth), answer: floats(answer) }, [this.t("target"), this.t("answer")]);
    } else this.drawNothing(canvas);
    this.sayChip(unit);
    this.sayKey(unit);
  }

  /** Painting where the network has no map: an empty square. */
  drawBlank(canvas, points) {
    const { g, width } = pen(canvas);
    g.fillStyle = this.colours.zero;
    g.fillRect(0, 0, width, width);
    const view = { colours: this.colours, scene: { ...EMPTY_SCENE, classes: 2 }, valueReach: 1 };
    g.drawImage(pointsPicture(view, width, points, true, 2), 0, 0, width, width);
  }

  drawUnitWeights(canvas, { layer, unit }) {
    const { g, width } = pen(canvas);
    drawWeights(g, this, layer, unit, 0, 0, width);
  }

  drawNothing(canvas) {
    const { g, width } = pen(canvas), { colours: c } = this;
    g.fillStyle = c.zero;
    g.fillRect(0, 0, width, width);
    Object.assign(g, { font: `11px ${c.font}`, fillStyle: c.faint, textAlign: "center" });
    g.fillText(this.shape.size > TOO_LARGE ? this.t("too_large") : this.t("coming"), width / 2, width / 2);
  }

  drawCurve() {
    const { parts, colours, curve, others, pins = [], status, scene, judged, t } = this;
    const total = Math.max(status.total ?? scene.steps ?? 0, curve.step.at(-1) ?? 0, 1);
    const names = { train: t("end_train"), test: t("end_test"), score: t("end_score") };
    const now = judged && { train: judged.train.loss, test: judged.test.loss };
    drawCurve(parts.curve, { colours, curve, others, pins, total, names, judged: now });
  }

  // ---------------------------------------------------------------- words and numbers
  say(part, text) { if (this.parts[part].textContent !== text) this.parts[part].textContent = text; }

  /** What people call a unit, or a link or bias given as {layer, from, to}. */
  nameOf(layer, unit) {
    const { t, shape } = this;
    if (typeof layer === "object") {
      const { from, to } = layer, target = this.nameOf(layer.layer, to);
      return from < 0 ? t("bias_of", target) : t("weight_of", this.nameOf(layer.layer - 1, from), target);
    }
    if (layer === 0) return this.inputName(unit);
    if (layer < shape.last) return t("unit", layer, unit + 1);
    return shape.widths[layer] > 1 ? t("class_answer", this.className(unit)) : t("the_answer");
  }

  inputName(unit) {
    const { scene, t } = this;
    if (scene.kind === "plane") return FEATURES[scene.features[unit]]?.[0] ?? `x${unit + 1}`;
    return scene.kind === "line" ? "x" : scene.kind === "image" ? t("pixel", unit + 1) : `x${unit + 1}`;
  }

  className(k) { return this.t("class_n", this.scene.labels?.[k] ?? k); }

  shortNameOf({ layer, from, to }) {
    const { t, shape } = this;
    const unit = (l, k) => {
      if (l === 0) return this.inputName(k);
      if (l < shape.last) return t("unit_short", l, k + 1);
      return shape.widths[l] > 1 ? this.className(k) : t("answer");
    };
    return from < 0 ? t("bias_of", unit(layer, to)) : `${unit(layer - 1, from)} → ${unit(layer, to)}`;
  }

  sayCaption() {
    const { touch, t } = this, focus = touch.pointed ?? touch.held;
    this.say("caption", this.captionOf(focus) ?? t(this.grid ? "legend" : "legend_cells"));
  }

  captionOf(focus) {
    const { t, shape, theta, grid, scene } = this;
    if (!focus || !["unit", "link", "bias"].includes(focus.kind)) return null;
    if (focus.index !== undefined) return t("weight_now", this.nameOf(focus), signed(theta[focus.index]));
    const { layer, unit } = focus, name = this.nameOf(layer, unit);
    if (layer === 0) return t(scene.kind === "plane" ? "feature_on" : "input_about", this.inputName(unit));
    const held = this.touch.held === focus ? t("kept") : t("click_keeps");
    if (layer === shape.last) return t("answer_unit", name);
    if (grid && movement(grid.of(layer, unit)) < 1e-7) return t("dead", name) + held;
    const share = Math.round(100 * shareOf(shape, theta, layer, unit, grid));
    const next = layer + 1 < shape.last ? t("layer_n", layer + 1) : t("the_answer");
    return t("carries", name, share, next) + held;
  }

  sayChip(unit) {
    const { parts, touch: { pointed, painting }, frame, t } = this;
    const place = pointed?.kind === "place" && !painting ? pointed : null;
    const cell = pointed?.kind === "cell" ? pointed : null, count = cell && frame.confusion?.[cell.row]?.[cell.column];
    parts.chip.hidden = !unit && !place && !isNumber(count);
    if (unit) this.say("chip", this.nameOf(unit.layer, unit.unit));
    else if (place) this.say("chip", this.readingAt(place));
    else if (cell) this.say("chip", t("cell", this.className(cell.row), this.className(cell.column), count));
  }

  /** What the network answers at a place that is pointed at. */
  readingAt({ x, y }) {
    const { scene, answer, side } = this, [low, high, bottom, top] = boundsOf(scene), across = low + x * (high - low);
    if (scene.kind === "line") return `x ${signed(across)}  →  ${signed(answer[Math.round(x * (LINE - 1))])}`;
    const nth = (share) => Math.min(side - 1, Math.floor(share * side)), a = answer[nth(y) * side + nth(x)];
    const sure = scene.classes > 2 ? `${this.className(Math.floor(a))} ${Math.round(100 * (a % 1))} %`
      : scene.classes ? `${a > 0 ? "▲" : "●"} ${Math.round(50 + 50 * Math.abs(a))} %` : signed(a);
    return `x₁ ${signed(across)}  x₂ ${signed(top - y * (top - bottom))}  →  ${sure}`;
  }

  /** The ends of the colour scale; hidden where the large picture has none, without moving anything. */
  sayKey(unit) {
    const { parts, scene, colours: c } = this, classes = scene.classes === 2 && !unit;
    const none = !this.grid || scene.kind === "line" || (scene.classes > 2 && !unit);
    const matrix = !this.grid && !unit && Boolean(this.frame.confusion?.length);
    parts["tests-label"].hidden = parts["sure-label"].hidden = !this.grid;
    this.say("axes", matrix ? this.t("matrix") : "");
    parts["key-holder"].classList.toggle("lk-gone", none);
    parts["sure-label"].classList.toggle("lk-gone", !this.grid || scene.kind !== "plane" || scene.classes !== 2);
    if (none) return;
    const reach = unit ? this.reachOf(unit.layer, unit.unit) : this.valueReach;
    const short = (v) => digits(v, 2).replace(/\.0$/, "");
    parts.low.style.color = classes ? c.below : "";
    parts.high.style.color = classes ? c.above : "";
    this.say("low", classes ? "●" : short(-reach));
    this.say("high", classes ? "▲" : short(reach));
  }

  scoreText(score) {
    if (!isNumber(score)) return "—";
    return this.scene.classes ? `${Math.floor(100 * score + 1e-4)} %` : score.toFixed(2).replace("-", "−");
  }

  sayFigures() {
    const { frame, judged, scene, t } = this, tested = isNumber(judged ? judged.test.loss : frame.test_loss);
    const own = judged && (isNumber(judged.test.loss) ? judged.test : judged.train);
    const score = own ? own.score : frame.score, others = (frame.others ?? []).map((o) => o.score).filter(isNumber);
    this.say("step", thousands(frame.step ?? 0));
    this.say("score-name", scene.score_name ?? t("score"));
    this.say("score", this.scoreText(score));
    this.say("loss-name", t(tested || !isNumber(frame.loss) ? "test_loss" : "train_loss"));
    this.say("loss", digits(own ? own.loss : frame.test_loss ?? frame.loss));
    const all = isNumber(frame.score) ? [...others, frame.score] : others;
    this.say("seeds-name", others.length ? t("seeds", all.length) : "");
    const short = (s) => this.scoreText(s).replace(" %", "");
    this.say("seeds", others.length ? `${short(Math.min(...all))} … ${this.scoreText(Math.max(...all))}` : "");
  }

  /** The one sentence: a warning before all else, then what is being done, then what the kernel tells. */
  saySentence() {
    const { status, touch, t, parts } = this, warning = this.ownNote || status.warning || "";
    const doing = touch.painting ? touch.paintSentence() : touch.sentence();
    const text = warning || doing || status.waiting || status.sentence || t("welcome");
    this.say("sentence", text);
    parts.sentence.title = text;
    parts.sentence.classList.toggle("lk-warning", Boolean(warning));
  }

  /** What the pictures show, for those who do not see them. */
  sayTwins() {
    const { t, scene, frame, answer, curve } = this, name = scene.widths.join("-"), matrix = frame.confusion;
    if (matrix?.length) this.say("map-twin", t("confusion_twin", name, ...this.mistakes(matrix)));
    else if (answer && scene.classes === 2) {
      const above = answer.reduce((n, a) => n + (a > 0), 0) / answer.length;
      this.say("map-twin", t("map_twin", name, Math.round(100 * above)));
    } else if (answer) {
      const [low, high] = extent(answer, 0);
      this.say("map-twin", t("map_twin_value", name, digits(low), digits(high)));
    }
    const last = (list) => digits(list?.length ? list.at(-1) : NaN);
    this.say("curve-twin", t("curve_twin", thousands(frame.step ?? 0), digits(frame.loss ?? NaN), last(curve?.test),
      scene.score_name ?? t("score"), this.scoreText(frame.score)));
  }

  mistakes(matrix) {
    let all = 0, right = 0, worst = 0, words = this.t("no_mistake");
    matrix.forEach((row, i) => row.forEach((count, j) => {
      all += count;
      if (i === j) right += count;
      else if (count > worst) { worst = count; words = this.t("cell", this.className(i), this.className(j), count); }
    }));
    return [all, right, words];
  }
}
