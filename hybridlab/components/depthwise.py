"""Short depthwise convolution along the sequence: a part of several token mixers."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components.base import float_dtype
from hybridlab.components.gpu_kernels import kernel_for
from hybridlab.errors import StepError

Form = Literal["image", "shifts", "rows"]
"""How it is computed, all alike but for rounding. ``image``: as a picture one pixel high, its channels side by side, by
PyTorch's kernel. ``shifts``: a product and a sum for each tap on the sequence as it lies, moved by a position.
``rows``: with the positions of a feature side by side, (B, D, L), turned before and back behind."""
FORMS: tuple[Form, ...] = get_args(Form)
OWN_FROM = 1 << 19
"""Inputs from which on the gradient of the taps written here pays."""
SEGMENT_NUMBERS = 1 << 22
"""Products that the gradient of the taps makes at once: few enough for memory that the allocator keeps."""


class DepthwiseConv(nn.Module):
    """Each feature of (B, L, D) convolved along L with its own taps; the length stays.

    Causal: position t sees t - kernel + 1 to t. Otherwise the window is centred, with the odd tap
    of an even kernel on the left.
    """

    def __init__(
        self, features: int, kernel: int, *, causal: bool = True, bias: bool = True
    ) -> None:
        """Create taps (D, K) and, if wanted, biases (D), uniform within 1 / sqrt(kernel), the fan-in."""
        super().__init__()
        self.left = kernel - 1 if causal else kernel // 2
        self.right = kernel - 1 - self.left
        bound = 1 / math.sqrt(kernel)
        self.taps = nn.Parameter(torch.empty(features, kernel).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(features).uniform_(-bound, bound)) if bias else None
        self.form: Form = "image"

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Convolve (B, L, D) along L, with causal-conv1d's kernel where it is there and fits."""
        kernel = None if self.right else kernel_for("convolution", x_BLD, self.taps)
        if kernel is not None:
            return kernel(x_BLD, self.taps, self.bias)
        return depthwise_conv(x_BLD, self.taps, self.bias, self.left, self.form)

    def start(self, batch: int) -> Tensor:
        """Return the inputs before the first position, zeros (B, left, D)."""
        return self.taps.new_zeros(batch, self.left, self.taps.shape[0])

    def step(self, before_BWD: Tensor, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output (B, D) at one more position, and the inputs that the next one needs.

        Raises:
            StepError: the taps reach forward.
        """
        if self.right:
            raise StepError("a centred convolution cannot run one position at a time")
        seen_BKD = torch.cat((before_BWD, x_BD.unsqueeze(1)), dim=1)
        y_BD = torch.einsum("bkd,dk->bd", seen_BKD, self.taps)
        return y_BD if self.bias is None else y_BD + self.bias, seen_BKD[:, 1:].clone()

    def reference(self, x_BLD: Tensor) -> Tensor:
        """Add up the taps position by position."""
        positions_BD = x_BLD.unbind(1)
        taps_D = self.taps.unbind(1)
        rows_BD = []
        for t in range(len(positions_BD)):
            row_BD = torch.zeros_like(positions_BD[t])
            if self.bias is not None:
                row_BD = row_BD + self.bias
            for j, tap_D in enumerate(taps_D):
                seen = t + j - self.left
                if 0 <= seen < len(positions_BD):
                    row_BD = row_BD + tap_D * positions_BD[seen]
            rows_BD.append(row_BD)
        return torch.stack(rows_BD, 1)


def depthwise_conv(
    x_BLD: Tensor, taps_DK: Tensor, bias_D: Tensor | None, left: int, form: Form = "image"
) -> Tensor:
    """Return y_t = bias + sum over j of taps_j x_(t + j - left), zeros outside, (B, L, D).

    On the CPU in full precision the gradient of the taps is written by hand where there are many inputs: PyTorch's
    takes six to nine times as long.
    """
    if form == "rows":
        return _in_rows(x_BLD, taps_DK, bias_D, left)
    device = x_BLD.device.type
    own = (
        (form == "shifts" or (device == "cpu" and x_BLD.numel() >= OWN_FROM))
        and float_dtype(x_BLD) == x_BLD.dtype == taps_DK.dtype
        and not torch.is_autocast_enabled(device)
        and not torch.compiler.is_compiling()  # a compiler differentiates the parts itself
    )
    if not own:
        return _convolved(x_BLD, taps_DK, bias_D, left)
    y_BLD: Tensor = _Depthwise.apply(x_BLD, taps_DK, bias_D, left, form)  # type: ignore[no-untyped-call]
    return y_BLD


def _convolved(x_BLD: Tensor, taps_DK: Tensor, bias_D: Tensor | None, left: int) -> Tensor:
    """Convolve with PyTorch's kernel.

    (B, L, D) is what a one-pixel-high image (B, D, 1, L) looks like in channels-last memory, so the two-dimensional
    kernel reads it without a transposition.
    """
    features, kernel = taps_DK.shape
    padded_BLD = F.pad(x_BLD, (0, 0, left, kernel - 1 - left))
    image_BD1L = padded_BLD.transpose(1, 2).unsqueeze(2)
    y_BD1L = F.conv2d(image_BD1L, taps_DK[:, None, None, :], bias_D, groups=features)
    return y_BD1L.squeeze(2).transpose(1, 2)


def _in_rows(x_BLD: Tensor, taps_DK: Tensor, bias_D: Tensor | None, left: int) -> Tensor:
    """Convolve with the positions of each feature side by side."""
    features, kernel = taps_DK.shape
    padded_BDS = F.pad(x_BLD.transpose(1, 2), (left, kernel - 1 - left))
    y_BDL = F.conv1d(padded_BDS.contiguous(), taps_DK.unsqueeze(1), bias_D, groups=features)
    return y_BDL.transpose(1, 2).contiguous()


def _shifted(x_BLD: Tensor, taps_DK: Tensor, bias_D: Tensor | None, left: int) -> Tensor:
    """Convolve tap by tap on the sequence as it lies: nothing is turned or padded."""
    length = x_BLD.shape[1]
    own_D = taps_DK[:, left]
    y_BLD = x_BLD * own_D if bias_D is None else torch.addcmul(bias_D, x_BLD, own_D)
    for j, tap_D in enumerate(taps_DK.unbind(1)):
        shift = j - left
        first, last = max(0, -shift), min(length, length - shift)
        if shift and first < last:
            y_BLD[:, first:last].addcmul_(x_BLD[:, first + shift : last + shift], tap_D)
    return y_BLD


class _Depthwise(torch.autograd.Function):
    """The gradient of x is the convolution of y's with the taps in turn; that of a tap is a sum of products."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, taps: Tensor, bias: Tensor | None, left: int, form: Form) -> Tensor:
        return _FORM_OF[form](x, taps, bias, left)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, taps, bias, ctx.left, ctx.form = inputs
        ctx.biased = bias is not None
        ctx.save_for_backward(x, taps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, taps = ctx.saved_tensors
        kernel = taps.shape[1]
        grad_x = grad_taps = None
        if ctx.needs_input_grad[0]:
            grad_x = _FORM_OF[ctx.form](grad, taps.flip(1), None, kernel - 1 - ctx.left)
        if ctx.needs_input_grad[1]:
            shifts = range(-ctx.left, kernel - ctx.left)
            grad_taps = torch.stack([_overlap(grad, x, shift) for shift in shifts], 1)
        return grad_x, grad_taps, grad.sum((0, 1)) if ctx.biased else None, None, None


_FORM_OF = {"image": _convolved, "shifts": _shifted}


def _overlap(grad_BLD: Tensor, x_BLD: Tensor, shift: int) -> Tensor:
    """Return the sums (D) over b and t of grad_t x_(t + shift), where both are."""
    batch, length, features = x_BLD.shape
    first, last = max(0, -shift), min(length, length - shift)
    if first >= last:
        return x_BLD.new_zeros(features)
    segment = max(1, SEGMENT_NUMBERS // (batch * features))
    parts = zip(
        torch.split(grad_BLD[:, first:last], segment, 1),
        torch.split(x_BLD[:, first + shift : last + shift], segment, 1),
        strict=True,
    )
    sums = [(grad * x).sum((0, 1)) for grad, x in parts]
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)
