/** Addresses, names and readers in a tree of nodes, by the same rules as hybridlab/architecture. */
import type { TreeNode } from "./types";

export const INPUT = "input";
const STEP = /nodes\[(\d+)\]/g;

export function steps(path: string): number[] {
  return [...path.matchAll(STEP)].map((match) => Number(match[1]));
}

export function address(indices: number[]): string {
  return indices.map((index) => `nodes[${index}]`).join(".");
}

/** The siblings that an address points into and its place among them; null where there is none. */
export function place(nodes: TreeNode[], path: string): { siblings: TreeNode[]; index: number } | null {
  const indices = steps(path);
  if (!indices.length) return null;
  let siblings: TreeNode[] | null = nodes;
  for (const index of indices.slice(0, -1)) siblings = siblings?.[index]?.nodes ?? null;
  return siblings ? { siblings, index: indices[indices.length - 1]! } : null;
}

export function nodeAt(nodes: TreeNode[], path: string): TreeNode | null {
  const found = place(nodes, path);
  return found?.siblings[found.index] ?? null;
}

export function sibling(path: string, index: number): string {
  return address([...steps(path).slice(0, -1), index]);
}

export function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf(".")));
}

export function indexOf(path: string): number {
  return steps(path).at(-1) ?? 0;
}

export interface Visit {
  node: TreeNode;
  path: string;
  /** The path of ids, as costs and shapes name it. */
  ids: string;
  parent: string;
}

/** Every node in reading order, groups before what they hold. */
export function walk(nodes: TreeNode[], parent = "", ids = ""): Visit[] {
  return nodes.flatMap((node, index) => {
    const path = `${parent ? `${parent}.` : ""}nodes[${index}]`;
    const here = { node, path, ids: `${ids}${node.id}`, parent };
    return [here, ...(node.nodes ? walk(node.nodes, path, `${ids}${node.id}.`) : [])];
  });
}

export function fresh(base: string, taken: Set<string>): string {
  const stem = base.replace(/_\d+$/, "");
  let name = base;
  for (let number = 2; taken.has(name); number += 1) name = `${stem}_${number}`;
  return name;
}

function clean(base: string): string {
  const kept = [...base].map((c) => (/[\p{L}\p{N}_-]/u.test(c) ? c : "_")).join("").slice(0, 56);
  return /^[\p{L}_]/u.test(kept) ? kept : `n_${kept}`;
}

/** Each sibling's id: its own, else the one that its component and place imply. */
export function impliedIds(nodes: TreeNode[]): string[] {
  const taken = new Set(nodes.filter((node) => node.named).map((node) => node.id));
  // By component: its name as an id, and the number at which the search for a free one goes on.
  const next = new Map<string, [string, number]>();
  return nodes.map((node) => {
    if (node.named) return node.id;
    const use = node.use ?? "group";
    let [base, number] = next.get(use) ?? [clean(use), 1];
    let name = base;
    do {
      name = number === 1 ? base : `${base}_${number}`;
      number += 1;
    } while (taken.has(name));
    next.set(use, [base, number]);
    taken.add(name);
    return name;
  });
}

/** Give nodes without a written id the one that their component and place imply. */
export function nameImplied(nodes: TreeNode[]): void {
  impliedIds(nodes).forEach((id, index) => {
    nodes[index]!.id = id;
  });
  for (const node of nodes) if (node.nodes) nameImplied(node.nodes);
}

export function namesRead(nodes: TreeNode[]): string[] {
  return nodes.flatMap((node) => [...(node.inputs ?? []), ...(node.share?.split(".") ?? []), ...(node.nodes ? namesRead(node.nodes) : [])]);
}

/** Write out implied ids that others refer to, so that an edit cannot make them mean another node. */
export function pin(nodes: TreeNode[], around: Set<string> = new Set()): void {
  const wanted = new Set([...around, ...namesRead(nodes)]);
  for (const node of nodes) {
    if (wanted.has(node.id)) node.named = true;
    if (node.nodes) pin(node.nodes, wanted);
  }
}

/** The names a node reads: its inputs, else the node above, else what enters its group. */
export function reads(siblings: TreeNode[], index: number): string[] {
  const node = siblings[index]!;
  if (node.inputs) return node.inputs;
  return [index ? siblings[index - 1]!.id : INPUT];
}

export interface Link {
  /** The address of the node read; for what enters a scope, the scope's own address with ":in". */
  source: string;
  target: string;
  name: string;
  /** Whether the text says so; otherwise it follows from the order. */
  written: boolean;
}

/** Who reads whom, over all scopes; names that nobody has are left out. */
export function links(nodes: TreeNode[]): Link[] {
  const found: Link[] = [];
  const scope = (siblings: TreeNode[], parent: string, around: Map<string, string>): void => {
    const here = new Map<string, string>();
    const at = (index: number): string => `${parent ? `${parent}.` : ""}nodes[${index}]`;
    siblings.forEach((node, index) => {
      if (!here.has(node.id)) here.set(node.id, at(index));
    });
    const visible = new Map([...around, [INPUT, `${parent}:in`], ...here]);
    siblings.forEach((node, index) => {
      for (const name of new Set(reads(siblings, index))) {
        const source = node.inputs || !index ? visible.get(name) : at(index - 1);
        if (source && source !== at(index)) {
          found.push({ source, target: at(index), name, written: node.inputs !== null });
        }
      }
      if (node.nodes) scope(node.nodes, at(index), visible);
    });
  };
  scope(nodes, "", new Map());
  return found;
}

/** Siblings that read a node, by address. */
export function readers(nodes: TreeNode[], path: string): Link[] {
  return links(nodes).filter((link) => link.source === path);
}

/** Addresses that the node at this address needs, directly or through others (groups need what is in them). */
export function needs(nodes: TreeNode[], path: string): Set<string> {
  const all = links(nodes);
  const seen = new Set<string>();
  const queue = [path];
  while (queue.length) {
    const now = queue.pop()!;
    for (const link of all) {
      const inside = link.target === now || link.target.startsWith(`${now}.`);
      if (inside && !link.source.endsWith(":in") && !seen.has(link.source)) {
        seen.add(link.source);
        queue.push(link.source);
      }
    }
  }
  return seen;
}
