"""What the Train page says about data: a card for every task, and files of one's own."""

from __future__ import annotations

from hybridlab.tasks.own import keeping
from tests.app.held import held, in_session

TREES = "\n".join(
    [
        "id,width,height,species",
        *(f"{i},{i % 7},{i * 3 % 11},{'oak' if i % 2 else 'ash'}" for i in range(80)),
    ]
).encode()


def shown(visitor) -> str:
    return "\n".join([visitor.words(), *(str(table.value) for table in visitor.at.table)])


def test_a_task_shows_its_data_when_it_is_asked_for(visitor) -> None:
    at = visitor.open("2_Train")
    visitor.give(held(at.selectbox, "choice.train_task"), "listops")
    assert "Training sample" not in visitor.words()
    toggle = next(t for t in visitor.at.toggle if t.key == "train.card")
    visitor.give(toggle, True)
    visitor.until(lambda at: "Training sample 3" in visitor.words())
    codes = [code.value for code in visitor.at.code]
    assert any(text.startswith("[M") and text.endswith("]") for text in codes)
    assert "nested structure" in visitor.words() and "drawn anew at each step" in shown(visitor)
    assert "outermost digits" in shown(visitor)


def test_the_card_follows_the_tasks_settings(visitor) -> None:
    at = visitor.open("2_Train")
    visitor.give(held(at.selectbox, "choice.train_task"), "mad_selective_copying")
    visitor.give(next(t for t in visitor.at.toggle if t.key == "train.card"), True)
    visitor.until(lambda at: "Training sample 1" in visitor.words())
    assert "12,800 samples" in shown(visitor)


def chosen(visitor, task: str):
    return in_session(visitor.at, f"task_params.{task}")


def test_kept_data_is_chosen_by_its_files_name(visitor) -> None:
    made = keeping.add(TREES, "trees.csv")
    text = keeping.add(b"word " * 600, "words.txt")
    at = visitor.open("2_Train")
    assert not [s for s in at.selectbox if "choice.own" in (s.key or "")]
    visitor.give(held(at.selectbox, "choice.train_task"), "own_data")
    choice = held(visitor.at.selectbox, "choice.own.own_data")
    assert choice.options == ["the example", f"trees.csv ({made.id})"]
    assert "Without learning" in visitor.words()
    visitor.give(choice, made.id)
    assert chosen(visitor, "own_data") == {"data": made.id}
    assert "Without learning" not in visitor.words(), "what is told there is of the example"
    assert held(visitor.at.text_input, "train.own_data.task.data").value == made.id
    visitor.give(held(visitor.at.selectbox, "choice.train_task"), "own_text")
    visitor.give(held(visitor.at.selectbox, "choice.own.own_text"), text.id)
    assert chosen(visitor, "own_text") == {"data": text.id}


def test_kept_data_is_deleted_after_a_second_click(visitor) -> None:
    made = keeping.add(TREES, "trees.csv")
    at = visitor.open("2_Train")
    visitor.give(held(at.selectbox, "choice.train_task"), "own_data")
    assert not [b for b in visitor.at.button if (b.key or "").startswith("own.deleted")]
    visitor.give(held(visitor.at.selectbox, "choice.own.own_data"), made.id)
    assert keeping.kept() == [made]
    visitor.press(f"own.deleted.{made.id}")
    assert keeping.kept() == []
    assert held(visitor.at.selectbox, "choice.own.own_data").options == ["the example"]


def test_a_file_is_brought_looked_at_corrected_and_kept(visitor) -> None:
    at = visitor.open("2_Train")
    visitor.give(held(at.selectbox, "choice.train_task"), "own_text")
    uploader = visitor.at.get("file_uploader")[0]
    visitor._drawn(uploader.set_value(("bad.npz", b"PK\x03\x04 no", "x/y")))
    assert any("cannot be read as npz" in error.value for error in visitor.at.error)
    assert keeping.kept() == []
    visitor._drawn(visitor.at.get("file_uploader")[0].set_value(("trees.csv", TREES, "text/csv")))
    assert "Left out" in visitor.words() and "80 samples" in visitor.words()
    answer = next(s for s in visitor.at.selectbox if s.label == "Answer")
    assert answer.value == "species" and keeping.kept() == []
    visitor.give(answer, "width")
    inputs = next(m for m in visitor.at.multiselect if m.label == "Read, in this order")
    assert inputs.value == ["height"]
    visitor.press("own.keep")
    (made,) = keeping.kept()
    assert (made.schema.label, made.schema.inputs) == ("width", ("height",))
    assert chosen(visitor, "own_data") == {"data": made.id}
    assert held(visitor.at.selectbox, "choice.train_task").value == "own_data"


def test_answers_that_are_numbers_are_guessed_corrected_and_told_in_their_unit(
    visitor, runs
) -> None:
    at = visitor.open("2_Train")
    visitor.give(held(at.selectbox, "choice.train_task"), "own_numbers")
    assert "mean abs error in points" in visitor.words()
    fish = "\n".join(["long,kind,weight", *(f"{i % 7},{i % 2},{i * 3.5}" for i in range(80))])
    uploader = visitor.at.get("file_uploader")[0]
    visitor._drawn(uploader.set_value(("fish.csv", fish.encode(), "text/csv")))

    def answers():
        return next(radio for radio in visitor.at.radio if radio.label == "Answers are")

    assert answers().value == "classes", "kind has two values, so it is guessed to be the answer"
    answer = next(s for s in visitor.at.selectbox if s.label == "Answer")
    visitor.give(answer, "weight")
    assert answers().value == "numbers", "the guess goes with the column"
    read = next(m for m in visitor.at.multiselect if m.label == "Read, in this order")
    assert read.value == ["long", "kind"], "what was guessed to be the answer is read then"
    visitor.give(next(t for t in visitor.at.text_input if t.label == "Counted in"), "g")
    visitor.press("own.keep")
    (made,) = keeping.kept()
    assert (made.task, made.schema.unit) == ("own_numbers", "g")
    assert chosen(visitor, "own_numbers") == {"data": made.id}
    assert "mean abs error in g" in visitor.words()
    settings = {"task": "own_numbers", "task_params": {"data": made.id}}
    error = {"test_mean_abs_error": 2.5}
    run = runs.ended(
        "mine", metrics=error, text="name: x\nwidth: 8\nnodes: [{use: mlp}]\n", **settings
    )
    at = visitor.open("2_Train", run=run.id)
    assert {m.label: m.value for m in at.metric}["Test mean abs error"] == "2.5 g"
    panel = visitor.component("chart.train")["panels"][1]
    assert (panel["metrics"], panel["unit"]) == (["val_mean_abs_error"], "g")
