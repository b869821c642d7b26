"""Work done ahead of its consumer in background threads: bounded, in order, with errors where they happened."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int
) -> Generator[Result, None, None]:
    """`function(item)` of each item in order, computed for the next `threads` items side by side.

    An exception comes out in the place of the result. Closing the generator ends the threads.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="intravid-ahead")
    todo = iter(items)
    try:
        running: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(todo, threads))
        while running:
            result = running.popleft().result()
            running.extend(pool.submit(function, item) for item in islice(todo, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class UntilError(Generic[Item]):
    """An iterator that ends where its source raises, and keeps the error for when all before it is delivered.

    Whoever works some items ahead would otherwise lose the finished ones, and the error would seem to come from an
    earlier step than it does.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._error: BaseException | None = None

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if self._error is not None:
            raise StopIteration
        try:
            return next(self._items)
        except StopIteration:
            raise
        except BaseException as error:
            self._error = error
            raise StopIteration from None

    def reraise(self) -> None:
        """Raise the error that ended the iteration, if one did."""
        if self._error is not None:
            raise self._error


class Prefetcher(Generic[Item]):
    """A thread that works through a generator and keeps a bounded number of its items ready, in order.

    Iterating gives each item with the seconds that the consumer waited for it. The generator is closed in the thread
    that runs it, once it ends or `stop` is called.
    """

    def __init__(self, items: Generator[Item, None, None], *, depth: int) -> None:
        self._items = items
        self._ready: queue.Queue[Item | _End] = queue.Queue(maxsize=depth)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="intravid-prefetch", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        end = _End(None)
        try:
            with closing(self._items) as items:
                for item in items:
                    if not self._hand_over(item):
                        break
        except BaseException as error:
            end = _End(error)
        self._hand_over(end)

    def _hand_over(self, item: Item | _End) -> bool:
        while not self._stopping.is_set():
            try:
                self._ready.put(item, timeout=0.05)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[tuple[Item, float]]:
        while True:
            start = time.perf_counter()
            item = self._ready.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item, time.perf_counter() - start

    def stop(self) -> None:
        """End the thread and drop what is ready; harmless when repeated."""
        self._stopping.set()
        self._thread.join()


class _End:
    """What stands in the queue behind the last item."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
