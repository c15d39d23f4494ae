// What benchmarks/canvas.py measures inside the page, where the clock does not count Playwright's own time.
(() => {
  const canvas = () => document.querySelector(".hl-canvas");
  const boxes = () => canvas().querySelectorAll(".hl-box").length;
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

  /** Make an edit; return milliseconds until it is drawn, until Python has it, until its costs are drawn. */
  async function edit(act) {
    await when(settled);
    const before = boxes();
    const start = performance.now();
    act();
    await when(() => boxes() !== before);
    await drawn();
    const echo = performance.now() - start;
    await when(() => canvas().dataset.unsaved === "0");
    const python = performance.now() - start;
    await when(settled);
    await drawn();
    return { echo, python, costs: performance.now() - start };
  }

  const key = (name) => canvas().dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));

  window.hlBench = {
    settled: () => when(settled),
    paste: (yaml) =>
      edit(() => {
        const data = new DataTransfer();
        data.setData("text/plain", yaml);
        canvas().dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
      }),
    remove: () => edit(() => key("Delete")),
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
