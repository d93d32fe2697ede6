"""The order in which tasks are started."""

from __future__ import annotations

from pertscale.execution.order import start_order


def test_the_longest_first():
    assert start_order([1, 5, 3], [1, 1, 1], n_threads=2, budget=10) == [1, 2, 0]


def test_what_does_not_fit_comes_when_there_is_room():
    # two large ones never run together: small ones run beside the first until it ends
    order = start_order([4, 4, 1, 1, 1, 1], [6, 6, 1, 1, 1, 1], n_threads=2, budget=10)
    assert order == [0, 2, 3, 4, 5, 1]


def test_alone_anything_runs():
    assert start_order([2, 1], [50, 50], n_threads=4, budget=10) == [0, 1]
    assert start_order([], [], n_threads=1, budget=1) == []
