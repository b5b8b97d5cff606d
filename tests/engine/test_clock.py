"""Seconds by phase."""

from autoprune.engine.clock import Clock
from autoprune.engine.convergence import Convergence
from autoprune.engine.events import Observer
from autoprune.engine.pace import Pace


class Hand:
    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


def test_phases_add_up_and_everything_is_passed_on():
    hand, heard = Hand(), []

    class Listener(Observer):
        def phase(self, name, total=None):
            heard.append(name)

    clock = Clock(Listener(), hand)
    hand.time = 3.0  # before the first phase: nobody's
    clock.phase("probe")
    hand.time = 5.0
    clock.phase("search", 10)
    hand.time = 9.0
    assert clock.seconds() == {"probe": 2.0, "search": 4.0}
    hand.time = 10.0
    clock.phase("probe")
    hand.time = 11.0
    clock.done()
    hand.time = 50.0
    assert clock.seconds() == {"probe": 3.0, "search": 5.0}
    assert heard == ["probe", "search", "probe"]


def test_pace():
    hand = Hand()
    pace = Pace(hand)
    assert pace.words(5, None) == {}
    pace.start()
    for _ in range(4):
        hand.time += 15.0
        pace.step()
    assert pace.words(10, None) == {"per_minute": "4.0", "left": "2 min"}
    assert pace.words(10, deadline=90.0)["left"] == "30 s"


def test_a_front_that_grows_has_not_converged_and_one_that_rests_has():
    growing, resting = Convergence(), Convergence()
    for step in range(12):
        growing.finished(0.9 - step / 20, 0.9)
        resting.finished(0.5, 0.9 if step < 2 else 0.8)
    assert not growing.converged
    assert resting.converged


def test_too_little_to_tell_is_not_converged():
    few = Convergence()
    for _ in range(5):
        few.stopped()
    assert not few.converged
    assert few.expected_gain == float("inf")
