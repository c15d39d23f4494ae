"""The recurrences of the mixers without their maps: ours, and others' plain PyTorch on the same tensors.

fla's reference operations (https://github.com/fla-org/flash-linear-attention, fla/ops/*/naive.py) come from an
installed fla-core. Its package imports only where triton is; elsewhere the one file is loaded by its path.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch
import torch.nn.functional as F
from mixer_lines import OURS, PLAIN, SDPA
from mixer_timing import Contest, Form
from torch import Tensor

from hybridlab.components.diagonal_scan import diagonal_scan
from hybridlab.components.fused_scans import SWITCH, fused_scans
from hybridlab.components.selective_scan import selective_scan
from hybridlab.components.token_mixers.matrix_memory import recall
from hybridlab.components.token_mixers.rwkv6 import finch
from hybridlab.components.token_mixers.rwkv7_chunks import rwkv7

HEADS, STATES = 4, 16
INSTALL_FLA = "fla not installed; pip install --no-deps fla-core einops"


class AbsentError(Exception):
    """A peer that is not installed."""


@functools.cache
def fla_file(name: str) -> ModuleType:
    """Return a file of fla's operations, such as ``gla/naive``.

    Raises:
        AbsentError: fla-core, or einops that it needs, is not installed.
    """
    try:
        if importlib.util.find_spec("triton"):
            return importlib.import_module("fla.ops." + name.replace("/", "."))
        path = importlib.metadata.distribution("fla-core").locate_file(f"fla/ops/{name}.py")
        spec = importlib.util.spec_from_file_location("fla_" + name.replace("/", "_"), str(path))
        if spec is None or spec.loader is None:
            raise AbsentError(f"fla has no {name}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except (importlib.metadata.PackageNotFoundError, ModuleNotFoundError) as error:
        raise AbsentError(INSTALL_FLA) from error


@dataclass(frozen=True)
class Draw:
    """Draws the inputs of one length: leaves whose gradients are wanted."""

    batch: int
    length: int
    width: int
    device: torch.device

    def leaf(self, tensor: Tensor) -> Tensor:
        """Return a tensor as a leaf."""
        return tensor.to(self.device).requires_grad_()

    def heads(self) -> Tensor:
        """Return values (B, L, H, K)."""
        return self.leaf(torch.randn(self.batch, self.length, HEADS, self.width // HEADS))

    def keys(self) -> Tensor:
        """Return keys of length one."""
        return self.leaf(F.normalize(self.heads().detach(), dim=-1))

    def decays(self, *, by_feature: bool, largest: float = 1.0) -> Tensor:
        """Return log decays, (B, L, H) or (B, L, H, K)."""
        drawn = self.heads().detach() if by_feature else self.heads().detach()[..., 0]
        return self.leaf((F.logsigmoid(drawn) / 16).clamp(min=-largest))

    def shares(self) -> Tensor:
        """Return numbers between 0 and 1, (B, L, H)."""
        return self.leaf(torch.rand(self.batch, self.length, HEADS))


def by_head(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Run what takes and gives (B, H, L, ...) on (B, L, H, ...)."""

    def call(*parts: Tensor) -> Tensor:
        return run(*(part.transpose(1, 2) for part in parts)).transpose(1, 2)

    return call


def scaled(q: Tensor) -> Tensor:
    """Return queries over sqrt(K)."""
    return q * q.shape[-1] ** -0.5


Inputs = Callable[[Draw], tuple[Tensor, ...]]
Made = tuple[str, Inputs, Callable[..., Tensor], list[tuple[str, Callable[[], Form]]]]


def of_fla(
    file: str,
    name: str,
    call: Callable[[Callable[..., Tensor]], Callable[..., Tensor]],
    **about: bool,
) -> tuple[str, Callable[[], Form]]:
    """Return the name of one of fla's operations and what makes it a form."""
    return name, lambda: Form(name, "fla", call(getattr(fla_file(file), name)), **about)


def matrix_memories() -> list[Made]:
    """Return linear attention and the delta rules: o_t = q_t S_t with a matrix S."""
    unscaled = {"scale": 1.0}
    return [
        (
            "softmax attention",
            lambda d: (d.heads(), d.heads(), d.heads()),
            by_head(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
            [],
        ),
        (
            "linear attention",
            lambda d: (d.heads(), d.heads(), d.heads()),
            lambda q, k, v: recall(scaled(q), k, v, chunk=64),
            [of_fla("linear_attn/naive", "naive_chunk_linear_attn", lambda run: run)],
        ),
        (
            "retention",
            lambda d: (d.heads(), d.heads(), d.heads()),
            lambda q, k, v: recall(scaled(q), k, v, _retention_decays(v), chunk=64),
            [of_fla("retention/naive", "naive_retention", by_head)],
        ),
        (
            "linear attention, a decay a head",
            lambda d: (d.heads(), d.heads(), d.heads(), d.decays(by_feature=False)),
            lambda q, k, v, g: recall(scaled(q), k, v, g, chunk=64),
            [
                of_fla(
                    "simple_gla/naive",
                    "naive_chunk_simple_gla",
                    lambda run: lambda *given: run(*given)[0],
                )
            ],
        ),
        (
            "gated linear attention",
            lambda d: (
                *(d.heads(), d.heads(), d.heads()),
                *(d.decays(by_feature=True), d.decays(by_feature=False)),
            ),
            lambda q, k, v, by_feature, _: recall(scaled(q), k, v, by_feature, chunk=64),
            [
                of_fla(
                    "simple_gla/naive",
                    "naive_chunk_simple_gla",  # one decay a head only: less than ours
                    lambda run: lambda q, k, v, _, g: run(q, k, v, g)[0],
                    same=False,
                ),
                of_fla(
                    "gla/naive",
                    "naive_recurrent_gla",
                    lambda run: lambda q, k, v, g, _: run(q, k, v, g)[0],
                    loops=True,
                ),
            ],
        ),
        (
            "delta rule",
            lambda d: (d.heads(), d.keys(), d.heads(), d.shares()),
            lambda q, k, v, beta: recall(scaled(q), k, v, None, beta, chunk=64),
            [
                of_fla(
                    "delta_rule/naive",
                    "delta_rule_chunkwise",
                    lambda run: by_head(lambda *given: run(*given)[0]),
                )
            ],
        ),
        (
            "gated delta rule",
            lambda d: (d.heads(), d.keys(), d.heads(), d.decays(by_feature=False), d.shares()),
            lambda q, k, v, g, beta: recall(scaled(q), k, v, g, beta, chunk=64),
            [
                of_fla(
                    "gated_delta_rule/naive",
                    "naive_chunk_gated_delta_rule",
                    lambda run: lambda *given: run(*given)[0],
                ),
                of_fla(
                    "gated_delta_rule/naive",
                    "naive_recurrent_gated_delta_rule",
                    lambda run: lambda q, k, v, g, beta: run(q, k, v, beta, g)[0],
                    loops=True,
                ),
            ],
        ),
        (
            "Kimi delta rule",
            lambda d: (d.heads(), d.keys(), d.heads(), d.decays(by_feature=True), d.shares()),
            lambda q, k, v, g, beta: recall(scaled(q), k, v, g, beta, chunk=32),
            [of_fla("kda/naive", "naive_chunk_kda", lambda run: lambda *given: run(*given)[0])],
        ),
        (
            "RWKV-6",
            lambda d: (
                *(d.heads(), d.heads(), d.heads(), d.decays(by_feature=True)),
                d.leaf(torch.randn(HEADS, d.width // HEADS)),
            ),
            lambda r, k, v, w, u: finch(r, k, v, w, u, 32),
            [
                of_fla(
                    "rwkv6/chunk_naive",
                    "naive_chunk_rwkv6",
                    lambda run: (
                        lambda *given: by_head(lambda *parts: run(*parts, given[-1]))(*given[:-1])
                    ),
                ),
                of_fla(
                    "rwkv6/recurrent_naive",
                    "naive_recurrent_rwkv6",
                    lambda run: (
                        lambda *given: by_head(
                            lambda *parts: run(*parts, given[-1], **unscaled)[0]
                        )(*given[:-1])
                    ),
                    loops=True,
                ),
            ],
        ),
        (
            "RWKV-7",
            lambda d: (
                *(d.heads(), d.keys(), d.heads(), d.keys(), d.keys()),
                d.decays(by_feature=True, largest=0.6),
            ),
            lambda r, k, v, a, b, w: rwkv7(scaled(r), k, v, a, -b, w, 32),
            [
                of_fla(
                    "generalized_delta_rule/dplr/naive",
                    "dplr_chunkwise",
                    lambda run: by_head(lambda r, k, v, a, b, w: run(r, k, v, a, -b, w)[0]),
                )
            ],
        ),
    ]


def _retention_decays(like: Tensor) -> Tensor:
    """Return log(1 - 2^(-5 - h)) for each head (H)."""
    heads = torch.arange(HEADS, device=like.device, dtype=like.dtype)
    return torch.log1p(-(2.0 ** (-5 - heads)))


def diagonal_scans() -> list[Made]:
    """Return the scans whose states do not mix: S6 and the real diagonal recurrence."""

    def scan_of_mambapy() -> Form:
        block = _mambapy("mambapy.mamba").MambaBlock

        def call(x: Tensor, dt: Tensor, rate: Tensor, write: Tensor, read: Tensor) -> Tensor:
            return block.selective_scan(None, x, dt, rate.T, write, read, 0.0)

        return Form("MambaBlock.selective_scan", "mambapy", call)

    def pscan() -> Form:
        run = _mambapy("mambapy.pscan").pscan
        return Form("pscan", "mambapy", lambda a, b: run(a[..., None], b[..., None])[..., 0])

    def draw_scan(d: Draw) -> tuple[Tensor, ...]:
        inner = (d.batch, d.length, 2 * d.width)
        rate = -torch.arange(1.0, STATES + 1)[:, None].repeat(1, 2 * d.width)
        state = (d.batch, d.length, STATES)
        return (
            *(d.leaf(torch.randn(inner)), d.leaf(F.softplus(torch.randn(inner) - 4)), d.leaf(rate)),
            *(d.leaf(torch.randn(state)), d.leaf(torch.randn(state))),
        )

    def draw_diagonal(d: Draw) -> tuple[Tensor, ...]:
        a, b = torch.randn(2, d.batch, d.length, d.width)
        return d.leaf(torch.sigmoid(a + 3)), d.leaf(b)

    hgrn = of_fla(
        "hgrn/naive",
        "naive_recurrent_hgrn",
        lambda run: lambda a, b: run(b, a.log())[0],
        loops=True,
    )
    return [
        (
            "selective scan",
            draw_scan,
            selective_scan,
            [("MambaBlock.selective_scan", scan_of_mambapy)],
        ),
        ("diagonal recurrence", draw_diagonal, diagonal_scan, [("pscan", pscan), hgrn]),
    ]


def _mambapy(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise AbsentError("mambapy not installed; pip install mambapy") from error


def recurrences(
    names: list[str] | None, batch: int, width: int, device: torch.device
) -> list[Contest]:
    """Return the contests of the recurrences, by name where some are asked for."""
    scans = {made[0] for made in diagonal_scans()}
    contests = []
    for subject, inputs, ours, peers in [*matrix_memories(), *diagonal_scans()]:
        if names and subject not in names:
            continue
        source = SDPA if subject == "softmax attention" else OURS
        plain = {SWITCH: "0"}
        forms = [Form(source, source, ours)]
        absent = {}
        if subject in scans and fused_scans().library is not None:
            forms.append(Form(PLAIN, PLAIN, ours, environment=plain))
        elif subject in scans:
            forms = [Form(PLAIN, PLAIN, ours, environment=plain)]
            absent[OURS] = fused_scans().told
        for name, make in peers:
            try:
                forms.append(make())
            except AbsentError as error:
                absent[name] = str(error)

        def draw(length: int, inputs: Inputs = inputs) -> tuple[Tensor, ...]:
            return inputs(Draw(batch, length, width, device))

        contests.append(Contest(subject, "recurrence", forms, draw, absent=absent))
    return contests


@torch.no_grad()
def disagreements(contests: list[Contest], length: int) -> list[str]:
    """Return the peers whose outputs are not ours on the same inputs, with by how much they differ."""
    found = []
    for contest in contests:
        inputs = contest.draw(length)
        want = contest.forms[0].call(*inputs)
        for form in contest.forms[1:]:
            if form.same:
                error = float((form.call(*inputs) - want).norm() / want.norm())
                if not error < 1e-3:
                    found.append(f"{contest.subject}: {form.name} differs by {error:.2g}")
    return found
