"""HybridLab in the browser: ``hybridlab app``, or ``streamlit run app.py``."""

import streamlit as st

from hybridlab.ui import shell

st.set_page_config(page_title="HybridLab", page_icon=shell.ICON, layout="wide")
shell.start()
st.navigation(
    [
        st.Page("pages/0_Home.py", title="Home", icon=":material/home:", default=True),
        st.Page("pages/1_Design.py", title="Design", icon=":material/schema:", url_path="design"),
        st.Page(
            "pages/2_Train.py", title="Train", icon=":material/model_training:", url_path="train"
        ),
        st.Page("pages/3_Runs.py", title="Runs", icon=":material/table_rows:", url_path="runs"),
        st.Page(
            "pages/4_Profile.py", title="Profile", icon=":material/monitoring:", url_path="profile"
        ),
        st.Page("pages/5_Memory.py", title="Memory", icon=":material/memory:", url_path="memory"),
        st.Page(
            "pages/6_Search.py", title="Search", icon=":material/travel_explore:", url_path="search"
        ),
    ],
    position="top",
).run()
