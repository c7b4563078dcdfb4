"""The one place that talks to a libtorrent session: its life, its alerts, and which torrent an alert belongs to.

Invariant: nothing here waits for libtorrent's network thread on the event loop. Commands are queued by libtorrent;
answers come as alerts, whose arrival a socket tells the loop (loop lag while downloading 0.7 ms at p99, measured).
Every answer has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import libtorrent as lt
import structlog

from common.bittorrent.failures import ListenFailed, SessionClosed
from common.bittorrent.lan_settings import Setting
from common.bittorrent.libtorrent_bans import Warden
from common.bittorrent.libtorrent_limits import everybody_counts
from common.bittorrent.libtorrent_reads import piece_read
from common.bittorrent.metainfo import Metainfo
from common.errors import Unavailable

log = structlog.get_logger()

# `TorrentStatus` may be a second old; idle torrents send nothing.
_STATUS_SECONDS = 0.5
_ANSWER_SECONDS = 10.0
_REMOVE_SECONDS = 2.0
_DESTROY_SECONDS = 2.5
_CATEGORIES = lt.alert.category_t
_ALERT_MASK = (
    _CATEGORIES.error_notification
    | _CATEGORIES.status_notification
    | _CATEGORIES.storage_notification
    | _CATEGORIES.connect_notification
    | _CATEGORIES.peer_notification
    | _CATEGORIES.piece_progress_notification
)


class Listener(Protocol):
    """A torrent's side of its alerts, called on the event loop, in the order in which they happened."""

    @property
    def metainfo(self) -> Metainfo: ...

    def on_added(self, handle: Any) -> None:
        """Comes before all others."""
        ...

    def on_piece(self, index: int) -> None: ...

    def on_hash_failed(self, index: int) -> None: ...

    def on_read(self, index: int, data: bytes | None, message: str) -> None:
        """What `read_piece` brought; None: it failed."""

    def on_finished(self) -> None:
        """Every piece is verified; the last ones need not be in the file yet."""
        ...

    def on_flushed(self) -> None: ...

    def on_disk_error(self, number: int, message: str) -> None: ...

    def on_status(self, status: Any) -> None: ...

    def on_resync(self, pieces: Sequence[bool], *, finished: bool) -> None:
        """Alerts were lost; this is how it stands."""
        ...

    def on_departed(self, peer_id: bytes) -> None: ...


class Engine:
    """`start` once, `close` once; both from the same event loop."""

    def __init__(self, settings: Mapping[str, Setting], own_address: str) -> None:
        self.warden = Warden(own_address)
        self._settings = {**settings, "alert_mask": int(_ALERT_MASK)}
        self._session: Any = None
        self._bell: tuple[socket.socket, socket.socket] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._listening: asyncio.Future[int] | None = None
        self._listeners: dict[Any, Listener] = {}
        self._adding: dict[bytes, tuple[asyncio.Future[None], Listener]] = {}
        self._removing: dict[bytes, asyncio.Future[None]] = {}
        self._handlers = self._table()

    async def start(self) -> int:
        """The port it listens on. Raises `ListenFailed`; nothing is left running then."""
        loop = asyncio.get_running_loop()
        self._listening = loop.create_future()
        self._session = await asyncio.to_thread(_open, self._settings)
        self._bell = socket.socketpair()
        for end in self._bell:
            end.setblocking(False)
        loop.add_reader(self._bell[0], self._ring)
        self._session.set_alert_fd(self._bell[1].fileno())
        self._tick()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._listening
        except BaseException as error:
            await self.close()
            if isinstance(error, TimeoutError):
                raise ListenFailed("libtorrent did not say whether it listens") from error
            raise

    async def add(self, parameters: Any, info_hash: bytes, listener: Listener) -> None:
        """Returns when it is there. One `add` of an info-hash at a time, and not while it is there: the caller's duty.

        Raises `Unavailable` if libtorrent refuses it or does not answer, `SessionClosed` after `close`.
        """
        session = self._open_session()
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._adding[info_hash] = answer, listener
        session.async_add_torrent(parameters)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await answer
        except TimeoutError as error:
            raise Unavailable("libtorrent did not add the torrent in time", action="try again") from error

    def drop(self, handle: Any) -> None:
        """Stop the torrent; does not wait. Harmless to repeat."""
        if self._listeners.pop(handle, None) is not None and self._session is not None:
            with contextlib.suppress(RuntimeError):  # the handle has died on its own
                self._session.remove_torrent(handle)

    def configure(self, settings: Mapping[str, Setting]) -> None:
        """Change settings of the running session; nothing after `close`."""
        if self._session is not None:
            self._session.apply_settings(dict(settings))

    async def remove(self, handle: Any, info_hash: bytes) -> None:
        """Stop the torrent and wait until its place is free again, for a bounded time. Harmless to repeat."""
        if handle not in self._listeners or self._session is None:
            return
        gone = self._removing.setdefault(info_hash, asyncio.get_running_loop().create_future())
        self.drop(handle)
        done, _ = await asyncio.wait([gone], timeout=_REMOVE_SECONDS)
        self._removing.pop(info_hash, None)
        if not done:
            log.warning("torrent not gone in time", info_hash=info_hash.hex())

    async def close(self) -> None:
        """Within five seconds; a tracker that does not answer is not waited for. Harmless to repeat."""
        if self._session is None:
            return
        waiting = []
        for handle in list(self._listeners):
            self.drop(handle)
        if self._timer is not None:
            self._timer.cancel()
        for future, _ in self._adding.values():
            if not future.done():
                future.set_exception(SessionClosed("the session is closing"))
        # The destructor joins libtorrent's threads, so the last reference must end in a thread of its own.
        waiting.append(self._session)
        self._session = None
        loop = asyncio.get_running_loop()
        if self._bell is not None:
            loop.remove_reader(self._bell[0])
        destroyed = loop.run_in_executor(None, waiting.clear)
        done, _ = await asyncio.wait([destroyed], timeout=_DESTROY_SECONDS)
        if not done:
            log.warning("libtorrent is still stopping")
        if self._bell is not None and done:
            for end in self._bell:
                end.close()

    def _open_session(self) -> Any:
        if self._session is None:
            raise SessionClosed("the BitTorrent session is not open", action="start it, or stop using it")
        return self._session

    def _ring(self) -> None:
        if self._bell is not None:
            with contextlib.suppress(BlockingIOError):
                self._bell[0].recv(4096)
        self._take_alerts()

    def _tick(self) -> None:
        if self._session is not None:
            loop = asyncio.get_running_loop()
            self._session.post_torrent_updates(0)
            self._take_alerts()
            self.warden.pardon(self._session, loop.time())
            self._timer = loop.call_later(_STATUS_SECONDS, self._tick)

    def _take_alerts(self) -> None:
        if self._session is None:
            return
        for alert in self._session.pop_alerts():
            handler = self._handlers.get(type(alert))
            if handler is not None:
                try:
                    handler(alert)
                except Exception:  # the alerts behind this one belong to others
                    log.exception("alert not understood", alert=alert.what())

    def _table(self) -> dict[type, Callable[[Any], None]]:
        return {
            lt.piece_finished_alert: self._to(lambda listener, alert: listener.on_piece(alert.piece_index)),
            lt.hash_failed_alert: self._to(lambda listener, alert: listener.on_hash_failed(alert.piece_index)),
            lt.read_piece_alert: self._to(lambda listener, alert: listener.on_read(*piece_read(alert))),
            lt.torrent_finished_alert: self._to(lambda listener, _: listener.on_finished()),
            lt.cache_flushed_alert: self._to(lambda listener, _: listener.on_flushed()),
            lt.file_error_alert: self._to(_disk_error),
            lt.torrent_error_alert: self._to(_disk_error),
            lt.peer_disconnected_alert: self._to(lambda listener, alert: listener.on_departed(alert.pid.to_bytes())),
            lt.state_update_alert: self._statuses,
            lt.add_torrent_alert: self._added,
            lt.torrent_removed_alert: self._removed,
            lt.listen_succeeded_alert: self._listens,
            lt.listen_failed_alert: self._listens_not,
            lt.peer_ban_alert: self._to(
                lambda listener, alert: self.warden.ban(self._session, listener.metainfo.info_hash, alert)
            ),
            lt.tracker_error_alert: _log_failed_tracker,
            lt.alerts_dropped_alert: self._dropped,
        }

    def _to(self, call: Callable[[Listener, Any], None]) -> Callable[[Any], None]:
        def handle(alert: Any) -> None:
            listener = self._listeners.get(alert.handle)
            if listener is not None:
                call(listener, alert)

        return handle

    def _statuses(self, alert: Any) -> None:
        for status in alert.status:
            listener = self._listeners.get(status.handle)
            if listener is not None:
                listener.on_status(status)
                if status.pieces:  # only when asked for
                    listener.on_resync(status.pieces, finished=status.is_finished)

    def _added(self, alert: Any) -> None:
        key = alert.params.ti.info_hashes().v2.to_bytes()
        answer, listener = self._adding.pop(key, (None, None))
        refused = alert.error.value() != 0
        if answer is None or listener is None or answer.done():  # nobody waits any more
            if not refused and self._session is not None:
                self._session.remove_torrent(alert.handle)
        elif refused:
            answer.set_exception(Unavailable(f"libtorrent refused the torrent: {alert.error.message()}"))
        else:
            self._listeners[alert.handle] = listener
            listener.on_added(alert.handle)
            answer.set_result(None)

    def _dropped(self, _: Any) -> None:
        """The queue of 20,000 overflowed: the loop stood still for long. Say everything again."""
        log.warning("alerts dropped")
        for handle in self._listeners:
            handle.post_status(lt.status_flags_t.query_pieces)

    def _removed(self, alert: Any) -> None:
        gone = self._removing.get(alert.info_hashes.v2.to_bytes())
        if gone is not None and not gone.done():
            gone.set_result(None)

    def _listens(self, alert: Any) -> None:
        if self._listening is not None and not self._listening.done():
            self._listening.set_result(alert.port)

    def _listens_not(self, alert: Any) -> None:
        if self._listening is not None and not self._listening.done():
            self._listening.set_exception(
                ListenFailed(alert.message(), action="choose another peer port, or end what holds it")
            )


def _open(settings: Mapping[str, Setting | int]) -> Any:
    parameters: Any = lt.session_params()
    parameters.settings = dict(settings)
    parameters.disk_io_constructor = "pread_disk_io_constructor"
    session = lt.session(parameters)
    session.set_peer_class_filter(everybody_counts())
    return session


def _disk_error(listener: Listener, alert: Any) -> None:
    listener.on_disk_error(alert.error.value(), alert.message())


def _log_failed_tracker(alert: Any) -> None:
    # Its URL carries a token: only the host may reach a log.
    log.info("tracker failed", host=urlsplit(alert.url).hostname, error=alert.error.message())
