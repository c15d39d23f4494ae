/** The row of buttons above the graph: history, what can be done with the selection, view, find. */
import { memo, useState } from "react";
import { removeAll, wrap } from "./compose";
import { ForkMenu } from "./ForkMenu";
import { duplicate, fold, move, repeat, tie, ungroup, type Commands } from "./keys";
import { Icon, type IconName } from "./icons";
import { OverlayChoice } from "./Legend";
import { nodeAt, walk } from "./tree";

/** Drawn again with the session's version only, not at every step of a drag. */
export const Bar = memo(function Bar({ commands, wide }: { commands: Commands; version: number; wide: boolean }): React.ReactNode {
  const { session, make } = commands;
  const [words, setWords] = useState("");
  const [turn, setTurn] = useState(0);
  const data = session.data!;
  const paths = session.selectedPaths();
  const path = paths.at(-1) ?? null;
  const node = path ? nodeAt(session.nodes, path) : null;
  const one = paths.length === 1 && path !== null;
  const button = (label: string, face: IconName, click: () => void, on = true): React.ReactNode => (
    <button type="button" className="hl-button" aria-label={label} title={label} disabled={!on} onClick={click}><Icon name={face} /></button>
  );
  const find = (): void => {
    const wanted = words.toLowerCase().trim();
    const hits = walk(session.nodes).filter(({ node: each, ids }) =>
      `${ids} ${each.use ?? ""} ${data.catalogue.find((entry) => entry.name === each.use)?.title ?? ""}`.toLowerCase().includes(wanted));
    if (!wanted || !hits.length) return commands.tell(wanted ? `No node has “${words.slice(0, 40)}” in its name.` : "Type a part of a node's name.");
    const hit = hits[turn % hits.length]!;
    setTurn(turn + 1);
    session.select([hit.node.uid!]);
    commands.show(hit.path);
  };
  return (
    <div className="hl-bar-row" role="toolbar" aria-label="Canvas">
      {button("Undo (Ctrl+Z)", "undo", () => session.undo(), data.can_undo || session.pending.length > 0)}
      {button("Redo (Ctrl+Y)", "redo", () => session.redo(), data.can_redo)}
      <i />
      {button("Duplicate (Ctrl+D)", "copy", () => duplicate(session, make), paths.length > 0)}
      {button("Move earlier (Alt+Up)", "up", () => one && move(session, make, path, -1), one)}
      {button("Move later (Alt+Down)", "down", () => one && move(session, make, path, 1), one)}
      {button("Wrap in a group (G)", "group", () => make(wrap(session.nodes, paths, 1), "Grouped"), paths.length > 0)}
      <ForkMenu catalogue={data.catalogue} on={paths.length > 0} onFork={commands.fork} leave={commands.leave} />
      {node?.nodes && one && (
        <>
          {button("Take the group apart (U)", "ungroup", () => ungroup(commands, path))}
          {button("One repeat less (-)", "less", () => repeat(commands, path, -1), node.repeat > 1)}
          {button("One repeat more (+)", "more", () => repeat(commands, path, 1))}
          {button(node.tie ? "Own weights for each repeat (T)" : "Share weights between repeats (T)", "tie", () => tie(commands, path))}
          {button("Fold or unfold (Space)", "fold", () => fold(session, path))}
        </>
      )}
      {button("Delete (Del)", "bin", () => commands.edge() || make(removeAll(session.nodes, paths), "Removed"), true)}
      <i />
      {button(wide ? "Back into the page (W)" : "Fill the window (W)", "window", commands.widen)}
      {button("Fit everything in view (0)", "fit", commands.fit)}
      {button("Tidy: forget where nodes were put (L)", "tidy", () => session.place(null), session.places.size > 0)}
      {paths.length > 1 && button("Align under each other (V)", "column", () => commands.align("column"))}
      {paths.length > 1 && button("Align beside each other (H)", "row", () => commands.align("row"))}
      <OverlayChoice session={session} leave={commands.leave} />
      <input
        className="hl-field hl-find"
        type="search"
        maxLength={80}
        placeholder="Find (F)"
        aria-label="Find a node; Enter goes to the next"
        value={words}
        onChange={(event) => {
          setWords(event.target.value);
          setTurn(0);
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter") find();
          if (event.key === "Escape") commands.leave();
        }}
      />
      {button("All keys (?)", "help", commands.help)}
      <span className="hl-state" role="status">{session.unsaved ? "saving …" : session.stale ? "working out costs …" : ""}</span>
    </div>
  );
});
