"""What units of a process share is read once, and does not grow."""

from __future__ import annotations

import threading

from pertscale.benchmark.units.held import HeldArrays


def test_the_oldest_goes_for_what_is_read_next():
    held, read = HeldArrays(most_bytes=100), []

    def get(key: str, n_bytes: int = 40) -> str:
        return held.get(key, n_bytes, lambda: read.append(key) or key.upper())

    assert [get("a"), get("b"), get("a")] == ["A", "B", "A"]
    assert read == ["a", "b"]
    get("c")  # b was not used for longest
    get("a")
    assert read == ["a", "b", "c"]
    get("b")
    assert read == ["a", "b", "c", "b"]
    get("large", 1_000)  # alone
    get("b")
    assert read == ["a", "b", "c", "b", "large", "b"]
    held.clear()
    get("b")
    assert read[-2:] == ["b", "b"]


def test_threads_that_ask_at_the_same_time_read_once():
    held, read, start = HeldArrays(), [], threading.Barrier(8)

    def ask() -> None:
        start.wait()
        held.get("one", 1, lambda: read.append(1))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [1]
