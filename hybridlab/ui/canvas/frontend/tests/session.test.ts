import { beforeEach, describe, expect, it } from "vitest";
import { Session } from "../src/session";
import type { Entry, Foreseen, Sent } from "../src/types";
import { BLOCKS, said, tree } from "./world";

const A = tree({ use: "attention" });
const AB = tree({ use: "attention" }, { use: "mamba2" });
const ABC = tree({ use: "attention" }, { use: "mamba2" }, { use: "swiglu" });
let sent: Sent[] = [];
let session: Session;
const uses = (): (string | null)[] => session.nodes.map((node) => node.use);

beforeEach(() => {
  sent = [];
  session = new Session({ edits: (each) => sent.push(structuredClone(each)), selection: () => undefined, places: () => undefined, marks: () => undefined });
  session.receive(said(structuredClone(A)));
});

describe("a session", () => {
  it("shows an edit at once and sends it with its revision", () => {
    session.edit([{ do: "insert", at: "nodes[1]", node: { use: "mamba2" } }], "nodes[1]");
    expect(uses()).toEqual(["attention", "mamba2"]);
    expect(sent.at(-1)!.edits).toMatchObject([{ id: 1, base: 0, select: "nodes[1]" }]);
    expect([...session.selected]).toEqual([session.nodes[1]!.uid]);
  });
  it("keeps newer edits when a late answer comes", () => {
    session.edit([{ do: "insert", at: "nodes[1]", node: { use: "mamba2" } }]);
    session.edit([{ do: "insert", at: "nodes[2]", node: { use: "swiglu" } }]);
    session.receive(said(structuredClone(AB), { revision: 1, acknowledged: { [session.client]: 1 } }));
    expect(uses()).toEqual(["attention", "mamba2", "swiglu"]);
    expect(session.pending.map((edit) => edit.id)).toEqual([2]);
    session.receive(said(structuredClone(ABC), { revision: 2, acknowledged: { [session.client]: 2 } }));
    expect(session.pending).toEqual([]);
    expect(uses()).toEqual(["attention", "mamba2", "swiglu"]);
  });
  it("knows which edits Python has before the design that they make comes", () => {
    session.edit([{ do: "insert", at: "nodes[1]", node: { use: "mamba2" } }]);
    session.edit([{ do: "insert", at: "nodes[2]", node: { use: "swiglu" } }]);
    session.hear(1);
    expect([session.unsaved, session.pending.length]).toEqual([1, 2]);
    session.hear(0);
    expect(session.unsaved).toBe(1);
    expect(uses()).toEqual(["attention", "mamba2", "swiglu"]);
  });
  it("selects what was pasted when Python has made it, not what stood there before", () => {
    session.receive(said(structuredClone(AB), { revision: 1 }));
    session.select([session.nodes[0]!.uid!]);
    session.edit([{ do: "paste", at: "nodes[1]", yaml: "- {use: swiglu}" }], "nodes[1]");
    expect(session.selectedPaths()).toEqual(["nodes[0]"]);
    const pasted = tree({ use: "attention" }, { use: "swiglu" }, { use: "mamba2" });
    session.receive(said(pasted, { revision: 2, acknowledged: { [session.client]: 1 } }));
    expect(session.selectedPaths()).toEqual(["nodes[1]"]);
    expect(session.nodes[1]!.use).toBe("swiglu");
  });
  it("takes Python's selection at the start, and later only what somebody else chose", () => {
    const two = tree({ use: "attention" }, { use: "mamba2" });
    session.receive(said(structuredClone(two), { revision: 1 }));
    session.select(session.nodes.map((node) => node.uid!));
    session.receive(said(structuredClone(two), { revision: 1, wish: { path: "nodes[0]", stamp: 1 } }));
    expect(session.selected.size).toBe(2);
    session.receive(said(structuredClone(two), { revision: 1, wish: { path: "nodes[0]", stamp: 2 } }));
    expect(session.selectedPaths()).toEqual(["nodes[0]"]);
  });
  it("shows what Python foresees of its newest edit until the edit is made", () => {
    const told = (edit: number, params: number): Foreseen => {
      const { supplied, flows, input, problems, hints, readable, name } = said([]);
      const costs = { attention: { params, flops: 0, activation_bytes: 0, ms: 0 } };
      return { seed: session.data!.seed, edit, costs, supplied, flows, input, problems, hints, readable, name, changed: {} };
    };
    const params = (): number | undefined => session.data!.costs["attention"]?.params;
    session.edit([{ do: "insert", at: "nodes[1]", node: { use: "mamba2" } }]);
    session.edit([{ do: "insert", at: "nodes[2]", node: { use: "swiglu" } }]);
    session.foresee(told(1, 11));
    expect([session.stale, params()]).toEqual([true, undefined]);
    session.foresee(told(2, 22));
    expect([session.stale, params(), session.pending.length]).toEqual([false, 22, 2]);
    session.receive(said(structuredClone(AB), { revision: 1, costs_revision: 1, acknowledged: { [session.client]: 1 } }));
    expect([session.stale, params()]).toEqual([false, 22]);
    session.edit([{ do: "remove", path: "nodes[0]" }]);
    expect(session.stale).toBe(true);
    session.receive(said(structuredClone(AB), { revision: 3, costs_revision: 3, acknowledged: { [session.client]: 3 } }));
    expect([session.stale, params()]).toEqual([false, undefined]);
  });
  it("keeps the palette's blocks the same object until one comes or goes", () => {
    const say = (revision: number, blocks: Entry[]): void => void session.receive(said(structuredClone(A), { revision, blocks: structuredClone(blocks) }));
    say(1, BLOCKS);
    const before = session.data!.blocks;
    expect(before).toEqual(BLOCKS);
    say(2, BLOCKS);
    expect(session.data!.blocks).toBe(before);
    say(3, []);
    expect(session.data!.blocks).toEqual([]);
  });
  it("ignores an answer older than the one it has", () => {
    session.receive(said(structuredClone(AB), { revision: 2 }));
    session.receive(said(structuredClone(A), { revision: 1 }));
    expect(uses()).toEqual(["attention", "mamba2"]);
  });
  it("sends again what was not acknowledged, as a new message", () => {
    session.edit([{ do: "duplicate", path: "nodes[0]" }]);
    session.send(true);
    expect(sent[1]!.edits).toEqual(sent[0]!.edits);
    expect(sent[1]!.again).not.toBe(sent[0]!.again);
  });
  it("takes back a bulk edit as one step, even before Python has it", () => {
    session.edit([{ do: "duplicate", path: "nodes[0]" }, { do: "duplicate", path: "nodes[0]" }]);
    expect(uses()).toHaveLength(3);
    session.undo();
    expect(uses()).toEqual(["attention"]);
  });
  it("says why an edit was refused, once, and shows the text as it is", () => {
    session.edit([{ do: "remove", path: "nodes[0]" }]);
    const refused = [{ client: session.client, id: 1, sentence: "no" }];
    session.receive(said(structuredClone(A), { acknowledged: { [session.client]: 1 }, refused }));
    expect(session.notice).toBe("no");
    expect(uses()).toEqual(["attention"]);
    session.say(null);
    session.receive(said(structuredClone(A), { acknowledged: { [session.client]: 1 }, refused }));
    expect(session.notice).toBeNull();
  });
  it("undoes and redoes where a node was put", () => {
    const uid = session.nodes[0]!.uid!;
    session.place(new Map([[uid, [5, 6]]]));
    session.place(new Map([[uid, [7, 8]]]));
    session.undo();
    expect(session.places.get(uid)).toEqual([5, 6]);
    session.redo();
    expect(session.places.get(uid)).toEqual([7, 8]);
    expect(sent).toEqual([]);
  });
  it("starts anew with another design", () => {
    session.edit([{ do: "duplicate", path: "nodes[0]" }]);
    expect(session.receive(said(structuredClone(ABC), { seed: "other" }))).toBe(true);
    expect(uses()).toEqual(["attention", "mamba2", "swiglu"]);
    expect(session.pending).toEqual([]);
  });
  it("keeps a node's own name and place while others come and go around it", () => {
    const uid = session.nodes[0]!.uid!;
    session.edit([{ do: "insert", at: "nodes[0]", node: { use: "mamba2" } }]);
    expect(session.nodes[1]!.uid).toBe(uid);
    session.receive(said(tree({ use: "mamba2" }, { use: "attention" }), { revision: 1, acknowledged: { [session.client]: 1 } }));
    expect(session.nodes[1]!.uid).toBe(uid);
  });
});

describe("marks of a search", () => {
  it("shows a mark at once, sends all that Python has not, and forgets them when it has", () => {
    const told: Record<string, boolean>[] = [];
    const here = new Session({ edits: () => undefined, selection: () => undefined, places: () => undefined, marks: (_, wanted) => told.push(wanted) });
    here.receive(said(structuredClone(AB), { varies: { attention: "Heads" } }));
    expect(here.varies("attention")).toBe("Heads");
    here.vary(["attention"], false);
    here.vary(["mamba2"], true);
    expect([here.varies("attention"), here.varies("mamba2")]).toEqual([null, ""]);
    expect(told.at(-1)).toEqual({ attention: false, mamba2: true });
    here.receive(said(structuredClone(AB), { varies: { attention: "Heads", mamba2: "State" } }));
    expect([here.varies("attention"), here.varies("mamba2")]).toEqual([null, "State"]);
    here.receive(said(structuredClone(AB), { varies: { mamba2: "State" } }));
    here.receive(said(structuredClone(AB), { varies: { attention: "Heads" } }));
    expect([here.varies("attention"), here.varies("mamba2")]).toEqual(["Heads", null]);
    expect(here.pending).toEqual([]);
  });
});
