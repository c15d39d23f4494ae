/** Which connections make sense, and why others do not. */
import { INPUT, links, needs, nodeAt, parentOf, place, walk, type Link } from "./tree";
import type { Change, Entry, Flow, TreeNode } from "./types";

export interface Fix {
  label: string;
  changes: Change[];
  select: string | null;
}

export type Verdict = { ok: true; changes: Change[]; offer?: Fix } | { ok: false; why: string; fixes: Fix[] };

export interface World {
  nodes: TreeNode[];
  catalogue: Map<string, Entry>;
  flows: Record<string, Flow>;
  input: string;
}

const SHAPES: Record<string, string> = {
  tokens: "(B, L)", sequence: "(B, L, D)", image: "(B, C, height, width)", series: "(B, L, C)", vector: "(B, D)", logits: "(B, N)",
};

/** The kinds that a component takes, with their shapes. */
function taken(entry: Entry): string {
  return entry.accepts.map((kind) => `${kind} ${SHAPES[kind] ?? ""}`.trim()).join(" or ");
}

/** The kind at the start of a type such as "sequence (B, L, 64) float32". */
export function kindOf(type: string): string {
  return type.split(" ")[0] ?? "";
}

/** What a node hands on, as far as that is known. */
export function gives(world: World, path: string): string {
  if (path.endsWith(":in")) {
    const group = path.slice(0, -3);
    if (!group) return world.input;
    const link = links(world.nodes).find((each) => each.target === group);
    return link ? gives(world, link.source) : "";
  }
  const visit = walk(world.nodes).find((each) => each.path === path);
  if (!visit) return "";
  const known = world.flows[visit.ids]?.type;
  if (known) return known;
  const kind = visit.node.nodes ? "" : (world.catalogue.get(visit.node.use ?? "")?.kind ?? "");
  return kind === "head" ? "logits" : kind ? "sequence" : "";
}

function title(world: World, path: string): string {
  if (path.endsWith(":in")) return path === ":in" ? "the input" : "what enters the group";
  const node = nodeAt(world.nodes, path);
  if (!node) return "this node";
  const name = world.catalogue.get(node.use ?? "")?.title ?? node.use ?? "group";
  return node.nodes ? `the group ${node.id}` : node.named ? `${node.id} (${name})` : name;
}

/** The name by which a target would read a source; null where it cannot see it. */
export function nameFor(world: World, source: string, target: string): string | null {
  const scope = source.endsWith(":in") ? source.slice(0, -3) : parentOf(source);
  const around = parentOf(target);
  if (scope !== around && !(scope === "" ? true : around.startsWith(`${scope}.`))) return null;
  if (source.endsWith(":in")) return scope === around ? INPUT : null;
  return nodeAt(world.nodes, source)?.id ?? null;
}

/** Judge a connection from one node's output to another's input. */
export function judge(world: World, source: string, target: string, needed = needs(world.nodes, source)): Verdict {
  const to = nodeAt(world.nodes, target);
  if (!to) return no("That end belongs to the task, which supplies it; put your own input or head into the design to wire it.");
  if (source === target) return no(`${cap(title(world, target))} cannot read itself.`);
  if (target.startsWith(`${source}.`)) return no("A node inside a group cannot read the group's result, which comes later.");
  const name = nameFor(world, source, target);
  if (name === null) {
    return {
      ok: false,
      why: `${cap(title(world, source))} is inside another group, so ${title(world, target)} cannot see it. ` +
        "Connect the group itself, whose result is its last node.",
      fixes: around(world, source, target),
    };
  }
  if (needed.has(target) || [...needed].some((path) => path.startsWith(`${target}.`))) {
    return no(
      `${cap(title(world, source))} already reads ${title(world, target)}, directly or through others: this would be a circle. ` +
        "Let it read a node from before.",
    );
  }
  const found = place(world.nodes, target)!;
  const now = links(world.nodes).filter((link) => link.target === target);
  if (now.some((link) => link.source === source)) return no(`${cap(title(world, target))} reads ${title(world, source)} already.`);
  const entry = world.catalogue.get(to.use ?? "");
  const given = gives(world, source);
  if (entry && given && !entry.accepts.includes(kindOf(given))) {
    return {
      ok: false,
      why: `${entry.title} reads ${taken(entry)}, but ${title(world, source)} gives ${given}.`,
      fixes: kindOf(given) === "logits" ? before(world, source, target) : bridges(world, name, target, kindOf(given), entry),
    };
  }
  const other = entry?.kind === "merge" ? unlike(world, now, given, entry) : null;
  if (other) {
    return {
      ok: false,
      why: `${entry!.title} joins branches of one shape, but ${title(world, source)} gives ${given} and ${title(world, other.source)} gives ${gives(world, other.source)}.`,
      fixes: sideBySide(world, target, [...(to.inputs ?? now.map((link) => link.name)), name]),
    };
  }
  const many = entry ? entry.max_inputs === null || entry.max_inputs > now.length : false;
  const written = to.inputs ?? now.map((link) => link.name);
  if (many && (entry!.max_inputs ?? 2) > 1) {
    return { ok: true, changes: [{ do: "set", path: target, key: "inputs", value: [...new Set([...written, name])] }] };
  }
  const offer = now.length === 1 ? joined(world, name, now[0]!.name, target) : undefined;
  if (found.index === 0 && name === INPUT && !to.inputs) return no(`${cap(title(world, target))} reads it already.`);
  return { ok: true, changes: [{ do: "set", path: target, key: "inputs", value: [name] }], ...(offer ? { offer } : {}) };
}

/** A sum before the target that joins what it reads now and the new source. */
function joined(world: World, name: string, old: string, target: string): Fix {
  const { siblings, index } = place(world.nodes, target)!;
  const taken = new Set(siblings.map((node) => node.id));
  let id = "join";
  for (let number = 2; taken.has(id); number += 1) id = `join_${number}`;
  const after = target.replace(/\d+(?=\]$)/, String(index + 1));
  return {
    label: "Add both with a Sum instead",
    changes: [
      { do: "insert", at: target, node: { id, use: "sum", inputs: [old, name] } },
      { do: "set", path: after, key: "inputs", value: null },
    ],
    select: target,
  };
}

/** A branch of a join whose shape is known to differ from the new one's; a concatenation takes any width. */
function unlike(world: World, now: Link[], given: string, entry: Entry): Link | null {
  const shape = (type: string): string => (entry.name === "concat" ? type.replace(/, [^,]*\).*$/, "") : type.replace(/\).*$/, ""));
  if (!given.includes("(")) return null;
  return now.find((link) => gives(world, link.source).includes("(") && shape(gives(world, link.source)) !== shape(given)) ?? null;
}

/** Concatenation in a join's place, which takes branches of different width. */
function sideBySide(world: World, target: string, inputs: string[]): Fix[] {
  const concat = world.catalogue.get("concat");
  if (!concat || nodeAt(world.nodes, target)?.use === "concat") return [];
  return [{
    label: `Join them with ${concat.title}`,
    changes: [
      { do: "replace", path: target, use: concat.name, keep: [], give: {} },
      { do: "set", path: target, key: "inputs", value: [...new Set(inputs)] },
    ],
    select: target,
  }];
}

/** The group around a node, connected in its stead. */
function around(world: World, source: string, target: string): Fix[] {
  if (source.endsWith(":in")) return [];
  for (let up = parentOf(source); up; up = parentOf(up)) {
    if (nameFor(world, up, target) === null) continue;
    const verdict = judge(world, up, target);
    return instead(verdict, `Connect ${title(world, up)}`, target);
  }
  return [];
}

/** Another connection in the place of one that cannot be: alone, and joined with what the target reads now. */
function instead(verdict: Verdict, label: string, target: string): Fix[] {
  if (!verdict.ok) return [];
  const both = verdict.offer ? [{ ...verdict.offer, label: `${label}, and add both with a Sum` }] : [];
  return [{ label, changes: verdict.changes, select: target }, ...both];
}

/** What a head reads, connected in its stead: nothing can read a head. */
function before(world: World, head: string, target: string): Fix[] {
  const link = links(world.nodes).find((each) => each.target === head);
  if (!link || link.source === target) return [];
  return instead(judge(world, link.source, target), `Connect ${title(world, link.source)}, which the head reads`, target);
}

/** Components that turn what flows into what the target reads. */
function bridges(world: World, name: string, target: string, given: string, entry: Entry): Fix[] {
  if (!entry.accepts.includes("sequence")) return [];
  const after = target.replace(/\d+(?=\]$)/, (digits) => String(Number(digits) + 1));
  return [...world.catalogue.values()]
    .filter((each) => each.kind === "input" && each.accepts.includes(given))
    .filter((each) => Object.values(each.params).every((field) => !field.required))
    .map((each) => ({
      label: `Insert ${each.title} between them`,
      changes: [
        { do: "insert", at: target, node: { use: each.name, inputs: [name] } } as Change,
        { do: "set", path: after, key: "inputs", value: null } as Change,
      ],
      select: target,
    }));
}

/** The nodes that may read a source, by address. */
export function legalTargets(world: World, source: string): Set<string> {
  const needed = needs(world.nodes, source);
  return new Set(walk(world.nodes).map((visit) => visit.path).filter((path) => judge(world, source, path, needed).ok));
}

function no(why: string): Verdict {
  return { ok: false, why, fixes: [] };
}

function cap(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
