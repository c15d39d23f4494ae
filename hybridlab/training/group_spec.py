"""How a part of a network is optimised: which weights, by what, at which rate. Free of torch: pages read it."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from hybridlab.training.part_spec import PartSpec, fits_name
from hybridlab.training.setting import setting

OPTIMISERS = ("adamw", "sgd", "muon", "lion", "adafactor", "schedule_free")
OTHERS = "others"
"""The name of what no group takes."""


class GroupSpec(PartSpec):
    """Some weights and how they are optimised; what is left empty is as for all others.

    A weight belongs to the first group that takes it. A group takes what fits all of ``match``, ``use``, ``kind``,
    ``weights`` and ``depth``.
    """

    weights: str = setting(
        "Names of weights within a component, with * for any text and | between several: *bias|log_rate|norm.*",
        "*",
        min_length=1,
        max_length=200,
    )
    optimiser: Literal["adamw", "sgd", "muon", "lion", "adafactor", "schedule_free"] = setting(
        "What updates them. Muon is for matrices; other weights of its group go to AdamW at the same rate. Lion wants "
        "a rate 3 to 10 times smaller than AdamW. Schedule-free AdamW scores and keeps an average of the weights "
        "instead of lowering the rate.",
        "adamw",
    )
    rate: float = setting("Factor on the learning rate of all.", 1.0, gt=0, le=1e4)
    learning_rate: float | None = setting("Peak step size; empty: that of all.", None, gt=0, le=100)
    schedule: Literal["cosine", "constant"] | None = setting(
        "How the rate goes after warm-up; empty: as for all, but constant for schedule-free.", None
    )
    warmup_steps: Annotated[int, Field(strict=True)] | None = setting(
        "Steps over which the rate rises; empty: as for all.", None, "steps", ge=0, le=100_000_000
    )
    weight_decay: float | None = setting(
        "Decay of all weights of the group; empty: as for all, which spares vectors and embeddings.",
        None,
        ge=0,
        le=10,
    )
    betas: (
        tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] | None
    ) = setting(
        "Averaging of gradients and of their squares by AdamW; empty: as for all, but 0.9 and 0.99 for Lion, where the "
        "first makes the update and the second the memory.",
        None,
    )
    momentum: float = setting("Momentum of SGD and Muon.", 0.95, ge=0, lt=1)
    clip_norm: float | None = setting(
        "Largest norm of this group's gradients, apart from all others; 0 does not clip; empty: together with all.",
        None,
        ge=0,
        le=1e6,
    )
    frozen: bool = setting("Leave these weights as they are.", False)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.name == OTHERS:
            raise ValueError(f"the name {OTHERS!r} is kept for what no group takes")
        if self.optimiser == "schedule_free" and self.schedule == "cosine":
            raise ValueError(
                "schedule_free takes no schedule, as its averaging stands in for one; leave schedule out"
            )
        if self.optimiser == "schedule_free" and self.betas is not None and not self.betas[0]:
            raise ValueError("schedule_free needs a first beta above 0, such as 0.9")
        return self

    def takes(self, path: str, use: str, kind: str, weight: str, depth: float) -> bool:
        """Say whether a weight belongs here, by its component's path, name, family, its own name and the depth."""
        return self.takes_component(path, use, kind, depth) and fits_name(weight, self.weights)


class Suggestion(NamedTuple):
    """A group that is known to help, with the reason and where it is from."""

    title: str
    reason: str
    source: str
    group: GroupSpec


SUGGESTIONS = (
    Suggestion(
        "Slow rates of state-space layers",
        "Step sizes and decays (dt and A) set how long a state-space layer remembers; they are learned at a tenth of "
        "the rate and never decayed, or memories drift before anything uses them.",
        "https://arxiv.org/abs/2206.11893",
        GroupSpec(
            name="rates",
            weights="log_rate|log_step|step_bias|project_step.*|nu|theta|decay|rate.up.*|decay.up.*",
            rate=0.1,
            weight_decay=0.0,
        ),
    ),
    Suggestion(
        "Slow routers",
        "Routers are where mixtures of experts become unstable; at a third of the rate, choices settle no faster than "
        "the experts behind them. The factor is a start, not the source's.",
        "https://arxiv.org/abs/2202.08906",
        GroupSpec(
            name="routers",
            weights="router.*|shared_gate.*",
            rate=0.3,
            weight_decay=0.0,
        ),
    ),
    Suggestion(
        "Fast embeddings",
        "A token's row moves only when the token comes, and its best rate does not shrink with the width as that of "
        "matrices does; the factor is a start, not the source's.",
        "https://arxiv.org/abs/2203.03466",
        GroupSpec(name="embeddings", kind="input", rate=3.0, weight_decay=0.0),
    ),
    Suggestion(
        "Muon for the matrices of mixers",
        "Muon makes every update of a matrix orthogonal, so that rare directions learn as fast as common ones; its "
        "size is matched to AdamW's, so the rate stays as it is.",
        "https://arxiv.org/abs/2502.16982",
        GroupSpec(name="mixers", kind="token_mixer", optimiser="muon"),
    ),
    Suggestion(
        "Muon for the matrices of channel mixers",
        "As for token mixers; channel mixers hold most of the matrices.",
        "https://arxiv.org/abs/2502.16982",
        GroupSpec(name="channels", kind="channel_mixer", optimiser="muon"),
    ),
    Suggestion(
        "Lion for channel mixers",
        "Lion remembers one number a weight where AdamW remembers two, which tells most where most weights are; as "
        "each weight moves by the whole rate, that is a fifth of AdamW's.",
        "https://arxiv.org/abs/2302.06675",
        GroupSpec(name="lion", kind="channel_mixer", optimiser="lion", rate=0.2),
    ),
    Suggestion(
        "Schedule-free AdamW for all that is left",
        "The average of the weights is scored and kept, which stands in for lowering the rate; so it need not be known "
        "beforehand how long the training will be.",
        "https://arxiv.org/abs/2405.15682",
        GroupSpec(name="free", optimiser="schedule_free"),
    ),
    Suggestion(
        "Leave the input as it is",
        "A frozen input keeps its tokens apart while everything behind it learns; also the first step when trained "
        "weights are adapted.",
        "",
        GroupSpec(name="input", kind="input", frozen=True),
    ),
)
"""What the page offers; each is a starting point to compare with a training without it, not a promise."""


class Default(NamedTuple):
    """How weights that no group takes are optimised, with the reason and where it is from."""

    what: str
    how: str
    reason: str
    source: str


DEFAULTS = (
    Default(
        "Matrices, those of routers too",
        "AdamW, decayed",
        "Decay keeps weights small enough that a step of the same size goes on changing what they do.",
        "https://arxiv.org/abs/1711.05101",
    ),
    Default(
        "Norms, biases and other vectors",
        "AdamW, not decayed",
        "They are few and set the size and place of what follows; decay would pull scales from 1 to 0.",
        "https://arxiv.org/abs/1812.01187",
    ),
    Default(
        "Embeddings",
        "AdamW, not decayed",
        "A row has a gradient only when its token comes, while decay would pull at rare tokens on every step.",
        "",
    ),
    Default(
        "Decays and steps of state-space layers (A, dt)",
        "AdamW, not decayed",
        "They are logarithms of how long is remembered; pulling them to 0 would set every memory to the same length.",
        "https://arxiv.org/abs/2206.11893",
    ),
)
"""What ``optimiser.decayed`` does, said for people."""
