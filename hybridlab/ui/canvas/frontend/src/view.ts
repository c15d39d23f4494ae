/** The tree as React Flow's nodes and edges. */
import type { Edge, Node } from "@xyflow/react";
import { count, ms, shape, shown, whole } from "./format";
import { BOX, layout, type Rect } from "./layout";
import { same } from "./same";
import { links, parentOf, walk, type Visit } from "./tree";
import type { Session } from "./session";
import type { Cost, Entry, Problem, TreeNode } from "./types";

export interface BoxData extends Record<string, unknown> {
  path: string;
  /** The path of ids, as costs and measurements name it. */
  address: string;
  title: string;
  subtitle: string;
  use: string;
  kind: string;
  colour: string;
  detail: string;
  residual: boolean;
  cost: Cost | null;
  share: number;
  problems: Problem[];
  supplied: boolean;
  group: boolean;
  collapsed: boolean;
  times: number;
  tie: boolean;
  /** Whose weights it uses, in words. */
  borrowed: string;
  inputs: boolean;
  aria: string;
  changed: string;
  /** What may vary in a search, in words; null where nothing may. */
  varies: string | null;
}
export interface WireData extends Record<string, unknown> {
  label: string;
  hint: string;
  source: string;
  target: string | null;
  name: string;
  written: boolean;
}
export type BoxNode = Node<BoxData>;
export type WireEdge = Edge<WireData>;

/** More than this many nodes are drawn without words and costs, and a sentence says so. */
export const MANY = 600;
/** More than this many nodes are only in the page where they are in view. */
export const SOME = 80;
const MIXERS = new Set(["token_mixer", "channel_mixer"]);
const GROUP_COLOUR = "#7d8590";

export function view(session: Session): { nodes: BoxNode[]; edges: WireEdge[]; paths: Map<string, string> } {
  const data = session.data!;
  const catalogue = new Map(data.catalogue.map((entry) => [entry.name, entry]));
  const first = data.supplied.find((each) => each.place === "first");
  const last = data.supplied.find((each) => each.place === "last");
  const rects = layout({ nodes: session.nodes, collapsed: session.collapsed, places: session.places, first: !!first, last: !!last });
  const visits = walk(session.nodes);
  const byPath = new Map(visits.map((visit) => [visit.path, visit]));
  const hidden = (path: string): boolean => {
    for (let up = parentOf(path); up; up = parentOf(up)) {
      if (session.collapsed.has(byPath.get(up)!.node.uid!)) return true;
    }
    return false;
  };
  const most = Math.max(1e-9, ...visits.filter((v) => !v.node.nodes).map((v) => data.costs[v.ids]?.ms ?? 0));
  const total = Object.entries(data.costs).filter(([ids]) => !ids.includes(".")).reduce((sum, [, cost]) => sum + cost.ms, 0);
  const bad = marks(data.problems, visits);
  const nodes: BoxNode[] = [];
  const idOf = new Map<string, string>([[":in", "task:first"], [":out", "task:last"]]);
  const end = (place: "in" | "out", parent: string): BoxNode | null => {
    const key = `${parent}:${place}`;
    const rect = rects.get(key);
    if (!rect) return null;
    const uid = parent ? byPath.get(parent)!.node.uid! : "task";
    const id = parent ? `${uid}:${place}` : idOf.get(key)!;
    idOf.set(key, id);
    const supplied = parent ? undefined : place === "in" ? first : last;
    const entry = supplied && catalogue.get(supplied.use);
    const base = blankBox(place === "in" ? "Input" : "Output");
    const kind = entry?.kind ?? "";
    const cost = supplied ? (data.costs[supplied.id] ?? null) : null;
    const text = place === "in" ? data.input : "";
    return {
      id,
      type: supplied ? "box" : parent ? "port" : "end",
      position: { x: rect.x, y: rect.y },
      ...sized(rect),
      draggable: false,
      selectable: false,
      ...(parent ? { parentId: uid } : {}),
      data: {
        ...base,
        path: key,
        address: supplied?.id ?? "",
        title: entry?.title ?? base.title,
        subtitle: supplied ? "from the task" : "",
        use: supplied?.use ?? "",
        kind,
        colour: data.kinds[kind]?.colour ?? GROUP_COLOUR,
        detail: supplied ? "" : shape(text),
        cost,
        share: (cost?.ms ?? 0) / most,
        supplied: true,
        inputs: place === "out",
        aria: supplied ? `${entry?.title ?? supplied.use}, supplied by the task` : parent ? (place === "in" ? "what enters the group" : "the group's result") : base.title,
      },
    };
  };
  const push = (node: BoxNode | null): void => {
    if (node) nodes.push(node);
  };
  push(end("in", ""));
  for (const visit of visits) {
    if (hidden(visit.path)) continue;
    const { node, path } = visit;
    const uid = node.uid!;
    idOf.set(path, uid);
    const rect = rects.get(path)!;
    const open = node.nodes !== null && !session.collapsed.has(uid);
    const parent = parentOf(path);
    nodes.push({
      id: uid,
      type: open ? "group_box" : "box",
      position: { x: rect.x, y: rect.y },
      ...sized(rect),
      selected: session.selected.has(uid),
      ...(parent ? { parentId: byPath.get(parent)!.node.uid! } : {}),
      data: boxData(session, visit, catalogue, most, total, bad.get(path) ?? []),
    });
    if (open) {
      push(end("in", path));
      push(end("out", path));
    }
  }
  push(end("out", ""));
  const before = drawn.get(session);
  const made = {
    nodes: reused(before?.nodes ?? [], nodes),
    edges: reused(before?.edges ?? [], wires(session, idOf, hidden, byPath, !!last)),
    paths: new Map([...idOf].map(([path, id]) => [id, path])),
  };
  drawn.set(session, made);
  return made;
}

/** A node's size, which React Flow need not find out: a node that it measures anew has everything drawn once more. */
function sized({ width, height }: Rect): Pick<BoxNode, "width" | "height" | "measured"> {
  return { width, height, measured: { width, height } };
}

/** What was drawn last, so that what has not changed is the same object, and is not drawn again. */
const drawn = new WeakMap<Session, { nodes: BoxNode[]; edges: WireEdge[] }>();

function reused<T extends { id: string }>(before: T[], now: T[]): T[] {
  const known = new Map(before.map((each) => [each.id, each]));
  return now.map((each) => {
    const old = known.get(each.id);
    return old && same(old, each) ? old : each;
  });
}

function blankBox(title: string): BoxData {
  return {
    path: "", address: "", title, subtitle: "", use: "", kind: "", colour: GROUP_COLOUR, detail: "", residual: false, cost: null, share: 0,
    problems: [], supplied: false, group: false, collapsed: false, times: 1, tie: false, borrowed: "", inputs: false, aria: title, changed: "", varies: null,
  };
}

/** Whose weights a node uses, in words. */
function borrowed(node: TreeNode): string {
  const pair = node.lora ? `LoRA of rank ${node.lora}` : "";
  return [node.share !== null ? `weights of ${node.share}` : "", pair].filter(Boolean).join(", ");
}

function boxData(
  session: Session, visit: Visit, catalogue: Map<string, Entry>, most: number, total: number, problems: Problem[],
): BoxData {
  const { node, path, ids } = visit;
  const data = session.data!;
  const entry = catalogue.get(node.use ?? "");
  const kind = node.nodes ? "group" : (entry?.kind ?? "");
  const cost = data.costs[ids] ?? null;
  const name = node.nodes ? node.id : (entry?.title ?? node.use ?? "?");
  const own = node.named && node.id !== node.use && !node.nodes;
  const detail = node.nodes
    ? [`${node.nodes.length} node${node.nodes.length === 1 ? "" : "s"}`, borrowed(node)].filter(Boolean).join(" · ")
    : [...Object.entries(node.params).map(([key, value]) => `${key} ${shown(value)}`), borrowed(node)].filter(Boolean).join(" · ");
  const residual = node.residual ? node.residual !== "none" : MIXERS.has(kind);
  const kindTitle = data.kinds[kind]?.title ?? (node.nodes ? "Group" : "unknown component");
  return {
    ...blankBox(name),
    path,
    address: ids,
    subtitle: own ? node.id : node.nodes ? "" : kindTitle,
    use: node.use ?? "",
    kind,
    colour: data.kinds[kind]?.colour ?? GROUP_COLOUR,
    detail,
    residual,
    cost,
    share: node.nodes ? (total ? (cost?.ms ?? 0) / total : 0) : (cost?.ms ?? 0) / most,
    problems,
    group: node.nodes !== null,
    collapsed: session.collapsed.has(node.uid!),
    times: node.repeat,
    tie: node.tie,
    borrowed: borrowed(node),
    inputs: true,
    changed: data.changed?.[ids] ?? "",
    varies: session.varies(ids),
    aria: [
      node.nodes ? `Group ${name}${node.repeat > 1 ? `, repeated ${node.repeat} times` : ""}` : `${name}${own ? ` named ${node.id}` : ""}, ${kindTitle}`,
      detail,
      cost ? `${count(cost.params)} parameters, ${ms(cost.ms)}` : "",
      residual ? "with residual" : "",
      node.inputs ? `reads ${node.inputs.join(" and ")}` : "",
      problems.map((problem) => problem.sentence).join(" "),
      data.changed?.[ids] ? "changed since it was saved" : "",
      session.varies(ids) === null ? "" : "may vary in a search",
    ].filter(Boolean).join(", "),
  };
}

function marks(problems: Problem[], visits: Visit[]): Map<string, Problem[]> {
  const found = new Map<string, Problem[]>();
  for (const problem of problems) {
    const visit = visits.findLast((each) => within(problem.path, each.path));
    if (visit) found.set(visit.path, [...(found.get(visit.path) ?? []), problem]);
  }
  return found;
}

/** Whether a problem's path leads to a node or into its fields. */
export function within(problem: string, path: string): boolean {
  return problem === path || problem.startsWith(`${path}.`) || problem.startsWith(`${path}[`);
}

function wires(
  session: Session, idOf: Map<string, string>, hidden: (path: string) => boolean, byPath: Map<string, Visit>, head: boolean,
): WireEdge[] {
  const data = session.data!;
  const edges = new Map<string, WireEdge>();
  const shownAt = (path: string): string => {
    let up = path;
    while (up && hidden(up)) up = parentOf(up);
    return up;
  };
  const flowOf = (source: string): { label: string; hint: string } => {
    const flow = source === ":in" ? undefined : data.flows[byPath.get(source)?.ids ?? data.supplied.find((s) => s.place === "first")?.id ?? ""];
    const known = source === ":in" ? (data.supplied.some((s) => s.place === "first") ? data.flows[data.supplied.find((s) => s.place === "first")!.id] : undefined) : flow;
    if (!known) return { label: "", hint: source === ":in" ? data.input : "" };
    return { label: shape(known.type), hint: `${known.type}${known.bytes === null ? "" : `, ${whole(known.bytes)} bytes`}` };
  };
  const add = (source: string, target: string | null, name: string, written: boolean, to: string): void => {
    const from = source.endsWith(":in") ? idOf.get(source) : idOf.get(shownAt(source));
    if (!from || !to || from === to || edges.has(`${from}>${to}`)) return;
    const flow = source.endsWith(":in") && source !== ":in" ? { label: "", hint: "" } : flowOf(source);
    const bytes = data.flows[byPath.get(source)?.ids ?? ""]?.bytes ?? null;
    edges.set(`${from}>${to}`, {
      id: `${from}>${to}`,
      source: from,
      target: to,
      type: "wire",
      data: { label: flow.label && bytes !== null ? `${flow.label} · ${size(bytes)}` : flow.label, hint: flow.hint, source, target, name, written },
    });
  };
  for (const link of links(session.nodes)) {
    const inside = link.source.endsWith(":in") && link.source !== ":in" ? link.source.slice(0, -3) : "";
    if (inside && (hidden(inside) || session.collapsed.has(byPath.get(inside)!.node.uid!))) continue;
    const to = idOf.get(shownAt(link.target));
    if (to) add(link.source, link.target, link.name, link.written, to);
  }
  const finish = (siblings: TreeNode[], parent: string): void => {
    const out = idOf.get(`${parent}:out`);
    const path = `${parent ? `${parent}.` : ""}nodes[${siblings.length - 1}]`;
    if (out && siblings.length) add(path, null, siblings.at(-1)!.id, false, out);
    siblings.forEach((node, index) => {
      const at = `${parent ? `${parent}.` : ""}nodes[${index}]`;
      if (node.nodes && !session.collapsed.has(node.uid!) && !hidden(at)) finish(node.nodes, at);
    });
  };
  finish(session.nodes, "");
  if (!session.nodes.length && head) add(":in", null, "input", false, idOf.get(":out")!);
  return [...edges.values()];
}

function size(value: number): string {
  return value >= 1 << 20 ? `${(value / (1 << 20)).toFixed(1)} MiB` : value >= 1024 ? `${(value / 1024).toFixed(0)} KiB` : `${value} B`;
}

export { BOX };
