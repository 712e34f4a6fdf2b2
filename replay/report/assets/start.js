// What the page begins with, and what a test, or a console, may ask it.

async function start() {
  const page = new Page();
  const shows = { trace: showTrace, diff: showDiff, corpus: showCorpus }[document.body.dataset.shows];
  await shows(page);
  document.body.dataset.ready = String(Math.round(performance.now()));
  Promise.all(page.views.map((view) => view.timeline.opened)).then(() => {
    document.body.dataset.whole = String(Math.round(performance.now()));
  });
  window.itstrace = {
    views: page.views,
    state: (at = 0) => page.views[at].state.document, // null where nobody knows it
    go: (seq, at = 0) => page.views[at].go(seq),
    stateAt: async (seq, at = 0) => {
      const { trace } = page.views[at];
      const leaves = await trace.leavesAt(seq);
      return leaves && trace.document(leaves);
    },
    chosen: async (text, at = 0) => {
      const { list } = page.views[at];
      await list.filter(text);
      return list.chosen ? Array.from(list.chosen) : null;
    },
  };
}

start();
