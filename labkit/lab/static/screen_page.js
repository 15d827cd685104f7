// The page itself: every English text, the elements of the screen, and the fields that show and set the choices.

const TEXTS = { // `texts` of the model overrides any of them; {} stands for what is filled in
  lab: "neural network lab", train: "Train", train_about: "Train the network (Space on the map or the network)",
  pause: "Pause", pause_about: "Hold the training where it is", step: "Step",
  step_about: "Make one update of the weights",
  restart: "Restart", restart_about: "Back to the first weights", step_of: "step", of: "of {}",
  speed: "speed", speed_about: "How fast to train while you watch; the numbers are the same",
  instant: "instant", instant_about: "Every change is trained to its end at once, for several seeds",
  undo: "Undo", undo_about: "Take back the last change", redo: "Redo", redo_about: "Make the change again",
  pin: "Pin", pin_about: "Keep this run, to compare it with others", full: "full window",
  more_about: "All other choices",
  lr: "learning rate", batch_size: "batch size", parameters: "parameters", steps: "stop at step",
  optimizer: "optimizer", loss: "loss", activation: "activation", depth: "depth", width: "width", samples: "samples",
  seed: "seed", parameters_about: "Weights and biases that training adjusts", train_share: "for training",
  noise: "noise",
  data: "Data", data_set: "data set", csv: "your own table: pick a csv file, or drop one anywhere on the lab",
  paint: "your own points: paint them on the map", presets: "experiments …",
  presets_about: "Experiments that show something",
  regenerate: "new seed", regenerate_about: "New points, new first weights, another order of the batches",
  network: "Network", fewer_layers: "one hidden layer fewer", more_layers: "one hidden layer more",
  fewer_units: "layer {}: one unit fewer", more_units: "layer {}: one unit more",
  units: "units in every hidden layer",
  narrower: "one unit fewer everywhere", wider: "one unit more everywhere", next_units: "Show the next units",
  n_more: "+{} more",
  layers_shown: "{}–{}", earlier_layers: "earlier layers", later_layers: "later layers", inputs: "inputs",
  answer: "answer",
  input: "input {}", unit: "layer {}, unit {}", unit_short: "unit {}.{}", class_answer: "the answer for {}",
  the_answer: "the answer",
  pixels: "8 × 8 pixels", pixel: "pixel {}", weight_of: "weight from {} to {}", bias_of: "bias of {}",
  legend: "map: a unit's answer · line: weight · dot: bias · blue −, orange +",
  legend_cells: "cells: the weights into a unit · line: weight · dot: bias · blue −, orange +",
  feature_on: "input {}: click to leave it out", feature_off: "input {}: click to give it to the network",
  input_about: "input {}",
  carries: "{}: carries {} % of what {} receives", layer_n: "layer {}",
  answer_unit: "{}: becomes the map on the right",
  dead: "{}: answers the same everywhere, so it passes nothing on", kept: " · kept", click_keeps: " · click keeps it",
  weight_now: "{}: {} · click or drag", value: "value", value_slider: "value, as a slider",
  put_back: "Put back", put_back_about: "The value that training gave it", close: "close",
  edited: "The {} is {}, it was {}: test loss {} → {}.",
  edited_train: "The {} is {}, it was {}: training loss {} → {}.",
  edited_plain: "The {} is {}, it was {}. The figures follow when the kernel has computed them.",
  score: "score", test_loss: "test loss", train_loss: "training loss", seeds: "{} seeds",
  seeds_about: "The same with other seeds: from the worst to the best",
  test_points: "test points", test_points_about: "Points that the network never learns from, drawn hollow",
  answer_only: "answer only", answer_only_about: "Colour the map by the answer alone, not by how sure the network is",
  map: "decision map", curve: "loss curve", end_train: "train", end_test: "test", end_score: "score",
  matrix: "rows: the true class · columns: the answer", cell: "{} answered as {}: {} times", target: "target",
  palette: "paint points of class", clear: "Clear", clear_about: "Take all painted points away",
  done_painting: "Done",
  done_painting_about: "Stop painting", painting: "Press and drag on the map to add points. Class {} is chosen.",
  painted_few: "{} points painted; the network takes them from {} on, in both classes.",
  painted: "{} points painted: the network learns from them.",
  tab_network: "Network", tab_landscape: "Landscape", tab_compare: "Compare", tab_share: "Share", tab_more: "More…",
  tab_about: "Show {} in the place of the network", coming: "On its way …",
  no_child: "This picture could not be opened: {}",
  landscape_needs: "The landscape of the loss is measured by the kernel. Run this cell to see it.",
  no_pins: "Pin keeps a run as it is now. Train another, pin it too, and compare them here.",
  run: "run", pin_score: "score", pin_parameters: "parameters", pin_loss: "test loss", forget: "Forget all",
  forget_about: "Forget every kept run", share: "share string", share_about: "This experiment as one line of text",
  code: "Python", code_about: "The same experiment as code", copy: "Copy", copied: "Copied",
  copy_about: "To the clipboard",
  open: "open one", open_button: "Open and start", open_about: "Paste a share string and start its experiment",
  nothing_more: "There is nothing more to choose.", goal: "goal", goal_met: "goal reached", rate: "{} steps/s",
  no_kernel: "The kernel is not running: run this cell again.",
  no_answer: "No answer from the kernel: it is busy with another cell, or gone. Run this cell again.",
  too_large: "The network is too large to draw its maps here.", welcome: "Press Train.",
  not_a_number: "“{}” is not a number.",
  map_twin: "Network {}. The map gives {} % of its square to class 1, orange, and the rest to class 0, blue.",
  map_twin_value: "Network {}. The answers on the picture go from {} to {}.",
  confusion_twin: "Network {}. Of {} answers {} are right; most often mistaken: {}.", no_mistake: "none",
  curve_twin: "Step {}: training loss {}, test loss {}, {} {}.",
  network_twin: "{} layers of units, {} parameters. " +
    "Arrows walk from unit to unit, b goes to the bias, Enter edits, Space trains.",
  class_n: "class {}", refused_drop: "Drop one csv file.",
};

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escaped = (text) => String(text ?? "").replace(/[&<>"]/g, (c) => ENTITIES[c]);
const titled = (text) => `title="${escaped(text)}"`; // a tooltip
const named = (text) => `aria-label="${escaped(text)}"`; // what a screen reader says
const filled = (text, values) => values.reduce((t, v) => t.replace("{}", () => String(v)), text);

const icon = (path) => `<svg class="lk-icon" viewBox="0 0 16 16" aria-hidden="true"><path d="${path}"/></svg>`;
const ICONS = {
  play: "M4 2.5v11l9-5.500z", pause: "M4 3h3v10H4zM9 3h3v10H9z", step: "M3 3v10l7-5zM11 3h2v10h-2z",
  again: "M8 3a5 5 0 1 1-4.800 3.600l1.400.4A3.500 3.500 0 1 0 8 4.500V7L4.200 3.800 8 .6z",
  full: "M2 2h5v1.500H3.500V7H2zM14 14H9v-1.500h3.500V9H14z",
  undo: "M6 2.500v3h4a3.800 3.800 0 0 1 0 7.600H5v-1.600h5a2.200 2.200 0 0 0 0-4.400H6v3L2 6.300z",
  redo: "M10 2.500v3H6a3.800 3.800 0 0 0 0 7.600h5v-1.600H6a2.200 2.200 0 0 1 0-4.400h4v3l4-3.800z",
};
const OWN_THUMBNAILS = ["csv", "paint"];
const ROW = ["lr", "optimizer", "loss", "activation", "batch_size"];
const PLACED = new Set([...ROW, "depth", "width", "dataset", "noise", "train_share", "samples", "seed", "features"]);
const TABS = ["network", "landscape", "compare", "share", "more"];

/** A button; `label` is HTML, `name` what a screen reader says where that is not the label. */
function button(action, label, title, name, extra = "") {
  const attributes = `${titled(title)} ${name ? named(name) : ""} ${extra}`;
  return `<button type="button" data-do="${action}" ${attributes}>${label}</button>`;
}

const labelled = (label, control, extra = "") =>
  `<label class="lk-field" ${extra}><span>${escaped(label)}</span>${control}</label>`;

/** The control of one field; its options and values are filled in later. */
function control(name, kind, label) {
  const common = `data-field="${name}" ${named(label)}`;
  if (kind === "menu") return `<select ${common}></select>`;
  if (kind === "flag") return `<input type="checkbox" ${common}>`;
  if (name === "width") return `<input type="text" inputmode="numeric" autocomplete="off" ${common}>`;
  return `<input type="number" step="${kind === "whole" ? 1 : "any"}" autocomplete="off" ${common}>`;
}

const sliderField = (name, label) => `<label class="lk-slide" data-holds="${name}">
  <span>${escaped(label)} <b></b></span>
  <input type="range" data-field="${name}" ${named(label)}></label>`;

function barHtml(t) {
  return `<div class="lk-bar">${button("train", "", t("train_about"), "", 'class="lk-primary" data-part="train"')}
    ${button("step", icon(ICONS.step) + t("step"), t("step_about"), t("step"))}
    ${button("reset", icon(ICONS.again) + t("restart"), t("restart_about"), t("restart"))}
    <span class="lk-count">${t("step_of")} <b data-part="step">0</b> <span data-part="steps"></span></span>
    <label class="lk-inline" ${titled(t("speed_about"))}>${t("speed")}
      <select data-part="speed" ${named(t("speed"))}></select></label>
    <label class="lk-inline lk-switch" ${titled(t("instant_about"))}><input type="checkbox" role="switch"
      data-part="instant" ${named(t("instant"))}><i></i>${t("instant")}</label><span class="lk-space"></span>
    ${button("undo", icon(ICONS.undo), t("undo_about"), t("undo"), 'class="lk-small" data-part="undo"')}
    ${button("redo", icon(ICONS.redo), t("redo_about"), t("redo"), 'class="lk-small" data-part="redo"')}
    ${button("pin", `${t("pin")} <span data-part="pins">(0)</span>`, t("pin_about"), t("pin"))}
    ${button("full", icon(ICONS.full), t("full"), t("full"), 'class="lk-small"')}
    ${button("dots", "⋯", t("more_about"), t("more_about"), 'class="lk-small"')}</div>`;
}

function dataHtml(t) {
  return `<div class="lk-data"><h3>${t("data")} <span class="lk-faint" data-part="dataset"></span></h3>
    <div class="lk-thumbs" role="radiogroup" ${named(t("data_set"))} data-part="thumbs"></div>
    <select data-part="presets" ${titled(t("presets_about"))} ${named(t("presets_about"))}></select>
    ${sliderField("noise", t("noise"))}${sliderField("train_share", t("train_share"))}
    <label class="lk-pair" data-holds="samples"><span>${t("samples")}</span>
      ${control("samples", "whole", t("samples"))}</label>
    <div class="lk-pair" data-holds="seed"><span>${t("seed")}</span>${control("seed", "whole", t("seed"))}
      ${button("regenerate", icon(ICONS.again), t("regenerate_about"), t("regenerate"), 'class="lk-small"')}</div>
    <input type="file" accept=".csv,.tsv,.txt,text/csv" data-part="file" tabindex="-1" hidden></div>`;
}

function networkHtml(t) {
  const by = (action, sign, key) => button(action, sign, t(key), t(key));
  const stepper = (field, less, more) => `<span class="lk-stepper" data-holds="${field}"><span>${t(field)}</span>
    ${by(`${field}-`, "−", less)}${control(field, "whole", t(field))}${by(`${field}+`, "+", more)}</span>`;
  return `<div class="lk-network" data-panel="network" role="tabpanel" ${named(t("network"))}>
    <div class="lk-head"><h3>${t("network")}</h3>${stepper("depth", "fewer_layers", "more_layers")}
      ${stepper("width", "narrower", "wider")}
      <span class="lk-layers" data-part="layers">${by("layers-", "‹", "earlier_layers")}
        <span data-part="window"></span>${by("layers+", "›", "later_layers")}</span></div>
    <div class="lk-net" data-part="net"><canvas data-part="wires" aria-hidden="true"></canvas>
      <svg data-part="links"></svg>
      <div data-part="units" role="group" ${named(t("network"))} aria-describedby="{id}-network"></div></div>
    <p class="lk-caption" data-part="caption"></p>
    <form class="lk-editor" data-part="editor" role="group" hidden></form>
    <p class="lk-hidden" id="{id}-network" data-part="network-twin"></p></div>`;
}

function outputHtml(t) {
  const figure = (part, label, title = "") => `<span ${titled(title)}><span data-part="${part}-name">${label}</span><b
    data-part="${part}">—</b></span>`;
  return `<div class="lk-output"><div class="lk-figures">${figure("score", t("score"))}${figure("loss", t("test_loss"))}
      ${figure("seeds", "", t("seeds_about"))}</div>
    <div class="lk-map"><canvas role="img" tabindex="0" ${named(t("map"))} aria-describedby="{id}-map"
      data-part="map"></canvas><span class="lk-chip" data-part="chip" hidden></span></div>
    <div class="lk-checks" data-part="checks"><label ${titled(t("test_points_about"))} data-part="tests-label"><input
        type="checkbox" checked data-part="tests">${t("test_points")}</label>
      <label ${titled(t("answer_only_about"))} data-part="sure-label"><input type="checkbox"
        data-part="sure">${t("answer_only")}</label>
      <span class="lk-axes" data-part="axes"></span>
      <span class="lk-key" aria-hidden="true" data-part="key-holder"><span data-part="low"></span><i
        data-part="key"></i><span data-part="high"></span></span></div>
    <div class="lk-checks" data-part="palette" role="radiogroup" ${named(t("palette"))} hidden></div>
    <div class="lk-curve"><canvas role="img" ${named(t("curve"))} aria-describedby="{id}-curve"
      data-part="curve"></canvas></div>
    <p class="lk-hidden" id="{id}-map" data-part="map-twin"></p>
    <p class="lk-hidden" id="{id}-curve" data-part="curve-twin"></p></div>`;
}

const panelHtml = (key, t) => `<div class="lk-panel" data-panel="${key}" role="tabpanel" ${named(t(`tab_${key}`))}
  tabindex="-1" hidden></div>`;

function tabHtml(key, chosen, t) {
  const label = t(`tab_${key}`), count = key === "compare" ? ' <span data-part="pins-tab"></span>' : "";
  return `<button type="button" role="tab" data-tab="${key}" aria-selected="${chosen}" tabindex="${chosen ? 0 : -1}"
    ${titled(t("tab_about", label.replace("…", "")))}>${label}${count}</button>`;
}

/** All elements of the screen; `id` keeps the text twins of two views apart. */
function skeleton(t, id) {
  const row = ROW.map((name) => {
    const kind = ["lr", "batch_size"].includes(name) ? "number" : "menu";
    return labelled(t(name), control(name, kind, t(name)), `data-holds="${name}"`);
  }).join("");
  const tabs = TABS.map((key, k) => tabHtml(key, !k, t)).join("");
  const panels = TABS.slice(1).map((key) => panelHtml(key, t)).join("");
  return `<div class="lk-page"><section ${named(t("lab"))}>${barHtml(t)}
    <div class="lk-choices">${row}<span class="lk-field lk-fact" ${titled(t("parameters_about"))}>
      <span>${t("parameters")}</span><b data-part="parameters"></b></span></div>
    <div class="lk-main">${dataHtml(t)}${networkHtml(t)}${panels}${outputHtml(t)}</div>
    <p class="lk-sentence" role="status" data-part="sentence"></p>
    <div class="lk-tabs"><div role="tablist">${tabs}</div><span class="lk-goal" data-part="goal"></span>
      <span class="lk-way" data-part="way"></span></div></section></div>`.replaceAll("{id}", id);
}

// ---------------------------------------------------------------- fields
/** Shows what is chosen in every field, and turns what people do to a field into a command. */
class Fields {
  constructor(screen) { this.screen = screen; this.made = {}; }

  get menus() { return this.screen.model.get("menus") ?? {}; }
  get choices() { return this.screen.model.get("choices") ?? {}; }
  all(name) { return [...this.screen.root.querySelectorAll(name ? `[data-field="${name}"]` : "[data-field]")]; }

  /** Write the choices into the fields, but not into one that somebody is typing in. */
  fill() {
    this.fillThumbnails();
    const { menus, choices } = this;
    for (const each of this.all()) this.fillOne(each, menus[each.dataset.field], choices[each.dataset.field]);
  }

  fillOne(element, menu, value) {
    const holder = element.closest("[data-holds]") ?? element.closest("label"), name = element.dataset.field;
    const shown = menu ? menu.shown !== false : value !== undefined;
    if (holder) holder.classList.toggle("lk-gone", !shown);
    element.disabled = !shown;
    if (menu?.about) (element.type === "range" || !holder ? element : holder).title = element.title = menu.about;
    if (element.tagName === "SELECT") this.fillOptions(element, menu, value);
    if (value === undefined || element === this.typing) return;
    element.removeAttribute("aria-invalid");
    if (element.type === "checkbox") element.checked = Boolean(value);
    else if (element.type === "range") this.fillSlider(element, name, menu, value);
    else element.value = Array.isArray(value) ? (new Set(value).size > 1 ? value.join(", ") : value[0] ?? "") : value;
  }

  /** Options are made anew only when they differ: an open menu stays open while the lab trains. */
  fillOptions(element, menu, value) {
    const options = menu?.options ?? [{ value, label: value }], key = JSON.stringify(options);
    if (element.lkMade !== key) {
      const words = (o) => `${o.label ?? o.value}${o.disabled && o.reason ? ` – ${o.reason}` : ""}`;
      element.innerHTML = options.map((o) => `<option value="${escaped(o.value)}" ${o.disabled ? "disabled" : ""}
        ${titled(o.reason || o.about)}>${escaped(words(o))}</option>`).join("");
      element.lkMade = key;
    }
    if (value !== undefined) element.value = value;
  }

  fillSlider(element, name, menu, value) {
    const most = Math.max(0.5, value); // larger noise is allowed, and rarely wanted
    const range = { min: menu?.low ?? 0, max: most, step: 0.01 }, shares = { min: 0.1, max: 0.9, step: 0.05 };
    Object.assign(element, name === "train_share" ? shares : range);
    element.value = value;
    this.sayRange(element);
  }

  sayRange(element) {
    const value = Number(element.value), share = element.dataset.field === "train_share";
    const text = share ? `${Math.round(100 * value)} %` : value.toFixed(2);
    element.setAttribute("aria-valuetext", text);
    element.closest("label").querySelector("b").textContent = text;
  }

  /** Data sets as pictures, with a table and painted points of one's own at the end. */
  fillThumbnails() {
    const { parts, t } = this.screen, offered = this.menus.dataset?.options ?? [];
    const own = OWN_THUMBNAILS.map((value) => ({ value, label: value, about: t(value) }));
    const all = [...offered.filter((o) => !/^(csv|own|paint)/.test(o.value)), ...own], key = JSON.stringify(all);
    const words = (o) => `${o.label ?? o.value}: ${o.about}`;
    if (this.made.thumbs !== key) {
      parts.thumbs.innerHTML = all.map((o) => `<button type="button" role="radio" data-set="${escaped(o.value)}"
        ${titled(words(o))} ${named(words(o))}><canvas></canvas></button>`).join("");
      this.made.thumbs = key;
      this.screen.drawThumbnails();
    }
    const chosen = this.chosenSet();
    for (const each of parts.thumbs.children) {
      each.setAttribute("aria-checked", each.dataset.set === chosen);
      each.tabIndex = each.dataset.set === chosen ? 0 : -1;
    }
    if (!parts.thumbs.querySelector('[tabindex="0"]') && parts.thumbs.firstChild) parts.thumbs.firstChild.tabIndex = 0;
    this.screen.say("dataset", this.screen.scene.dataset ?? this.choices.dataset ?? "");
    this.fillPresets();
  }

  chosenSet() {
    const name = String(this.screen.scene.dataset || this.choices.dataset || "");
    if (name.startsWith("csv")) return "csv";
    return /^(own|paint)/.test(name) ? "paint" : name;
  }

  fillPresets() {
    const { parts, t, model } = this.screen, presets = model.get("settings")?.presets ?? [];
    const key = JSON.stringify(presets);
    if (this.made.presets === key) return;
    this.made.presets = key;
    parts.presets.hidden = !presets.length;
    parts.presets.innerHTML = `<option value="">${escaped(t("presets"))}</option>${presets.map((p) =>
      `<option value="${escaped(p.key)}" ${titled(p.about)}>${escaped(p.label)}</option>`).join("")}`;
  }

  /** What a field says now, as Python takes it; undefined where it is no number. */
  read(element) {
    const name = element.dataset.field, text = element.value.trim();
    if (element.type === "checkbox") return element.checked;
    if (element.tagName === "SELECT") return text;
    if (name !== "width") return text === "" || !Number.isFinite(Number(text)) ? undefined : Number(text);
    const widths = text.split(/[\s,;–-]+/).filter(Boolean).map(Number);
    if (!widths.length || widths.some((w) => !Number.isFinite(w))) return undefined;
    return widths.length > 1 ? widths : widths[0];
  }

  /** A field is left: what was typed and not applied gives way to what is chosen. */
  leave(element) {
    if (element !== this.typing) return;
    this.typing = null;
    this.fill();
  }

  /** Apply a field that was changed. */
  apply(element) {
    const { screen } = this, value = this.read(element);
    this.typing = null;
    if (value === undefined) {
      element.setAttribute("aria-invalid", "true");
      screen.note(screen.t("not_a_number", element.value));
      return;
    }
    screen.choose({ [element.dataset.field]: value });
  }
}
