"""As much of HTTP/2 (RFC 9113) and of gRPC as one bidirectional call on a connection of its own needs; no I/O.

gRPC's own client costs as much as the server that it talks to; 1,000 of them on the same two cores would measure the
clients. What goes over the wire is the same: preface, one HEADERS, DATA with length-prefixed messages, the answers to
SETTINGS and PING, and flow control both ways.
"""

from __future__ import annotations

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_ACK = 1
_END_STREAM = 1
_END_HEADERS = 4
_FRAME_HEAD = 9
_STREAM = 1
_DEFAULT_WINDOW = 65_535
# What we let the server send ahead; given back when half of it was used.
_OUR_WINDOW = 4 << 20
_LARGEST_FRAME = 16_384


class CallBroken(Exception):
    """The server ended the call, or sent what this client does not understand."""


class Call:
    """`to_send` holds what is to be written; `feed` takes what was read."""

    def __init__(self, authority: str, method: str) -> None:
        self.to_send = bytearray(_PREFACE)
        self._input = b""
        self._messages = b""
        self._unreturned = 0
        self._room = {0: _DEFAULT_WINDOW, _STREAM: _DEFAULT_WINDOW}
        self._initial_room = _DEFAULT_WINDOW
        # SETTINGS_ENABLE_PUSH 0, SETTINGS_INITIAL_WINDOW_SIZE
        self._frame(_SETTINGS, 0, 0, b"\0\2\0\0\0\0" + b"\0\4" + _OUR_WINDOW.to_bytes(4))
        self._frame(_WINDOW, 0, 0, (_OUR_WINDOW - _DEFAULT_WINDOW).to_bytes(4))
        self._frame(_HEADERS, _END_HEADERS, _STREAM, _request_headers(authority, method))

    def send(self, message: bytes) -> None:
        """Raises `CallBroken` if the server takes nothing more."""
        body = b"\0" + len(message).to_bytes(4) + message
        for start in range(0, len(body), _LARGEST_FRAME):
            piece = body[start : start + _LARGEST_FRAME]
            for place in (0, _STREAM):
                self._room[place] -= len(piece)
                if self._room[place] < 0:
                    raise CallBroken("the server's window is used up")
            self._frame(_DATA, 0, _STREAM, piece)

    def ping(self) -> None:
        self._frame(_PING, 0, 0, b"\0" * 8)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now. Raises `CallBroken` once the call is over."""
        data = self._input + data
        position = 0
        while len(data) - position >= _FRAME_HEAD:
            end = position + _FRAME_HEAD + int.from_bytes(data[position : position + 3])
            if end > len(data):
                break
            stream = int.from_bytes(data[position + 5 : position + _FRAME_HEAD])
            self._received(data[position + 3], data[position + 4], stream, data[position + _FRAME_HEAD : end])
            position = end
        self._input = data[position:]
        return self._whole_messages()

    def _received(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._messages += payload
            self._return_room(len(payload))
        elif kind == _WINDOW:
            self._room[stream] += int.from_bytes(payload)
        elif kind == _SETTINGS and not flags & _ACK:
            self._settings(payload)
            self._frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self._frame(_PING, _ACK, 0, payload)
        elif kind == _HEADERS and flags & _END_STREAM:
            raise CallBroken(f"the server ended the call: {_readable(payload)}")
        elif kind in (_RESET, _GOAWAY):
            raise CallBroken(f"the server sent {'RST_STREAM' if kind == _RESET else 'GOAWAY'}: {_readable(payload)}")

    def _settings(self, payload: bytes) -> None:
        for start in range(0, len(payload), 6):
            if int.from_bytes(payload[start : start + 2]) == 4:
                value = int.from_bytes(payload[start + 2 : start + 6])
                self._room[_STREAM] += value - self._initial_room
                self._initial_room = value

    def _return_room(self, size: int) -> None:
        self._unreturned += size
        if self._unreturned > _OUR_WINDOW // 2:
            for place in (0, _STREAM):
                self._frame(_WINDOW, 0, place, self._unreturned.to_bytes(4))
            self._unreturned = 0

    def _whole_messages(self) -> list[bytes]:
        whole: list[bytes] = []
        data, position = self._messages, 0
        while len(data) - position >= 5:
            end = position + 5 + int.from_bytes(data[position + 1 : position + 5])
            if end > len(data):
                break
            whole.append(data[position + 5 : end])
            position = end
        if position:
            self._messages = data[position:]
        return whole

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self.to_send += len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _request_headers(authority: str, method: str) -> bytes:
    """HPACK (RFC 7541) without its table and without Huffman: `:method` and `:scheme` are in the static table."""
    return (
        b"\x83\x87"
        + (b"\x04" + _text(method))
        + (b"\x01" + _text(authority))
        + (b"\x0f\x10" + _text("application/grpc"))
        + (b"\x00" + _text("te") + _text("trailers"))
    )


def _text(value: str) -> bytes:
    encoded = value.encode()
    if len(encoded) > 126:
        raise ValueError("longer texts have another form")
    return bytes([len(encoded)]) + encoded


def _readable(payload: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in payload)[:300]
