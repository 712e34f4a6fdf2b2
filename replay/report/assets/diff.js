// Two traces side by side: where they differ, and both moving together.

const MAX_LINES = 6; // events of one side of a difference that are shown

class Comparison {
  constructor(views, told, pairs) {
    this.views = views;
    this.told = told;
    const [count, a, b] = pairs.header.pairs;
    this.pairs = { a: numbers(pairs, a, count), b: numbers(pairs, b, count), count };
    this.together = h("input", { type: "checkbox", checked: true, id: "together" });
    this.element = h(
      "section",
      { class: "panel differences", "aria-label": "Differences" },
      h(
        "div",
        { class: "panel-head" },
        h("h2", {}, `Differences (${told.differences.length}${told.whole ? "" : " and more"})`),
        h("span", { class: "grow" }),
        h("label", { class: "check" }, this.together, " move together"),
      ),
      (this.body = h("div", { class: "resets-body", tabindex: "0", role: "region", "aria-label": "Where they differ" })),
    );
    views.forEach((view, side) => {
      view.onmoved = () => this.#follow(side);
      view.state.other = views[1 - side].state;
    });
  }

  async open() {
    const { told } = this;
    append(this.body, [
      h("p", { class: "quiet" }, `The same in ${counted(told.same, "event")} before the first; ${counted(told.renamed, "name")} renamed.`),
      h("p", { class: "quiet" }, `Not compared: ${told.ignored.join(", ")}.`),
      !told.differences.length && h("p", {}, "No difference."),
    ]);
    for (const [number, each] of told.differences.entries()) {
      this.body.append(await this.#difference(each, number));
      if (number % 20 === 19) await pause();
    }
  }

  async #difference(each, number) {
    const sides = [];
    for (const [side, sign] of [[0, "−"], [1, "+"]]) {
      const { trace } = this.views[side];
      const seqs = side ? each.b : each.a;
      for (const seq of seqs.slice(0, MAX_LINES)) sides.push(await this.#line(trace, seq, sign));
      if (seqs.length > MAX_LINES) sides.push(h("li", { class: "quiet" }, `${sign} ${seqs.length - MAX_LINES} more`));
    }
    const [a, b] = this.#place(each);
    const go = h("a", { href: `#a=${a}&b=${b}`, class: "what" }, `${number + 1}: ${each.what}`);
    return h("article", { class: "difference" }, h("h3", {}, go), h("ul", {}, sides), each.names.map((name) => h("p", { class: "quiet" }, name)));
  }

  async #line(trace, seq, sign) {
    const index = seq - trace.firstSeq;
    await trace.needChunk(trace.chunkOf(index));
    return h("li", { class: trace.key }, `${sign} `, eventLink(trace, seq), " ", h("code", {}, trace.line(index)));
  }

  // Return the events of A and B to look at for a difference.
  #place(each) {
    const { a, b } = this.pairs;
    const [one, other] = [each.a[0] ?? null, each.b[0] ?? null];
    return [one ?? this.#partner(other, b, a) ?? 0, other ?? this.#partner(one, a, b) ?? 0];
  }

  get first() {
    return this.told.differences.length ? this.#place(this.told.differences[0]) : null;
  }

  // One side moved: the other goes where it is the same, or was so last.
  #follow(side) {
    const [from, to] = side ? ["b", "a"] : ["a", "b"];
    const other = this.views[1 - side];
    if (!this.together.checked || this.following) {
      other.state.redraw();
      return;
    }
    const partner = this.#partner(this.views[side].seq, this.pairs[from], this.pairs[to]);
    this.following = true;
    other.go(partner ?? other.seq ?? other.trace.firstSeq).finally(() => (this.following = false));
  }

  // Return the partner of the last event at or before `seq` that has one.
  #partner(seq, from, to) {
    let best = -1;
    let partner = null;
    for (let at = 0; at < from.length; at++) {
      if (from[at] <= seq && from[at] > best) {
        best = from[at];
        partner = to[at];
      }
    }
    return partner;
  }
}

async function showDiff(page) {
  const traces = await Promise.all([Trace.open("a-", "a"), Trace.open("b-", "b")]);
  const views = traces.map((trace, side) => new View(trace, page, side ? "B" : "A"));
  page.views.push(...views);
  const [told, pairs] = await Promise.all([readDocument("differences"), readBlock("pairs")]);
  const comparison = new Comparison(views, told, pairs);
  views.forEach((view) => {
    view.root = h(
      "section",
      { class: `side ${view.trace.key}`, "aria-label": `Trace ${view.label}` },
      h("p", { class: "side-head" }, h("b", {}, view.label), " ", view.trace.head.name, facts(view.trace)),
      view.timeline.element,
      view.transport,
      view.list.element,
      view.state.element,
    );
  });
  const main = h(
    "main",
    { class: "two" },
    h("div", { class: "left" }, comparison.element, views.map((view) => view.resets.element)),
    views.map((view) => view.root),
  );
  document.body.append(page.bar(`${traces[0].head.name} and ${traces[1].head.name}`), main, page.live, page.help);
  page.listen();
  if (!page.address().has("a") && comparison.first) {
    history.replaceState(null, "", `#a=${comparison.first[0]}&b=${comparison.first[1]}`);
  }
  await page.follow();
  comparison.open();
  for (const view of views) {
    view.resets.open();
    view.timeline.open();
  }
}
