import { fromWritten } from "../src/edits";
import { nameImplied } from "../src/tree";
import type { Entry, FromPython, TreeNode, Value } from "../src/types";

const entry = (name: string, kind: string, more: Partial<Entry> = {}): Entry => ({
  name, kind, title: name, summary: "", cost: "linear", paper: "", accepts: ["sequence"], min_inputs: 1, max_inputs: 1, params: {}, ...more,
});
export const CATALOGUE: Entry[] = [
  entry("attention", "token_mixer", { cost: "quadratic", params: { heads: { required: false, type: "integer", minimum: 1, maximum: 64 } } }),
  entry("mamba2", "token_mixer", { params: { heads: { required: false, type: "integer", minimum: 1, maximum: 4 } } }),
  entry("swiglu", "channel_mixer"),
  entry("sum", "merge", { min_inputs: 2, max_inputs: null }),
  entry("patch_embedding", "input", { accepts: ["image"] }),
  entry("classifier", "head", { params: { classes: { required: true, type: "integer", minimum: 2 } } }),
];
export const BLOCKS: Entry[] = [
  entry("block:heads", "block", {
    title: "Two heads", summary: "attention, mamba2, sum", cost: "",
    node: { id: "heads", nodes: [{ id: "a", use: "attention" }, { id: "b", use: "mamba2", inputs: ["input"] }, { use: "sum", inputs: ["a", "b"] }] },
  }),
];
export const entryOf = (name: string): Entry => CATALOGUE.find((each) => each.name === name)!;

export function tree(...nodes: { [key: string]: Value }[]): TreeNode[] {
  const made = nodes.map(fromWritten);
  nameImplied(made);
  return made;
}

export function said(nodes: TreeNode[], more: Partial<FromPython> = {}): FromPython {
  return {
    seed: "s", revision: 0, acknowledged: {}, refused: [], readable: true, name: "test", nodes, supplied: [], costs_revision: 0,
    costs: {}, flows: {}, input: "", problems: [], hints: [], can_undo: false, can_redo: false, wish: { path: null, stamp: 1 }, places: {}, catalogue: CATALOGUE, kinds: {}, ...more,
  };
}
