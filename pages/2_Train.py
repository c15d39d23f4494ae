"""Training: what, on what and how; then the run itself, live."""

import streamlit as st

from hybridlab.ui.design.totals import ready
from hybridlab.ui.runs.active import running_now
from hybridlab.ui.train import rates, setup, teacher
from hybridlab.ui.train.data_card import data_card
from hybridlab.ui.train.estimate import estimate, estimate_panel, wait_for
from hybridlab.ui.train.fusion import fusion_panel
from hybridlab.ui.train.own_files import own_files
from hybridlab.ui.train.plan import plan_panel
from hybridlab.ui.train.precision import precision_panel
from hybridlab.ui.train.regions import regions_panel
from hybridlab.ui.train.remedy import name_field
from hybridlab.ui.train.tuning import tuning_panel
from hybridlab.ui.train.watch import watch


def new_training() -> None:
    """Arrange the settings of a training, and what it will take."""
    st.title("Train", anchor=False)
    left, right = st.columns([2, 1.1], gap="medium")
    with left, st.container(border=True):
        text, preset = setup.architecture_choice()
        task = setup.task_choice()
        own_files(task)
        st.markdown("**Settings**")
        settings = teacher.section(text, task, setup.settings_form(task, text))
        data_card(task, settings)
        if text:
            rates.finder(text, preset, task, settings)
    with right:
        if text:
            plan_panel(text, task, settings)
            fusion_panel(text, task, settings)
            tuning_panel(text, task, settings)
            precision_panel(text, task, settings)
            regions_panel(text, task, settings)
            with st.container(border=True):
                found = estimate(text, task, settings)
                estimate_panel(found)
                if found.pending:
                    wait_for(text, task, settings)
                name = name_field()
                if st.button(
                    "Start training",
                    type="primary",
                    icon=":material/play_arrow:",
                    width="stretch",
                    disabled=found.blocked,
                ):
                    setup.start(text, preset, settings, name)
            setup.preview(text, task, (settings.get("tasks") or {}).get("of", ()))
        running_now()


if ready():
    if run_id := st.query_params.get("run", ""):
        watch(run_id)
    else:
        new_training()
