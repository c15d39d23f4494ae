/** The tour as it is seen: a ring around the thing it speaks of and a card beside it; the page can be used meanwhile. */
import { useEffect, useLayoutEffect, useRef, useState, useSyncExternalStore } from "react";
import { STEPS, beside, thing, tour, type Area } from "./tour";
import "./tour.css";

const BEGIN_MS = 900;
const LOOK_MS = 150;
const PAD = 4;

export function TourCard(): React.ReactNode {
  const step = useSyncExternalStore(tour.subscribe, tour.snapshot);
  useEffect(() => {
    const timer = setTimeout(() => tour.first(), BEGIN_MS); // once the rest of the page has come
    return () => {
      clearTimeout(timer);
      tour.end();
    };
  }, []);
  return step === null ? null : <Shown step={step} />;
}

function Shown({ step }: { step: number }): React.ReactNode {
  const card = useRef<HTMLDivElement>(null);
  const next = useRef<HTMLButtonElement>(null);
  const [ring, setRing] = useState<Area | null>(null);
  const [at, setAt] = useState<{ left: number; top: number } | null>(null);
  const { title, words } = STEPS[step]!;

  useLayoutEffect(() => {
    const look = (): void => {
      const found = thing(STEPS[step]!);
      const size = card.current?.getBoundingClientRect();
      if (!found || !size) return setRing(null);
      const { left, top, width, height } = found.getBoundingClientRect();
      const now = { left: left - PAD, top: top - PAD, width: width + 2 * PAD, height: height + 2 * PAD };
      setRing((before) => (before && Object.entries(now).every(([key, value]) => before[key as keyof Area] === value) ? before : now));
      const stand = beside(now, size, { width: innerWidth, height: innerHeight });
      setAt((before) => (before?.left === stand.left && before.top === stand.top ? before : stand));
    };
    const found = thing(STEPS[step]!)?.getBoundingClientRect();
    if (found && (found.top < 0 || found.top + Math.min(found.height, innerHeight / 2) > innerHeight)) thing(STEPS[step]!)?.scrollIntoView({ block: "center", behavior: "instant" });
    look();
    const timer = setInterval(look, LOOK_MS); // the page below moves while costs come and go
    return () => clearInterval(timer);
  }, [step]);

  // The focus goes to the card, unless somebody is typing, and back to where it was: the canvas, where nothing had it.
  useEffect(() => {
    const before = document.activeElement instanceof HTMLElement && document.activeElement !== document.body ? document.activeElement : null;
    if (!before || !/^(INPUT|TEXTAREA)$/.test(before.tagName)) next.current?.focus({ preventScroll: true });
    return () => (before?.isConnected ? before : document.querySelector<HTMLElement>(".hl-canvas"))?.focus({ preventScroll: true });
  }, []);

  const onKey = (event: React.KeyboardEvent): void => {
    if (event.key === "Escape") tour.end();
    else if (event.key === "ArrowRight" || event.key === "ArrowDown") tour.next();
    else if (event.key === "ArrowLeft" || event.key === "ArrowUp") tour.back();
    else {
      if (event.key.length === 1) event.stopPropagation(); // letters are the page's shortcuts
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <>
      {ring && <div className="hl-tour-ring" style={ring} />}
      <div
        ref={card}
        className="hl-tour"
        role="dialog"
        aria-label={`Tour of this page, ${step + 1} of ${STEPS.length}`}
        style={at ?? { left: 0, top: 0, opacity: 0 }}
        data-step={STEPS[step]!.name}
        onKeyDown={onKey}
      >
        <div aria-live="polite">
          <strong>{title}</strong>
          <p>{words}</p>
        </div>
        <div className="hl-tour-row">
          <span>{step + 1} of {STEPS.length}</span>
          {!tour.last && <button type="button" className="hl-button" onClick={() => tour.end()}>Skip (Esc)</button>}
          <button type="button" className="hl-button" disabled={!tour.begun} onClick={() => tour.back()}>Back</button>
          <button ref={next} type="button" className="hl-button hl-tour-next" onClick={() => tour.next()}>{tour.last ? "Done" : "Next"}</button>
        </div>
      </div>
    </>
  );
}
