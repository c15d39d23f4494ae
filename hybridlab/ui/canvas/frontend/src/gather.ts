/** Nodes in a row become a group, or a group its nodes, by the same rules as hybridlab/architecture/grouping.py. */
import { follow, shared, type Scopes } from "./sharePaths";
import { INPUT, fresh, impliedIds, nameImplied, namesRead, reads, walk } from "./tree";
import type { Change, TreeNode } from "./types";

/** Put siblings into a new group in their place; nothing happens where Python refuses, since a node outside reads one inside. */
export function gather(siblings: TreeNode[], index: number, change: Change & { do: "wrap" }, scopes: Scopes, uid: string): void {
  const inner = siblings.slice(index, index + change.count);
  const outside = siblings.filter((node) => !inner.includes(node));
  if (inner.slice(0, -1).some((node) => node.named && isRead(outside, node.id))) return;
  const taken = new Set(namesIn(siblings));
  const group: TreeNode = {
    id: fresh("stage", taken), named: true, use: null, params: {}, inputs: null, residual: null,
    repeat: change.repeat, tie: false, share: null, lora: 0, nodes: inner, uid,
  };
  group.inputs = entrance(siblings, index, inner);
  keepIds(inner);
  siblings.splice(index, inner.length, group);
  const last = inner.at(-1)!;
  if (last.named) renameInputs(outside, last.id, [group.id]);
  for (const node of inner) if (node.named) follow(scopes, node.id, `${group.id}.${node.id}`);
}

/** Put a group's nodes in its place; nothing happens where Python refuses, since another group shares the weights of the whole. */
export function scatter(siblings: TreeNode[], index: number, scopes: Scopes): void {
  const group = siblings[index]!;
  const children = group.nodes!;
  const outside = siblings.filter((node) => node !== group);
  if (!children.length) {
    siblings.splice(index, 1);
    return;
  }
  const lent = shared(scopes, group.id);
  if (lent.includes("")) return;
  const last = children.at(-1)!;
  const before = children.map((child) => child.id);
  const entering = children.some((child) => child.inputs?.includes(INPUT)) ? reads(siblings, index) : [];
  if (entering.length && !group.inputs && index) siblings[index - 1]!.named = true;
  const read = isRead(outside, group.id);
  if (read) last.named = true;
  const lender = group.share?.split(".")[0] ?? "";
  const near = new Set([group.id, lender, ...impliedIds(outside), ...namesRead(outside), ...(group.inputs ?? []), ...entering]);
  const deep = new Set([...near, ...idsIn(outside), ...children.flatMap((child) => idsIn(child.nodes ?? []))]);
  const taken = new Set([...deep, ...namesIn(outside), ...namesIn(children)]);
  for (const child of children.filter((each) => each.named)) {
    const old = child.id;
    const named = (read && child === last) || lent.some((one) => `${one}.`.startsWith(`${old}.`));
    const id = (named ? deep : near).has(old) ? fresh(old, taken) : old;
    taken.add(id);
    if (id !== old) {
      child.id = id;
      renameInputs(children, old, [id]);
      follow([{ siblings: children, prefix: "" }], old, id);
    }
    follow(scopes, `${group.id}.${old}`, id);
  }
  for (const child of children) child.inputs = child.inputs?.flatMap((name) => (name === INPUT ? entering : [name])) ?? null;
  children[0]!.inputs ??= group.inputs;
  if (lender) children.forEach((child, place) => (child.share = `${group.share}.${before[place]}`));
  if (last.named) renameInputs(outside, group.id, [last.id]);
  siblings.splice(index, 1, ...children);
  keepUnread(siblings);
}

/** Every id, implied ones too, at any depth. */
function idsIn(nodes: TreeNode[]): string[] {
  return [...impliedIds(nodes), ...nodes.flatMap((node) => idsIn(node.nodes ?? []))];
}

/** Every id that is written and every name that is read, at any depth. */
function namesIn(nodes: TreeNode[]): string[] {
  return [...namesRead(nodes), ...walk(nodes).filter((visit) => visit.node.named).map((visit) => visit.node.id)];
}

/** Write other ids out where a place implies a name that is read, which then means another node. */
function keepUnread(nodes: TreeNode[]): void {
  const read = new Set(namesRead(nodes));
  for (;;) {
    const ids = impliedIds(nodes);
    const index = nodes.findIndex((node, place) => !node.named && read.has(ids[place]!));
    if (index < 0) return;
    Object.assign(nodes[index]!, { id: fresh(ids[index]!, new Set([...namesIn(nodes), ...ids])), named: true });
  }
}

/** What the group must read in writing, so that its nodes go on reading what they read; null for the node above. */
function entrance(siblings: TreeNode[], index: number, inner: TreeNode[]): string[] | null {
  const first = inner[0]!;
  const reads = first.inputs ?? (index ? [] : [INPUT]);
  if (!(reads.length === 1 && reads[0] === INPUT) && inner.some((node) => node.inputs?.includes(INPUT))) {
    if (!first.inputs) {
      const above = siblings[index - 1]!;
      above.named = true;
      first.inputs = [above.id];
    }
    return [INPUT];
  }
  if (first.inputs?.length !== 1) return null;
  if (has(inner, first.inputs[0]!)) return index ? [INPUT] : null;
  const { inputs } = first;
  first.inputs = null;
  return inputs;
}

/** Write ids out where the new group would imply others, and one of those is the name of what is read. */
function keepIds(inner: TreeNode[]): void {
  const read = new Set(namesRead(inner));
  const after = structuredClone(inner);
  nameImplied(after);
  if (after.some((node, place) => node.id !== inner[place]!.id && read.has(node.id))) for (const node of inner) node.named = true;
}

function isRead(nodes: TreeNode[], name: string): boolean {
  return nodes.some((node) => node.inputs?.includes(name) || (node.nodes && !has(node.nodes, name) && isRead(node.nodes, name)));
}

function has(nodes: TreeNode[], name: string): boolean {
  return nodes.some((node) => node.named && node.id === name);
}

/** Let nodes, and those in them that mean the same by it, read other names. */
export function renameInputs(nodes: TreeNode[], old: string, names: string[]): void {
  for (const node of nodes) {
    if (node.inputs?.includes(old)) {
      // One that is read already is not read once more; one that was read twice goes on being.
      const merged = node.inputs.flatMap((name) => (name === old ? names : [name]));
      node.inputs = node.inputs.some((name) => names.includes(name)) ? [...new Set(merged)] : merged;
    }
    if (node.nodes && !has(node.nodes, old)) renameInputs(node.nodes, old, names);
  }
}
