"""The first page: what this is, and one button that shows it."""

import streamlit as st

from hybridlab.ui.design.go_on import offers
from hybridlab.ui.design.start import gallery
from hybridlab.ui.home import demo
from hybridlab.ui.home.recent import recent_runs

st.title("HybridLab", anchor=False)
st.markdown(
    "Design neural networks that mix attention, state spaces, recurrence, convolution and experts. "
    "See what they cost before they run, train them on real data, and watch them learn."
)
ids = demo.ids_from(st.query_params.get("demo", ""))
if ids is None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("See why hybrids", type="primary", icon=":material/play_arrow:"):
            demo.start()
        st.caption(
            "Trains an LSTM, attention and a hybrid of both side by side, live: six short runs, "
            "a few minutes on two cores."
        )
else:
    demo.show(ids)
left, right = st.columns([2.2, 1], gap="medium")
with left:
    st.subheader("Start from a preset", anchor=False)
    gallery()
with right:
    st.subheader("Go on", anchor=False)
    offers()
    recent_runs()
