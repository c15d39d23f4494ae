"""Records what operators do: FLOPs, bytes read and written, bytes saved for backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from hybridlab.architecture.fake_mode import DEVICE
from hybridlab.trace.kernel_memory import workspace_bytes

aten = torch.ops.aten


def _attention(q: Any, k: Any, v: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return int(sdpa_flop_count(q.shape, k.shape, v.shape))  # type: ignore[no-untyped-call]


def _attention_backward(grad: Any, q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_backward_flop_count(grad.shape, q.shape, k.shape, v.shape))  # type: ignore[no-untyped-call]


def _cpu_lstm(x: Any, weight_in: Any, weight_hidden: Any, *args: Any, **kwargs: Any) -> int:
    """Count the two products of each position: (4H, I) and (4H, H)."""
    positions = x.numel() // x.shape[-1]
    return int(2 * positions * (weight_in.numel() + weight_hidden.numel()))


def _cpu_lstm_backward(
    x: Any, weight_in: Any, weight_hidden: Any, *args: Any, **kwargs: Any
) -> int:
    return 2 * _cpu_lstm(x, weight_in, weight_hidden)


def _library_rnn(x: Any, weights: Any, *args: Any, **kwargs: Any) -> int:
    """Count the products of each position with every matrix, of cuDNN's and MIOpen's recurrent layers."""
    positions = x.numel() // x.shape[-1]
    return int(2 * positions * sum(weight.numel() for weight in weights if weight.dim() == 2))


def _library_rnn_backward(x: Any, weights: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * _library_rnn(x, weights)


def _fft(points: int, x: Any, dims: Any) -> int:
    """Count ``points`` numbers in transforms along some dimensions as https://www.fftw.org/speed/method.html does."""
    length = math.prod(x.shape[dim] for dim in dims)
    return round(5 * points * math.log2(max(2, length)))


def _complex_fft(x: Any, dims: Any, *args: Any) -> int:
    return _fft(x.numel(), x, dims)


def _real_fft(x: Any, dims: Any, *args: Any) -> int:
    """Count half of what complex numbers take."""
    return _fft(x.numel(), x, dims) // 2


def _fft_to_real(x: Any, dims: Any, normalisation: Any, last: int) -> int:
    whole = int(x.numel() // x.shape[dims[-1]] * last)
    length = math.prod(last if dim == dims[-1] else x.shape[dim] for dim in dims)
    return round(2.5 * whole * math.log2(max(2, length)))


# torch's own counter knows CUDA's attention kernels but counts 0 for those of the CPU (pytorch#195460) and of devices
# that bring their own, as Intel's do, and 0 for LSTMs of every library and for Fourier transforms.
UNCOUNTED: dict[Any, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten._scaled_dot_product_fused_attention_overrideable: _attention,
    aten._scaled_dot_product_fused_attention_overrideable_backward: _attention_backward,
    aten.mkldnn_rnn_layer: _cpu_lstm,
    aten.mkldnn_rnn_layer_backward: _cpu_lstm_backward,
    aten._cudnn_rnn: _library_rnn,
    aten._cudnn_rnn_backward: _library_rnn_backward,
    aten.miopen_rnn: _library_rnn,
    aten.miopen_rnn_backward: _library_rnn_backward,
    aten._fft_c2c: _complex_fft,
    aten._fft_r2c: _real_fft,
    aten._fft_c2r: _fft_to_real,
}
FREE = {
    "aten::detach",
    "aten::alias",
    "aten::empty",
    "aten::empty_strided",
    "aten::lift_fresh",
    "aten::_unsafe_view",
}
"""Operators that move nothing: views by another name, and allocations."""


@dataclass
class OpRow:
    """One operator's work: FLOPs (a multiply-add counts 2) and bytes moved if nothing stays in a cache."""

    op: str
    flops: int
    bytes_read: int
    bytes_written: int


@dataclass
class Work:
    """A list of operators with its totals."""

    rows: list[OpRow] = field(default_factory=list)

    @property
    def flops(self) -> int:
        """Floating-point operations of all rows."""
        return sum(row.flops for row in self.rows)

    @property
    def moved_bytes(self) -> int:
        """Bytes read and written by all rows."""
        return sum(row.bytes_read + row.bytes_written for row in self.rows)


class OpRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every operator that runs inside it; views and allocations are free."""

    def __init__(self) -> None:
        """Start with nothing recorded."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.work = Work()
        self.workspace_bytes = 0
        """What kernels keep for their backward without saying so on fake tensors."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operator and note what it read, wrote and computed."""
        if func is DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._schema.name
        self.workspace_bytes += workspace_bytes(func, args)
        if not func.is_view and name not in FREE and not name.startswith("prim::"):
            self.work.rows.append(
                OpRow(
                    name.removeprefix("aten::"),
                    flops_of(func, args, kwargs, out),
                    tensor_bytes([args, kwargs]),
                    tensor_bytes(out),
                )
            )
        return out


def flops_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    """Return the FLOPs of one call of an operator, as ``FlopCounterMode`` counts them, and of what it leaves out."""
    packet = func._overloadpacket
    own = UNCOUNTED.get(packet)
    if own is not None:
        return own(*args)
    formula = flop_registry.get(packet)
    return int(formula(*args, **kwargs, out_val=out)) if formula is not None else 0


def tensor_bytes(tree: Any) -> int:
    """Return the bytes of all distinct tensors in a nest of containers."""
    tensors = {id(leaf): leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


class SavedBytes:
    """Counts what autograd keeps for backward, each storage once; parameters and named tensors are told apart."""

    def __init__(self, inputs: Iterable[Tensor], parameters: Iterable[Tensor]) -> None:
        """Know the inputs, whose storages belong to whoever made them, and the parameters, which are kept anyway."""
        self._parameters = {_storage(tensor) for tensor in parameters}
        self._inputs = [_storage(tensor) for tensor in inputs]
        self._kept: dict[int, int] = {}
        self._alive: list[Tensor] = []
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        key = _storage(tensor)
        if key not in self._parameters:
            self._kept[key] = tensor.untyped_storage().nbytes()
            self._alive.append(tensor)
        return tensor

    def __enter__(self) -> SavedBytes:
        """Start counting."""
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop counting."""
        self._hooks.__exit__(*error)

    @property
    def own_bytes(self) -> int:
        """Bytes kept that are not an input's."""
        return sum(size for key, size in self._kept.items() if key not in self._inputs)

    @property
    def kept_inputs(self) -> tuple[bool, ...]:
        """Whether each input is kept."""
        return tuple(key in self._kept for key in self._inputs)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
