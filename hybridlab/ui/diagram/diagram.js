// Draws a laid-out architecture as SVG. Boxes take clicks, Enter and the arrow keys; all text goes in as text.
const SVG = "http://www.w3.org/2000/svg";
const held = new WeakMap();

function make(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
}

function words(parent, x, y, text, room, attributes) { // text cut to the room it has
  const element = make("text", { x, y, "text-anchor": "middle", "dominant-baseline": "central", ...attributes }, parent);
  element.textContent = text;
  if (element.getComputedTextLength() > room) {
    let low = 1, high = text.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      element.textContent = text.slice(0, middle) + "…";
      if (element.getComputedTextLength() > room) high = middle - 1; else low = middle;
    }
    element.textContent = text.slice(0, low) + "…";
  }
  return element;
}

function line(parent, points, attributes) {
  return make("path", { d: "M" + points.map((point) => point.join(",")).join("L"), fill: "none", ...attributes }, parent);
}

function edges(layer, info, ink, marks) {
  const said = new Set();
  for (const edge of info.edges) {
    const mark = marks[edge.mark];
    const style = { stroke: mark?.colour ?? ink, "stroke-width": mark ? 2.2 : 1.4, class: "edge" };
    if (edge.crosses) style["stroke-dasharray"] = "3 4";
    if (edge.mark === "removed") style["stroke-dasharray"] = "6 4";
    if (edge.arrow) style["marker-end"] = mark ? `url(#hl-arrow-${edge.mark})` : "url(#hl-arrow)";
    const points = edge.arrow ? [...edge.points.slice(0, -1), [edge.points.at(-1)[0], edge.points.at(-1)[1] - 2]] : edge.points;
    line(layer, points, style);
    const [x, y] = edge.points[0];
    if (edge.label && !edge.crosses && !said.has(x + "," + y)) {
      said.add(x + "," + y);
      const right = edge.points[1][0] <= x; // beside the line, not across it
      words(layer, x + (right ? 8 : -8), y + 15, edge.label, 140, { class: "shape", "text-anchor": right ? "start" : "end" });
    }
  }
  for (const box of info.boxes) if (box.residual) {
    const middle = box.left + box.width / 2, side = box.left - 9, top = box.top - 10, bottom = box.top + box.height + 9;
    line(layer, [[middle, top], [side, top], [side, bottom], [middle - 5, bottom]], { stroke: ink, "stroke-width": 1.1, opacity: 0.55 });
    make("circle", { cx: middle, cy: bottom, r: 4.5, stroke: ink, "stroke-width": 1.1, class: "plus" }, layer);
    line(layer, [[middle - 4.5, bottom], [middle + 4.5, bottom]], { stroke: ink, "stroke-width": 1.1 });
    line(layer, [[middle, bottom - 4.5], [middle, bottom + 4.5]], { stroke: ink, "stroke-width": 1.1 });
  }
}

function arrow(defs, id, colour, size) {
  const marker = make("marker", { id, viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: size, markerHeight: size, orient: "auto-start-reverse" }, defs);
  make("path", { d: "M0,0L8,4L0,8Z", fill: colour }, marker);
}

function sign(layer, box, mark) { // what became of a box, in a disc on its corner
  make("circle", { cx: box.left, cy: box.top, r: 9, fill: mark.colour }, layer);
  make("text", { x: box.left, y: box.top, "text-anchor": "middle", "dominant-baseline": "central", class: "sign" }, layer).textContent = mark.sign;
}

function boxes(layer, data, choose) {
  const made = [];
  for (const box of data.info.boxes) {
    const colour = data.colours[box.kind] ?? data.colours[""];
    const state = box.errors.length ? "wrong" : box.warnings.length ? "doubtful" : "";
    const group = box.kind === "group";
    const g = make("g", { class: `box ${group ? "group" : ""} ${box.supplied ? "supplied" : ""} ${state} ${box.mark}`, "data-mark": box.mark, "data-path": box.path }, layer);
    if (box.path === data.selected) g.classList.add("selected");
    const mark = data.marks[box.mark];
    if (mark) g.style.setProperty("--mark", mark.colour);
    make("rect", { x: box.left, y: box.top, width: box.width, height: box.height, rx: 8, fill: group ? "currentColor" : box.tint != null ? data.colours[box.hue] : colour, "fill-opacity": group ? 0.035 : box.tint != null ? 0.04 + 0.5 * box.tint : box.supplied ? 0.07 : 0.2, stroke: group ? "" : colour, "stroke-width": 1.5 }, g);
    const middle = box.left + box.width / 2, flag = state ? "⚠ " : "";
    if (group) words(g, middle, box.top + 14, flag + box.title, box.width - 24, { class: "title" });
    else {
      const detail = box.supplied ? "from the task" : box.detail;
      words(g, middle, box.top + (detail ? box.height / 2 - 8 : box.height / 2), flag + box.title, box.width - 16, { class: "title" });
      if (detail) words(g, middle, box.top + box.height / 2 + 10, detail, box.width - 16, { class: "detail" });
    }
    const told = [box.told, box.title, box.detail, box.gives && "gives " + box.gives, ...box.errors, ...box.warnings].filter(Boolean);
    make("title", {}, g).textContent = told.join("\n");
    if (box.supplied || box.mark === "removed" || !data.choosable) continue;
    g.classList.add("choosable");
    g.setAttribute("tabindex", "0");
    g.setAttribute("role", "button");
    g.setAttribute("aria-label", told.join(", "));
    g.setAttribute("aria-pressed", String(box.path === data.selected));
    g.addEventListener("click", (event) => { event.stopPropagation(); choose(box.path); });
    made.push(g);
  }
  made.forEach((g, place) => g.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (step) made[Math.max(0, Math.min(made.length - 1, place + step))].focus();
    else if (event.key === "Enter" || event.key === " ") choose(g.dataset.path);
    else return;
    event.preventDefault(); event.stopPropagation();
  }));
}

function draw(root, data, choose) {
  const { info } = data, pad = 18, place = root.querySelector(".board");
  const focused = root.activeElement?.dataset?.path ?? null;
  const { scrollTop, scrollLeft } = place;
  place.style.height = data.height + "px";
  const width = info.width + 2 * pad, height = info.height + 2 * pad;
  const svg = make("svg", { viewBox: `${-pad} ${-pad} ${width} ${height}`, width, height, role: "group", "aria-label": data.label });
  place.replaceChildren(svg);
  svg.style.maxWidth = info.width > 1.8 * place.clientWidth ? "none" : "100%"; // wide ones scroll rather than shrink away
  const defs = make("defs", {}, svg);
  arrow(defs, "hl-arrow", data.colours.line, 7);
  for (const [name, mark] of Object.entries(data.marks)) arrow(defs, `hl-arrow-${name}`, mark.colour, 5);
  const groups = make("g", {}, svg), lines = make("g", {}, svg), top = make("g", {}, svg), signs = make("g", {}, svg);
  boxes(top, data, choose);
  for (const g of [...top.querySelectorAll(".group")]) groups.append(g);
  edges(lines, info, data.colours.line, data.marks);
  for (const box of info.boxes) if (box.mark) sign(signs, box, data.marks[box.mark]);
  place.scrollTop = scrollTop; place.scrollLeft = scrollLeft;
  if (focused) [...svg.querySelectorAll("[data-path]")].find((g) => g.dataset.path === focused)?.focus({ preventScroll: true });
}

function save(root, data) { // the picture as a file, with the colours it has on the screen
  const svg = root.querySelector("svg").cloneNode(true), style = getComputedStyle(root.querySelector(".board"));
  const sheet = make("style", {});
  sheet.textContent = `text{font:13px sans-serif;fill:${style.color}} .detail{font-size:11px} .shape{font-size:11px;opacity:.7} .title{font-weight:600} .sign{fill:#fff;font-size:14px;font-weight:700} .group rect{stroke:${data.colours.line}} svg{background:${style.backgroundColor};color:${style.color}}`;
  svg.prepend(sheet);
  if (data.carries) { // the design itself, so that the picture can be opened as one
    const carried = make("metadata", { id: data.carrier });
    carried.textContent = data.carries;
    svg.prepend(carried);
  }
  svg.setAttribute("xmlns", SVG);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" }));
  link.download = data.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export default function ({ data, parentElement, setTriggerValue }) {
  const known = held.get(parentElement);
  const text = JSON.stringify(data);
  if (known?.text !== text) {
    draw(parentElement, data, (path) => setTriggerValue("select", path));
    held.set(parentElement, { text });
  }
  parentElement.querySelector("button.save").onclick = () => save(parentElement, data);
  return () => {};
}
