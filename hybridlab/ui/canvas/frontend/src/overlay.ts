/** What colours and labels the nodes: which quantities there are, and what each node shows of the chosen one. */
import { bytes, count, joules, ms } from "./format";
import type { Measured } from "./telling";
import type { Cost } from "./types";

export type Predicted = "params" | "flops" | "activation_bytes" | "ms";
export type Live = "grad_norm" | "update_ratio" | "expert_load" | "energy_j";
export type Quantity = Predicted | Live | "changes";

export interface Overlay {
  name: Quantity;
  title: string;
  source: "predicted" | "measured" | "compared";
  /** What the number is, with its unit. */
  unit: string;
  write(value: number): string;
}

export const OVERLAYS: readonly Overlay[] = [
  { name: "params", title: "Parameters", source: "predicted", unit: "weights that training changes", write: (value) => (value < 1000 ? String(value) : count(value)) },
  { name: "flops", title: "FLOPs", source: "predicted", unit: "forward pass over one batch", write: (value) => `${count(value)}FLOP` },
  { name: "activation_bytes", title: "Activation bytes", source: "predicted", unit: "kept for the backward pass, one batch", write: bytes },
  { name: "ms", title: "Step time", source: "predicted", unit: "of one training step, one thread", write: ms },
  { name: "grad_norm", title: "Gradient norm", source: "measured", unit: "norm of the gradient, before clipping", write: digits },
  { name: "update_ratio", title: "Update ratio", source: "measured", unit: "norm of one update ÷ norm of the weights", write: digits },
  { name: "expert_load", title: "Expert load", source: "measured", unit: "share of the positions that each expert gets", write: percent },
  { name: "energy_j", title: "Energy, by time", source: "measured", unit: "of one step: measured energy, shared out by measured time", write: joules },
  { name: "changes", title: "Changes", source: "compared", unit: "since the design was saved, or opened", write: String },
];

/** What one node shows. */
export interface Reading {
  text: string;
  /** Beside the text: the share of the total, or nothing. */
  note: string;
  /** Length of the bar, 0 to 1. */
  bar: number;
  /** Strength of the colour, 0 to 1. */
  tint: number;
  /** One bar for each expert, 0 to 1; empty for other quantities. */
  experts: number[];
}

export interface Scale {
  low: string;
  high: string;
  /** Whether the colour follows the logarithm. */
  log: boolean;
}

export const overlayOf = (name: string): Overlay | null => OVERLAYS.find((each) => each.name === name) ?? null;

/** Three digits, however small: gradients span many powers of ten. */
export function digits(value: number): string {
  if (value === 0) return "0";
  return value >= 0.01 && value < 10_000 ? String(Number(value.toPrecision(3))) : value.toExponential(1).replace("e+", "e");
}

export function percent(share: number): string {
  const value = 100 * share;
  return `${value > 0 && value < 1 ? "<1" : value.toFixed(0)} %`;
}

/** What a node or group shows of a quantity; null where nothing is known of it. */
export function reading(
  overlay: Overlay, costs: Record<string, Cost>, live: Measured | null, address: string, changed: Record<string, string> = {},
): Reading | null {
  if (overlay.source === "compared") {
    const words = changed[address] ?? "";
    return words ? { text: words, note: "", bar: 1, tint: 1, experts: [] } : null;
  }
  if (overlay.source === "predicted") {
    const cost = costs[address];
    if (!cost) return null;
    const { total, largest } = totals(costs, overlay.name as Predicted);
    const value = cost[overlay.name as Predicted];
    const share = total ? value / total : 0;
    return { text: overlay.write(value), note: `${percent(share)} of all`, bar: share, tint: largest ? Math.min(1, value / largest) : 0, experts: [] };
  }
  const value = live?.values[overlay.name]?.[address];
  if (Array.isArray(value)) return loads(value);
  if (value === undefined) return null;
  const tint = onScale(value, range(live!.values[overlay.name]!));
  return { text: overlay.write(value), note: "", bar: tint, tint, experts: [] };
}

/** The ends of the colour's scale; null where there is nothing to colour. */
export function scale(overlay: Overlay, costs: Record<string, Cost>, live: Measured | null): Scale | null {
  if (overlay.source === "compared") return { low: "as it was", high: "new or changed", log: false };
  if (overlay.source === "predicted") {
    const { total, largest } = totals(costs, overlay.name as Predicted);
    if (!Object.keys(costs).length) return null;
    return { low: "0 %", high: `${percent(total ? largest / total : 0)} of ${overlay.write(total)}`, log: false };
  }
  const values = live?.values[overlay.name];
  if (!values || !Object.keys(values).length) return null;
  if (overlay.name === "expert_load") return { low: "even", high: "all to one", log: false };
  const [low, high] = range(values);
  return { low: overlay.write(low), high: overlay.write(high), log: true };
}

/** Why nothing is shown, as a sentence; null where something is. */
export function silence(overlay: Overlay, costs: Record<string, Cost>, live: Measured | null, changed: Record<string, string> = {}): string | null {
  if (overlay.source === "compared") return Object.keys(changed).length ? null : "Nothing here has changed.";
  if (overlay.source === "predicted") return Object.keys(costs).length ? null : "Costs appear once the design is valid.";
  if (!live?.run) return "A training of this design brings these: press “Train this” and come back while it runs.";
  if (scale(overlay, costs, live)) return null;
  if (live.why?.[overlay.name]) return live.why[overlay.name]!;
  if (live.run.state === "queued") return "The training waits for a free core; its numbers come as soon as it runs.";
  if (overlay.name === "expert_load" && Object.keys(live.values).length) return "No component of this design has experts; a mixture of experts does.";
  if (live.run.state === "running") return "The training has begun; the first numbers come in a moment.";
  return "This training did not record these: component_metrics_every was 0, or it is of an older version. Train it again.";
}

function loads(shares: number[]): Reading {
  const busiest = Math.max(...shares);
  const even = 1 / shares.length;
  return {
    text: `busiest ${percent(busiest)}`,
    note: `even ${percent(even)}`,
    bar: busiest,
    tint: shares.length > 1 ? Math.max(0, (busiest - even) / (1 - even)) : 0,
    experts: shares.map((share) => (busiest ? share / busiest : 0)),
  };
}

const kept = new WeakMap<Record<string, Cost>, Map<Predicted, { total: number; largest: number }>>();

/** The whole model's total, and the largest node that is no group; kept, since every node asks for it. */
export function totals(costs: Record<string, Cost>, name: Predicted): { total: number; largest: number } {
  const known = kept.get(costs) ?? new Map<Predicted, { total: number; largest: number }>();
  kept.set(costs, known);
  const found = known.get(name);
  if (found) return found;
  let total = 0;
  for (const [address, cost] of Object.entries(costs)) if (!address.includes(".")) total += cost[name];
  const largest = Math.max(0, ...leaves(costs).map((address) => costs[address]![name]));
  known.set(name, { total, largest });
  return { total, largest };
}

/** Addresses that no other lies under. */
function leaves(by: Record<string, unknown>): string[] {
  const groups = new Set<string>();
  for (const address of Object.keys(by)) {
    for (let end = address.lastIndexOf("."); end > 0; end = address.lastIndexOf(".", end - 1)) groups.add(address.slice(0, end));
  }
  return Object.keys(by).filter((address) => !groups.has(address));
}

function range(by: Record<string, number | number[]>): [number, number] {
  const values = leaves(by).map((address) => by[address]).filter((value): value is number => typeof value === "number" && value > 0);
  return values.length ? [Math.min(...values), Math.max(...values)] : [0, 0];
}

function onScale(value: number, [low, high]: [number, number]): number {
  if (value <= 0 || low <= 0) return 0;
  if (high / low < 1.0001) return 0.5;
  return Math.max(0.04, Math.min(1, Math.log(value / low) / Math.log(high / low)));
}
