"""What the meters cost: processor time of sampling, as a share of one core.

    python benchmarks/meters.py
    python benchmarks/meters.py --hz 20 --seconds 20

The meters of a run on this machine are read in their own thread while this process rests; the process's whole
processor time meanwhile is theirs. The line: at 10 Hz less than 1 % of one core.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

from hybridlab.hardware.devices import choose
from hybridlab.hardware.meters.here import instruments
from hybridlab.hardware.meters.sampling import Sampling

LINE = 0.01
RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hz", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--output", type=Path, default=RESULTS / "meters.json")
    options = parser.parse_args()
    found = instruments(choose("auto"))
    samples: list[int] = []
    sampling = Sampling(
        found.meters.working, lambda values: samples.append(len(values)), hz=options.hz
    )
    began, used = time.monotonic(), time.process_time()
    sampling.start()
    time.sleep(options.seconds)
    sampling.close()
    elapsed, used = time.monotonic() - began, time.process_time() - used
    share = used / elapsed
    print(f"{len(samples)} samples of {max(samples, default=0)} values in {elapsed:.1f} s")
    print(f"{100 * share:.3f} % of one core, {1e3 * used / max(1, len(samples)):.3f} ms a sample")
    result = {
        "benchmark": "meters",
        "line": LINE,
        "hz": options.hz,
        "samples": len(samples),
        "share_of_one_core": share,
        "meters": found.as_dict(),
        "machine": platform.machine(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {options.output}")
    if share >= LINE:
        raise SystemExit(f"{100 * share:.2f} % of one core; the line is {100 * LINE:g} %")


if __name__ == "__main__":
    main()
