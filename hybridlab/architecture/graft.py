"""Puts the repeats that a larger architecture has more into a model that runs, which stays the same object throughout.

Everyone who holds the model, its components or their weights (an optimiser, hooks) goes on holding the right ones.
"""

from __future__ import annotations

from hybridlab.architecture.model import GraphModel, GroupModule, ScopeModule, Slot


def graft(model: GraphModel, larger: GraphModel) -> None:
    """Give a model the repeats that a larger one has at the end of its groups; all else of the larger one is dropped.

    The larger one is of the same architecture but for those repeats, and on the same device. Paths become those of the
    larger one: what ran once, ``stage.mamba2``, is the first repeat then, ``stage.0.mamba2``.
    """
    _scope(model.root, larger.root)
    model.architecture, model.inference = larger.architecture, larger.inference
    model.share(larger.inference.shares)


def _scope(old: ScopeModule, new: ScopeModule) -> None:
    for name, key in new.keys.items():
        mine, other = old.get_submodule(old.keys[name]), new.get_submodule(key)
        if isinstance(mine, Slot) and isinstance(other, Slot):
            mine.path = other.path
        elif isinstance(mine, GroupModule) and isinstance(other, GroupModule):
            _group(mine, other)


def _group(old: GroupModule, new: GroupModule) -> None:
    """Take over the larger group's repeats beyond one's own; children keep the order of a group that is built so."""
    mine = [old._modules.pop(name) for name in _children(old)]
    for place, name in enumerate(_children(new)):
        other = new.get_submodule(name)
        kept = mine[place] if place < len(mine) else None
        if isinstance(kept, ScopeModule) and isinstance(other, ScopeModule):
            _scope(kept, other)
        old.add_module(name, other if kept is None else kept)
    old.path, old.node, old.order = new.path, new.node, list(new.order)


def _children(group: GroupModule) -> list[str]:
    """Return the names of a group's scopes, in the order in which they first run."""
    return [name or "body" for name in dict.fromkeys(group.order)]
