/** Standing in a line: selected nodes of one group, under each other or beside each other. */
import { BOX, type Rect } from "./layout";
import type { Point } from "./session";
import { parentOf } from "./tree";

const GAP = 24;

export interface Standing extends Rect {
  uid: string;
  path: string;
}

/** Where nodes go so that their middles are on the first one's line, in the order they stand, without covering each other.
 *
 * Says why not where they stand in different groups.
 */
export function aligned(nodes: Standing[], way: "column" | "row"): Map<string, Point> | string {
  if (nodes.length < 2) return "Select two or more nodes to align them.";
  if (new Set(nodes.map((each) => parentOf(each.path))).size > 1) return "Nodes of one group are aligned; these stand in different groups.";
  const along = way === "column" ? "y" : "x";
  const length = way === "column" ? "height" : "width";
  const across = way === "column" ? "x" : "y";
  const breadth = way === "column" ? "width" : "height";
  // A stack that becomes a row keeps its order from top to bottom, and the other way round.
  const stacked = Math.max(...nodes.map((each) => each[along])) < Math.min(...nodes.map((each) => each[along] + each[length]));
  const by = stacked ? across : along;
  const ordered = [...nodes].sort((a, b) => a[by] - b[by]);
  const line = ordered[0]![across] + ordered[0]![breadth] / 2;
  const places = new Map<string, Point>();
  let free = -Infinity;
  for (const node of ordered) {
    const at = Math.max(node[along], free);
    free = at + (node[length] || BOX[length]) + GAP;
    const point = { [along]: Math.round(at), [across]: Math.round(line - node[breadth] / 2) } as { x: number; y: number };
    places.set(node.uid, [point.x, point.y]);
  }
  return places;
}
