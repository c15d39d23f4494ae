"""Random hybrids over the whole palette: sequences, forks with joins, groups that repeat, with or without ties."""

from __future__ import annotations

import random
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.compat import StringIO

from hybridlab.architecture.document import loads
from hybridlab.architecture.infer import infer
from hybridlab.architecture.spec import Architecture
from hybridlab.components.registry import palette

WIDTHS = (32, 48, 64)
JOINS = ("sum", "gated_sum", "concat")
KINDS = ("token_mixer", "channel_mixer", "norm")


def random_architecture(seed: int) -> Architecture:
    """Return the hybrid of a seed; see ``drawn_architecture``."""
    return drawn_architecture(random.Random(seed), f"random-{seed}")


def drawn_architecture(chance: random.Random, title: str = "random") -> Architecture:
    """Draw a hybrid: three to seven places over tokens, whose shapes and parameters were checked."""
    one_input = [
        info.name
        for info in palette().values()
        if str(info.kind) in KINDS and info.cls.min_inputs == info.cls.max_inputs == 1
    ]
    for _ in range(100):
        made = loads(_written(chance, one_input, title))
        if not infer(made).errors:
            return made
    raise SystemExit(f"no valid architecture came of {title}")


def _written(chance: random.Random, names: list[str], title: str) -> str:
    nodes: list[dict[str, Any]] = [{"id": "tokens", "use": "token_embedding", "vocab": 32}]
    for place in range(chance.randint(3, 7)):
        form = chance.choice(("plain", "plain", "fork", "group"))
        before = nodes[-1]["id"]
        if form == "plain":
            nodes.append({"id": f"n{place}", "use": chance.choice(names)})
        elif form == "fork":
            for branch in "ab":
                use = chance.choice(names)
                nodes.append({"id": f"n{place}{branch}", "use": use, "inputs": [before]})
            join = {"id": f"n{place}", "use": chance.choice(JOINS)}
            nodes.append(join | {"inputs": [f"n{place}a", f"n{place}b"]})
        else:
            inner = [{"use": chance.choice(names)} for _ in range(chance.randint(1, 2))]
            group = {"id": f"n{place}", "repeat": chance.randint(1, 3), "nodes": inner}
            nodes.append(group | ({"tie": True} if chance.random() < 0.3 else {}))
    nodes.append({"id": "head", "use": "lm_head", "vocab": 32})
    whole = {"name": title, "width": chance.choice(WIDTHS), "nodes": nodes}
    text = StringIO()
    YAML().dump(whole, text)
    return text.getvalue()
