/** What a design is seen from when it is opened: large enough to read, from the top; what does not fit is a drag away. */
import { useReactFlow } from "@xyflow/react";
import { useEffect, type RefObject } from "react";

export function useFirstView(wrapper: RefObject<HTMLElement | null>, seed: string, wide: boolean): void {
  const flow = useReactFlow();
  useEffect(() => {
    const timer = setTimeout(() => {
      const pane = wrapper.current?.querySelector(".hl-flow")?.getBoundingClientRect();
      const box = flow.getNodesBounds(flow.getNodes().filter((node) => !node.parentId));
      if (!pane || !box.width) return;
      const zoom = Math.max(0.72, Math.min(1.05, (pane.width - 40) / box.width, (pane.height - 40) / box.height));
      const y = box.height * zoom > pane.height - 40 ? 20 : (pane.height - box.height * zoom) / 2;
      void flow.setViewport({ x: pane.width / 2 - (box.x + box.width / 2) * zoom, y: y - box.y * zoom, zoom });
    }, 80);
    return () => clearTimeout(timer);
  }, [wrapper, seed, wide, flow]);
}
