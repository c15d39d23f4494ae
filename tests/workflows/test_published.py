"""What the pages are told of published models: the text, its size, and one sentence where it cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hybridlab.architecture.document import loads
from hybridlab.workflows.predict_worker import answer

CONFIG = {
    "model_type": "llama",
    "hidden_size": 96,
    "intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}


def ask(verb: str, **args: Any) -> dict[str, Any]:
    return answer(json.dumps({"id": 1, "verb": verb, "args": args}))


@pytest.mark.parametrize("small", [False, True])
def test_a_config_becomes_a_text_at_its_own_size_or_in_small(small: bool) -> None:
    found = ask("import", config=json.dumps(CONFIG), small=small)["value"]
    assert loads(found["text"]).width == (64 if small else 96)
    assert (found["params"] < found["params_published"]) is small


def test_a_pattern_becomes_a_text() -> None:
    found = ask("import", pattern="M-M*-", small=True)["value"]
    assert loads(found["text"]).name == found["name"] == "megatron-hybrid-mini"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"config": "{"}, "this is not JSON"),
        ({"config": "[" * 100_000}, "this is not JSON"),
        ({"config": '{"model_type": "no_such"}'}, "no importer reads this family"),
        ({"config": json.dumps(CONFIG | {"made_up": 1})}, "made_up"),
        ({"pattern": "M-Q"}, "unknown letter 'Q' at position 3"),
    ],
)
def test_what_cannot_be_read_says_why(args: dict[str, str], said: str) -> None:
    (problem, *_) = ask("import", **args)["problems"]
    assert said in " ".join(problem.values())


def test_families_and_the_python_file() -> None:
    assert {"llama", "mamba2"} <= set(ask("families")["value"])
    text = "name: tiny\nwidth: 16\nnodes:\n  - {use: attention, heads: 2}\n"
    code = ask("python_file", text=text, task="parity")["value"]
    compile(code, "tiny.py", "exec")
    assert "class Model" in code and "hybridlab." not in code
