"""Calls to Docker's own library, which blocks: a bounded number of threads, a deadline for each call, and the library's
exceptions in our words.

Invariant: a call that fails for want of an answer forgets its connection, so the next one begins anew and asks the
engine for its version again.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import requests
from docker import APIClient
from docker.errors import APIError, DockerException

from agent.runtimes.failures import EngineAway, EngineRefused

T = TypeVar("T")

# Questions are answered at once or the engine is hung; work may take as long as a big layer takes to unpack.
QUESTION_SECONDS = 10
WORK_SECONDS = 180
# Eight threads: four steps at a time (reconciler), an observation, and some that a hung engine still holds.
_THREADS = 8
# Pulls of images that still arrive last as long as a download: they must not hold up anything else.
_AHEAD_THREADS = 2
# What dockerd says, with status 500, when its containerd is gone or starting.
_HALF_ALIVE = re.compile(
    r"containerd\.sock|connection refused|transport is closing|ttrpc: closed|error reading from server"
    r"|context deadline exceeded|context canceled|server is shutting down"
)


class DockerCalls:
    """`base_url` as in DOCKER_HOST."""

    def __init__(self, base_url: str, question_seconds: int, work_seconds: int) -> None:
        self._base_url = base_url
        self._seconds = {False: question_seconds, True: work_seconds}
        self._clients: dict[bool, APIClient] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="docker")
        self._ahead_threads = ThreadPoolExecutor(_AHEAD_THREADS, thread_name_prefix="docker-ahead")

    async def ask(self, question: Callable[[APIClient], T]) -> T:
        return await self._in_thread(self._threads, question, working=False)

    async def work(self, work: Callable[[APIClient], T]) -> T:
        return await self._in_thread(self._threads, work, working=True)

    async def work_ahead(self, work: Callable[[APIClient], T]) -> T:
        return await self._in_thread(self._ahead_threads, work, working=True)

    def close(self) -> None:
        for threads in (self._threads, self._ahead_threads):
            threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    async def _in_thread(self, threads: ThreadPoolExecutor, call: Callable[[APIClient], T], *, working: bool) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, self._translated, call, working)

    def _translated(self, call: Callable[[APIClient], T], working: bool) -> T:
        try:
            return call(self._client(working))
        except APIError as error:
            raise refused("request", str(error.explanation or error)) from error
        except (requests.RequestException, DockerException, OSError) as error:
            self._forget(working)
            raise away(self._base_url, error) from error

    def _client(self, working: bool) -> APIClient:
        with self._lock:
            if working not in self._clients:
                # `auto` asks the engine for its version: it may have been upgraded since the last connection.
                self._clients[working] = APIClient(self._base_url, version="auto", timeout=self._seconds[working])
            return self._clients[working]

    def _forget(self, working: bool) -> None:
        with self._lock:
            client = self._clients.pop(working, None)
        if client is not None:
            client.close()


def away(base_url: str, error: Exception) -> EngineAway:
    return EngineAway(
        f"Docker does not answer at {base_url}: {type(error).__name__}",
        action="start or restart dockerd; it is tried again",
        retry_after_seconds=2,
    )


def refused(what: str, explanation: str) -> EngineAway | EngineRefused:
    if _HALF_ALIVE.search(explanation):
        return EngineAway(
            f"Docker is not ready: {explanation[:300]}", action="it is tried again", retry_after_seconds=2
        )
    return EngineRefused(
        f"Docker refused the {what}: {explanation[:1000]}", action="change the instance, or free what it needs"
    )
