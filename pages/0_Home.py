"""The first page: what this is, and one button."""

import streamlit as st

st.title("HybridLab")
