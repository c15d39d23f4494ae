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

export function layout(input: LayoutInput): Layout {
  const result: Layout = new Map();
  const all = links(input.nodes);
  const scope = (siblings: TreeNode[], parent: string): { width: number; height: number } => {
    const graph = new dagre.graphlib.Graph();
    graph.setGraph({ rankdir: "TB", nodesep: 34, ranksep: 40, marginx: 0, marginy: 0 });
    graph.setDefaultEdgeLabel(() => ({}));
    const at = (index: number): string => `${parent ? `${parent}.` : ""}nodes[${index}]`;
    const ends = parent ? PORT : ENTRY;
    graph.setNode(`${parent}:in`, parent || !input.first ? { ...ends } : { ...BOX });
    siblings.forEach((node, index) => {
      const size = node.nodes && !input.collapsed.has(node.uid!) ? scope(node.nodes, at(index)) : BOX;
      graph.setNode(at(index), { width: size.width, height: size.height });
    });
    graph.setNode(`${parent}:out`, parent || !input.last ? { ...ends } : { ...BOX });
    for (const link of all) {
      if (parentOf(link.target) === parent && graph.hasNode(link.source)) graph.setEdge(link.source, link.target);
    }
    if (siblings.length) graph.setEdge(at(siblings.length - 1), `${parent}:out`);
    else graph.setEdge(`${parent}:in`, `${parent}:out`);
    dagre.layout(graph);
    let right = 0;
    let bottom = 0;
    const rects = graph.nodes().map((id): [string, Rect] => {
      const { x, y, width, height } = graph.node(id) as Rect;
      const rect = { x: x - width / 2, y: y - height / 2, width, height };
      const index = id.endsWith(":in") || id.endsWith(":out") ? -1 : Number(/(\d+)\]$/.exec(id)![1]);
      const placed = index < 0 ? undefined : input.places.get(siblings[index]!.uid!);
      return [id, placed ? { ...rect, x: placed[0], y: placed[1] } : parent ? { ...rect, x: rect.x + PAD.side, y: rect.y + PAD.top - 20 } : rect];
    });
    for (const [id, rect] of rects) {
      result.set(id, rect);
      right = Math.max(right, rect.x + rect.width);
      bottom = Math.max(bottom, rect.y + rect.height);
    }
    return { width: Math.max(right + PAD.side, 266), height: bottom + PAD.bottom - 10 };
  };
  scope(input.nodes, "");
  return result;
}
