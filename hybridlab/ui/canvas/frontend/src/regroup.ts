/** Dragging a node into a group, out of one, or from one into another. */
import type { Gesture } from "./compose";
import { applyAll, toWritten } from "./edits";
import type { Rect } from "./layout";
import { INPUT, fresh, indexOf, nodeAt, parentOf, steps, walk } from "./tree";
import type { Change, TreeNode } from "./types";

export interface Area extends Rect {
  path: string;
}

/** The group a node that is let go here belongs to, "" for none; null where it stays in the one it is in.
 *
 * It goes in where its middle is, and out only where it no longer touches its group: there is room to arrange things.
 */
export function landing(path: string, node: Rect, groups: Area[]): string | null {
  const own = parentOf(path);
  const x = node.x + node.width / 2;
  const y = node.y + node.height / 2;
  const over = groups
    .filter((area) => area.path !== path && !area.path.startsWith(`${path}.`))
    .filter((area) => x > area.x && x < area.x + area.width && y > area.y && y < area.y + area.height)
    .sort((a, b) => steps(b.path).length - steps(a.path).length)[0];
  const to = over?.path ?? "";
  if (to === own) return null;
  const around = to === "" || own.startsWith(`${to}.`);
  const home = groups.find((area) => area.path === own);
  if (around && home && touches(node, home)) return null;
  return to;
}

function touches(a: Rect, b: Rect): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

/** Put a node at the end of a group, or behind the group it leaves; inputs that cannot be seen from there are dropped. */
export function into(nodes: TreeNode[], path: string, group: string): Gesture {
  const node = nodeAt(nodes, path)!;
  const inside = group ? nodeAt(nodes, group)!.nodes! : nodes;
  const own = parentOf(path);
  const leaving = own !== group && (group === "" || own.startsWith(`${group}.`));
  const last = leaving ? indexOf(steps(path).slice(0, steps(group).length + 1).map((index) => `nodes[${index}]`).join(".")) : inside.length - 1;
  const at = `${group ? `${group}.` : ""}nodes[${last + 1}]`;
  const written = toWritten(node);
  if (node.named) written.id = fresh(node.id, new Set(inside.map((each) => each.id)));
  if (node.inputs && !node.inputs.every((name) => seen(nodes, group, path).has(name))) delete written.inputs;
  const changes: Change[] = [{ do: "insert", at, node: written, like: path }, { do: "remove", path }];
  const before = new Set(walk(nodes).map((visit) => visit.node.uid));
  return { changes, select: walk(applyAll(nodes, changes)).find((visit) => !before.has(visit.node.uid))?.path ?? null };
}

/** Names that nodes of a group can read: those in it and around it, without what moves. */
function seen(nodes: TreeNode[], group: string, moving: string): Set<string> {
  const names = new Set<string>();
  for (let scope = group; ; scope = parentOf(scope)) {
    const siblings = scope ? nodeAt(nodes, scope)!.nodes! : nodes;
    siblings.forEach((each, index) => {
      const path = `${scope ? `${scope}.` : ""}nodes[${index}]`;
      if (path !== moving && path !== group) names.add(each.id);
    });
    if (!scope) break;
  }
  names.delete(INPUT);
  return names;
}

