/** Dragging from the palette with pointer events, which fingers and pens have too. */
import { useEffect, useRef, useState, type RefObject } from "react";
import type { Entry } from "./types";

export interface Drop {
  /** Address of the node under the pointer. */
  node: string | null;
  /** React Flow's id of the line under the pointer. */
  edge: string | null;
  x: number;
  y: number;
}
interface Running {
  entry: Entry;
  from: [number, number];
  moved: boolean;
}

export function usePaletteDrag(
  wrapper: RefObject<HTMLDivElement | null>,
  pathOf: (id: string) => string,
  onDrop: (entry: Entry, at: Drop) => void,
  onClick: (entry: Entry) => void,
): { start(entry: Entry, event: React.PointerEvent): void; ghost: React.ReactNode } {
  const [at, setAt] = useState<{ entry: Entry; x: number; y: number; say: string } | null>(null);
  const running = useRef<Running | null>(null);
  const ways = useRef({ pathOf, onDrop, onClick });
  ways.current = { pathOf, onDrop, onClick };
  useEffect(() => {
    const clear = (): void => {
      for (const each of wrapper.current?.querySelectorAll(".hl-over") ?? []) each.classList.remove("hl-over");
    };
    const under = (x: number, y: number): { drop: Drop; inside: boolean; element: Element | null } => {
      const stack = document.elementsFromPoint(x, y);
      const inside = stack.some((each) => each.classList.contains("hl-flow"));
      const wire = stack.map((each) => each.closest(".react-flow__edge")).find(Boolean) ?? null;
      const node = stack.map((each) => each.closest<HTMLElement>(".hl-box[data-path], .hl-group[data-path]")).find(Boolean) ?? null;
      const onBox = node?.classList.contains("hl-box") && !node.classList.contains("hl-supplied");
      if (onBox) return { drop: { node: node!.dataset.path!, edge: null, x, y }, inside, element: node };
      if (wire) return { drop: { node: null, edge: wire.getAttribute("data-id"), x, y }, inside, element: wire };
      return { drop: { node: node?.classList.contains("hl-group") ? node.dataset.path! : null, edge: null, x, y }, inside, element: node?.classList.contains("hl-group") ? node : null };
    };
    const move = (event: PointerEvent): void => {
      const now = running.current;
      if (!now) return;
      if (!now.moved && Math.hypot(event.clientX - now.from[0], event.clientY - now.from[1]) < 6) return;
      now.moved = true;
      event.preventDefault();
      const { drop, inside, element } = under(event.clientX, event.clientY);
      clear();
      if (inside) element?.classList.add("hl-over");
      const say = !inside ? "" : drop.edge ? "insert here" : element?.classList.contains("hl-box") ? "replace" : drop.node ? "add to the group" : "add at the end";
      setAt({ entry: now.entry, x: event.clientX, y: event.clientY, say });
    };
    const end = (event: PointerEvent): void => {
      const now = running.current;
      running.current = null;
      setAt(null);
      clear();
      if (!now || event.type === "pointercancel") return;
      if (!now.moved) ways.current.onClick(now.entry);
      else {
        const { drop, inside } = under(event.clientX, event.clientY);
        if (inside) ways.current.onDrop(now.entry, drop);
      }
    };
    const stop = (event: KeyboardEvent): void => {
      if (event.key === "Escape" && running.current) {
        running.current = null;
        setAt(null);
        clear();
      }
    };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", end);
    window.addEventListener("pointercancel", end);
    window.addEventListener("keydown", stop);
    return () => {
      window.removeEventListener("pointermove", move);
      window.removeEventListener("pointerup", end);
      window.removeEventListener("pointercancel", end);
      window.removeEventListener("keydown", stop);
    };
  }, [wrapper]);
  return {
    start: (entry, event) => {
      if (event.button !== 0) return;
      running.current = { entry, from: [event.clientX, event.clientY], moved: false };
      (event.target as Element).releasePointerCapture?.(event.pointerId);
      event.preventDefault();
    },
    ghost: at && (
      <div className="hl-ghost" style={{ left: at.x + 12, top: at.y + 10 }}>
        {at.entry.title} {at.say && <em>{at.say}</em>}
      </div>
    ),
  };
}
