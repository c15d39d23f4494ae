import { describe, expect, it } from "vitest";
import { Choice } from "../src/choice";
import { Telling, type Told } from "../src/telling";
import { OVERLAYS, digits, overlayOf, percent, reading, scale, silence, totals, type Overlay } from "../src/overlay";
import type { Cost } from "../src/types";

const cost = (ms: number, params = 10 * ms): Cost => ({ ms, params, flops: 1e6 * ms, activation_bytes: 1024 * ms });
const COSTS: Record<string, Cost> = { tokens: cost(1), stage: cost(8), "stage.attention": cost(2), "stage.moe": cost(6), head: cost(1) };
const of = (name: string): Overlay => overlayOf(name)!;
const live = (more: Partial<Told> = {}): Told => ({
  seed: "s", revision: 0,
  run: { id: "r", name: "mine", state: "running", task: "parity", step: 20, steps: 100 },
  values: { grad_norm: { tokens: 0.001, stage: 0.5, "stage.attention": 0.1, "stage.moe": 0.01 }, expert_load: { "stage.moe": [0.5, 0.25, 0.25, 0] } },
  ...more,
});

describe("what is predicted", () => {
  it("sums top nodes once, and takes the largest node that is no group", () => {
    expect(totals(COSTS, "ms")).toEqual({ total: 10, largest: 6 });
  });
  it("shows a value, its share of all, and the strength of the colour", () => {
    expect(reading(of("ms"), COSTS, null, "stage.attention")).toMatchObject({ text: "2 ms", note: "20 % of all", bar: 0.2, tint: 2 / 6 });
    expect(reading(of("flops"), COSTS, null, "tokens")!.text).toBe("1 MFLOP");
    expect(reading(of("activation_bytes"), COSTS, null, "tokens")!.text).toBe("1 KiB");
    expect(reading(of("params"), COSTS, null, "head")!.text).toBe("10");
  });
  it("shows a group's total, whose colour goes no further than the strongest", () => {
    expect(reading(of("ms"), COSTS, null, "stage")).toMatchObject({ text: "8 ms", note: "80 % of all", tint: 1 });
  });
  it("names the ends of the scale, and says why there is none", () => {
    expect(scale(of("ms"), COSTS, null)).toEqual({ low: "0 %", high: "60 % of 10.0 ms", log: false });
    expect(silence(of("ms"), COSTS, null)).toBeNull();
    expect(silence(of("ms"), {}, null)).toContain("once the design is valid");
    expect(reading(of("ms"), COSTS, null, "nobody")).toBeNull();
  });
  it("shows what has changed since the design was saved", () => {
    const changed = { stage: "changed: repeat 2 → 3" };
    expect(reading(of("changes"), COSTS, null, "stage", changed)).toMatchObject({ text: "changed: repeat 2 → 3", tint: 1 });
    expect(reading(of("changes"), COSTS, null, "head", changed)).toBeNull();
    expect([silence(of("changes"), COSTS, null, changed), silence(of("changes"), {}, null)]).toEqual([null, "Nothing here has changed."]);
  });
  it("copes with a design that costs nothing", () => {
    expect(reading(of("ms"), { sum: cost(0) }, null, "sum")).toMatchObject({ note: "0 % of all", bar: 0, tint: 0 });
  });
});

describe("what is measured", () => {
  it("colours by the logarithm between the smallest and the largest node", () => {
    const tints = ["tokens", "stage.moe", "stage.attention"].map((at) => reading(of("grad_norm"), COSTS, live(), at)!.tint);
    expect(tints[0]).toBeCloseTo(0.04);
    expect(tints[1]).toBeCloseTo(0.5);
    expect(tints[2]).toBeCloseTo(1);
    expect(scale(of("grad_norm"), COSTS, live())).toEqual({ low: "1.0e-3", high: "0.1", log: true });
  });
  it("shows a group's own value", () => {
    expect(reading(of("grad_norm"), COSTS, live(), "stage")).toMatchObject({ text: "0.5", note: "", tint: 1 });
  });
  it("shows energy that was shared out by time, and says so; or what is missing", () => {
    const measured = live({ values: { energy_j: { stage: 0.06, "stage.moe": 0.06 } }, why: {} });
    expect(reading(of("energy_j"), COSTS, measured, "stage.moe")!.text).toBe("60.0 mJ");
    expect(of("energy_j").unit).toContain("shared out by measured time");
    const absent = live({ why: { energy_j: "No energy was measured in this training: no counter." } });
    expect(silence(of("energy_j"), COSTS, absent)).toBe("No energy was measured in this training: no counter.");
    expect(silence(of("grad_norm"), COSTS, absent)).toBeNull();
  });
  it("shows experts as bars, coloured by how uneven they are", () => {
    const shown = reading(of("expert_load"), COSTS, live(), "stage.moe")!;
    expect(shown).toMatchObject({ text: "busiest 50 %", note: "even 25 %", experts: [1, 0.5, 0.5, 0] });
    expect(shown.tint).toBeCloseTo(1 / 3);
    const even = live({ values: { expert_load: { "stage.moe": [0.5, 0.5] } } });
    expect(reading(of("expert_load"), COSTS, even, "stage.moe")!.tint).toBe(0);
  });
  it("says what brings numbers where there are none", () => {
    const say = (name: string, more: Partial<Told> | null): string | null => silence(of(name), COSTS, more && live(more));
    const run = live().run!;
    expect(say("grad_norm", null)).toContain("Train this");
    expect(say("grad_norm", { run: null, values: {} })).toContain("Train this");
    expect(say("grad_norm", { values: {}, run: { ...run, state: "queued" } })).toContain("waits");
    expect(say("grad_norm", { values: {} })).toContain("in a moment");
    expect(say("grad_norm", { values: {}, run: { ...run, state: "done" } })).toContain("did not record");
    expect(say("expert_load", { values: { grad_norm: { tokens: 1 } } })).toContain("experts");
    expect(say("grad_norm", {})).toBeNull();
  });
  it("is shown by no node without a value", () => {
    expect(reading(of("grad_norm"), COSTS, live(), "head")).toBeNull();
    expect(reading(of("grad_norm"), COSTS, null, "tokens")).toBeNull();
  });
});

describe("numbers", () => {
  it("keep three digits however small", () => {
    expect([0, 0.0123456, 1.5, 123.456, 0.000012, 1e7].map(digits)).toEqual(["0", "0.0123", "1.5", "123", "1.2e-5", "1.0e7"]);
    expect([0, 0.004, 0.256, 1].map(percent)).toEqual(["0 %", "<1 %", "26 %", "100 %"]);
  });
});

describe("messages and choice", () => {
  it("takes messages by an event, and gives them to the canvas they are for", () => {
    const target = new EventTarget();
    const source = new Telling(target);
    let heard = 0;
    source.subscribe(() => (heard += 1));
    target.dispatchEvent(new CustomEvent("hybridlab:told", { detail: live() }));
    expect(heard).toBe(1);
    expect(source.of("s")!.run!.name).toBe("mine");
    expect(source.of("other")).toBeNull();
  });
  it("finds what was said before it began to listen", () => {
    const target = Object.assign(new EventTarget(), { __hybridlabTold: live() });
    expect(new Telling(target).of("s")).not.toBeNull();
  });
  it("goes through all overlays and back to none", () => {
    const choice = new Choice("");
    const seen = [...OVERLAYS, null].map(() => {
      choice.next();
      return choice.overlay?.name ?? null;
    });
    expect(seen).toEqual([...OVERLAYS.map((each) => each.name), null]);
    choice.choose("nonsense");
    expect(choice.overlay).toBeNull();
    expect(new Choice("flops").overlay!.title).toBe("FLOPs");
  });
});
