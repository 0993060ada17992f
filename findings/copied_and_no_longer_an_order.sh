#!/usr/bin/env bash
# langgraph-checkpoint 4.3.2 with langgraph-checkpoint-sqlite 3.1.2.
#
# A program keeps an object of its own class in a checkpoint. Another program, which does not have that class, copies the
# checkpoint from one SqliteSaver to another by their public methods, list() and put(). Nothing is raised, the number of
# checkpoints is right, and their ids are. But the first program gets a dict back where it had put an object: what cannot
# be imported is read as its fields alone, two lines of a log say so, and is then written as a mapping for good. Read
# from the file that was copied, the object is still one. So a copy by the savers needs all classes of the application,
# or has to carry the bytes.
#
# Output seen:
#   the application puts: Order(number=7)
#   the other program copies 1 checkpoint with {'number': 7}, warnings: 2
#   the application reads: from the first file Order(number=7), from the copy {'number': 7}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check langgraph-checkpoint==4.3.2 \
        langgraph-checkpoint-sqlite==3.1.2 || exit 2

mkdir "$folder/application"
cat >"$folder/application/shop_models.py" <<'EOF'
from dataclasses import dataclass


@dataclass
class Order:
    number: int
EOF
cat >"$folder/application/shop.py" <<'EOF'
import sys
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from shop_models import Order

THREAD = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}


def order(path):
    with SqliteSaver.from_conn_string(path) as saver:
        saver.serde = JsonPlusSerializer(allowed_msgpack_modules=[("shop_models", "Order")])
        return saver.get_tuple(THREAD).checkpoint["channel_values"]["order"]


first, *copies = sys.argv[1:]
if copies:
    print(f"the application reads: from the first file {order(first)}, from the copy {order(copies[0])}")
else:
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"order": Order(7)}
    checkpoint["channel_versions"] = {"order": 1}
    with SqliteSaver.from_conn_string(first) as saver:
        saver.put(THREAD, checkpoint, {"source": "input", "step": -1, "parents": {}}, {"order": 1})
    print(f"the application puts: {order(first)}")
EOF
cat >"$folder/copier.py" <<'EOF'
import logging
import sys
from langgraph.checkpoint.sqlite import SqliteSaver

warned = []
listener = logging.Handler()
listener.emit = warned.append
logging.getLogger().addHandler(listener)
with SqliteSaver.from_conn_string(sys.argv[1]) as ours, SqliteSaver.from_conn_string(sys.argv[2]) as theirs:
    copied = list(ours.list(None))
    for each in copied:
        theirs.put(each.config, each.checkpoint, each.metadata, each.checkpoint["channel_versions"])
values = copied[0].checkpoint["channel_values"]["order"]
print(f"the other program copies {len(copied)} checkpoint with {values}, warnings: {len(warned)}")
EOF

cd "$folder"
{
    PYTHONPATH=application venv/bin/python application/shop.py first.db
    venv/bin/python copier.py first.db copy.db
    PYTHONPATH=application venv/bin/python application/shop.py first.db copy.db
} 2>errors | tee seen || { cat errors >&2; exit 1; }

cmp --silent seen - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
the application puts: Order(number=7)
the other program copies 1 checkpoint with {'number': 7}, warnings: 2
the application reads: from the first file Order(number=7), from the copy {'number': 7}
EOF
