"""What becomes of a file: bytes and structures that are no longer what somebody wrote."""

import copy
import json

from hypothesis import strategies as st

TOKENS = (
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"\n\n", b"\x1b[31m", b"\xe2\x80\xae", b"\xed\xa0\x80", b"\\ud800",
    b"-1", b"1e999", b"NaN", b"9" * 40, b"9" * 5000, b"0x", b"../../x", b"/etc/x", b"\\", b'"', b"'", b"{", b"}", b"[",
    b"]", b"[" * 3000, b",", b":", b" ", b"\t", b"null", b"true", b"&a", b"*a", b"<<: ", b"!!python/object:os.system ",
    b"---\n", b"...\n", b"<", b">", b"&x;", b"<!ENTITY x 'y'>", b"%", b"#", b"x" * 5000, "²".encode(), "é".encode(),
)  # fmt: skip
VALUES = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("inf"), float("nan"), "", " ", "x",
    "1", "²", "\0", "\ud800", "\x1b]0;x\x07", "\u202e", "../../x", "/etc/x", "a/../b", "x" * 5000, [], [[]], [None],
    [0, 0, 0], [1, 2, 3, 4], ["x", "x"], {}, {"x": {}}, {"name": "x"}, {"name": 1}, {"": None}, {"size": [1, 1]},
)  # fmt: skip

_NUMBERS = st.integers(0, 1 << 20)
_EDITS = st.lists(
    st.tuples(st.integers(0, 5), _NUMBERS, st.integers(0, 40), st.sampled_from(TOKENS) | st.binary(max_size=6)),
    min_size=1,
    max_size=4,
)
_CHANGES = st.lists(
    st.tuples(st.integers(0, 4), _NUMBERS, _NUMBERS, st.sampled_from(VALUES)), min_size=1, max_size=3
)  # fmt: skip


def damaged(raw: bytes) -> st.SearchStrategy[bytes]:
    """Bytes that were replaced, inserted, lost, cut off or written twice."""
    return _EDITS.map(lambda edits: _edited(raw, edits))


def reshaped(raw: bytes) -> st.SearchStrategy[bytes]:
    """JSON of another shape: values of other types, keys that are gone or new, lists that are longer."""
    return _CHANGES.map(lambda changes: _changed(raw, changes))


def _edited(raw: bytes, edits: list[tuple[int, int, int, bytes]]) -> bytes:
    for kind, place, length, token in edits:
        at = place % (len(raw) + 1)
        if kind == 0:
            raw = raw[:at] + token + raw[at + len(token) :]
        elif kind == 1:
            raw = raw[:at] + token + raw[at:]
        elif kind == 2:
            raw = raw[:at] + raw[at + length :]
        elif kind == 3:
            raw = raw[:at]
        elif kind == 4:
            raw = raw[:at] + raw[max(0, at - length) :]
        elif raw:
            at %= len(raw)
            raw = raw[:at] + bytes([raw[at] ^ (1 << length % 8)]) + raw[at + 1 :]
    return raw


def _changed(raw: bytes, changes: list[tuple[int, int, int, object]]) -> bytes:
    holder = {"": json.loads(raw)}
    for kind, place, other, given in changes:
        value = copy.deepcopy(given)
        spots = list(_spots(holder))
        container, key = spots[place % len(spots)]
        if kind == 0 and container is not holder:
            del container[key]
        elif kind == 1 and isinstance(container, dict) and container is not holder:
            container[f"{key}x" if other % 2 else "\x1b"] = value
        elif kind == 2 and isinstance(container, list):
            container.append(value if other % 2 else container[key])
        elif kind == 3:
            elsewhere, name = spots[other % len(spots)]
            container[key] = copy.deepcopy(elsewhere[name])
        else:
            container[key] = value
    return json.dumps(holder[""]).encode()


def _spots(value):
    """Every place that holds a value, with what holds it."""
    keys = range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ()
    for key in keys:
        yield value, key
        yield from _spots(value[key])
