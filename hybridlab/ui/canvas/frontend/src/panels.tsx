/** Small panels over and under the graph. */
import type { Fix } from "./legality";
import { tour } from "./tour";

export function Callout({ text, fixes, onFix, onClose }: { text: string | null; fixes: Fix[]; onFix(fix: Fix): void; onClose(): void }): React.ReactNode {
  if (!text) return null;
  return (
    <div className="hl-callout" role="alert">
      <p>{text}</p>
      {fixes.map((fix) => (
        <button type="button" className="hl-button hl-fix" key={fix.label} onClick={() => onFix(fix)}>{fix.label}</button>
      ))}
      <button type="button" className="hl-button" aria-label="Close" onClick={onClose}>✕</button>
    </div>
  );
}

export function Empty({ readable }: { readable: boolean }): React.ReactNode {
  return (
    <div className="hl-empty-canvas">
      {readable ? (
        <>
          <strong>An empty canvas</strong>
          <ol>
            <li>Drag a component here from the palette, or click one. With the keyboard: press A, type a name, press Enter.</li>
            <li>Add the next: it goes after the selected node. Drop it on a line to put it in between, on a node to replace that.</li>
            <li>Input and head are the task's, unless you add your own. Costs appear above as soon as the design is right.</li>
          </ol>
          <p>Rather change something that works? Press <b>Open</b> above for the presets.</p>
          <button type="button" className="hl-button" onClick={() => tour.start()}>Show me around</button>
        </>
      ) : (
        <>
          <strong>This text cannot be drawn yet</strong>
          <p>Put it right in the YAML view; the problems are listed below.</p>
        </>
      )}
    </div>
  );
}

const KEYS: [string, string][] = [
  ["Arrows", "walk the nodes, into and out of groups"],
  ["A or /", "palette: Enter adds after, Shift+Enter replaces, Ctrl+Enter adds beside"],
  ["C", "connect from the selected node: arrows choose, Enter connects"],
  ["Shift+Up, Shift+Down", "select more"],
  ["G, U", "wrap in a group, take a group apart"],
  ["R, E", "residual connection around the selected nodes, a router that chooses among them"],
  ["+, −, T", "repeats of a group, shared weights"],
  ["Space", "fold or unfold a group"],
  ["Alt+Up, Alt+Down", "move among its neighbours"],
  ["Ctrl+D, Delete", "duplicate, remove (readers are reconnected)"],
  ["Ctrl+C, X, V", "copy, cut, paste as YAML text"],
  ["Ctrl+Z, Ctrl+Y", "undo, redo"],
  ["V, H", "align the selected nodes under each other, beside each other"],
  ["M", "let the selected nodes vary in a search, or not"],
  ["O", "colour and label nodes by the next quantity"],
  ["F, 0, L, W", "find a node, fit all in view, tidy the layout, fill the window"],
];

export function Help({ onClose }: { onClose(): void }): React.ReactNode {
  return (
    <div className="hl-help" role="dialog" aria-label="Keys of the canvas">
      <button type="button" className="hl-button" aria-label="Close" onClick={onClose}>✕</button>
      <dl>
        {KEYS.map(([key, what]) => (
          <div key={key}>
            <dt>{key}</dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <button
        type="button"
        className="hl-button hl-tour-again"
        onClick={() => {
          onClose();
          tour.start();
        }}
      >
        Show me around this page
      </button>
    </div>
  );
}
