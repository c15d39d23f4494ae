/** Numbers with units, short enough for a node. */
const STEPS: [number, string][] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

function short(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(value % 1 ? 2 : 0);
}

const grouped = new Intl.NumberFormat("en");

/** A whole number in groups of three digits; made once, since a browser takes long to make it for each number. */
export function whole(value: number): string {
  return grouped.format(value);
}

export function count(value: number): string {
  const step = STEPS.find(([size]) => value >= size);
  return step ? `${short(value / step[0])} ${step[1]}` : short(value);
}

export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let size = value;
  for (; size >= 1024 && unit < units.length - 1; unit += 1) size /= 1024;
  return `${short(size)} ${units[unit]}`;
}

export function ms(value: number): string {
  if (value >= 1000) return `${short(value / 1000)} s`;
  return value >= 1 || value === 0 ? `${short(value)} ms` : `${short(value * 1000)} µs`;
}

export function joules(value: number): string {
  const [size, unit] = value >= 1000 ? [1e3, "kJ"] : value >= 1 ? [1, "J"] : value >= 1e-3 ? [1e-3, "mJ"] : [1e-6, "µJ"];
  return `${short(value / size)} ${unit}`;
}

/** "sequence (B, L, 64) float32" as "B × L × 64". */
export function shape(type: string): string {
  const inside = /\(([^)]*)\)/.exec(type);
  return inside ? inside[1]!.replaceAll(", ", " × ") : type;
}

/** A value of the text, short. */
export function shown(value: unknown): string {
  const text = typeof value === "boolean" ? (value ? "yes" : "no") : Array.isArray(value) ? value.join(" ") : String(value);
  return text.length > 24 ? `${text.slice(0, 23)}…` : text;
}
