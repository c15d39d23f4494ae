/** Everything by keyboard. Keys that are used here go no further, so that the page's own shortcuts do not fire too. */
import { choice } from "./choice";
import { neighbour, removeAll, wrap, type Gesture } from "./compose";
import { forksOf, type Fork } from "./forks";
import { legalTargets, type World } from "./legality";
import type { Session } from "./session";
import { indexOf, nodeAt, parentOf, place, sibling, walk } from "./tree";

export interface Commands {
  session: Session;
  world(): World;
  make(gesture: Gesture | string, said?: string): void;
  show(path: string): void;
  refocus(): void;
  /** Go back from a field into the graph. */
  leave(): void;
  connect(source: string, target: string): void;
  selectPath(path: string, more: boolean): void;
  palette(): void;
  find(): void;
  fit(): void;
  help(): void;
  tell(text: string): void;
  light(path: string | null): void;
  /** Disconnect the selected line; false where none is. */
  edge(): boolean;
  escape(): void;
  /** Make a fork and its join of the selected nodes. */
  fork(way: Fork): void;
  /** Put the selected nodes into a line. */
  align(way: "column" | "row"): void;
  wide: boolean;
  widen(): void;
}

/** A connection being made by keyboard: from this node, with the ends that may take it. */
const wiring = new WeakMap<Session, { source: string; targets: string[]; at: number }>();

export function keyDown(event: React.KeyboardEvent, commands: Commands): void {
  const field = event.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  const mod = event.ctrlKey || event.metaKey;
  if (field) {
    // Typing stays here: Streamlit listens for letters, and for Ctrl+Z, on the whole page.
    event.stopPropagation();
    return;
  }
  if (event.target instanceof HTMLButtonElement && (event.key === "Enter" || event.key === " ")) return;
  const used = mod ? withModifier(event, commands) : plainKey(event, commands);
  if (used) {
    event.preventDefault();
    event.stopPropagation();
  } else if (!mod && event.key.length === 1) event.stopPropagation();
}

function withModifier(event: React.KeyboardEvent, { session, make, selectPath }: Commands): boolean {
  const key = event.key.toLowerCase();
  const paths = session.selectedPaths();
  if (key === "z" && !event.shiftKey) session.undo();
  else if (key === "y" || (key === "z" && event.shiftKey)) session.redo();
  else if (key === "a") session.select(walk(session.nodes).map((visit) => visit.node.uid!));
  else if (key === "d" && paths.length) duplicate(session, make);
  else if (key === "arrowdown" || key === "arrowup") {
    const path = paths[0];
    const next = path && neighbour(session.nodes, paths.at(-1)!, key === "arrowdown" ? "ArrowDown" : "ArrowUp", new Set());
    if (next) selectPath(next, true);
  } else return false;
  return true;
}

function plainKey(event: React.KeyboardEvent, commands: Commands): boolean {
  const { session, make, selectPath } = commands;
  const paths = session.selectedPaths();
  const path = paths.at(-1) ?? null;
  const now = wiring.get(session);
  if (now) return wire(event.key, commands, now);
  if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
    if (path) move(session, make, path, event.key === "ArrowUp" ? -1 : 1);
    return true;
  }
  if (event.shiftKey && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    const next = path && sibling(path, indexOf(path) + (event.key === "ArrowDown" ? 1 : -1));
    if (next && nodeAt(session.nodes, next)) selectPath(next, true);
    return true;
  }
  switch (event.key) {
    case "ArrowDown": case "ArrowUp": case "ArrowLeft": case "ArrowRight": case "Home": case "End": {
      const folded = new Set(walk(session.nodes).filter((v) => session.collapsed.has(v.node.uid!)).map((v) => v.path));
      const next = neighbour(session.nodes, path, event.key, folded);
      if (next) selectPath(next, false);
      return true;
    }
    case "Delete": case "Backspace":
      if (!commands.edge() && paths.length) make(removeAll(session.nodes, paths), `${paths.length} removed`);
      return true;
    case "a": case "A": case "/": commands.palette(); return true;
    case "f": case "F": commands.find(); return true;
    case "w": case "W": commands.widen(); return true;
    case "v": case "V": commands.align("column"); return true;
    case "h": case "H": commands.align("row"); return true;
    case "o": case "O": choice.next(); return true;
    case "0": commands.fit(); return true;
    case "?": commands.help(); return true;
    case "Escape": commands.escape(); return true;
    case "g": case "G": make(wrap(session.nodes, paths, 1), "Grouped"); return true;
    case "r": case "R": case "e": case "E": case "x": case "X": {
      const fork = forksOf(session.data!.catalogue).find((each) => each.key === event.key.toUpperCase());
      if (fork) commands.fork(fork.way);
      return true;
    }
    case "u": case "U": if (path) ungroup(commands, path); return true;
    case "t": case "T": if (path) tie(commands, path); return true;
    case "+": case "=": if (path) repeat(commands, path, 1); return true;
    case "-": case "_": if (path) repeat(commands, path, -1); return true;
    case "l": case "L": session.place(null); return true;
    case "m": case "M": vary(session, paths); return true;
    case " ": case "Enter": fold(session, path); return true;
    case "c": case "C": {
      if (!path) return true;
      const targets = [...legalTargets(commands.world(), path)];
      if (!targets.length) commands.tell("No other node can read this one.");
      else {
        wiring.set(session, { source: path, targets, at: 0 });
        commands.light(path);
        selectPath(targets[0]!, false);
        commands.tell("Choose what is to read it with the arrow keys, Enter connects, Escape leaves.");
      }
      return true;
    }
    default: return false;
  }
}

function wire(key: string, commands: Commands, now: { source: string; targets: string[]; at: number }): boolean {
  const { session, selectPath } = commands;
  if (key === "ArrowDown" || key === "ArrowRight" || key === "ArrowUp" || key === "ArrowLeft") {
    const step = key === "ArrowDown" || key === "ArrowRight" ? 1 : -1;
    now.at = (now.at + step + now.targets.length) % now.targets.length;
    selectPath(now.targets[now.at]!, false);
    return true;
  }
  wiring.delete(session);
  commands.light(null);
  commands.escape();
  if (key === "Enter" || key === " ") commands.connect(now.source, now.targets[now.at]!);
  else selectPath(now.source, false);
  return true;
}

export function duplicate(session: Session, make: Commands["make"]): void {
  const paths = session.selectedPaths();
  const changes = [...paths].reverse().map((path) => ({ do: "duplicate" as const, path }));
  make({ changes, select: sibling(paths[0]!, indexOf(paths[0]!) + 1) }, "Duplicated");
}

export function move(session: Session, make: Commands["make"], path: string, by: number): void {
  const { siblings, index } = place(session.nodes, path)!;
  const target = Math.max(0, Math.min(siblings.length - 1, index + by));
  if (target !== index) make({ changes: [{ do: "move", path, by }], select: sibling(path, target) }, "Moved");
}

export function repeat({ session, make, tell }: Commands, path: string, by: number): void {
  const group = nodeAt(session.nodes, path)?.nodes ? path : parentOf(path);
  const node = group ? nodeAt(session.nodes, group) : null;
  if (!node) return tell("Only groups repeat: wrap the selected nodes in a group first (G).");
  const times = Math.max(1, Math.min(512, node.repeat + by));
  if (times !== node.repeat) make({ changes: [{ do: "set", path: group, key: "repeat", value: times > 1 ? times : null }], select: path }, `Repeats ${times} times`);
}

export function tie({ session, make, tell }: Commands, path: string): void {
  const node = nodeAt(session.nodes, path);
  if (!node?.nodes) return tell("Only groups share weights between their repeats: select a group.");
  make({ changes: [{ do: "set", path, key: "tie", value: node.tie ? null : true }], select: path }, node.tie ? "Own weights for each repeat" : "Repeats share weights");
}

export function ungroup({ session, make, tell }: Commands, path: string): void {
  if (!nodeAt(session.nodes, path)?.nodes) return tell("This is not a group.");
  make({ changes: [{ do: "unwrap", path }], select: path }, "Group taken apart");
}

export function fold(session: Session, path: string | null): void {
  const node = path ? nodeAt(session.nodes, path) : null;
  if (node?.nodes) session.toggle(node.uid!);
}

/** Let the selected nodes vary in a search, or none of them where all do. */
export function vary(session: Session, paths: string[]): void {
  const chosen = walk(session.nodes).filter((visit) => paths.includes(visit.path)).map((visit) => visit.ids);
  if (chosen.length) session.vary(chosen, chosen.some((ids) => session.varies(ids) === null));
}
