/** What a gesture means as changes of the text. */
import { INPUT, fresh, indexOf, links, nodeAt, parentOf, place, readers, sibling, steps, address, walk } from "./tree";
import { toWritten } from "./edits";
import type { Fix } from "./legality";
import type { Change, Entry, Field, TreeNode, Value } from "./types";

export interface Gesture {
  changes: Change[];
  select: string | null;
}

/** A component as a new node: with a value for each parameter that has no default. */
export function blank(entry: Entry): { [key: string]: Value } {
  const node: { [key: string]: Value } = { use: entry.name };
  for (const [name, field] of Object.entries(entry.params)) {
    if (field.required) node[name] = field.choices?.[0] ?? Math.max(field.minimum ?? 1, 10);
  }
  return node;
}

/** Append after a node; its only reader reads the new node instead. At the end where nothing is selected. */
export function append(nodes: TreeNode[], entry: Entry, after: string | null): Gesture {
  const node = blank(entry);
  if (after === null) {
    const at = `nodes[${nodes.length}]`;
    return { changes: [{ do: "insert", at, node: withInputs(nodes, entry, node, nodes.length) }], select: at };
  }
  const { siblings, index } = place(nodes, after)!;
  const at = sibling(after, index + 1);
  const explicit = readers(nodes, after).filter((link) => link.written && parentOf(link.target) === parentOf(after));
  const changes: Change[] = [];
  if (explicit.length === 1 && readers(nodes, after).length === 1 && entry.max_inputs === 1) {
    const id = fresh(entry.name, new Set(siblings.map((each) => each.id)));
    const target = explicit[0]!.target;
    const reader = nodeAt(nodes, target)!;
    const later = indexOf(target) > index ? sibling(target, indexOf(target) + 1) : target;
    changes.push({ do: "insert", at, node: { id, ...node } });
    const value = reader.inputs!.map((name) => (name === siblings[index]!.id ? id : name));
    changes.push({ do: "set", path: later, key: "inputs", value });
    return { changes, select: at };
  }
  changes.push({ do: "insert", at, node: withInputs(siblings, entry, node, index + 1) });
  return { changes, select: at };
}

function withInputs(siblings: TreeNode[], entry: Entry, node: { [key: string]: Value }, index: number): { [key: string]: Value } {
  if (entry.min_inputs < 2) return node;
  const names = siblings.slice(Math.max(0, index - entry.min_inputs), index).map((each) => each.id);
  while (names.length < entry.min_inputs && !names.includes(INPUT)) names.unshift(INPUT);
  return names.length ? { ...node, inputs: names } : node;
}

/** Put a component onto an edge: the target reads it, and it reads the source. */
export function ontoEdge(nodes: TreeNode[], entry: Entry, source: string, target: string | null, name: string): Gesture {
  if (target === null) return append(nodes, entry, source.endsWith(":in") ? null : source);
  const { siblings, index } = place(nodes, target)!;
  const reader = siblings[index]!;
  const id = fresh(entry.name, new Set(siblings.map((each) => each.id)));
  const above = index ? siblings[index - 1]!.id : INPUT;
  const node = { id, ...blank(entry), ...(name !== above ? { inputs: [name] } : {}) };
  const after = sibling(target, index + 1);
  if (entry.min_inputs > 1) Object.assign(node, { inputs: [...new Set([name, name === above ? INPUT : above])] });
  if (!reader.inputs) {
    const { id: _, ...plain } = node;
    return { changes: [{ do: "insert", at: target, node: plain }], select: target };
  }
  return {
    changes: [
      { do: "insert", at: target, node },
      { do: "set", path: after, key: "inputs", value: reader.inputs.map((each) => (each === name ? id : each)) },
    ],
    select: target,
  };
}

/** Put another component in a node's place; parameters that both have, and whose value fits, stay. */
export function replaceBy(nodes: TreeNode[], entry: Entry, path: string): Gesture {
  const node = nodeAt(nodes, path)!;
  if (node.nodes) {
    const at = path;
    return { changes: [{ do: "insert", at, node: blank(entry) }, { do: "remove", path: sibling(path, indexOf(path) + 1) }], select: at };
  }
  const keep = Object.keys(node.params).filter((key) => entry.params[key] && fits(entry.params[key]!, node.params[key]!));
  const give = Object.fromEntries(
    Object.entries(blank(entry)).filter(([key]) => key !== "use" && !keep.includes(key)),
  );
  const changes: Change[] = [{ do: "replace", path, use: entry.name, keep, give }];
  if (entry.max_inputs === 1 && node.inputs && node.inputs.length > 1) {
    changes.push({ do: "set", path, key: "inputs", value: [node.inputs[0]!] });
  }
  return { changes, select: path };
}

export function fits(field: Field, value: Value): boolean {
  if (value === null) return field.optional === true;
  if (field.choices) return field.choices.includes(value);
  if (field.type === "integer" || field.type === "number") {
    if (typeof value !== "number" || (field.type === "integer" && !Number.isInteger(value))) return false;
    return value >= (field.minimum ?? -Infinity) && value <= (field.maximum ?? Infinity);
  }
  if (field.type === "boolean") return typeof value === "boolean";
  return field.type === "array" ? Array.isArray(value) : typeof value === "string";
}

/** Add a second branch beside a node that reads what it reads, and a sum that joins both. */
export function beside(nodes: TreeNode[], entry: Entry, path: string, join = "sum"): Gesture {
  const { siblings, index } = place(nodes, path)!;
  const first = siblings[index]!;
  const taken = new Set(siblings.map((node) => node.id));
  const id = fresh(entry.name, taken);
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

/** Remove nodes, last first, so that addresses stay true; what stands at the first one's place is selected. */
export function removeAll(nodes: TreeNode[], paths: string[]): Gesture {
  const ordered = [...paths].reverse();
  const first = paths[0];
  if (!first) return { changes: [], select: null };
  const left = place(nodes, first)!.siblings.length - paths.filter((p) => parentOf(p) === parentOf(first)).length;
  const select = left ? sibling(first, Math.min(indexOf(first), left - 1)) : parentOf(first) || null;
  return { changes: ordered.map((path) => ({ do: "remove", path })), select };
}

/** Wrap siblings that stand in a row into a group; says why where that cannot be. */
export function wrap(nodes: TreeNode[], paths: string[], repeat: number): Gesture | string {
  if (!paths.length) return "Select the nodes that are to be in the group.";
  const parent = parentOf(paths[0]!);
  const places = paths.map(indexOf).sort((a, b) => a - b);
  if (paths.some((path) => parentOf(path) !== parent)) return "A group takes nodes that stand in the same group.";
  if (places.at(-1)! - places[0]! !== places.length - 1) {
    return "A group takes nodes that stand in a row; select those between them too, or move them together.";
  }
  const inside = (path: string): boolean => paths.some((each) => path === each || path.startsWith(`${each}.`));
  const last = sibling(paths[0]!, places.at(-1)!);
  const stray = links(nodes).find((l) => !inside(l.target) && inside(l.source) && l.source !== last);
  if (stray) {
    return `A group hands on its last node only, but ${nodeAt(nodes, stray.target)?.id} outside reads ${stray.name}, which would stand inside; select it too.`;
  }
  const path = sibling(paths[0]!, places[0]!);
  return { changes: [{ do: "wrap", path, count: places.length, repeat }], select: path };
}

/** Disconnect: the reader no longer names the source; a node always reads something. */
export function disconnect(nodes: TreeNode[], target: string, name: string): Gesture | string {
  const node = nodeAt(nodes, target);
  if (!node) return "The task supplies this end; it is connected to the last node.";
  if (!node.inputs) return "This line follows from the order: a node reads the one above unless told otherwise. Drag another line to it, or move it.";
  const rest = node.inputs.filter((each) => each !== name);
  return { changes: [{ do: "set", path: target, key: "inputs", value: rest.length ? rest : null }], select: target };
}

/** Nodes as YAML text, which is what copying puts on the clipboard. */
export function yamlOf(nodes: TreeNode[], paths: string[]): string {
  return paths.map((path) => `- ${flow(toWritten(nodeAt(nodes, path)!))}\n`).join("");
}

function flow(value: Value): string {
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([key, item]) => `${flow(key)}: ${flow(item)}`).join(", ")}}`;
  }
  if (typeof value === "string") {
    const plain = /^[A-Za-z_][\w-]*$/.test(value) && !/^(true|false|null|yes|no|on|off|y|n)$/i.test(value);
    return plain ? value : JSON.stringify(value);
  }
  return value === null ? "null" : String(value);
}

/** Where a pasted node goes: after the last selected one, else at the end. */
export function pasteAt(nodes: TreeNode[], paths: string[]): string {
  const last = paths.at(-1);
  if (!last) return `nodes[${nodes.length}]`;
  return sibling(last, indexOf(last) + 1);
}

/** The node a key leads to from another: the next or the one before in reading order, in or out of a group. */
export function neighbour(nodes: TreeNode[], path: string | null, key: string, hidden: Set<string>): string | null {
  const seen = walk(nodes).filter((v) => ![...hidden].some((group) => v.path.startsWith(`${group}.`))).map((v) => v.path);
  if (!seen.length) return null;
  if (path === null) return seen[0]!;
  const at = seen.indexOf(path);
  if (key === "ArrowDown") return seen[Math.min(at + 1, seen.length - 1)]!;
  if (key === "ArrowUp") return seen[Math.max(at - 1, 0)]!;
  if (key === "ArrowRight") return seen.includes(`${path}.nodes[0]`) ? `${path}.nodes[0]` : seen[Math.min(at + 1, seen.length - 1)]!;
  if (key === "Home") return seen[0]!;
  if (key === "End") return seen.at(-1)!;
  return steps(path).length > 1 ? address(steps(path).slice(0, -1)) : seen[Math.max(at - 1, 0)]!;
}
