"""The reduced profile of MAD: its six tasks in small, five architectures, and what was published of them.

Paper: https://arxiv.org/abs/2403.17844. DeltaNet's accuracies and those of the others beside them are from its authors'
table (https://arxiv.org/abs/2406.06484).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hybridlab.tasks.registry import task as make_task

WIDTH = 64


RATE = 3e-3
"""The learning rate where none is asked for."""


@dataclass(frozen=True)
class Small:
    """A task in small: its steps and batch, parameters of our task that differ from the paper's, and why they do."""

    title: str
    steps: int
    batch: int
    why: str
    sizes: dict[str, Any] = field(default_factory=dict)


TASKS: dict[str, Small] = {
    "mad_compression": Small(
        "Compression",
        1500,
        16,
        "15 random tokens to gather instead of 31, since these were hardly told from guessing in so few steps",
        {"length": 16},
    ),
    "mad_fuzzy_in_context_recall": Small(
        "Fuzzy in-context recall",
        400,
        16,
        "keys and values of one or two tokens instead of one to three, so that keys come again within 48 positions "
        "instead of 128",
        {"length": 48, "key_tokens": 2, "value_tokens": 2},
    ),
    "mad_in_context_recall": Small(
        "In-context recall",
        400,
        16,
        "64 positions instead of 128; each of the 8 keys still comes four times",
        {"length": 64},
    ),
    "mad_memorization": Small(
        "Memorisation",
        120,
        32,
        "a map of 1,023 keys, of the paper's larger ones, and 512 samples, which hold nearly all keys: its smallest "
        "map is soon known by heart; here the steps are few",
        {"vocab": 2048, "train_examples": 512},
    ),
    "mad_noisy_in_context_recall": Small(
        "Noisy in-context recall",
        400,
        16,
        "64 positions instead of 128; a fifth of the pairs is noise, as in the paper",
        {"length": 64},
    ),
    "mad_selective_copying": Small(
        "Selective copying",
        400,
        16,
        "8 tokens to copy out of 55 positions instead of 16 out of 239",
        {"length": 64, "tokens": 8},
    ),
}
"""In the order of the published table."""


@dataclass(frozen=True)
class Subject:
    """An architecture: its mixer's node, where it was published, and its published accuracies in %, task by task.

    LENGTH stands for the task's.
    """

    title: str
    mixer: str
    source: str
    published: tuple[float, ...]


SUBJECTS: dict[str, Subject] = {
    "transformer": Subject(
        "Transformer",
        "{use: attention, heads: 4}",
        "https://arxiv.org/abs/1706.03762",
        (51.6, 29.8, 94.1, 85.2, 86.8, 99.6),
    ),
    "hyena": Subject(
        "Hyena",
        "{use: hyena, length: LENGTH}",
        "https://arxiv.org/abs/2302.10866",
        (45.2, 7.9, 81.7, 89.5, 78.8, 93.1),
    ),
    "mamba": Subject(
        "Mamba",
        "{use: mamba}",
        "https://arxiv.org/abs/2312.00752",
        (52.7, 6.7, 90.4, 89.5, 90.1, 86.3),
    ),
    "gla": Subject(
        "GLA",
        "{use: gated_linear_attention, heads: 4}",
        "https://arxiv.org/abs/2312.06635",
        (38.8, 6.9, 80.8, 63.3, 81.6, 88.6),
    ),
    "delta_net": Subject(
        "DeltaNet",
        "{use: delta_net, heads: 4}",
        "https://arxiv.org/abs/2406.06484",
        (42.2, 35.7, 100.0, 52.8, 100.0, 100.0),
    ),
}


def text_of(subject: str, task: str) -> str:
    """Return an architecture as it is trained on a task: two blocks of mixer and SwiGLU, as in the paper."""
    length = make_task(task, **TASKS[task].sizes).length
    return f"""\
name: {subject}-mad
source: {SUBJECTS[subject].source}
width: {WIDTH}
nodes:
  - id: block
    repeat: 2
    nodes:
      - {SUBJECTS[subject].mixer.replace("LENGTH", str(length))}
      - {{use: swiglu}}
"""


def budget(task: str) -> dict[str, Any]:
    """Return what every training on a task gets; the rest is the task's default."""
    small = TASKS[task]
    return {"steps": small.steps, "batch": small.batch, "task_params": small.sizes}


def published(subject: str, task: str) -> float:
    """Return a published accuracy, in %."""
    return SUBJECTS[subject].published[list(TASKS).index(task)]
