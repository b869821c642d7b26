"""Work ahead of the consumer: bounded, in order, errors in their place, and no thread left."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import count

import pytest

from pipelines.prefetch import Prefetcher, UntilError, map_ahead


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def counting(limit: int | None = None, *, fail_at: int | None = None) -> Generator[int, None, None]:
    for number in count():
        if number == fail_at:
            raise OSError(f"at {number}")
        if number == limit:
            return
        yield number


def until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def test_results_keep_their_order_whatever_finishes_first() -> None:
    release = [threading.Event() for _ in range(4)]

    def work(item: int) -> int:
        release[item].wait(10)
        if item:
            release[item - 1].set()  # the later one finishes first
        return item * item

    release[3].set()
    assert list(map_ahead(work, range(4), threads=4)) == [0, 1, 4, 9]


def test_only_so_many_items_are_worked_on_ahead() -> None:
    begun: list[int] = []
    with closing(map_ahead(lambda item: begun.append(item) or item, count(), threads=3)) as results:
        assert [next(results) for _ in range(5)] == list(range(5))
    assert len(begun) <= 5 + 3


def test_an_error_stands_in_the_place_of_its_result() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise OSError("two")
        return item

    results = map_ahead(work, range(9), threads=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match="two"):
        next(results)


def test_an_error_waits_until_what_came_before_is_delivered() -> None:
    items = UntilError(counting(fail_at=3))
    assert list(items) == [0, 1, 2]
    assert list(items) == []
    with pytest.raises(OSError, match="at 3"):
        items.reraise()


def test_an_iteration_without_error_has_nothing_to_raise() -> None:
    items = UntilError(counting(2))
    assert list(items) == [0, 1]
    items.reraise()


def test_prefetching_gives_all_items_in_order_and_ends() -> None:
    assert [item for item, _ in Prefetcher(counting(50), depth=3)] == list(range(50))


def test_prefetching_stays_within_its_depth() -> None:
    made: list[int] = []

    def slow_consumer_source() -> Generator[int, None, None]:
        for item in counting():
            made.append(item)
            yield item

    prefetcher = Prefetcher(slow_consumer_source(), depth=2)
    assert until(lambda: len(made) == 3), "two ready and one in hand"
    time.sleep(0.1)
    assert len(made) == 3
    prefetcher.stop()
    prefetcher.stop()


def test_waiting_is_measured_only_where_there_was_none_ready() -> None:
    go = threading.Event()

    def source() -> Generator[int, None, None]:
        yield 0
        yield 1
        go.wait(10)
        yield 2

    prefetcher = Prefetcher(source(), depth=4)
    items = iter(prefetcher)
    assert until(lambda: prefetcher._ready.qsize() == 2)
    assert max(next(items)[1], next(items)[1]) < 0.05
    timer = threading.Timer(0.2, go.set)
    timer.start()
    assert next(items)[1] > 0.1
    timer.join()
    prefetcher.stop()


def test_the_original_error_comes_out_after_the_items_before_it() -> None:
    seen: list[int] = []

    def consume() -> None:
        for item, _ in Prefetcher(counting(fail_at=5), depth=2):
            seen.append(item)

    with pytest.raises(OSError, match="at 5") as caught:
        consume()
    assert seen == [0, 1, 2, 3, 4]
    assert caught.traceback[-1].name == "counting", "the traceback leads to where it happened"


@pytest.mark.parametrize("blocked", [False, True], ids=["full queue", "slow source"])
def test_stopping_ends_the_thread_and_closes_the_source_in_it(blocked: bool) -> None:
    closed_in: list[str] = []

    def source() -> Generator[int, None, None]:
        try:
            for item in counting():
                if blocked:
                    time.sleep(0.02)
                yield item
        finally:
            closed_in.append(threading.current_thread().name)

    prefetcher = Prefetcher(source(), depth=1)
    next(iter(prefetcher))
    prefetcher.stop()
    assert closed_in == ["intravid-prefetch"]
