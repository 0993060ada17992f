"""Forms of adopted columns, a few of each kind, and values that look like what such columns hold."""

from __future__ import annotations

import json
import struct

from hypothesis import strategies as st

from mirror.core.adopted import Form
from mirror.core.values import Value

FORMS = (
    Form("timestamptz"),
    Form("timestamptz", zone="Europe/Berlin", unit="s", digits=3),
    Form("timestamptz", zone="America/Havana", unit="ms", digits=0, empty_is_null=True),
    Form("timestamp"),
    Form("timestamp", zone="Europe/Berlin", unit="us", digits=3),
    Form("timestamp", zone="Europe/Paris", unit="ms", digits=0, empty_is_null=True),
    Form("date"),
    Form("date", zone="America/Havana", unit="s"),
    Form("time"),
    Form("time", digits=3),
    Form("interval", unit="us"),
    Form("interval", unit="s", digits=0),
    Form("interval", unit="datetime"),
    Form("interval", unit="clock"),
    Form("interval", unit="iso", digits=3),
    Form("uuid"),
    Form("boolean"),
    Form("jsonb"),
    Form("json"),
    Form("numeric"),
    Form("numeric", precision=6, scale=2),
    Form("numeric", precision=3, scale=-2),
    Form("numeric", precision=2, scale=4, real_digits=15),
    Form("int2"),
    Form("int4"),
    Form("int8"),
    Form("int4", scale=0),
    Form("float4"),
    Form("float8"),
    Form("text"),
    Form("varchar", length=5),
    Form("char", length=5),
    Form("citext"),
    Form("bytea"),
    Form("enum", labels=("red", "light blue", "it's")),
    Form("inet"),
    Form("cidr"),
    Form("array", element=Form("text")),
    Form("array", element=Form("int4")),
    Form("array", element=Form("numeric", precision=6, scale=2)),
    Form("array", element=Form("timestamptz", unit="s")),
    Form("array", element=Form("boolean")),
    Form("array", element=Form("float8")),
    Form("array", element=Form("bytea")),
    Form("array", element=Form("jsonb")),
    Form("vector"),
    Form("vector", length=3),
    Form("halfvec"),
)

_TRAPS = r"""now|today|infinity|epoch|allballs|01/02/2026|20260101|2026-01-02 24:00|2026-01-02 03:04:60|0x1F|1_000|\x00
 5 |5|1.|.5|NaN|Infinity|-0|1e3|1e400|2026-02-29|2024-02-29|0000-00-00|0001-01-01|9999-12-31 23:59:59.9999999
2026-03-29 02:30:00|2026-10-25 02:30:00|2026-10-25T02:30:00+01:00|2026-07-02T22:00:00Z|t|f|true|false|red|light blue
it's|Red|null|{}|[]|[1,2]|[[1],[2]]|["a","NULL",null]|{"a":1,"a":2}|"\u0000"|"\ud800"|[1e400]|[true]|10.1|10.0.0.1
10.0.0.1/8|10.0.0.0/8|::1|::1/64|fe80::1%eth0|::ffff:1.2.3.4|1 day, 2:03:04.5|-1 day, 23:59:59|-0:00:05|P1DT2H|-PT5.5S
PT1,5S|12:00+02|03:04|12:34:56.5|23:59:59.999999|23:59:59.9999999|3.335|99999.995|0.00995|-12.50|a b |  |\|"|'|{a,b}
{"a"}|äöü|😀|01234567-89ab-cdef-0123-456789abcdef|0123456789ABCDEF0123456789abcdef
urn:uuid:01234567-89ab-cdef-0123-456789abcdef|１２|1969-12-31 23:59:59.500000|2026-01-02|["2026-01-02T00:00:00Z"]
[0.335,null]|[true,false]|[[]]|[[1,2],[3]]|0000-00-00 24:00|0000-00-00 00:00:00Z|0000-00-00x|2026-11-01 04:00Z
2026-11-01 05:00Z|2026-10-25 02:59:59.9999999+02:00|2026-03-29 01:59:59.9999999|9999-12-31 23:59:59.9999999Z|24:00:00
999999999 days, 23:59:59.9999996|-1000000000 days, 23:59:59.9999999|-999999999 days, 0:00:00|P|PT|P1DT
PT00000000000000001S|-PT86399999913600S|0.1e131072|0e131072|00e131071|1e-16383|10e-16384|1e0000000001|1.0e-16383|::/08|10.0.0.0/08
000000000000000000012|{"a":"\ud800","a":1}|{"a":"\u0000","a":1}|"\\u0000"|"\ud83d\ude00"
[1,null,1e2,-0]|["\ud800"]|[[[[[[1]]]]]]|[[[[[[[1]]]]]]]| null"""
#: Of members of an object, as they are written: two are one name.
NAMES = ['"a"', r'"\u0061"', '"b"', r'"\""', r'"a\\"']
#: What Postgres' own input takes and codecs do not, limits of what they take, and some of all that they do.
TRAPS = [trap for line in _TRAPS.split("\n") for trap in line.split("|")]


def hostile_values() -> st.SearchStrategy[Value]:
    """Values of every storage class: traps, times, numbers, JSON, and anything else."""
    offsets = st.sampled_from(["", "", "Z", "+02:00", "-0530", "+23:59", "+00:00"])
    times = st.builds(
        lambda day, separator, fraction, offset: (
            f"{day:%Y}".rjust(4, "0") + f"{day:-%m-%d}{separator}{day:%H:%M:%S}{fraction}{offset}"
        ),
        st.datetimes(),
        st.sampled_from(" T"),
        st.from_regex(r"\A(\.[0-9]{1,9})?\Z"),
        offsets,
    )
    scalars = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=8)
    )
    documents = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
    )
    return st.one_of(
        st.none(),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(-100_000, 100_000),
        st.integers(-62_135_596_801, 253_402_300_800),
        st.floats(allow_nan=False),
        st.floats(-1e6, 1e6),
        st.floats(-7e10, 3e11),
        st.floats(-7e16, 3e17),
        st.integers(-62_135_596_801_000, 253_402_300_800_000),
        st.integers(-(10**7), 10**7).map(lambda number: number / 1000),
        st.sampled_from(TRAPS),
        times,
        times.map(lambda text: text[:10]),
        times.map(lambda text: text[11:]),
        st.decimals(allow_nan=False, allow_infinity=False).map(str),
        st.integers(-(10**7), 10**7).map(lambda number: str(number / 1000)),
        documents.map(json.dumps),
        st.lists(st.tuples(st.sampled_from(NAMES), documents.map(json.dumps)), max_size=3).map(
            lambda members: f"[{{{', '.join(f'{name}: {value}' for name, value in members)}}}]"
        ),
        st.uuids().flatmap(lambda found: st.sampled_from([str(found), found.hex.upper(), found.bytes, found.urn])),
        st.ip_addresses().flatmap(lambda found: st.sampled_from([str(found), f"{found}/{found.max_prefixlen - 8}"])),
        st.timedeltas().map(str),
        st.text(max_size=20),
        st.binary(max_size=20),
        st.lists(st.floats(width=32), max_size=4).map(lambda numbers: struct.pack(f"<{len(numbers)}f", *numbers)),
        st.lists(st.floats(-7e4, 7e4, width=32), min_size=3, max_size=3).map(lambda three: struct.pack("<3f", *three)),
    )
