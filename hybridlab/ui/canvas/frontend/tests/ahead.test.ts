import { describe, expect, it } from "vitest";
import { Ahead } from "../src/ahead";
import type { Foreseen, Sent } from "../src/types";

const SENT: Sent = { client: "a", edits: [{ id: 1, base: 0, changes: [{ do: "undo" }], guards: [], select: null }], again: 0 };
const told = (edit: number): Response => new Response(JSON.stringify({ edit }), { status: 200 });

describe("asking ahead", () => {
  it("sends the seed and the edits, and takes the answer", async () => {
    const asked: [string, unknown][] = [];
    const taken: Foreseen[] = [];
    const ahead = new Ahead((address, init) => {
      asked.push([address, JSON.parse(String(init.body))]);
      return Promise.resolve(told(1));
    });
    await ahead.ask("/at", "seed", SENT, (each) => taken.push(each));
    expect(asked).toEqual([["/at", { seed: "seed", ...SENT }]]);
    expect(taken).toEqual([{ edit: 1 }]);
  });
  it("asks nothing where nobody answers or nothing is on its way", async () => {
    let asked = 0;
    const ahead = new Ahead(() => Promise.resolve(told((asked += 1))));
    await ahead.ask(null, "seed", SENT, () => undefined);
    await ahead.ask("/at", "seed", { ...SENT, edits: [] }, () => undefined);
    expect(asked).toBe(0);
  });
  it("takes only the answer to its newest question", async () => {
    const answers: ((answer: Response) => void)[] = [];
    const ahead = new Ahead(() => new Promise((done) => answers.push(done)));
    const taken: number[] = [];
    const questions = [1, 2].map(() => ahead.ask("/at", "seed", SENT, (each) => taken.push(each.edit)));
    answers[1]!(told(2));
    answers[0]!(told(1));
    await Promise.all(questions);
    expect(taken).toEqual([2]);
  });
  it("leaves it to the other way once no answer has come three times in a row", async () => {
    let asked = 0;
    const ahead = new Ahead(() => {
      asked += 1;
      return asked === 2 ? Promise.resolve(told(1)) : asked % 2 ? Promise.reject(new Error("lost")) : Promise.resolve(new Response("", { status: 502 }));
    });
    for (let times = 0; times < 9; times += 1) await ahead.ask("/at", "seed", SENT, () => undefined);
    expect(asked).toBe(5);
  });
  it("an answer without content is no failure", async () => {
    let asked = 0;
    const ahead = new Ahead(() => Promise.resolve(new Response(null, { status: ((asked += 1), 204) })));
    for (let times = 0; times < 5; times += 1) await ahead.ask("/at", "seed", SENT, () => expect.unreachable());
    expect(asked).toBe(5);
  });
});
