/** The overlay as it is seen: the choice in the bar, what a node shows, and the legend. */
import { useSyncExternalStore } from "react";
import { whole } from "./format";
import { choice } from "./choice";
import { OVERLAYS, reading, scale, silence, type Overlay, type Reading } from "./overlay";
import type { Session } from "./session";
import { telling } from "./telling";
import type { BoxData } from "./view";
import "./overlay.css";

export function useOverlay(): Overlay | null {
  return useSyncExternalStore(choice.subscribe, choice.snapshot);
}

function both(listener: () => void): () => void {
  const ends = [choice.subscribe(listener), telling.subscribe(listener)];
  return () => ends.forEach((end) => end());
}

/** What this node shows, as text: a box is drawn again only when its own text has changed. */
function useReading(session: Session | null, address: string): { overlay: Overlay | null; shown: Reading | null } {
  const text = useSyncExternalStore(both, () => {
    const data = session?.data;
    return choice.overlay && data ? JSON.stringify(reading(choice.overlay, data.costs, telling.of(data.seed), address, data.changed)) : "null";
  });
  return { overlay: useOverlay(), shown: JSON.parse(text) as Reading | null };
}

interface Place {
  session: Session | null;
  data: BoxData;
  children: React.ReactNode;
}

/** A node's lines of numbers: those of the overlay, and what stands inside where none is chosen. */
export function Overlaid({ session, data, children }: Place): React.ReactNode {
  const { overlay, shown } = useReading(session, data.address);
  if (!overlay) return children;
  if (!shown) return <div className="hl-costs hl-reading">–</div>;
  const dim = overlay.source === "predicted" ? " hl-dim" : "";
  return (
    <div className={`hl-overlaid hl-${overlay.source}`} title={`${overlay.title}, ${overlay.source}: ${overlay.unit}`}>
      <i className="hl-tint" style={{ opacity: shown.tint * 0.42 }} />
      <div className={`hl-costs hl-reading${dim}`}>
        <span>{shown.text}</span>
        <span>{shown.note}</span>
      </div>
      {shown.experts.length ? (
        <div className={`hl-experts${dim}`}>{shown.experts.map((share, expert) => <i key={expert} style={{ height: `${Math.round(100 * share)}%` }} />)}</div>
      ) : (
        <div className={`hl-bar hl-of-all${dim}`}><i style={{ width: `${(100 * shown.bar).toFixed(1)}%` }} /></div>
      )}
    </div>
  );
}

/** A group's total in its head. */
export function OverlaidTotal({ session, data, children }: Place): React.ReactNode {
  const { overlay, shown } = useReading(session, data.address);
  if (!overlay) return children;
  if (!shown) return null;
  return <span className={`hl-sub hl-total hl-reading hl-${overlay.source}${overlay.source === "predicted" ? " hl-dim" : ""}`} title="The whole group, all repeats together">{[shown.text, shown.note].filter(Boolean).join(" · ")}</span>;
}

export function OverlayChoice({ session, leave }: { session: Session; leave(): void }): React.ReactNode {
  const overlay = useOverlay();
  const live = useSyncExternalStore(telling.subscribe, () => telling.of(session.data!.seed));
  const group = (source: Overlay["source"], label: string): React.ReactNode => (
    <optgroup label={label}>
      {OVERLAYS.filter((each) => each.source === source).map((each) => <option key={each.name} value={each.name} className={live?.why?.[each.name] ? "hl-absent" : ""} title={live?.why?.[each.name]}>{each.title}</option>)}
    </optgroup>
  );
  return (
    <select
      className="hl-field hl-choice"
      aria-label="Colour and label the nodes by (O goes to the next)"
      title="Colour and label the nodes by (O goes to the next)"
      value={overlay?.name ?? ""}
      onChange={(event) => choice.choose(event.target.value)}
      onKeyDown={(event) => {
        if (event.key === "Escape") leave();
      }}
    >
      <option value="">No overlay</option>
      {group("predicted", "Predicted")}
      {group("measured", "Measured in a training")}
      {group("compared", "Compared with what was saved")}
    </select>
  );
}

export function Legend({ session }: { session: Session }): React.ReactNode {
  const overlay = useOverlay();
  const data = session.data!;
  const live = useSyncExternalStore(telling.subscribe, () => telling.of(data.seed));
  if (!overlay || !session.nodes.length) return null;
  const ends = scale(overlay, data.costs, live);
  const why = silence(overlay, data.costs, live, data.changed);
  const run = overlay.source === "measured" ? live?.run : null;
  return (
    <div className={`hl-legend hl-${overlay.source}`} role="note" aria-label={`Legend: ${overlay.title}, ${overlay.source}`}>
      <div><strong>{overlay.title}</strong> <em>{overlay.source}</em></div>
      {why ? <p>{why}</p> : (
        <>
          <i className="hl-scale" />
          <div className="hl-ends"><span>{ends?.low}</span><span>{ends?.log ? "log" : ""}</span><span>{ends?.high}</span></div>
        </>
      )}
      <small>{overlay.unit}</small>
      {run && <small className="hl-run" data-step={run.step}>{run.name}: step {whole(run.step)}{run.steps ? ` of ${whole(run.steps)}` : ""}, {run.state}</small>}
    </div>
  );
}
