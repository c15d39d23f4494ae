/** What can be added: found by word or by kind, dragged, clicked, or taken by keyboard. */
import { forwardRef, memo, useImperativeHandle, useMemo, useRef, useState } from "react";
import type { Entry, FromPython } from "./types";

export type How = "after" | "replace" | "beside";
export interface PaletteHandle {
  focus(): void;
}
interface Props {
  catalogue: Entry[];
  kinds: FromPython["kinds"];
  onTake(entry: Entry, how: How): void;
  onDrag(entry: Entry, event: React.PointerEvent): void;
  onLeave(): void;
}
const ORDER = ["block", "token_mixer", "channel_mixer", "merge", "norm", "router", "input", "head"];
const COST: Record<string, string> = {
  quadratic: "work grows with the square of the length",
  linear: "work grows with the length",
  constant: "work does not grow with the length",
};

export const Palette = memo(forwardRef<PaletteHandle, Props>(function Palette(props, ref) {
  const [words, setWords] = useState("");
  const [at, setAt] = useState(0);
  const field = useRef<HTMLInputElement>(null);
  const list = useRef<HTMLDivElement>(null);
  useImperativeHandle(ref, () => ({
    focus: () => {
      field.current?.focus();
      field.current?.select();
    },
  }));
  const found = useMemo(() => search(props.catalogue, words), [props.catalogue, words]);
  const place = Math.min(at, found.length - 1);
  const onKey = (event: React.KeyboardEvent): void => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const next = Math.max(0, Math.min(found.length - 1, place + (event.key === "ArrowDown" ? 1 : -1)));
      setAt(next);
      list.current?.querySelector(`[data-place="${next}"]`)?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter" && found[place]) {
      props.onTake(found[place], event.shiftKey ? "replace" : event.ctrlKey || event.metaKey || event.altKey ? "beside" : "after");
      setWords("");
      setAt(0);
    } else if (event.key === "Escape") props.onLeave();
    else return;
    event.preventDefault();
  };
  let kind = "";
  return (
    <div className="hl-palette" role="region" aria-label="Palette">
      <input
        ref={field}
        className="hl-field"
        type="search"
        maxLength={80}
        placeholder="Search the palette (A)"
        aria-label="Search the palette. Enter adds after the selection, Shift+Enter replaces it, Ctrl+Enter adds beside it."
        role="combobox"
        aria-expanded="true"
        aria-controls="hl-palette-list"
        aria-activedescendant={found[place] ? `hl-entry-${found[place].name}` : undefined}
        value={words}
        onChange={(event) => {
          setWords(event.target.value);
          setAt(0);
        }}
        onKeyDown={onKey}
      />
      <div className="hl-entries" id="hl-palette-list" role="listbox" aria-label="Components" ref={list}>
        {!found.length && <p className="hl-empty">Nothing found. Try another word, such as “mamba” or “gate”.</p>}
        {found.map((entry, index) => {
          const head = !words.trim() && entry.kind !== kind;
          kind = entry.kind;
          const style = { "--hl-kind": props.kinds[entry.kind]?.colour ?? "#7d8590" } as React.CSSProperties;
          return (
            <div key={entry.name} style={style} data-place={index}>
              {head && <h4>{props.kinds[entry.kind]?.title ?? entry.kind}</h4>}
              <div
                id={`hl-entry-${entry.name}`}
                className={`hl-entry${index === place && words ? " hl-at" : ""}`}
                role="option"
                aria-selected={index === place}
                data-entry={entry.name}
                title={`${entry.summary}\n${entry.node ? "" : `${COST[entry.cost] ?? entry.cost}\n`}Click: after the selection. Drag: onto the canvas, a line or a node.`}
                onPointerDown={(event) => props.onDrag(entry, event)}
              >
                <strong>{entry.title}</strong>
                {entry.cost && <span className={`hl-cost hl-cost-${entry.cost}`}>{entry.cost}</span>}
                <span className="hl-what">{entry.summary}</span>
                {entry.paper.startsWith("https://") && (
                  <a href={entry.paper} target="_blank" rel="noreferrer noopener" tabIndex={-1} onPointerDown={(event) => event.stopPropagation()}>
                    paper
                  </a>
                )}
              </div>
            </div>
          );
        })}
      </div>
    </div>
  );
}));

/** Entries that have all the words, by kind; the ones whose name has them first. */
export function search(catalogue: Entry[], words: string): Entry[] {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const rank = (entry: Entry): number =>
    wanted.length && wanted.every((word) => `${entry.name} ${entry.title}`.toLowerCase().includes(word)) ? 0 : 1;
  return catalogue
    .filter((entry) => {
      const text = `${entry.name} ${entry.title} ${entry.summary} ${entry.kind} ${entry.cost}`.toLowerCase();
      return wanted.every((word) => text.includes(word));
    })
    .sort((a, b) => rank(a) - rank(b) || ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind));
}
