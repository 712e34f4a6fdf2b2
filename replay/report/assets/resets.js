// Each reset with its verdict: what was observed, what is stale, who planted it, what it lived through.

const ORDER = ["stale", "suspected", "unspecified", "kept", "verified", "unproven"];
const MAX_OPEN = 4; // resets that are shown open

class ResetsPanel {
  constructor(trace, title) { // "Resets", or "Resets of A"
    this.trace = trace;
    this.body = h("div", {
      class: "resets-body", tabindex: "0", role: "region", "aria-label": `${title} and their verdicts`,
    });
    this.element = h(
      "section",
      { class: "panel resets", "aria-label": title },
      h("div", { class: "panel-head" }, h("h2", {}, `${title} (${trace.head.resets.length})`)),
      this.body,
    );
  }

  async open() {
    const { resets, crash, status } = this.trace.head;
    this.told = await readDocument(`${this.trace.prefix}verdicts`);
    this.cards = resets.map((reset, number) => this.#card(reset, number));
    append(this.body, [
      crash && h("p", { class: "crash" }, "The host dies at ", eventLink(this.trace, crash.seq), ` in ${crash.function}.`),
      !resets.length &&
        h("p", { class: "quiet" }, `No reset in ${status === "clean" ? "" : "what could be read of "}this trace.`),
      this.cards.map((card, number) => this.#linked(card, resets[number].seq)),
      this.told.round_trips.map((trip) => this.#trip(trip)),
    ]);
    let open = 0;
    this.cards.forEach((card, number) => {
      const finding = badge(resets[number].verdict) === "bad";
      if ((finding || resets.length <= MAX_OPEN) && open++ < MAX_OPEN) card.open = true;
    });
    this.select(this.seq);
    const found = this.cards.find((_, number) => badge(resets[number].verdict) === "bad");
    // Once it has its rows: what is wrong comes first into view.
    if (found) setTimeout(() => (this.body.scrollTop += place(found) - place(this.body)));
  }

  #card(reset, number) {
    const card = h(
      "details",
      { class: "reset", "data-seq": reset.seq },
      h(
        "summary",
        {},
        h("span", { class: `badge ${badge(reset.verdict)}` }, reset.verdict),
        h("span", { class: "what" }, `${number}: ${reset.kind}`),
      ),
    );
    card.addEventListener("toggle", () => {
      if (card.open && card.childElementCount === 1) append(card, this.#inside(reset, this.told.resets[number]));
    });
    return card;
  }

  // Return a card with the links to its events beside its summary, which may hold none.
  #linked(card, ...seqs) {
    const links = seqs.flatMap((seq) => [" ", eventLink(this.trace, seq)]);
    return h("div", { class: "reset-card" }, card, h("span", { class: "places" }, links));
  }

  #inside(reset, verdict) {
    const components = verdict.components.map((id) => this.told.shared[id]);
    const shown = components
      .filter((each) => each.status !== "unproven")
      .sort((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status));
    const unseen = components
      .filter((each) => each.status === "unproven")
      .map((each) => (each.seen ? `${each.name} (in part)` : each.name));
    const left = Object.entries(verdict.left_in_ram);
    return [
      h("p", { class: "quiet" }, this.#whole(verdict)),
      shown.length > 0 &&
        h(
          "table",
          { class: "components" },
          h("thead", {}, h("tr", {}, ["component", "observed", "verdict"].map((name) => h("th", { scope: "col" }, name)))),
          h("tbody", {}, shown.flatMap((each) => this.#component(each, reset.seq, verdict.blames[each.name]))),
        ),
      unseen.length > 0 && h("p", { class: "quiet" }, `Not looked at: ${unseen.join(", ")}`),
      left.length > 0 &&
        h("p", { class: "quiet" }, "Valid entries of the old tables still in guest RAM: ",
          left.map(([name, count]) => `${name} ${count}`).join(", ")),
    ];
  }

  #whole(verdict) {
    const parts = [`equal in ${verdict.observed} of ${verdict.of} observed`];
    if (verdict.disabled_at !== null) parts.push(`disabled at ${verdict.disabled_at}`);
    if (verdict.perturbed) parts.push("the probe stopped the VM");
    if (verdict.lossy) parts.push("events are missing around it");
    return parts.join("; ");
  }

  #component(each, since, blame) {
    const { seen, status } = each;
    const row = h(
      "tr",
      { class: `is-${status}` },
      h("th", { scope: "row" }, each.name),
      h("td", {}, seen ? [seen.value ?? "by outputs", " ", eventLink(this.trace, since + seen.after)] : "–"),
      h("td", {}, h("span", { class: `badge ${badge(status)}` }, status)),
    );
    const bad = ["stale", "suspected"].includes(status);
    const clause = each.clause === null ? null : this.told.shared[each.clause];
    const more = [
      (bad || status === "unspecified") && h("p", {}, `A fresh device: ${each.fresh}; the model: ${each.replayed}.`),
      status === "suspected" && h("p", {}, "Nothing observed says otherwise."),
      clause && (bad || status === "kept") && h("p", { class: "clause" }, clause),
      status === "unspecified" && h("p", { class: "clause" }, "No clause of the contract speaks of the bits that differ."),
      each.because && h("p", { class: "clause" }, each.because),
      blame && this.#blame(blame),
      !blame && each.before_recording &&
        h("p", {}, "Written by no event of this trace: it was there before the trace begins."),
    ].filter(Boolean);
    return more.length ? [row, h("tr", { class: "more" }, h("td", { colspan: "3" }, more))] : [row];
  }

  // Who planted what is stale, and what it went through.
  #blame({ seq, story }) {
    const planted = eventLink(this.trace, seq, `#${seq}`, { class: "event-link planted" });
    const act = story?.behind.find((each) => each.by === seq);
    return h(
      "div",
      { class: "blame" },
      h("p", {}, "Planted by ", planted, act && [": ", h("code", {}, act.event)]),
      story && this.#story(story),
    );
  }

  #story(story) {
    const steps = [
      ...story.behind.map((act) => ({ seq: act.seq, text: h("code", {}, act.event) })),
      ...story.resets.map((one) => ({ seq: one.seq, text: `${one.kind}, which ${one.did}`, lived: true })),
      ...story.round_trips.map((trip) => ({ seq: trip.seq, text: `restore of what ${trip.saved_seq} saved`, lived: true })),
    ].sort((a, b) => a.seq - b.seq);
    return [
      h("p", { class: "quiet" }, `What ${story.name} rests on and lived through:`),
      h(
        "ol",
        { class: "story" },
        steps.map(({ seq, text, lived }) =>
          h("li", { class: lived ? "lived" : null }, eventLink(this.trace, seq), " ", text)),
      ),
    ];
  }

  #trip(trip) {
    const told = ["came_back", "lost"].flatMap((word) =>
      Object.entries(trip[word]).map(([name, count]) => h("p", {}, `${name} ${word.replace("_", " ")}: ${count}`)));
    const card = h(
      "details",
      { class: "reset", open: trip.verdict !== "equal" },
      h(
        "summary",
        {},
        h("span", { class: `badge ${badge(trip.verdict)}` }, trip.verdict),
        h("span", { class: "what" }, "round trip"),
      ),
      trip.errno !== 0 && h("p", {}, `The restore failed with ${trip.errno}.`),
      told,
      trip.witness !== null && h("p", {}, "Shown by ", eventLink(this.trace, trip.witness)),
      trip.blame && this.#blame(trip.blame),
    );
    return this.#linked(card, trip.saved_seq, trip.seq);
  }

  // Mark the reset that the state at `seq` comes after.
  select(seq) {
    this.seq = seq;
    const last = this.trace.head.resets.findLastIndex((reset) => reset.seq <= seq);
    if (!this.cards || last === this.last) return;
    this.cards[this.last]?.classList.remove("current");
    this.cards[last]?.classList.add("current");
    this.last = last;
  }
}

function place(element) {
  return element.getBoundingClientRect().top;
}

function badge(word) {
  return { stale: "bad", suspected: "bad", divergent: "bad", crash: "bad", verified: "good", equal: "good" }[word] ?? "plain";
}
