"""The op stream as a table: it comes back from Parquet as it was, goes together, and refuses what is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from hybridlab.errors import RunError
from hybridlab.trace.exact import predict_module
from hybridlab.trace.ops import OpRecorder
from hybridlab.trace.stream import OPS, OpStream, concatenate


@pytest.fixture(scope="module")
def stream() -> OpStream:
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))
    return predict_module(model, (torch.randn(5, 8),))


def test_a_stream_comes_back_from_its_files_as_it_was(stream: OpStream, tmp_path: Path) -> None:
    told = OpStream(stream.ops, stream.storages, "predicted", ("moe: an even share",))
    told.save(tmp_path / "s")
    again = OpStream.load(tmp_path / "s")
    assert again.ops.equals(stream.ops) and again.storages.equals(stream.storages)
    assert (again.source, again.notes) == ("predicted", ("moe: an even share",))
    assert again.peak_bytes == stream.peak_bytes > 0
    assert len(again) == len(stream) > 10


def test_rows_are_chosen_by_their_columns(stream: OpStream) -> None:
    apart = [stream.where(phase=phase) for phase in ("forward", "backward", "optimiser")]
    assert sum(map(len, apart)) == len(stream)
    assert all(len(part) > 0 for part in apart)
    assert set(stream.where(component="0").strings("component")) == {"0"}
    assert sum(part.flops for part in apart) == stream.flops


def test_streams_go_together_step_by_step_with_their_weights_once(stream: OpStream) -> None:
    both = concatenate([stream, stream])
    assert len(both) == 2 * len(stream) and both.flops == 2 * stream.flops
    assert sorted(set(both.numbers("step"))) == [0, 1]
    names = [name for name in both.storages["name"].to_pylist() if name]
    assert len(names) == len(set(names))
    assert both.peak_bytes == stream.peak_bytes
    ticks = both.numbers("tick")
    assert (ticks[1:] > ticks[:-1]).all()


def test_measured_and_predicted_do_not_mix(stream: OpStream) -> None:
    measured = OpStream(stream.ops, stream.storages, "measured")
    with pytest.raises(ValueError, match="one source"):
        concatenate([stream, measured])


def test_files_that_are_no_stream_are_told(stream: OpStream, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"ops\.parquet: is not there"):
        OpStream.load(tmp_path)
    stream.save(tmp_path)
    (tmp_path / "ops.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(RunError, match="cannot be read"):
        OpStream.load(tmp_path)
    pq.write_table(pa.table({"step": [1]}), tmp_path / "ops.parquet")
    with pytest.raises(RunError, match="columns tick, phase"):
        OpStream.load(tmp_path)
    pq.write_table(stream.ops, tmp_path / "ops.parquet")
    with pytest.raises(RunError, match="predicted or measured"):
        OpStream.load(tmp_path)
    assert OPS.names == stream.ops.schema.names


@pytest.mark.parametrize(
    ("transform", "flops"),
    [
        (lambda x: torch.fft.fft(torch.complex(x, x), dim=1), 5 * 3 * 64 * 8 * 6),
        (lambda x: torch.fft.rfft(x, dim=1), 5 * 3 * 64 * 8 * 6 // 2),
        (lambda x: torch.fft.fft2(torch.complex(x, x), dim=(1, 2)), 5 * 3 * 64 * 8 * 9),
        (lambda x: torch.fft.irfft(torch.complex(x, x), n=64, dim=1), 5 * 3 * 64 * 8 * 6 // 2),
    ],
    ids=["complex", "real", "two dimensions", "back to real"],
)
def test_fourier_transforms_count_as_fftw_counts_them(
    transform: Callable[[Tensor], Tensor], flops: int
) -> None:
    """5 N log2 N for complex numbers, half of it for real ones; torch's own counter says 0."""
    with OpRecorder() as recorder:
        transform(torch.zeros(3, 64, 8))
    assert recorder.work.flops == flops
