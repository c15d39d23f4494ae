/** What one canvas holds: the tree Python sent, the edits it has not seen yet, and what is the browser's alone. */
import { Ahead } from "./ahead";
import { applyAll, carryUids, newUid } from "./edits";
import { same } from "./same";
import { nodeAt, walk } from "./tree";
import type { Change, Edit, Foreseen, FromPython, Sent, TreeNode } from "./types";

export type Point = [number, number];
interface Move {
  revision: number;
  before: Map<string, Point>;
  after: Map<string, Point>;
}

export interface Ways {
  edits(sent: Sent): void;
  selection(path: string | null): void;
  places(seed: string, at: Record<string, Point>): void;
  /** Which nodes may vary in a search and which may not, by their paths of ids. */
  marks(seed: string, wanted: Record<string, boolean>): void;
}

/** After this silence edits are sent again: the connection may have been lost. */
export const SILENCE_MS = 4_000;

export class Session {
  readonly client = `c${Math.random().toString(36).slice(2, 10)}`;
  data: FromPython | null = null;
  /** The tree as it is shown: Python's with the edits on their way. */
  nodes: TreeNode[] = [];
  pending: Edit[] = [];
  selected = new Set<string>();
  collapsed = new Set<string>();
  places = new Map<string, Point>();
  /** Marks made here that are not in what Python sent. */
  private marking = new Map<string, boolean>();
  notice: string | null = null;
  version = 0;
  /** Counts changes of what the graph shows; a notice or an answer that an edit has come is none. */
  drawing = 0;
  /** The newest edit that Python has said it has; those up to here still wait for the design that they make. */
  private heard = 0;
  /** What Python knows of the edits on their way, ahead of making them. */
  private foreseen: Foreseen | null = null;
  /** An edit whose node only Python can make, and where it will stand. */
  private awaited: { id: number; path: string } | null = null;
  private base: TreeNode[] = [];
  private nextId = 1;
  private again = 0;
  private moves: Move[] = [];
  private undone: Move[] = [];
  private lastWish = 0;
  private seenRefusals = new Set<number>();
  private listeners = new Set<() => void>();

  constructor(
    private ways: Ways,
    private ahead: Pick<Ahead, "ask"> = new Ahead(),
  ) {}

  /** The ways change with every call of the component; the state stays. */
  connect(ways: Ways): void {
    this.ways = ways;
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  snapshot = (): number => this.version;

  /** Take what Python sent; tells whether another design has been opened. */
  receive(data: FromPython): boolean {
    const opened = this.data?.seed !== data.seed;
    if (!opened && this.data && data.revision < this.data.revision) return false;
    if (opened) {
      this.pending = [];
      this.selected.clear();
      this.collapsed.clear();
      this.places.clear();
      this.marking.clear();
      this.moves = [];
      this.undone = [];
      this.lastWish = 0;
      this.awaited = null;
      this.base = [];
      this.nodes = [];
    }
    // The palette stays the same object while a design is open, so that nothing made of it is made again.
    if (!opened && this.data) {
      const blocks = same(this.data.blocks, data.blocks) ? this.data.blocks : data.blocks;
      data = { ...data, catalogue: this.data.catalogue, kinds: this.data.kinds, ...(blocks ? { blocks } : {}) };
    }
    const acknowledged = data.acknowledged[this.client] ?? 0;
    const before = this.nodes;
    this.pending = this.pending.filter((edit) => edit.id > acknowledged);
    if (opened || (this.foreseen && this.foreseen.edit <= acknowledged)) this.foreseen = null;
    this.data = this.foreseen ? { ...data, ...this.foreseen } : data;
    for (const [ids, on] of this.marking) if (ids in (data.varies ?? {}) === on) this.marking.delete(ids);
    this.base = carryUids(before, structuredClone(data.nodes));
    this.rebuild();
    if (opened) this.takePlaces(data.places);
    for (const refusal of data.refused) {
      if (refusal.client === this.client && !this.seenRefusals.has(refusal.id)) {
        this.seenRefusals.add(refusal.id);
        this.notice = refusal.sentence;
      }
    }
    this.dropGone();
    if (this.awaited && this.awaited.id <= acknowledged) {
      const { id, path } = this.awaited;
      this.awaited = null;
      if (!data.refused.some((refusal) => refusal.client === this.client && refusal.id === id)) this.chooseAt(path);
    }
    if (data.wish.stamp !== this.lastWish) {
      this.lastWish = data.wish.stamp;
      if (data.wish.path !== null) this.chooseAt(data.wish.path);
    }
    this.changed();
    return opened;
  }

  /** Make an edit: shown at once, sent to Python, one step of undo. */
  edit(changes: Change[], select: string | null = null): void {
    if (!changes.length) return;
    const guards = changes
      .slice(0, 1)
      .flatMap((change) => ("path" in change ? [change.path] : []))
      .flatMap((path) => {
        const node = nodeAt(this.nodes, path);
        return node ? [{ path, id: node.id }] : [];
      });
    const edit = { id: this.nextId, base: this.data?.revision ?? 0, changes, guards, select };
    this.nextId += 1;
    this.pending = [...this.pending, edit];
    this.notice = null;
    this.nodes = applyAll(this.nodes, changes);
    if (changes.some((change) => change.do === "undo" || change.do === "redo")) this.rebuild();
    this.dropGone();
    // What is pasted stands there only when Python has read it; until then another node does.
    if (select !== null && changes.some((change) => change.do === "paste")) this.awaited = { id: edit.id, path: select };
    else if (select !== null) this.chooseAt(select);
    this.send(); // first, so that it is on its way while the canvas is drawn
    this.changed();
  }

  /** Send what Python has not acknowledged; `again` makes the same edits a new message. */
  send(again = false): void {
    if (again) this.again += 1;
    const sent = { client: this.client, edits: this.pending, again: this.again };
    void this.ahead.ask(this.data?.ahead ?? null, this.data?.seed ?? "", sent, (told) => this.foresee(told));
    this.ways.edits(sent);
  }

  /** Take costs and problems of the edits on their way; those of an older edit are no longer wanted. */
  foresee(told: Foreseen): void {
    if (!this.data || told.seed !== this.data.seed || told.edit !== this.pending.at(-1)?.id) return;
    this.foreseen = told;
    this.data = { ...this.data, ...told };
    this.changed();
  }

  undo(): void {
    const move = this.moves.at(-1);
    if (move && move.revision === this.data?.revision && !this.pending.length) {
      this.moves.pop();
      this.undone.push(move);
      this.places = new Map(move.before);
      this.reportPlaces();
    } else if (this.data?.can_undo || this.pending.length) this.edit([{ do: "undo" }]);
  }

  redo(): void {
    const move = this.undone.at(-1);
    if (move && move.revision === this.data?.revision && !this.pending.length) {
      this.undone.pop();
      this.moves.push(move);
      this.places = new Map(move.after);
      this.reportPlaces();
    } else if (this.data?.can_redo) this.edit([{ do: "redo" }]);
  }

  /** Keep where the user put nodes; null forgets all places, so that the layout decides. */
  place(at: Map<string, Point> | null): void {
    const before = new Map(this.places);
    this.places = at ? new Map([...this.places, ...at]) : new Map();
    this.moves.push({ revision: this.data?.revision ?? 0, before, after: new Map(this.places) });
    this.undone = [];
    this.reportPlaces();
  }

  /** Say whether nodes may vary in a search: shown at once, no step of undo, since the design stays as it is. */
  vary(addresses: string[], on: boolean): void {
    for (const ids of addresses) this.marking.set(ids, on);
    this.changed();
    this.ways.marks(this.data?.seed ?? "", Object.fromEntries(this.marking));
  }

  /** What may vary in a node, in words; null where nothing may. */
  varies(ids: string): string | null {
    const told = this.data?.varies?.[ids] ?? null;
    const on = this.marking.get(ids);
    return on === undefined ? told : on ? (told ?? "") : null;
  }

  select(uids: Iterable<string>): void {
    const next = new Set(uids);
    if (next.size === this.selected.size && [...next].every((uid) => this.selected.has(uid))) return;
    this.selected = next;
    this.changed();
    this.ways.selection(this.selectedPaths()[0] ?? null);
  }

  /** Select one node and unfold the groups around it; with none, the architecture itself is what is chosen. */
  reveal(uid: string | null): void {
    if (uid) this.unfoldAround(uid);
    this.select(uid ? [uid] : []);
    this.changed();
  }

  /** Addresses of the selected nodes in reading order, without those inside selected groups. */
  selectedPaths(): string[] {
    const paths = walk(this.nodes).filter((visit) => this.selected.has(visit.node.uid!)).map((visit) => visit.path);
    return paths.filter((path) => !paths.some((other) => path.startsWith(`${other}.`)));
  }

  toggle(uid: string): void {
    if (!this.collapsed.delete(uid)) this.collapsed.add(uid);
    this.changed();
  }

  say(notice: string | null): void {
    this.notice = notice;
    this.changed(false);
  }

  /** Python has the edits up to this one: it says so at once, and sends the new design when it knows more about it. */
  hear(acknowledged: number): void {
    if (acknowledged <= this.heard) return;
    this.heard = acknowledged;
    this.changed(false);
  }

  /** How many edits Python may not have yet. */
  get unsaved(): number {
    return this.pending.filter((edit) => edit.id > this.heard).length;
  }

  /** Whether costs and shapes belong to another text than the one shown. */
  get stale(): boolean {
    const last = this.pending.at(-1);
    return last ? this.foreseen?.edit !== last.id : this.data?.costs_revision !== this.data?.revision;
  }

  private rebuild(): void {
    const made: Edit[] = [];
    for (const edit of this.pending) {
      if (edit.changes.some((change) => change.do === "undo")) made.pop();
      else made.push(edit);
    }
    const before = this.nodes;
    const rebuilt = made.reduce((nodes, edit) => applyAll(nodes, edit.changes), this.base);
    this.nodes = made.length ? carryUids(before, structuredClone(rebuilt)) : this.base;
  }

  private dropGone(): void {
    const known = new Set(walk(this.nodes).map((visit) => visit.node.uid!));
    for (const uid of this.selected) if (!known.has(uid)) this.selected.delete(uid);
    for (const visit of walk(this.nodes)) visit.node.uid ??= newUid();
  }

  private chooseAt(path: string): void {
    const uid = nodeAt(this.nodes, path)?.uid;
    if (!uid) return;
    this.selected = new Set([uid]);
    this.unfoldAround(uid);
  }

  private unfoldAround(uid: string): void {
    const path = walk(this.nodes).find((visit) => visit.node.uid === uid)?.path ?? "";
    for (const visit of walk(this.nodes)) {
      if (path.startsWith(`${visit.path}.`)) this.collapsed.delete(visit.node.uid!);
    }
  }

  private takePlaces(at: Record<string, Point>): void {
    for (const visit of walk(this.nodes)) {
      const point = at[visit.ids];
      if (point) this.places.set(visit.node.uid!, point);
    }
  }

  private reportPlaces(): void {
    const at: Record<string, Point> = {};
    for (const visit of walk(this.nodes)) {
      const point = this.places.get(visit.node.uid!);
      if (point) at[visit.ids] = point;
    }
    this.changed();
    this.ways.places(this.data?.seed ?? "", at);
  }

  private changed(redraw = true): void {
    this.version += 1;
    if (redraw) this.drawing += 1;
    for (const listener of this.listeners) listener();
  }
}
