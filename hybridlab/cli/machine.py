"""Verbs about the program itself: start the app, and tell what this machine is."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from hybridlab.cli.output import Json, facts, give, say
from hybridlab.errors import HybridLabError, Problem
from hybridlab.units import format_bytes, format_count

_EVERYWHERE = ("0.0.0.0", "::", "")


def app(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8501,
    address: Annotated[str, typer.Option(help="0.0.0.0 serves other machines too.")] = "localhost",
    json: Json = False,
) -> None:
    """Start HybridLab in the browser; Ctrl-C ends it, runs go on."""
    from hybridlab.places import app_file

    app_file()
    _must_be_free(address, port)
    url = f"http://{'localhost' if address in _EVERYWHERE else address}:{port}"
    say(f"HybridLab is at {url}")
    if json:
        give({"url": url, "port": port, "address": address, "pid": os.getpid()})
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    command = [sys.executable, "-m", "hybridlab.ui.serve"]
    command += [f"--server.port={port}", f"--server.address={address}"]
    sys.stdout.flush()
    os.execv(sys.executable, command)


def doctor(
    device: Annotated[
        str, typer.Option(help="Which device to look at: auto, cpu, cuda:0 …")
    ] = "auto",
    again: Annotated[bool, typer.Option(help="Measure and check again.")] = False,
    json: Json = False,
) -> int:
    """Tell device, torch build, store, free memory, and what has been checked on this machine."""
    from hybridlab.workflows.doctor import facts as found

    known = found(device, again=again, on_progress=say)
    if json:
        give(known)
    else:
        _print_doctor(known)
    return 0 if known["ok"] else 1


def _print_doctor(known: Mapping[str, Any]) -> None:
    runs, speed = known["runs"], known["ceilings"]
    device_lines = [("device", _device_line(entry)) for entry in known["devices"]]
    best = ", ".join(
        f"{name} {format_count(value, 'op/s' if name == 'int8' else 'FLOP/s')}"
        for name, value in speed["flops_per_s"].items()
    )
    bandwidths = ", ".join(
        f"{item['level']} {format_bytes(item['bytes_per_s'])}/s "
        f"in {format_bytes(item['working_set_bytes'])}".lstrip()
        for item in speed["bandwidths"]
    )
    counts = ", ".join(f"{count} {state.lower()}" for state, count in runs["runs"].items() if count)
    failed = [check for check in known["checks"] if not check["ok"]]
    passed = len(known["checks"]) - len(failed)
    facts(
        [
            ("hybridlab", f"{known['hybridlab']} on Python {known['python']}, {known['platform']}"),
            (
                "torch",
                f"{known['torch']}, built for {known['torch_built_for']}, CPU code {known['cpu_capability']}",
            ),
            *device_lines,
            (
                "cores",
                f"{runs['cores']}, for {runs['slots']} runs at once of {runs['threads_per_run']} threads",
            ),
            ("home", f"{runs['home']}, {format_bytes(runs['free_bytes'])} free on its disk"),
            ("store", f"{runs['store']}, tables of version {runs['schema_version']}"),
            ("runs", counts or "none yet"),
            (
                "supervisor",
                "at work"
                if runs["supervisor_alive"]
                else "not running; it starts with the first run",
            ),
            ("measured", f"{speed['device']} with {speed['threads']} threads: {best}"),
            ("", bandwidths),
            *[("not measured", f"{name}: {why}") for name, why in speed["not_measured"].items()],
            *_published_lines(known["published"]),
            ("meters", "; ".join(one["quantity"] for one in known["meters"]["measured"])),
            *[
                ("not measured", f"{one['quantity']}: {one['reason']}")
                for one in known["meters"]["not_measured"]
            ],
            ("scans", known["scan"]),
            (
                "kernels",
                "; ".join(
                    dict.fromkeys((known["linear_attention"], *known["gpu_kernels"].values()))
                ),
            ),
            (
                "checked",
                f"{passed} of {len(known['checks'])} components run forward and backward on {known['device']}",
            ),
            *[("failed", f"{check['name']}: {check['message']}") for check in failed],
            ("memory pools", known["memory_pools"]["message"]),
        ]
    )


def _published_lines(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what the maker publishes of the device; nothing where the table lacks it, as it does processors."""
    if known["device"] is None:
        return []
    peak = known["device"]
    figures = ", ".join(
        f"{name} {format_count(value, 'op/s' if name == 'int8' else 'FLOP/s')}"
        for name, value in peak["flops_per_s"].items()
    )
    memory = format_count(peak["bytes_per_s"], "B/s")
    return [("published", f"{peak['title']}, {known['label']}: {figures}, memory {memory}")]


def _device_line(entry: Mapping[str, Any]) -> str:
    from hybridlab.hardware.devices import Device, describe

    return describe(Device(**entry))


def _must_be_free(address: str, port: int) -> None:
    """Raise where something listens on the port already, or the address is not one of this machine.

    Raises:
        HybridLabError: the app could not listen there.
    """
    try:
        # As Streamlit binds: a name such as localhost is looked up among IPv4 addresses alone.
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise HybridLabError(
            Problem(
                f"{address}:{port}",
                f"the app cannot listen here: {reason}",
                fix=f"try another port, such as --port {port + 1 if port < 65535 else 8501}",
            )
        ) from None


VERBS: dict[str, Callable[..., Any]] = {"app": app, "doctor": doctor}
