"""The selected node: what it is, what is wrong with it, and every value that can be set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from hybridlab.architecture.spec import INPUT, MAX_REPEAT, Node
from hybridlab.ui import forms, predictions, shell, state
from hybridlab.ui.design import actions
from hybridlab.ui.design.about import about_button
from hybridlab.ui.design.blocks import block_list
from hybridlab.ui.design.look import Look
from hybridlab.ui.design.problems import rows, take
from hybridlab.ui.design.toolbar import field
from hybridlab.ui.design.tree import node_actions
from hybridlab.ui.held import key_showing
from hybridlab.ui.schema import fields
from hybridlab.ui.search.beside import in_search

_RESIDUALS = {
    None: "default of its kind",
    "pre": "pre: x + f(norm(x))",
    "post": "post: norm(x + f(x))",
    "none": "none",
}


def inspector(known: Look, *, with_actions: bool) -> None:
    """Show the selected node's form, or the architecture's own fields; actions too, where the view has none."""
    path = actions.selected()
    if path is None:
        _architecture(known)
        _in_search(None)
        block_list(None, None)
        return
    node = actions.nodes()[path]
    if with_actions:
        node_actions(path, node)
    if node.is_group:
        st.markdown(f"**Group {shell.escaped(node.id)}**")
    _problems(path, known)
    _in_search(path)  # above the form, which is long for some
    if node.is_group:
        _group(path, node)
    else:
        _component(path, node)
    wiring = st.expander("Name and wiring", key="node.wiring", on_change="rerun")
    if wiring.open:  # what nobody sees is not drawn: each edit draws the page
        with wiring:
            _wiring(path, node)
    block_list(path, node)


def _architecture(known: Look) -> None:
    st.markdown("**The architecture**")
    if known.architecture is None:
        st.caption("Once the text can be read, its name and width can be set here.")
        return
    field("Name", "name", known.architecture.name)
    field("Width D (features)", "width", known.architecture.width)
    st.caption("Select a node in the diagram or in the list to see and change its parameters.")
    used = [node.use for _, _, node in known.architecture.walk() if node.use]
    first = [str(entry["name"]) for entry in predictions.components()][:1]
    for name in [*used, *first][:1]:
        about_button(name, "architecture.about", "Look components up")


def _in_search(path: str | None) -> None:
    """Offer what may vary in a search, drawn only while it is open."""
    design = state.design()
    box = st.expander("What may vary in a search", key="node.search", on_change="rerun")
    if box.open and design is not None:
        with box:
            in_search(design, path)


def _problems(path: str, known: Look) -> None:
    """Tell what is wrong with this node, right beside its form."""
    inner = tuple(f"{path}.nodes")
    here = [
        p for p in known.problems if _of(p.path, path) and not p.path.startswith("".join(inner))
    ]
    rows(here, known.fixes, "node.problem", take)


def _of(problem_path: str, path: str) -> bool:
    rest = problem_path.removeprefix(path)
    return problem_path.startswith(path) and (not rest or rest[0] in ".[")


def _component(path: str, node: Node) -> None:
    entry = predictions.component(node.use or "")
    if entry is None:
        names = [item["name"] for item in predictions.components()]
        st.caption(f"There is no component {shell.escaped(repr(node.use))} in the palette.")
        _choose(path, None, names)
        return
    alike = [item["name"] for item in predictions.components() if item["kind"] == entry["kind"]]
    _choose(path, node.use, alike)
    paper = f" [Paper]({entry['paper']})" if str(entry["paper"]).startswith("https://") else ""
    st.caption(f"{shell.escaped(entry['summary'])} Cost in length: {entry['cost']}.{paper}")
    about_button(str(node.use), f"about.{path}")
    given = fields(entry["params_schema"])
    unknown = [key for key in node.params if key not in {item.name for item in given}]
    forms.parameters(
        given,
        node.params,
        f"form.{path}.{node.use}",
        lambda key, value: _set(path, node, key, value),
    )
    for key in unknown:
        st.button(
            f"Remove unknown key {shell.escaped(key[:40])}",
            key=f"unknown.{path}.{key}",
            on_click=actions.set_value,
            args=(path, key, None),
        )
    if not given:
        st.caption("This component has no parameters.")
    elif node.params:
        st.button(
            "Reset to defaults",
            key="node.reset",
            icon=":material/restart_alt:",
            type="tertiary",
            on_click=actions.reset,
            args=(path,),
        )


def _set(path: str, node: Node, key: str, value: Any) -> None:
    """Set a parameter; a value that was never written and is the default again stays unwritten.

    A form that comes late is of a component that has gone: what stands in its place may have no such parameter.
    """
    now = actions.nodes().get(path)
    if now is not None and now.use == node.use:
        actions.set_value(path, key, value)


def _choose(path: str, use: str | None, names: Sequence[str]) -> None:
    """Let another component take this node's place."""
    titles = {item["name"]: item["title"] for item in predictions.components()}
    begins = use if use in names else None
    key = key_showing(f"use.{path}", begins)

    def changed() -> None:
        # Where a rerun was cut short, a browser reports what nobody touched, also after an undo: no change.
        if (chosen := st.session_state[key]) in titles and chosen != begins:
            actions.replace(path, chosen)

    st.selectbox(
        "Component",
        names,
        index=names.index(begins) if begins else None,
        key=key,
        format_func=lambda name: titles.get(name, name),
        on_change=changed,
        help="Choose another component of the same kind; parameters that both have are kept.",
    )


def _group(path: str, node: Node) -> None:
    def repeat(_: str, value: Any) -> None:
        actions.set_value(path, "repeat", value if value and value > 1 else None)

    schema = {
        "properties": {
            "repeat": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_REPEAT,
                "default": 1,
                "unit": "times",
                "description": "How often the group runs, one after the other.",
            },
            "tie": {
                "type": "boolean",
                "default": False,
                "description": "All repeats share one set of weights.",
            },
        }
    }
    times, tied = fields(schema)
    forms.parameter(times, node.repeat, f"group.{path}.repeat", repeat)
    forms.parameter(
        tied,
        node.tie,
        f"group.{path}.tie",
        lambda _, value: actions.set_value(path, "tie", value or None),
    )


def _wiring(path: str, node: Node) -> None:
    """Show id, inputs and residual."""
    inputs, residual = list(node.inputs or ()), str(node.residual) if node.residual else None
    id_key = key_showing(f"id.{path}", node.id)
    input_key = key_showing(f"inputs.{path}", inputs)
    residual_key = key_showing(f"residual.{path}", residual)

    def changed(key: str, shown: Any, take: Callable[[Any], None]) -> None:
        if (given := st.session_state[key]) != shown:
            take(given)

    st.text_input(
        "Name (id)",
        node.id,
        key=id_key,
        max_chars=64,
        on_change=changed,
        args=(id_key, node.id, lambda given: actions.rename(path, given.strip() or node.id)),
        help="Other nodes refer to this one by its id.",
    )
    st.multiselect(
        "Inputs",
        _readable(path, node),
        default=inputs,
        key=input_key,
        placeholder="the node above",
        on_change=changed,
        args=(input_key, inputs, lambda given: actions.set_value(path, "inputs", given or None)),
        help=f"Which nodes it reads; empty reads the node above. {INPUT} is what enters the group.",
    )
    st.selectbox(
        "Residual and norm",
        list(_RESIDUALS),
        index=list(_RESIDUALS).index(residual),
        key=residual_key,
        format_func=lambda value: _RESIDUALS[value],
        on_change=changed,
        args=(residual_key, residual, lambda given: actions.set_value(path, "residual", given)),
        help="Whether the input is added to the output, and where the norm stands. Mixers are pre by default.",
    )


def _readable(path: str, node: Node) -> list[str]:
    """Return the ids this node can read: siblings, what enters the group, and nodes around the group."""
    names = [INPUT, *(item.id for item in actions.siblings(path))]
    around = path
    while "." in around:
        around = around.rpartition(".")[0]
        names += [item.id for item in actions.siblings(around)]
    names += list(node.inputs or ())
    return [name for name in dict.fromkeys(names) if name != node.id]
