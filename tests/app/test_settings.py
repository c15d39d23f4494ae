"""Settings of a training that are changed in quick succession are all kept."""

from __future__ import annotations

from tests.app.held import held, in_session


def test_two_changes_that_meet_before_the_page_is_drawn_are_both_kept(open_page) -> None:
    page = open_page("2_Train")
    page.number_input(key="train.digits_sequence.steps").set_value(40)
    page.number_input(key="train.digits_sequence.eval_every").set_value(20)
    page.run()
    assert in_session(page, "settings.digits_sequence") == {"steps": 40, "eval_every": 20}


def test_settings_survive_other_pages(open_page) -> None:
    page = open_page("2_Train")
    page.number_input(key="train.digits_sequence.batch").set_value(16).run()
    held(page.selectbox, "choice.train_task").set_value("digits_sequence").run()
    page.switch_page("pages/3_Runs.py").run()
    page.switch_page("pages/2_Train.py").run()
    assert page.number_input(key="train.digits_sequence.batch").value == 16
