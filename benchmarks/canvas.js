// What benchmarks/canvas.py measures inside the page, where the clock does not count Playwright's own time.
(() => {
  const canvas = () => document.querySelector(".hl-canvas");
  const host = () => document.querySelector(".hl-host");
  const last = () => `nodes[${host().hlSession.nodes.length - 1}]`;
  const drawn = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  const when = (ready) =>
    new Promise((done) => {
      if (ready()) return done();
      const watch = new MutationObserver(() => {
        if (!ready()) return;
        watch.disconnect();
        done();
      });
      watch.observe(canvas(), { attributes: true, childList: true, subtree: true });
    });
  const settled = () => canvas().dataset.pending === "0" && canvas().dataset.costs === "current";

  /** Make an edit; return milliseconds until it is drawn, Python has it, the canvas knows that, its costs are drawn. */
  async function edit(act, done) {
    await when(settled);
    const start = performance.now();
    act();
    await when(done);
    await drawn();
    const echo = performance.now() - start;
    const costs = when(() => canvas().dataset.costs === "current")
      .then(drawn)
      .then(() => performance.now() - start);
    await when(() => canvas().dataset.unsaved === "0");
    const python = window.__hybridlabTold.taken_ms - performance.timeOrigin - start;
    const heard = performance.now() - start;
    await costs;
    await when(settled);
    return { echo, python, heard, costs: await costs, all: performance.now() - start };
  }

  const key = (name) => canvas().dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));

  window.hlBench = {
    settled: () => when(settled),
    /** Insert a component at the end, as the palette does. */
    insert: (node) =>
      edit(
        () => {
          const at = `nodes[${host().hlSession.nodes.length}]`;
          host().hlSession.edit([{ do: "insert", at, node }], at);
        },
        () => canvas().querySelector(`.hl-selected[data-path="${last()}"]`)?.textContent.includes(node.ratio),
      ),
    remove: () => {
      const before = host().hlSession.nodes.length;
      return edit(() => key("Delete"), () => host().hlSession.nodes.length < before);
    },
    /** Count frames for some milliseconds. */
    frames: (ms) =>
      new Promise((done) => {
        let count = 0;
        const start = performance.now();
        const next = (now) => {
          count += 1;
          if (now - start < ms) requestAnimationFrame(next);
          else done((1000 * count) / (now - start));
        };
        requestAnimationFrame(next);
      }),
  };
})();
