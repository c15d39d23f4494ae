"""An architecture as a list of computations, so that two descriptions of the same model can be seen to be the same.

Groups, repeats, names and what is left to defaults are written out; residuals become a norm and a sum. What changes
training or speed alone, such as the size of chunks or of a first weight, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hybridlab.architecture.graph import Scope
from hybridlab.architecture.importers.essentials import essential
from hybridlab.architecture.infer import Inference, SlotPlan, infer
from hybridlab.architecture.lending import find_lenders
from hybridlab.architecture.residual_norm import norm_params
from hybridlab.architecture.spec import INPUT, Architecture, Node, Residual
from hybridlab.components.registry import lookup
from hybridlab.errors import Problem, SpecError
from hybridlab.validation import shown

ADD = "add"


@dataclass(frozen=True)
class Line:
    """One computation: a component (or the sum of earlier lines), what it is told, and the lines that it reads."""

    op: str
    path: str
    """The node's path, such as ``layers.0.attention``."""
    essentials: Mapping[str, Any] = field(default_factory=dict)
    """Parameters, as far as they change what is computed; defaults written out."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """All parameters."""
    reads: tuple[int, ...] = ()
    prefix: str = ""
    """How names of its weights start in its place."""
    owner: str = ""
    """The path of the node whose weights it uses: its own, or that of another place that lends them."""


@dataclass(frozen=True)
class NormalForm:
    """The lines of an architecture, each after those that it reads, and which of them is the output."""

    width: int
    lines: tuple[Line, ...]
    output: int

    def given(self, op: str) -> Mapping[str, Any]:
        """Return the parameters of the first line of a component, or its defaults where there is none."""
        return next((line.params for line in self.lines if line.op == op), None) or (
            lookup(op).cls.Params().model_dump()
        )

    def order(self, *ops: str) -> list[str]:
        """Return which of several components come, in their order."""
        return [line.op for line in self.lines if line.op in ops]

    def uses(self, op: str) -> list[Line]:
        """Return every line of a component, in their order."""
        return [line for line in self.lines if line.op == op]

    @property
    def norm_eps(self) -> float:
        """What the first norm adds before the root."""
        found = [line.params["eps"] for line in self.lines if "norm" in line.op and line.params]
        return float(found[0]) if found else 1e-6


def normal_form(architecture: Architecture) -> NormalForm:
    """Return the lines of an architecture.

    Raises:
        SpecError: the architecture has errors.
    """
    inference = infer(architecture)
    if inference.errors or inference.scope is None:
        raise SpecError(inference.errors)
    writer = _Writer(architecture, inference)
    output = writer.scope(inference.scope, [{INPUT: writer.line(Line("input", INPUT))}], "")
    return NormalForm(architecture.width, tuple(writer.lines), output)


class _Writer:
    """Walks an architecture as its model runs it."""

    def __init__(self, architecture: Architecture, inference: Inference) -> None:
        self.architecture = architecture
        self.inference = inference
        self.lines: list[Line] = []
        assert inference.scope is not None
        self.lenders = find_lenders(inference.scope, [])

    def line(self, line: Line) -> int:
        self.lines.append(replace(line, owner=self.lenders.get(line.path, line.path)))
        return len(self.lines) - 1

    def scope(self, scope: Scope, frames: list[dict[str, int]], prefix: str) -> int:
        for step in scope.steps:
            reads = tuple(frames[-1 - ref.outward][ref.id] for ref in step.reads)
            path = f"{prefix}{step.node.id}"
            if step.inner is None:
                result = self._slot(self.inference.slots[path], reads)
            else:
                result = self._group(step.node, step.inner, frames, path, reads[0])
            frames[-1][step.node.id] = result
        return frames[-1][scope.output]

    def _group(
        self, node: Node, inner: Scope, frames: list[dict[str, int]], path: str, given: int
    ) -> int:
        normed = path in self.inference.group_norms
        x = self._norm(path, given) if normed and node.residual is Residual.PRE else given
        for index in range(node.repeat):
            apart = node.repeat > 1 and not node.tie
            prefix = f"{path}.{index}." if apart else f"{path}."
            x = self.scope(inner, [*frames, {INPUT: x}], prefix)
        if not normed:
            return x
        total = self.line(Line(ADD, path, reads=(given, x)))
        return total if node.residual is Residual.PRE else self._norm(path, total)

    def _slot(self, plan: SlotPlan, reads: tuple[int, ...]) -> int:
        path, residual = plan.path, plan.residual
        inside = reads
        if residual is Residual.PRE:
            inside = (self._norm(path, reads[0]), *reads[1:])
        y = self._body(plan, inside)
        if residual is Residual.NONE:
            return y
        total = self.line(Line(ADD, path, reads=(reads[0], y)))
        return total if residual is Residual.PRE else self._norm(path, total)

    def _body(self, plan: SlotPlan, reads: tuple[int, ...]) -> int:
        name, params = plan.info.name, plan.params.model_dump()
        if name == "sum" and set(params["scales"] or [1]) == {1}:
            return self.line(Line(ADD, plan.path, reads=reads))
        if name == "lm_head" and params["norm"]:
            inner = lookup("rms_norm").cls.Params()
            reads = (self._norm_line("rms_norm", inner, plan.path, "body.norm.", reads[0]),)
            params["norm"] = False
        essentials = essential(name, params, self.architecture.width) | {"lora": plan.lora}
        return self.line(Line(name, plan.path, essentials, params, reads, "body."))

    def _norm(self, path: str, read: int) -> int:
        info = lookup(self.architecture.norm, "norm")
        params = norm_params(info, self.architecture.norm_eps)
        return self._norm_line(info.name, params, path, "norm.", read)

    def _norm_line(self, name: str, params: Any, path: str, prefix: str, read: int) -> int:
        told = params.model_dump()
        essentials = essential(name, told, self.architecture.width)
        return self.line(Line(name, path, essentials, told, (read,), prefix))


def paired(ours: NormalForm, theirs: NormalForm) -> dict[int, int] | None:
    """Return for each line of ours the same one of theirs, or None where they do not compute the same."""
    numbers: dict[Any, int] = {}
    own, other = (_keys(form, numbers) for form in (ours, theirs))
    if own[ours.output] != other[theirs.output]:
        return None
    pairs: dict[int, int] = {}
    waiting = [(ours.output, theirs.output)]
    while waiting:
        a, b = waiting.pop()
        if a in pairs:
            if pairs[a] != b:
                return None
            continue
        pairs[a] = b
        reads, others = ours.lines[a].reads, theirs.lines[b].reads
        if ours.lines[a].op == ADD:
            reads = tuple(sorted(reads, key=own.__getitem__))
            others = tuple(sorted(others, key=other.__getitem__))
        waiting += zip(reads, others, strict=True)
    return pairs


def _keys(form: NormalForm, numbers: dict[Any, int]) -> list[int]:
    """Return a number for each line that is the same for lines that compute the same, weights aside."""
    keys: list[int] = []
    for line in form.lines:
        reads = [keys[read] for read in line.reads]
        told = tuple(sorted((name, _rounded(value)) for name, value in line.essentials.items()))
        content = (line.op, told, tuple(sorted(reads) if line.op == ADD else reads))
        keys.append(numbers.setdefault(content, len(numbers)))
    return keys


def _rounded(value: Any) -> str:
    """Return a value as text in which rounding does not show."""
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{float(value):.9g}"
    return repr(value)


def difference(ours: NormalForm, theirs: NormalForm, family: str) -> tuple[int, Problem]:
    """Return how many lines two forms share from the start, and what is different in the next one."""
    numbers: dict[Any, int] = {}
    own, other = (_keys(form, numbers) for form in (ours, theirs))
    for index, (line, wanted) in enumerate(zip(ours.lines, theirs.lines, strict=False)):
        if own[index] == other[index]:
            continue
        return index, _problem(line, wanted, family)
    shared = min(len(own), len(other))
    longer = (*ours.lines[shared:], ours.lines[-1])[0]
    return shared, Problem(longer.path, f"{family} does not have this here")


def _problem(line: Line, wanted: Line, family: str) -> Problem:
    if line.op != wanted.op:
        return Problem(line.path, f"{family} has something else here", wanted.op, line.op)
    for name, value in line.essentials.items():
        asked = wanted.essentials.get(name)
        if _rounded(value) != _rounded(asked):
            path = f"{line.path}.{name}"
            return Problem(path, f"{family} does not have this", shown(asked), shown(value))
    return Problem(line.path, f"reads something else than in {family}")


def unlike_sharing(
    ours: NormalForm, theirs: NormalForm, pairs: Mapping[int, int], family: str
) -> Problem | None:
    """Return where one form uses weights again and the other has a set of its own; None where both do the same."""
    there: dict[tuple[str, str], tuple[str, str]] = {}
    here: dict[tuple[str, str], tuple[str, str]] = {}
    for a, b in sorted(pairs.items()):
        line, other = ours.lines[a], theirs.lines[b]
        if not line.prefix:
            continue
        own, home = (line.owner, line.prefix), (other.owner, other.prefix)
        if there.setdefault(own, home) != home:
            return Problem(
                line.path,
                f"its weights are used several times, and {family} keeps a set for each time",
                fix="set tie: false on the group around it (or remove share), and train it so",
            )
        if here.setdefault(home, own) != own:
            return Problem(
                line.path,
                f"it has weights of its own, and {family} uses those of {here[home][0]!r} here",
                fix=f"let it share them, and train it so: share: {here[home][0]}",
            )
    return None


def places(
    ours: NormalForm, theirs: NormalForm, pairs: Mapping[int, int], names: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], tuple[str, str]]:
    """Return for each of our weights, by path and name, its path and name in the other form."""
    homes: dict[tuple[str, str], tuple[str, str]] = {}
    for a, b in sorted(pairs.items()):
        here, there = ours.lines[a], theirs.lines[b]
        if here.prefix:
            homes[here.path, here.prefix] = there.path, there.prefix
    found = {}
    for path, name in names:
        fitting = [prefix for at, prefix in homes if at == path and name.startswith(prefix)]
        if fitting:
            prefix = max(fitting, key=len)
            there_path, there_prefix = homes[path, prefix]
            found[path, name] = (there_path, there_prefix + name.removeprefix(prefix))
    return found
