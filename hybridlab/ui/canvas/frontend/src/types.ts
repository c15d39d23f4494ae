/** What Python and the canvas say to each other; hybridlab/ui/canvas/protocol.py is the other side. */

export type Value = string | number | boolean | null | Value[] | { [key: string]: Value };

/** A node as it stands in the text. */
export interface TreeNode {
  /** Its id: written, or implied by its component and place. */
  id: string;
  /** Whether the id is written in the text. */
  named: boolean;
  use: string | null;
  params: Record<string, Value>;
  /** null: it reads the node above. */
  inputs: string[] | null;
  residual: string | null;
  repeat: number;
  tie: boolean;
  /** The place whose weights it uses, by ids; null for weights of its own. */
  share: string | null;
  /** Rank of the low-rank pair that a use of shared weights has for itself; 0 for none. */
  lora: number;
  nodes: TreeNode[] | null;
  /** Given by the browser, so that a node stays itself while its address changes. */
  uid?: string;
}

export interface Entry {
  name: string;
  kind: string;
  title: string;
  summary: string;
  cost: string;
  paper: string;
  accepts: string[];
  min_inputs: number;
  max_inputs: number | null;
  params: Record<string, Field>;
  /** A saved block: the node that is put in, as the text would write it. */
  node?: { [key: string]: Value };
}

export interface Field {
  required: boolean;
  optional?: boolean;
  type?: string;
  choices?: Value[];
  minimum?: number;
  maximum?: number;
  unit?: string;
}

export interface Cost {
  params: number;
  flops: number;
  activation_bytes: number;
  ms: number;
}

export interface Flow {
  type: string;
  bytes: number | null;
}

/** What a button does about a problem; its changes are one edit. */
export interface Offer {
  title: string;
  changes: Change[];
}

export interface Problem {
  path: string;
  sentence: string;
  severity: "error" | "warning" | "hint";
  fixes: Offer[];
}

export interface Supplied {
  id: string;
  use: string;
  /** "first" stands before the text's nodes, "last" after them. */
  place: "first" | "last";
}

/** Everything Python sends. */
export interface FromPython {
  /** Changes when another design is opened: the canvas starts anew. */
  seed: string;
  revision: number;
  /** The last edit of each canvas that is in this revision. */
  acknowledged: Record<string, number>;
  refused: { client: string; id: number; sentence: string }[];
  readable: boolean;
  name: string;
  nodes: TreeNode[];
  supplied: Supplied[];
  /** Which revision costs, flows and problems belong to. */
  costs_revision: number;
  costs: Record<string, Cost>;
  flows: Record<string, Flow>;
  input: string;
  problems: Problem[];
  /** What a valid design might do better; they mark no node. */
  hints: Problem[];
  can_undo: boolean;
  can_redo: boolean;
  /** What Python has selected; a new stamp says that somebody else than this canvas chose it. */
  wish: { path: string | null; stamp: number };
  places: Record<string, [number, number]>;
  /** What is different since the design was saved, in words, by a node's path of ids. */
  changed?: Record<string, string>;
  /** What may vary in a search, in words, by a node's path of ids. */
  varies?: Record<string, string>;
  catalogue: Entry[];
  /** Groups that were saved to be used again, as more entries of the palette. */
  blocks?: Entry[];
  kinds: Record<string, { title: string; colour: string }>;
  /** Where to ask what edits will cost before they are made; null where nobody answers. */
  ahead?: string | null;
}

/** What Python knows of the design as it will be once the edits up to `edit` are made. */
export type Foreseen = Pick<
  FromPython,
  "seed" | "supplied" | "costs" | "flows" | "input" | "problems" | "hints" | "changed" | "readable" | "name"
> & { edit: number };

/** One step of an edit; addresses are those after the steps before it. */
export type Change =
  /** `like`: the node that it is a copy of, so that its comments come along. */
  | { do: "insert"; at: string; node: { [key: string]: Value }; like?: string }
  | { do: "paste"; at: string; yaml: string }
  | { do: "remove"; path: string }
  | { do: "replace"; path: string; use: string; keep: string[]; give: Record<string, Value> }
  | { do: "set"; path: string; key: string; value: Value }
  | { do: "field"; key: string; value: Value }
  | { do: "rename"; path: string; id: string }
  | { do: "wrap"; path: string; count: number; repeat: number }
  | { do: "unwrap"; path: string }
  | { do: "move"; path: string; by: number }
  | { do: "duplicate"; path: string }
  | { do: "undo" }
  | { do: "redo" };

/** One edit: one step of undo, made on a revision. */
export interface Edit {
  id: number;
  base: number;
  changes: Change[];
  /** Nodes that must still be where the edit expects them. */
  guards: { path: string; id: string }[];
  select: string | null;
}

export interface Sent {
  client: string;
  edits: Edit[];
  /** Grows when the same edits are sent again after a silence. */
  again: number;
}
