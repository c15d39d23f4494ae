"""Which remedies are offered against what: each a start for a comparison, with its reason and where it is from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from hybridlab.architecture.spec import Residual
from hybridlab.training.flow import Part
from hybridlab.training.remedies import Change, Remedy

PRE_NORM = "https://arxiv.org/abs/2002.04745"
GPT2 = "https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf"
REZERO = "https://arxiv.org/abs/2003.04887"
FIXUP = "https://arxiv.org/abs/1901.09321"
CLIPPING = "https://arxiv.org/abs/1211.5063"
HYMBA = "https://arxiv.org/abs/2411.13676"
SWITCH = "https://arxiv.org/abs/2101.03961"
LOSS_FREE = "https://arxiv.org/abs/2408.15664"
GELU = "https://arxiv.org/abs/1606.08415"
SLOWER, FASTER, SMALLER = 0.1, 10.0, 0.1


def along_depth(
    kind: Literal["vanishing", "exploding", "uneven"] | str,
    mixers: Sequence[Part],
    joined: set[str],
) -> Iterator[Remedy]:
    """Offer what keeps gradients alike along the depth; ``joined`` are components that a join reads."""
    parts = {part.ids: part for part in mixers if part.ids not in joined}
    bare = [part for part in parts.values() if part.node.residual in (Residual.NONE, Residual.POST)]
    if bare:
        yield norm_before(bare)
    if len(bare) < len(parts):
        depth = Remedy(
            "depth",
            "Depth-scaled start",
            "The last maps of all residual branches start smaller by the root of the number of residuals, so that "
            "their sum keeps its size.",
            GPT2,
            settings={"residual_init": "depth_scaled"},
        )
        zero = Remedy(
            "zero",
            "Zero start",
            "The last maps of all residual branches start at zero: each block begins as nothing but its residual.",
            FIXUP,
            settings={"residual_init": "zero"},
        )
        yield from (depth, zero) if kind == "exploding" else (zero, depth)


def norm_before(parts: Sequence[Part]) -> Remedy:
    """Offer a norm before components and a residual around them."""
    return Remedy(
        "norm",
        "Norm before, residual around",
        "x + f(norm(x)): gradients pass the sum unchanged, however many components stand in a row.",
        PRE_NORM,
        changes=tuple(Change(part.ids, "residual", "pre") for part in parts),
    )


def against_small(part: Part, match: str, neighbours: float, own: bool) -> Iterator[Remedy]:
    """Offer a way for gradients to pass, a higher rate, or to leave the component as it is."""
    mixer = part.kind in ("token_mixer", "channel_mixer")
    if own and mixer and part.node.residual in (Residual.NONE, Residual.POST):
        yield norm_before([part])
    yield faster(match)
    yield frozen(match, "What hardly gets a gradient hardly learns: without it, a step is cheaper.")


def against_large(part: Part, match: str, neighbours: float, own: bool) -> Iterator[Remedy]:
    """Offer a bound at its neighbours' gradient, a smaller start, a lower rate."""
    yield clip(match, neighbours)
    mixer = part.kind in ("token_mixer", "channel_mixer")
    if own and mixer and part.node.residual is not Residual.NONE:
        yield Remedy(
            "scale",
            "Residual × 0.1",
            "The last map of the branch starts at a tenth, so that it does not drown what it is added to.",
            REZERO,
            settings={"residual_scale": SMALLER, "residual_parts": match},
        )
    yield slower(match)
    yield frozen(match, "Without its updates the others can be seen to learn or not.")


def against_starving(join: Part, branch: Sequence[str], own: bool) -> Iterator[Remedy]:
    """Offer a join that normalises its branches, and a higher rate for the poor one."""
    if own and join.use == "sum":
        yield Remedy(
            "balance",
            "Balance the branches",
            "A gated sum normalises each branch before it adds them, so that none drowns the others by its size.",
            HYMBA,
            changes=(Change(join.ids, "use", "gated_sum"),),
        )
    elif own and join.use == "gated_sum" and join.node.params.get("norm") is False:
        yield Remedy(
            "balance",
            "Balance the branches",
            "Norms before the sum keep one branch from drowning the others by its size.",
            HYMBA,
            changes=(Change(join.ids, "norm", True),),
        )
    if branch:
        yield faster("|".join(branch))


def against_dead(part: Part, match: str, own: bool) -> Iterator[Remedy]:
    """Offer an activation that lets gradients through below zero, a norm and residual, a lower rate, or freezing."""
    mixer = part.kind in ("token_mixer", "channel_mixer")
    if own and mixer and part.node.residual in (Residual.NONE, Residual.POST):
        yield norm_before([part])
    if own and part.node.params.get("activation") == "relu":
        yield Remedy(
            "activation",
            "GELU instead of ReLU",
            "A unit below zero gets no gradient through ReLU, and stays there.",
            GELU,
            changes=(Change(part.ids, "activation", "gelu"),),
        )
    yield slower(match)
    yield frozen(match, "What says the same whatever comes in need not be trained.")


def against_saturated(part: Part, match: str, own: bool) -> Iterator[Remedy]:
    """Offer a norm before the gates where there is none, and a lower rate."""
    mixer = part.kind in ("token_mixer", "channel_mixer")
    if own and mixer and part.node.residual in (Residual.NONE, Residual.POST):
        yield norm_before([part])
    yield slower(match)


def against_collapse(part: Part, own: bool) -> Iterator[Remedy]:
    """Offer a stronger balance loss, and a lower rate for the router."""
    yield from _stronger_balance(part, own)
    yield Remedy(
        "rate",
        "Router's rate × 0.1",
        "A router that moves slower than its experts lets more of them learn before it settles.",
        group={"match": part.ids, "weights": "router*", "rate": SLOWER},
    )


def against_crowding(part: Part, own: bool) -> Iterator[Remedy]:
    """Offer a stronger balance loss, or a bias that evens the load out without one."""
    yield from _stronger_balance(part, own)
    if own and part.use == "moe" and part.node.params.get("routing", "softmax") == "softmax":
        yield Remedy(
            "bias",
            "Balance by a bias",
            "Scores that do not compete, and a bias in the choice alone that rises where an expert has too little: no "
            "loss pulls against the task's.",
            LOSS_FREE,
            changes=(Change(part.ids, "routing", "sigmoid"),),
        )


def _stronger_balance(part: Part, own: bool) -> Iterator[Remedy]:
    if own and part.use == "moe" and part.node.params.get("routing", "softmax") == "softmax":
        weight = float(part.node.params.get("balance_weight", 0.01))
        more = min(10.0, 10 * weight) or 0.01
        yield Remedy(
            "balance",
            f"Balance loss {weight:g} → {more:g}",
            "The loss that spreads positions over experts is too weak against the task's.",
            SWITCH,
            changes=(Change(part.ids, "balance_weight", more),),
        )


def against_updates(match: str, large: bool) -> Iterator[Remedy]:
    """Offer another rate."""
    yield slower(match) if large else faster(match)


def clip(match: str, largest: float) -> Remedy:
    """Offer a bound of one component's gradient."""
    largest = float(f"{largest:.2g}")
    return Remedy(
        "clip",
        f"Clip its gradient at {largest:g}",
        "Its gradient is bounded at the size of its neighbours', and no longer takes up the common bound.",
        CLIPPING,
        group={"match": match, "clip_norm": largest},
    )


def slower(match: str) -> Remedy:
    """Offer a tenth of the learning rate."""
    return Remedy(
        "rate",
        "Rate × 0.1",
        "Smaller steps for this part alone; all others keep theirs.",
        group={"match": match, "rate": SLOWER},
    )


def faster(match: str) -> Remedy:
    """Offer ten times the learning rate."""
    return Remedy(
        "rate",
        "Rate × 10",
        "Larger steps for this part alone; all others keep theirs.",
        group={"match": match, "rate": FASTER},
    )


def frozen(match: str, reason: str) -> Remedy:
    """Offer to leave a component's weights as they are."""
    return Remedy("freeze", "Freeze it", reason, group={"match": match, "frozen": True})
