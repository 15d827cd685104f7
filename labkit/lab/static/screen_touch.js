// What people do to the pictures: pointing at units, editing weights, walking with the keys, painting points.
// Addresses count from 1 as people do: unit "2.3" is unit 3 of hidden layer 2, inputs are layer 0; link "2.1.3"
// leads into layer 2 from unit 1 to unit 3; bias "2.3" belongs to unit 2.3.

const FEWEST_PAINTED = 10; // points that the kernel needs to make a data set
const SEND_EVERY = 100; // milliseconds between two messages while something is dragged
const HOLD = 800; // milliseconds for which an edit stands over frames that were on their way already

class Touch {
  constructor(screen) {
    Object.assign(this, { screen, pointed: null, held: null, editing: null, painting: null, sentAt: 0 });
    this.overlay = new Map(); // place in theta → a value that a person gave it
    this.listen();
  }

  /** What the pictures are drawn for: what is pointed at, or edited, or kept. */
  get focus() { return this.pointed ?? this.editing ?? this.held; }
  /** The unit whose picture is enlarged. */
  get unit() {
    const focus = this.pointed ?? this.held;
    return focus?.kind === "unit" && !this.painting ? focus : null;
  }

  /** The thing under the pointer or the focus: a unit, or a link or bias with its place in theta. */
  thing(element) {
    const { unit, link, bias } = element?.dataset ?? {}, { shape } = this.screen;
    const [layer, a, b] = (unit ?? link ?? bias ?? "").split(".").map(Number);
    if (unit) return { kind: "unit", layer, unit: a - 1, element };
    if (link) return { kind: "link", layer, from: a - 1, to: b - 1, index: shape.weight(layer, a - 1, b - 1), element };
    return bias ? { kind: "bias", layer, from: -1, to: a - 1, index: shape.bias(layer, a - 1), element } : null;
  }

  point(thing) {
    const { screen } = this;
    this.pointed = thing;
    if (thing?.index !== undefined) {
      thing.element.setAttribute("aria-label", `${screen.nameOf(thing)}: ${signed(screen.theta[thing.index])}`);
    }
    screen.changed();
  }

  /** A new network: what was pointed at or edited is no more. */
  forget() {
    clearTimeout(this.timer);
    this.overlay.clear();
    this.pointed = this.held = null;
    if (!this.editing) return;
    this.editing.moved = false; // the new network is not told of an edit of the old one
    this.close(false);
  }

  // ---------------------------------------------------------------- editing a weight or a bias
  edit(thing) {
    const { screen } = this, { parts, t } = screen, name = screen.nameOf(thing);
    this.send(true); // an edit before this one is whole
    const judged = screen.judge();
    this.editing = { ...thing, was: screen.theta[thing.index], before: judged?.test.loss ?? judged?.train.loss };
    this.editing.tested = judged?.test.loss !== null;
    parts.editor.hidden = false;
    parts.caption.hidden = true;
    parts.editor.setAttribute("aria-label", name);
    parts.editor.innerHTML = `<span ${titled(name)}>${escaped(screen.shortNameOf(thing))}</span>
      <input type="number" step="0.05" ${named(t("value"))} ${titled(name)}><input type="range" step="0.01"
        ${named(t("value_slider"))} ${titled(name)}>
      ${button("put-back", t("put_back"), t("put_back_about"))}${button("close", "×", t("close"), t("close"))}`;
    this.fillEditor();
    screen.changed();
  }

  fillEditor() {
    const { screen } = this, value = screen.theta[this.editing.index], reach = screen.weightReach;
    const most = Math.max(3, Math.ceil(1.5 * reach), Math.ceil(Math.abs(value) || 0));
    const [number, range] = this.screen.parts.editor.querySelectorAll("input");
    if (!(Number(range.max) >= most)) Object.assign(range, { min: -most, max: most }); // it only grows under the hand
    range.value = value;
    if (screen.focused() !== number || document.activeElement !== number) number.value = value.toFixed(2);
  }

  setWeight(value) {
    const { screen, editing } = this;
    if (!Number.isFinite(value) || !editing) return;
    screen.theta[editing.index] = value;
    this.overlay.set(editing.index, value);
    editing.moved = true;
    this.fillEditor();
    screen.changed(editing.layer);
    this.send(false);
  }

  /** Tell the kernel, at most ten times a second and surely at the end. */
  send(now) {
    clearTimeout(this.timer);
    const { editing, screen } = this, value = editing && screen.theta[editing.index];
    if (!editing?.moved || editing.sent === value) return;
    const wait = this.sentAt + SEND_EVERY - performance.now();
    if (!now && wait > 0) { this.timer = setTimeout(() => this.send(true), wait); return; }
    const { layer, from, to } = editing, address = from < 0 ? `b${layer}.${to + 1}` : `w${layer}.${from + 1}.${to + 1}`;
    this.sentAt = performance.now();
    editing.sent = value;
    screen.send("edit", { [address]: value });
  }

  /** Frames that were on their way when a weight was edited do not take the edit back. */
  overlayOn(theta) {
    if (!this.dragging && performance.now() - this.sentAt > HOLD) this.overlay.clear();
    for (const [index, value] of this.overlay) theta[index] = value;
  }

  close(back) {
    if (!this.editing) return;
    const { layer, from, to } = this.editing, { screen } = this;
    const kind = from < 0 ? "bias" : "link", address = from < 0 ? `${layer}.${to + 1}` : addressOf(this.editing);
    this.send(true);
    this.editing = this.pointed = null;
    screen.parts.editor.hidden = true;
    screen.parts.caption.hidden = false;
    screen.changed();
    if (back) this.at(kind, address)?.focus();
  }

  /** What the edit did, in words; nothing while nothing is edited. */
  sentence() {
    const { editing: e, screen } = this, { t } = screen;
    if (!e?.moved) return "";
    const words = [screen.nameOf(e), signed(screen.theta[e.index]), signed(e.was)], judged = screen.judged;
    if (!judged) return t("edited_plain", ...words);
    const loss = e.tested ? judged.test.loss : judged.train.loss;
    return t(e.tested ? "edited" : "edited_train", ...words, digits(e.before), digits(loss));
  }

  // ---------------------------------------------------------------- listening
  listen() {
    const { screen } = this, { parts } = screen, net = parts.net, map = parts.map;
    net.addEventListener("focusin", ({ target }) => this.point(this.thing(target)));
    net.addEventListener("pointermove", (event) => this.overNetwork(event));
    for (const kind of ["pointerleave", "focusout"]) net.addEventListener(kind, () => this.point(null));
    net.addEventListener("pointerdown", (event) => this.grab(event));
    net.addEventListener("keyup", (event) => { if (event.key === " ") event.preventDefault(); });
    parts.editor.addEventListener("submit", (event) => { event.preventDefault(); this.close(true); });
    parts.editor.addEventListener("input", ({ target }) => this.setWeight(target.valueAsNumber));
    parts.editor.addEventListener("change", () => this.send(true));
    for (const kind of ["pointerdown", "pointerup", "pointercancel"]) {
      parts.editor.addEventListener(kind, () => { this.dragging = kind === "pointerdown"; });
    }
    map.addEventListener("pointermove", (event) => this.overMap(event));
    map.addEventListener("pointerleave", () => this.point(null));
    map.addEventListener("blur", () => this.point(null));
    map.addEventListener("pointerdown", (event) => this.startStroke(event));
    screen.root.addEventListener("keydown", (event) => this.key(event));
  }

  /** Where lines lie over one another, the nearest one is meant. */
  nearest(event) {
    const thing = this.thing(event.target);
    if (thing?.kind !== "link") return thing;
    const box = this.screen.parts.net.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    let best = null, least = Infinity;
    for (const link of this.screen.links) {
      if (link.layer !== thing.layer || link.index < 0) continue;
      const far = Math.abs(heightOf(link, x) - y) - (link.index === thing.index ? 1 : 0); // a tie is for the one on top
      if (far < least) [best, least] = [link, far];
    }
    return best && best.index !== thing.index ? this.thing(this.at("link", addressOf(best))) : thing;
  }

  overNetwork(event) {
    if (event.buttons) return;
    const thing = this.nearest(event), { pointed } = this;
    if (thing?.element === pointed?.element && (thing || !pointed)) return;
    this.point(thing);
  }

  /** Press on a line or a dot: the editor opens; moving up or down changes the value. */
  grab(event) {
    const thing = this.nearest(event);
    if (thing?.index === undefined || event.button > 0) return;
    event.preventDefault();
    thing.element.focus();
    this.edit(thing);
    const start = event.clientY, value = this.screen.theta[thing.index];
    const drag = (move) => {
      if (!this.dragging && Math.abs(move.clientY - start) <= 2) return;
      this.dragging = true;
      this.setWeight(value + (start - move.clientY) * 0.02);
    };
    const drop = () => {
      for (const [kind, what] of heard) removeEventListener(kind, what);
      this.dragging = false;
      this.send(true);
    };
    const heard = [["pointermove", drag], ["pointerup", drop], ["pointercancel", drop]];
    for (const [kind, what] of heard) addEventListener(kind, what); // on the window: the hand may leave the network
  }

  overMap(event) {
    const { screen } = this, { clientWidth: width, clientHeight: height } = screen.parts.map;
    const x = event.offsetX / width, y = event.offsetY / height, matrix = screen.frame.confusion;
    if (event.buttons && this.painting) this.addPoint(x, y);
    if (screen.hasMap) this.point({ kind: "place", x: clamp(x, 0, 1), y: clamp(y, 0, 1) });
    else if (this.painting) return;
    else if (matrix && screen.scene.classes) this.point(cellAt(matrix.length, width, event.offsetX, event.offsetY));
  }

  // ---------------------------------------------------------------- keys
  /** Arrows walk the network as a graph: up and down a layer, left and right along a link to the next layer. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") return this.letGo();
    const { parts } = this.screen, inMap = event.target === parts.map, at = this.thing(event.target);
    const slot = event.target.dataset?.slot;
    if (!inMap && !at && !slot) return this.keyOfGroup(event);
    if (event.key === " ") { event.preventDefault(); if (!event.repeat) this.screen.act("train"); return; }
    if (inMap) return this.keyOnMap(event);
    if (slot) this.keyOnUnit(event, at, slot);
    else if (event.key === "Enter") {
      event.preventDefault();
      this.edit(at);
      parts.editor.querySelector("input").select();
    } else if (event.key.startsWith("Arrow")) this.keyOnLink(event, at);
  }

  letGo() {
    this.held = null;
    this.stopPainting();
    this.close(true);
    this.screen.changed();
  }

  keyOnMap(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const { x, y } = this.pointed?.kind === "place" ? this.pointed : { x: 0.5, y: 0.5 };
    if (this.painting && event.key === "Enter") { this.addPoint(x, y); this.sendPainted(); }
    if (!way || !this.screen.hasMap) return;
    event.preventDefault();
    this.point({ kind: "place", x: clamp(x + way[0] / 36, 0, 1), y: clamp(y + way[1] / 36, 0, 1) });
  }

  keyOnUnit(event, at, slot) {
    const [place, row] = slot.split(".").map(Number), up = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const { links } = this.screen;
    if (up) return this.go(event, this.screen.root.querySelector(`[data-slot="${place}.${row + up}"]`));
    if (!at) return;
    const into = (l) => l.layer === at.layer && l.to === at.unit;
    const outOf = (l) => l.layer === at.layer + 1 && l.from === at.unit;
    const along = { ArrowLeft: into, ArrowRight: outOf }[event.key];
    const link = along && links.find((l) => l.index >= 0 && along(l));
    if (link) this.go(event, this.at("link", addressOf(link)));
    else if (event.key === "b" && at.layer) this.go(event, this.at("bias", `${at.layer}.${at.unit + 1}`));
  }

  keyOnLink(event, at) {
    const up = { ArrowUp: -1, ArrowDown: 1 }[event.key], unit = (layer, k) => this.at("unit", `${layer}.${k + 1}`);
    if (at.kind === "bias") return this.go(event, unit(at.layer, at.to));
    if (event.key === "ArrowLeft") return this.go(event, unit(at.layer - 1, at.from));
    if (event.key === "ArrowRight") return this.go(event, unit(at.layer, at.to));
    const beside = this.screen.links.filter((l) => l.layer === at.layer && l.to === at.to);
    const now = beside.findIndex((l) => l.from === at.from);
    this.go(event, this.at("link", addressOf(beside[clamp(now + up, 0, beside.length - 1)])));
  }

  /** Arrows within a row of tabs or a group of pictures to choose from. */
  keyOfGroup(event) {
    const way = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    const group = way && event.target.matches?.('[role="tab"],[role="radio"]') && event.target.parentElement;
    if (!group) return;
    const all = [...group.children], next = all[(all.indexOf(event.target) + way + all.length) % all.length];
    this.go(event, next);
    if (next.matches('[role="tab"]')) next.click(); // a data set is chosen by Enter, because choosing starts anew
  }

  go(event, element) {
    if (!element) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    element.tabIndex = 0;
    element.focus();
  }

  at(kind, address) { return address && this.screen.parts.net.querySelector(`[data-${kind}="${address}"]`); }

  // ---------------------------------------------------------------- painting points
  startPainting() {
    const { screen } = this, { parts } = screen, all = pointsOf(screen.scene);
    const own = screen.fields.chosenSet() === "paint" && screen.scene.kind === "plane";
    this.painting = { chosen: 0, x: own ? [...all.x] : [], y: own ? [...all.y] : [] };
    this.held = null;
    parts.palette.hidden = false;
    parts.checks.hidden = true;
    this.fillPalette();
    screen.pointsChanged();
  }

  stopPainting() {
    if (!this.painting) return;
    this.painting = null;
    this.screen.parts.palette.hidden = true;
    this.screen.parts.checks.hidden = false;
    this.screen.pointsChanged();
  }

  fillPalette() {
    const { parts, t, colours: c } = this.screen, { chosen } = this.painting;
    const shape = (k) => `<span style="color:${k ? c.above : c.below}">${k ? "▲" : "●"}</span> ${k}`;
    const state = (k) => `role="radio" aria-checked="${chosen === k}"`;
    const swatch = (k) => button(`class-${k}`, shape(k), t("class_n", k), t("class_n", k), state(k));
    parts.palette.innerHTML = `${swatch(0)}${swatch(1)}<span class="lk-space"></span>
      ${button("clear", t("clear"), t("clear_about"))}
      ${button("done-painting", t("done_painting"), t("done_painting_about"))}`;
  }

  startStroke(event) {
    const { map } = this.screen.parts;
    if (!this.painting || event.button > 0) return;
    event.preventDefault();
    map.setPointerCapture(event.pointerId);
    this.last = null;
    this.addPoint(event.offsetX / map.clientWidth, event.offsetY / map.clientHeight);
    map.addEventListener("pointerup", () => this.sendPainted(), { once: true });
  }

  /** One point where the pointer is, not nearer to the last one than a point is wide. */
  addPoint(across, down) {
    const { screen, painting, last } = this;
    const [low, high, bottom, top] = boundsOf(screen.scene.kind === "plane" ? screen.scene : EMPTY_SCENE);
    if (across < 0 || across > 1 || down < 0 || down > 1) return;
    if (last && Math.hypot(across - last[0], down - last[1]) < 0.028) return;
    this.last = [across, down];
    const round = (v) => Math.round(v * 100) / 100; // few digits: the points travel in the share string
    painting.x.push(round(low + across * (high - low)), round(top - down * (top - bottom)));
    painting.y.push(painting.chosen);
    screen.pointsChanged();
  }

  choosePaint(chosen) {
    this.painting.chosen = chosen;
    this.fillPalette();
    this.screen.root.querySelector(`[data-do="class-${chosen}"]`).focus();
    this.screen.changed();
  }

  clearPainted() {
    Object.assign(this.painting, { x: [], y: [] });
    this.screen.pointsChanged();
  }

  get enoughPainted() {
    const { y } = this.painting;
    return y.length >= FEWEST_PAINTED && y.includes(0) && y.includes(1);
  }

  sendPainted() {
    if (!this.painting || !this.enoughPainted) return this.screen.changed();
    const { x, y } = this.painting;
    this.screen.send("paint", { x: y.map((_, k) => [x[2 * k], x[2 * k + 1]]), y });
  }

  paintSentence() {
    const { painting, screen: { t } } = this;
    if (!painting.y.length) return t("painting", painting.chosen);
    return this.enoughPainted ? t("painted", painting.y.length) : t("painted_few", painting.y.length, FEWEST_PAINTED);
  }
}

/** How far down a link runs at x: y of its curve, whose x rises steadily. */
function heightOf({ ends: [x0, y0, x1, y1] }, x) {
  const part = clamp((x - x0) / (x1 - x0), 0, 1);
  let low = 0, high = 1;
  for (let k = 0; k < 12; k++) {
    const t = (low + high) / 2, at = 1.5 * t * (1 - t) * (1 - t) + 1.5 * t * t * (1 - t) + t * t * t;
    if (at < part) low = t; else high = t;
  }
  return y0 + (y1 - y0) * low * low * (3 - 2 * low);
}

const addressOf = ({ layer, from, to }) => `${layer}.${from + 1}.${to + 1}`;
