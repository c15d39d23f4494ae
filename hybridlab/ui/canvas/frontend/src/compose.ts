/** What a gesture means as changes of the text. */
import { INPUT, fresh, indexOf, links, nodeAt, parentOf, place, readers, sibling, steps, address, walk } from "./tree";
import { toWritten } from "./edits";
import type { Change, Entry, Field, TreeNode, Value } from "./types";

export interface Gesture {
  changes: Change[];
  select: string | null;
}

/** An entry as a new node: with a value for each parameter that has no default; a saved block whole, but without its id. */
export function blank(entry: Entry): { [key: string]: Value } {
  if (entry.node) {
    const { id: _, ...block } = structuredClone(entry.node);
    return block;
  }
  const node: { [key: string]: Value } = { use: entry.name };
  for (const [name, field] of Object.entries(entry.params)) {
    if (field.required) node[name] = field.choices?.[0] ?? Math.max(field.minimum ?? 1, 10);
  }
  return node;
}

/** An id for a new node that none of these has. */
export function newId(entry: Entry, siblings: TreeNode[]): string {
  const base = typeof entry.node?.id === "string" ? entry.node.id : (entry.node?.use ?? (entry.node ? "block" : entry.name));
  return fresh(String(base), new Set(siblings.map((each) => each.id)));
}

/** An entry as a new node where nothing needs its name: only a block is given one, by which people know it. */
function unread(entry: Entry, siblings: TreeNode[]): { [key: string]: Value } {
  return entry.node?.nodes ? { id: newId(entry, siblings), ...blank(entry) } : blank(entry);
}

/** Append after a node; its only reader reads the new node instead. At the end where nothing is selected. */
export function append(nodes: TreeNode[], entry: Entry, after: string | null): Gesture {
  if (after === null) {
    const at = `nodes[${nodes.length}]`;
    return { changes: [{ do: "insert", at, node: withInputs(nodes, entry, unread(entry, nodes), nodes.length) }], select: at };
  }
  const { siblings, index } = place(nodes, after)!;
  const at = sibling(after, index + 1);
  const explicit = readers(nodes, after).filter((link) => link.written && parentOf(link.target) === parentOf(after));
  const changes: Change[] = [];
  if (explicit.length === 1 && readers(nodes, after).length === 1 && entry.max_inputs === 1) {
    const id = newId(entry, siblings);
    const target = explicit[0]!.target;
    const reader = nodeAt(nodes, target)!;
    const later = indexOf(target) > index ? sibling(target, indexOf(target) + 1) : target;
    changes.push({ do: "insert", at, node: { id, ...blank(entry) } });
    const value = reader.inputs!.map((name) => (name === siblings[index]!.id ? id : name));
    changes.push({ do: "set", path: later, key: "inputs", value });
    return { changes, select: at };
  }
  changes.push({ do: "insert", at, node: withInputs(siblings, entry, unread(entry, siblings), index + 1) });
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
  const id = newId(entry, siblings);
  const above = index ? siblings[index - 1]!.id : INPUT;
  const node = { id, ...blank(entry), ...(name !== above ? { inputs: [name] } : {}) };
  const after = sibling(target, index + 1);
  if (entry.min_inputs > 1) Object.assign(node, { inputs: [...new Set([name, name === above ? INPUT : above])] });
  if (!reader.inputs) {
    const { id: _, ...plain } = node;
    return { changes: [{ do: "insert", at: target, node: entry.node?.nodes ? node : plain }], select: target };
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
  if (node.nodes || entry.node) return exchange(nodes, entry, path);
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

/** Put an entry in the place of a node that it has no parameters in common with; it reads what that read, and who read that reads it. */
function exchange(nodes: TreeNode[], entry: Entry, path: string): Gesture {
  const { siblings, index } = place(nodes, path)!;
  const old = siblings[index]!;
  const id = newId(entry, siblings);
  const written = readers(nodes, path).filter((link) => link.written && !link.target.startsWith(`${path}.`));
  const inputs = old.inputs && (entry.max_inputs ?? old.inputs.length) < old.inputs.length ? [old.inputs[0]!] : old.inputs;
  const node = { ...(written.length ? { id, ...blank(entry) } : unread(entry, siblings)), ...(inputs ? { inputs } : {}) };
  const depth = steps(path).length;
  const changes: Change[] = [{ do: "insert", at: path, node }];
  for (const { target } of written) {
    const at = steps(target);
    if (at[depth - 1]! >= index) at[depth - 1]! += 1;
    const value = nodeAt(nodes, target)!.inputs!.map((name) => (name === old.id ? id : name));
    changes.push({ do: "set", path: address(at), key: "inputs", value });
  }
  changes.push({ do: "remove", path: sibling(path, index + 1) });
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
