/** Where the keyboard's focus goes: to the node that an edit leaves selected, and back to the canvas when it is lost. */
import { useReactFlow } from "@xyflow/react";
import { useCallback, useEffect, useRef, type RefObject } from "react";
import type { Session } from "./session";
import { walk } from "./tree";
import { SOME, type BoxNode } from "./view";

const TRIES = 20;

/** Returns a function that asks for the focus to be given once what is to have it is drawn. */
export function useFocus(wrapper: RefObject<HTMLElement | null>, session: Session, nodes: BoxNode[], show: (path: string) => void): () => void {
  const flow = useReactFlow();
  /** Counts where the user went by hand, to a field or with the pointer: a focus that was asked for before is not given. */
  const turn = useRef(0);
  const wanted = useRef<number | null>(null);
  useEffect(() => {
    const mine = wanted.current;
    wanted.current = null;
    if (mine === null || mine !== turn.current) return;
    const uid = [...session.selected][0];
    const path = (): string | undefined => walk(session.nodes).find((visit) => visit.node.uid === uid)?.path;
    // A new node is hidden, and so cannot take the focus, until React Flow has measured it.
    const give = (left: number): void => {
      if (mine !== turn.current) return;
      const box = uid ? wrapper.current?.querySelector<HTMLElement>(`[data-id="${uid}"] > [data-path]`) : null;
      if (!box && uid && left && flow.getNodes().length > SOME) {
        const at = path();
        if (at && left === TRIES) show(at); // of many nodes only those in view are in the page
        if (at) return void requestAnimationFrame(() => give(left - 1));
      }
      (box ?? wrapper.current)?.focus({ preventScroll: true });
      if (box && document.activeElement !== box) {
        if (left) requestAnimationFrame(() => give(left - 1));
        else wrapper.current?.focus({ preventScroll: true });
        return;
      }
      const pane = wrapper.current?.querySelector(".react-flow")?.getBoundingClientRect();
      const at = box?.getBoundingClientRect();
      if (pane && at && (at.top < pane.top || at.top + Math.min(at.height, 90) > pane.bottom || at.left < pane.left || at.right > pane.right)) {
        const found = path();
        if (found) show(found);
      }
    };
    wrapper.current?.focus({ preventScroll: true });
    requestAnimationFrame(() => give(TRIES));
  }, [nodes, session, show, flow, wrapper]);

  // When what had the focus is gone, for instance after an undo, the focus falls to the page: take it back.
  const inside = useRef(false);
  useEffect(() => {
    const here = wrapper.current;
    if (!here) return;
    const pressed = (event: PointerEvent): void => {
      turn.current += 1;
      inside.current = event.target instanceof Node && here.contains(event.target);
    };
    const came = (event: FocusEvent): void => {
      inside.current = true;
      if (event.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) turn.current += 1;
    };
    const left = (event: FocusEvent): void => {
      if (event.relatedTarget instanceof Node && !here.contains(event.relatedTarget)) inside.current = false;
    };
    const back = (): boolean => {
      const lost = inside.current && document.activeElement === document.body;
      if (lost) here.focus({ preventScroll: true });
      return lost;
    };
    // A key that comes while the focus is lost is the canvas's all the same: none of the user's keys is dropped.
    const key = (event: KeyboardEvent): void => {
      if (!(event.target === document.body && back())) return;
      event.stopPropagation();
      if (!here.dispatchEvent(new KeyboardEvent(event.type, event))) event.preventDefault();
    };
    const gone = new MutationObserver(back); // React Flow takes elements away a while after it is given other nodes
    gone.observe(here, { childList: true, subtree: true });
    document.addEventListener("keydown", key, true);
    document.addEventListener("pointerdown", pressed, true);
    here.addEventListener("focusin", came);
    here.addEventListener("focusout", left);
    return () => {
      gone.disconnect();
      document.removeEventListener("keydown", key, true);
      document.removeEventListener("pointerdown", pressed, true);
      here.removeEventListener("focusin", came);
      here.removeEventListener("focusout", left);
    };
  }, [wrapper]);
  return useCallback(() => {
    wanted.current = turn.current;
  }, []);
}
