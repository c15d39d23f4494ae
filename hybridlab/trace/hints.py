"""What a design that is right might do better, read from its predicted cost. Free of torch; nothing here blocks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hybridlab.architecture.fixes.fix import Change, Fix, setting
from hybridlab.architecture.spec import INPUT, Architecture, Node
from hybridlab.errors import Problem

ATTENTION_SHARE, ATTENTION_LENGTH, ATTENTION_WIDTHS = 0.5, 256, 4
"""Full attention is remarked on from half of the FLOPs, at 256 positions, and at four widths: from there its quadratic
part outweighs its projections."""
PARAMETER_SHARE, FEWEST_PARAMETERS = 0.8, 50_000
"""One component is remarked on where it holds four fifths of the parameters of a model that is not tiny."""
SHORTEST_WINDOW, WINDOWS = 32, 8
"""The window suggested is an eighth of the length, rounded up to a power of two."""
_REPEAT = re.compile(r"\.\d+(?=\.|$)")
Entries = Mapping[str, Mapping[str, Any]]
Hint = tuple[Problem, tuple[Fix, ...]]


def hints(
    architecture: Architecture, prediction: Mapping[str, Any], entries: Entries
) -> dict[Problem, tuple[Fix, ...]]:
    """Return hints with their fixes, the weightiest first.

    Args:
        architecture: the design itself; hints lead to its nodes, never to what the task supplies.
        prediction: what ``trace.predict`` says of it, as plain JSON.
        entries: the palette as the catalogue writes it, by name.
    """
    places = {ids: path for path, ids, _ in architecture.walk()}
    found = [
        *_attention(architecture, prediction, entries, places),
        *_parameters(architecture, prediction, places),
        *_experts(architecture, entries),
        *_windows(architecture, prediction),
        *_norms(architecture, entries),
    ]
    return dict(found)


def _hint(path: str, message: str, fix: str, *fixes: Fix) -> Hint:
    return Problem(path, message, fix=fix, severity="hint"), fixes


def sums(
    architecture: Architecture, prediction: Mapping[str, Any], quantity: str
) -> dict[str, float]:
    """Return a quantity of the prediction by place: all repeats together, shared weights as often as they run."""
    tied = {
        ids: node.repeat
        for _, ids, node in architecture.walk()
        if node.is_group and node.runs_again
    }
    found: dict[str, float] = {}
    for item in prediction["components"]:
        ids = _REPEAT.sub("", str(item["path"]))
        steps = ids.split(".")
        groups = (".".join(steps[:end]) for end in range(1, len(steps)))
        times = 1 if quantity == "params" else math.prod(tied.get(g, 1) for g in groups)
        found[ids] = found.get(ids, 0.0) + times * float(item[quantity])
    return found


def _attention(
    architecture: Architecture,
    prediction: Mapping[str, Any],
    entries: Entries,
    places: Mapping[str, str],
) -> Iterator[Hint]:
    length = int(prediction["length"])
    flops = sums(architecture, prediction, "flops")
    full = [
        (path, ids)
        for path, ids, node in architecture.walk()
        if _is_full_attention(node, entries) and ids in flops
    ]
    share = sum(flops[ids] for _, ids in full) / max(1.0, sum(flops.values()))
    long = length >= max(ATTENTION_LENGTH, ATTENTION_WIDTHS * architecture.width)
    if not full or share < ATTENTION_SHARE or not long:
        return
    window = max(SHORTEST_WINDOW, 2 ** math.ceil(math.log2(length / WINDOWS)))
    heaviest = max(full, key=lambda item: flops[item[1]])[0]
    several = f"Give all {len(full)} a window of {window:,}"
    title = several if len(full) > 1 else f"Set window to {window:,}"
    yield _hint(
        heaviest,
        f"attention over {length:,} positions is {100 * share:.0f} % of the FLOPs (predicted)",
        f"try a window of {window:,}, or a mixer whose cost is linear in length",
        Fix(title, tuple(setting(path, "window", window) for path, _ in full)),
    )


def _is_full_attention(node: Node, entries: Entries) -> bool:
    entry = entries.get(node.use or "")
    if entry is None or entry["cost"] != "quadratic":
        return False
    return "window" in entry["params_schema"]["properties"] and node.params.get("window") is None


def _parameters(
    architecture: Architecture, prediction: Mapping[str, Any], places: Mapping[str, str]
) -> Iterator[Hint]:
    params = sums(architecture, prediction, "params")
    total = sum(params.values())
    own = sum(not node.is_group for _, _, node in architecture.walk())
    if total < FEWEST_PARAMETERS or own < 2:  # of one component nothing else can be said
        return
    ids, most = max(params.items(), key=lambda item: item[1])
    if most >= PARAMETER_SHARE * total and len(params) > 1:
        where = "" if ids in places else ", which the task supplies"
        yield _hint(
            places.get(ids, ""),
            f"{100 * most / total:.0f} % of the parameters stand in {ids!r}{where}",
            "its sizes are the ones to change where the model is to be smaller",
        )


def _experts(architecture: Architecture, entries: Entries) -> Iterator[Hint]:
    for path, _, node in architecture.walk():
        entry = entries.get(node.use or "")
        known = entry["params_schema"].get("properties", {}) if entry else {}
        if not {"experts", "top_k"} <= set(known):
            continue
        experts, top_k = (
            node.params.get(key, known[key].get("default")) for key in ("experts", "top_k")
        )
        if not isinstance(experts, int) or top_k != experts:
            continue
        fewer = max(1, experts // 2)
        fixes = [Fix(f"Set top_k to {fewer}", (setting(path, "top_k", fewer),))]
        yield _hint(
            path,
            f"each position goes to all {experts} experts, so the router chooses nothing"
            if experts > 1
            else "there is one expert, so the router chooses nothing",
            "let top_k be smaller than experts"
            if experts > 1
            else "take more experts, or a plain channel mixer",
            *(fixes if experts > 1 else ()),
        )


def _windows(architecture: Architecture, prediction: Mapping[str, Any]) -> Iterator[Hint]:
    length = int(prediction["length"])
    for path, _, node in architecture.walk():
        window = node.params.get("window")
        if isinstance(window, int) and window >= length:
            yield _hint(
                path,
                f"a window of {window:,} covers all {length:,} positions of this task, so it limits nothing",
                "make it shorter than the length, or leave it out",
                Fix("Leave the window out", (setting(path, "window", None),)),
            )


def _norms(architecture: Architecture, entries: Entries) -> Iterator[Hint]:
    """Remark on norms that read a norm: the second finds everything scaled already."""
    yield from _norms_in(architecture.nodes, "", entries)


def _norms_in(nodes: tuple[Node, ...], head: str, entries: Entries) -> Iterator[Hint]:
    norms = {node.id for node in nodes if _kind(node, entries) == "norm"}
    for index, node in enumerate(nodes):
        path = f"{head}nodes[{index}]"
        above = nodes[index - 1].id if index else INPUT
        if node.id in norms and (node.inputs or (above,))[0] in norms:
            gone: Change = {"do": "remove", "path": path}
            yield _hint(
                path,
                f"{node.id!r} normalises what a norm has just normalised",
                "one of two norms in a row is enough",
                Fix(f"Remove {node.id}", (gone,)),
            )
        yield from _norms_in(node.nodes, f"{path}.", entries)


def _kind(node: Node, entries: Entries) -> str:
    entry = entries.get(node.use or "")
    return str(entry["kind"]) if entry else ""
