/** What Python says beside the design: which edits it has, what a training measured. It comes by an event of the window. */

export interface Training {
  id: string;
  name: string;
  state: string;
  task: string;
  /** The step of the newest values. */
  step: number;
  steps: number;
}

export interface Measured {
  run: Training | null;
  /** By quantity and address; an expert load is a list of shares. */
  values: Record<string, Record<string, number | number[]>>;
  /** By quantity, what is missing, as a sentence. */
  why?: Record<string, string>;
}

export interface Told extends Measured {
  /** The canvas this is meant for. */
  seed: string;
  revision: number;
  /** By canvas, the newest edit that Python has. */
  acknowledged?: Record<string, number>;
  /** When it came to Python, in milliseconds since 1970. */
  taken_ms?: number;
}

const EVENT = "hybridlab:told";

/** Holds the newest message and tells those who show it. */
export class Telling {
  private newest: Told | null = null;
  private listeners = new Set<() => void>();

  constructor(target: (EventTarget & { __hybridlabTold?: Told }) | null) {
    this.newest = target?.__hybridlabTold ?? null;
    target?.addEventListener(EVENT, (event) => this.take((event as CustomEvent<Told>).detail));
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** What was said to this canvas; null before the first message. */
  of(seed: string): Told | null {
    return this.newest?.seed === seed ? this.newest : null;
  }

  take(message: Told): void {
    this.newest = message;
    for (const listener of this.listeners) listener();
  }
}

export const telling = new Telling(typeof window === "undefined" ? null : window);
