"""What components give while one forward runs: mean and variance, dead units, saturated gates, entropy of attention.

A look changes nothing that is computed: hooks read what components return, and a function mode reads what their
activation functions return. What runs inside a kernel is not seen: the gates of ``nn.LSTM`` and ``nn.GRU``, the scans
in C++, and attention that computes its weights in blocks of its own (soft caps, sinks, slopes, sparse choices).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DEAD_SHARE_OF_SQUARE = 1e-6
"""A unit is dead whose values vary by less than a thousandth of the layer's root mean square over a batch."""
MOST_ROWS = 512
"""Positions of a batch that are looked at, evenly spread over it; all of them would cost a quarter of a step."""
LEAST_ROWS = 16
"""With fewer positions, units that seem to say the same may do so by chance."""
FLAT_SLOPE = 0.05
"""A gate is saturated where its slope is below a twentieth of its largest, so that hardly any gradient passes."""
SIGMOID_ENDS = (1 - math.sqrt(1 - FLAT_SLOPE)) / 2, (1 + math.sqrt(1 - FLAT_SLOPE)) / 2
TANH_END = math.sqrt(1 - FLAT_SLOPE)
MOST_QUERIES = 32
"""Queries of one sample whose attention is computed once more, beside the fast path."""
EVERY_LOOK, FIRST_LOOKS = 16, 4
"""In a loop over time a function is looked at the first four times, then every sixteenth time."""

_BENDS = frozenset({F.relu, torch.relu, Tensor.relu, F.gelu, F.silu})
_SIGMOIDS = frozenset({torch.sigmoid, Tensor.sigmoid, F.sigmoid})
_TANHS = frozenset({torch.tanh, Tensor.tanh, F.tanh})


@dataclass
class _Seen:
    """What was seen of one component: sums of tensors, so that nothing waits for the device."""

    means: list[Tensor] = field(default_factory=list)
    squares: list[Tensor] = field(default_factory=list)
    hidden: list[tuple[Tensor, int]] = field(default_factory=list)
    """Dead units behind activation functions, and how many there are."""
    gates: list[tuple[Tensor, int]] = field(default_factory=list)
    """Saturated values of gates, and how many there are."""
    entropies: list[Tensor] = field(default_factory=list)
    looks: dict[object, int] = field(default_factory=dict)


class Look(TorchFunctionMode):
    """Looks at every component of a model while it is active; ``told`` says what was seen."""

    def __init__(self, slots: Mapping[str, nn.Module]) -> None:
        """Look at components, each by its path."""
        super().__init__()
        self._slots = slots
        self._seen: dict[str, _Seen] = {}
        self._inside: list[str] = []

    @contextmanager
    def active(self) -> Iterator[None]:
        """Look at what runs in here."""
        handles = []
        for path, body in self._slots.items():
            handles.append(body.register_forward_pre_hook(self._enter(path)))
            handles.append(body.register_forward_hook(self._leave(path)))
        try:
            with self:
                yield
        finally:
            self._inside.clear()
            for handle in handles:
                handle.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function, and look at what an activation function or attention gave."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._inside and not _again():
            if func is F.scaled_dot_product_attention:
                self._attention(*args, **kwargs)
            elif func in _BENDS or func in _SIGMOIDS or func in _TANHS:
                self._activation(func, result)
        return result

    def told(self) -> dict[str, dict[str, Tensor]]:
        """Return by path what was seen, each a scalar on the device."""
        return {path: dict(_told(seen)) for path, seen in self._seen.items()}

    def _enter(self, path: str) -> Callable[..., None]:
        def enter(*_: Any) -> None:
            if not _again():
                self._inside.append(path)

        return enter

    def _leave(self, path: str) -> Callable[..., None]:
        def leave(body: nn.Module, inputs: Any, output: Any) -> None:
            if _again():
                return
            self._inside.pop()
            if isinstance(output, Tensor) and output.is_floating_point():
                with torch.no_grad():
                    seen = self._seen.setdefault(path, _Seen())
                    var_F, mean_F = torch.var_mean(_rows(output), 0, correction=0)
                    seen.means.append(mean_F)
                    seen.squares.append(var_F + mean_F.square())

        return leave

    @torch.no_grad()
    def _activation(self, func: Any, y: Tensor) -> None:
        path = self._inside[-1]
        seen = self._seen.setdefault(path, _Seen())
        count = seen.looks[func] = seen.looks.get(func, 0) + 1
        if count > FIRST_LOOKS and count % EVERY_LOOK:
            return
        rows_TF = _rows(y)
        if func in _BENDS:
            if len(rows_TF) >= LEAST_ROWS:
                var_F, mean_F = torch.var_mean(rows_TF, 0, correction=0)
                seen.hidden.append((_dead(var_F, mean_F).sum(), var_F.numel()))
        elif func in _SIGMOIDS:
            low, high = SIGMOID_ENDS
            flat = ((rows_TF < low) | (rows_TF > high)).sum()
            seen.gates.append((flat, rows_TF.numel()))
        else:
            seen.gates.append(((rows_TF.abs() > TANH_END).sum(), rows_TF.numel()))

    @torch.no_grad()
    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        """Compute the entropy of some queries' weights of one sample, over that of equal weights: 0 to 1."""
        seen = self._seen.setdefault(self._inside[-1], _Seen())
        count = seen.looks["attention"] = seen.looks.get("attention", 0) + 1
        if query.ndim != 4 or (count > FIRST_LOOKS and count % EVERY_LOOK):
            return
        (batch, heads, length, size), keys = query.shape, key.shape[-2]
        rows_Q = torch.linspace(
            0, length - 1, min(length, MOST_QUERIES), device=query.device
        ).long()
        q_HQK = query[batch // 2, :, rows_Q].float()
        k_HSK = key[batch // 2].float().repeat_interleave(heads // key.shape[1], 0)
        scores_HQS = q_HQK @ k_HSK.transpose(-1, -2) * (size**-0.5 if scale is None else scale)
        if attn_mask is not None:
            mask_HLS = attn_mask.expand(batch, heads, length, keys)[batch // 2][:, rows_Q]
            if attn_mask.dtype == torch.bool:
                scores_HQS = scores_HQS.masked_fill(~mask_HLS, -math.inf)
            else:
                scores_HQS = scores_HQS + mask_HLS.float()
        if is_causal:
            later_QS = torch.arange(keys, device=query.device) > rows_Q[:, None]
            scores_HQS = scores_HQS.masked_fill(later_QS, -math.inf)
        logs_HQS = scores_HQS.log_softmax(-1)
        terms_HQS = torch.where(scores_HQS > -math.inf, logs_HQS.exp() * logs_HQS, 0.0)
        visible_HQ = (scores_HQS > -math.inf).sum(-1)
        chosen_HQ = visible_HQ > 1
        share_HQ = -terms_HQS.sum(-1) / visible_HQ.clamp(min=2).float().log()
        mean = (share_HQ * chosen_HQ).sum() / chosen_HQ.sum().clamp(min=1)
        seen.entropies.append(mean)


def _again() -> bool:
    """Say whether backward is under way: what runs forward in it is computed again, by a plan, and was seen before."""
    return int(torch._C._current_graph_task_id()) >= 0


def _rows(y: Tensor) -> Tensor:
    """Return values as rows of units (T, F), the last dimension's, at most about ``MOST_ROWS`` of them.

    Every n-th is taken, n odd, so that samples whose length is a power of two are not all seen at the same places.
    """
    rows_TF = y.detach().flatten(0, -2) if y.ndim > 1 else y.detach()[None]
    every = -(-len(rows_TF) // MOST_ROWS) | 1
    return (rows_TF[::every] if len(rows_TF) > MOST_ROWS else rows_TF).float()


def _dead(var_F: Tensor, mean_F: Tensor) -> Tensor:
    """Say which units do not vary; all are dead where everything is zero."""
    square = (var_F + mean_F.square()).mean()
    return var_F <= DEAD_SHARE_OF_SQUARE * square


def _told(seen: _Seen) -> Iterator[tuple[str, Tensor]]:
    if seen.means:
        mean_F = torch.stack(seen.means).mean(0)
        var_F = torch.stack(seen.squares).mean(0) - mean_F.square()
        mean = mean_F.mean()
        yield "activation_mean", mean
        yield "activation_variance", (var_F + mean_F.square()).mean() - mean.square()
        dead = [_dead(var_F, mean_F).float().mean()]
        if seen.hidden:
            dead.append(_share(seen.hidden))
        yield "dead_share", torch.stack(dead).max()
    if seen.gates:
        yield "saturated_share", _share(seen.gates)
    if seen.entropies:
        yield "attention_entropy", torch.stack(seen.entropies).mean()


def _share(counted: list[tuple[Tensor, int]]) -> Tensor:
    return torch.stack([count for count, _ in counted]).sum().float() / sum(n for _, n in counted)
