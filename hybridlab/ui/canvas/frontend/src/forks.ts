/** Forks and their joins: a second branch, a residual connection, a router that chooses, an early exit. */
import { append, blank, newId, replaceBy, wrap, type Gesture } from "./compose";
import { applyAll, toWritten } from "./edits";
import type { Fix } from "./legality";
import { INPUT, fresh, indexOf, namesRead, nodeAt, parentOf, place, readers, sibling, walk } from "./tree";
import type { Change, Entry, TreeNode, Value } from "./types";

/** Add a second branch beside a node that reads what it reads, and a sum that joins both. */
export function beside(nodes: TreeNode[], entry: Entry, path: string, join = "sum"): Gesture {
  const { siblings, index } = place(nodes, path)!;
  const first = siblings[index]!;
  const taken = new Set(siblings.map((node) => node.id));
  const id = newId(entry, siblings);
  const joint = fresh("join", new Set([...taken, id]));
  const reads = first.inputs ?? [index ? siblings[index - 1]!.id : INPUT];
  const later = readers(nodes, path).filter((link) => link.written && parentOf(link.target) === parentOf(path));
  const changes: Change[] = [
    { do: "set", path, key: "id", value: first.id },
    { do: "insert", at: sibling(path, index + 1), node: { id, ...blank(entry), inputs: reads } },
    { do: "insert", at: sibling(path, index + 2), node: { id: joint, use: join, inputs: [first.id, id] } },
  ];
  for (const link of later) {
    const reader = nodeAt(nodes, link.target)!;
    const at = indexOf(link.target) > index ? sibling(link.target, indexOf(link.target) + 2) : link.target;
    changes.push({ do: "set", path: at, key: "inputs", value: reader.inputs!.map((n) => (n === first.id ? joint : n)) });
  }
  return { changes, select: sibling(path, index + 1) };
}

/** Other ways to join the two branches that were just made beside each other; the join stands behind both. */
export function otherJoins(catalogue: Entry[], second: string): Fix[] {
  const path = sibling(second, indexOf(second) + 1);
  return catalogue
    .filter((entry) => (entry.kind === "merge" || entry.kind === "router") && entry.name !== "sum" && entry.min_inputs === 2 && entry.max_inputs === null)
    .slice(0, MOST_JOINS)
    .map((entry) => ({ label: `Join by ${entry.title.toLowerCase()}`, changes: [{ do: "replace", path, use: entry.name, keep: [], give: {} }], select: path }));
}
const MOST_JOINS = 4;

/** Add what nodes in a row read to what they give, as a residual connection does: a sum behind the last of them. */
export function residual(nodes: TreeNode[], paths: string[]): Gesture | string {
  const chosen = [...paths].sort((a, b) => indexOf(a) - indexOf(b));
  const [start, end] = [chosen[0], chosen.at(-1)];
  if (!start || !end) return "Select the nodes that the residual connection is to go around.";
  if (chosen.some((path) => parentOf(path) !== parentOf(start))) return "A residual connection goes around nodes of one group.";
  const { siblings, index } = place(nodes, start)!;
  const reads = siblings[index]!.inputs ?? [index ? siblings[index - 1]!.id : INPUT];
  if (reads.length !== 1) return `${siblings[index]!.id} reads ${reads.length} nodes; a residual connection needs one that it can add.`;
  const behind = indexOf(end) + 1;
  const last = siblings[behind - 1]!;
  const joint = fresh("add", new Set(siblings.map((node) => node.id)));
  const changes: Change[] = [
    { do: "set", path: end, key: "id", value: last.id },
    { do: "insert", at: sibling(end, behind), node: { id: joint, use: "sum", inputs: [reads[0]!, last.id] } },
  ];
  for (const link of readers(nodes, end).filter((each) => each.written && parentOf(each.target) === parentOf(end))) {
    const at = indexOf(link.target) >= behind ? sibling(link.target, indexOf(link.target) + 1) : link.target;
    const value = nodeAt(nodes, link.target)!.inputs!.map((name) => (name === last.id ? joint : name));
    changes.push({ do: "set", path: at, key: "inputs", value });
  }
  return { changes, select: sibling(end, behind) };
}

const ROUTER = "routed_choice";
const EXIT = "early_exit";
const MIXERS = new Set(["token_mixer", "channel_mixer"]);
const ONE_TO_ONE = new Set(["token_mixer", "channel_mixer", "norm"]);
/** Channel mixers that choose within themselves. */
const CHOOSING = ["moe", "mixture_of_depths"];

/** What forks of this palette can be made, in the order of the menu. */
export function forksOf(catalogue: Entry[]): { way: Fork; title: string; key: string; words: string }[] {
  const has = (name: string): boolean => catalogue.some((entry) => entry.name === name);
  return FORKS.filter((fork) => (fork.way === "choice" ? has(ROUTER) : fork.way !== "exit" || has(EXIT)));
}
export type Fork = "residual" | "choice" | "exit";
const FORKS: { way: Fork; title: string; key: string; words: string }[] = [
  { way: "residual", title: "Residual connection", key: "R", words: "Adds what goes in to what comes out." },
  { way: "choice", title: "Expert choice", key: "E", words: "A router picks one of the selected nodes at each position; of a single one, it or a copy." },
  { way: "exit", title: "Early exit", key: "X", words: "Behind each selected node, a place where easy input may stop." },
];

/** Let a router choose among nodes in a row, all of which read what the first reads; a single node gets a copy to choose from. */
export function expertChoice(nodes: TreeNode[], paths: string[], catalogue: Entry[]): Gesture | string {
  const kinds = new Map(catalogue.map((entry) => [entry.name, entry.kind]));
  const chosen = [...paths].sort((a, b) => indexOf(a) - indexOf(b));
  if (!chosen.length) return "Select the alternatives that a router is to choose from, or one node that gets a second.";
  const picked = chosen.map((path) => nodeAt(nodes, path)!);
  const odd = picked.find((node) => (node.inputs?.length ?? 1) > 1 || !(node.nodes || ONE_TO_ONE.has(kinds.get(node.use ?? "") ?? "")));
  if (odd) return `A router chooses among mixers, norms and groups that read one node; ${odd.id} is none.`;
  const joined = joinOf(nodes, chosen, kinds);
  if (joined) return { changes: [{ do: "replace", path: joined, use: ROUTER, keep: [], give: {} }], select: joined };
  const wrapped = wrap(nodes, chosen, 1);
  if (typeof wrapped === "string") return wrapped;

  const group = wrapped.select!;
  const inside = (index: number): string => `${group}.nodes[${index}]`;
  const taken = new Set([...walk(nodes).map((visit) => visit.node.id), ...namesRead(nodes)]);
  const ids = picked.map((node) => node.id);
  const changes: Change[] = chosen.slice(1).filter((path) => nodeAt(nodes, path)!.inputs).map((path) => ({ do: "set", path, key: "inputs", value: null }));
  changes.push(...wrapped.changes);
  ids.forEach((id, index) => changes.push({ do: "set", path: inside(index), key: "id", value: id }));
  for (let index = 1; index < ids.length; index += 1) changes.push({ do: "set", path: inside(index), key: "inputs", value: [INPUT] });
  if (ids.length === 1) {
    ids.push(fresh(ids[0]!, taken));
    changes.push({ do: "insert", at: inside(1), node: { ...toWritten(picked[0]!), id: ids[1]!, inputs: [INPUT] }, like: inside(0) });
  }
  changes.push({ do: "insert", at: inside(ids.length), node: { use: ROUTER, inputs: ids } });
  // One residual around the choice, not one in each branch: a router weighs what a branch adds, not the stream itself.
  const residuals = picked.map((node) => node.residual ?? (MIXERS.has(kinds.get(node.use ?? "") ?? "") ? "pre" : "none"));
  const around = residuals.find((each) => each !== "none");
  if (around) {
    ids.forEach((_, index) => changes.push({ do: "set", path: inside(index), key: "residual", value: "none" }));
    changes.push({ do: "set", path: group, key: "residual", value: around });
  }
  changes.push({ do: "rename", path: group, id: fresh("choice", taken) });
  return { changes, select: inside(picked.length === 1 ? 1 : ids.length) };
}

/** The join right behind nodes that reads just these. */
function joinOf(nodes: TreeNode[], chosen: string[], kinds: Map<string, string>): string | null {
  const at = sibling(chosen[0]!, indexOf(chosen.at(-1)!) + 1);
  const behind = nodeAt(nodes, at);
  const names = new Set(chosen.map((path) => nodeAt(nodes, path)!.id));
  if (chosen.length < 2 || kinds.get(behind?.use ?? "") !== "merge" || chosen.some((path) => parentOf(path) !== parentOf(at))) return null;
  return behind!.inputs?.length === names.size && behind!.inputs.every((name) => names.has(name)) ? at : null;
}

/** Channel mixers that choose within themselves, in the place of one that was just given a router and a copy. */
export function choosingMixers(nodes: TreeNode[], paths: string[], catalogue: Entry[]): Fix[] {
  const [path, ...others] = paths;
  const node = path === undefined || others.length ? null : nodeAt(nodes, path);
  if (!node || catalogue.find((entry) => entry.name === node.use)?.kind !== "channel_mixer") return [];
  return CHOOSING.flatMap((name) => {
    const entry = name === node.use ? undefined : catalogue.find((each) => each.name === name);
    return entry ? [{ label: `${entry.title} in its place instead`, changes: [{ do: "undo" as const }, ...replaceBy(nodes, entry, path!).changes], select: path! }] : [];
  });
}

/** Put an early exit behind each of these nodes, as one edit; it scores what the output does, such as "logits (B, 10) float32". */
export function earlyExit(nodes: TreeNode[], paths: string[], catalogue: Entry[], output: string): Gesture | string {
  const found = catalogue.find((each) => each.name === EXIT);
  if (!found) return "The palette has no early exit.";
  const entry = { ...found, node: { ...blank(found), ...scores(found, output) } };
  if (!paths.length) return "Select the nodes behind which the model may stop.";
  const changes: Change[] = [];
  let after = nodes;
  for (const path of [...paths].reverse()) {
    const gesture = append(after, entry, path);
    changes.push(...gesture.changes);
    after = applyAll(after, gesture.changes);
  }
  return { changes, select: sibling(paths[0]!, indexOf(paths[0]!) + 1) };
}

/** The parameters by which an exit scores as many classes as the last node, each position or the whole sequence as that does. */
function scores(exit: Entry, output: string): { [key: string]: Value } {
  const sizes = /^logits \(([^)]*)\)/.exec(output)?.[1]!.split(", ") ?? [];
  const outputs = Number(sizes.at(-1));
  if (!outputs) return {};
  const wanted = { outputs, over: sizes.length > 2 ? "position" : "sequence" };
  return Object.fromEntries(Object.entries(wanted).filter(([key]) => key in exit.params));
}
