// The list of events: of a million, only those that are seen are elements.

const ROW_PX = 21;
const MAX_PX = 15_000_000; // browsers make no element higher than about 17 million

class EventList {
  constructor(trace, { id, label, choose }) {
    this.trace = trace;
    this.choose = choose;
    this.chosen = null; // the events that pass the filter; null: all
    this.top = 0;
    this.seq = null;
    this.id = id;
    this.label = label;
    this.generation = 0;
    this.#build();
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  #build() {
    this.input = h("input", {
      type: "search", id: `${this.id}-filter`, spellcheck: "false", autocomplete: "off", class: "filter",
      placeholder: "command == MAPTI and DeviceID == 0x8", "aria-describedby": `${this.id}-found`,
      oninput: () => this.#soon(),
    });
    this.found = h("p", { id: `${this.id}-found`, class: "found", role: "status" });
    this.rows = h("div", { class: "rows" });
    this.spacer = h("div", { class: "spacer" }, this.rows);
    this.box = h(
      "div",
      {
        class: "events", tabindex: "0", role: "listbox", "aria-label": `${this.label}: events`, id: `${this.id}-events`,
        onscroll: () => this.#scrolled(), onkeydown: (event) => this.#key(event),
        onclick: (event) => this.#clicked(event), onwheel: (event) => this.#wheel(event),
      },
      this.spacer,
    );
    this.element = h(
      "section",
      { class: "panel list", "aria-label": `${this.label}: list of events` },
      h(
        "div",
        { class: "panel-head" },
        h("h2", {}, "Events"),
        h("label", { for: `${this.id}-filter`, class: "hidden" }, "Filter events, as show -Y does"),
        this.input,
        this.found,
      ),
      this.box,
    );
    this.#tell();
  }

  get length() {
    return this.chosen ? this.chosen.length : this.trace.count;
  }

  // -- the filter

  #soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.filter(this.input.value), 200);
  }

  // Show only what passes; an empty filter shows all.
  async filter(text) {
    const generation = ++this.generation;
    this.input.value = text;
    let made = null;
    this.input.removeAttribute("aria-invalid");
    if (text.trim()) {
      try {
        made = compileFilter(text, this.trace.names);
      } catch (error) {
        if (!(error instanceof FilterError)) throw error;
        this.input.setAttribute("aria-invalid", "true");
        setText(this.found, error.message);
        return;
      }
    }
    this.filtering = this.#pick(made, generation);
    await this.filtering;
  }

  async #pick(made, generation) {
    if (!made) {
      this.chosen = null;
    } else {
      const parts = [];
      for (let number = 0; number < this.trace.head.chunks.length; number++) {
        if (!this.trace.hasChunk(number)) await this.trace.needChunk(number);
        const found = chosenOf(this.trace.chunks[number], made);
        for (const each of found) parts.push(each);
        await pause();
        if (generation !== this.generation) return;
        setText(this.found, `${counted(parts.length, "event")} so far`);
      }
      this.chosen = Uint32Array.from(parts);
    }
    this.#tell();
    this.#size();
    this.reveal(true);
    this.onfiltered?.();
  }

  #tell() {
    const all = counted(this.trace.count, "event");
    setText(this.found, this.chosen ? `${this.chosen.length.toLocaleString("en")} of ${all}` : all);
  }

  // -- where things stand

  // Return where event `index` stands in the list, or the one before it.
  #positionOf(index) {
    if (!this.chosen) return index;
    let low = 0;
    let high = this.chosen.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.chosen[middle] <= index) low = middle + 1;
      else high = middle;
    }
    return Math.max(low - 1, 0);
  }

  indexAt(position) {
    return this.chosen ? this.chosen[position] : position;
  }

  get visible() {
    return Math.max(Math.floor(this.box.clientHeight / ROW_PX), 1);
  }

  get maxTop() {
    return Math.max(this.length - this.visible, 0);
  }

  #size() {
    const px = Math.min(this.length * ROW_PX, MAX_PX);
    this.spacer.style.height = `${px}px`;
  }

  get range() {
    return Math.max(this.spacer.offsetHeight - this.box.clientHeight, 1);
  }

  #scrolled() {
    if (this.moving) return;
    this.top = Math.min(Math.round((this.box.scrollTop / this.range) * this.maxTop), this.maxTop);
    this.draw();
  }

  #wheel(event) {
    if (this.length * ROW_PX <= MAX_PX) return; // then a pixel is a pixel
    event.preventDefault();
    this.#moveTo(this.top + Math.round(event.deltaY / ROW_PX));
  }

  #moveTo(top) {
    this.top = Math.max(0, Math.min(top, this.maxTop));
    this.moving = true;
    this.box.scrollTop = (this.top / Math.max(this.maxTop, 1)) * this.range;
    this.draw();
    requestAnimationFrame(() => (this.moving = false));
  }

  // Show the event that is chosen; `middle`: in the middle, even where it is seen already.
  reveal(middle = false) {
    if (this.seq === null) return this.draw();
    const at = this.#positionOf(Math.max(this.seq - this.trace.firstSeq, 0));
    if (middle || at < this.top || at >= this.top + this.visible) {
      this.#moveTo(at - Math.floor(this.visible / 2));
    } else {
      this.draw();
    }
  }

  select(seq) {
    this.seq = seq;
    this.#size();
    this.reveal();
  }

  // Return the event so many places from the one that is chosen.
  stepped(count) {
    if (!this.length) return null;
    const index = this.seq - this.trace.firstSeq;
    const at = this.#positionOf(Math.max(index, 0));
    const inList = this.length && this.indexAt(at) === index;
    const from = count > 0 && !inList && this.indexAt(at) > index ? at - 1 : at;
    const to = Math.max(0, Math.min(inList || count > 0 ? from + count : from + count + 1, this.length - 1));
    return this.indexAt(to) + this.trace.firstSeq;
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const page = this.visible - 1;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.length, End: this.length };
    if (!(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    const seq = this.stepped(steps[event.key]);
    if (seq !== null) this.choose(seq);
  }

  #clicked(event) {
    const row = event.target.closest(".row");
    if (row) this.choose(Number(row.dataset.seq));
  }

  // -- drawing

  async draw() {
    const first = this.top;
    const last = Math.min(first + this.visible + 1, this.length);
    const missing = new Set();
    for (let at = first; at < last; at++) missing.add(this.trace.chunkOf(this.indexAt(at)));
    for (const number of missing) if (this.trace.hasChunk(number)) missing.delete(number);
    if (missing.size) {
      await Promise.all([...missing].map((number) => this.trace.needChunk(number)));
      if (this.top !== first) return;
    }
    const rows = [];
    for (let at = first; at < last; at++) rows.push(this.#row(at));
    this.rows.style.top = `${this.box.scrollTop}px`;
    this.rows.replaceChildren(...rows);
    const selected = rows.find((row) => row.getAttribute("aria-selected") === "true");
    if (selected) this.box.setAttribute("aria-activedescendant", selected.id);
    else this.box.removeAttribute("aria-activedescendant");
  }

  #row(at) {
    const index = this.indexAt(at);
    const seq = this.trace.firstSeq + index;
    const lane = this.trace.lane(index);
    const line = this.trace.line(index);
    return h(
      "div",
      {
        class: `row lane-${lane}`, role: "option", id: `${this.id}-row-${seq}`, "data-seq": seq,
        "aria-selected": seq === this.seq ? "true" : "false", "aria-posinset": at + 1,
        "aria-setsize": this.length,
      },
      h("span", { class: "seq" }, seq),
      h("span", { class: "time" }, this.trace.timed ? seconds(this.trace.time(index)) : ""),
      h("span", { class: "line", title: shownText(line) }, line),
    );
  }
}
