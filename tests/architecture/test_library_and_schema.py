"""What ships, what is saved, and the schema that editors read."""

from pathlib import Path

import pytest

from hybridlab.architecture import library
from hybridlab.architecture.document import plain, read_yaml
from hybridlab.architecture.schema import json_schema
from hybridlab.errors import SpecError


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))


def test_the_presets_are_there():
    names = {entry.name for entry in library.presets()}
    assert names >= {
        "transformer_mini",
        "mamba2_mini",
        "jamba_mini",
        "samba_mini",
        "hymba_mini",
        "conv_attention_image",
        "lstm_attention_mini",
    }
    assert all(entry.description for entry in library.presets())


def test_designs_are_saved_found_and_deleted(tmp_path):
    assert library.designs() == []
    text = "name: my own\nnodes: [{use: mlp}]\n"
    entry = library.save_design("../My own: größe!", text)
    assert entry.path.parent == tmp_path / "designs"
    assert library.open_architecture(entry.name).name == "my own"
    with pytest.raises(SpecError, match="saved already"):
        library.save_design("../My own: größe!", text)
    library.save_design("../My own: größe!", text.replace("mlp", "lstm"), overwrite=True)
    assert "lstm" in library.designs()[0].text()
    library.delete_design(entry.name)
    assert library.designs() == []
    assert list((tmp_path / "designs").iterdir()) == []


def test_a_design_needs_a_name():
    with pytest.raises(SpecError, match="needs a name"):
        library.save_design(" /../ ", "name: x")


def test_a_broken_design_is_listed_not_hidden(tmp_path):
    (tmp_path / "designs").mkdir()
    (tmp_path / "designs" / "broken.yaml").write_text("{")
    assert [entry.name for entry in library.designs()] == ["broken"]


def test_what_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "designs").write_text("a file where the folder should be")
    with pytest.raises(SpecError, match="could not be saved"):
        library.save_design("x", "name: x")


def test_unknown_names_list_the_presets():
    with pytest.raises(SpecError, match="jamba_mini"):
        library.find("nothing_like_it")


def test_the_schema_accepts_every_preset_and_refuses_mistakes():
    import jsonschema  # here, because its grammars take seconds that every collection would pay

    schema = json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    for entry in library.presets():
        assert list(validator.iter_errors(plain(read_yaml(entry.text()))[0])) == []
    for wrong in (
        {"use": "attention", "headz": 4},
        {"use": "nothing"},
        {"nodes": []},
        {"use": "mlp", "repeat": 2},
    ):
        assert list(validator.iter_errors({"name": "x", "nodes": [wrong]}))


def test_what_was_saved_elsewhere_in_the_meantime_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))
    mine, theirs, newer = (f"name: {name}\nnodes: []\n" for name in ("mine", "theirs", "newer"))
    entry = library.save_design("shared", mine)
    library.save_design("shared", theirs, overwrite=True, expected=mine)
    with pytest.raises(SpecError, match="saved elsewhere since you opened it"):
        library.save_design("shared", newer, overwrite=True, expected=mine)
    assert entry.text() == theirs
    library.save_design("shared", theirs, overwrite=True, expected=mine)
    entry.path.unlink()
    assert library.save_design("shared", newer, overwrite=True, expected=mine).text() == newer
