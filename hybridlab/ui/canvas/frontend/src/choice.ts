/** Which overlay the canvas shows: the browser's own choice, kept from one visit to the next. */
import { OVERLAYS, overlayOf, type Overlay } from "./overlay";

const KEY = "hybridlab.canvas.overlay";

/** Storage may be forbidden by the browser; the choice then lasts as long as the page. */
function stored(): string {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

export class Choice {
  overlay: Overlay | null;
  private listeners = new Set<() => void>();

  constructor(begin = stored()) {
    this.overlay = overlayOf(begin);
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  snapshot = (): Overlay | null => this.overlay;

  choose(name: string): void {
    this.overlay = overlayOf(name);
    try {
      localStorage.setItem(KEY, this.overlay?.name ?? "");
    } catch {
      // see stored()
    }
    for (const listener of this.listeners) listener();
  }

  /** The next overlay, and none after the last. */
  next(): void {
    const at = this.overlay ? OVERLAYS.indexOf(this.overlay) + 1 : 0;
    this.choose(OVERLAYS[at]?.name ?? "");
  }
}

export const choice = new Choice();
