import { describe, expect, it } from "vitest";
import { applyAll, carryUids } from "../src/edits";
import raw from "./cases.json?raw";
import { walk } from "../src/tree";
import type { Change, TreeNode } from "../src/types";
import { tree } from "./world";

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
  it("leaves a group unmade where Python refuses it: a node outside reads one that is not its last", () => {
    const nodes = tree({ id: "g", nodes: [{ use: "attention" }] }, { id: "s", use: "swiglu" }, { use: "sum", inputs: ["g", "s"] });
    expect(bare(applyAll(nodes, [{ do: "wrap", path: "nodes[0]", count: 2, repeat: 1 }]))).toEqual(bare(nodes));
  });
  it("leaves the tree it was given alone", () => {
    const { before, changes } = cases[3]!;
    const copy = structuredClone(before);
    applyAll(before, changes);
    expect(before).toEqual(copy);
  });
  it("lets nodes stay themselves when Python sends the same tree", () => {
    const first = carryUids([], structuredClone(cases[5]!.after));
    const again = carryUids(first, structuredClone(cases[5]!.after));
    expect(walk(again).map((visit) => visit.node.uid)).toEqual(walk(first).map((visit) => visit.node.uid));
    expect(new Set(walk(first).map((visit) => visit.node.uid)).size).toBe(walk(first).length);
  });
});
