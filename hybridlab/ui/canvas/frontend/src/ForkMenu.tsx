/** The menu of forks in the bar: each with its key and what it makes. */
import { useEffect, useRef, useState } from "react";
import { forksOf, type Fork } from "./forks";
import { Icon } from "./icons";
import type { Entry } from "./types";

interface Props {
  catalogue: Entry[];
  /** Whether something is selected to make a fork of. */
  on: boolean;
  onFork(way: Fork): void;
  leave(): void;
}

export function ForkMenu({ catalogue, on, onFork, leave }: Props): React.ReactNode {
  const [open, setOpen] = useState(false);
  const place = useRef<HTMLSpanElement>(null);
  const shown = open && on;
  useEffect(() => {
    if (!shown) return;
    place.current?.querySelector<HTMLElement>("[role=menuitem]")?.focus({ preventScroll: true });
    const outside = (event: PointerEvent): void => {
      if (!(event.target instanceof Node && place.current?.contains(event.target))) setOpen(false);
    };
    document.addEventListener("pointerdown", outside, true);
    return () => document.removeEventListener("pointerdown", outside, true);
  }, [shown]);
  const onKey = (event: React.KeyboardEvent): void => {
    const items = [...(place.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    const at = items.indexOf(document.activeElement as HTMLElement);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") items[(at + (event.key === "ArrowDown" ? 1 : items.length - 1)) % items.length]?.focus();
    else if (event.key === "Escape") {
      setOpen(false);
      leave();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <span ref={place} className="hl-menu-place" onKeyDown={shown ? onKey : undefined}>
      <button
        type="button"
        className="hl-button"
        aria-label="Fork and join"
        title="Fork and join: residual connection (R), expert choice (E) and more"
        aria-haspopup="menu"
        aria-expanded={shown}
        disabled={!on}
        onClick={() => setOpen(!open)}
      >
        <Icon name="residual" />
      </button>
      {shown && (
        <div className="hl-menu" role="menu" aria-label="Fork and join">
          {forksOf(catalogue).map(({ way, title, key, words }) => (
            <button
              type="button"
              role="menuitem"
              key={way}
              data-fork={way}
              tabIndex={-1}
              onClick={() => {
                setOpen(false);
                onFork(way);
              }}
            >
              <strong>{title}</strong> <kbd>{key}</kbd>
              <span>{words}</span>
            </button>
          ))}
        </div>
      )}
    </span>
  );
}
