// One trace: its events, read a chunk at a time, and its states, from checkpoints and changes.

const CHUNK_SHIFT = 16; // events a chunk: CHUNK_EVENTS of replay/report/events.py

class Trace {
  constructor(prefix, key, head) {
    this.key = key; // what it is called in an address
    this.prefix = prefix;
    this.head = head;
    this.firstSeq = head.first_seq;
    this.count = head.events;
    this.lastSeq = head.first_seq + head.events - 1;
    this.chunks = [];
    this.segments = [];
    this.loading = new Map();
    this.timed = head.end_ns > 0;
    this.origin = BigInt(head.origin_ns);
    this.names = new Set(head.names);
  }

  static async open(prefix, key) {
    const trace = new Trace(prefix, key, await readDocument(`${prefix}head`));
    const [atoms, leaves] = await Promise.all([
      readDocument(`${prefix}atoms`),
      readDocument(`${prefix}leaves`),
    ]);
    trace.atoms = atoms.atoms;
    trace.templates = atoms.templates;
    trace.paths = leaves.paths;
    trace.values = leaves.values.map((text) => JSON.parse(text));
    return trace;
  }

  once(name, load) {
    if (!this.loading.has(name)) this.loading.set(name, load());
    return this.loading.get(name);
  }

  // -- events

  chunkOf(index) {
    return index >> CHUNK_SHIFT;
  }

  hasChunk(number) {
    return this.chunks[number] !== undefined;
  }

  needChunk(number) {
    return this.once(`events-${number}`, async () => {
      const block = await readBlock(`${this.prefix}events-${number}`);
      this.chunks[number] = new Chunk(this, block, this.head.chunks[number]);
    });
  }

  // Read what is missing of all events; gives way to the page in between.
  async needAll(tell = () => {}) {
    for (let number = 0; number < this.head.chunks.length; number++) {
      if (!this.hasChunk(number)) {
        await this.needChunk(number);
        await pause();
      }
      tell((number + 1) / this.head.chunks.length);
    }
  }

  // Return {chunk, at}: where event `index` (counted from 0) stands; its chunk must be there.
  place(index) {
    const chunk = this.chunks[this.chunkOf(index)];
    return { chunk, at: index - chunk.begin };
  }

  time(index) {
    const { chunk, at } = this.place(index);
    return chunk.times[at];
  }

  // Return the time of an event as the trace has it, in ns.
  exactTime(index) {
    return this.origin + BigInt(Math.round(this.time(index)));
  }

  lane(index) {
    const { chunk, at } = this.place(index);
    return this.head.groups[chunk.groups[at]].lane;
  }

  kind(index) {
    const { chunk, at } = this.place(index);
    return this.head.groups[chunk.groups[at]].kind;
  }

  // Return the value that an event has under a name; undefined where it has no such name.
  field(index, name) {
    const { chunk, at } = this.place(index);
    return chunk.field(at, name);
  }

  // Return [name, value] of everything that is known of an event.
  fields(index) {
    const { chunk, at } = this.place(index);
    const names = this.head.groups[chunk.groups[at]].names;
    const cause = chunk.field(at, "cause");
    return [
      ["kind", this.kind(index)],
      ...(cause === undefined ? [] : [["cause", cause]]),
      ...names.map((name) => [name, chunk.field(at, name)]),
    ];
  }

  line(index) {
    const { chunk, at } = this.place(index);
    const template = this.templates[chunk.templateOf(at)];
    return template
      .map((part) => (typeof part === "string" ? part : written(part, chunk.field(at, part[0]))))
      .join("");
  }

  // -- states

  segmentOf(seq) {
    const starts = this.head.segments;
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= seq) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  needSegment(number) {
    return this.once(`states-${number}`, async () => {
      const block = await readBlock(`${this.prefix}states-${number}`);
      this.segments[number] = new Segment(block);
    });
  }

  // Return the leaves after event `seq`, as path -> value + 1 (0: not there); null where nobody knows.
  async leavesAt(seq) {
    if (seq < this.firstSeq - 1 || seq > this.head.states_until) return null;
    const number = this.segmentOf(seq);
    await this.needSegment(number);
    return this.segments[number].leavesAt(seq, this.paths.length);
  }

  // Return the nearest event before (-1) or behind (1) `seq` after which the state is another.
  async nextChange(seq, way) {
    let number = this.segmentOf(seq);
    for (; number >= 0 && number < this.head.segments.length; number += way) {
      await this.needSegment(number);
      const seqs = this.segments[number].seqs;
      const found = way > 0 ? seqs.find((each) => each > seq) : seqs.findLast((each) => each < seq);
      if (found !== undefined) return found;
    }
    return null;
  }

  // Return leaves as the document that `itstrace state --json` prints, without what names the trace.
  document(leaves) {
    const root = {};
    for (let path = 0; path < leaves.length; path++) {
      if (!leaves[path]) continue;
      const names = this.paths[path];
      let node = root;
      for (let at = 0; at < names.length - 1; at++) {
        if (!Object.hasOwn(node, names[at])) node[names[at]] = {};
        node = node[names[at]];
      }
      node[names[names.length - 1]] = this.values[leaves[path] - 1];
    }
    for (const its of Object.values(root.its || {})) {
      its.translation_cache = Object.entries(its.translation_cache || {})
        .map(([pair, intid]) => [...pair.split("/"), intid])
        .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    }
    return root;
  }
}

// Events that were written together; columns are put together when somebody asks for them.
class Chunk {
  constructor(trace, block, [begin, time]) {
    this.trace = trace;
    this.block = block;
    this.begin = begin;
    this.base = time;
    this.count = block.header.count;
    this.groups = numbers(block, block.header.groups, this.count);
    this.times = this.#times(numbers(block, block.header.times, this.count), time);
    this.columns = new Map();
    this.#number();
  }

  #times(steps, time) {
    const times = new Float64Array(this.count);
    for (let at = 0; at < this.count; at++) times[at] = time += steps[at];
    return times;
  }

  // Number the events of each group: an event's row in the columns of its group.
  #number() {
    const next = new Uint32Array(this.trace.head.groups.length);
    this.rows = new Uint32Array(this.count);
    for (let at = 0; at < this.count; at++) this.rows[at] = next[this.groups[at]]++;
  }

  // Return the column of a group under a name: a function from row to value; null for none.
  columnOf(group, name) {
    const key = `${group} ${name}`;
    let found = this.columns.get(key);
    if (found === undefined) {
      found = this.#read(group, name);
      this.columns.set(key, found);
    }
    return found;
  }

  #read(group, name) {
    const [count, causes, ...told] = this.block.header.parts[group];
    if (name === "cause") return causes && column(this.block, causes, count, null);
    const at = name === "" ? 0 : this.trace.head.groups[group].names.indexOf(name) + 1;
    if (at === 0 && name !== "") return null;
    return column(this.block, told[at], count, this.trace.atoms);
  }

  field(at, name) {
    const read = this.columnOf(this.groups[at], name);
    return read ? read(this.rows[at]) : undefined;
  }

  templateOf(at) {
    return this.columnOf(this.groups[at], "")(this.rows[at]);
  }
}

// A state, and what changed after it, event by event.
class Segment {
  constructor(block) {
    const { first, seqs, counts, set } = block.header;
    const [size, firstPaths, firstValues] = first;
    this.firstPaths = numbers(block, firstPaths, size);
    this.firstValues = numbers(block, firstValues, size);
    this.seqs = numbers(block, seqs[1], seqs[0]);
    this.counts = numbers(block, counts, seqs[0]);
    this.paths = numbers(block, set[1], set[0]);
    this.values = numbers(block, set[2], set[0]);
  }

  leavesAt(seq, size) {
    const leaves = new Uint32Array(size);
    this.firstPaths.forEach((path, at) => (leaves[path] = this.firstValues[at] + 1));
    let next = 0;
    for (let at = 0; at < this.seqs.length && this.seqs[at] <= seq; at++) {
      for (const end = next + this.counts[at]; next < end; next++) {
        leaves[this.paths[next]] = this.values[next];
      }
    }
    return leaves;
  }
}

// Return a number as a template wants it: decimal, or hexadecimal of at least so many characters.
function written([, width], value) {
  if (width === undefined) return String(value);
  const digits = value.toString(16);
  return `0x${digits.padStart(width - 2, "0")}`;
}

function pause() {
  return new Promise((resolve) => setTimeout(resolve));
}
