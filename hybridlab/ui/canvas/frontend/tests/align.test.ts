import { describe, expect, it } from "vitest";
import { aligned, type Standing } from "../src/align";

const at = (uid: string, x: number, y: number, more: Partial<Standing> = {}): Standing => ({ uid, path: `nodes[${uid.slice(1)}]`, x, y, width: 200, height: 80, ...more });

describe("aligning", () => {
  it("puts middles on the line of the topmost node, and keeps the distance along it", () => {
    expect(aligned([at("n1", 50, 300), at("n0", 10, 0), at("n2", 0, 500, { width: 300 })], "column")).toEqual(new Map([["n0", [10, 0]], ["n1", [10, 300]], ["n2", [-40, 500]]]));
  });
  it("puts nodes beside each other without covering any", () => {
    expect(aligned([at("n0", 0, 10), at("n1", 50, 40)], "row")).toEqual(new Map([["n0", [0, 10]], ["n1", [224, 10]]]));
  });
  it("keeps the order of a stack that becomes a row", () => {
    const row = aligned([at("n0", 0, 0), at("n1", 60, 100), at("n2", 10, 200)], "row");
    expect(row).toEqual(new Map([["n0", [0, 0]], ["n1", [224, 0]], ["n2", [448, 0]]]));
  });
  it("says why it cannot", () => {
    expect(aligned([at("n0", 0, 0)], "row")).toContain("two or more");
    expect(aligned([at("n0", 0, 0), at("n1", 0, 0, { path: "nodes[2].nodes[0]" })], "row")).toContain("one group");
  });
});
