import { describe, expect, it } from "vitest";
import { append, disconnect, fits, ontoEdge, replaceBy, wrap, yamlOf } from "../src/compose";
import { applyAll } from "../src/edits";
import { BOX, column, layout, ranks } from "../src/layout";
import { judge, legalTargets, type World } from "../src/legality";
import { search } from "../src/Palette";
import { links } from "../src/tree";
import type { TreeNode } from "../src/types";
import { BLOCKS, CATALOGUE, entryOf, tree } from "./world";

const world = (nodes: TreeNode[], more: Partial<World> = {}): World =>
  ({ nodes, catalogue: new Map(CATALOGUE.map((each) => [each.name, each])), flows: {}, input: "sequence (B, L, 64) float32", ...more });
const chain = (): TreeNode[] => tree({ use: "attention", heads: 8 }, { use: "swiglu" }, { use: "mamba2" });
const forked = (): TreeNode[] => tree({ use: "attention" }, { use: "mamba2", inputs: ["input"] }, { use: "sum", inputs: ["attention", "mamba2"] });
const wiring = (nodes: TreeNode[]): string[] => links(nodes).map((link) => `${link.source}>${link.target}`);

describe("connections", () => {
  it("refuses circles, oneself and what is read already, and says why", () => {
    for (const [source, target, why] of [["nodes[2]", "nodes[0]", "circle"], ["nodes[1]", "nodes[1]", "itself"], ["nodes[0]", "nodes[1]", "already"]] as const) {
      const verdict = judge(world(chain()), source, target);
      expect(verdict.ok).toBe(false);
      expect(!verdict.ok && verdict.why).toContain(why);
    }
  });
  it("names both types where they do not fit, and offers what turns one into the other", () => {
    const verdict = judge(world(chain(), { input: "image (B, 1, 8, 8) float32" }), ":in", "nodes[1]");
    expect(verdict).toMatchObject({ ok: false, why: expect.stringContaining("image (B, 1, 8, 8) float32") });
    expect(!verdict.ok && verdict.fixes.map((fix) => fix.label)).toEqual(["Insert patch_embedding between them"]);
  });
  it("lets a join take one more, and offers a sum where there was one", () => {
    const more = judge(world([...forked()]), ":in", "nodes[2]");
    expect(more).toMatchObject({ ok: true, changes: [{ value: ["attention", "mamba2", "input"] }] });
    const instead = judge(world(chain()), "nodes[0]", "nodes[2]");
    expect(instead.ok && instead.offer?.label).toContain("Sum");
    const both = applyAll(chain(), instead.ok ? instead.offer!.changes : []);
    expect(wiring(both)).toEqual([":in>nodes[0]", "nodes[0]>nodes[1]", "nodes[1]>nodes[2]", "nodes[0]>nodes[2]", "nodes[2]>nodes[3]"]);
  });
  it("does not let the outside see into a group", () => {
    const nodes = tree({ id: "g", nodes: [{ use: "attention" }, { use: "swiglu" }] }, { use: "mamba2" });
    expect(judge(world(nodes), "nodes[0].nodes[0]", "nodes[1]")).toMatchObject({ ok: false, why: expect.stringContaining("another group") });
    expect(legalTargets(world(nodes), "nodes[0].nodes[0]")).toEqual(new Set());
  });
  it("keeps the reading of the last input", () => {
    expect(disconnect(forked(), "nodes[2]", "mamba2")).toMatchObject({ changes: [{ value: ["attention"] }] });
    expect(disconnect(chain(), "nodes[1]", "attention")).toContain("follows from the order");
  });
});

describe("gestures", () => {
  it("puts a component onto a line", () => {
    const nodes = forked();
    const after = applyAll(nodes, ontoEdge(nodes, entryOf("swiglu"), "nodes[1]", "nodes[2]", "mamba2").changes);
    expect(after[3]!.inputs).toEqual(["attention", "swiglu"]);
    expect(after[2]).toMatchObject({ use: "swiglu", inputs: null });
  });
  it("appends into the chain, also before an explicit reader", () => {
    const nodes = forked();
    const after = applyAll(nodes, append(nodes, entryOf("swiglu"), "nodes[0]").changes);
    expect(after[3]!.inputs).toEqual(["swiglu", "mamba2"]);
  });
  it("keeps parameters that fit when a node is replaced", () => {
    expect(replaceBy(chain(), entryOf("mamba2"), "nodes[0]").changes).toMatchObject([{ keep: [] }]);
    expect(replaceBy(tree({ use: "attention", heads: 4 }), entryOf("mamba2"), "nodes[0]").changes).toMatchObject([{ keep: ["heads"] }]);
    expect(replaceBy(chain(), entryOf("classifier"), "nodes[2]").changes).toMatchObject([{ give: { classes: 10 } }]);
    expect(fits({ required: false, type: "integer" }, 1.5)).toBe(false);
  });
  it("groups what stands in a row and says why not otherwise", () => {
    expect(wrap(chain(), ["nodes[0]", "nodes[2]"], 1)).toContain("in a row");
    expect(wrap(forked(), ["nodes[0]", "nodes[1]"], 1)).toContain("last node only");
    expect(wrap(chain(), ["nodes[0]", "nodes[1]"], 2)).toMatchObject({ changes: [{ count: 2, repeat: 2 }] });
  });
  it("puts a saved block in like a component, with an id of its own", () => {
    const block = BLOCKS[0]!;
    const nodes = tree({ id: "heads", use: "attention" }, { use: "swiglu", inputs: ["heads"] });
    const behind = applyAll(nodes, append(nodes, block, "nodes[1]").changes);
    expect(behind[2]).toMatchObject({ id: "heads_2", inputs: null, nodes: [{ id: "a" }, { id: "b" }, { inputs: ["a", "b"] }] });
    const between = applyAll(nodes, ontoEdge(nodes, block, "nodes[0]", "nodes[1]", "heads").changes);
    expect(between.map((node) => [node.id, node.inputs])).toEqual([["heads", null], ["heads_2", null], ["swiglu", ["heads_2"]]]);
    expect(block.node!.id).toBe("heads");
  });
  it("puts a block in a node's place: it reads what that read, and is read by who read that", () => {
    const nodes = tree({ use: "attention" }, { id: "old", use: "mamba2", inputs: ["input"] }, { use: "sum", inputs: ["attention", "old"] }, { id: "g", nodes: [{ use: "swiglu", inputs: ["old"] }] });
    const { changes, select } = replaceBy(nodes, BLOCKS[0]!, "nodes[1]");
    const after = applyAll(nodes, changes);
    expect(select).toBe("nodes[1]");
    expect(after.map((node) => node.id)).toEqual(["attention", "heads", "sum", "g"]);
    expect([after[1]!.inputs, after[2]!.inputs, after[3]!.nodes![0]!.inputs]).toEqual([["input"], ["attention", "heads"], ["heads"]]);
  });
  it("finds blocks first, and by what they hold", () => {
    expect(search([...BLOCKS, ...CATALOGUE], "")[0]!.name).toBe("block:heads");
    expect(search([...BLOCKS, ...CATALOGUE], "two heads").map((each) => each.name)).toEqual(["block:heads"]);
  });
  it("copies as YAML that quotes what must be quoted", () => {
    expect(yamlOf(tree({ id: "x", use: "attention", note: "a: #b", on: "yes" }), ["nodes[0]"])).toBe('- {id: x, use: attention, note: "a: #b", "on": "yes"}\n');
  });
  it("finds entries by any word", () => {
    expect(search(CATALOGUE, "quadratic").map((each) => each.name)).toEqual(["attention"]);
    expect(search(CATALOGUE, "nothing like it")).toEqual([]);
  });
});

describe("layout", () => {
  it("puts a sequence where dagre puts it", () => {
    const sizes = new Map([[":in", BOX], ["nodes[0]", { width: 300, height: 210 }], ["nodes[1]", BOX], [":out", { width: 190, height: 30 }]]);
    const ids = [...sizes.keys()];
    const lines = ids.slice(1).map((id, place): [string, string] => [ids[place]!, id]);
    expect(column(sizes, lines)).toEqual(ranks(sizes, lines));
    expect(column(sizes, [...lines.slice(1), lines[0]!])).toBeNull();
    expect(column(sizes, [...lines, ["nodes[0]", ":out"]])).toBeNull();
  });
  const at = (nodes: TreeNode[], places = new Map<string, [number, number]>()): ReturnType<typeof layout> =>
    layout({ nodes, collapsed: new Set(), places, first: true, last: true });
  it("stands branches beside each other and readers below", () => {
    const rects = at(forked());
    expect(rects.get("nodes[0]")!.y).toBe(rects.get("nodes[1]")!.y);
    expect(rects.get("nodes[2]")!.y).toBeGreaterThan(rects.get("nodes[0]")!.y);
  });
  it("holds a group's nodes inside it, and keeps what the user placed", () => {
    const nodes = tree({ id: "g", nodes: [{ use: "attention" }, { use: "swiglu" }] }, { use: "mamba2" });
    const rects = at(nodes, new Map([[nodes[0]!.nodes![1]!.uid!, [400, 500]]]));
    const group = rects.get("nodes[0]")!;
    for (const inner of ["nodes[0].nodes[0]", "nodes[0].nodes[1]"]) {
      expect(rects.get(inner)!.x + rects.get(inner)!.width).toBeLessThanOrEqual(group.width);
      expect(rects.get(inner)!.y + rects.get(inner)!.height).toBeLessThanOrEqual(group.height);
    }
    expect(rects.get("nodes[0].nodes[1]")).toMatchObject({ x: 400, y: 500 });
  });
});
