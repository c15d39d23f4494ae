"""Verbs about architectures, with what people type and with what nobody should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hybridlab.architecture.library import presets
from tests.cli.conftest import Said
from tests.tasks.conftest import OF_SERIES

Cli = Callable[..., Said]
ERROR_KEYS = {"path", "message", "expected", "got", "fix"}
NAMES = [entry.name for entry in presets()]


def test_presets_are_listed_with_their_sources(cli: Cli) -> None:
    said = cli("presets", "--json")
    assert said.code == 0
    assert {entry["name"] for entry in said.json} == set(NAMES)
    assert all(entry["source"].startswith("https://") for entry in said.json)
    assert all(Path(entry["path"]).is_file() for entry in said.json)
    assert "hymba_mini" in cli("presets").out


def test_saved_designs_are_listed_too(cli: Cli, home: Path) -> None:
    (home / "designs").mkdir(parents=True)
    (home / "designs" / "mine.yaml").write_text("name: mine\nwidth: 8\nnodes: [{use: mlp}]\n")
    found = {entry["name"]: entry["kind"] for entry in cli("presets", "--json").json}
    assert found["mine"] == "design"
    assert cli("validate", "mine").code == 0


def test_components_and_tasks_are_described(cli: Cli) -> None:
    components = cli("components", "--json").json
    assert {"name", "kind", "paper", "params_schema", "state_bytes_per_token"} <= set(components[0])
    assert {"attention", "mamba2", "moe"} <= {entry["name"] for entry in components}
    tasks = cli("tasks", "--json").json
    assert {"digits_sequence", "python_bytes", "mqar"} <= {entry["name"] for entry in tasks}
    assert all(entry["baselines"] for entry in tasks if entry["name"] not in OF_SERIES)
    assert "attention" in cli("components").out
    assert "parity" in cli("tasks").out


def test_a_component_has_a_page(cli: Cli) -> None:
    text = cli("components", "mamba2").out
    assert text.startswith("# Mamba-2\n") and "`jamba_mini`" in text
    said = cli("components", "mamba2", "--json").json
    assert (
        said["page"] == text and "jamba_mini" in said["presets"] and said["kind"] == "token_mixer"
    )
    unknown = cli("components", "mamba22", "--json")
    assert unknown.code == 2
    assert "did you mean 'mamba2'" in unknown.json["errors"][0]["fix"]


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_right(cli: Cli, name: str) -> None:
    said = cli("validate", name, "--json")
    assert said.code == 0
    assert said.json["ok"] and said.json["errors"] == []
    assert said.json["params"] > 1000
    assert len(said.json["fingerprint"]) == 16


def test_a_task_adds_its_input_and_head(cli: Cli) -> None:
    bare = cli("validate", "hymba_mini", "--json").json
    whole = cli("validate", "hymba_mini", "--task", "python_bytes", "--json").json
    assert whole["params"] > bare["params"]
    assert whole["fingerprint"] == bare["fingerprint"]


def test_every_error_is_told_at_once(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("name: x\nwidth: 64\nnodes: [{use: attention, heads: 5}, {use: atention}]\n")
    said = cli("validate", str(file), "--json")
    assert said.code == 2
    assert said.json["ok"] is False and said.json["params"] is None
    errors = {error["path"]: error for error in said.json["errors"]}
    assert set(errors) == {"nodes[0].heads", "nodes[1].use"}
    assert all(set(error) >= ERROR_KEYS for error in errors.values())
    assert "try 4 or 8" in errors["nodes[0].heads"]["fix"]
    plain = cli("validate", str(file))
    assert plain.code == 2 and plain.out == ""
    assert "nodes[0].heads" in plain.err and "nodes[1].use" in plain.err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "name: x",
        "name: x\nwidth: 64\nnodes: []",
        "name: x\nwidth: -3\nnodes: [{use: mlp}]",
        "name: x\nwidth: .nan\nnodes: [{use: mlp}]",
        "name: x\nwidth: 64\nnodes: [{use: mlp, inputs: [nowhere]}]",
        "name: x\nwidth: 64\nnodes: [{id: a, use: mlp, inputs: [b]}, {id: b, use: mlp, inputs: [a]}]",
        "name: x\nwidth: 64\nnodes: [{id: a, use: mlp}, {id: a, use: mlp}]",
        "name: x\nwidth: 64\nnodes: [{id: a, repeat: 0, nodes: [{use: mlp}]}]",
        "name: x\nwidth: 64\nnodes:\n" + "  - {use: mlp}\n" * 10_000,
        "a: &a [1]\n" + "b: [*a, *a]\n",
        "{" * 2000,
        "name: !!python/object/apply:os.system ['true']",
        "\x00\x01\x02",
        "name: <script>alert(1)</script>\nwidth: 64\nnodes: [{use: <b>}]",
    ],
)
def test_bad_files_end_with_two_and_sentences(cli: Cli, tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(text.encode())
    for verb in ("validate", "show"):
        said = cli(verb, str(file), "--json")
        assert said.code == 2
        assert said.json["errors"]
        assert all(error["message"] for error in said.json["errors"])
        assert "defect" not in said.err


@pytest.mark.parametrize(
    "name", ["", "no_such_thing", "..", "/", "/dev/null", "x" * 5000, "a\x00b", "ünïcödé 🦊.yaml"]
)
def test_files_that_are_not_there(cli: Cli, name: str) -> None:
    said = cli("validate", name, "--json")
    assert said.code == 2
    assert "defect" not in said.err
    assert len(said.err) < 2000


def test_a_file_of_other_bytes(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "picture.yaml"
    file.write_bytes(bytes(range(256)) * 10)
    assert cli("validate", str(file), "--json").code == 2


def test_show_gives_what_the_contract_says(cli: Cli) -> None:
    said = cli("show", "jamba_mini", "--task", "python_bytes", "--batch", "4", "--json")
    assert said.code == 0
    wanted = {"params", "flops_forward", "flops_step", "peak_bytes", "step_ms", "components"}
    assert wanted <= set(said.json)
    assert said.json["batch"] == 4
    row = {"path", "use", "params", "flops", "activation_bytes", "ms"}
    assert all(row <= set(component) for component in said.json["components"])
    assert sum(c["params"] for c in said.json["components"]) == said.json["params"]
    assert "peak memory" in cli("show", "jamba_mini").out


def test_an_accelerator_that_is_not_here_is_predicted_by_what_its_maker_publishes(cli: Cli) -> None:
    here, there = (
        cli("show", "jamba_mini", *more, "--json").json for more in ((), ("--device", "H100"))
    )
    assert there["device"] == "NVIDIA H100 SXM" and "not measured here" in there["ceilings"]
    assert there["flops_step"] == here["flops_step"] and there["peak_bytes"] == here["peak_bytes"]
    assert 0 < there["step_ms"] < here["step_ms"]


def test_cost_grows_with_batch_and_length(cli: Cli) -> None:
    def flops(*options: str) -> int:
        return int(cli("show", "transformer_mini", *options, "--json").json["flops_forward"])

    assert flops("--batch", "8") == 2 * flops("--batch", "4")
    assert flops("--length", "128") > 2 * flops("--length", "64")


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "jamba_mini", "--task", "nothing"),
        ("show", "jamba_mini", "--batch", "0"),
        ("show", "jamba_mini", "--batch", "many"),
        ("show", "jamba_mini", "--device", "cuda:99"),
        ("show",),
        ("shoe", "jamba_mini"),
        ("show", "jamba_mini", "--bogus"),
        ("runs", "show"),
        ("runs", "bogus"),
    ],
)
def test_wrong_command_lines_end_with_two(cli: Cli, arguments: tuple[str, ...]) -> None:
    said = cli(*arguments, "--json")
    assert said.code == 2
    assert said.json["errors"][0]["message"]
    assert cli(*arguments).out == ""


def test_a_bare_command_helps(cli: Cli) -> None:
    said = cli()
    assert said.code == 0
    assert "validate" in said.out


def test_a_defect_is_told_in_one_sentence_and_kept(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr("hybridlab.components.registry.catalogue", broken)
    said = cli("components", "--json")
    assert said.code == 1
    assert "on purpose" in said.json["errors"][0]["message"]
    assert "ZeroDivisionError" in (home / "last_error.txt").read_text()


def test_two_architectures_are_compared(cli: Cli, home: Path) -> None:
    (home / "designs").mkdir(parents=True)
    file = home / "designs" / "mine.yaml"
    text = next(entry for entry in presets() if entry.name == "jamba_mini").text()
    file.write_text(text.replace("heads: 4", "heads: 8"), encoding="utf-8")
    said = cli("diff", "jamba_mini", "mine", "--json")
    assert said.code == 0
    assert said.json["summary"] == "heads 4 → 8"
    assert said.json["nodes"][0]["changes"] == [{"key": "heads", "before": 4, "after": 8}]
    assert "+      - {use: attention, heads: 8, kv_heads: 2}" in said.json["yaml"]
    plain = cli("diff", "jamba_mini", str(file)).out
    assert plain.startswith("~ stage.attention: heads 4 → 8\n\n--- jamba_mini\n")
    assert cli("diff", "jamba_mini", "jamba_mini").out == "no change\n"
    assert cli("diff", "jamba_mini", "jamba_mini", "--json").json["equal"] is True


def test_comparing_with_what_is_not_there_is_bad_input(cli: Cli) -> None:
    said = cli("diff", "jamba_mini", "nothing", "--json")
    assert said.code == 2
    assert set(said.json["errors"][0]) >= ERROR_KEYS
