// The screen as a whole: what the traits of the model hold is drawn, what people do is sent as a command.
// Python joins network.js, draw.js, charts.js, page.js, touch.js, panels.js, view.js and this file into one module.

const ANSWER_WITHIN = 5000; // milliseconds after which a silent kernel is said to be silent
const RESEND = 5, RESEND_AFTER = 500; // times that a message is repeated, and milliseconds before the first of them
const UNANSWERED = new Set(["turn", "show", "speed"]); // commands that need not change anything
const STATE_TRAITS = ["scene", "frame", "status", "choices", "menus", "settings", "texts", "slots"];
const EMPTY_SCENE = { id: null, kind: "plane", widths: [2, 1], activation: "tanh", loss: "mse", classes: 0,
  features: ["x1", "x2"], labels: [], mean: [0, 0], scale: [1, 1], y_mean: 0, y_scale: 1, bounds: [-6, 6, -6, 6] };

class Screen extends View {
  constructor(model, element) {
    super();
    this.view = Math.random().toString(36).slice(2);
    Object.assign(this, { model, element, scene: EMPTY_SCENE, frame: {}, gone: false, layer0: 1, redraws: 0 });
    this.t = (key, ...values) => filled(this.texts[key] ?? TEXTS[key] ?? key.replaceAll("_", " "), values);
    this.root = document.createElement("div");
    this.root.className = "lk";
    this.root.innerHTML = skeleton(this.t, `lk${Math.random().toString(36).slice(2)}`);
    element.appendChild(this.root);
    this.parts = Object.fromEntries([...this.root.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
    this.fields = new Fields(this);
    this.touch = new Touch(this);
    this.panels = new Panels(this);
    this.takeTheme();
    this.listen();
    this.takeScene();
    this.takeStatus();
    this.redraw();
    if (this.kernelGone()) this.kernelChanged();
    else this.send("show");
  }

  get texts() { return this.model.get("texts") ?? {}; }
  get status() { return this.model.get("status") ?? {}; }
  get running() { return this.status.state === "running" && !this.kernelGone(); }
  get focus() { return this.touch.focus; }
  get hasMap() { return Boolean(this.grid) && ["plane", "line"].includes(this.scene.kind); }
  get names() { return this.scene.kind === "line" ? ["x"] : null; }
  focused() { return this.root.contains(document.activeElement) ? document.activeElement : null; }

  // ---------------------------------------------------------------- what the traits hold
  /** A new network: everything that depends on its shape is made anew. */
  takeScene() {
    const scene = this.model.get("scene");
    this.scene = { ...EMPTY_SCENE, ...(scene?.widths ? scene : {}) };
    const { kind, widths } = this.scene, shape = (this.shape = new Shape(widths));
    this.touch.forget();
    this.pages = widths.map(() => 0);
    this.weightReach = 0.5;
    this.theta = new Float32Array(shape.size);
    this.side = gridSide(shape.size);
    this.answer = this.grid = this.asked = this.judged = this.tile = null;
    this.scenePoints = pointsOf(this.scene);
    this.makeGrid(kind, shape);
    this.atlas = null;
    this.takeFrame(true);
    this.until = this.frame.theta || !this.redraws ? 0 : performance.now() + 150;
    this.resize();
    this.fields.fill();
    this.pointsChanged();
  }

  makeGrid(kind, shape) {
    if (!["plane", "line"].includes(kind) || shape.size > TOO_LARGE) return;
    this.places = placesOf(this.scene, this.side);
    this.grid = new Answers(this.scene, shape, inputsOf(this.scene, this.places));
    this.answer = new Float32Array(this.grid.places);
    const values = this.scenePoints.y;
    this.valueReach = this.scene.classes ? 1 : values.reduce((m, y) => Math.max(m, Math.abs(y)), 0) || 1;
    if (kind !== "plane") return;
    this.offered = {}; // what the features that are not chosen would look like
    for (const feature of Object.keys(FEATURES)) {
      if (this.scene.features.includes(feature)) continue;
      this.offered[feature] = inputsOf({ kind, features: [feature] }, this.places);
    }
  }

  /** The newest weights and figures; those of a network that is gone, or is not here yet, are passed over. */
  takeFrame(fresh = false) {
    const frame = this.model.get("frame") ?? {};
    const own = frame.id === undefined || frame.id === this.scene.id;
    if (!own) { if (fresh) this.frame = {}; return; }
    this.frame = frame;
    this.until = 0;
    const theta = floats(frame.theta);
    if (theta.length === this.shape.size) this.theta = theta;
    this.touch.overlayOn(this.theta);
    this.weightReach = Math.max(this.weightReach, largeWeight(this.theta)); // it only grows: widths compare over time
    if (!this.touch.overlay.size) this.judged = null;
    if (this.touch.editing && !this.touch.dragging) this.touch.fillEditor();
    const { curve } = frame;
    this.curve = Object.fromEntries(["step", "train", "test", "score"].map((key) => [key, floats(curve?.[key])]));
    this.others = (frame.others ?? []).map((other) => floats(other.test));
    this.changed(1);
  }

  /** Buttons and words follow the state that the kernel tells, never what was clicked. */
  takeStatus() {
    const { t, status, parts } = this, settings = this.model.get("settings") ?? {}, running = this.running;
    const label = t(running ? "pause" : "train");
    if (parts.train.dataset.label !== label) {
      parts.train.innerHTML = icon(ICONS[running ? "pause" : "play"]) + label;
      parts.train.title = t(running ? "pause_about" : "train_about");
      parts.train.dataset.label = label;
    }
    this.root.dataset.state = status.state ?? "idle";
    this.say("steps", t("of", thousands(status.total ?? this.scene.steps ?? 0)));
    this.say("parameters", thousands(status.parameters ?? this.shape.size));
    for (const name of ["undo", "redo"]) this.disable(parts[name], !status[`can_${name}`]);
    this.pins = (status.pins ?? []).map((pin) => ({ ...pin, test: floats(pin.test), step: floats(pin.step) }));
    this.say("pins", `(${this.pins.length})`);
    this.say("pins-tab", `(${this.pins.length})`);
    const rate = running && status.rate > 0 ? t("rate", thousands(status.rate)) : "";
    parts.way.title = [rate, status.way].filter(Boolean).join(" · ");
    this.say("way", parts.way.title);
    this.sayGoal(status.goal);
    this.takeSpeed(settings);
    parts.instant.checked = Boolean(settings.instant);
    this.sayFigures();
    this.saySentence();
    if (["compare", "share"].includes(this.panels.tab)) this.panels.fill();
  }

  /** A button that does nothing now keeps the focus, so that the keyboard does not fall out of the lab. */
  disable(element, off) { element.setAttribute("aria-disabled", String(off)); }

  sayGoal(goal) {
    const { parts, t } = this;
    this.say("goal", goal ? `${goal.met ? "✓" : "◎"} ${goal.met ? t("goal_met") : t("goal")}: ${goal.text}` : "");
    parts.goal.classList.toggle("lk-good", Boolean(goal?.met));
    parts.goal.title = goal?.text ?? "";
  }

  takeSpeed({ speeds = [], speed = null }) {
    const key = JSON.stringify(speeds), { speed: menu } = this.parts;
    const option = ({ label }, k) => `<option value="${k}">${escaped(label)}</option>`;
    if (menu.lkMade !== key) menu.innerHTML = speeds.map(option).join("");
    menu.lkMade = key;
    const chosen = speeds.findIndex((s) => s.value === speed);
    if (document.activeElement !== menu) menu.value = String(chosen);
  }

  // ---------------------------------------------------------------- commands
  /** Send a command. Nothing waits for its answer, but a silence is told. */
  send(command, ...values) {
    const lost = () => this.note(this.t("no_kernel"), true);
    if (this.ownNote) this.note("");
    if (this.kernelGone()) return lost();
    this.sent = (this.sent ?? 0) + 1;
    const message = { command, arguments: values, id: `${this.view}:${this.sent}` };
    if (!this.deliver(message, lost)) return;
    if (UNANSWERED.has(command)) return;
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.note(this.t("no_answer"), true), ANSWER_WITHIN);
  }

  /** Send a message, and again until the kernel has heard it: a page that was loaded again may lose its first ones. */
  deliver(message, lost, times = 0) {
    try {
      const sent = this.model.send(message);
      sent?.catch?.(lost); // some front ends answer with a promise
    } catch { lost(); return false; }
    const again = () => {
      if (this.gone || this.kernelGone() || this.model.get("heard")?.includes(message.id)) return;
      this.deliver(message, lost, times + 1);
    };
    if (times < RESEND) setTimeout(again, RESEND_AFTER * (times + 1));
    return true;
  }

  /** As far as a page can know. The model given by anywidget hides its comm; its layout has one and shows it. */
  kernelGone() {
    const { model } = this, kernel = model.widget_manager?.kernel;
    if (model.comm_live === false || model.get("layout")?.comm_live === false) return true;
    return kernel === null || ["dead", "terminating"].includes(kernel?.status);
  }

  /** The kernel went away or came back. */
  kernelChanged() {
    if (this.kernelGone()) this.note(this.t("no_kernel"), true);
    else if (this.noteWaits) this.note("");
    this.takeStatus();
  }

  heard() {
    clearTimeout(this.silence);
    if (this.noteWaits) this.note("");
  }

  note(text, waits = false) {
    this.ownNote = text;
    this.noteWaits = waits;
    this.saySentence();
  }

  choose(changes) { this.send("choose", changes); }

  act(action, pressed) {
    const { touch, panels } = this;
    if (pressed?.getAttribute("aria-disabled") === "true") return;
    if (action === "train") this.send(this.running ? "pause" : "train");
    else if (["step", "reset", "pin", "unpin", "undo", "redo"].includes(action)) this.send(action);
    else if (action === "full") this.toggleFull();
    else if (action === "dots") panels.open(panels.tab === "more" ? "network" : "more");
    else if (action === "regenerate") this.choose({ seed: (Number(this.fields.choices.seed) || 0) + 1 });
    else if (/^(depth|width)[+-]$/.test(action)) this.chooseSize(action.slice(0, 5), action.endsWith("+") ? 1 : -1);
    else if (/^layers[+-]$/.test(action)) this.moveWindow(action.endsWith("+") ? 1 : -1);
    else if (action === "put-back") touch.setWeight(touch.editing.was);
    else if (action === "close") touch.close(true);
    else if (action.startsWith("copy-")) panels.copy(action.slice(5), pressed);
    else if (action.startsWith("class-")) touch.choosePaint(Number(action.slice(6)));
    else if (action === "clear") touch.clearPainted();
    else if (action === "done-painting") touch.stopPainting();
  }

  /** One more or fewer layer or unit than the network has now. */
  chooseSize(field, by) {
    const hidden = this.scene.widths.slice(1, -1);
    if (field === "depth") return this.choose({ depth: Math.max(0, hidden.length + by) });
    if (!hidden.length) return;
    const widths = hidden.map((w) => Math.max(1, w + by));
    this.choose({ width: new Set(widths).size > 1 ? widths : widths[0] });
  }

  chooseWidthOf(layer, by) {
    const widths = this.scene.widths.slice(1, -1);
    widths[layer - 1] = Math.max(1, widths[layer - 1] + by);
    this.choose({ width: new Set(widths).size > 1 || widths.length > 1 ? widths : widths[0] });
  }

  toggleFeature(name) {
    const { features } = this.scene, on = Object.keys(FEATURES).filter((f) => features.includes(f) !== (f === name));
    if (on.length) this.choose({ features: on });
  }

  chooseSet(name) {
    if (name === "csv") return this.parts.file.click();
    if (name === "paint") return this.touch.painting ? this.touch.stopPainting() : this.touch.startPainting();
    this.touch.stopPainting();
    this.choose({ dataset: name });
  }

  async takeFiles(files) {
    const [file] = files ?? [];
    if (!file) return this.note(this.t("refused_drop"));
    this.touch.stopPainting();
    this.send("file", { name: file.name, text: await file.text() });
    this.parts.file.value = ""; // the same file can be picked again
  }

  toggleFull() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.root.requestFullscreen?.()?.catch?.(() => {});
  }

  // ---------------------------------------------------------------- listening
  listen() {
    const { root, model, parts } = this;
    const takes = { scene: () => this.takeScene(), frame: () => this.takeFrame(), status: () => this.takeStatus(),
      choices: () => this.fields.fill(), menus: () => { this.fields.fill(); this.panels.fill(); },
      slots: () => this.panels.fill(), settings: () => { this.takeStatus(); this.fields.fillPresets(); } };
    this.hears = STATE_TRAITS.map((trait) => [`change:${trait}`, () => { this.heard(); takes[trait]?.(); }]);
    for (const [event, what] of this.hears) model.on(event, what);
    this.lives = () => this.kernelChanged();
    model.get("layout")?.on?.("comm_live_update", this.lives);
    root.addEventListener("click", (event) => this.click(event));
    root.addEventListener("input", ({ target }) => this.input(target));
    root.addEventListener("change", ({ target }) => this.change(target));
    root.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.enter(event.target);
      if (!event.ctrlKey && !event.metaKey && event.key !== "Escape") event.stopPropagation(); // no notebook shortcut
    });
    root.addEventListener("focusout", ({ target }) => this.fields.leave(target));
    parts.file.addEventListener("change", () => this.takeFiles(parts.file.files));
    for (const kind of ["dragover", "dragleave", "drop"]) root.addEventListener(kind, (event) => this.drop(event));
    this.sizes = new ResizeObserver(() => this.resize());
    this.sizes.observe(root);
    this.sizes.observe(parts.net);
    const later = () => setTimeout(() => this.retheme(), 400); // a theme's css comes after its name
    this.themes = new MutationObserver(() => { this.retheme(); later(); });
    for (const each of [document.body, document.documentElement]) this.themes.observe(each, { attributes: true });
  }

  drop(event) {
    event.preventDefault();
    this.root.classList.toggle("lk-drop", event.type === "dragover");
    if (event.type === "drop") this.takeFiles(event.dataTransfer?.files);
  }

  click({ target }) {
    const kinds = ["do", "set", "tab", "page", "width-of", "feature", "unit"].map((kind) => `[data-${kind}]`);
    const found = target.closest?.(kinds.join());
    const d = found?.dataset;
    if (!d || !this.root.contains(found)) return;
    if (d.do) this.act(d.do, found);
    else if (d.set) this.chooseSet(d.set);
    else if (d.tab) this.panels.open(d.tab);
    else if (d.page) this.turnPage(Number(d.page));
    else if (d.widthOf) this.chooseWidthOf(Number(d.widthOf), Number(d.by));
    else if (d.feature) this.toggleFeature(d.feature);
    else this.hold(this.touch.thing(found));
  }

  hold(thing) {
    const { held } = this.touch, same = held?.layer === thing.layer && held?.unit === thing.unit;
    this.touch.held = same ? null : thing;
    this.changed();
  }

  /** While a slider moves, instant mode trains; otherwise its read-out follows and the choice waits for the end. */
  input(target) {
    const name = target.dataset.field;
    if (!name) return;
    if (target.type !== "range") {
      if (target.matches("input:not([type=checkbox])")) this.fields.typing = target;
      return;
    }
    this.fields.sayRange(target);
    this.fields.typing = target;
    if (!this.parts.instant.checked) return;
    clearTimeout(this.sliding);
    this.sliding = setTimeout(() => { this.choose({ [name]: Number(target.value) }); }, 60);
  }

  /** Enter applies a field at once; the browser's own change, which may follow, is no news then. */
  enter(target) {
    if (!target.matches("input[data-field]:not([type=checkbox], [type=range])")) return;
    this.fields.apply(target);
    target.lkApplied = target.value;
  }

  change(target) {
    const { parts } = this, applied = target.lkApplied;
    target.lkApplied = undefined;
    if (applied === target.value) return;
    if (target.dataset.field) {
      clearTimeout(this.sliding);
      this.fields.apply(target);
    } else if (target === parts.speed) {
      this.send("speed", this.model.get("settings")?.speeds?.[target.value]?.value ?? null);
    } else if (target === parts.instant) this.send("instant", target.checked);
    else if (target === parts.presets && target.value) {
      this.send("preset", target.value);
      target.value = "";
    } else if (target === parts.tests || target === parts.sure) this.pointsChanged();
  }

  turnPage(layer) {
    this.pages[layer] += MOST_SHOWN;
    if (this.pages[layer] >= this.shape.widths[layer]) this.pages[layer] = 0;
    this.resize();
  }

  moveWindow(by) {
    this.layer0 += by * Math.max(1, this.mostLayers - 1);
    this.resize();
  }

  remove() {
    this.gone = true;
    for (const [event, what] of this.hears) this.model.off(event, what);
    this.model.get("layout")?.off?.("comm_live_update", this.lives);
    this.sizes.disconnect();
    this.themes.disconnect();
    clearTimeout(this.silence);
    clearTimeout(this.touch.timer);
    clearTimeout(this.sliding);
    cancelAnimationFrame(this.waiting);
    this.panels.remove();
    this.root.remove();
  }
}

export default {
  render({ model, el }) {
    const screen = new Screen(model, el);
    return () => screen.remove();
  },
};
