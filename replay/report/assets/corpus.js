// A corpus: a row a trace, with what it must show, what it shows, and what each profile makes of it.

class Corpus {
  constructor(page, told) {
    this.told = told;
    this.page = page;
    this.only = h("input", {
      type: "search", id: "only", class: "filter", placeholder: "a name, a word, a signature",
      oninput: () => this.draw(),
    });
    this.failing = h("input", { type: "checkbox", id: "failing", onchange: () => this.draw() });
    this.found = h("p", { class: "found", role: "status" });
    this.tables = h("div", { class: "tables" });
    this.root = h(
      "main",
      { class: "corpus" },
      h(
        "div",
        { class: "panel-head" },
        h("label", { for: "only" }, "Show"),
        this.only,
        h("label", { class: "check" }, this.failing, " only those that fail"),
        this.found,
      ),
      this.tables,
    );
    this.draw();
  }

  draw() {
    const text = this.only.value.trim().toLowerCase();
    const rows = this.told.rows.filter((row) => this.#shows(row, text));
    setText(this.found, `${rows.length.toLocaleString("en")} of ${counted(this.told.rows.length, "trace")}`);
    const families = [...new Set(rows.map((row) => row.family))].sort();
    this.tables.replaceChildren(...families.map((family) => this.#table(family, rows.filter((row) => row.family === family))));
  }

  #shows(row, text) {
    if (this.failing.checked && row.results.every((each) => each.passed)) return false;
    return !text || JSON.stringify([row.path, row.reason, row.results, row.cells]).toLowerCase().includes(text);
  }

  #table(family, rows) {
    const profiles = [...new Set(rows.flatMap((row) => Object.keys(row.cells)))];
    const heads = ["trace", "must show", "shows", ...profiles.map((name) => name.replace(/^(linux|qemu|xen)-/, ""))];
    return h(
      "section",
      { class: "panel", "aria-label": family || "not replayed" },
      h("div", { class: "panel-head" }, h("h2", {}, `${family || "Not replayed"} (${rows.length})`)),
      h(
        "div",
        { class: "wide", tabindex: "0", role: "region", "aria-label": `Matrix of ${family || "what is not replayed"}` },
        h(
          "table",
          { class: "grid" },
          h("thead", {}, h("tr", {}, heads.map((name) => h("th", { scope: "col" }, name)))),
          h("tbody", {}, rows.map((row) => this.#row(row, profiles))),
        ),
      ),
    );
  }

  #row(row, profiles) {
    const name = row.page ? h("a", { href: row.page }, row.name) : row.name;
    return h(
      "tr",
      {},
      h("th", { scope: "row", title: row.reason || null }, name),
      h("td", {}, row.results.map((each) => h("div", {}, `${each.variant}: ${each.expected}`))),
      h(
        "td",
        {},
        row.results.map((each) =>
          h("div", { title: each.sentence },
            h("span", { class: `badge ${each.passed ? "good" : "bad"}` }, each.passed ? "ok" : "FAIL"), ` ${each.passed ? each.got : each.sentence}`)),
      ),
      profiles.map((profile) => this.#cell(row.cells[profile])),
    );
  }

  #cell(cell) {
    if (!cell) return h("td", {}, "–");
    const [word, basis] = cell;
    const read = basis !== "measured";
    return h(
      "td",
      { title: read ? "read in its sources" : "measured on that image" },
      h("span", { class: `badge ${badge(word)}` }, read ? `(${word})` : word),
    );
  }
}

async function showCorpus(page) {
  const told = await readDocument("corpus");
  const corpus = new Corpus(page, told);
  const failed = told.rows.filter((row) => row.results.some((each) => !each.passed)).length;
  document.body.append(
    page.bar(`Corpus ${told.name}`, [
      h("span", { class: "fact" }, counted(told.rows.length, "trace")),
      h("span", { class: `badge ${failed ? "bad" : "good"}` }, failed ? `${failed} fail` : "all as expected"),
    ]),
    corpus.root,
    page.help,
  );
}
