"""The footer of a Parquet file, taken apart and put together.

A Parquet file is the mark PAR1, row groups, and a footer that says where each of them stands. A writer that was killed
leaves no footer, and none of the libraries can go on with its file. So each row group is written as a file of its own,
in memory; its bytes are added to the output, and its entry of the footer is kept, moved to the place where they stand.
One footer of all entries ends the output.

The footer is a struct in Thrift's compact protocol. It is read into plain values without knowing what they mean, but
for the fields named below.

Source: https://parquet.apache.org/docs/file-format/metadata/ and
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

import io
from typing import Any

MARK = b"PAR1"

# Numbers of fields, as parquet.thrift has them.
_FILE_ROWS, _FILE_GROUPS = 3, 4
_GROUP_COLUMNS, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_ORDINAL = 1, 3, 5, 7
_CHUNK_META = 3
_CHUNK_OFFSETS = (2, 4, 6)  # of the chunk, its offset index, its column index
_META_OFFSETS = (9, 10, 11, 14)  # of data pages, index pages, the dictionary page, the Bloom filter

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_BITS_OF_SIZE = 15

Struct = dict[int, tuple[int, Any]]  # number of a field to its type and value


def split(file: memoryview) -> tuple[memoryview, bytes]:
    """What stands between the first mark and the footer, which is not copied, and the footer."""
    n_footer = int.from_bytes(file[-8:-4], "little")
    return file[len(MARK) : -8 - n_footer], bytes(file[-8 - n_footer : -8])


def row_groups(footer: bytes, moved_by: int) -> list[bytes]:
    """The entry of each row group, when it stands so many bytes further on."""
    groups: list[Struct] = _read_struct(io.BytesIO(footer))[_FILE_GROUPS][1][1]
    for group in groups:
        group.pop(_GROUP_ORDINAL, None)  # of 16 bits, and read by nobody but decryption
        _move(group, (_GROUP_OFFSET,), moved_by)
        for chunk in group[_GROUP_COLUMNS][1][1]:
            _move(chunk, _CHUNK_OFFSETS, moved_by)
            _move(chunk[_CHUNK_META][1], _META_OFFSETS, moved_by)
    return [_written(group) for group in groups]


def with_groups(footer: bytes, groups: list[bytes]) -> bytes:
    """A footer of a file without rows, to one with these row groups; mark and length included."""
    fields = _read_struct(io.BytesIO(footer))
    entries = [_read_struct(io.BytesIO(group)) for group in groups]
    fields[_FILE_ROWS] = (_I64, sum(entry[_GROUP_ROWS][1] for entry in entries))
    fields[_FILE_GROUPS] = (_LIST, (_STRUCT, entries))
    written = _written(fields)
    return written + len(written).to_bytes(4, "little") + MARK


def _move(fields: Struct, numbers: tuple[int, ...], by: int) -> None:
    for number in numbers:
        kind, offset = fields.get(number, (_I64, 0))
        if offset:  # 0 is how a missing one is written
            fields[number] = (kind, offset + by)


def _read_struct(source: io.BytesIO) -> Struct:
    fields: Struct = {}
    number = 0
    while head := source.read(1)[0]:
        kind = head & 15
        number = number + (head >> 4) if head >> 4 else _read_signed(source)
        fields[number] = (kind, _read_value(source, kind))
    return fields


def _read_value(source: io.BytesIO, kind: int) -> Any:
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE
    if kind == _BYTE:
        return source.read(1)
    if kind in (_I16, _I32, _I64):
        return _read_signed(source)
    if kind == _DOUBLE:
        return source.read(8)
    if kind == _BINARY:
        return source.read(_read_unsigned(source))
    if kind in (_LIST, _SET):
        head = source.read(1)[0]
        size = _read_unsigned(source) if head >> 4 == _BITS_OF_SIZE else head >> 4
        of = head & 15
        if of in (_TRUE, _FALSE):  # in a list each is a byte of its own
            return of, list(source.read(size))
        return of, [_read_value(source, of) for _ in range(size)]
    if kind == _STRUCT:
        return _read_struct(source)
    raise NotImplementedError(f"type {kind} is in no footer")


def _read_unsigned(source: io.BytesIO) -> int:
    value = shift = 0
    while True:
        byte = source.read(1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
        shift += 7


def _read_signed(source: io.BytesIO) -> int:
    value = _read_unsigned(source)
    return (value >> 1) ^ -(value & 1)


def _written(fields: Struct) -> bytes:
    parts = []
    before = 0
    for number, (kind, value) in sorted(fields.items()):
        kind = (_TRUE if value else _FALSE) if kind in (_TRUE, _FALSE) else kind
        step = number - before
        parts.append(bytes([step << 4 | kind]) if 0 < step <= 15 else bytes([kind]) + _signed(number))
        parts.append(_value(kind, value))
        before = number
    return b"".join(parts) + b"\0"


def _value(kind: int, value: Any) -> bytes:
    if kind in (_TRUE, _FALSE):
        return b""
    if kind in (_BYTE, _DOUBLE):
        return bytes(value)
    if kind in (_I16, _I32, _I64):
        return _signed(value)
    if kind == _BINARY:
        return _unsigned(len(value)) + bytes(value)
    if kind == _STRUCT:
        return _written(value)
    of, items = value
    size = len(items)
    head = bytes([size << 4 | of]) if size < _BITS_OF_SIZE else bytes([_BITS_OF_SIZE << 4 | of]) + _unsigned(size)
    if of in (_TRUE, _FALSE):
        return head + bytes(items)
    return head + b"".join(_value(of, item) for item in items)


def _unsigned(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _signed(value: int) -> bytes:
    return _unsigned(value << 1 if value >= 0 else (-value << 1) - 1)
