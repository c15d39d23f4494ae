/** What a design is seen from when it is opened: large enough to read, from the top; what does not fit is a drag away. */
import { useReactFlow, type Viewport } from "@xyflow/react";
import { useLayoutEffect, useRef, useState, type RefObject } from "react";
import type { BoxNode } from "./view";

const MARGIN = 20;

export function firstView(nodes: Pick<BoxNode, "position" | "width" | "height" | "parentId">[], pane: { width: number; height: number }): Viewport {
  const tops = nodes.filter((node) => !node.parentId);
  if (!tops.length) return { x: 0, y: 0, zoom: 1 };
  const left = Math.min(...tops.map((node) => node.position.x));
  const top = Math.min(...tops.map((node) => node.position.y));
  const width = Math.max(...tops.map((node) => node.position.x + (node.width ?? 0))) - left;
  const height = Math.max(...tops.map((node) => node.position.y + (node.height ?? 0))) - top;
  const room = { width: pane.width - 2 * MARGIN, height: pane.height - 2 * MARGIN };
  const zoom = Math.max(0.72, Math.min(1.05, room.width / width, room.height / height));
  const y = height * zoom > room.height ? MARGIN : (pane.height - height * zoom) / 2;
  return { x: pane.width / 2 - (left + width / 2) * zoom, y: y - top * zoom, zoom };
}

/** Where to look from at first; null until the canvas has a size, which it has before it is painted. A graph that moved
 *  after it was shown would move from under the pointer: a click that begins on a node would end beside it, and be lost. */
export function useFirstView(wrapper: RefObject<HTMLElement | null>, nodes: BoxNode[], wide: boolean): Viewport | null {
  const flow = useReactFlow();
  const [begin, setBegin] = useState<Viewport | null>(null);
  const newest = useRef(nodes);
  newest.current = nodes;
  const shown = useRef(wide);
  useLayoutEffect(() => {
    const pane = wrapper.current?.querySelector<HTMLElement>(".hl-flow");
    if (!pane || begin) return;
    const look = (): void => {
      const size = pane.getBoundingClientRect();
      if (size.width && size.height) setBegin(firstView(newest.current, size));
    };
    look();
    const watch = new ResizeObserver(look); // a page may be laid out later than it is filled
    watch.observe(pane);
    return () => watch.disconnect();
  }, [wrapper, begin]);
  useLayoutEffect(() => {
    const pane = wrapper.current?.querySelector(".hl-flow")?.getBoundingClientRect();
    if (shown.current === wide || !pane) return;
    shown.current = wide;
    void flow.setViewport(firstView(newest.current, pane));
  }, [wrapper, wide, flow]);
  return begin;
}
