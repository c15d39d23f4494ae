"""Writes an architecture as one Python file that needs nothing but torch and takes the same weights.

The file holds the source of the components used, as they stand here, and a class per group with a written-out forward.
Names of modules are those of the model here, so that a state dict fits either.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hybridlab.architecture.exporters.definitions import Collection
from hybridlab.architecture.fake_mode import QuickFakeMode
from hybridlab.architecture.graph import Ref, Scope
from hybridlab.architecture.infer import SlotPlan, infer
from hybridlab.architecture.model import GraphModel, GroupModule, ScopeModule, Slot
from hybridlab.architecture.residual_norm import norm_params
from hybridlab.architecture.spec import INPUT, Architecture, Residual
from hybridlab.components.base import BuildContext, ComponentInfo
from hybridlab.components.low_rank import AdaptedLinear
from hybridlab.components.registry import lookup
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.errors import Problem, SpecError

PROVIDED = {
    name: name for name in ("Component", "Params", "BuildContext", "TensorType", "Slot", "Group")
}
_ALWAYS = {
    "from dataclasses import dataclass",
    "from types import SimpleNamespace as Params",
    "import torch",
    "from torch import Tensor",
    "from torch import nn",
}
_FRAME = '''
@dataclass(frozen=True)
class TensorType:
    """What an edge carries: kind, shape with "B" and "L" for batch and length, and dtype."""

    kind: str
    shape: tuple[str | int, ...]
    dtype: str = "float32"

    @property
    def features(self) -> int:
        return self.shape[1] if self.kind == "image" else self.shape[-1]


@dataclass(frozen=True)
class BuildContext:
    """What a component knows of its place: the types of its inputs, and the width of the model."""

    inputs: tuple[TensorType, ...]
    width: int

    @property
    def features(self) -> int:
        return self.inputs[0].features


class Component(nn.Module):
    """A part of the model with its parameters."""

    def __init__(self, params: Params, context: BuildContext) -> None:
        super().__init__()
        self.params = params
        self.context = context


class Slot(nn.Module):
    """A component in its place: x + f(norm(x)), norm(x + f(x)) or f(x)."""

    def __init__(self, body: nn.Module, norm: nn.Module | None = None, residual: str = "none") -> None:
        super().__init__()
        self.body = body
        self.norm = norm
        self.residual = residual

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        if self.norm is None:
            return self.body(x, *others)
        if self.residual == "pre":
            return x + self.body(self.norm(x), *others)
        return self.norm(x + self.body(x, *others))


class Group(nn.Module):
    """Parts one after the other, in the given order, with a residual around all where there is a norm."""

    def __init__(
        self,
        parts: dict[str, nn.Module],
        order: list[str],
        norm: nn.Module | None = None,
        residual: str = "none",
    ) -> None:
        super().__init__()
        self.order = order
        self.norm = norm
        self.residual = residual
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor, *outer: Tensor) -> Tensor:
        kept = x
        if self.norm is not None and self.residual == "pre":
            x = self.norm(x)
        for name in self.order:
            x = self._modules[name](x, *outer)
        if self.norm is None:
            return x
        return kept + x if self.residual == "pre" else self.norm(kept + x)
'''


def source_of(architecture: Architecture, input_type: TensorType | None = None) -> str:
    """Return the architecture as the text of a Python file with a class ``Model``.

    Raises:
        SpecError: the architecture has errors.
    """
    inference = infer(architecture, input_type)
    if inference.errors:
        raise SpecError(inference.errors)
    with QuickFakeMode():
        model = GraphModel(architecture, inference, None)
    writer = _Writer(architecture, model)
    root = writer.scope(model.root, "Root")
    params = sum(parameter.numel() for parameter in model.parameters())
    imports = sorted(
        {*_ALWAYS, *writer.collection.imports}, key=lambda line: (line[0] == "f", line)
    )
    title = _quoted(architecture.name)
    about = [f'"""{title}: {params:,} parameters, reads {inference.input}.', ""]
    about += [_quoted(line) for line in (architecture.description, architecture.source) if line]
    about += [
        "Written by HybridLab; needs torch alone. Weights that HybridLab saved fit as they are:",
        "",
        "    model = Model()",
        '    model.load_state_dict(safetensors.torch.load_file("weights.safetensors"))',
        '"""',
    ]
    parts = [
        "\n".join(about),
        "from __future__ import annotations",
        "\n".join(imports),
        _FRAME.strip(),
        *writer.collection.texts,
        *writer.classes,
        "\n".join(_model(architecture, model, root)),
        'if __name__ == "__main__":\n    print(f"{sum(p.numel() for p in Model().parameters()):,} parameters")',
    ]
    return "\n\n\n".join(parts) + "\n"


def _model(architecture: Architecture, model: GraphModel, root: str) -> Iterator[str]:
    yield "class Model(nn.Module):"
    yield f'    """{_quoted(architecture.name)}, {model.inference.input} in, {model.inference.output} out."""'
    yield ""
    yield "    def __init__(self) -> None:"
    yield "        super().__init__()"
    yield f"        self.root = {root}()"
    places = {
        module.path: name
        for name, module in model.named_modules()
        if isinstance(module, Slot | GroupModule)
    }
    for share in model.inference.shares:
        holder, _, weight = f"{places[share.borrower]}.{share.weight}".rpartition(".")
        other, _, lent = f"{places[share.lender]}.{share.lent}".rpartition(".")
        yield f'        lent = self.get_submodule("{other}").state_dict(keep_vars=True)'
        yield f'        self.get_submodule("{holder}").{weight} = lent["{lent}"]'
    yield ""
    yield "    def forward(self, x: Tensor) -> Tensor:"
    exits = list(_exits(model))
    if not exits:
        yield "        return self.root(x)"
        return
    yield "        y = self.root(x)"
    yield "        if self.training:"
    yield "            return y"
    yield "        for part in reversed(self.exits()):  # all is computed; the first exit that is sure counts"
    yield "            left = part.exit()"
    yield "            y = torch.where(left.sure.view(-1, *[1] * (y.dim() - 1)), left.logits, y)"
    yield "        return y"
    yield ""
    yield "    def exits(self) -> list[nn.Module]:"
    yield '        """Return the parts where samples may leave, as they run; each keeps its last scores."""'
    yield f"        return [self.get_submodule(path) for path in {exits!r}]"


def _exits(model: GraphModel) -> Iterator[str]:
    """Yield the names of components at which samples leave, in running order.

    Raises:
        SpecError: one stands in a tied group, where its scores of one use are lost in the next.
    """
    output = model.inference.output
    if output is None or output.kind is not TensorKind.LOGITS:
        return
    names = {module: name for name, module in model.named_modules()}
    seen: set[str] = set()
    for slot in model.root.in_running_order():
        plan = model.inference.slots[slot.path]
        if plan.info.cls.exit_shape(plan.params, plan.context) is None:
            continue
        if slot.path in seen:
            message = "an exit that runs several times with the same weights cannot be written out"
            fix = "give each repeat its own weights, or put the exit behind the group"
            raise SpecError(Problem(plan.file_path, message, fix=fix))
        seen.add(slot.path)
        yield f"{names[slot]}.body"


class _Writer:
    """Writes a class for each scope of a model; equal ones are written once."""

    def __init__(self, architecture: Architecture, model: GraphModel) -> None:
        self.norm = lookup(architecture.norm, "norm")
        self.norm_eps = architecture.norm_eps
        self.plans = model.inference.slots
        self.group_norms = model.inference.group_norms
        self.collection = Collection(
            {**PROVIDED, "Model": "Model"}, f"exported_{architecture.fingerprint}"
        )
        self.classes: list[str] = []
        self._written: dict[str, str] = {}

    def scope(self, module: ScopeModule, name: str) -> str:
        """Write the class of a scope, if none is equal; return its name."""
        body = "\n".join(self._body(module, name))
        if body not in self._written:
            self._written[body] = self.collection.free(name, "again")
            self.classes.append(f"class {self._written[body]}(nn.Module):\n{body}")
        return self._written[body]

    def _body(self, module: ScopeModule, name: str) -> Iterator[str]:
        scope = module.scope
        yield f'    """{", ".join(step.node.id for step in scope.steps)[:80]}."""'
        yield ""
        yield "    def __init__(self) -> None:"
        yield "        super().__init__()"
        for step in scope.steps:
            key = module.keys[step.node.id]
            child = module._modules[key]
            assert isinstance(child, (Slot, GroupModule))
            made = (
                self._slot(child)
                if isinstance(child, Slot)
                else self._group(child, name, step.node.id)
            )
            start = (
                f"        self.{key} = " if _plain(key) else f'        self.add_module("{key}", '
            )
            yield from _opened(start, made, "" if _plain(key) else ")")
        yield ""
        yield from self._forward(module, scope)

    def _forward(self, module: ScopeModule, scope: Scope) -> Iterator[str]:
        outer = _in_order(scope)
        names = _Names()
        given = [names.of(Ref(0, INPUT), "x")]
        given += [names.of(ref.inward(), ref.id) for ref in outer]
        yield f"    def forward(self, {', '.join(f'{name}: Tensor' for name in given)}) -> Tensor:"
        for step in scope.steps:
            key = module.keys[step.node.id]
            call = f"self.{key}" if _plain(key) else f'self._modules["{key}"]'
            reads = [names.known(ref) for ref in step.reads]
            if step.inner is not None:
                reads += [names.known(ref) for ref in _in_order(step.inner)]
            target = names.of(Ref(0, step.node.id), step.node.id)
            yield f"        {target} = {call}({', '.join(reads)})"
        yield f"        return {names.known(Ref(0, scope.output))}"

    def _slot(self, slot: Slot) -> list[str]:
        plan = self.plans[slot.path]
        body = self._component(plan.info, plan.params.model_dump(mode="json"), plan.context)
        if plan.lora:
            name = self.collection.need("hybridlab.components.low_rank", "adapted")
            body = f"{name}({body}, {plan.lora}, {dict(_adapted_maps(slot))!r})"
        if plan.residual is Residual.NONE:
            return ["Slot(", f"    {body},", ")"]
        of = plan.context.inputs[0] if plan.residual is Residual.PRE else plan.output
        norm = self._norm(BuildContext((of,), plan.context.width))
        return ["Slot(", f"    {body},", f"    {norm},", f'    residual="{plan.residual}",', ")"]

    def _group(self, group: GroupModule, around: str, name: str) -> list[str]:
        prefix = "" if around == "Root" else around
        camel = prefix + "".join(part.title() for part in re.split(r"\W|_", name) if part)
        parts = {
            key: self.scope(child, camel)
            for key, child in group._modules.items()
            if isinstance(child, ScopeModule)
        }
        order = [key or "body" for key in group.order]
        if len(set(parts.values())) == 1 and list(parts) == order == [
            str(i) for i in range(len(order))
        ]:
            (made,) = set(parts.values())
            first = f"{{str(i): {made}() for i in range({len(order)})}}"
            second = f"[str(i) for i in range({len(order)})]"
        else:
            first = "{" + ", ".join(f'"{key}": {made}()' for key, made in parts.items()) + "}"
            second = f"{order[:1]!r} * {len(order)}" if len(set(order)) == 1 else repr(order)
        lines = ["Group(", f"    {first},", f"    {second},"]
        if group.norm is not None:
            plan: SlotPlan = self.group_norms[group.path]
            lines += [f"    {self._norm(plan.context)},", f'    residual="{group.node.residual}",']
        return [*lines, ")"]

    def _norm(self, context: BuildContext) -> str:
        params = norm_params(self.norm, self.norm_eps)
        return self._component(self.norm, params.model_dump(mode="json"), context)

    def _component(
        self, info: ComponentInfo, params: Mapping[str, Any], context: BuildContext
    ) -> str:
        name = self.collection.need(info.cls.__module__, info.cls.__name__)
        params_name = self.collection.need_params(info.cls)
        given = ", ".join(f"{key}={value!r}" for key, value in params.items())
        inputs = ", ".join(
            f'TensorType("{kind.kind}", {kind.shape!r}'
            + (f', "{kind.dtype}")' if kind.dtype != "float32" else ")")
            for kind in context.inputs
        )
        return f"{name}({params_name}({given}), BuildContext(({inputs},), {context.width}))"


class _Names:
    """Python names for the values of one forward."""

    def __init__(self) -> None:
        self._of: dict[Ref, str] = {}

    def of(self, ref: Ref, wanted: str) -> str:
        """Return a free name for a value."""
        base = re.sub(r"\W", "_", wanted)
        base = f"{base}_" if keyword.iskeyword(base) or base == "self" else base
        name, number = base, 2
        while name in self._of.values():
            name, number = f"{base}_{number}", number + 1
        self._of[ref] = name
        return name

    def known(self, ref: Ref) -> str:
        """Return the name that a value was given."""
        return self._of[ref]


def _plain(key: str) -> bool:
    """Say whether a module's name can be written behind a dot."""
    return key.isidentifier() and not keyword.iskeyword(key)


def _adapted_maps(slot: Slot) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the linear maps of a component that have low-rank pairs, with the rows of what each joins."""
    for name, module in slot.body.named_modules():
        if isinstance(module, AdaptedLinear):
            yield name, module.rows


def _in_order(scope: Scope) -> list[Ref]:
    """Return the values that a scope reads from outside, always in the same order."""
    return sorted(scope.outer, key=lambda ref: (ref.outward, ref.id))


def _opened(start: str, lines: list[str], end: str) -> Iterator[str]:
    yield start + lines[0]
    for line in lines[1:-1]:
        yield f"        {line}"
    yield f"        {lines[-1]}{end}"


def _quoted(text: str) -> str:
    """Return text that is safe inside a docstring."""
    return " ".join(text.replace("\\", "/").replace('"', "'").split())
