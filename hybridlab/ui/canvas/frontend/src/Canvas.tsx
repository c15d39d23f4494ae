/** The canvas: palette, toolbar, the graph itself, problems; everything goes through the session. */
import {
  Background, BackgroundVariant, MarkerType, MiniMap, ReactFlow, ReactFlowProvider, applyNodeChanges, useReactFlow, useStore,
  type Connection, type FinalConnectionState, type NodeChange, type OnConnectStartParams,
} from "@xyflow/react";
import { useCallback, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { whole } from "./format";
import { ActionsContext, Box, End, GroupBox, Port, Wire } from "./boxes";
import { aligned } from "./align";
import { Bar } from "./Bar";
import { clipboard } from "./clipboard";
import { append, disconnect, ontoEdge, replaceBy, type Gesture } from "./compose";
import { useFirstView } from "./firstView";
import { useFocus } from "./focus";
import { beside, choosingMixers, earlyExit, expertChoice, otherJoins, residual } from "./forks";
import { Legend } from "./Legend";
import { keyDown, type Commands } from "./keys";
import { judge, legalTargets, type Fix, type World } from "./legality";
import { Palette, type How, type PaletteHandle } from "./Palette";
import { Callout, Empty, Help } from "./panels";
import { ProblemList, acted } from "./problems";
import { into, landing, type Area } from "./regroup";
import { useResend } from "./resend";
import type { Point, Session } from "./session";
import { useSteady, useSteadyAll } from "./steady";
import { nodeAt, parentOf, walk } from "./tree";
import type { Entry, Offer, Problem } from "./types";
import { usePaletteDrag, type Drop } from "./drag";
import { same } from "./same";
import { MANY, SOME, view, within, type BoxNode, type WireEdge } from "./view";

const NODE_TYPES = { box: Box, group_box: GroupBox, port: Port, end: End };
const EDGE_TYPES = { wire: Wire };
const EDGE_OPTIONS = { markerEnd: { type: MarkerType.ArrowClosed, width: 12, height: 12, color: "#8791a3" } };
/** What the drawing gives a node beside its data; the rest is React Flow's own. */
const AS_DRAWN = ["type", "position", "width", "height", "selected", "parentId"] as const;
const COPIED = "A router picks one of the two at each position. The second is a copy: put another component in its place by Shift+Enter in the palette.";
const FIT = { padding: 0.12, maxZoom: 1.1, minZoom: 0.35, duration: 0 };

export function Canvas({ session }: { session: Session }): React.ReactNode {
  return (
    <ReactFlowProvider>
      <Editor session={session} />
    </ReactFlowProvider>
  );
}

/** The nodes as drawn; what has not changed stays the same object, and what is being dragged stays where it is. */
function kept(before: BoxNode[], drawn: BoxNode[]): BoxNode[] {
  const known = new Map(before.map((node) => [node.id, node]));
  return drawn.map((node) => {
    const old = known.get(node.id);
    if (old && !old.dragging && old.data === node.data && AS_DRAWN.every((key) => same(old[key], node[key]))) return old;
    return { ...node, ...(old?.dragging ? { position: old.position, dragging: true } : {}) };
  });
}

const MORE_KEYS = ["Shift", "Control", "Meta"];
const OPTIONS = { hideAttribution: true };
const mapColour = (node: BoxNode): string => (node.type === "group_box" ? "transparent" : node.data.colour);

function Editor({ session }: { session: Session }): React.ReactNode {
  const version = useSyncExternalStore(session.subscribe, session.snapshot);
  const flow = useReactFlow<BoxNode, WireEdge>();
  const wrapper = useRef<HTMLDivElement>(null);
  const palette = useRef<PaletteHandle>(null);
  const [nodes, setNodes] = useState<BoxNode[]>([]);
  const [lit, setLit] = useState<Set<string> | null>(null);
  const [fixes, setFixes] = useState<Fix[]>([]);
  const [help, setHelp] = useState(false);
  const [edge, setEdge] = useState<string | null>(null);
  const [status, setStatus] = useState("");
  const far = useStore((state) => state.transform[2] < 0.5);
  const data = session.data!;
  // eslint-disable-next-line react-hooks/exhaustive-deps -- the session tells by this number that it changed
  const drawn = useMemo(() => view(session), [session.drawing]);
  const catalogue = useMemo(() => new Map(data.catalogue.map((entry) => [entry.name, entry])), [data.catalogue]);
  const entries = useMemo(() => [...(data.blocks ?? []), ...data.catalogue], [data.blocks, data.catalogue]);
  const plain = drawn.nodes.length > MANY;
  const world = (): World => ({ nodes: session.nodes, catalogue, flows: data.flows, input: data.input });
  const pathOf = (id: string): string => drawn.paths.get(id) ?? "";

  // While drawing, not after it: an effect would have everything drawn twice at each change.
  const [taken, setTaken] = useState<typeof drawn | null>(null);
  if (taken !== drawn) {
    setTaken(drawn);
    setNodes(kept(nodes, drawn.nodes));
  }

  const [wide, setWide] = useState(false);
  const begin = useFirstView(wrapper, drawn.nodes, wide);
  useResend(session);

  const show = useCallback((path: string): void => {
    const uid = nodeAt(session.nodes, path)?.uid;
    const node = uid ? flow.getInternalNode(uid) : undefined;
    if (!node) return;
    const { x, y } = node.internals.positionAbsolute;
    const width = node.measured.width ?? 200;
    const height = Math.min(node.measured.height ?? 80, 400);
    void flow.setCenter(x + width / 2, y + height / 2, { zoom: Math.max(flow.getZoom(), 0.7), duration: 200 });
  }, [flow, session]);

  const refocus = useFocus(wrapper, session, nodes, show);
  const make = (gesture: Gesture | string, said = ""): void => {
    setFixes([]);
    setEdge(null);
    if (typeof gesture === "string") {
      session.say(gesture);
      return;
    }
    refocus();
    session.edit(gesture.changes, gesture.select);
    setStatus(said);
  };
  const tell = (why: string, more: Fix[]): void => {
    setFixes(more);
    session.say(why);
  };
  const chosen = (): string | null => session.selectedPaths().at(-1) ?? null;
  const take = (entry: Entry, how: How): void => {
    const path = chosen();
    const said = `${entry.title} ${how === "replace" ? "put in its place" : "added"}`;
    if (how === "after" || path === null) make(append(session.nodes, entry, path), said);
    else if (how === "replace") make(replaceBy(session.nodes, entry, path), said);
    else {
      const gesture = beside(session.nodes, entry, path);
      make(gesture, said);
      tell("Two branches, joined by a sum.", otherJoins(data.catalogue, gesture.select!));
    }
  };
  const connect = (source: string, target: string): void => {
    const verdict = judge(world(), source, target);
    if (!verdict.ok) tell(verdict.why, verdict.fixes);
    else {
      make({ changes: verdict.changes, select: target }, "Connected");
      if (verdict.offer) tell("Connected in place of what it read before.", [{ ...verdict.offer, changes: [{ do: "undo" }, ...verdict.offer.changes] }]);
    }
  };
  const takeFix = (fix: Fix): void => {
    const undo = fix.changes.find((change) => change.do === "undo");
    if (undo) session.edit([undo]);
    make({ changes: fix.changes.filter((change) => change.do !== "undo"), select: fix.select }, fix.label);
  };
  const drop = (entry: Entry, at: Drop): void => {
    const said = `${entry.title} added`;
    if (at.node && nodeAt(session.nodes, at.node)?.nodes === null) make(replaceBy(session.nodes, entry, at.node), `${entry.title} put in its place`);
    else if (at.edge) {
      const wire = drawn.edges.find((each) => each.id === at.edge)?.data;
      if (wire) make(ontoEdge(session.nodes, entry, wire.source, wire.target, wire.name), said);
    } else if (at.node) {
      const inside = `${at.node}.nodes[${nodeAt(session.nodes, at.node)?.nodes?.length ?? 0}]`;
      const last = inside.replace(/\d+(?=\]$)/, (digits) => String(Math.max(0, Number(digits) - 1)));
      make(append(session.nodes, entry, last), said);
    } else {
      const gesture = append(session.nodes, entry, null);
      const { x, y } = flow.screenToFlowPosition({ x: at.x, y: at.y });
      const empty = !session.nodes.length;
      make(gesture, said);
      const uid = nodeAt(session.nodes, gesture.select!)?.uid;
      if (uid && !empty) session.place(new Map([[uid, [Math.round(x - 113), Math.round(y - 20)] as Point]]));
      else setTimeout(() => void flow.fitView(FIT), 80);
    }
  };
  /** The group a dragged node would go to, "" for none around it; null where it stays in its own. */
  const leaves = (id: string): string | null => {
    const rect = (each: string): Omit<Area, "path"> => {
      const node = flow.getInternalNode(each)!;
      return { ...node.internals.positionAbsolute, width: node.measured.width ?? 0, height: node.measured.height ?? 0 };
    };
    const groups = drawn.nodes.filter((each) => each.type === "group_box" && flow.getInternalNode(each.id));
    return landing(pathOf(id), rect(id), groups.map((each) => ({ path: each.data.path, ...rect(each.id) })));
  };
  const glow = (group: string | null): void => {
    for (const each of wrapper.current?.querySelectorAll(".hl-group") ?? []) each.classList.toggle("hl-over", !!group && each.getAttribute("data-path") === group);
  };
  const drag = usePaletteDrag(wrapper, pathOf, drop, (entry) => take(entry, "after"));

  const commands: Commands = {
    session, make, show, refocus, connect,
    leave: () => {
      refocus();
      setNodes((before) => [...before]);
    },
    world,
    selectPath: (path, more) => {
      const uid = nodeAt(session.nodes, path)?.uid;
      if (!uid) return;
      refocus();
      session.select(more ? [...session.selected, uid] : [uid]);
    },
    palette: () => palette.current?.focus(),
    find: () => wrapper.current?.querySelector<HTMLInputElement>(".hl-find")?.focus(),
    fit: () => void flow.fitView({ ...FIT, duration: 200 }),
    help: () => setHelp((open) => !open),
    tell: (text) => tell(text, []),
    light: (path) => setLit(path === null ? null : ids(legalTargets(world(), path))),
    edge: () => {
      const wire = drawn.edges.find((each) => each.id === edge)?.data;
      if (!wire) return false;
      make(wire.target === null ? "This line marks the result: the last node's." : disconnect(session.nodes, wire.target, wire.name), "Disconnected");
      return true;
    },
    fork: (way) => {
      const paths = session.selectedPaths();
      if (way === "residual") return make(residual(session.nodes, paths), "Residual connection added");
      const head = data.supplied.find((each) => each.place === "last")?.id ?? session.nodes.at(-1)?.id ?? "";
      const output = data.flows[head]?.type ?? "";
      if (way === "exit") return make(earlyExit(session.nodes, paths, data.catalogue, output), "Early exit added");
      const instead = choosingMixers(session.nodes, paths, data.catalogue);
      const gesture = expertChoice(session.nodes, paths, data.catalogue);
      make(gesture, "A router chooses among them");
      if (typeof gesture !== "string" && paths.length === 1 && gesture.changes.length > 1) tell(COPIED, instead);
    },
    align: (way) => {
      const standing = drawn.nodes.filter((each) => session.selected.has(each.id)).map((each) => ({ uid: each.id, path: each.data.path, ...each.position, width: each.width ?? 0, height: each.height ?? 0 }));
      const places = aligned(standing, way);
      if (typeof places === "string") tell(places, []);
      else session.place(places);
    },
    wide,
    widen: () => {
      refocus();
      setNodes((before) => [...before]);
      setWide((now) => !now);
    },
    escape: () => {
      setHelp(false);
      setFixes([]);
      setEdge(null);
      session.say(null);
    },
  };
  const ids = (paths: Set<string>): Set<string> => new Set([...paths].map((path) => nodeAt(session.nodes, path)!.uid!));

  const onNodesChange = useCallback((changes: NodeChange<BoxNode>[]): void => {
    const picked = changes.filter((change) => change.type === "select");
    if (picked.length) {
      const next = new Set(session.selected);
      for (const change of picked) {
        if (change.selected) next.add(change.id);
        else next.delete(change.id);
      }
      session.select(next);
    }
    setNodes((before) => applyNodeChanges(changes.filter((change) => change.type !== "remove"), before));
  }, [session]);
  const onConnectEnd = useSteady((event: MouseEvent | TouchEvent, state: FinalConnectionState): void => {
    setLit(null);
    if (state.isValid || !state.fromNode) return;
    const point = "changedTouches" in event ? event.changedTouches[0]! : event;
    const under = document.elementsFromPoint(point.clientX, point.clientY).map((each) => each.closest<HTMLElement>("[data-path]")).find(Boolean);
    const target = under?.dataset.path;
    const source = pathOf(state.fromNode.id);
    if (!target || !source || target === source || (parentOf(source) !== "" && target === parentOf(source))) return;
    connect(source, target.endsWith(":out") ? "" : target);
  });
  const onNodeDrag = useSteady((_: unknown, node: BoxNode, moved: BoxNode[]) => glow(moved.length === 1 ? leaves(node.id) : null));
  const onNodeDragStop = useSteady((_: unknown, node: BoxNode, moved: BoxNode[]) => {
    const group = moved.length === 1 ? leaves(node.id) : null;
    glow(null);
    if (group !== null) return make(into(session.nodes, pathOf(node.id), group), group ? "Moved into the group" : "Moved out of the group");
    const at = moved.filter((each) => !each.data.supplied).map((each): [string, Point] => [each.id, [Math.round(each.position.x), Math.round(each.position.y)]]);
    if (at.length) session.place(new Map(at));
  });
  const onConnectStart = useSteady((_: unknown, { nodeId, handleType }: OnConnectStartParams) => {
    if (nodeId && handleType === "source") setLit(ids(legalTargets(world(), pathOf(nodeId))));
  });
  const isValidConnection = useSteady((connection: Connection | WireEdge) => lit?.has(connection.target) ?? false);
  const onConnect = useSteady((connection: Connection) => connect(pathOf(connection.source), pathOf(connection.target)));
  const onEdgeClick = useSteady((_: unknown, each: WireEdge) => setEdge(each.id));
  const onPaneClick = useSteady(() => {
    setEdge(null);
    wrapper.current?.focus({ preventScroll: true });
  });
  const onNodeClick = useSteady(() => refocus());
  const onTake = useSteady(take);
  const onDrag = useSteady(drag.start);
  const onLeave = useSteady(() => commands.leave());
  const onShow = useSteady((problem: Problem) => {
    const visit = walk(session.nodes).findLast((each) => within(problem.path, each.path));
    refocus();
    session.reveal(visit?.node.uid ?? null);
    // A node that was folded away has a place only once it is drawn.
    if (visit) setTimeout(() => show(visit.path), 80);
  });
  const onFix = useSteady((fix: Offer) => make({ changes: fix.changes, select: acted(fix.changes) }, fix.title));
  const steadyCommands = useSteadyAll(commands);
  const actions = useMemo(() => ({ toggle: (id: string) => session.toggle(id), lit, plain, session }), [session, lit, plain]);
  const edges = useMemo(() => drawn.edges.map((each) => (each.id === edge ? { ...each, selected: true } : each)), [drawn.edges, edge]);

  return (
    <ActionsContext.Provider value={actions}>
      <div
        ref={wrapper}
        className={`hl-canvas${far ? " hl-far" : ""}${wide ? " hl-wide" : ""}`}
        tabIndex={0}
        role="application"
        aria-label={`Canvas of ${data.name}. Arrow keys walk the nodes, A adds, Delete removes, question mark lists all keys.`}
        data-revision={data.revision}
        data-pending={session.pending.length}
        data-unsaved={session.unsaved}
        data-costs={session.stale ? "stale" : "current"}
        onKeyDown={(event) => keyDown(event, commands)}
        {...clipboard(session, make, setStatus)}
      >
        <Palette ref={palette} catalogue={entries} kinds={data.kinds} onTake={onTake} onDrag={onDrag} onLeave={onLeave} />
        <div className="hl-main">
          <Bar commands={steadyCommands} version={version} wide={wide} />
          <div className="hl-flow">
            {begin && <ReactFlow<BoxNode, WireEdge>
              defaultViewport={begin}
              nodes={nodes}
              edges={edges}
              nodeTypes={NODE_TYPES}
              edgeTypes={EDGE_TYPES}
              defaultEdgeOptions={EDGE_OPTIONS}
              onNodesChange={onNodesChange}
              onNodeDrag={onNodeDrag}
              onNodeDragStop={onNodeDragStop}
              onConnectStart={onConnectStart}
              isValidConnection={isValidConnection}
              onConnect={onConnect}
              onConnectEnd={onConnectEnd}
              onEdgeClick={onEdgeClick}
              onPaneClick={onPaneClick}
              onNodeClick={onNodeClick}
              nodesFocusable={false}
              edgesFocusable={false}
              disableKeyboardA11y
              deleteKeyCode={null}
              multiSelectionKeyCode={MORE_KEYS}
              connectionRadius={34}
              minZoom={0.08}
              maxZoom={2}
              zoomOnDoubleClick={false}
              onlyRenderVisibleElements={drawn.nodes.length > SOME}
              proOptions={OPTIONS}
            >
              <Background variant={BackgroundVariant.Dots} gap={22} size={1} />
              {!plain && drawn.nodes.length > 8 && <MiniMap pannable zoomable nodeColor={mapColour} ariaLabel="Overview" />}
            </ReactFlow>}
            {!session.nodes.length && <Empty readable={data.readable} />}
            {plain && <p className="hl-plain" role="status">{whole(drawn.nodes.length)} boxes: too many to draw in full. Fold groups, or use a group with repeat, and details come back.</p>}
            <Legend session={session} />
            {help && <Help onClose={() => setHelp(false)} />}
            <Callout text={session.notice} fixes={fixes} onFix={takeFix} onClose={commands.escape} />
          </div>
          <ProblemList
            problems={data.problems}
            hints={data.hints}
            busy={session.pending.length > 0}
            onShow={onShow}
            onFix={onFix}
          />
        </div>
        {drag.ghost}
        <span className="hl-quiet" role="status" aria-live="polite">{status}</span>
      </div>
    </ActionsContext.Provider>
  );
}
