"""The random state of a process: torch on the CPU and on the device; nothing else draws while training."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """Set torch's generators on all devices to a state that depends on the seed alone."""
    digest = hashlib.sha256(f"training:{seed}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:7], "big"))


def capture(device: torch.device) -> dict[str, Tensor]:
    """Return the states as byte tensors: ``random.cpu`` and, on an accelerator, ``random.device``."""
    states = {"random.cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states["random.device"] = torch.get_device_module(device).get_rng_state(device).cpu()
    return states


def restore(states: dict[str, Tensor], device: torch.device) -> None:
    """Put captured states back; a state of a device that is not used any more is left out."""
    torch.set_rng_state(states["random.cpu"])
    if device.type != "cpu" and "random.device" in states:
        torch.get_device_module(device).set_rng_state(states["random.device"], device)
