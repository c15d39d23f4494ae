"""Energy: what counters counted, less idle power where that was measured, and never a number where none did."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridlab.hardware.meters.energy import Counter, EnergyAccount
from hybridlab.hardware.meters.meter import NotMeasured
from hybridlab.hardware.meters.rapl import rapl_counters


class World:
    """A clock and counters that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.values = {"a": 1000.0, "b": 5.0}
        self.fails: set[str] = set()

    def account(self, *names: str, wraps_j: float | None = None) -> EnergyAccount:
        counters = [Counter(name, f"all of {name}", self.reader(name), wraps_j) for name in names]
        return EnergyAccount(counters, clock=lambda: self.now)

    def reader(self, name: str):
        def read() -> float:
            if name in self.fails:
                raise OSError(19, "No such device")
            return self.values[name]

        return read

    def go(self, seconds: float, **watts: float) -> None:
        self.now += seconds
        for name, watt in watts.items():
            self.values[name] += watt * seconds


def test_a_window_is_what_the_counters_moved() -> None:
    world = World()
    account = world.account("a", "b")
    world.go(7, a=100, b=100)
    window = account.window("train")
    world.go(10, a=30, b=2)
    found = window()
    assert (found.name, found.seconds, found.joules) == ("train", 10, pytest.approx(320))
    assert [(one.source, one.joules, one.net_joules) for one in found.measured] == [
        ("a", pytest.approx(300), None),
        ("b", pytest.approx(20), None),
    ]
    assert found.net_joules is None, "idle power was not measured"
    assert (found.reason, found.caution) == ("", "")
    world.go(5, a=10)
    assert window().joules == pytest.approx(370), "up to now, as often as asked"


def test_idle_power_is_taken_off_and_stated() -> None:
    world = World()
    account = world.account("a")
    account.measure_idle(4, sleep=lambda seconds: world.go(seconds, a=20))
    window = account.window("train")
    world.go(10, a=50)
    found = window()
    (one,) = found.measured
    assert (one.idle_w, one.joules, one.net_joules) == (
        pytest.approx(20),
        pytest.approx(500),
        pytest.approx(300),
    )
    assert found.idle_seconds == 4
    assert found.as_dict()["net_joules"] == pytest.approx(300)


def test_a_counter_that_begins_again_is_followed_and_one_that_was_reset_is_not() -> None:
    world = World()
    account = world.account("a", wraps_j=1010.0)
    window = account.window("train")
    world.go(2)
    world.values["a"] = 5.0
    assert window().joules == pytest.approx(15)
    account = world.account("b")
    window = account.window("train")
    world.go(2)
    world.values["b"] = 1.0
    found = window()
    assert found.joules is None
    assert "the counter went back" in found.reason


def test_where_no_counter_is_nothing_is_said_to_be_0() -> None:
    account = EnergyAccount([], [NotMeasured("energy of the processor", "a virtual machine")])
    found = account.window("train")()
    assert (found.joules, found.net_joules, found.measured) == (None, None, ())
    assert found.reason == "a virtual machine"
    assert found.as_dict()["joules"] is None
    assert EnergyAccount([]).window("train")().reason == "no counter"


def test_a_counter_that_goes_in_the_middle_leaves_no_half_figure() -> None:
    world = World()
    account = world.account("a", "b")
    power = account.power()
    window = account.window("train")
    world.go(10, a=30, b=2)
    assert power() == {"power_w/a": pytest.approx(30), "power_w/b": pytest.approx(2)}
    world.fails.add("a")
    found = window()
    assert [one.source for one in found.measured] == ["b"]
    assert found.not_measured == (NotMeasured("energy by a", "[Errno 19] No such device"),)
    world.fails.add("b")
    with pytest.raises(RuntimeError, match="No such device"):
        power()
    assert window().joules is None


def test_a_modelled_figure_comes_from_stated_watts_only_and_stands_apart() -> None:
    world = World()
    account = EnergyAccount([], clock=lambda: world.now)
    assert account.window("train")().modelled is None
    window = account.window("train", stated_w=65)
    world.go(10)
    found = window()
    assert found.joules is None
    assert found.modelled is not None
    assert (found.modelled.joules, found.modelled.stated_w) == (650, 65)
    assert found.modelled.label.startswith("modelled")


def test_a_short_window_says_that_it_is_rough() -> None:
    world = World()
    window = world.account("a").window("train")
    world.go(1, a=30)
    assert "0.1 s" in window().caution


def domain(root: Path, place: str, name: str, microjoules: str = "5000000") -> Path:
    folder = root / place
    folder.mkdir(parents=True)
    (folder / "name").write_text(name + "\n")
    (folder / "energy_uj").write_text(microjoules + "\n")
    (folder / "max_energy_range_uj").write_text("262143328850\n")
    return folder


def test_packages_and_their_memory_are_counted_once(tmp_path: Path) -> None:
    first = domain(tmp_path, "intel-rapl:0", "package-0")
    domain(tmp_path, "intel-rapl:0:0", "core")
    domain(tmp_path, "intel-rapl:0:1", "dram", "7000000")
    domain(tmp_path, "intel-rapl:1", "psys")
    counters, absent = rapl_counters(tmp_path)
    assert absent == ()
    assert [(one.source, one.joules()) for one in counters] == [
        ("RAPL package-0", 5.0),
        ("RAPL package-0 dram", 7.0),
    ]
    assert counters[0].wraps_j == pytest.approx(262143.32885)
    assert "other processes included" in counters[0].covers
    (first / "energy_uj").write_text("6500000\n")
    assert counters[0].joules() == 6.5


def test_a_counter_that_may_not_be_read_says_how_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0")
    whole = Path.read_text

    def refuse(self: Path, *given: object, **more: object) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return whole(self, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", refuse)
    counters, (absent,) = rapl_counters(tmp_path)
    assert counters == ()
    assert "root only" in absent.reason and "chmod o+r" in absent.reason


def test_nonsense_and_nothing_are_reasons(tmp_path: Path) -> None:
    _, (absent,) = rapl_counters(tmp_path / "nowhere")
    assert "there is no energy counter" in absent.reason
    domain(tmp_path, "intel-rapl:0", "package-0", "many")
    counters, (absent,) = rapl_counters(tmp_path)
    assert counters == ()
    assert "many" in absent.reason


def test_this_machine_has_counters_or_a_reason_why_not() -> None:
    counters, absent = rapl_counters()
    account = EnergyAccount(counters, absent)
    found = account.window("here")()
    assert (found.joules is None) == bool(found.reason)
