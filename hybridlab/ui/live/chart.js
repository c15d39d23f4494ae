// Draws the live curves. Mounted once; points come through feed.js by a channel of the same name.
const hub = (window.__hybridlabLive ??= { charts: new Map(), waiting: new Map() });
const roots = new WeakMap();
const MOST = 4000; // points kept of one curve

const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const write = (value, panel) => (value == null ? "–" : number.format(value) + (panel.unit ? " " + panel.unit : ""));
const scaled = (values, scale) => (scale === 1 ? values : values.map((value) => (value == null ? null : value * scale)));

class Curve {
  constructor() { this.x = []; this.y = []; }
  add(x, y) {
    this.x.push(x); this.y.push(y);
    if (this.x.length > MOST) { // thin the older half
      const half = this.x.length >> 1;
      const keep = (_, i) => i >= half || i % 2 === 0;
      this.x = this.x.filter(keep); this.y = this.y.filter(keep);
    }
  }
  smooth() { // mean over a window around each point, a thirtieth of the curve wide
    const half = Math.max(1, Math.floor(this.y.length / 60));
    const sums = [0], counts = [0];
    this.y.forEach((y, i) => { sums.push(sums[i] + (y ?? 0)); counts.push(counts[i] + (y == null ? 0 : 1)); });
    return this.y.map((_, i) => {
      const room = Math.min(half, i, this.y.length - 1 - i), low = i - room, high = i + room + 1;
      const count = counts[high] - counts[low];
      return count ? (sums[high] - sums[low]) / count : null;
    });
  }
}

class LiveChart {
  constructor(place, data) {
    this.place = place; this.curves = new Map(); this.last = new Map(); this.plots = [];
    this.generation = null; this.setup = "";
    this.resizer = new ResizeObserver(() => this.resize());
    this.resizer.observe(place);
    this.themeTimer = setInterval(() => this.recolour(), 1500);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.turned = () => setTimeout(() => this.recolour(), 120);  // the page takes its own colours first
    this.scheme.addEventListener("change", this.turned);
    this.configure(data);
  }
  css(name, fallback) { return getComputedStyle(this.place).getPropertyValue(name).trim() || fallback; }
  ink() { return this.css("--st-text-color", "#7d8590"); }
  colour(index) {
    const colours = this.css("--st-chart-categorical-colors", "").split(",").map((c) => c.trim()).filter(Boolean);
    return colours.length ? colours[index % colours.length] : ["#4c78dd", "#f08a24", "#2fa36b", "#d64f8a"][index % 4];
  }
  configure(data) {
    const setup = JSON.stringify([data.panels, data.runs]);
    if (setup === this.setup) return;
    this.setup = setup; this.panels = data.panels; this.runs = data.runs;
    this.build();
  }
  build() {
    for (const plot of this.plots) plot.chart.destroy();
    this.plots = [];
    this.place.replaceChildren();
    const many = this.runs.length > 1;
    if (many) {
      const legend = document.createElement("div"); legend.className = "legend";
      const named = new Set();
      for (const run of this.runs) {
        if (named.has(run.name + run.colour)) continue;
        named.add(run.name + run.colour);
        const item = document.createElement("span"), dot = document.createElement("i");
        dot.dataset.colour = run.colour; dot.style.background = this.colour(run.colour);
        item.append(dot, document.createTextNode(run.name)); legend.append(item);
      }
      this.place.append(legend);
    }
    const grid = document.createElement("div"); grid.className = "grid"; this.place.append(grid);
    for (const panel of this.panels) {
      const box = document.createElement("figure"), head = document.createElement("figcaption");
      const title = document.createElement("b"), said = document.createElement("span"), canvas = document.createElement("div");
      title.textContent = panel.title; said.className = "said"; box.className = "w" + (panel.width ?? 6);
      canvas.className = "plot"; canvas.setAttribute("role", "img");
      head.append(title, said); box.append(head, canvas); grid.append(box);
      const lines = [];
      for (const run of this.runs) {
        if (panel.runs && !panel.runs.includes(run.id)) continue;
        panel.metrics.forEach((metric, place) => lines.push({ run, metric, place }));
      }
      this.plots.push(this.plot(panel, lines, canvas, said));
    }
    this.draw();
  }
  plot(panel, lines, canvas, said) {
    const many = this.runs.length > 1;
    const series = [{}];
    const stroke = (line) => () => this.colour(many ? line.run.colour : line.place + (panel.colour ?? 0));
    for (const line of lines) {
      const dash = many && line.place ? [6, 4] : undefined;
      if (panel.smooth) {
        series.push({ stroke: stroke(line), width: 1, alpha: 0.28, spanGaps: true, points: { show: false } });
        series.push({ stroke: stroke(line), width: 2.2, spanGaps: true, points: { show: false } });
      } else series.push({ stroke: stroke(line), width: 2, dash, spanGaps: true, points: { show: (u, i) => u.data[i].reduce((n, y) => n + (y != null), 0) <= (panel.points ? 80 : 2), size: 6 } });
    }
    const axis = { stroke: () => this.ink(), font: "12px sans-serif", labelFont: "12px sans-serif", labelSize: 18,
      grid: { stroke: "rgba(128,136,149,0.20)", width: 1 }, ticks: { stroke: "rgba(128,136,149,0.35)", width: 1, size: 4 }, gap: 4 };
    const height = panel.height ?? 220, named = height >= 180 && this.runs.length === 1 && this.runs[0].stages?.length;
    const label = panel.label + (panel.unit ? ` (${panel.unit})` : "");
    const options = {
      width: Math.max(160, canvas.clientWidth || 300), height, series, legend: { show: false },
      padding: [named ? 18 : null, null, null, null],
      scales: { x: { time: false, range: (u, low, high) => [0, high || 1] }, y: { range: (u, low, high) => this.range(panel, low, high), distr: panel.log ? 3 : 1 } },
      axes: [ { ...axis, label: "step", size: 30, space: 60 },
        { ...axis, label, size: 56, space: height < 180 ? 26 : 36, values: (u, ticks) => ticks.map((t) => (t == null ? "" : number.format(t))) } ],
      cursor: { sync: { key: "hybridlab" }, points: { size: 7 }, drag: { x: false, y: false } },
      hooks: { setCursor: [(u) => this.say(u, panel, lines, said)], draw: [(u) => this.borders(u, lines, named)] },
    };
    return { chart: new uPlot(options, [[]], canvas), panel, lines, canvas, said };
  }
  range(panel, low, high) {
    if (panel.range) return panel.range;
    if (low == null || high == null) return [0, 1];
    if (panel.log) return [Math.max(low * 0.8, 1e-12), high * 1.25];
    const room = (high - low || Math.abs(high) || 1) * 0.08;
    return [panel.zero ? 0 : low - room, high + room];
  }
  stages(run) { // [step, name] of each stage that has begun
    if (!run.stages?.length) return [];
    const curve = this.curve(run.id, "stage"), begun = new Map([[0, 0]]);
    curve?.x.forEach((step, i) => { if (curve.y[i] != null) begun.set(curve.y[i], step); });
    return [...begun].map(([place, step]) => [step, run.stages[place] ?? ""]);
  }
  borders(u, lines, named) { // a dashed line where a stage begins; its name above, as far as there is room
    const { ctx, bbox } = u, dpr = devicePixelRatio || 1, end = bbox.left + bbox.width;
    const place = (step) => Math.min(end, u.valToPos(step, "x", true));
    for (const run of new Set(lines.map((line) => line.run))) {
      const begun = this.stages(run);
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = this.runs.length === 1 ? this.ink() : this.colour(run.colour);
      ctx.globalAlpha = 0.7; ctx.lineWidth = dpr; ctx.setLineDash([5 * dpr, 4 * dpr]);
      ctx.font = `${11 * dpr}px sans-serif`; ctx.textBaseline = "bottom"; ctx.textAlign = "left";
      begun.forEach(([step, name], i) => {
        const x = place(step), room = (i + 1 < begun.length ? place(begun[i + 1][0]) : end) - x - 4 * dpr;
        if (step > 0) { ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke(); }
        let text = named ? name : "";
        while (text && ctx.measureText(text).width > room) text = text.length > 2 ? text.slice(0, -2).trimEnd() + "…" : "";
        if (text) ctx.fillText(text, x, bbox.top - 3 * dpr);
      });
      ctx.restore();
    }
  }
  curve(run, metric) { return this.curves.get(run + "\n" + metric); }
  say(u, panel, lines, said) {
    const at = u.cursor.idx, parts = [];
    lines.forEach((line, index) => {
      const curve = this.curve(line.run.id, line.metric);
      if (!curve || !curve.x.length) return;
      let place = curve.x.length - 1;
      if (at != null) {
        const x = u.data[0][at];
        place = curve.x.findLastIndex((step) => step <= x);
        if (place < 0) return;
      }
      const name = lines.length > 1 ? (this.runs.length > 1 ? line.run.name : (panel.names?.[line.place] ?? line.metric)) + " " : "";
      const part = name + write(curve.y[place] == null ? null : curve.y[place] * panel.scale, panel);
      if (lines.length > 1 && this.runs.length === 1) { // the colour of its line before each
        const dot = document.createElement("i");
        dot.dataset.colour = line.place + (panel.colour ?? 0); dot.style.background = this.colour(Number(dot.dataset.colour));
        parts.push(dot, part, " · ");
      } else parts.push(part, " · ");
    });
    const step = at != null && u.data[0][at] != null ? `step ${number.format(u.data[0][at])}: ` : "";
    if (parts.length) said.replaceChildren(step, ...parts.slice(0, -1));
    else said.textContent = "no points yet";
  }
  take(message) { // returns false where points between were lost
    if (message.full || message.generation !== this.generation) {
      if (!message.full) return false;
      this.curves.clear(); this.last.clear(); this.generation = message.generation;
    }
    for (const [run, part] of Object.entries(message.parts)) {
      const last = this.last.get(run) ?? 0;
      if (!message.full && part.after > last) return false;
      for (const [metric, [seqs, steps, values]] of Object.entries(part.points)) {
        const key = run + "\n" + metric;
        const curve = this.curves.get(key) ?? this.curves.set(key, new Curve()).get(key);
        for (let i = 0; i < seqs.length; i++) if (message.full || seqs[i] > last) curve.add(steps[i], values[i]);
      }
      this.last.set(run, Math.max(last, part.last));
    }
    this.draw();
    return true;
  }
  draw() {
    for (const { chart, panel, lines, canvas, said } of this.plots) {
      const tables = [];
      for (const line of lines) {
        const curve = this.curve(line.run.id, line.metric) ?? new Curve();
        tables.push(panel.smooth ? [curve.x, curve.y, curve.smooth()] : [curve.x, scaled(curve.y, panel.scale)]);
      }
      const full = tables.some((table) => table[0].length);
      chart.setData(full ? (tables.length > 1 ? uPlot.join(tables) : tables[0]) : [[]]);
      this.say(chart, panel, lines, said);
      const begun = this.runs.length === 1 ? this.stages(this.runs[0]).map(([step, name]) => `, ${name} from step ${step}`).join("") : "";
      canvas.setAttribute("aria-label", `${panel.title}: ${said.textContent}${begun}`);
    }
    this.place.dataset.points = String([...this.curves.values()].reduce((sum, curve) => sum + curve.x.length, 0));
  }
  resize() {
    for (const { chart, canvas, panel } of this.plots) {
      const width = canvas.clientWidth;
      if (width && width !== chart.width) chart.setSize({ width, height: panel.height ?? 220 });
    }
  }
  recolour() {
    const now = this.ink() + this.colour(0);
    if (this.seen !== now) {
      this.seen = now;
      for (const dot of this.place.querySelectorAll("i[data-colour]")) dot.style.background = this.colour(Number(dot.dataset.colour));
      for (const { chart } of this.plots) chart.redraw(true, true);
    }
  }
  destroy() {
    clearInterval(this.themeTimer); this.resizer.disconnect();
    this.scheme.removeEventListener("change", this.turned);
    for (const { chart } of this.plots) chart.destroy();
  }
}

export default function (component) {
  const { data, parentElement } = component;
  let held = roots.get(parentElement);
  if (held && held.channel !== data.channel) { held.close(); held = null; }
  if (!held) {
    const place = parentElement.querySelector(".live");
    const chart = new LiveChart(place, data);
    held = { channel: data.channel, chart, close() {
      roots.delete(parentElement);
      if (hub.charts.get(data.channel) === chart) hub.charts.delete(data.channel);
      chart.destroy();
    } };
    roots.set(parentElement, held);
    hub.charts.set(data.channel, chart);
    for (const message of hub.waiting.get(data.channel) ?? []) chart.take(message);
    hub.waiting.delete(data.channel);
  } else held.chart.configure(data);
  const mine = held;
  return () => { if (roots.get(parentElement) === mine) mine.close(); };
}
