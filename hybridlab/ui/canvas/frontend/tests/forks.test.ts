import { describe, expect, it } from "vitest";
import { applyAll } from "../src/edits";
import { beside, choosingMixers, earlyExit, expertChoice, forksOf, otherJoins, residual } from "../src/forks";
import { links } from "../src/tree";
import type { Entry, TreeNode } from "../src/types";
import { CATALOGUE, entryOf, tree } from "./world";

const chain = (): TreeNode[] => tree({ use: "attention", heads: 8 }, { use: "swiglu" }, { use: "mamba2" });
const forked = (): TreeNode[] => tree({ use: "attention" }, { use: "mamba2", inputs: ["input"] }, { use: "sum", inputs: ["attention", "mamba2"] });
const wiring = (nodes: TreeNode[]): string[] => links(nodes).map((link) => `${link.source}>${link.target}`);
const like = (name: string, from: string, more: Partial<Entry> = {}): Entry => ({ ...entryOf(from), name, title: name, ...more });
const ROUTED = [...CATALOGUE, like("routed_choice", "sum", { kind: "router" }), like("moe", "swiglu"), like("early_exit", "swiglu", { kind: "router", params: { outputs: { required: false, type: "integer" }, over: { required: false } } })];
const made = (nodes: TreeNode[], ...paths: string[]): TreeNode[] => {
  const gesture = expertChoice(nodes, paths, ROUTED);
  if (typeof gesture === "string") throw new Error(gesture);
  return applyAll(nodes, gesture.changes);
};

describe("forks", () => {
  it("adds a branch beside a node", () => {
    const nodes = chain();
    const after = applyAll(nodes, beside(nodes, entryOf("mamba2"), "nodes[1]").changes);
    expect(wiring(after)).toEqual([":in>nodes[0]", "nodes[0]>nodes[1]", "nodes[0]>nodes[2]", "nodes[1]>nodes[3]", "nodes[2]>nodes[3]", "nodes[3]>nodes[4]"]);
  });
  it("offers other joins for two branches", () => {
    const joins = [...CATALOGUE, { ...entryOf("sum"), name: "gated_sum", title: "Gated sum" }];
    const [offer, ...others] = otherJoins(joins, "nodes[2]");
    expect(others).toEqual([]);
    const nodes = applyAll(chain(), beside(chain(), entryOf("mamba2"), "nodes[1]").changes);
    const after = applyAll(nodes, offer!.changes);
    expect([after[3]!.use, after[3]!.inputs]).toEqual(["gated_sum", ["swiglu", "mamba2_2"]]);
  });
  it("adds what nodes read to what they give", () => {
    const made = residual(chain(), ["nodes[1]", "nodes[0]"]);
    if (typeof made === "string") throw new Error(made);
    expect(made.select).toBe("nodes[2]");
    const after = applyAll(chain(), made.changes);
    expect(wiring(after)).toEqual([":in>nodes[0]", "nodes[0]>nodes[1]", ":in>nodes[2]", "nodes[1]>nodes[2]", "nodes[2]>nodes[3]"]);
    const around = residual(forked(), ["nodes[0]"]);
    if (typeof around === "string") throw new Error(around);
    expect(wiring(applyAll(forked(), around.changes))).toEqual([":in>nodes[0]", ":in>nodes[1]", "nodes[0]>nodes[1]", ":in>nodes[2]", "nodes[1]>nodes[3]", "nodes[2]>nodes[3]"]);
    expect(residual(forked(), ["nodes[2]"])).toContain("reads 2 nodes");
    expect(residual(chain(), [])).toContain("Select");
  });
});

describe("an expert choice", () => {
  it("gives a single node a copy beside it, and one residual around the choice", () => {
    const nodes = chain();
    const gesture = expertChoice(nodes, ["nodes[1]"], ROUTED);
    if (typeof gesture === "string") throw new Error(gesture);
    expect(gesture.select).toBe("nodes[1].nodes[1]");
    const group = applyAll(nodes, gesture.changes)[1]!;
    expect([group.id, group.residual, group.inputs]).toEqual(["choice", "pre", null]);
    expect(group.nodes!.map((node) => [node.id, node.use, node.inputs, node.residual])).toEqual([
      ["swiglu", "swiglu", null, "none"],
      ["swiglu_2", "swiglu", ["input"], "none"],
      ["routed_choice", "routed_choice", ["swiglu", "swiglu_2"], null],
    ]);
  });
  it("lets several in a row all read what the first reads", () => {
    const after = made(tree({ use: "attention" }, { use: "swiglu" }, { id: "m", use: "mamba2" }, { use: "sum", inputs: ["m", "attention"] }), "nodes[2]", "nodes[1]");
    expect(wiring(after)).toEqual([
      ":in>nodes[0]", "nodes[0]>nodes[1]", "nodes[1]:in>nodes[1].nodes[0]", "nodes[1]:in>nodes[1].nodes[1]",
      "nodes[1].nodes[0]>nodes[1].nodes[2]", "nodes[1].nodes[1]>nodes[1].nodes[2]", "nodes[1]>nodes[2]", "nodes[0]>nodes[2]",
    ]);
    const branches = made(tree({ use: "swiglu" }, { use: "attention" }, { use: "mamba2", inputs: ["swiglu"] }), "nodes[1]", "nodes[2]");
    expect([branches[1]!.inputs, branches[1]!.nodes![1]!.inputs]).toEqual([null, ["input"]]);
  });
  it("puts a router in the place of the join that branches have", () => {
    expect(made(forked(), "nodes[0]", "nodes[1]").map((node) => node.use)).toEqual(["attention", "mamba2", "routed_choice"]);
  });
  it("says why where it cannot be", () => {
    for (const [nodes, paths, why] of [
      [chain(), [], "Select"],
      [chain(), ["nodes[0]", "nodes[2]"], "in a row"],
      [forked(), ["nodes[2]"], "sum is none"],
      [tree({ id: "a", use: "attention" }, { use: "swiglu" }, { use: "sum", inputs: ["a", "input"] }), ["nodes[0]", "nodes[1]"], "last node only"],
    ] as [TreeNode[], string[], string][]) expect(expertChoice(nodes, paths, ROUTED)).toContain(why);
  });
  it("offers the channel mixers that choose within themselves, for a single channel mixer", () => {
    const [offer, ...others] = choosingMixers(chain(), ["nodes[1]"], ROUTED);
    expect(others).toEqual([]);
    expect(offer).toMatchObject({ label: "moe in its place instead", changes: [{ do: "undo" }, { do: "replace", path: "nodes[1]", use: "moe" }] });
    expect(choosingMixers(chain(), ["nodes[0]"], ROUTED)).toEqual([]);
    expect(choosingMixers(chain(), ["nodes[0]", "nodes[1]"], ROUTED)).toEqual([]);
  });
});

describe("an early exit", () => {
  it("goes behind each selected node, readers following, as one edit", () => {
    const nodes = forked();
    const gesture = earlyExit(nodes, ["nodes[0]", "nodes[2]"], ROUTED, "logits (B, L, 256) float32");
    if (typeof gesture === "string") throw new Error(gesture);
    const after = applyAll(nodes, gesture.changes);
    expect(after.map((node) => node.use)).toEqual(["attention", "early_exit", "mamba2", "sum", "early_exit"]);
    expect(after[3]!.inputs).toEqual([after[1]!.id, "mamba2"]);
    expect([after[1]!.params, after[4]!.params]).toEqual(Array(2).fill({ outputs: 256, over: "position" }));
    expect(gesture.select).toBe("nodes[1]");
    expect(earlyExit(nodes, ["nodes[0]"], ROUTED, "logits (B, 10) float32")).toMatchObject({ changes: [{ node: { outputs: 10, over: "sequence" } }, {}] });
    expect(earlyExit(nodes, ["nodes[0]"], ROUTED, "")).toMatchObject({ changes: [{ node: { use: "early_exit" } }, {}] });
    expect(earlyExit(nodes, [], ROUTED, "")).toContain("Select");
  });
  it("is in the menu where the palette has it, and only there", () => {
    expect(forksOf(ROUTED).map((fork) => fork.way)).toEqual(["residual", "choice", "exit"]);
    expect(forksOf(CATALOGUE).map((fork) => fork.way)).toEqual(["residual"]);
  });
});
