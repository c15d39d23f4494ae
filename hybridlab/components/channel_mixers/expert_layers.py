"""The layers that experts are, and the two ways of running many of them.

Sorted: positions are sorted by expert, each expert runs once on its own, however many they are.
Placed: every expert has the same number of places, and all run as one batched matrix product.

T positions, k choices of a position, S choices of all, E experts, F hidden features, C places of an
expert in a sequence.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

ExpertLayer = Literal["swiglu", "relu_squared"]


def expert_weights(count: int, rows: int, columns: int) -> nn.Parameter:
    """Return weights (E, rows, columns), uniform within 1 / sqrt(rows)."""
    bound = 1 / math.sqrt(rows)
    return nn.Parameter(torch.empty(count, rows, columns).uniform_(-bound, bound))


def columns_in(layer: ExpertLayer, hidden: int) -> int:
    """Return the columns of an expert's first map: two halves for a gated layer."""
    return 2 * hidden if layer == "swiglu" else hidden


def bend(layer: ExpertLayer, hidden_F: Tensor) -> Tensor:
    """Return ``silu(gate) * value`` of the two halves, or ``relu(hidden)^2``."""
    if layer == "relu_squared":
        return F.relu(hidden_F).square()
    gate_F, value_F = hidden_F.chunk(2, dim=-1)
    return F.silu(gate_F) * value_F


def run_sorted(
    x_TD: Tensor, chosen_Tk: Tensor, in_EDF: Tensor, out_EFD: Tensor, layer: ExpertLayer
) -> Tensor:
    """Run each position through its chosen experts; gives (T, k, D)."""
    if torch.compiler.is_exporting():  # a graph cannot know how many positions an expert gets
        y_TED = (bend(layer, x_TD @ in_EDF) @ out_EFD).transpose(0, 1)
        return y_TED.gather(1, chosen_Tk.unsqueeze(-1).expand(-1, -1, y_TED.shape[-1]))
    order_S = chosen_Tk.flatten().argsort(stable=True)
    x_SD = x_TD.index_select(0, order_S // chosen_Tk.shape[1])
    whole = torch.compiler.is_compiling() or not len(x_SD)  # a traced program follows no values
    y_SD = torch.cat(
        [
            bend(layer, part_SD @ in_DF) @ out_FD
            for part_SD, in_DF, out_FD in zip(
                torch.split(x_SD, _counts(chosen_Tk, in_EDF.shape[0])),
                in_EDF.unbind(0),
                out_EFD.unbind(0),
                strict=True,
            )
            if whole or len(part_SD)  # an expert that nobody chose does not run
        ]
    )
    return y_SD.index_select(0, order_S.argsort()).view(*chosen_Tk.shape, -1)


def _counts(chosen_Tk: Tensor, experts: int) -> list[int]:
    """Return how many positions each expert gets; an even share where there is no data."""
    ids_E = torch.arange(experts, device=chosen_Tk.device)
    counts_E = (chosen_Tk.flatten() == ids_E[:, None]).sum(1)
    if isinstance(chosen_Tk, FakeTensor) or chosen_Tk.is_meta:
        return even_counts(chosen_Tk.numel(), experts)
    counts: list[int] = counts_E.tolist()
    return counts


def even_counts(total: int, experts: int) -> list[int]:
    """Return how many of ``total`` choices each expert gets if all get the same."""
    return [(e + 1) * total // experts - e * total // experts for e in range(experts)]


def run_placed(
    x_BLD: Tensor, position_BEC: Tensor, in_EDF: Tensor, out_EFD: Tensor, layer: ExpertLayer
) -> Tensor:
    """Run each expert on the positions in its places; gives (B, E, C, D)."""
    batch, experts, each = position_BEC.shape
    x_SD = x_BLD.flatten(0, 1).index_select(0, over_batch(position_BEC, x_BLD.shape[1]))
    x_BECD = x_SD.view(batch, experts, each, -1)
    x_EPD = x_BECD.transpose(0, 1).reshape(experts, batch * each, -1)
    y_EPD = bend(layer, x_EPD @ in_EDF) @ out_EFD
    return y_EPD.view(experts, batch, each, -1).transpose(0, 1)


def over_batch(index_B: Tensor, length: int) -> Tensor:
    """Return indices into sequences (B, ...) as indices into all positions of the batch, flat."""
    starts_B = torch.arange(index_B.shape[0], device=index_B.device) * length
    return (index_B.flatten(1) + starts_B.unsqueeze(1)).flatten()
