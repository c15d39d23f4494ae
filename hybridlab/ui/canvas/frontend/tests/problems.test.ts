import { describe, expect, it } from "vitest";
import { applyAll } from "../src/edits";
import { judge, type World } from "../src/legality";
import { acted } from "../src/problems";
import { Session } from "../src/session";
import type { Entry, TreeNode } from "../src/types";
import { CATALOGUE, said, tree } from "./world";

const concat: Entry = { ...CATALOGUE.find((each) => each.name === "sum")!, name: "concat", title: "concat" };
const world = (nodes: TreeNode[], flows: Record<string, string> = {}): World => ({
  nodes,
  catalogue: new Map([...CATALOGUE.map((each) => ({ ...each, ...(each.name === "sum" ? { kind: "merge" } : {}) })), concat].map((each) => [each.name, each])),
  flows: Object.fromEntries(Object.entries(flows).map(([ids, type]) => [ids, { type, bytes: null }])),
  input: "sequence (B, L, 64) float32",
});

describe("a line that cannot be", () => {
  it("says both shapes where the kinds differ", () => {
    const nodes = tree({ use: "attention" }, { use: "classifier", classes: 3 }, { use: "mamba2", inputs: ["attention"] });
    const verdict = judge(world(nodes, { classifier: "logits (B, 3) float32" }), "nodes[1]", "nodes[2]");
    expect(verdict).toMatchObject({ ok: false, why: "mamba2 reads sequence (B, L, D), but classifier gives logits (B, 3) float32." });
  });
  it("offers what the head reads in the head's place", () => {
    const nodes = tree({ use: "attention" }, { use: "classifier", classes: 3 }, { use: "mamba2", inputs: ["input"] });
    const verdict = judge(world(nodes, { classifier: "logits (B, 3) float32" }), "nodes[1]", "nodes[2]");
    expect(!verdict.ok && verdict.fixes).toMatchObject([{ label: "Connect attention, which the head reads", changes: [{ path: "nodes[2]", value: ["attention"] }] }, { label: expect.stringContaining("Sum") }]);
  });
  it("offers the group for a node inside it", () => {
    const nodes = tree({ id: "g", nodes: [{ use: "attention" }, { use: "swiglu" }] }, { use: "swiglu" }, { use: "mamba2" });
    const verdict = judge(world(nodes), "nodes[0].nodes[0]", "nodes[2]");
    expect(!verdict.ok && verdict.fixes).toMatchObject([{ label: "Connect the group g", changes: [{ path: "nodes[2]", value: ["g"] }] }, { label: "Connect the group g, and add both with a Sum" }]);
    const both = applyAll(nodes, verdict.ok ? [] : verdict.fixes[1]!.changes);
    expect(both[2]).toMatchObject({ use: "sum", inputs: ["swiglu", "g"] });
  });
  it("does not join branches of another width, but offers to put them side by side", () => {
    const nodes = tree({ use: "attention" }, { use: "swiglu", inputs: ["input"] }, { use: "sum", inputs: ["attention", "input"] });
    const flows = { attention: "sequence (B, L, 64) float32", swiglu: "sequence (B, L, 128) float32" };
    const verdict = judge(world(nodes, flows), "nodes[1]", "nodes[2]");
    expect(verdict).toMatchObject({ ok: false, why: expect.stringContaining("(B, L, 128)") });
    const after = applyAll(nodes, verdict.ok ? [] : verdict.fixes[0]!.changes);
    expect(after[2]).toMatchObject({ use: "concat", inputs: ["attention", "input", "swiglu"] });
    const joined = applyAll(nodes, [{ do: "replace", path: "nodes[2]", use: "concat", keep: [], give: {} }]);
    expect(judge(world(joined, flows), "nodes[1]", "nodes[2]")).toMatchObject({ ok: true });
  });
});

describe("fixes", () => {
  it("are shown at once and sent as one edit", () => {
    const session = new Session({ edits: () => undefined, selection: () => undefined, places: () => undefined, marks: () => undefined });
    session.receive(said(tree({ use: "attention", haeds: 8 })));
    session.edit([{ do: "set", path: "nodes[0]", key: "haeds", value: null }, { do: "set", path: "nodes[0]", key: "heads", value: 8 }, { do: "field", key: "width", value: 32 }]);
    expect(session.nodes[0]!.params).toEqual({ heads: 8 });
    expect(session.pending).toHaveLength(1);
  });
  it("decide between a component and a group", () => {
    const both = tree({ use: "attention", nodes: [{ use: "swiglu" }] });
    expect(applyAll(both, [{ do: "set", path: "nodes[0]", key: "use", value: null }])[0]).toMatchObject({ use: null, nodes: [{ use: "swiglu" }] });
    expect(applyAll(both, [{ do: "set", path: "nodes[0]", key: "nodes", value: null }])[0]).toMatchObject({ use: "attention", nodes: null });
  });
  it("select what they changed", () => {
    expect(acted([{ do: "set", path: "nodes[1]", key: "heads", value: 4 }])).toBe("nodes[1]");
    expect(acted([{ do: "insert", at: "nodes[1]", node: { use: "sum" } }, { do: "set", path: "nodes[2]", key: "inputs", value: null }])).toBe("nodes[1]");
    expect(acted([{ do: "remove", path: "nodes[1]" }])).toBeNull();
    expect(acted([{ do: "field", key: "width", value: 8 }])).toBeNull();
  });
  it("lead to a node inside a folded group", () => {
    const session = new Session({ edits: () => undefined, selection: () => undefined, places: () => undefined, marks: () => undefined });
    session.receive(said(tree({ id: "g", nodes: [{ use: "attention" }] })));
    const group = session.nodes[0]!;
    session.toggle(group.uid!);
    session.reveal(group.nodes![0]!.uid!);
    expect(session.collapsed.size).toBe(0);
    expect(session.selectedPaths()).toEqual(["nodes[0].nodes[0]"]);
    session.reveal(null);
    expect(session.selectedPaths()).toEqual([]);
  });
});
