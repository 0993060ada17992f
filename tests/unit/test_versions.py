"""Files of a newer mirror are refused, with both versions; those of before, without a format, are of format 1."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.capture.spool import SEGMENT_BYTES, Cursor, Kind, SpoolPlace, SpoolWriter, read_record, segment_path
from mirror.core.errors import NewerStateError
from mirror.core.files import write_atomically
from mirror.core.positions import Lsn, Position, Salts
from mirror.core.published import POSITION_FILE, SIZE, PublishedReader, Publisher
from mirror.core.saved_status import STATUS_FILE, save_report, saved_report
from mirror.core.source_settings import is_paused, remember_paused, remember_schema, remembered_schema
from mirror.core.status import STATUS_VERSION, StatusReport
from mirror.core.versions import STATE_FORMAT, package_version
from mirror.parity.proof import LastRun, keep, last_run
from mirror.replica.images import Images
from mirror.replica.shadow import SavedPosition, Shadow, saved_position
from mirror.replica.spool_reader import SpoolReader

SAVED = SavedPosition("lineage", 2, 7, Salts(1, 2), 5.0, SpoolPlace(1, 52), 4096, 3)
CURSOR = Cursor(2, 7, Salts(1, 2), (3, 4), 9, 4096, False, 11)


def rewrite(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    values = json.loads(path.read_bytes())
    summed = values.pop("crc", None) is not None
    change(values)
    if summed:
        values["crc"] = zlib.crc32(json.dumps(values).encode())
    path.write_bytes(json.dumps(values).encode())


def make_newer(path: Path) -> None:
    rewrite(path, lambda values: values.update(format=STATE_FORMAT + 1, mirror="0.9.0"))


def make_older(path: Path) -> None:
    """As a mirror wrote it that knew of no format."""

    def change(values: dict[str, object]) -> None:
        assert values.pop("format") == STATE_FORMAT and values.pop("mirror") == package_version()

    rewrite(path, change)


def refused(path: Path) -> str:
    return (
        f"{path}.*made by mirror 0.9.0 .state format {STATE_FORMAT + 1}.; this is mirror {package_version()}"
        f" .state format {STATE_FORMAT}. -- upgrade.*pip install --upgrade"
    )


def make_shadow(folder: Path) -> None:
    (folder / "spool").mkdir()
    (folder / "shadow.db").write_bytes(bytes(SAVED.pages * SAVED.page_size))
    images = Images(folder, SpoolReader(folder / "spool"))
    shadow = Shadow.create(folder, images, SAVED, {})
    shadow.commit(b"map")
    shadow.close()


def test_settings(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    remember_schema(tmp_path, "shop")
    make_older(path)
    assert remembered_schema(tmp_path) == "shop"
    make_newer(path)
    before = path.read_bytes()
    with pytest.raises(NewerStateError, match=refused(path)):
        remembered_schema(tmp_path)
    with pytest.raises(NewerStateError):
        is_paused(tmp_path)
    with pytest.raises(NewerStateError):
        remember_paused(tmp_path, paused=True)
    assert path.read_bytes() == before, "what a newer mirror remembers stays"


def test_the_shadow(tmp_path: Path) -> None:
    path = tmp_path / "shadow.json"
    make_shadow(tmp_path)
    make_older(path)
    assert saved_position(tmp_path) == SAVED
    opened = Shadow.open(tmp_path, Images(tmp_path, SpoolReader(tmp_path / "spool")))
    assert opened is not None and (opened[0].saved, opened[1]) == (SAVED, b"map")
    opened[0].close()
    make_newer(path)
    assert saved_position(tmp_path) is None
    with pytest.raises(NewerStateError, match=refused(path)):
        Shadow.open(tmp_path, Images(tmp_path, SpoolReader(tmp_path / "spool")))


def test_the_saved_status(tmp_path: Path) -> None:
    path, source = tmp_path / STATUS_FILE, Path("/x/\udcff.db")
    save_report(StatusReport(source="/x/a.db", schema="public", rejects=3), tmp_path)
    make_older(path)
    assert saved_report(source, "public", tmp_path).rejects == 3
    make_newer(path)
    report = saved_report(source, "public", tmp_path)
    assert report.rejects == 0 and report.last_error is not None and "mirror 0.9.0" in report.last_error
    assert report.error is not None and report.error["code"] == "state.newer"
    rewrite(path, lambda values: values.update(format=STATE_FORMAT, version=99))
    report = saved_report(source, "public", tmp_path)
    assert report.error is not None and report.error["code"] == "state.newer"
    assert report.last_error is not None and "mirror 0.9.0 (version of its values 99)" in report.last_error
    assert f"this is mirror {package_version()} (version of its values {STATUS_VERSION})" in report.last_error


def test_the_last_comparison(tmp_path: Path) -> None:
    path, last = tmp_path / "parity.json", LastRun("equal", 1.0, 5, "all")
    keep(tmp_path, last)
    make_older(path)
    assert last_run(tmp_path) == last
    make_newer(path)
    with pytest.raises(NewerStateError, match=refused(path)):
        last_run(tmp_path)


def spool(folder: Path) -> Path:
    (folder / "spool").mkdir()
    writer = SpoolWriter(folder / "spool")
    for _ in writer.open():
        pass
    writer.begin(Kind.GAP, CURSOR, 1.0)
    writer.close()
    return segment_path(folder / "spool", 1)


def with_format(path: Path, number: int) -> None:
    """Write another format into the first record's header, and the checksum of that."""
    data = bytearray(path.read_bytes())
    assert data[6:8] == struct.pack(">H", STATE_FORMAT)
    data[6:8] = struct.pack(">H", number)
    data[48:52] = struct.pack(">I", zlib.crc32(data[:48]))
    path.write_bytes(data)


def test_the_spool(tmp_path: Path) -> None:
    path = spool(tmp_path)
    with_format(path, 0)  # as it was before there was a format
    descriptor = os.open(path, os.O_RDONLY)
    try:
        record = read_record(descriptor, SpoolPlace(1, 0))
    finally:
        os.close(descriptor)
    assert record is not None and record.cursor() == CURSOR
    data = bytearray(path.read_bytes())
    data[6:8] = struct.pack(">H", STATE_FORMAT)
    path.write_bytes(data)
    with_format(path, STATE_FORMAT + 1)
    before = path.read_bytes()
    writer = SpoolWriter(tmp_path / "spool")
    with pytest.raises(
        NewerStateError, match=rf"segment 1\): it was made by a newer mirror .state format {STATE_FORMAT + 1}"
    ):
        for _ in writer.open():
            pass
    assert path.read_bytes() == before, "nothing is cut off"
    assert path.stat().st_size < SEGMENT_BYTES


def test_the_published_position(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish(1, 2, None, Position(Lsn(2, 7), Salts(1, 2), 5.0), wal=True)
    path, reader = tmp_path / POSITION_FILE, PublishedReader(tmp_path)
    assert (found := reader.read()) is not None and found.frame == 7
    assert path.read_bytes()[:8] == b"mirrpos1"
    write_atomically(path, b"mirrpos2".ljust(SIZE, b"\1"), durable=False)
    with pytest.raises(NewerStateError, match="state format 2"):
        reader.read(look=True)
    with pytest.raises(NewerStateError):
        Publisher(tmp_path)
    assert path.read_bytes()[:8] == b"mirrpos2", "it is not written over"
    reader.close()
