"""What a component is: parameters, a module, what it takes and gives, and where it comes from.

Shape legend, used everywhere: B batch, L length, D model width (features of a sequence),
H heads, K key/state size per head, V value size per head, C channels, E experts, N classes or vocabulary.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from hybridlab.components.types import TensorKind, TensorType
from hybridlab.errors import Problem, StepError

FLOAT32_BYTES = 4
"""Bytes of a number in the state figures, which are those of float32."""

Cost = Literal["constant", "linear", "linear·log", "quadratic"]

State = tuple[Tensor, ...]
"""What a component remembers between two positions: tensors (B, ...), and counts as 0-dimensional integers."""


class Kind(StrEnum):
    """The families of the palette, in the order in which they are shown."""

    INPUT = "input"
    TOKEN_MIXER = "token_mixer"
    CHANNEL_MIXER = "channel_mixer"
    NORM = "norm"
    MERGE = "merge"
    ROUTER = "router"
    HEAD = "head"


class Params(BaseModel):
    """Base of every component's parameters: frozen, unknown keys are errors, no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, strict=True, ser_json_inf_nan="null"
    )


def field(
    default: Any = ...,
    *,
    help: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    unit: str = "",
    search: list[Any] | None = None,
) -> Any:
    """Declare a parameter: its range, its unit, a sentence of help, and values worth searching."""
    extra: dict[str, Any] = {"unit": unit} if unit else {}
    if search:
        extra["search"] = search
    return Field(
        default, description=help, ge=ge, gt=gt, le=le, lt=lt, json_schema_extra=extra or None
    )


@dataclass(frozen=True)
class BuildContext:
    """What a component may know when it is built: its inputs and the architecture's width D."""

    inputs: tuple[TensorType, ...]
    width: int

    @property
    def features(self) -> int:
        """Features of the first input, the size most components keep."""
        return self.inputs[0].features


@dataclass(frozen=True)
class Exit:
    """Where a forward may end on the way: scores, which samples may leave with them, and the weight of their loss."""

    logits: Tensor
    """Scores as the head's, (B, N) or (B, L, N)."""
    sure: Tensor
    """(B), true for the samples that are sure enough."""
    weight: float


class Component(nn.Module):
    """A part of an architecture.

    A subclass nests its ``Params``, says what it accepts and gives, and computes ``forward``; where its forward is an
    efficient form, ``reference`` is the naive form of the paper's equations on the same weights. Norms before and
    residuals around a component are the graph's, not its own.
    """

    Params: ClassVar[type[Params]] = Params
    accepts: ClassVar[frozenset[TensorKind]] = frozenset({TensorKind.SEQUENCE})
    gives: ClassVar[TensorKind] = TensorKind.SEQUENCE
    """What comes out; heads always give logits."""
    min_inputs: ClassVar[int] = 1
    max_inputs: ClassVar[int | None] = 1
    recurrent_trace: ClassVar[bool] = False
    """True where tracing unrolls time (LSTM, GRU): its cost is traced at two short lengths and is linear in length."""
    graph_break: ClassVar[str] = ""
    """Why ``torch.compile(fullgraph=True)`` cannot take the forward; empty where it can."""
    takes_ends: ClassVar[bool] = False
    """True where ``forward`` takes, last, the ends (B) of samples that have padding behind them, and leaves it out."""
    loops: ClassVar[str] = ""
    """Why the forward loops over time in Python; empty where it does not."""
    data_decides: ClassVar[str] = ""
    """What a prediction assumes where the data decides how much work there is; empty where it does not."""
    info: ClassVar[ComponentInfo]

    def __init__(self, params: Any, context: BuildContext) -> None:
        """Keep the parameters and the context; subclasses create their weights after this."""
        super().__init__()
        self.params = params
        self.context = context

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute the naive form of the paper's equations; the same as ``forward`` where there is only one form."""
        return self(*inputs)  # type: ignore[no-any-return]

    def start(self, batch: int) -> State:
        """Return the state before the first position of ``batch`` sequences; empty where none is needed."""
        return ()

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position, (B, D) or token ids (B); return its output (B, D) and the state after it.

        Stepping from ``start`` gives what ``forward`` gives at each position. The state that came in stays valid.

        Raises:
            StepError: the component looks ahead, or has no step form.
        """
        if self.causal(self.params) is not None or TensorKind.IMAGE in self.accepts:
            raise StepError(f"{self.info.title} cannot run one position at a time")
        return self(*(x.unsqueeze(1) for x in inputs_BD)).squeeze(1), ()

    @classmethod
    def input_lengths(cls, params: Any) -> tuple[str, ...]:
        """Return symbolic lengths of inputs that fit each other; all alike where nothing else is said."""
        return ("L",) * cls.min_inputs

    @classmethod
    def output_length(cls, params: Any, inputs: tuple[TensorType, ...]) -> str | int:
        """Return the length of the output as types write it: the first input's where nothing else is said."""
        return inputs[0].shape[1]

    def mixing_matrix(self, *inputs: Tensor) -> Tensor | None:
        """Return how positions are mixed: the matrices (B, H, L, L) that take values to what is read, row by row.

        Nothing of norms and gates behind it. None where a component does not say: it has no such matrix, or one of
        every channel.
        """
        return None

    def aux_loss(self) -> Tensor | None:
        """Return the loss that the last forward asks to be added (scalar), such as a balance loss."""
        return None

    def exit(self) -> Exit | None:
        """Return the scores with which samples may leave after the last forward; None where all go on."""
        return None

    @classmethod
    def exit_shape(cls, params: Any, context: BuildContext) -> tuple[str | int, ...] | None:
        """Return the symbolic shape of the scores at which samples may leave; None where none may."""
        return None

    def after_update(self) -> None:
        """Move what no gradient moves, such as a bias that balances; called after each update of the weights."""

    def report(self) -> dict[str, float | list[float]]:
        """Return what the last forward is worth telling, such as each expert's share of the load."""
        return {}

    def adapts(self) -> Mapping[str, tuple[int, ...]]:
        """Return the linear maps beside which one use of shared weights may have a low-rank pair of its own.

        By the map's path the rows of each map that is joined in it: ``project_in``, or else every linear map.
        """
        linear = {name: m for name, m in self.named_modules() if isinstance(m, nn.Linear)}
        wanted = {k: m for k, m in linear.items() if k == "project_in"} or linear
        return {name: (module.out_features,) for name, module in wanted.items()}

    def output_weights(self) -> list[str]:
        """Return the weights of the last map, with which the output scales: it is they times what stands before.

        They are those of ``project_out`` where there is nothing behind it; none where there is no last map.
        """
        return [name for name, _ in self.named_parameters() if name.startswith("project_out.")]

    def adds(self) -> bool:
        """Say whether the output is the plain sum of the inputs, whatever the weights."""
        return False

    def let_in(self, branch: int, share: float) -> bool:
        """Open a gate for a branch from 0, closed, to 1, as wide as its weights say; False where there are no gates."""
        return False

    def use_experts(self, count: int | None) -> bool:
        """Let only the first so many experts be chosen, None: all; False where there are no experts to choose among.

        Raises:
            ValueError: so few do not go with the component's parameters; the text says why.
        """
        return False

    @classmethod
    def lends(cls, params: Any) -> Mapping[str, str]:
        """Return which weights other components may share: a name to ask for, and the weight's path in here."""
        return {}

    @classmethod
    def borrows(cls, params: Any) -> Mapping[str, str]:
        """Return which weights are another component's: the weight's path in here, and the name it is lent under.

        The component creates them too, so that it can stand alone; in an architecture the lender's take their place.
        """
        return {}

    @classmethod
    def check(cls, params: Any, context: BuildContext) -> Iterator[Problem]:
        """Yield what ranges alone cannot say, such as heads that do not divide; paths are parameter names."""
        yield from ()

    @classmethod
    def causal(cls, params: Any) -> bool | None:
        """Say whether position t sees nothing after t; None where each position stands alone."""
        return None

    @classmethod
    def heeds_end(cls, params: Any) -> bool:
        """Say whether what comes out of a sample's own positions changes with what, or how much, stands behind them.

        Then padded samples are run at their own lengths, unless ``forward`` takes their ends itself.
        """
        return cls.causal(params) is False

    @classmethod
    def state_bytes_per_token(cls, params: Any, context: BuildContext) -> float:
        """Return bytes of state that one more token adds while generating (float32): 0 for a constant state."""
        return 0.0

    @classmethod
    def state_bytes(cls, params: Any, context: BuildContext) -> float:
        """Return bytes of the state that does not grow with length (float32), per sequence."""
        return 0.0

    @classmethod
    def state_bytes_after(cls, params: Any, context: BuildContext, positions: int) -> float:
        """Return bytes of state after so many positions (float32), per sequence; less while a window still fills."""
        growing = cls.state_bytes_per_token(params, context)
        return cls.state_bytes(params, context) + positions * growing


@dataclass(frozen=True)
class ComponentInfo:
    """A component's entry in the palette."""

    name: str
    kind: Kind
    title: str
    summary: str
    cost: Cost
    paper: str
    cls: type[Component]


_REGISTRY: dict[str, ComponentInfo] = {}
_C = TypeVar("_C", bound=type[Component])


def component(
    name: str, *, kind: str, title: str, summary: str, cost: Cost = "linear", paper: str = ""
) -> Callable[[_C], _C]:
    """Register a component under the name that configs use; ``summary`` is one line for people, ``paper`` a URL."""

    def register(cls: _C) -> _C:
        if name in _REGISTRY and _REGISTRY[name].cls.__qualname__ != cls.__qualname__:
            raise ValueError(f"two components are called {name!r}")
        cls.info = ComponentInfo(name, Kind(kind), title, summary, cost, paper, cls)
        _REGISTRY[name] = cls.info
        return cls

    return register


def divisors_near(total: int, wanted: int) -> list[int]:
    """Return the divisors of ``total`` next to ``wanted``, below and above, for suggestions."""
    divisors = [n for n in range(1, total + 1) if total % n == 0]
    below = [n for n in divisors if n < wanted][-1:]
    above = [n for n in divisors if n > wanted][:1]
    return below + above


def must_divide(path: str, value: int, total: int, what: str) -> Iterator[Problem]:
    """Yield a problem with the nearest working values where ``value`` does not divide ``total``."""
    if total % value:
        options = " or ".join(str(n) for n in divisors_near(total, value))
        yield Problem(
            path,
            f"{value} does not divide {what} {total}",
            f"a divisor of {total}",
            str(value),
            f"try {options}",
        )


def nearest(name: str, known: list[str]) -> str:
    """Return ``did you mean X?`` for a name close to a known one, else the known names."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(known[:40])


def registered() -> dict[str, ComponentInfo]:
    """Return the registry as it stands; ``registry.palette()`` fills it first."""
    return _REGISTRY


def float_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype in which reductions of this tensor should be kept: float32 for 16-bit inputs."""
    return torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype


def undecayed(parameter: nn.Parameter) -> nn.Parameter:
    """Mark a parameter of two or more dimensions that weight decay must leave alone; vectors are spared anyway."""
    parameter._no_weight_decay = True  # type: ignore[attr-defined]
    return parameter
