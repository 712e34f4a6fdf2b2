// Each reset with its verdict: what was observed, what is stale, who planted it, what it lived through.

const ORDER = ["stale", "suspected", "unspecified", "kept", "verified", "unproven"];

class ResetsPanel {
  constructor(trace) {
    this.trace = trace;
    const { resets, round_trips: trips, crash } = trace.head;
    this.cards = resets.map((reset, number) => this.#reset(reset, number));
    this.body = h(
      "div",
      { class: "resets-body", tabindex: "0", role: "region", "aria-label": "Resets and verdicts" },
      crash && h("p", { class: "crash" }, "The host dies at ", eventLink(this.trace, crash.seq), ` in ${crash.function}.`),
      !resets.length && h("p", { class: "quiet" }, "No reset in this trace."),
      this.cards,
      trips.map((trip) => this.#trip(trip)),
    );
    this.element = h(
      "section",
      { class: "panel resets", "aria-label": "Resets" },
      h("div", { class: "panel-head" }, h("h2", {}, `Resets (${resets.length})`)),
      this.body,
    );
  }

  #reset(reset, number) {
    const shown = reset.components
      .filter((each) => each.status !== "unproven")
      .sort((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status));
    const unseen = reset.components.filter((each) => each.status === "unproven").map((each) => each.name);
    return h(
      "details",
      { class: "reset", open: number < 4 || ["stale", "suspected"].includes(reset.verdict), "data-seq": reset.seq },
      h(
        "summary",
        {},
        h("span", { class: `badge ${badge(reset.verdict)}` }, reset.verdict),
        h("span", { class: "what" }, `${number}: ${reset.kind}`),
        eventLink(this.trace, reset.seq),
      ),
      h("p", { class: "quiet" }, this.#whole(reset)),
      shown.length > 0 &&
        h("table", { class: "components" },
          h("thead", {}, h("tr", {}, ["component", "fresh", "observed", ""].map((name) => h("th", { scope: "col" }, name)))),
          h("tbody", {}, shown.flatMap((each) => this.#component(each)))),
      unseen.length > 0 &&
        h("p", { class: "quiet unseen" }, `Not looked at: ${unseen.join(", ")}`),
      Object.keys(reset.left_in_ram).length > 0 &&
        h("p", { class: "quiet" }, "Valid entries of the old tables still in guest RAM: ",
          Object.entries(reset.left_in_ram).map(([name, count]) => `${name} ${count}`).join(", ")),
    );
  }

  #whole(reset) {
    const parts = [`equal in ${reset.observed} of ${reset.of} observed`];
    if (reset.disabled_at !== null) parts.push(`disabled at ${reset.disabled_at}`);
    if (reset.perturbed) parts.push("the probe stopped the VM");
    if (reset.lossy) parts.push("events are missing around it");
    return parts.join("; ");
  }

  #component(each) {
    const seen = each.wrong ?? each.observed[0];
    const value = seen && (BigInt(seen.mask) ? seen.value : "by outputs");
    const row = h(
      "tr",
      { class: `is-${each.status}` },
      h("th", { scope: "row" }, each.name),
      h("td", {}, brief(each.fresh)),
      h("td", {}, seen ? [`${value} `, eventLink(this.trace, seen.seq)] : "–"),
      h("td", {}, h("span", { class: `badge ${badge(each.status)}` }, each.status)),
    );
    const more = [
      each.status === "suspected" && h("p", {}, `The model says ${brief(each.replayed)}; nothing observed says otherwise.`),
      each.clause && ["stale", "suspected", "kept"].includes(each.status) && h("p", { class: "clause" }, each.clause),
      each.status === "unspecified" && h("p", { class: "clause" }, "No clause of the contract speaks of the bits that differ."),
      each.because && h("p", { class: "clause" }, each.because),
      each.blame && this.#blame(each.blame),
      !each.blame && each.planted_before_recording &&
        h("p", {}, "Written by no event of this trace: it was there before the trace begins."),
    ].filter(Boolean);
    return more.length ? [row, h("tr", { class: "more" }, h("td", { colspan: "4" }, more))] : [row];
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
    return h(
      "details",
      { class: "reset", open: true },
      h(
        "summary",
        {},
        h("span", { class: `badge ${badge(trip.verdict)}` }, trip.verdict),
        h("span", { class: "what" }, "round trip"),
        eventLink(this.trace, trip.saved_seq),
        " → ",
        eventLink(this.trace, trip.seq),
      ),
      trip.errno !== 0 && h("p", {}, `The restore failed with ${trip.errno}.`),
      ["came_back", "lost"].flatMap((word) =>
        Object.entries(trip[word]).map(([name, keys]) => h("p", {}, `${name} ${word.replace("_", " ")}: ${keys.join(", ")}`))),
      trip.witness !== null && h("p", {}, "Shown by ", eventLink(this.trace, trip.witness)),
      trip.blame && this.#blame(trip.blame),
    );
  }

  // Mark the reset that the state at `seq` comes after.
  select(seq) {
    let last = null;
    this.trace.head.resets.forEach((reset, number) => {
      if (reset.seq <= seq) last = number;
    });
    this.cards.forEach((card, number) => card.classList.toggle("current", number === last));
  }
}

function badge(word) {
  return { stale: "bad", suspected: "bad", verified: "good", equal: "good" }[word] ?? "plain";
}

function brief(value) {
  if (value === null) return "unknown";
  if (typeof value === "object") return counted(Object.keys(value).length, "entry", "entries");
  return String(value);
}
