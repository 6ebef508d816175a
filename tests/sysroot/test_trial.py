"""Boot counting: single steps by table, and hosts that boot what they please until they rest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sysroot import trial
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.origin import Origin
from bridge.sysroot.trial import Phase, Step, Trial

NEW, GOOD, FAILED = Trial(), Trial(Phase.GOOD), Trial(Phase.FAILED, 3, "x")


def on_trial(boots: int, boot_id: str = "x") -> Trial:
    return Trial(Phase.TRIAL, boots, boot_id)


@pytest.mark.parametrize(
    ("before", "attempts", "after", "step"),
    [
        (NEW, 3, on_trial(1, "now"), Step.GO_ON),
        (on_trial(1), 3, on_trial(2, "now"), Step.GO_ON),
        (on_trial(2), 3, on_trial(3, "now"), Step.GO_ON),
        (on_trial(3), 3, on_trial(3), Step.ROLL_BACK),
        (on_trial(9), 3, on_trial(9), Step.ROLL_BACK),
        (on_trial(1), 1, on_trial(1), Step.ROLL_BACK),
        (on_trial(9), 0, on_trial(10, "now"), Step.GO_ON),
        (on_trial(3, "now"), 3, on_trial(3, "now"), Step.GO_ON),
        (GOOD, 3, GOOD, Step.GO_ON),
        (FAILED, 3, FAILED, Step.GO_ON),
    ],
)
def test_a_boot_begins(before: Trial, attempts: int, after: Trial, step: Step) -> None:
    assert trial.begin(before, "now", attempts) == (after, step)
    if step is Step.GO_ON:
        assert trial.begin(after, "now", attempts) == (after, step), "counted once"


@pytest.mark.parametrize(
    ("before", "attempts", "has_fallback", "phase", "step"),
    [
        (on_trial(1, "now"), 3, True, Phase.TRIAL, Step.REBOOT),
        (on_trial(1, "now"), 3, False, Phase.TRIAL, Step.REBOOT),
        (on_trial(2, "before"), 3, True, Phase.TRIAL, Step.GO_ON),
        (NEW, 3, True, Phase.TRIAL, Step.GO_ON),
        (on_trial(3, "now"), 3, True, Phase.FAILED, Step.ROLL_BACK),
        (on_trial(3, "before"), 3, True, Phase.FAILED, Step.ROLL_BACK),
        (on_trial(3, "now"), 3, False, Phase.FAILED, Step.GIVE_UP),
        (on_trial(1, "now"), 1, True, Phase.FAILED, Step.ROLL_BACK),
        (on_trial(7, "now"), 0, True, Phase.TRIAL, Step.GO_ON),
        (GOOD, 3, True, Phase.GOOD, Step.GO_ON),
        (FAILED, 3, True, Phase.FAILED, Step.GO_ON),
    ],
)
def test_a_boot_fails(
    before: Trial, attempts: int, has_fallback: bool, phase: Phase, step: Step
) -> None:
    after, found = trial.failed(before, "now", attempts, has_fallback=has_fallback)
    assert (after, found) == (replace(before, phase=phase), step)


def deployment(name: str, state: Trial, stateroot: str = "default") -> Deployment:
    origin = state.written_to(Origin.for_image("ostree-unverified-registry:example/os"))
    return Deployment(stateroot, name * 64, 0, "b" * 64, origin=origin)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([], None),
        ([("a", GOOD)], "a"),
        ([("a", NEW)], "a"),
        ([("a", NEW), ("b", GOOD)], "b"),
        ([("a", GOOD), ("b", GOOD)], "a"),
        ([("a", FAILED)], None),
        ([("a", FAILED), ("b", on_trial(2))], "b"),
        ([("a", on_trial(3)), ("b", FAILED)], None),
        ([("a", on_trial(3)), ("b", NEW)], "b"),
    ],
)
def test_what_is_gone_back_to(others: list[tuple[str, Trial]], expected: str | None) -> None:
    running = deployment("f", on_trial(3))
    state = [deployment("e", GOOD, "other"), running, *(deployment(*each) for each in others)]
    found = trial.fallback(state, running, 3)
    assert (found and found.checksum[0]) == expected
    without = Deployment("default", "0" * 64, 0, "b" * 64)
    assert trial.fallback([running, without], running, 3) is without, "it has no origin"


states = st.builds(
    Trial,
    st.sampled_from(Phase),
    st.integers(0, 10**9 - 1),
    st.text("0123456789abcdef-", max_size=36),
)


@given(states)
def test_an_origin_keeps_it(state: Trial) -> None:
    origin = Origin.for_image("ostree-unverified-registry:example/os").with_pinned(True)
    written = state.written_to(origin)
    assert Trial.of(Origin.parse(written.text)) == state
    assert written.pinned and written.image_reference == origin.image_reference
    assert Trial.of(written.without_transient()) == NEW, "no successor inherits it"
    assert NEW.written_to(written).values == NEW.written_to(origin).values


@pytest.mark.parametrize("boots", ["", "-1", "x", "1e3", "٣", "9" * 10])
def test_what_makes_no_sense_is_new(boots: str) -> None:
    group = "[libostree-transient]\nbootc-py-health=what\n"
    assert Trial.of(Origin.parse(f"{group}bootc-py-boots={boots}\n")) == NEW
    assert Trial.of(None) == NEW


@dataclass
class Host:
    """Deployments that are healthy or not, on a machine that boots the first one."""

    attempts: int
    order: list[Deployment] = field(default_factory=list)
    healthy: dict[str, bool] = field(default_factory=dict)
    boots: dict[str, int] = field(default_factory=dict)
    """Boots of each, while it was on trial, that got further than counting."""
    number: int = 0
    resting: bool = False

    def upgrade(self, healthy: bool) -> None:
        """Put a new deployment first; as ours, keep the one that runs, and the best besides."""
        self.number += 1
        checksum = f"{self.number:064x}"
        origin = Origin.for_image("ostree-unverified-registry:example/os")
        self.healthy[checksum] = healthy
        new = Deployment("default", checksum, 0, "b" * 64, origin=origin)
        self.order = [new, *self.order[:2]]
        self.resting = False

    def write(self, changed: Deployment, state: Trial) -> None:
        assert changed.origin is not None
        before = Trial.of(changed.origin)
        assert before.phase is not Phase.GOOD or state.phase is Phase.GOOD, "good once, good ever"
        new = replace(changed, origin=state.written_to(changed.origin))
        self.order = [new if each.is_same(changed) else each for each in self.order]

    def boot(self, power_cut: str = "") -> None:
        self.number += 1
        running, boot_id = self.order[0], str(self.number)
        state, step = trial.begin(Trial.of(running.origin), boot_id, self.attempts)
        self.write(running, state)
        if step is Step.GO_ON:
            if state.phase is Phase.TRIAL:
                self.boots[running.checksum] = self.boots.get(running.checksum, 0) + 1
            if power_cut == "before the verdict":
                return
            if self.healthy[running.checksum]:
                self.write(running, Trial(Phase.GOOD))
                self.resting = True
                return
        target = trial.fallback(self.order, running, self.attempts)
        after, step = trial.failed(
            Trial.of(self.order[0].origin), boot_id, self.attempts, has_fallback=target is not None
        )
        if step is Step.ROLL_BACK:
            assert state.phase is Phase.TRIAL and target is not None
            assert Trial.of(target.origin).phase is not Phase.FAILED
            self.order = [target, *(each for each in self.order if not each.is_same(target))]
            if power_cut == "after the rollback":
                return
        self.write(running, after)
        self.resting = step in (Step.GO_ON, Step.GIVE_UP)


upgrades = st.tuples(st.just("upgrade"), st.booleans())
boots = st.tuples(
    st.just("boot"), st.sampled_from(["", "", "before the verdict", "after the rollback"])
)


@settings(deadline=None)
@given(st.integers(1, 4), st.booleans(), st.lists(st.one_of(upgrades, boots), max_size=12))
def test_a_host_comes_to_rest_on_what_is_good(
    attempts: int, healthy: bool, events: list[tuple[str, bool | str]]
) -> None:
    host = Host(attempts)
    host.upgrade(healthy)
    for kind, argument in events:
        if kind == "upgrade":
            host.upgrade(bool(argument))
        else:
            host.boot(str(argument))
    for _ in range(3 * (attempts + 1)):  # of three deployments
        if not host.resting:
            host.boot()
    assert host.resting, "it goes round in circles"
    if any(Trial.of(each.origin).phase is Phase.GOOD for each in host.order):
        assert Trial.of(host.order[0].origin).phase is Phase.GOOD
    assert max(host.boots.values()) <= attempts


@settings(deadline=None)
@given(st.integers(1, 5), st.lists(st.booleans(), max_size=5))
def test_a_bad_one_gets_its_attempts_and_no_more(attempts: int, cuts: list[bool]) -> None:
    host = Host(attempts)
    host.upgrade(True)
    host.boot()
    good = host.order[0].checksum
    host.upgrade(False)
    bad = host.order[0].checksum
    for cut in [*cuts, *[False] * (attempts + 1)]:
        if host.order[0].checksum == bad:
            host.boot("before the verdict" if cut else "")
    assert host.order[0].checksum == good
    assert host.boots[bad] == attempts
