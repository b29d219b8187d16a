"""An object file as a linker would load it: one flat image that runs wherever it is put.

Only what the kernels' object files hold is understood: x86-64 code and constants that refer to each other by distance.
Anything else is refused.

Source: the ELF-64 object file format, and its x86-64 supplement (https://gitlab.com/x86-psABIs/x86-64-ABI).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

# What compilers call by themselves, found in every C library.
OUTSIDE = ("memcpy", "memmove", "memset")

_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QIIq")
_PROGBITS, _SYMTAB, _RELA = 1, 2, 4
_WRITABLE, _ALLOCATED = 1, 2
_PC32, _PLT32 = 2, 4
_X86_64 = 62
_STUB = b"\xff\x25\x02\x00\x00\x00\x90\x90" + bytes(8)  # jump to the address in the eight bytes behind


class LinkError(Exception):
    """An object file that can't become an image."""


class Linked(NamedTuple):
    """Code and constants at their places.

    Attributes:
        image: To be put at a multiple of 64.
        symbols: Offset of each function asked for.
        addresses: Offset of the eight bytes for the address of each function of `OUTSIDE` that is called.
    """

    image: bytes
    symbols: dict[str, int]
    addresses: dict[str, int]


class _Section(NamedTuple):
    name: str
    kind: int
    flags: int
    content: bytes
    target: int
    alignment: int


def linked(object_file: bytes, names: list[str]) -> Linked:
    """The image of an object file for x86-64.

    Args:
        object_file: As LLVM emits it.
        names: Functions to say the places of.

    Raises:
        LinkError: Names what isn't understood.
    """
    try:
        return _linked(object_file, names)
    except (struct.error, IndexError, ValueError) as error:
        raise LinkError(f"The object file is damaged: {error}.") from error


def _linked(object_file: bytes, names: list[str]) -> Linked:
    if object_file[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", object_file, 16) != (1, _X86_64):
        raise LinkError("Not an object file for x86-64.")
    sections = _sections(object_file)
    image = bytearray()
    places: dict[int, int] = {}
    for number, section in enumerate(sections):
        if not section.flags & _ALLOCATED or section.name == ".eh_frame":
            continue
        if section.kind != _PROGBITS or section.flags & _WRITABLE:
            if section.content:
                raise LinkError(f"Section {section.name} is neither code nor constants.")
            continue
        image += bytes(-len(image) % max(section.alignment, 1))
        places[number] = len(image)
        image += section.content
    image += bytes(-len(image) % 16)

    symbols = _symbols(sections)
    addresses: dict[str, int] = {}
    stubs: dict[str, int] = {}
    for section in sections:
        if section.kind != _RELA or section.target not in places:
            continue
        for at, kind, symbol, addend in _RELOCATION.iter_unpack(section.content):
            name, in_section, value = symbols[symbol]
            if kind not in (_PC32, _PLT32):
                raise LinkError(f"Relocation {kind} to {name or 'a section'} is unknown.")
            if in_section in places:
                goal = places[in_section] + value
            elif in_section == 0 and kind == _PLT32 and name in OUTSIDE:
                if name not in stubs:
                    stubs[name] = len(image)
                    addresses[name] = len(image) + 8
                    image += _STUB
                goal = stubs[name]
            else:
                raise LinkError(f"{name or in_section} is not in the image.")
            place = places[section.target] + at
            struct.pack_into("<i", image, place, goal + addend - place)
    found = {name: places[number] + value for name, number, value in symbols if number in places}
    missing = [name for name in names if name not in found]
    if missing:
        raise LinkError(f"The object file lacks {', '.join(missing)}.")
    return Linked(bytes(image), {name: found[name] for name in names}, addresses)


def _sections(object_file: bytes) -> list[_Section]:
    (start,) = struct.unpack_from("<Q", object_file, 40)
    size, count, names_in = struct.unpack_from("<HHH", object_file, 58)
    headers = [_SECTION.unpack_from(object_file, start + size * i) for i in range(count)]
    names = object_file[headers[names_in][4] :]
    return [
        _Section(
            _name_at(names, header[0]),
            header[1],
            header[2],
            object_file[header[4] :][: header[5]],
            header[7],
            header[8],
        )
        for header in headers
    ]


def _symbols(sections: list[_Section]) -> list[tuple[str, int, int]]:
    """(name, number of its section, place in it) of each symbol; section 0 for those that are elsewhere."""
    found = []
    names = next((section.content for section in sections if section.name == ".strtab"), b"")
    for section in sections:
        if section.kind == _SYMTAB:
            found += [
                (_name_at(names, name), number, value)
                for name, _, _, number, value, _ in _SYMBOL.iter_unpack(section.content)
            ]
    return found


def _name_at(names: bytes, place: int) -> str:
    return names[place : names.index(b"\0", place)].decode()
