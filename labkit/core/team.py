"""Threads for the compiled kernel: members of a list shared out, or one network's work done together."""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Item = TypeVar("Item")
_LOCK = threading.Lock()  # a team meets itself at every step, so two of them must not share workers
if hasattr(os, "register_at_fork"):  # the threads of torch's operations are not there after a fork: they would wait
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
_POOLS: dict[tuple[str, int], ThreadPoolExecutor] = {}


def size(worth: float) -> int:
    """How many threads work deserves that is `worth` so many of them: at most as many as torch has."""
    return int(max(1, min(torch.get_num_threads(), worth)))


def share(job: Callable[[Item], None], items: Iterable[Item], threads: int) -> None:
    """Do a job for every item, on several threads.

    Raises:
        Exception: what a job raised; the others are done, or never begun.
    """
    if threads == 1:
        for item in items:
            job(item)
        return
    futures = [_pool("share", threads).submit(job, item) for item in items]
    try:
        for future in futures:
            future.result()
    finally:  # nothing goes on writing once the caller is interrupted
        for future in futures:
            future.cancel()
        wait(futures)


def together(job: Callable[[int], None], threads: int) -> None:
    """Do one job by several threads at once, which may wait for each other; `job` takes a worker's number."""
    if threads == 1:
        job(0)
        return
    with _LOCK:
        others = [_pool("team", threads - 1).submit(job, worker) for worker in range(1, threads)]
        try:
            job(0)
        finally:
            wait(others)
    for other in others:
        other.result()


def _pool(name: str, threads: int) -> ThreadPoolExecutor:
    """Threads that are kept: as many as were ever asked for."""
    have = _POOLS.get((name, os.getpid()))  # after a fork there are none
    if have is None or have._max_workers < threads:
        have = _POOLS[name, os.getpid()] = ThreadPoolExecutor(threads, f"labkit {name}")
    return have
