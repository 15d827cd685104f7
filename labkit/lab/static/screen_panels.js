// The tabs: what takes the place of the network. Landscape and charts of the kernel are child widgets, opened when
// their tab is opened first; comparing, sharing and the other choices are drawn here.

class Panels {
  constructor(screen) {
    Object.assign(this, { screen, tab: "network", mounted: {}, filled: {} });
    const all = [...screen.root.querySelectorAll("[data-panel]")];
    this.panels = Object.fromEntries(all.map((panel) => [panel.dataset.panel, panel]));
  }

  /** Show one tab; the kernel is told, because it measures a landscape only for somebody who looks. */
  open(tab) {
    const { screen } = this, before = this.tab;
    this.tab = tab;
    for (const [key, panel] of Object.entries(this.panels)) panel.hidden = key !== tab;
    for (const each of screen.root.querySelectorAll('[role="tab"]')) {
      each.setAttribute("aria-selected", each.dataset.tab === tab);
      each.tabIndex = each.dataset.tab === tab ? 0 : -1;
    }
    if (tab !== before) screen.send("turn", tab);
    this.fill();
    if (tab === "network") screen.resize();
  }

  fill() {
    if (this.tab === "landscape") this.mount("landscape", this.panels.landscape);
    else if (this.tab === "compare") this.fillCompare();
    else if (this.tab === "share") this.fillShare();
    else if (this.tab === "more") this.fillMore();
  }

  // ---------------------------------------------------------------- child widgets
  /** Put the kernel's own widget into a panel, once; a failure is said in a sentence. */
  async mount(slot, panel) {
    const { screen } = this, { model, t } = screen, id = (model.get("slots") ?? {})[slot];
    if (this.mounted[slot] === id && id) return;
    if (!id) return this.say(panel, t("landscape_needs"));
    this.mounted[slot] = id;
    this.say(panel, t("coming"));
    try {
      const child = await model.widget_manager.get_model(id.slice("IPY_MODEL_".length));
      const view = await model.widget_manager.create_view(child);
      if (screen.gone || this.mounted[slot] !== id) return void view.remove?.();
      this.views = [...(this.views ?? []), view];
      panel.replaceChildren(view.el);
      attach(view);
    } catch (error) {
      this.mounted[slot] = null; // opening the tab again tries again
      this.say(panel, t("no_child", error?.message ?? error));
    }
  }

  say(panel, text) { panel.innerHTML = `<p class="lk-empty">${escaped(text)}</p>`; }

  remove() { for (const view of this.views ?? []) view.remove?.(); }

  // ---------------------------------------------------------------- compare
  fillCompare() {
    const { screen } = this, { t, colours: c } = screen, panel = this.panels.compare, pins = screen.pins;
    if (!panel.firstChild) {
      panel.innerHTML = `<div class="lk-compare"></div><canvas class="lk-compare-curves" role="img"></canvas>
        <div class="lk-slot"></div>`;
    }
    const [table, canvas, slot] = panel.children;
    const rows = pins.map((pin, k) => this.rowOf(pin, classColour(c, k, 9), DASHES[k % DASHES.length])).join("");
    const heads = ["run", "step_of", "pin_loss", "pin_score", "pin_parameters"].map((key) => `<th>${t(key)}</th>`);
    const html = pins.length ? `<table><thead><tr>${heads.join("")}</tr></thead><tbody>${rows}</tbody></table>
      ${button("unpin", t("forget"), t("forget_about"))}` : `<p class="lk-empty">${escaped(t("no_pins"))}</p>`;
    if (this.filled.compare !== html) { table.innerHTML = html; this.filled.compare = html; }
    canvas.hidden = !pins.length;
    if (pins.length) drawCompare(canvas, c, pins);
    const words = pins.map((pin) => `${pin.name}: ${t("test_loss")} ${digits(pin.test.at(-1))}`);
    canvas.setAttribute("aria-label", words.join("; "));
    if ((screen.model.get("slots") ?? {}).compare) this.mount("compare", slot);
  }

  rowOf(pin, colour, dashes) {
    const cells = [thousands(pin.step.at(-1) ?? 0), digits(pin.test.at(-1)),
      isNumber(pin.score) ? pin.score.toFixed(3) : "—", isNumber(pin.parameters) ? thousands(pin.parameters) : "—"];
    return `<tr><td><svg width="26" height="8" aria-hidden="true"><path d="M0 4h26" fill="none" stroke-width="2"
      stroke="${colour}" stroke-dasharray="${dashes}"/></svg> ${escaped(pin.name)}</td>
      ${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  }

  // ---------------------------------------------------------------- share
  fillShare() {
    const { screen } = this, { t } = screen, panel = this.panels.share, { share = "", code = "" } = screen.status;
    if (!panel.firstChild) {
      const copy = (key) => button(`copy-${key}`, t("copy"), t("copy_about"), `${t("copy")} ${t(key)}`);
      const box = (key) => `<div class="lk-share"><h3>${t(key)}</h3>${copy(key)}</div><textarea readonly
        spellcheck="false" data-text="${key}" ${named(t(key))} ${titled(t(`${key}_about`))}></textarea>`;
      const about = titled(t("open_about"));
      panel.innerHTML = `${box("share")}${box("code")}<form class="lk-share"><h3>${t("open")}</h3>
        <input type="text" name="text" autocomplete="off" ${named(t("open_about"))} ${about}>
        <button ${about}>${t("open_button")}</button></form>`;
      panel.querySelector("form").addEventListener("submit", (event) => {
        event.preventDefault();
        const text = event.target.elements.text.value.trim();
        if (text) screen.send("open", text);
      });
      for (const area of panel.querySelectorAll("textarea")) area.addEventListener("focus", () => area.select());
    }
    for (const [key, text] of [["share", share], ["code", code]]) {
      const area = panel.querySelector(`[data-text="${key}"]`);
      if (area.value !== text) area.value = text;
    }
  }

  async copy(key, pressed) {
    const { t, root } = this.screen, area = root.querySelector(`[data-text="${key}"]`);
    try {
      await navigator.clipboard.writeText(area.value);
    } catch { // no permission, or a page that is not secure
      area.focus();
      document.execCommand?.("copy");
    }
    pressed.textContent = t("copied");
    setTimeout(() => { pressed.textContent = t("copy"); }, 1500);
  }

  // ---------------------------------------------------------------- more
  /** Every choice that has no place of its own on the screen. */
  fillMore() {
    const { screen } = this, { t } = screen, menus = screen.fields.menus, panel = this.panels.more;
    const names = Object.keys(menus).filter((name) => !PLACED.has(name));
    const key = JSON.stringify(names.map((name) => [name, menus[name].kind]));
    if (this.filled.more !== key) {
      this.filled.more = key;
      const label = (name) => (TEXTS[name] ? t(name) : menus[name].label ?? name);
      panel.innerHTML = names.length ? `<div class="lk-grid">${names.map((name) =>
        labelled(label(name), control(name, menus[name].kind, label(name)), `data-holds="${name}"`)).join("")}</div>`
        : `<p class="lk-empty">${escaped(t("nothing_more"))}</p>`;
    }
    screen.fields.fill();
  }
}

/** Tell a view of another widget that it stands in the page: some draw only then. */
function attach(view) {
  try {
    for (const type of ["before-attach", "after-attach"]) {
      view.luminoWidget?.processMessage?.({ type, isConflatable: false, conflate: () => false });
    }
    if (!view.luminoWidget) view.trigger?.("displayed");
  } catch { /* it draws itself */ }
}
