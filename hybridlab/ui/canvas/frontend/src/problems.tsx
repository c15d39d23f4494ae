/** What is wrong, what might be better, and a button for each fix. */
import { memo } from "react";
import type { Change, Offer, Problem } from "./types";

interface Ways {
  /** Edits are on their way, so addresses may have changed: fixes wait. */
  busy: boolean;
  onShow(problem: Problem): void;
  onFix(fix: Offer): void;
}

export const ProblemList = memo(function ProblemList({ problems, hints, ...ways }: Ways & { problems: Problem[]; hints: Problem[] }): React.ReactNode {
  if (!problems.length && !hints.length) return null;
  const errors = problems.filter((problem) => problem.severity === "error");
  const warnings = problems.filter((problem) => problem.severity !== "error");
  return (
    <div className="hl-problems" role="region" aria-label={[many(problems.length, "problem"), many(hints.length, "hint")].filter(Boolean).join(", ")}>
      {[...errors, ...warnings].map((problem, index) => <Row key={index} problem={problem} {...ways} />)}
      {hints.length > 0 && (
        <details className="hl-hints" open={!problems.length}>
          <summary>{many(hints.length, "hint")} from the predicted cost</summary>
          {hints.map((hint, index) => <Row key={index} problem={hint} {...ways} />)}
        </details>
      )}
    </div>
  );
});

const MARKS = { error: "✕", warning: "!", hint: "→" };

function Row({ problem, busy, onShow, onFix }: Ways & { problem: Problem }): React.ReactNode {
  return (
    <div className="hl-problem-row" data-severity={problem.severity}>
      <button type="button" className={`hl-problem hl-${problem.severity}`} title="Go there" onClick={() => onShow(problem)}>
        <b>{MARKS[problem.severity]}</b> {problem.sentence}
      </button>
      {problem.fixes.map((fix) => (
        <button type="button" className="hl-button hl-fix" key={fix.title} disabled={busy} onClick={() => onFix(fix)}>{fix.title}</button>
      ))}
    </div>
  );
}

function many(count: number, what: string): string {
  return count ? `${count} ${what}${count === 1 ? "" : "s"}` : "";
}

/** The node that a fix leaves changed, which is shown afterwards; null where it removed one or changed none. */
export function acted(changes: Change[]): string | null {
  const last = changes.at(-1);
  if (!last || last.do === "remove" || last.do === "move") return null;
  const first = changes.find((change) => change.do === "insert");
  if (first) return first.at;
  return "path" in last ? last.path : null;
}
