// The state beside the event: what the leaves say, laid out; what the event changed is marked.

const MAX_ROWS = 200; // of one table, until more are asked for
const MAX_CHANGES = 60;

class StatePanel {
  constructor(trace, { label }) {
    this.trace = trace;
    this.opened = new Set(["GITS_CTLR"]); // registers whose bits are shown
    this.full = new Set(); // tables that are shown whole
    this.closed = new Set(); // sections that are not shown
    this.title = h("h2", {}, "State");
    this.body = h("div", { class: "state-body", tabindex: "0", role: "region", "aria-label": `${label}: what the state is` });
    this.copy = h("button", { type: "button", onclick: () => this.#copy() }, "Copy JSON");
    this.element = h(
      "section",
      { class: "panel state", "aria-label": `${label}: state` },
      h("div", { class: "panel-head" }, this.title, h("span", { class: "grow" }), this.copy),
      this.body,
    );
  }

  // Show the state after event `seq`.
  async show(seq) {
    this.seq = seq;
    const [now, before] = await Promise.all([this.trace.leavesAt(seq), this.trace.leavesAt(seq - 1)]);
    if (this.seq !== seq) return;
    this.now = now;
    this.before = before;
    this.changed = now && before ? this.#changed(now, before) : new Map();
    this.document = now && this.trace.document(now);
    this.past = before && this.trace.document(before);
    this.#draw();
  }

  redraw() {
    if (this.seq !== undefined && this.document !== undefined) this.#draw();
  }

  // Return whether the other trace's state, if there is one, has something else there.
  #differs(path, value) {
    if (!this.other?.document) return false;
    return this.#at(this.other.document, path) !== value;
  }

  // Return path -> [what it was, what it is] of each leaf that is another; undefined for none.
  #changed(now, before) {
    const found = new Map();
    for (let path = 0; path < now.length; path++) {
      if (now[path] === before[path]) continue;
      const value = (leaves) => (leaves[path] ? this.trace.values[leaves[path] - 1] : undefined);
      found.set(this.trace.paths[path].join("\n"), [value(before), value(now)]);
    }
    return found;
  }

  #copy() {
    const told = { schema: "itstrace.state/1", seq: this.seq, profile: this.trace.head.profile, ...this.document };
    navigator.clipboard?.writeText(JSON.stringify(told, null, 1));
  }

  #draw() {
    const before = this.seq < this.trace.head.first_seq; // of a trace without events
    setText(this.title, before ? "State before the first event" : `State after event ${this.seq}`);
    const scroll = this.body.scrollTop;
    if (!this.now) {
      this.body.replaceChildren(this.#unknown());
      return;
    }
    const several = Object.keys(this.document.its).length > 1;
    const parts = [before ? null : this.#changes()];
    for (const [number, its] of Object.entries(this.document.its)) {
      parts.push(...this.#its(number, its, several ? `ITS ${number}: ` : ""));
    }
    parts.push(this.#redistributors());
    parts.push(this.#table(["lpis"], "LPIs", "INTID"));
    if (this.document.digest) parts.push(h("p", { class: "digest" }, `digest ${this.document.digest}`));
    this.body.replaceChildren(...parts.filter(Boolean));
    this.body.scrollTop = scroll;
  }

  #unknown() {
    const { crash, states_until: until } = this.trace.head;
    const why =
      crash && this.seq > crash.seq
        ? `The host died at event ${crash.seq}, in ${crash.function}: nothing follows.`
        : `The replay ends at event ${until}: what the state is behind it is not known.`;
    return h("p", { class: "note" }, why);
  }

  // -- what changed

  #changes() {
    const lines = this.#lines();
    if (!lines.length) return h("p", { class: "quiet" }, "This event changed nothing that the model keeps.");
    const more = lines.length - MAX_CHANGES;
    return this.#section(
      "changes",
      `Changed by this event (${lines.length})`,
      h("table", { class: "changes" }, h("tbody", {}, lines.slice(0, MAX_CHANGES).map((line) => this.#line(line)))),
      more > 0 && h("p", { class: "quiet" }, `and ${more} more, marked below`),
    );
  }

  // Return what changed as `state --diff` tells it: a field a line, but entries that come or go whole.
  #lines() {
    const entries = new Map();
    const lines = [];
    for (const [path, [was, is]] of this.changed) {
      const names = path.split("\n");
      if (path === "digest" || isEmpty(was ?? is) || (isEmpty(is) && was === undefined)) continue;
      if (was !== undefined && is !== undefined) {
        const name = names.at(-1);
        lines.push({ sign: "", entry: pathText(names), was: valueText(was, name), is: valueText(is, name) });
        continue;
      }
      const sign = is === undefined ? "−" : "+";
      const [entry, field] = /^(.*\])\.?(.*)$/.exec(pathText(names))?.slice(1) ?? [pathText(names), ""];
      const key = `${sign}${entry}`;
      if (!entries.has(key)) entries.set(key, lines.push({ sign, entry, fields: [] }) - 1);
      lines[entries.get(key)].fields.push(`${field} ${valueText(is === undefined ? was : is, field)}`.trim());
    }
    return lines;
  }

  #line({ sign, entry, was, is, fields }) {
    if (!sign) {
      const values = h("td", {}, `${was} → `, h("mark", {}, is));
      return h("tr", {}, h("td", {}), h("th", { scope: "row" }, entry), values);
    }
    const gone = sign === "−";
    return h(
      "tr",
      { class: gone ? "minus" : "plus" },
      h("td", { "aria-hidden": "true" }, sign),
      h("th", { scope: "row" }, entry, h("span", { class: "hidden" }, gone ? " gone" : " new")),
      h("td", {}, fields.join("  ")),
    );
  }

  // -- sections

  #section(key, title, ...content) {
    const element = h("details", { class: "section", open: !this.closed.has(key) }, h("summary", {}, title), content);
    element.addEventListener("toggle", () => (element.open ? this.closed.delete(key) : this.closed.add(key)));
    return element;
  }

  #its(number, its, prefix) {
    const at = ["its", number];
    const known = ["registers", "devices", "collections", "vpes", "translation_cache"];
    return [
      this.#registers([...at, "registers"], `${prefix}Registers`),
      this.#queue(number, its, prefix),
      this.#devices([...at, "devices"], prefix),
      this.#table([...at, "collections"], `${prefix}Collections`, "ICID"),
      this.#table([...at, "vpes"], `${prefix}vPEs`, "vPEID"),
      this.#cache([...at, "translation_cache"], prefix),
      ...Object.keys(its)
        .filter((name) => !known.includes(name))
        .map((name) => this.#table([...at, name], prefix + name.replaceAll("_", " "), "")),
    ];
  }

  #at(document, path) {
    return path.reduce((node, name) => (node && Object.hasOwn(node, name) ? node[name] : undefined), document);
  }

  #cell(path, value) {
    const change = this.changed.get(path.join("\n"));
    const differs = this.#differs(path, value);
    const name = path.at(-1);
    return h(
      "td",
      {
        class: [change && "changed", differs && "differs"].filter(Boolean).join(" ") || null,
        title: change ? `was ${change[0] === undefined ? "not there" : valueText(change[0], name)}` : null,
      },
      valueText(value, name),
      change && h("span", { class: "hidden" }, " changed"),
      differs && h("span", { class: "hidden" }, " not so in the other"),
    );
  }

  // Return a table of what stands under `path`: a row an entry; what the event removed is struck out.
  #table(path, title, keyName, skip = []) {
    const now = this.#at(this.document, path);
    const past = this.#at(this.past, path);
    if (!isObject(now)) return null;
    const keys = [...new Set([...Object.keys(now), ...(isObject(past) ? Object.keys(past) : [])])].sort(byNumber);
    const gone = keys.length - Object.keys(now).length;
    const heading = `${title} (${Object.keys(now).length}${gone ? `, ${gone} gone` : ""})`;
    if (!keys.length) return h("p", { class: "none" }, `${title}: none`);
    const all = keys.map((key) => (Object.hasOwn(now, key) ? now[key] : past[key]));
    const names = [...new Set(all.flatMap((each) => (isObject(each) ? Object.keys(each) : [""])))].filter(
      (name) => !skip.includes(name),
    );
    const rows = this.#limited(path.join("."), keys, (key) => this.#entry(path, key, names, now, past));
    return this.#section(
      path.join("."),
      heading,
      h(
        "table",
        { class: "grid" },
        h("thead", {}, h("tr", {}, [keyName, ...names].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, rows),
      ),
    );
  }

  #entry(path, key, names, now, past) {
    const there = Object.hasOwn(now, key);
    const entry = there ? now[key] : past[key];
    const made = there && past && !Object.hasOwn(past, key);
    const cells = names.map((name) =>
      name === ""
        ? this.#cell([...path, key], isObject(entry) ? undefined : entry)
        : this.#cell([...path, key, name], isObject(entry) ? entry[name] : undefined),
    );
    return h(
      "tr",
      { class: there ? (made ? "new" : null) : "gone" },
      h("th", { scope: "row" }, key, !there && h("span", { class: "hidden" }, " gone"), made && h("span", { class: "hidden" }, " new")),
      cells,
    );
  }

  // Return rows of keys, at most so many and those that changed, with a button for all.
  #limited(name, keys, row) {
    if (keys.length <= MAX_ROWS || this.full.has(name)) return keys.map(row);
    const touched = new Set([...this.changed.keys()].flatMap((path) => path.split("\n")));
    const shown = keys.filter((key, at) => at < MAX_ROWS || touched.has(key));
    const more = h(
      "button",
      {
        type: "button",
        onclick: () => {
          this.full.add(name);
          this.#draw();
        },
      },
      `Show all ${keys.length}`,
    );
    return [...shown.map(row), h("tr", {}, h("td", { colspan: "9" }, more))];
  }

  #devices(path, prefix) {
    const devices = this.#table(path, `${prefix}Devices`, "DeviceID", ["events"]);
    const now = this.#at(this.document, path) || {};
    const past = this.#at(this.past, path) || {};
    const pairs = [];
    for (const id of [...new Set([...Object.keys(now), ...Object.keys(past)])].sort(byNumber)) {
      const events = { ...past[id]?.events, ...now[id]?.events };
      for (const event of Object.keys(events).sort(byNumber)) pairs.push([id, event]);
    }
    if (!pairs.length) return devices;
    const names = [...new Set(pairs.flatMap(([id, event]) => Object.keys((now[id]?.events?.[event] ?? past[id].events[event]))))];
    const keys = pairs.map((pair) => pair.join("/"));
    const rows = this.#limited(`${path.join(".")}.events`, keys, (key) => this.#event(path, key.split("/"), names, now, past));
    const there = pairs.filter(([id, event]) => now[id]?.events?.[event]).length;
    const table = h(
      "table",
      { class: "grid" },
      h("thead", {}, h("tr", {}, ["DeviceID", "EventID", ...names].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows),
    );
    const element = h("div", {}, devices, this.#section(`${path.join(".")}.events`, `${prefix}Events (${there})`, table));
    return element;
  }

  #event(path, [id, event], names, now, past) {
    const entry = now[id]?.events?.[event];
    const was = past[id]?.events?.[event];
    const at = [...path, id, "events", event];
    return h(
      "tr",
      { class: entry ? (was || !this.past ? null : "new") : "gone" },
      h("th", { scope: "row" }, id, !entry && h("span", { class: "hidden" }, " gone")),
      h("td", {}, event),
      names.map((name) => this.#cell([...at, name], (entry || was)[name])),
    );
  }

  #cache(path, prefix) {
    const now = this.#at(this.document, path) || [];
    const past = this.#at(this.past, path) || [];
    if (!now.length && !past.length) return h("p", { class: "none" }, `${prefix}Translation cache: empty`);
    const key = ([device, event]) => `${device}/${event}`;
    const before = new Map(past.map((each) => [key(each), each]));
    const after = new Set(now.map(key));
    const all = [...now, ...past.filter((each) => !after.has(key(each)))];
    const rows = this.#limited(path.join("."), all.map(key), (name) => {
      const each = all.find((one) => key(one) === name);
      const old = before.get(name);
      const mark = !after.has(name) ? "gone" : old === undefined && this.past ? "new" : old && old[2] !== each[2] ? "changed" : null;
      return h("tr", { class: mark }, h("th", { scope: "row" }, each[0]), h("td", {}, each[1]), h("td", {}, each[2]));
    });
    return this.#section(
      path.join("."),
      `${prefix}Translation cache (${now.length})`,
      h(
        "table",
        { class: "grid" },
        h("thead", {}, h("tr", {}, ["DeviceID", "EventID", "INTID"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, rows),
      ),
    );
  }

  // -- registers

  #registers(path, title) {
    const registers = this.#at(this.document, path);
    const rows = Object.entries(registers).map(([name, value]) => this.#register([...path, name], name, value));
    return this.#section(path.join("."), title, h("div", { class: "registers" }, rows));
  }

  #redistributors() {
    const all = this.document.redistributors || {};
    const parts = Object.entries(all).map(([cpu, registers]) =>
      h(
        "div",
        { class: "registers" },
        h("h3", {}, `CPU ${cpu}`),
        Object.entries(registers).map(([name, value]) => this.#register(["redistributors", cpu, name], name, value)),
      ),
    );
    return this.#section("redistributors", `Redistributors (${parts.length})`, parts);
  }

  #register(path, name, value) {
    const change = this.changed.get(path.join("\n"));
    const key = path.length > 3 && path[0] === "redistributors" ? path.join(".") : path.slice(-2).join(".");
    const differs = this.#differs(path, value);
    const layout = this.trace.head.layouts[name];
    const raw = typeof value === "string" ? BigInt(value) : null;
    const was = change && typeof change[0] === "string" ? BigInt(change[0]) : null;
    const element = h(
      "details",
      { class: change ? "register changed" : "register", open: this.opened.has(key) || this.opened.has(name) },
      h(
        "summary",
        {},
        h("span", { class: "name" }, name),
        h("span", { class: differs ? "value differs" : "value", title: change ? `was ${valueText(change[0])}` : null }, valueText(value)),
        layout && raw !== null && strip(layout, raw, was),
        change && h("span", { class: "hidden" }, ` changed, was ${valueText(change[0])}`),
        differs && h("span", { class: "hidden" }, " not so in the other"),
      ),
    );
    const fill = () => {
      if (element.open && element.childElementCount === 1 && layout) element.append(bitDiagram(name, layout, raw, was));
    };
    fill();
    element.addEventListener("toggle", () => {
      fill();
      if (element.open) this.opened.add(key);
      else {
        this.opened.delete(key);
        this.opened.delete(name);
      }
    });
    return element;
  }

  // The command queue, as its three registers have it.
  #queue(number, its, prefix) {
    const read = (register, field) => fieldOf(this.trace.head.layouts[register], its.registers[register], field);
    const size = read("GITS_CBASER", "Size");
    const from = read("GITS_CREADR", "Offset");
    const to = read("GITS_CWRITER", "Offset");
    if (size === null || from === null || to === null) return null;
    const bytes = (Number(size) + 1) * 4096;
    const [reads, writes] = [Number(from), Number(to)];
    const waiting = (((writes - reads) % bytes) + bytes) % bytes / 32;
    const valid = read("GITS_CBASER", "Valid") === 1n;
    const stalled = read("GITS_CREADR", "Stalled") === 1n;
    const bar = h("div", { class: "queue-bar", "aria-hidden": "true" });
    const piece = (start, end, kind) => {
      const part = h("div", { class: kind });
      part.style.left = `${(start / bytes) * 100}%`;
      part.style.width = `${Math.max(((end - start) / bytes) * 100, 0)}%`;
      bar.append(part);
    };
    if (reads <= writes) piece(reads, writes, "waiting");
    else {
      piece(0, writes, "waiting");
      piece(reads, bytes, "waiting");
    }
    piece(reads, reads, "reader");
    piece(writes, writes, "writer");
    const words = [
      valid ? null : "not valid",
      `${bytes / 1024} KiB at ${valueText(hexText(read("GITS_CBASER", "Physical_Address")))}`,
      `CREADR ${hexText(from)}`,
      `CWRITER ${hexText(to)}`,
      counted(waiting, "command waits", "commands wait"),
      stalled ? "stalled" : null,
    ];
    return this.#section(`queue.${number}`, `${prefix}Command queue`, h("p", { class: "queue" }, words.filter(Boolean).join(" · ")), bar);
  }
}

// -- bits

function fieldOf(layout, value, name) {
  if (!layout || typeof value !== "string") return null;
  const row = layout[1].find((each) => each[0] === name);
  return row ? fieldValue(row, BigInt(value)) : null;
}

function fieldValue([, high, low, place], raw) {
  const ones = (1n << BigInt(high - low + 1)) - 1n;
  return ((raw >> BigInt(low)) & ones) << BigInt(place);
}

// Return all bits of a register as a narrow strip.
function strip([width, fields], raw, was) {
  const element = h("span", { class: "strip", "aria-hidden": "true" });
  for (let bit = width - 1; bit >= 0; bit--) {
    const on = (raw >> BigInt(bit)) & 1n;
    const field = fields.findIndex(([, high, low]) => bit <= high && bit >= low);
    const flipped = was !== null && ((was >> BigInt(bit)) & 1n) !== on;
    const kind = field < 0 ? "reserved" : field % 2 ? "odd" : "even";
    element.append(h("i", { class: `${kind}${on ? " on" : ""}${flipped ? " flipped" : ""}` }));
  }
  return element;
}

// Return the fields of a register as a figure of its bits, and as a table.
function bitDiagram(name, [width, fields], raw, was) {
  if (raw === null) return h("p", { class: "quiet" }, "What it holds is not known.");
  const figure = h("div", { class: "bits", "aria-hidden": "true" });
  for (let top = width - 1; top >= 0; top -= 32) figure.append(bitRow(fields, raw, was, top));
  const rows = [...fields].reverse().map((row) => {
    const changed = was !== null && fieldValue(row, was) !== fieldValue(row, raw);
    return h(
      "tr",
      { class: changed ? "changed" : null },
      h("th", { scope: "row" }, row[0]),
      h("td", { class: "range" }, row[1] === row[2] ? row[1] : `${row[1]}:${row[2]}`),
      h("td", {}, hexText(fieldValue(row, raw)), changed && h("span", { class: "was" }, ` was ${hexText(fieldValue(row, was))}`)),
    );
  });
  const table = h("table", { class: "fields", "aria-label": `Fields of ${name}` }, h("tbody", {}, rows));
  return h("div", { class: "diagram" }, figure, table);
}

function bitRow(fields, raw, was, top) {
  const row = h("div", { class: "bit-row" });
  let bit = top;
  while (bit > top - 32) {
    const at = fields.findIndex(([, high, low]) => bit <= high && bit >= low);
    const end = at < 0 ? nextField(fields, bit, top - 31) : Math.max(fields[at][2], top - 31);
    row.append(bitBox(at < 0 ? null : fields[at], bit, end, raw, was, at));
    bit = end - 1;
  }
  return row;
}

// Return the lowest bit of a stretch that no field names.
function nextField(fields, bit, lowest) {
  let end = bit;
  while (end > lowest && !fields.some(([, high, low]) => end - 1 <= high && end - 1 >= low)) end--;
  return end;
}

function bitBox(field, high, low, raw, was, at) {
  const count = high - low + 1;
  const cells = [];
  for (let bit = high; bit >= low; bit--) {
    const on = (raw >> BigInt(bit)) & 1n;
    const flipped = was !== null && ((was >> BigInt(bit)) & 1n) !== on;
    cells.push(h("i", { class: `${on ? "on" : ""}${flipped ? " flipped" : ""}` }, on ? "1" : "0"));
  }
  const kind = field ? (at % 2 ? "odd" : "even") : "reserved";
  const name = field ? field[0] : "";
  const box = h(
    "div",
    { class: `bit-box ${kind}`, title: field ? `${name} [${field[1]}:${field[2]}]` : `reserved [${high}:${low}]` },
    h("span", { class: "ends" }, h("b", {}, high), count > 2 && h("b", {}, low)),
    h("span", { class: "digits" }, cells),
    h("span", { class: "label" }, count > 2 ? name : ""),
  );
  box.style.gridColumn = `span ${count}`;
  return box;
}

// -- words

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isEmpty(value) {
  return typeof value === "object" && value !== null && !Object.keys(value).length;
}

function byNumber(a, b) {
  return Number(a) - Number(b) || (a < b ? -1 : 1);
}

function hexText(value) {
  return value === null ? "unknown" : `0x${value.toString(16)}`;
}

// Return a value as `state` prints it; of what is called `name`, where null may mean that there is none.
function valueText(value, name = "") {
  if (value === undefined) return "";
  if (value === null) return name === "queued" || name === "icid" ? "none" : "unknown";
  if (value === true) return "yes";
  if (value === false) return "no";
  return typeof value === "object" ? (Object.keys(value).length ? JSON.stringify(value) : "none") : String(value);
}

// Return a path as `state --diff` and predicates write it.
function pathText(path) {
  const [first, ...rest] = path[0] === "its" ? (path[1] === "0" ? path.slice(2) : [`its[${path[1]}]`, ...path.slice(2)]) : path;
  let text = first;
  const keyed = ["devices", "events", "collections", "vpes", "redistributors", "lpis", "translation_cache"];
  let before = first.startsWith("its[") ? null : first;
  for (const name of rest) {
    text += keyed.includes(before) ? `[${name}]` : `.${name}`;
    before = name;
  }
  return text;
}
