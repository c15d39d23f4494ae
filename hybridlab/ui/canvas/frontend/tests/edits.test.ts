import { describe, expect, it } from "vitest";
import { applyAll, carryUids } from "../src/edits";
import raw from "./cases.json?raw";
import { walk } from "../src/tree";
import type { Change, TreeNode } from "../src/types";

interface Case {
  before: TreeNode[];
  changes: Change[];
  after: TreeNode[];
}
const cases = JSON.parse(raw) as Case[];

const bare = (nodes: TreeNode[]): unknown =>
  JSON.parse(JSON.stringify(nodes, (key, value: unknown) => (key === "uid" ? undefined : value)));

describe("edits", () => {
  it("has cases to be judged by", () => expect(cases.length).toBeGreaterThan(100));
  it.each(cases.map((each, index) => [index, each] as const))("makes what Python makes of case %i", (_, { before, changes, after }) => {
    expect(bare(applyAll(before, changes))).toEqual(bare(after));
  });
  it("leaves the tree it was given alone", () => {
    const { before, changes } = cases[3]!;
    const copy = structuredClone(before);
    applyAll(before, changes);
    expect(before).toEqual(copy);
  });
  it("lets nodes stay themselves when Python sends the same tree", () => {
    const tree = carryUids([], structuredClone(cases[5]!.after));
    const again = carryUids(tree, structuredClone(cases[5]!.after));
    expect(walk(again).map((visit) => visit.node.uid)).toEqual(walk(tree).map((visit) => visit.node.uid));
    expect(new Set(walk(tree).map((visit) => visit.node.uid)).size).toBe(walk(tree).length);
  });
});
