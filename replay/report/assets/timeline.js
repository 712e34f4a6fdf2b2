// The timeline: a lane for each sort of event, as dense as they are; resets and the cursor across.

const LANE_PX = 19;
const AXIS_PX = 26;
const MAX_LINES_SEEN = 60; // resets that are lines from top to bottom; of more, only findings are

class Timeline {
  constructor(trace, { choose, resets, label }) {
    this.trace = trace;
    this.choose = choose;
    this.resets = resets;
    this.byTime = trace.timed;
    this.seq = null;
    this.canvas = h("div", { class: "plot" });
    this.element = h(
      "section",
      { class: "panel timeline", "aria-label": label },
      h("div", { class: "plot-wrap", role: "img", "aria-label": this.#summary() }, this.canvas),
    );
    this.used = trace.head.lanes.map((_, lane) => lane).filter((lane) => trace.head.overview[lane]);
    new ResizeObserver(() => this.#resize()).observe(this.canvas);
  }

  #summary() {
    const { lanes, overview } = this.trace.head;
    const parts = lanes.map((name, lane) => `${overview[lane].toLocaleString("en")} ${name}`);
    return `Timeline of ${counted(this.trace.count, "event")}: ${parts.join(", ")}`;
  }

  // Read what it draws, then draw.
  open() {
    return (this.opened = this.#open());
  }

  async #open() {
    this.#plot();
    await this.trace.needAll();
    this.#index();
    this.ready = true;
    this.plot.redraw();
  }

  // Put lanes and places on the axis of all events into two arrays.
  #index() {
    const { trace } = this;
    this.lanes = new Uint8Array(trace.count);
    this.times = new Float64Array(trace.count);
    for (const chunk of trace.chunks) {
      const lane = trace.head.groups.map((group) => group.lane);
      for (let at = 0; at < chunk.count; at++) this.lanes[chunk.begin + at] = lane[chunk.groups[at]];
      this.times.set(chunk.times, chunk.begin);
    }
  }

  get bounds() {
    if (!this.byTime) return [this.trace.firstSeq - 0.5, this.trace.lastSeq + 0.5];
    const last = this.trace.head.end_ns / 1e9;
    const margin = Math.max(last / 200, 1e-6);
    return [-margin, last + margin];
  }

  #plot() {
    const [min, max] = this.bounds;
    const options = {
      width: this.canvas.clientWidth || 800,
      height: this.used.length * LANE_PX + AXIS_PX + 6,
      legend: { show: false },
      padding: [4, 8, 0, 0],
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false } },
      scales: { x: { time: false, min, max }, y: { range: [0, this.used.length] } },
      axes: [
        {
          stroke: () => cssColour("--dim"), font: "11px system-ui", size: AXIS_PX, gap: 2,
          grid: { stroke: () => cssColour("--line"), width: 1 }, ticks: { show: false },
          values: (_, splits) => splits.map((each) => (this.byTime ? `${+each.toFixed(6)} s` : `#${each}`)),
        },
        {
          stroke: () => cssColour("--dim"), font: "11px system-ui", size: 92, gap: 6,
          grid: { stroke: () => cssColour("--line"), width: 1 }, ticks: { show: false },
          splits: () => this.used.map((_, at) => this.used.length - at - 0.5),
          values: () => this.used.map((lane) => this.trace.head.lanes[lane]),
        },
      ],
      series: [{}, { show: true, paths: () => null, points: { show: false } }],
      hooks: { draw: [() => this.#draw()] },
    };
    this.plot = new uPlot(options, [[min, max], [null, null]], this.canvas);
    this.plot.over.addEventListener("click", (event) => this.#clicked(event));
  }

  #resize() {
    if (!this.plot || !this.canvas.clientWidth) return;
    this.plot.setSize({ width: this.canvas.clientWidth, height: this.plot.height });
  }

  // Time or numbers on the axis.
  setByTime(byTime) {
    this.byTime = byTime;
    const [min, max] = this.bounds;
    this.plot.setData([[min, max], [null, null]], false);
    this.plot.setScale("x", { min, max });
  }

  redraw() {
    this.plot?.redraw(false, true);
  }

  zoom(factor) {
    const { min, max } = this.plot.scales.x;
    const [low, high] = this.bounds;
    const middle = this.seq === null ? (min + max) / 2 : this.#x(this.seq - this.trace.firstSeq);
    const half = ((max - min) * factor) / 2;
    this.plot.setScale("x", { min: Math.max(middle - half, low), max: Math.min(middle + half, high) });
  }

  select(seq) {
    this.seq = seq;
    if (!this.plot) return;
    const x = this.ready || !this.byTime ? this.#x(seq - this.trace.firstSeq) : null;
    const { min, max } = this.plot.scales.x;
    if (x !== null && (x < min || x > max)) {
      const half = (max - min) / 2;
      this.plot.setScale("x", { min: x - half, max: x + half });
    } else {
      this.plot.redraw(false, false);
    }
  }

  // Return where event `index` is on the axis.
  #x(index) {
    if (!this.byTime) return this.trace.firstSeq + index;
    return this.times[Math.max(0, Math.min(index, this.trace.count - 1))] / 1e9;
  }

  // Return the first event that is not before a place on the axis.
  #indexAt(x) {
    if (!this.byTime) return Math.max(0, Math.ceil(x - this.trace.firstSeq));
    let low = 0;
    let high = this.trace.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] / 1e9 < x) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #clicked(event) {
    if (!this.ready || this.plot.select.width > 0) return;
    const at = this.plot.posToVal(event.offsetX, "x");
    const lane = this.used[Math.floor(event.offsetY / (this.plot.over.clientHeight / this.used.length))];
    const reach = (this.plot.posToVal(event.offsetX + 6, "x") - at) || 0;
    const from = Math.max(0, this.#indexAt(at - reach) - 1);
    const until = Math.min(this.trace.count, this.#indexAt(at + reach) + 1);
    let best = null;
    for (let index = from; index < until; index++) {
      const far = Math.abs(this.#x(index) - at) + (this.lanes[index] === lane ? 0 : reach * 4);
      if (best === null || far < best[0]) best = [far, index];
    }
    const index = best ? best[1] : Math.min(this.#indexAt(at), this.trace.count - 1);
    this.choose(this.trace.firstSeq + index);
  }

  // -- drawing

  #draw() {
    const { ctx, bbox } = this.plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    if (this.ready) this.#bars(ctx, bbox);
    this.#resets(ctx, bbox);
    this.#cursor(ctx, bbox);
    ctx.restore();
  }

  // Return counts by lane and by column of pixels, of what is seen.
  #counts(width) {
    const { min, max } = this.plot.scales.x;
    const key = `${min} ${max} ${width} ${this.byTime}`;
    if (this.counted?.key === key) return this.counted;
    const counts = this.trace.head.lanes.map(() => new Uint32Array(width));
    const most = this.trace.head.lanes.map(() => 1);
    const end = Math.min(this.#indexAt(max) + 1, this.trace.count);
    const scale = width / (max - min);
    for (let index = Math.max(this.#indexAt(min) - 1, 0); index < end; index++) {
      const at = Math.floor((this.#x(index) - min) * scale);
      if (at < 0 || at >= width) continue;
      const lane = this.lanes[index];
      most[lane] = Math.max(most[lane], ++counts[lane][at]);
    }
    this.counted = { key, counts, most };
    return this.counted;
  }

  #bars(ctx, bbox) {
    const wide = Math.max(1, Math.round(devicePixelRatio * 1.5));
    const width = Math.floor(bbox.width / wide);
    const { counts, most } = this.#counts(width);
    const height = bbox.height / this.used.length;
    this.used.forEach((lane, row) => {
      ctx.fillStyle = cssColour(LANE_COLOURS[lane]);
      const bottom = bbox.top + (row + 1) * height - 2;
      const scale = Math.log1p(most[lane]);
      for (let at = 0; at < width; at++) {
        const count = counts[lane][at];
        if (!count) continue;
        const tall = (height - 4) * (0.35 + (0.65 * Math.log1p(count)) / scale);
        ctx.fillRect(bbox.left + at * wide, bottom - tall, wide, tall);
      }
    });
  }

  #resets(ctx, bbox) {
    if (this.byTime && !this.ready) return;
    const { min, max } = this.plot.scales.x;
    const seen = this.resets
      .map((reset) => [this.#x(reset.seq - this.trace.firstSeq), cssColour(wordColour(reset.verdict)), reset.verdict])
      .filter(([at]) => at >= min && at <= max);
    for (const [at, colour, verdict] of seen) {
      const x = this.plot.valToPos(at, "x", true);
      const whole = seen.length <= MAX_LINES_SEEN || badge(verdict) === "bad";
      ctx.fillStyle = colour;
      ctx.fillRect(Math.round(x), bbox.top, Math.max(1, devicePixelRatio), whole ? bbox.height : 4 * devicePixelRatio);
      if (!whole) continue;
      ctx.beginPath();
      const size = 5 * devicePixelRatio;
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x + size * 1.6, bbox.top + size * 0.8);
      ctx.lineTo(x, bbox.top + size * 1.6);
      ctx.fill();
    }
  }

  #cursor(ctx, bbox) {
    if (this.seq === null || (this.byTime && !this.ready)) return;
    const x = Math.round(this.plot.valToPos(this.#x(this.seq - this.trace.firstSeq), "x", true));
    ctx.fillStyle = cssColour("--accent");
    ctx.fillRect(x - devicePixelRatio, bbox.top, 2 * devicePixelRatio, bbox.height);
  }
}

// Return the colour of a verdict.
function wordColour(word) {
  if (word === "stale" || word === "suspected") return "--bad";
  if (word === "verified" || word === "equal") return "--good";
  return "--warn";
}
