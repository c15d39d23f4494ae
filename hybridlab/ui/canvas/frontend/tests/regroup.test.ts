import { describe, expect, it } from "vitest";
import { applyAll } from "../src/edits";
import { into, landing, type Area } from "../src/regroup";
import { nodeAt } from "../src/tree";
import type { TreeNode } from "../src/types";
import { tree } from "./world";

const box = (x: number, y: number): { x: number; y: number; width: number; height: number } => ({ x, y, width: 200, height: 80 });
const GROUPS: Area[] = [
  { path: "nodes[1]", x: 0, y: 100, width: 300, height: 400 },
  { path: "nodes[1].nodes[1]", x: 20, y: 300, width: 260, height: 150 },
];
const nested = (): TreeNode[] =>
  tree(
    { use: "attention" },
    { id: "g", nodes: [{ use: "swiglu" }, { id: "inner", nodes: [{ use: "mamba2", heads: 2 }, { use: "swiglu" }] }] },
    { use: "mamba2", inputs: ["attention"] },
  );
const outline = (nodes: TreeNode[]): string => nodes.map((node) => (node.nodes ? `${node.id}(${outline(node.nodes)})` : node.use)).join(" ");
const after = (path: string, group: string, nodes = nested()): { outline: string; selected: string | null; nodes: TreeNode[] } => {
  const gesture = into(nodes, path, group);
  const made = applyAll(nodes, gesture.changes);
  return { outline: outline(made), selected: nodeAt(made, gesture.select!)?.use ?? null, nodes: made };
};

describe("where a dragged node lands", () => {
  it("goes into the innermost group under its middle", () => {
    expect(landing("nodes[0]", box(50, 150), GROUPS)).toBe("nodes[1]");
    expect(landing("nodes[0]", box(50, 330), GROUPS)).toBe("nodes[1].nodes[1]");
    expect(landing("nodes[0]", box(600, 150), GROUPS)).toBeNull();
  });
  it("leaves a group only when it no longer touches it", () => {
    expect(landing("nodes[1].nodes[0]", box(260, 150), GROUPS)).toBeNull();
    expect(landing("nodes[1].nodes[0]", box(320, 150), GROUPS)).toBe("");
    expect(landing("nodes[1].nodes[1].nodes[0]", box(40, 190), GROUPS)).toBe("nodes[1]");
    expect(landing("nodes[1].nodes[1].nodes[0]", box(40, 260), GROUPS)).toBeNull();
  });
  it("does not put a group into itself", () => {
    expect(landing("nodes[1]", { x: 0, y: 100, width: 300, height: 400 }, GROUPS)).toBeNull();
  });
});

describe("moving between groups", () => {
  it("puts a node at the end of a group, with its parameters", () => {
    expect(after("nodes[0]", "nodes[1]").outline).toBe("g(swiglu inner(mamba2 swiglu) attention) mamba2");
    expect(after("nodes[1].nodes[1].nodes[0]", "nodes[1]")).toMatchObject({ outline: "attention g(swiglu inner(swiglu) mamba2) mamba2", selected: "mamba2" });
    expect(nodeAt(after("nodes[1].nodes[1].nodes[0]", "nodes[1]").nodes, "nodes[1].nodes[2]")!.params).toEqual({ heads: 2 });
  });
  it("puts a node behind the group it leaves, and takes the group along that is left empty", () => {
    expect(after("nodes[1].nodes[0]", "")).toMatchObject({ outline: "attention g(inner(mamba2 swiglu)) swiglu mamba2", selected: "swiglu" });
    const single = tree({ id: "g", nodes: [{ use: "attention" }] }, { use: "mamba2" });
    expect(after("nodes[0].nodes[0]", "", single)).toMatchObject({ outline: "attention mamba2", selected: "attention" });
  });
  it("keeps inputs that can be seen from there and drops the others", () => {
    expect(nodeAt(after("nodes[2]", "nodes[1]").nodes, "nodes[1].nodes[2]")!.inputs).toEqual(["attention"]);
    const forked = tree({ id: "g", nodes: [{ id: "a", use: "attention" }, { use: "mamba2", inputs: ["a"] }] }, { use: "swiglu" });
    expect(nodeAt(after("nodes[0].nodes[1]", "", forked).nodes, "nodes[1]")!.inputs).toBeNull();
  });
  it("gives a name that is taken there another number", () => {
    const twins = tree({ id: "a", use: "attention" }, { id: "g", nodes: [{ id: "a", use: "mamba2" }] });
    expect(nodeAt(after("nodes[0]", "nodes[1]", twins).nodes, "nodes[0].nodes[1]")!.id).toBe("a_2");
  });
});
