/** The canvas's own copy of the edits that Python makes on the text, so that they show at once. */
import { gather, renameInputs, scatter } from "./gather";
import { around, follow, twins } from "./sharePaths";
import { fresh, indexOf, namesRead, nameImplied, nodeAt, parentOf, pin, place, reads, sibling, walk } from "./tree";
import type { Change, TreeNode, Value } from "./types";

const NODE_KEYS = new Set(["id", "use", "inputs", "nodes", "repeat", "tie", "share", "lora", "residual"]);
let counter = 0;

export function newUid(): string {
  counter += 1;
  return `n${counter}`;
}

/** A node of the tree from how the text would write it. */
export function fromWritten(written: { [key: string]: Value }): TreeNode {
  const inputs = written.inputs;
  return {
    id: typeof written.id === "string" ? written.id : "",
    named: typeof written.id === "string",
    use: typeof written.use === "string" ? written.use : null,
    params: Object.fromEntries(Object.entries(written).filter(([key]) => !NODE_KEYS.has(key))),
    inputs: typeof inputs === "string" ? [inputs] : Array.isArray(inputs) && inputs.length ? inputs.map(String) : null,
    residual: typeof written.residual === "string" ? written.residual : null,
    repeat: typeof written.repeat === "number" ? written.repeat : 1,
    tie: written.tie === true,
    share: typeof written.share === "string" ? written.share : null,
    lora: typeof written.lora === "number" ? written.lora : 0,
    nodes: Array.isArray(written.nodes) ? written.nodes.map((node) => fromWritten(node as { [key: string]: Value })) : null,
    uid: newUid(),
  };
}

/** How the text would write a node. */
export function toWritten(node: TreeNode): { [key: string]: Value } {
  return {
    ...(node.named ? { id: node.id } : {}),
    ...(node.use !== null ? { use: node.use } : {}),
    ...node.params,
    ...(node.inputs ? { inputs: node.inputs } : {}),
    ...(node.residual ? { residual: node.residual } : {}),
    ...(node.repeat !== 1 ? { repeat: node.repeat } : {}),
    ...(node.tie ? { tie: true } : {}),
    ...(node.share !== null ? { share: node.share } : {}),
    ...(node.lora ? { lora: node.lora } : {}),
    ...(node.nodes ? { nodes: node.nodes.map(toWritten) } : {}),
  };
}

/** The tree after the changes; steps that cannot be made are left to Python to refuse. */
export function applyAll(nodes: TreeNode[], changes: Change[]): TreeNode[] {
  const copy = structuredClone(nodes);
  for (const change of changes) {
    pin(copy);
    apply(copy, change);
    nameImplied(copy);
  }
  return copy;
}

function apply(nodes: TreeNode[], change: Change): void {
  if (change.do === "undo" || change.do === "redo" || change.do === "paste" || change.do === "field") return;
  if (change.do === "insert") {
    const parent = parentOf(change.at);
    const holder = parent ? nodeAt(nodes, parent)?.nodes : nodes;
    holder?.splice(Math.min(indexOf(change.at), holder.length), 0, fromWritten(change.node));
    return;
  }
  const found = place(nodes, change.path);
  const node = found?.siblings[found.index];
  if (!found || !node) return;
  const { siblings, index } = found;
  switch (change.do) {
    case "remove": {
      for (let here = change.path; here; ) {
        const spot = place(nodes, here)!;
        const gone = spot.siblings[spot.index]!;
        const wanted = gone.named && namesRead(spot.siblings).includes(gone.id);
        const instead = wanted ? reads(spot.siblings, spot.index) : [];
        if (wanted && !gone.inputs && spot.index) spot.siblings[spot.index - 1]!.named = true;
        spot.siblings.splice(spot.index, 1);
        if (wanted) renameInputs(spot.siblings, gone.id, instead);
        here = spot.siblings.length ? "" : parentOf(here);
      }
      break;
    }
    case "replace":
      node.use = change.use;
      node.params = Object.fromEntries(Object.entries(node.params).filter(([key]) => change.keep.includes(key)));
      for (const [key, value] of Object.entries(change.give)) {
        nameImplied(nodes);
        pin(nodes);
        setKey(node, key, value);
      }
      break;
    case "set":
      setKey(node, change.key, change.value);
      break;
    case "rename": {
      const places = twins(nodes, change.path);
      for (const here of places) rename(nodes, here, change.id, places.length > 1);
      break;
    }
    case "wrap":
      gather(siblings, index, change, around(nodes, change.path), newUid());
      break;
    case "unwrap":
      if (node.nodes) scatter(siblings, index, around(nodes, change.path));
      break;
    case "move": {
      const target = Math.max(0, Math.min(siblings.length - 1, index + change.by));
      siblings.splice(target, 0, ...siblings.splice(index, 1));
      break;
    }
    case "duplicate": {
      const twin = structuredClone(node);
      for (const { node: each } of walk([twin])) each.uid = newUid();
      if (twin.named) twin.id = fresh(twin.id, new Set(siblings.filter((n) => n.named).map((n) => n.id)));
      siblings.splice(index + 1, 0, twin);
      break;
    }
  }
}

/** Give a node another id; who reads it or shares its weights follows. Where others stand beside it as elsewhere, all ids are written. */
function rename(nodes: TreeNode[], path: string, id: string, all: boolean): void {
  const { siblings, index } = place(nodes, path)!;
  const node = siblings[index]!;
  const old = node.id;
  const scopes = around(nodes, path);
  if (all) for (const each of siblings) each.named = true;
  Object.assign(node, { id, named: true });
  renameInputs(siblings, old, [id]);
  follow(scopes, old, id);
  nameImplied(nodes);
}

function setKey(node: TreeNode, key: string, value: Value): void {
  if (key === "inputs") node.inputs = Array.isArray(value) ? value.map(String) : null;
  else if (key === "id") {
    if (typeof value === "string") Object.assign(node, { id: value, named: true });
    else node.named = false;
  } else if (key === "residual") node.residual = typeof value === "string" ? value : null;
  else if (key === "repeat") node.repeat = typeof value === "number" ? value : 1;
  else if (key === "tie") node.tie = value === true;
  else if (key === "share") node.share = typeof value === "string" ? value : null;
  else if (key === "lora") node.lora = typeof value === "number" ? value : 0;
  else if (key === "use" && value === null) node.use = null;
  else if (key === "nodes" && value === null) node.nodes = null;
  else if (value === null) delete node.params[key];
  else node.params[key] = value;
}

/** Carry the browser's names for nodes over to a tree that Python sent. */
export function carryUids(before: TreeNode[], after: TreeNode[]): TreeNode[] {
  const shape = (nodes: TreeNode[]): string =>
    nodes.map((n) => (n.nodes ? `(${shape(n.nodes)})` : String(n.use))).join(" ");
  const same = shape(before) === shape(after);
  const known = new Map(walk(before).map((visit) => [same ? visit.path : visit.ids, visit.node.uid]));
  const used = new Set<string>();
  for (const visit of walk(after)) {
    const uid = known.get(same ? visit.path : visit.ids);
    visit.node.uid = uid && !used.has(uid) ? uid : newUid();
    used.add(visit.node.uid);
  }
  return after;
}

export { sibling };
