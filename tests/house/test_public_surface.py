"""What other people's scripts rely on: names, verbs, options, settings. A change here is a change for them.

When a test here fails: if the change is meant, write it into the pinned lists below, say so in the commit message, and
keep what was there working where that is possible (old run folders, old settings files). If not, undo it.
"""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hybridlab
from hybridlab.cli import app, run

TOP = Path(__file__).resolve().parents[2]
PUBLIC = {
    "Architecture",
    "HybridLabError",
    "Problem",
    "SpecError",
    "__version__",
    "buckets",
    "build",
    "caches",
    "compare",
    "fits",
    "fuse",
    "list_runs",
    "load",
    "plan",
    "precision",
    "predict",
    "presets",
    "profile",
    "run_search",
    "show",
    "train",
    "tune",
}
SIGNATURES = {
    "load": ["source"],
    "predict": ["architecture", "task", "batch", "length", "device"],
    "profile": [
        *("subject", "batch", "task", "steps", "length", "loss", "folder"),
        *("by_input", "by_size", "lengths", "batches"),
    ],
    "run_search": ["file", "trials", "workers", "sampler", "seed", "study", "storage"],
    "show": ["architecture", "task", "batch", "length", "device"],
    "train": ["architecture", "task", "name", "threads", "settings"],
    "compare": ["runs", "metric"],
    "plan": ["architecture", "task", "budget", "apply", "offload", "compare_compiled", "settings"],
    "fits": ["architecture", "task", "memory", "of", "settings"],
    "fuse": ["architecture", "task", "training", "regions", "rounds", "settings"],
    "tune": ["architecture", "task", "training", "layouts", "exact", "again", "rounds", "settings"],
    "precision": [
        *("architecture", "task", "training", "memory", "format", "tolerance", "loss_tolerance"),
        *("rounds", "settings"),
    ],
    "caches": ["architecture", "task", "options"],
    "buckets": ["architecture", "task", "counts", "measure", "settings"],
}
VERBS = {
    "app": {"--port", "--address", "--json"},
    "buckets": {
        *("--task", "--training", "--buckets", "--steps", "--measure", "--rounds", "--seconds"),
        *("--batch", "--seed", "--device", "--set", "--json"),
    },
    "caches": {
        "--task",
        "--positions",
        "--batch",
        "--growth",
        "--measure",
        "--seconds",
        "--requests",
        "--shared",
        "--own",
        "--keep",
        "--seed",
        "--device",
        "--json",
    },
    "components": {"--json"},
    "data": {"--json"},
    "data add": {
        *("--label", "--input", "--as", "--shape", "--answers", "--unit", "--dry-run", "--json")
    },
    "data list": {"--json"},
    "data remove": {"--json"},
    "demo": {"--seed", "--json"},
    "diff": {"--json"},
    "doctor": {"--device", "--again", "--json"},
    "export": {"--json"},
    "export hf": {"--output", "--weights", "--run", "--task", "--family", "--like", "--json"},
    "export onnx": {
        "--output",
        "--weights",
        "--run",
        "--task",
        "--batch",
        "--length",
        "--json",
    },
    "export pytorch": {"--output", "--task", "--json"},
    "fuse": {
        "--task",
        "--for",
        "--batch",
        "--rounds",
        "--regions",
        "--most",
        "--seed",
        "--device",
        "--output",
        "--json",
    },
    "front": {"--storage", "--output", "--json"},
    "import": {"--json"},
    "import hf": {"--output", "--ignore", "--weights", "--json"},
    "import megatron": {
        "--output",
        "--width",
        "--heads",
        "--kv-heads",
        "--state",
        "--ratio",
        "--experts",
        "--top-k",
        "--vocab",
        "--name",
        "--json",
    },
    "layout": {
        "--task",
        "--for",
        "--batch",
        "--rounds",
        "--again",
        "--exact",
        "--seed",
        "--device",
        "--output",
        "--json",
    },
    "lr-find": {
        "--task",
        "--training",
        "--group",
        "--steps",
        "--lowest",
        "--highest",
        "--batch",
        "--seed",
        "--device",
        "--set",
        "--json",
    },
    "plan": {
        "--task",
        "--training",
        "--set",
        "--budget",
        "--fit",
        "--of",
        "--offload",
        "--apply",
        "--compare-compiled",
        "--batch",
        "--seed",
        "--device",
        "--output",
        "--json",
    },
    "precision": {
        "--task",
        "--for",
        "--dtype",
        "--precision",
        "--tolerance",
        "--loss-tolerance",
        "--batch",
        "--rounds",
        "--seed",
        "--device",
        "--output",
        "--json",
    },
    "presets": {"--json"},
    "profile": {
        "--task",
        "--steps",
        "--batch",
        "--seed",
        "--device",
        "--output",
        "--by-input",
        "--by-size",
        "--lengths",
        "--batches",
        "--json",
    },
    "search": {
        "--trials",
        "--sampler",
        "--seed",
        "--study",
        "--storage",
        "--workers",
        "--ray",
        "--json",
    },
    "shrink": {
        "--output",
        "--width",
        "--repeat",
        "--heads",
        "--state",
        "--experts",
        "--window",
        "--json",
    },
    "show": {"--task", "--batch", "--length", "--device", "--json"},
    "tasks": {"--json"},
    "trace": {"--json"},
    "trace compare": {"--rows", "--json"},
    "trace show": {"--rows", "--json"},
    "train": {
        "--task",
        "--training",
        "--steps",
        "--batch",
        "--learning-rate",
        "--seed",
        "--device",
        "--threads",
        "--set",
        "--name",
        "--also-alone",
        "--json",
    },
    "tune": {
        "--task",
        "--for",
        "--batch",
        "--rounds",
        "--again",
        "--exact",
        "--seed",
        "--device",
        "--output",
        "--json",
    },
    "validate": {"--task", "--json"},
    "worker": {"--study", "--storage", "--workers", "--json"},
    "runs": {"--state", "--limit", "--json"},
    "runs list": {"--state", "--limit", "--json"},
    "runs show": {"--json"},
    "runs resume": {"--json"},
    "runs cancel": {"--json"},
    "runs delete": {"--json"},
    "runs log": {"--bytes", "--json"},
    "runs export": {"--output", "--json"},
    "runs flow": {"--apply", "--json"},
    "runs profile": {"--steps", "--after", "--warm-up", "--repeat", "--wait", "--json"},
}


def verbs() -> dict[str, set[str]]:
    """Return every verb with its long options, read from the command line itself."""
    import typer.main

    def of(command: object, name: str) -> dict[str, set[str]]:
        options = {
            word
            for parameter in command.params  # type: ignore[attr-defined]
            for word in parameter.opts
            if word.startswith("--") and word != "--help"
        }
        found = {name: options} if name else {}
        for child, inner in getattr(command, "commands", {}).items():
            found |= of(inner, f"{name} {child}".strip())
        return found

    return of(typer.main.get_command(app), "")


def test_the_public_names_are_pinned() -> None:
    assert set(hybridlab.__all__) == PUBLIC, __doc__


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_signatures_are_pinned(name: str) -> None:
    assert list(inspect.signature(getattr(hybridlab, name)).parameters) == SIGNATURES[name], __doc__


def test_the_verbs_and_their_options_are_pinned() -> None:
    assert verbs() == VERBS, __doc__


def test_every_verb_takes_json_and_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in VERBS:
        assert "--json" in VERBS[verb]
        assert run([*verb.split(), "--help"]) == 0
        assert verb.split()[-1] in capsys.readouterr().out


def test_the_guide_has_a_line_for_every_verb() -> None:
    guide = (TOP / "docs" / "guide.md").read_text(encoding="utf-8")
    section = guide.split("\n## Every verb\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    named = [word for verbs_of, _ in rows for word in re.findall(r"`([^`]+)`", verbs_of)]
    words = [re.match(r"[a-z -]*", name.removeprefix("hybridlab "))[0].strip() for name in named]
    found = [re.sub(r" --?[a-z].*", "", word) for word in words]
    assert sorted(found) == sorted(VERBS)
    told = {option for _, what in rows for option in re.findall(r"`(--[a-z-]+)", what)}
    assert told and told <= set().union(*VERBS.values())


def test_readme_commands_are_there() -> None:
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    wanted = set(re.findall(r"\bmake ([a-z]+)\b", readme))
    assert {"app", "test", "check"} <= wanted <= targets
    known = verbs()
    named = re.findall(r"^hybridlab ([a-z]+)", readme, re.MULTILINE)
    assert named and set(named) <= set(known)


def test_readme_links_and_pictures_lead_somewhere() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "docs/guide.md"):
        text = (TOP / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in target:
                assert (TOP / name).parent.joinpath(target).exists(), f"{name} links to {target}"


def test_readme_python_runs_up_to_training() -> None:
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names = set(re.findall(r"hl\.(\w+)", block))
    assert names and names <= PUBLIC
    first = block.split("run = ")[0]
    subprocess.run([sys.executable, "-c", first], check=True, timeout=120)


def test_readme_yaml_is_right() -> None:
    from hybridlab.architecture.document import loads
    from hybridlab.architecture.infer import check

    readme = (TOP / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    assert check(loads(block)) == []


def test_the_lock_fits_the_bounds() -> None:
    """`make lock` writes constraints.txt; it must hold every direct dependency, within its bounds, once."""
    from packaging.requirements import Requirement

    lines = (TOP / "constraints.txt").read_text(encoding="utf-8").splitlines()
    locked = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *(line for extra in extras.values() for line in extra)]:
        requirement = Requirement(line)
        assert requirement.specifier, f"{line} has no bounds"
        assert locked[requirement.name.lower()] in requirement.specifier
    assert not any("+" in version for version in locked.values())
    assert "hybridlab" not in locked


def test_the_apps_settings_are_known_to_streamlit() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamlit", "config", "show"],
        capture_output=True,
        text=True,
        cwd=TOP,
        timeout=120,
        check=True,
    )
    assert "not a valid config option" not in (done.stdout + done.stderr)
    settings = tomllib.loads((TOP / ".streamlit/config.toml").read_text(encoding="utf-8"))
    assert settings["runner"]["postScriptGC"] is False
    assert settings["browser"]["gatherUsageStats"] is False
    assert json.dumps(settings["server"]["maxUploadSize"]) == "5"
