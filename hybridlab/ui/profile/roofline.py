"""The roofline view: what each component reaches under the machine's ceilings, predicted and measured."""

from __future__ import annotations

import streamlit as st

from hybridlab.ui import shell
from hybridlab.ui.profile.chosen import choose
from hybridlab.ui.profile.figure import figure, show_table, widget_key
from hybridlab.ui.profile.opened import Opened
from hybridlab.views.profile_roofline import roofline_info, roofline_plot

_NAME = "roofline"


def roofline(opened: Opened) -> None:
    """Show the chart with its ceilings, and a row for each component and source."""
    table = opened.table(_NAME)
    if table.empty:
        st.info("This profile has no table of work.", icon=":material/info:")
        return
    ceilings = opened.table("ceilings")
    info = roofline_info(table, ceilings)
    figure(
        opened,
        _NAME,
        "Roofline: speed against arithmetic intensity, a dot for each component",
        roofline_plot(info),
        table,
        on_select=lambda: _clicked(opened),
    )
    said = (
        "The slopes are what each memory level gives, the line on top what arithmetic reaches, both *measured* on this "
        "machine. A hollow dot is *predicted*, a filled one *measured* under the profiler; click one to choose its "
        "component everywhere."
    )
    if ceilings.empty:
        said = "No ceilings are known of the device, so the chart has none."
    if (table["share"] > 1).any():
        said += (
            " More than 100 % of a ceiling happens where data stays in a cache between operators, or where the machine "
            "was busy when the ceilings were measured: `hybridlab doctor --again` measures them anew."
        )
    if info.without_flops:
        names = ", ".join(map(shell.escaped, info.without_flops[:12]))
        more = len(info.without_flops) - 12
        said += f" Without FLOPs, so not on the chart: {names}{f' and {more} more' if more > 0 else ''}."
    st.caption(said)
    show_table(
        opened,
        "roofline.table",
        table,
        title="Roofline by component",
        columns={
            "intensity": st.column_config.NumberColumn("FLOPs a byte", format="%.3g"),
            "ms": st.column_config.NumberColumn("ms a step", format="%.3f"),
            "flops_per_s": st.column_config.NumberColumn("FLOP/s reached", format="compact"),
            "ceiling_ms": st.column_config.NumberColumn("ms at the ceilings", format="%.3f"),
            "ceiling_flops_per_s": st.column_config.NumberColumn(
                "FLOP/s at the ceilings", format="compact"
            ),
            "share": st.column_config.NumberColumn("share of the ceiling", format="percent"),
            "flops": st.column_config.NumberColumn("FLOPs", format="compact"),
            "bytes": st.column_config.NumberColumn("bytes moved", format="compact"),
        },
    )
    if not ceilings.empty:
        with st.expander("The ceilings, measured on this machine"):
            show_table(opened, "ceilings", ceilings, title="Ceilings")


def _clicked(opened: Opened) -> None:
    """Choose the component of the dot that was clicked."""
    points = st.session_state[widget_key(opened, _NAME)]["selection"]["points"]
    if points and points[0].get("customdata"):
        choose(str(points[0]["customdata"][0]))
