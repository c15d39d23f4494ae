/** Paths in `share`: whom they name, and how they follow an edit, by the same rules as hybridlab/architecture/share_paths.py. */
import { address, nodeAt, steps, walk } from "./tree";
import type { TreeNode } from "./types";

/** Siblings, innermost first, each with the path from there to the first: "", "inner.", "outer.inner.". */
export type Scopes = { siblings: TreeNode[]; prefix: string }[];

/** The siblings of the node at an address, and those of every group around it. */
export function around(nodes: TreeNode[], path: string): Scopes {
  const found: Scopes = [{ siblings: nodes, prefix: "" }];
  for (const index of steps(path).slice(0, -1)) {
    const group = found[0]!.siblings[index]!;
    for (const scope of found) scope.prefix += `${group.id}.`;
    found.unshift({ siblings: group.nodes ?? [], prefix: "" });
  }
  return found;
}

/** Let nodes that share the weights of a node of the first of these scopes, or of one in it, name it anew. */
export function follow(scopes: Scopes, old: string, now: string): void {
  for (const { siblings, prefix } of scopes) {
    const path = `${prefix}${old}`;
    for (const node of meaning(siblings, path.split(".")[0]!)) {
      if (`${node.share ?? ""}.`.startsWith(`${path}.`)) node.share = `${prefix}${now}${node.share!.slice(path.length)}`;
    }
  }
}

/** What of a node of the first scope is shared somewhere: "" for the whole, "block.mix" for a part. */
export function shared(scopes: Scopes, name: string): string[] {
  return scopes.flatMap(({ siblings, prefix }) => {
    const path = `${prefix}${name}.`;
    const shares = meaning(siblings, path.split(".")[0]!).map((node) => `${node.share ?? ""}.`);
    return shares.filter((share) => share.startsWith(path)).map((share) => share.slice(path.length, -1));
  });
}

/** Nodes, and those in them that mean the same by a name. */
function meaning(nodes: TreeNode[], first: string): TreeNode[] {
  return nodes.flatMap((node) => [node, ...(node.nodes && !node.nodes.some((each) => each.id === first) ? meaning(node.nodes, first) : [])]);
}

/** The address of a node, and of those at its place in groups that share weights with a group around it. */
export function twins(nodes: TreeNode[], path: string): string[] {
  const pairs = walk(nodes).flatMap(({ node, path: here }): [string, string][] => {
    const lender = node.nodes && node.share ? named(nodes, here, node.share) : null;
    return lender ? [[here, lender]] : [];
  });
  const both = [...pairs, ...pairs.map(([one, other]): [string, string] => [other, one])];
  const found = [path];
  for (const here of found) {
    for (const [one, other] of both) {
      const twin = `${other}${here.slice(one.length)}`;
      if (here.startsWith(`${one}.`) && !found.includes(twin) && nodeAt(nodes, twin)?.id === nodeAt(nodes, path)!.id) found.push(twin);
    }
  }
  return found;
}

/** The address that a path of ids leads to, as it is found from beside the node at an address. */
function named(nodes: TreeNode[], path: string, share: string): string | null {
  const indices = steps(path).slice(0, -1);
  const [first, ...inward] = share.split(".");
  for (; ; indices.pop()) {
    const siblings = indices.length ? nodeAt(nodes, address(indices))!.nodes! : nodes;
    const index = siblings.findIndex((node) => node.id === first);
    if (index >= 0) {
      indices.push(index);
      break;
    }
    if (!indices.length) return null;
  }
  for (const name of inward) {
    const index = nodeAt(nodes, address(indices))!.nodes?.findIndex((node) => node.id === name) ?? -1;
    if (index < 0) return null;
    indices.push(index);
  }
  return address(indices);
}
