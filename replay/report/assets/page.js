// The page: what stands where, the keys, the address. One View a trace; two of them for a comparison.

const KEYS = [
  ["← →", "the event before, the next"],
  ["↑ ↓, PgUp PgDn, Home End", "in the list: among those that pass the filter"],
  ["p n", "the event before, the next that changes the state"],
  ["[ ]", "the reset before, the next"],
  ["+ −", "zoom the timeline; 0: all of it"],
  ["/", "the filter"],
  ["t", "light or dark"],
  ["?", "this list"],
];

class View {
  constructor(trace, page, label) {
    this.trace = trace;
    this.page = page;
    this.label = label;
    const choose = (seq) => this.go(seq);
    this.timeline = new Timeline(trace, { choose, resets: trace.head.resets, label: `${label}: timeline` });
    this.list = new EventList(trace, { id: trace.key, label, choose });
    this.list.onfiltered = () => page.remember();
    this.state = new StatePanel(trace, { label });
    this.resets = new ResetsPanel(trace, trace.key === "seq" ? "Resets" : `Resets of ${label}`);
    this.detail = h("section", { class: "panel detail", "aria-label": `${label}: the event` });
    this.#transport();
    this.seq = null;
  }

  #transport() {
    const { trace } = this;
    this.slider = h("input", {
      type: "range", min: trace.firstSeq - 1, max: trace.lastSeq, step: 1, class: "slider",
      "aria-label": `${this.label}: event`, oninput: () => this.go(Number(this.slider.value)),
      onkeydown: (event) => event.stopPropagation(),
    });
    this.number = h("input", {
      type: "number", min: trace.firstSeq - 1, max: trace.lastSeq, class: "number", "aria-label": `${this.label}: event number`,
      onchange: () => this.go(Number(this.number.value)),
    });
    const button = (text, title, act) =>
      h("button", { type: "button", title, "aria-label": title, onclick: act }, text);
    const axis = trace.timed &&
      h("button", { type: "button", "aria-pressed": "false", onclick: () => {
        this.timeline.setByTime(!this.timeline.byTime);
        axis.setAttribute("aria-pressed", String(!this.timeline.byTime));
      } }, "by number");
    this.transport = h(
      "nav",
      { class: "transport", "aria-label": `${this.label}: through time` },
      button("⇤", "The reset before", () => this.reset(-1)),
      button("◂", "The change before", () => this.change(-1)),
      button("‹", "The event before", () => this.step(-1)),
      this.number,
      button("›", "The next event", () => this.step(1)),
      button("▸", "The next change", () => this.change(1)),
      button("⇥", "The next reset", () => this.reset(1)),
      this.slider,
      axis,
      button("+", "Zoom in", () => this.timeline.zoom(0.5)),
      button("−", "Zoom out", () => this.timeline.zoom(2)),
    );
  }

  // Where a page begins that no address says more of: at the first finding, else at the end.
  get begin() {
    const finding = this.trace.head.resets.find((each) => badge(each.verdict) === "bad");
    return finding?.seq ?? this.trace.lastSeq;
  }

  // Go to event `seq`; resolves when the page shows it.
  async go(seq) {
    const { trace } = this;
    if (!Number.isFinite(seq)) return;
    seq = Math.max(trace.firstSeq - 1, Math.min(Math.round(seq), trace.lastSeq));
    this.seq = seq;
    this.slider.value = seq;
    this.number.value = seq;
    this.list.select(seq);
    this.timeline.select(seq);
    this.resets.select(seq);
    this.page.remember();
    const index = seq - trace.firstSeq;
    if (index >= 0) await trace.needChunk(trace.chunkOf(index));
    await this.state.show(seq);
    if (this.seq !== seq) return;
    const line = index < 0 ? "before the first event" : trace.line(index);
    this.slider.setAttribute("aria-valuetext", shownText(`${seq}: ${line}`));
    this.#tell(index);
    if (!this.held) this.onmoved?.();
    const changed = this.state.changed?.size ?? 0;
    this.page.announce(`${this.label}, event ${seq}: ${line}; ${counted(changed, "change")}`);
  }

  #tell(index) {
    if (index < 0) {
      this.detail.replaceChildren(h("p", { class: "quiet" }, "Before the first event."));
      return;
    }
    const fields = this.trace.fields(index).filter(([, value]) => value !== null && value !== undefined);
    this.detail.replaceChildren(
      h("h2", {}, `Event ${this.seq}`, this.trace.timed && h("span", { class: "quiet" }, ` at ${seconds(this.trace.time(index))} s`)),
      h("p", { class: "line" }, this.trace.line(index)),
      h("dl", {}, fields.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, this.#shown(name, value))))),
    );
  }

  #shown(name, value) {
    if (name === "cause" && value) return [`${value} back: `, eventLink(this.trace, this.seq - Number(value))];
    if (Array.isArray(value)) return value[0] === "y" ? value[1] || "nothing" : value[1];
    if (typeof value === "string" || SMALL.has(name)) return String(value);
    return value < 0 ? String(value) : hexText(value);
  }

  step(count) {
    return this.go(this.seq + count);
  }

  async change(way) {
    const seq = await this.trace.nextChange(this.seq, way);
    if (seq !== null) await this.go(seq);
  }

  reset(way) {
    const seqs = this.trace.head.resets.map((each) => each.seq);
    const seq = way > 0 ? seqs.find((each) => each > this.seq) : seqs.findLast((each) => each < this.seq);
    if (seq !== undefined) return this.go(seq);
  }
}

// Names whose numbers people read in decimal.
const SMALL = new Set([
  "cause", "size", "cpu", "bad", "valid", "result", "errno", "queued", "intid", "icid", "rdbase", "pINTID",
  "vINTID", "ICID", "RDbase", "RDbase1", "RDbase2", "count", "line", "present", "stalled", "its", "thread",
]);

class Page {
  constructor() {
    this.live = h("p", { class: "hidden", role: "status", "aria-live": "polite", id: "live" });
    this.views = [];
  }

  announce(text) {
    clearTimeout(this.saying);
    this.saying = setTimeout(() => setText(this.live, text), 150);
  }

  // -- the address

  address(hash = location.hash) {
    return new URLSearchParams(hash.slice(1));
  }

  // Let the address say what is looked at; not at every step, which browsers take for an attack.
  remember() {
    clearTimeout(this.remembering);
    this.remembering = setTimeout(() => this.#remember(), 150);
  }

  #remember() {
    const parts = [];
    for (const view of this.views) {
      if (view.seq !== null) parts.push(`${view.trace.key}=${view.seq}`);
      const text = view.list.input.value.trim();
      if (text) parts.push(`${view.trace.key === "seq" ? "" : view.trace.key}filter=${encodeURIComponent(text)}`);
    }
    const hash = `#${parts.join("&")}`;
    if (location.hash !== hash) history.replaceState(null, "", hash);
  }

  async follow(hash) {
    const address = this.address(hash);
    const [one, other] = this.views.map((view) => address.has(view.trace.key));
    for (const view of this.views) view.held = one && other; // both are given: none moves the other
    await Promise.all(
      this.views.map(async (view) => {
        const { key } = view.trace;
        const filter = address.get(`${key === "seq" ? "" : key}filter`);
        const given = Number(address.get(key) ?? NaN);
        const seq = Number.isFinite(given) ? given : view.seq;
        if (filter !== null && filter !== view.list.input.value) await view.list.filter(filter);
        if (seq !== view.seq || view.seq === null) await view.go(seq ?? view.begin);
      }),
    );
    for (const view of this.views) view.held = false;
  }

  // -- light and dark

  theme() {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    for (const view of this.views) view.timeline.redraw();
  }

  // -- keys

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || this.help.open) return;
    if (event.target.matches("input, select, textarea, summary, [role=listbox]") && event.key.startsWith("Arrow")) return;
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const view = this.views.find((each) => each.root?.contains(document.activeElement)) ?? this.views[0];
    const act = {
      ArrowLeft: () => view.step(-1), ArrowRight: () => view.step(1), n: () => view.change(1), p: () => view.change(-1),
      "]": () => view.reset(1), "[": () => view.reset(-1), "+": () => view.timeline.zoom(0.5),
      "-": () => view.timeline.zoom(2), 0: () => view.timeline.zoom(1e9), "/": () => view.list.input.focus(),
      t: () => this.theme(), "?": () => this.help.showModal(),
    }[event.key];
    if (!act || (!this.letters.checked && event.key.length === 1)) return;
    event.preventDefault();
    act();
  }

  #help() {
    this.letters = h("input", { type: "checkbox", checked: true, id: "letters" });
    this.help = h(
      "dialog",
      { "aria-labelledby": "help-title" },
      h("h2", { id: "help-title" }, "Keys"),
      h("table", {}, h("tbody", {}, KEYS.map(([key, what]) => h("tr", {}, h("th", { scope: "row" }, key), h("td", {}, what))))),
      h("p", {}, this.letters, h("label", { for: "letters" }, " keys of one character are on")),
      h("form", { method: "dialog" }, h("button", {}, "Close")),
    );
    this.help.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.help.close();
    });
  }

  bar(title, ...content) {
    this.#help();
    return h(
      "header",
      { class: "bar" },
      h("h1", {}, title),
      content,
      h("span", { class: "grow" }),
      h("button", { type: "button", onclick: () => this.help.showModal() }, "Keys"),
      h("button", { type: "button", onclick: () => this.theme() }, "Light, dark"),
    );
  }

  listen() {
    document.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.("a[href^='#']");
      if (link && link.hash === location.hash) this.follow(link.hash); // no hashchange tells of it
    });
    addEventListener("hashchange", (event) => this.follow(new URL(event.newURL).hash));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      for (const view of this.views) view.timeline.redraw();
    });
  }
}

function facts(trace) {
  const { head } = trace;
  const words = head.resets.map((each) => each.verdict);
  const worst = ["stale", "suspected"].find((word) => words.includes(word));
  return [
    h("span", { class: "fact" }, head.profile),
    h("span", { class: "fact" }, counted(head.events, "event")),
    h("span", { class: "fact" }, counted(head.resets.length, "reset")),
    worst && h("span", { class: "badge bad" }, worst),
    head.status !== "clean" &&
      h("span", { class: "badge unread" }, { cut: "cut off", damaged: "damaged" }[head.status]),
  ];
}

function notes(trace) {
  const { notes: told, header } = trace.head;
  return [
    told.length > 0 && h("ul", { class: "caveats", "aria-label": "What limits this report" }, told.map((each) => h("li", {}, each))),
    h(
      "details",
      { class: "about" },
      h("summary", {}, "About this trace"),
      h("dl", {}, Object.entries(header).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    ),
  ];
}

async function showTrace(page) {
  const trace = await Trace.open("", "seq");
  const view = new View(trace, page, "Trace");
  page.views.push(view);
  view.root = h(
    "main",
    { class: "one" },
    view.timeline.element,
    view.transport,
    h("div", { class: "left" }, view.resets.element, notes(trace)),
    h("div", { class: "middle" }, view.list.element, view.detail),
    view.state.element,
  );
  document.body.append(page.bar(trace.head.name, facts(trace)), view.root, page.live, page.help);
  page.listen();
  await page.follow();
  view.resets.open();
  view.timeline.open();
}
