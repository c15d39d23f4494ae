import { describe, expect, it } from "vitest";
import { firstView } from "../src/firstView";

const box = (x: number, y: number, width = 200, height = 80): { position: { x: number; y: number }; width: number; height: number } => ({ position: { x, y }, width, height });
const PANE = { width: 800, height: 600 };

describe("the first view", () => {
  it("has what fits in the middle, no larger than life by much", () => {
    const { x, y, zoom } = firstView([box(100, 50), { ...box(900, 900), parentId: "inside" }], PANE);
    expect(zoom).toBe(1.05);
    expect([x + 200 * zoom, y + 90 * zoom]).toEqual([400, 300]);
  });
  it("begins at the top of what is too long, large enough to read", () => {
    const { x, y, zoom } = firstView([box(0, 40), box(0, 5_000)], PANE);
    expect([zoom, y + 40 * zoom, x + 100 * zoom]).toEqual([0.72, 20, 400]);
  });
  it("looks somewhere where there is nothing", () => {
    expect(firstView([], PANE)).toEqual({ x: 0, y: 0, zoom: 1 });
  });
});
