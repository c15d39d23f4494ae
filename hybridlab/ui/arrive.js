// Brings the part of a page that an address asks for into view, and opens it where it is folded; once, and only if it is there.
const PATIENCE_MS = 20000, EVERY_MS = 150;

function place(name) {
  return document.querySelector(`.st-key-${CSS.escape(name)}`);
}

export default function ({ data }) {
  const until = performance.now() + PATIENCE_MS;
  const timer = setInterval(() => {
    const found = place(data.place);
    if (!found && performance.now() < until) return;
    clearInterval(timer);
    if (!found) return;
    const folded = found.querySelector("details:not([open]) > summary");
    if (folded) folded.click();
    requestAnimationFrame(() => found.scrollIntoView({ behavior: "smooth", block: "start" }));
  }, EVERY_MS);
  return () => clearInterval(timer);
}
