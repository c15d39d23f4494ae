/** How nodes, groups, ports and lines look. */
import { BaseEdge, EdgeLabelRenderer, Handle, Position, getSmoothStepPath, type EdgeProps, type NodeProps } from "@xyflow/react";
import { createContext, memo, useContext } from "react";
import { bytes, count, ms, whole } from "./format";
import { Icon } from "./icons";
import { Overlaid, OverlaidTotal } from "./Legend";
import type { Session } from "./session";
import type { BoxData, BoxNode, WireEdge } from "./view";

export interface Actions {
  toggle(id: string): void;
  /** Ids of the nodes that may take the line being dragged; null while none is. */
  lit: Set<string> | null;
  /** Whether there are so many nodes that only boxes are drawn. */
  plain: boolean;
  session: Session | null;
}
export const ActionsContext = createContext<Actions>({ toggle: () => undefined, lit: null, plain: false, session: null });

function ends(data: BoxData, id: string, lit: Set<string> | null): React.ReactNode {
  const open = lit === null || lit.has(id);
  return (
    <>
      {data.inputs && (
        <Handle type="target" position={Position.Top} className={lit ? (open ? "hl-lit" : "hl-unlit") : ""} aria-hidden />
      )}
      <Handle type="source" position={Position.Bottom} className={lit ? "hl-unlit" : ""} aria-hidden />
    </>
  );
}

function Changed({ data }: { data: BoxData }): React.ReactNode {
  return data.changed ? <span className="hl-changed" title={`Since it was saved: ${data.changed}`} aria-hidden>●</span> : null;
}

/** The switch that marks what may vary in a search. */
function Vary({ data, session }: { data: BoxData; session: Session | null }): React.ReactNode {
  if (data.supplied || !session) return null;
  const on = data.varies !== null;
  return (
    <button
      type="button"
      role="switch"
      className={`hl-vary nodrag${on ? " hl-on" : ""}`}
      tabIndex={-1}
      aria-checked={on}
      aria-label={`${data.title} may vary in a search`}
      title={on ? `May vary in a search${data.varies ? `: ${data.varies}` : ""}` : "Let it vary in a search (M)"}
      onClick={() => session.vary([data.address], !on)}
    >
      <Icon name="vary" />
    </button>
  );
}

function Problems({ data }: { data: BoxData }): React.ReactNode {
  if (!data.problems.length) return null;
  const error = data.problems.some((problem) => problem.severity === "error");
  return (
    <span className={`hl-mark ${error ? "hl-error" : "hl-warning"}`} title={data.problems.map((p) => p.sentence).join("\n")}>
      {error ? "✕" : "!"}
    </span>
  );
}

function Costs({ data }: { data: BoxData }): React.ReactNode {
  const cost = data.cost;
  if (!cost) return <div className="hl-costs">&nbsp;</div>;
  const hint =
    `${whole(cost.params)} parameters\n${count(cost.flops)}FLOP forward, one batch\n` +
    `${bytes(cost.activation_bytes)} of activations kept for backward\n${ms(cost.ms)} of a training step (predicted)`;
  return (
    <div className="hl-costs hl-dim" title={hint}>
      <span>{count(cost.params)}</span>
      <span>{count(cost.flops)}F</span>
      <span>{bytes(cost.activation_bytes)}</span>
      <span>{ms(cost.ms)}</span>
    </div>
  );
}

function classes(data: BoxData, selected: boolean | undefined): string {
  const error = data.problems.some((problem) => problem.severity === "error");
  return ["hl-box", selected ? "hl-selected" : "", data.supplied ? "hl-supplied" : "", error ? "hl-bad" : ""].filter(Boolean).join(" ");
}

const colour = (value: string): React.CSSProperties => ({ "--hl-kind": value }) as React.CSSProperties;

export const Box = memo(function Box({ id, data, selected }: NodeProps<BoxNode>) {
  const { lit, plain, toggle, session } = useContext(ActionsContext);
  return (
    <div
      className={classes(data, selected)}
      style={colour(data.colour)}
      role="button"
      tabIndex={data.supplied ? undefined : -1} // always: a browser lays the page out anew when that of the focus changes
      aria-label={data.aria}
      aria-pressed={selected}
      data-path={data.path}
      data-use={data.use}
    >
      {ends(data, id, lit)}
      <div className="hl-title">
        <strong>{data.title}</strong>
        <Changed data={data} />
        {data.times > 1 && <span className="hl-times">× {data.times}</span>}
        {data.tie && <span title="All repeats share one set of weights"><Icon name="tie" /></span>}
        <span className="hl-sub">{data.subtitle}</span>
        <Vary data={data} session={session} />
        <Problems data={data} />
        {data.group && (
          <button type="button" className="hl-fold nodrag" tabIndex={-1} aria-label={`Unfold ${data.title}`} onClick={() => toggle(id)}>▸</button>
        )}
      </div>
      {!plain && (
        <>
          <div className="hl-detail" title={data.detail}>{data.detail || "\u00a0"}</div>
          <Overlaid session={session} data={data}>
            <Costs data={data} />
            <div className="hl-bar" title="Share of the predicted step time, against the slowest node"><i style={{ width: `${Math.round(100 * data.share)}%` }} /></div>
          </Overlaid>
        </>
      )}
      {data.residual && <span className="hl-residual" title="Residual: the input is added to the result">⊕</span>}
    </div>
  );
});

export const GroupBox = memo(function GroupBox({ id, data, selected }: NodeProps<BoxNode>) {
  const { lit, toggle, session } = useContext(ActionsContext);
  return (
    <div
      className={`hl-group ${selected ? "hl-selected" : ""} ${data.problems.length ? "hl-bad" : ""}`}
      role="button"
      tabIndex={-1}
      aria-label={data.aria}
      aria-pressed={selected}
      data-path={data.path}
    >
      {ends(data, id, lit)}
      <div className="hl-group-head">
        <button type="button" className="hl-fold nodrag" tabIndex={-1} aria-label={`Fold ${data.title}`} onClick={() => toggle(id)}>▾</button>
        <strong>{data.title}</strong>
        <Changed data={data} />
        {data.times > 1 && <span className="hl-times">× {data.times}</span>}
        {data.tie && <span className="hl-sub" title="All repeats share one set of weights">shared weights</span>}
        {data.borrowed && <span className="hl-sub" title="These nodes use another place's weights">{data.borrowed}</span>}
        <Vary data={data} session={session} />
        <Problems data={data} />
        <OverlaidTotal session={session} data={data}>
          {data.cost && (
            <span className="hl-sub hl-total hl-dim" title="All repeats together">
              {count(data.cost.params)} · {ms(data.cost.ms)} · {Math.round(100 * data.share)} %
            </span>
          )}
        </OverlaidTotal>
      </div>
      {data.residual && <span className="hl-residual" title="Residual: the group's input is added to its result">⊕</span>}
    </div>
  );
});

export const Port = memo(function Port({ data }: NodeProps<BoxNode>) {
  const { lit } = useContext(ActionsContext);
  return (
    <div className="hl-port" title={data.aria} data-path={data.path}>
      {data.inputs ? <Handle type="target" position={Position.Top} isConnectable={false} /> : <Handle type="source" position={Position.Bottom} className={lit ? "hl-unlit" : ""} />}
      {data.inputs && <Handle type="source" position={Position.Bottom} isConnectable={false} className="hl-none" />}
    </div>
  );
});

export const End = memo(function End({ data }: NodeProps<BoxNode>) {
  return (
    <div className="hl-end" data-path={data.path}>
      {data.inputs ? <Handle type="target" position={Position.Top} isConnectable={false} /> : <Handle type="source" position={Position.Bottom} />}
      {data.title} <span className="hl-sub">{data.detail}</span>
    </div>
  );
});

export const Wire = memo(function Wire(props: EdgeProps<WireEdge>) {
  const [path, x, y] = getSmoothStepPath({ ...props, borderRadius: 10 });
  const { plain } = useContext(ActionsContext);
  const label = props.data?.label ?? "";
  return (
    <>
      <BaseEdge id={props.id} path={path} interactionWidth={26} {...(props.markerEnd ? { markerEnd: props.markerEnd } : {})} />
      {label && !plain && (
        <EdgeLabelRenderer>
          <div className="hl-wire-label" title={props.data?.hint ?? ""} style={{ transform: `translate(6px, -50%) translate(${x}px, ${y}px)` }}>
            {label}
          </div>
        </EdgeLabelRenderer>
      )}
    </>
  );
});
