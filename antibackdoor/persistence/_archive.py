"""The zip archive that a file of skops is: looked through before it is unpacked."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from typing import Any

from antibackdoor.persistence._budget import check_budget

SCHEMA = "schema.json"

#: skops names an array after a number; no other name can lead out of the archive or hide in it.
_WANTED_NAME = re.compile(r"schema\.json|[0-9]{1,20}\.npy")

_MAX_MEMBERS = 100_000
#: What zipfile and this package keep of each.
_BYTES_OF_A_MEMBER = 2**11
#: Parsed, it takes some twenty times as much memory.
_MAX_SCHEMA_BYTES = 32 * 2**20
#: Weights shrink by a tenth, arrays of zeros by far more: few of those make up a model.
_MAX_RATIO = 100
_SMALL_BYTES = 16 * 2**20
_CHUNK = 2**20


def read_members(content: bytes, max_bytes: int) -> dict[str, bytearray]:
    """Unpack an archive, within bounds.

    Parameters
    ----------
    content : bytes
        Of the file.
    max_bytes : int
        How much the members may hold together.

    Returns
    -------
    dict of str to bytearray

    Raises
    ------
    ValueError
        If it is no archive, or holds anything that skops would not have written.
    """
    if not content.startswith(b"PK\x03\x04"):
        raise ValueError(
            "it is no zip archive as skops writes; pickles and files of joblib are not read"
        )
    # zipfile reads the whole directory as it opens an archive: its entries are counted first.
    n_members = content.count(b"PK\x01\x02")
    if n_members > _MAX_MEMBERS:
        raise ValueError(f"it has more than {_MAX_MEMBERS} members")
    check_budget("its directory takes", len(content) + n_members * _BYTES_OF_A_MEMBER, max_bytes)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            _check_directory(members, len(content), max_bytes)
            return {member.filename: _read_member(archive, member) for member in members}
    except (NotImplementedError, zipfile.BadZipFile) as error:
        raise ValueError(f"it is a broken or cut zip archive ({error})") from error


def pack(schema: dict[str, Any], arrays: Mapping[str, bytes | bytearray]) -> bytes:
    """Write an archive for skops out of what has been checked, and nothing else.

    What skops reads is then what was checked, whatever else the file's bytes can be
    taken for.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, array in arrays.items():
            with archive.open(name, "w") as member:
                member.write(array)
        archive.writestr(SCHEMA, json.dumps(schema))
    return packed.getvalue()


def _check_directory(members: list[zipfile.ZipInfo], n_bytes: int, max_bytes: int) -> None:
    # zipfile cuts `filename` at a NUL and turns backslashes on Windows: this is as written.
    names = [member.orig_filename for member in members]
    for name in names:
        if not _WANTED_NAME.fullmatch(name):
            raise ValueError(
                f"it has a member named {name[:80]!r}; wanted {SCHEMA} and arrays whose names "
                f"are numbers"
            )
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"it has more than one member named {repeated[0]!r}")
    if SCHEMA not in names:
        raise ValueError(f"it has no {SCHEMA}, so skops did not write it")
    for member in members:
        _check_entry(member)
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        raise ValueError(
            f"it unpacks to {total} bytes, more than max_bytes={max_bytes}; give a larger "
            f"max_bytes if you trust it"
        )
    # What grows piece by piece takes an eighth more.
    check_budget("unpacking it takes", n_bytes + total + total // 8, max_bytes)
    if total > max(_SMALL_BYTES, _MAX_RATIO * n_bytes):
        raise ValueError(f"it unpacks from {n_bytes} bytes to {total}, as zip bombs do")


def _check_entry(member: zipfile.ZipInfo) -> None:
    name = member.filename
    if member.flag_bits & 0x1:
        raise ValueError(f"its member {name} is encrypted")
    # The other methods can only be unpacked whole, whatever size they claim.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(
            f"its member {name} is compressed by method {member.compress_type}; wanted stored "
            f"or deflated"
        )
    if name == SCHEMA and member.file_size > _MAX_SCHEMA_BYTES:
        raise ValueError(f"its {SCHEMA} has {member.file_size} bytes, over {_MAX_SCHEMA_BYTES}")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytearray:
    # In pieces: a member that claims to be small is unpacked no further than it claims.
    content = bytearray()
    with archive.open(member) as file:
        while piece := file.read(_CHUNK):
            content += piece
    if len(content) != member.file_size:
        raise ValueError(
            f"its member {member.filename} has {len(content)} bytes, and claims {member.file_size}"
        )
    return content
