/** The tour of the Design page as data: what it points at, what it says, and where its card stands. */

export interface Step {
  name: string;
  title: string;
  words: string;
  /** Where on the page it is; the first of these that is there. */
  at: string[];
}

/** Six things, about a hundred words: under a minute. */
export const STEPS: Step[] = [
  { name: "palette", title: "Palette", at: [".hl-palette"], words: "Everything you can build with. Click a component to add it after the selected node, or drag it to a place. Key: A." },
  { name: "canvas", title: "Canvas", at: [".hl-flow"], words: "Your network, from top to bottom. Click a node to select it; draw a line from its lower edge to another's upper edge to connect them." },
  { name: "inspector", title: "Inspector", at: [".st-key-design-inspector"], words: "The settings of the selected node, or of the whole network. Every change can be undone with Ctrl+Z." },
  { name: "problems", title: "Problems", at: [".hl-problems .hl-problem-row[data-severity=error]", ".stMarkdownBadge", ".hl-problems"], words: "Says whether the design is right. What is wrong is listed under the canvas, with buttons that mend it." },
  { name: "costs", title: "Costs", at: [".st-key-design-totals"], words: "Size, memory and time of one training step, predicted anew after each edit, for the task and batch chosen here." },
  { name: "train", title: "Train", at: [".st-key-design-train"], words: "Starts a training with live curves. It goes on when you close the page. That is all: press ? on the canvas for the keys and this tour." },
];

export interface Area {
  left: number;
  top: number;
  width: number;
  height: number;
}

const GAP = 14;

/** Where a card of this size stands: beside what it speaks of, where there is room, and wholly within the window. */
export function beside(thing: Area, card: { width: number; height: number }, window: { width: number; height: number }): { left: number; top: number } {
  const right = thing.left + thing.width + GAP;
  const below = thing.top + thing.height + GAP;
  const inside = (value: number, size: number, all: number): number => Math.max(GAP, Math.min(value, all - size - GAP));
  const at = (left: number, top: number): { left: number; top: number } => ({ left: inside(left, card.width, window.width), top: inside(top, card.height, window.height) });
  if (right + card.width + GAP <= window.width) return at(right, thing.top);
  if (thing.left - card.width - GAP >= GAP) return at(thing.left - card.width - GAP, thing.top);
  if (below + card.height + GAP <= window.height) return at(thing.left, below);
  if (thing.top - card.height - GAP >= GAP) return at(thing.left, thing.top - card.height - GAP);
  return at(thing.left + thing.width - card.width - GAP, thing.top + thing.height - card.height - GAP);
}

/** Remembers in this browser that the tour was shown; null where the browser keeps nothing. */
export interface Memory {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

export const KEY = "hybridlab.tour";

/** Which step is shown, if any; a step whose thing is not on the page is passed over. */
export class Tour {
  step: number | null = null;
  private listeners = new Set<() => void>();

  constructor(
    private there: (step: Step) => boolean,
    private memory: Memory | null,
  ) {}

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  snapshot = (): number | null => this.step;

  /** Show the tour to whoever has not seen it in this browser; where nothing can be remembered, to nobody unasked. */
  first(): void {
    try {
      if (!this.memory || this.memory.getItem(KEY) !== null) return;
      this.memory.setItem(KEY, "seen");
      if (this.memory.getItem(KEY) === null) return;
    } catch {
      return;
    }
    this.start();
  }

  start(): void {
    this.go(0, 1);
  }

  next(): void {
    if (this.step !== null) this.go(this.step + 1, 1);
  }

  back(): void {
    if (this.step !== null) this.go(this.step - 1, -1);
  }

  end(): void {
    this.tell(null);
  }

  /** Whether a step before this one can be shown. */
  get begun(): boolean {
    return STEPS.slice(0, this.step ?? 0).some(this.there);
  }

  get last(): boolean {
    return this.step !== null && !STEPS.slice(this.step + 1).some(this.there);
  }

  private go(from: number, by: 1 | -1): void {
    let step = from;
    while (STEPS[step] && !this.there(STEPS[step]!)) step += by;
    if (STEPS[step]) this.tell(step);
    else if (by === 1) this.tell(null);
  }

  private tell(step: number | null): void {
    if (step === this.step) return;
    this.step = step;
    for (const listener of this.listeners) listener();
  }
}

/** The thing of a step on the page, as far as it is to be seen. */
export function thing(step: Step): HTMLElement | null {
  for (const place of step.at) {
    const found = document.querySelector<HTMLElement>(place);
    if (found?.getClientRects().length) return found;
  }
  return null;
}

function storage(): Memory | null {
  try {
    return localStorage;
  } catch {
    return null; // the browser forbids it
  }
}

export const tour = new Tour((step) => thing(step) !== null, storage());
