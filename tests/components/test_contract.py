"""What every component of the palette must do, whatever it is."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from ruamel.yaml import YAML
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from hybridlab.components.base import Component, Kind
from hybridlab.components.registry import catalogue, palette
from hybridlab.components.types import TensorKind

Build = Callable[..., Component]
Give = Callable[..., list[Tensor]]

NAMES = list(palette())
CHEAP_TO_MEET = 17  # a length that no chunk, window or patch of a default divides
WEIGHTS = Path(__file__).parent / "weights"
PROMISED = {
    *("token_embedding", "pixel_series", "patch_embedding"),
    *("attention", "latent_attention", "cross_attention", "differential_attention"),
    *("linear_attention", "retention", "gated_linear_attention", "delta_net", "gated_delta_net"),
    *("kimi_delta_attention", "lightning_attention"),
    *("s4d", "mamba", "mamba2", "rg_lru", "lru", "rwkv6", "rwkv7"),
    *("mlstm", "slstm", "lstm", "gru", "min_gru", "min_lstm"),
    *("short_conv", "hyena", "long_conv", "dilated_conv", "convnext"),
    *("fourier_mixing", "mlp_mixer", "hopfield", "spiking_lif"),
    *("mlp", "swiglu", "rwkv_channel_mix", "kan", "moe", "mixture_of_depths"),
    *("sum", "concat", "gated_sum", "hyper_read", "hyper_write"),
    *("routed_choice", "early_exit", "downsample", "upsample"),
    *("rms_norm", "layer_norm", "lm_head", "classifier", "regressor"),
}
"""What designs and imported models count on."""

MIXERS = [n for n in NAMES if palette()[n].kind in (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER)]
WITHOUT_LAST_MAP = ("fourier_mixing", "gru", "lstm", "min_gru", "min_lstm", "s4d", "slstm")
"""Their output has no map behind it at the width, or more than a map."""
CHANGE_RATE = ("downsample", "upsample")
"""These read or give blocks: what they may see of them is tested in test_change_of_rate.py."""

everyone = pytest.mark.parametrize("name", NAMES)


def on_sequences(name: str) -> bool:
    """Say whether a component takes and gives one value per position."""
    info = palette()[name]
    others = ("classifier", "regressor", "sequence_decoder", *CHANGE_RATE)
    return TensorKind.IMAGE not in info.cls.accepts and name not in others


def expected_shape(module: Component, batch: int, length: int) -> tuple[int, ...]:
    params, width, kind = module.params, module.context.width, module.info.kind
    if module.info.name == "patch_embedding":
        return (batch, (8 // params.patch) * (12 // params.patch), width)
    if module.info.name in ("classifier", "regressor"):
        return (batch, params.classes if module.info.name == "classifier" else params.outputs)
    if module.info.name in ("lm_head", "sequence_decoder"):
        return (batch, length, params.vocab)
    if module.info.name == "downsample":
        return (batch, -(-length // params.stride), width)
    if module.info.name == "hyper_write":
        return (batch, length, params.streams * width)
    assert kind is not Kind.HEAD, "say here what a new head gives"
    return (batch, length, width)


def test_what_was_promised_is_there() -> None:
    assert set(NAMES) >= PROMISED


@everyone
def test_it_says_what_it_is(name: str) -> None:
    info = palette()[name]
    assert info.title and info.summary.endswith(".") and len(info.summary) <= 120
    assert info.paper.startswith("https://")
    module = inspect.getmodule(info.cls)
    assert module is not None
    for part in (module, info.cls, info.cls.Params, info.cls.forward):
        assert inspect.getdoc(part), f"{part} has no docstring"
    assert info.cls.__doc__ != Component.__doc__
    if on_sequences(name) or info.kind is Kind.HEAD or name in CHANGE_RATE:
        assert "(B, L" in (info.cls.__doc__ or ""), "the class docstring says which shapes"


@everyone
def test_every_parameter_has_a_default_help_and_bounds(name: str) -> None:
    for key, item in palette()[name].cls.Params.model_fields.items():
        assert not item.is_required(), f"{key} has no default"
        assert (item.description or "").endswith("."), f"{key} has no sentence of help"
        if item.annotation in (int, float, int | None, float | None):
            limits = {type(limit).__name__ for limit in item.metadata}
            assert limits & {"Ge", "Gt"} and limits & {"Le", "Lt"}, f"{key} is not bounded"


@everyone
def test_searched_values_are_allowed(name: str) -> None:
    params = palette()[name].cls.Params
    for key, item in params.model_fields.items():
        extra = item.json_schema_extra
        for value in extra.get("search", []) if isinstance(extra, dict) else []:
            assert getattr(params(**{key: value}), key) == value


@everyone
def test_parameters_survive_json_and_yaml(name: str) -> None:
    params = palette()[name].cls.Params
    changed: dict[str, Any] = {}
    for key, item in params.model_fields.items():
        extra = item.json_schema_extra
        if isinstance(extra, dict) and isinstance(extra.get("search"), list):
            changed[key] = extra["search"][-1]
    for given in (params(), params(**changed)):
        assert params.model_validate_json(given.model_dump_json()) == given
        yaml, text = YAML(typ="safe"), StringIO()
        yaml.dump(given.model_dump(mode="json"), text)
        assert params.model_validate_json(json.dumps(yaml.load(text.getvalue()))) == given


@everyone
def test_parameters_are_frozen_and_unknown_keys_are_errors(name: str) -> None:
    params = palette()[name].cls.Params
    with pytest.raises(ValidationError, match="extra_forbidden"):
        params(no_such_parameter=1)
    for key in params.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(params(), key, 1)


@everyone
@pytest.mark.parametrize("length", [1, CHEAP_TO_MEET])
def test_shape_and_finite_gradients(name: str, length: int, build: Build, give: Give) -> None:
    module = build(name)
    inputs = give(module, batch=3, length=length, grad=True)
    output = module(*inputs)
    assert output.shape == expected_shape(module, 3, length)
    assert output.dtype == torch.float32
    output.square().sum().backward()
    for what, tensor in [*module.named_parameters(), *enumerate(inputs)]:
        if tensor.dtype.is_floating_point:
            assert tensor.grad is not None, f"{what} gets no gradient"
            assert tensor.grad.isfinite().all(), f"{what} has a gradient that is not finite"


@everyone
def test_reference_gives_the_same_at_default(name: str, build: Build, give: Give) -> None:
    module = build(name, width=16)
    inputs = give(module, length=CHEAP_TO_MEET)
    torch.testing.assert_close(module(*inputs), module.reference(*inputs), rtol=1e-4, atol=1e-5)


@everyone
def test_causality_is_as_claimed(name: str, build: Build, give: Give) -> None:
    """A large change of what the claim hides changes an output by no more than rounding."""
    if name in CHANGE_RATE:
        return
    if not on_sequences(name):
        assert palette()[name].cls.causal(palette()[name].cls.Params()) is None
        return
    module = build(name, width=16)
    claim = module.causal(module.params)
    inputs = give(module, length=CHEAP_TO_MEET, grad=True)
    before, effects = module(*inputs).detach(), []
    for t in (0, 8, CHEAP_TO_MEET - 2):
        hidden = slice(t + 1, None)
        changed = [_changed(x, hidden, module) for x in inputs]
        after = module(*changed).detach()
        if claim is False:
            assert _apart(after[:, : t + 1], before[:, : t + 1]) > 1e-5, f"{t} looks back only"
            continue
        assert _apart(after[:, : t + 1], before[:, : t + 1]) < 1e-5, f"{t} sees what comes after"
        effects.append(_apart(after[:, hidden], before[:, hidden]))
        if claim is None:
            earlier = [_changed(x, slice(0, t), module) for x in inputs]
            assert _apart(module(*earlier)[:, t], before[:, t]) < 1e-5, f"{t} does not stand alone"
    if claim is False:
        return
    at_each = effects if name != "mixture_of_depths" else [max(effects)]  # it lets most pass by
    assert min(at_each) > 1e-2, "the change has no effect"


def _apart(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def _changed(x: Tensor, where: slice, module: Component) -> Tensor:
    x = x.detach().clone()
    x[:, where] = (x[:, where] + 1) % module.params.vocab if x.dtype == torch.int64 else 7.5
    return x


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("attention", {"causal": False}),
        ("attention", {"causal": False, "window": 3, "conv": 3}),
        ("attention", {"causal": True, "window": 3, "conv": 3, "kv_heads": 1}),
        ("short_conv", {"causal": False, "kernel": 3}),
        ("short_conv", {"causal": False, "kernel": 2}),
        ("short_conv", {"causal": True, "gated": False}),
        ("dilated_conv", {"causal": False}),
        ("dilated_conv", {"causal": False, "kernel": 2, "dilation": 3}),
        ("dilated_conv", {"kernel": 5, "dilation": 2, "groups": None}),
        ("mlp_mixer", {"causal": True, "length": 20, "hidden": 40}),
    ],
)
def test_causality_follows_the_parameters(
    name: str, params: dict[str, Any], build: Build, give: Give
) -> None:
    module = build(name, width=16, **params)
    (x,) = give(module, length=CHEAP_TO_MEET)
    t = 8
    apart = _apart(
        module(_changed(x, slice(t + 1, None), module))[:, : t + 1], module(x)[:, : t + 1]
    )
    assert (apart < 1e-5) is module.causal(module.params), apart


@everyone
def test_sequences_of_a_batch_do_not_meet(name: str, build: Build, give: Give) -> None:
    module = build(name, width=16)
    inputs = give(module, batch=3, length=CHEAP_TO_MEET)
    together = module(*inputs)
    for row in range(3):
        alone = module(*(x[row : row + 1] for x in inputs))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-5)


@everyone
def test_bfloat16_weights_and_autocast(name: str, build: Build, give: Give) -> None:
    module = build(name)
    inputs = give(module, length=150, grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = module(*inputs)
    mixed.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    module = module.bfloat16()
    narrow = [
        x.detach().bfloat16().requires_grad_() if x.is_floating_point() else x for x in inputs
    ]
    output = module(*narrow)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@everyone
def test_fake_tensors_tell_the_same_shape(name: str, build: Build, give: Give) -> None:
    real = build(name)
    want = real(*give(real, batch=3, length=CHEAP_TO_MEET))
    with FakeTensorMode():
        module = build(name)
        inputs = give(module, batch=3, length=CHEAP_TO_MEET, grad=True)
        output = module(*inputs)
        output.sum().backward()
    assert (output.shape, output.dtype) == (want.shape, want.dtype)
    for fake, weight in zip(module.parameters(), real.parameters(), strict=True):
        assert fake.shape == weight.shape and fake.grad is not None


@everyone
def test_compiles_as_one_graph_or_says_why_not(name: str, build: Build, give: Give) -> None:
    module = build(name, width=16)
    inputs = give(module, length=70)
    torch.compiler.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    if module.graph_break:
        with pytest.raises(torch._dynamo.exc.TorchDynamoException):
            compiled(*inputs)
        return
    torch.testing.assert_close(compiled(*inputs), module(*inputs))


@everyone
def test_copies_and_trains_after_a_forward(name: str, build: Build, give: Give) -> None:
    module = build(name, width=16)
    inputs = give(module, length=CHEAP_TO_MEET)
    want = module(*inputs)
    twin = copy.deepcopy(module)
    assert torch.equal(twin(*inputs), want)
    assert twin.state_dict().keys() == module.state_dict().keys()


@everyone
def test_names_and_shapes_of_weights_stay(name: str, build: Build) -> None:
    """Checkpoints hold weights under these names, so that old run folders keep loading.

    A new component: write the file that the message shows. A renamed weight: old checkpoints no longer load,
    so keep the name, or convert old ones where they are read.
    """
    found = {key: list(value.shape) for key, value in build(name).state_dict().items()}
    path = WEIGHTS / f"{name}.json"
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(shape)}" for key, shape in found.items())
    text = "{\n" + lines + ("\n}\n" if lines else "}\n")
    assert path.exists() and json.loads(path.read_text()) == found, f"write this to {path}:\n{text}"


def test_no_weights_are_listed_of_components_that_are_gone() -> None:
    assert {path.stem for path in WEIGHTS.glob("*.json")} == set(NAMES)


def test_the_catalogue_is_plain_json() -> None:
    entries = json.loads(json.dumps(catalogue()))
    assert [entry["name"] for entry in entries] == NAMES
    for entry in entries:
        info = palette()[entry["name"]]
        assert (entry["kind"], entry["paper"]) == (info.kind, info.paper)
        assert (
            entry["params_schema"].get("properties", {}).keys()
            == info.cls.Params.model_fields.keys()
        )
        assert entry["state_bytes_per_token"] >= 0 and entry["state_bytes"] >= 0


@pytest.mark.parametrize("name", MIXERS)
def test_the_output_scales_with_its_last_map(name: str, build: Build, give: Give) -> None:
    module = build(name).eval()
    given = give(module, length=CHEAP_TO_MEET)
    weights = module.output_weights()
    if not weights:
        assert name in WITHOUT_LAST_MAP
        return
    with torch.no_grad():
        before = module(*given)
        for weight in weights:
            module.get_parameter(weight).mul_(0.5)
        torch.testing.assert_close(module(*given), 0.5 * before, rtol=1e-4, atol=1e-5)
