/** Where nodes stand: dagre for every group by itself, from the inside out; what the user placed stays. */
import dagre from "@dagrejs/dagre";
import { links, parentOf } from "./tree";
import type { TreeNode } from "./types";
import type { Point } from "./session";

export const BOX = { width: 226, height: 84 };
export const PORT = { width: 18, height: 18 };
export const ENTRY = { width: 190, height: 30 };
const PAD = { side: 20, top: 44, bottom: 16 };

export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Rectangles by address, relative to the group around; ports are ":in" and ":out" behind their group's address. */
export type Layout = Map<string, Rect>;

export interface LayoutInput {
  nodes: TreeNode[];
  collapsed: Set<string>;
  places: Map<string, Point>;
  /** Whether the task supplies a first and a last node, which are drawn as large as others. */
  first: boolean;
  last: boolean;
}

type Size = Pick<Rect, "width" | "height">;
type Line = [source: string, target: string];
const RANK_GAP = 40;

/** Where dagre puts a plain sequence, found without it, since most designs are one; null where it is none. */
export function column(sizes: Map<string, Size>, edges: Line[]): Map<string, Rect> | null {
  const ids = [...sizes.keys()];
  if (edges.length !== ids.length - 1 || edges.some(([source, target], place) => source !== ids[place] || target !== ids[place + 1])) return null;
  const middle = Math.max(...[...sizes.values()].map((size) => size.width)) / 2;
  let y = 0;
  return new Map([...sizes].map(([id, { width, height }]): [string, Rect] => {
    const rect = { x: middle - width / 2, y, width, height };
    y += height + RANK_GAP;
    return [id, rect];
  }));
}

const MOST_KEPT = 200;
const kept = new Map<string, Map<string, Rect>>();

/** Where dagre puts nodes; kept, since selecting a node or a new cost moves nothing. */
export function ranks(sizes: Map<string, Size>, edges: Line[]): Map<string, Rect> {
  const key = JSON.stringify([[...sizes].map(([id, { width, height }]) => [id, width, height]), edges]);
  const known = kept.get(key);
  if (known) return known;
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: "TB", nodesep: 34, ranksep: RANK_GAP, marginx: 0, marginy: 0 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const [id, { width, height }] of sizes) graph.setNode(id, { width, height });
  for (const [source, target] of edges) graph.setEdge(source, target);
  dagre.layout(graph);
  const found = new Map(graph.nodes().map((id): [string, Rect] => {
    const { x, y, width, height } = graph.node(id) as Rect;
    return [id, { x: x - width / 2, y: y - height / 2, width, height }];
  }));
  kept.set(key, found);
  if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value!);
  return found;
}

export function layout(input: LayoutInput): Layout {
  const result: Layout = new Map();
  const all = new Map<string, Line[]>();
  for (const link of links(input.nodes)) {
    const scope = parentOf(link.target);
    all.set(scope, all.get(scope) ?? []);
    all.get(scope)!.push([link.source, link.target]);
  }
  const scope = (siblings: TreeNode[], parent: string): { width: number; height: number } => {
    const at = (index: number): string => `${parent ? `${parent}.` : ""}nodes[${index}]`;
    const ends = parent ? PORT : ENTRY;
    const sizes = new Map<string, Size>([[`${parent}:in`, parent || !input.first ? ends : BOX]]);
    siblings.forEach((node, index) => {
      sizes.set(at(index), node.nodes && !input.collapsed.has(node.uid!) ? scope(node.nodes, at(index)) : BOX);
    });
    sizes.set(`${parent}:out`, parent || !input.last ? ends : BOX);
    const edges = (all.get(parent) ?? []).filter(([source]) => sizes.has(source));
    edges.push([siblings.length ? at(siblings.length - 1) : `${parent}:in`, `${parent}:out`]);
    let right = 0;
    let bottom = 0;
    const rects = [...(column(sizes, edges) ?? ranks(sizes, edges))].map(([id, rect]): [string, Rect] => {
      const index = id.endsWith(":in") || id.endsWith(":out") ? -1 : Number(/(\d+)\]$/.exec(id)![1]);
      const placed = index < 0 ? undefined : input.places.get(siblings[index]!.uid!);
      return [id, placed ? { ...rect, x: placed[0], y: placed[1] } : parent ? { ...rect, x: rect.x + PAD.side, y: rect.y + PAD.top - 20 } : rect];
    });
    for (const [id, rect] of rects) {
      result.set(id, rect);
      right = Math.max(right, rect.x + rect.width);
      bottom = Math.max(bottom, rect.y + rect.height);
    }
    // Whole pixels, as the browser says them when it is asked how large the box is.
    return { width: Math.max(Math.ceil(right + PAD.side), 266), height: Math.ceil(bottom + PAD.bottom - 10) };
  };
  scope(input.nodes, "");
  return result;
}
