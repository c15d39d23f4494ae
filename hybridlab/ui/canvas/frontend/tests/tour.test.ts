import { describe, expect, it } from "vitest";
import { KEY, STEPS, Tour, beside, type Memory } from "../src/tour";

class Kept implements Memory {
  values = new Map<string, string>();
  getItem = (key: string): string | null => this.values.get(key) ?? null;
  setItem = (key: string, value: string): void => void this.values.set(key, value);
}
const names = (tour: Tour): string | null => (tour.step === null ? null : STEPS[tour.step]!.name);
const whole = (): Tour => new Tour(() => true, new Kept());

describe("the tour", () => {
  it("goes through the page in the order in which it is used, and is read in under a minute", () => {
    expect(STEPS.map((step) => step.name)).toEqual(["palette", "canvas", "inspector", "problems", "costs", "train"]);
    const words = STEPS.flatMap((step) => `${step.title} ${step.words}`.split(/\s+/));
    expect(words.length).toBeLessThan(160); // 200 a minute is a slow reader
  });
  it("is shown once in a browser, and again when asked for", () => {
    const memory = new Kept();
    const first = new Tour(() => true, memory);
    first.first();
    expect(names(first)).toBe("palette");
    expect(memory.getItem(KEY)).not.toBeNull();
    const later = new Tour(() => true, memory);
    later.first();
    expect(names(later)).toBeNull();
    later.start();
    expect(names(later)).toBe("palette");
  });
  it("is shown to nobody unasked where nothing can be remembered", () => {
    const refusing: Memory = {
      getItem: () => {
        throw new Error("forbidden");
      },
      setItem: () => undefined,
    };
    const forgetful: Memory = { getItem: () => null, setItem: () => undefined };
    for (const memory of [null, refusing, forgetful]) {
      const tour = new Tour(() => true, memory);
      tour.first();
      expect(names(tour)).toBeNull();
    }
  });
  it("goes forth and back, and ends behind the last step or at any time", () => {
    const tour = whole();
    tour.start();
    tour.next();
    expect([names(tour), tour.begun, tour.last]).toEqual(["canvas", true, false]);
    tour.back();
    tour.back();
    expect([names(tour), tour.begun]).toEqual(["palette", false]);
    for (let step = 0; step < STEPS.length - 1; step += 1) tour.next();
    expect([names(tour), tour.last]).toEqual(["train", true]);
    tour.next();
    expect(names(tour)).toBeNull();
    tour.start();
    tour.end();
    expect(names(tour)).toBeNull();
  });
  it("passes over what is not on the page", () => {
    const tour = new Tour((step) => ["canvas", "costs"].includes(step.name), new Kept());
    tour.start();
    expect([names(tour), tour.begun]).toEqual(["canvas", false]);
    tour.next();
    expect([names(tour), tour.last]).toEqual(["costs", true]);
    tour.back();
    expect(names(tour)).toBe("canvas");
    const nothing = new Tour(() => false, new Kept());
    nothing.start();
    expect(names(nothing)).toBeNull();
  });
});

describe("the card", () => {
  const window = { width: 1000, height: 800 };
  const card = { width: 300, height: 150 };
  it.each([
    ["right of a narrow thing", { left: 10, top: 200, width: 200, height: 500 }, { left: 224, top: 200 }],
    ["left of a thing at the right edge", { left: 700, top: 200, width: 290, height: 500 }, { left: 386, top: 200 }],
    ["below a broad thing", { left: 20, top: 100, width: 960, height: 80 }, { left: 20, top: 194 }],
    ["above a broad thing at the lower edge", { left: 20, top: 600, width: 960, height: 180 }, { left: 20, top: 436 }],
    ["inside what fills the window", { left: 0, top: 0, width: 1000, height: 800 }, { left: 686, top: 636 }],
  ])("stands %s", (_, thing, at) => expect(beside(thing, card, window)).toEqual(at));
  it("never leaves the window", () => {
    for (const left of [-500, 0, 500, 990]) {
      for (const top of [-500, 0, 400, 790]) {
        const at = beside({ left, top, width: 100, height: 100 }, card, window);
        expect(at.left).toBeGreaterThanOrEqual(0);
        expect(at.top).toBeGreaterThanOrEqual(0);
        expect(at.left + card.width).toBeLessThanOrEqual(window.width);
        expect(at.top + card.height).toBeLessThanOrEqual(window.height);
      }
    }
  });
});
