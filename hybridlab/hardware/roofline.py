"""Three numbers of a machine's ceilings, enough to say how long an operator takes: compute, bandwidth, overhead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from hybridlab.hardware.ceilings import Bandwidth, Ceilings
from hybridlab.hardware.published import LABEL, PublishedPeak


@dataclass(frozen=True)
class Roofline:
    """Speed of one device with one number of threads; ``source`` says in words where the numbers come from."""

    flops_per_s: float
    bandwidths: tuple[Bandwidth, ...]
    """By working set, smallest first: what fits into a cache moves faster."""
    overhead_s: float
    source: str

    @classmethod
    def of(cls, ceilings: Ceilings, precision: str = "float32") -> Self:
        """Take the compute ceiling of a precision, the bandwidths, and the cost of a call."""
        flops_per_s = ceilings.flops_per_s[precision]
        source = (
            f"measured on {ceilings.title} with {ceilings.threads} "
            f"thread{'s' if ceilings.threads > 1 else ''}: {flops_per_s / 1e9:.0f} GFLOP/s, "
            f"{ceilings.bytes_per_s / 1e9:.0f} GB/s, {ceilings.call_s * 1e6:.1f} µs per operator"
        )
        return cls(flops_per_s, ceilings.bandwidths, ceilings.call_s, source)

    @classmethod
    def of_published(cls, peak: PublishedPeak, precision: str = "float32") -> Self:
        """Take what a maker publishes of an accelerator that is not here: an ideal that real steps do not reach."""
        flops_per_s = dict(peak.tera_per_s)[precision] * 1e12
        bandwidth = Bandwidth(peak.memory_bytes, peak.gb_per_s * 1e9)
        source = (
            f"{peak.title}, {LABEL}: {flops_per_s / 1e9:,.0f} GFLOP/s in {precision}, {peak.gb_per_s:,.0f} GB/s, "
            "and nothing for a call, which real steps do not reach; operators as a CPU takes them"
        )
        return cls(flops_per_s, (bandwidth,), 0.0, source)

    def seconds(self, flops: float, moved_bytes: float) -> float:
        """Estimate one operator: the longer of computing and moving, plus the overhead of a call."""
        fitting = (one for one in self.bandwidths if moved_bytes <= one.working_set_bytes)
        bytes_per_s = next(fitting, self.bandwidths[-1]).bytes_per_s
        return max(flops / self.flops_per_s, moved_bytes / bytes_per_s) + self.overhead_s
