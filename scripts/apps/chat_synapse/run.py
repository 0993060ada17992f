"""A chat at work: fill, write SEED COUNT, wait SEED UNTIL, look FILE, use."""

import hashlib
import json
import os
import pickle
import random
import sys
import time
import traceback
from pathlib import Path

from client import Person, RefusedError, login, path, register

#: Who is there and what they have: written by ``fill``, for all that follows.
KNOWN = Path("known.json")
#: How far each has read when ``look`` was called on SQLite.
LAST = Path("last.json")
#: What no other word is cut to, so that both stores' search finds the same; and texts in all letters.
WORDS = ["quartz", "zebra", "fjord", "kiosk", "mango", "oxbow", "pylon", "tundra", "vortex", "walrus"]
TEXTS = ["plain", "ü😀é", "line\nline", 'q"uote\\back', "tab\tand\x01", "{}", "a'b%_", "nul\u0000inside", "x" * 3000]
SEARCHED = [*WORDS, "nul", "lobby", "topic"]


def text(draw, name):
    """A message's text, with a word to find it by."""
    return f"{draw.choice(TEXTS)} {draw.choice(WORDS)} {name}"


# ---------------------------------------------------------------------------------------------- before the mirror


def fill():
    """People, rooms, messages, and what else a chat has."""
    draw = random.Random(7)
    people = {name: register(name) for name in ("anna", "bert", "clara", "dora")}
    people |= {f"number {at}": register() for at in range(3)}
    people["guest"] = register(guest=True)
    anna, bert, clara, dora = (people[name] for name in ("anna", "bert", "clara", "dora"))
    for name, person in people.items():
        if name != "guest":
            person.put("profile", person.user, "displayname", displayname=f"{name.title()} ü😀")
    picture = json.loads(anna.call("POST", "/_matrix/media/v3/upload", b"a picture", kind="image/png", raw=True))[
        "content_uri"
    ]
    anna.put("profile", anna.user, "avatar_url", avatar_url=picture)
    lobby = anna.post(
        "createRoom",
        preset="public_chat",
        visibility="public",
        room_alias_name="lobby",
        name="The lobby",
        topic="any topic",
    )["room_id"]
    board = bert.post("createRoom", preset="private_chat", name="Board", invite=[anna.user, clara.user])["room_id"]
    pair = clara.post("createRoom", preset="trusted_private_chat", is_direct=True, invite=[dora.user])["room_id"]
    rooms = {"lobby": lobby, "board": board, "pair": pair}
    for person in people.values():
        if person.user not in (anna.user, people["guest"].user):
            person.post("join", lobby)
    anna.post("join", board)
    clara.post("rooms", board, "leave")
    dora.post("join", pair)
    for at in range(60):
        name = draw.choice(list(rooms))
        sender = draw.choice({"lobby": [anna, bert, clara, dora], "board": [anna, bert], "pair": [clara, dora]}[name])
        event = sender.say(rooms[name], f"fill {at}", text(draw, f"fill {at}"))
        follow_up(draw, sender, rooms[name], event, f"fill {at}")
    keys(anna)
    old = login("anna")
    old.post("logout")
    login("bert").put("devices", bert.device, display_name="other")
    anna.put("user", anna.user, "account_data", "m.direct", **{bert.user: [board]})
    anna.put("pushrules", "global", "content", "zebra", actions=["notify", {"set_tweak": "highlight"}], pattern="zebra")
    anna.post("user", anna.user, "filter", room={"timeline": {"limit": 5}})
    bert.put("user", bert.user, "account_data", "m.ignored_user_list", ignored_users={people["number 0"].user: {}})
    known = {
        "people": {name: [each.user, each.token, each.device] for name, each in people.items()},
        "rooms": rooms,
        "since": {name: each.get("sync", timeout=0)["next_batch"] for name, each in people.items()},
        "picture": picture,
    }
    KNOWN.write_text(json.dumps(known))


def keys(person):
    """Keys for encryption, as far as the server reads them."""
    its = {"user_id": person.user, "device_id": person.device, "algorithms": ["m.olm.v1"], "keys": {}, "signatures": {}}
    its["keys"] = {f"curve25519:{person.device}": "k" * 43}
    once = {f"signed_curve25519:{at:06}": {"key": f"{at:043}", "signatures": {}} for at in range(5)}
    person.post("keys", "upload", device_keys=its, one_time_keys=once)


def follow_up(draw, sender, room, event, mark):
    """What may be done about a message."""
    match draw.randrange(9):
        case 0:
            sender.put("rooms", room, "redact", event, f"{mark} redacts", reason="wrong")
        case 1:
            relates = {"rel_type": "m.annotation", "event_id": event, "key": "👍"}
            sender.send(room, f"{mark} likes", "m.reaction", **{"m.relates_to": relates})
        case 2:
            relates = {"rel_type": "m.replace", "event_id": event}
            new = {"msgtype": "m.text", "body": f"edited {mark}"}
            sender.say(room, f"{mark} edits", f"* edited {mark}", **{"m.new_content": new, "m.relates_to": relates})
        case 3:
            relates = {"rel_type": "m.thread", "event_id": event}
            sender.say(room, f"{mark} threads", f"in a thread {mark}", **{"m.relates_to": relates})
        case 4:
            sender.post("rooms", room, "receipt", "m.read", event)
        case 5:
            sender.post("rooms", room, "read_markers", **{"m.fully_read": event, "m.read": event})
        case 6:
            sender.put("user", sender.user, "rooms", room, "tags", draw.choice(WORDS), order=draw.random())
        case 7:
            sender.put("user", sender.user, "rooms", room, "account_data", "test.note", last=mark, at=draw.random())
        case _:
            pass


def known():
    """What ``fill`` has written, and how far each has read on SQLite."""
    found = json.loads(KNOWN.read_text())
    found["last"] = json.loads(LAST.read_text()) if LAST.exists() else {}
    found["people"] = {name: Person(*each) for name, each in found["people"].items()}
    return found


# ------------------------------------------------------------------------------------------- beside the mirror


def write(seed, count):
    """A person's program, which is new and makes so many rounds; each is one line."""
    draw = random.Random(seed)
    mine, there = register(f"writer{seed}"), known()
    lobby, anna = there["rooms"]["lobby"], there["people"]["anna"]
    mine.post("join", lobby)
    own = mine.post("createRoom", preset="private_chat", name=f"Room {seed}", invite=[anna.user])["room_id"]
    anna.post("join", own)
    for at in range(1, count + 1):
        mark = f"{seed}-{at}"
        room = draw.choice([lobby, own])
        event = mine.say(room, mark, text(draw, mark))
        follow_up(draw, mine, room, event, mark)
        match at % 10:
            case 1:
                mine.put("profile", mine.user, "displayname", displayname=f"Writer {mark} é")
            case 3:
                mine.put("rooms", own, "state", "m.room.topic", topic=f"topic {mark} {draw.choice(WORDS)}")
            case 5:
                messages = {anna.user: {anna.device: {"body": f"to a device {mark}"}}}
                mine.put("sendToDevice", "test.kind", f"device {mark}", messages=messages)
            case 7:
                someone = register()
                someone.post("join", lobby)
                someone.say(lobby, mark, f"hello {draw.choice(WORDS)} {mark}")
                mine.post("createRoom", preset="private_chat", name=f"Side {mark}", invite=[someone.user])
            case 9:
                keys(mine)
                mine.post("rooms", own, "invite", user_id=there["people"]["dora"].user)
                mine.post("rooms", own, "kick", user_id=there["people"]["dora"].user)
            case _:
                mine.put("rooms", own, "typing", mine.user, typing=True, timeout=100)
        print(at, flush=True)


def wait(seed, until):
    """Sends one message after the other, through whatever happens to the server, until there is a file; then says
    whether each is there once, and the longest time between two answers."""
    mine = register(f"waiter{seed}")
    room = mine.post("createRoom", preset="private_chat", name=f"Waiting {seed}")["room_id"]
    since = mine.get("sync", timeout=0)["next_batch"]
    sent, synced, longest = [], [], 0.0
    last = time.monotonic()
    while not Path(until).exists():
        sent.append(mine.say(room, f"wait {len(sent)}", f"waiting {len(sent)}"))
        now = time.monotonic()
        longest, last = max(longest, now - last), now
        news = mine.get("sync", since=since, timeout=0)
        since = news["next_batch"]
        events = news.get("rooms", {}).get("join", {}).get(room, {}).get("timeline", {}).get("events", ())
        synced += [each["event_id"] for each in events if each["type"] == "m.room.message"]
        print(len(sent), flush=True)
    there = [each["event_id"] for each in history(mine, room) if each["type"] == "m.room.message"]
    report = {"sent": len(sent), "pause": longest, "tries": Person.tries, "in_order": there == sent}
    report |= {
        "doubled": len(there) - len(set(there)),
        "lost": len(set(sent) - set(there)),
        "each_synced": synced == sent,
    }
    print(json.dumps(report), flush=True)


# ------------------------------------------------------------------------------------------------ what can be read

#: What says when and from where something is read, and where to read on.
_FLEETING = {
    "age", "end", "last_seen_ip", "last_seen_ts", "last_seen_user_agent", "next_batch", "presence", "prev_batch",
    "start", "next_link",
}  # fmt: skip


#: Parts of a sync that are compared in a way of their own.
_OWN = {"account_data", "device_lists", "rooms"}


def plain(value):
    """An answer without what is fleeting."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if name not in _FLEETING}
    return [plain(each) for each in value] if isinstance(value, list) else value


def history(person, room):
    """All events of a room, from the first one."""
    found, at = [], {}
    while True:
        page = person.get("rooms", room, "messages", dir="f", limit=100, **at)
        found += page["chunk"]
        if not page.get("end"):
            return found
        at = {"from": page["end"]}


def by_key(events):
    """Events that have no order, by their ids."""
    return {each.get("event_id") or each["type"]: plain(each) for each in events}


def seen():
    """By kind, what each person sees."""
    there = known()
    everything = json.dumps({"room": {"timeline": {"limit": 10_000}, "state": {"lazy_load_members": False}}})
    kinds = (
        "device lists",
        "profile",
        "sync",
        "news",
        "rooms",
        "devices",
        "keys",
        "room",
        "events",
        "state",
        "members",
        "relations",
    )
    found, last = {kind: {} for kind in kinds}, {}
    for name, person in there["people"].items():
        found["profile"][name] = person.get("profile", person.user)
        found["rooms"][name] = {"joined": sorted(person.get("joined_rooms")["joined_rooms"])}
        found["devices"][name] = {each["device_id"]: plain(each) for each in person.get("devices")["devices"]}
        found["keys"][name] = person.post("keys", "query", device_keys={person.user: []})
        for kind, given in (("sync", {}), ("news", {"since": there["since"][name]})):
            whole = person.get("sync", timeout=0, filter=everything, **given)
            last[name] = whole["next_batch"]
            found[kind][name] = {
                **{part: plain(each) for part, each in whole.items() if part not in _OWN | _FLEETING},
                "account_data": by_key(whole.get("account_data", {}).get("events", ())),
                "invited": sorted(whole.get("rooms", {}).get("invite", ())),
                "left": sorted(whole.get("rooms", {}).get("leave", ())),
            }
            # Not those who have left: of some Synapse tells only after it was started again.
            changed = whole.get("device_lists", {}).get("changed", ())
            found["device lists"] |= {f"{name} {kind} {each}": {} for each in changed}
            for room, each in whole.get("rooms", {}).get("join", {}).items():
                parts = {
                    part: by_key(each.get(part, {}).get("events", ()))
                    for part in ("state", "account_data", "ephemeral")
                }
                parts["ephemeral"].pop("m.typing", None)
                parts |= {part: plain(each.get(part)) for part in ("timeline", "unread_notifications", "summary")}
                found[kind][f"{name} {room}"] = parts
        for room in found["rooms"][name]["joined"]:
            events = history(person, room)
            found["room"][f"{name} {room}"] = {"order": [each["event_id"] for each in events]}
            found["events"] |= {f"{name} {each['event_id']}": plain(each) for each in events}
            found["state"][f"{name} {room}"] = by_key(person.get("rooms", room, "state"))
            found["members"][f"{name} {room}"] = person.get("rooms", room, "joined_members")["joined"]
            for event in events[-5:]:
                place = path("rooms", room, "relations", event["event_id"]).replace("v3", "v1")
                try:
                    related = plain(person.call("GET", place))
                except RefusedError as error:
                    related = {"refused": str(error)}
                found["relations"][f"{name} {event['event_id']}"] = related
    if os.environ["CHAT_STORE"] == "sqlite":
        LAST.write_text(json.dumps(last))
    return found


def answers():
    """Questions of which both stores must have one answer."""
    there = known()
    anna, lobby = there["people"]["anna"], there["rooms"]["lobby"]
    alias = "#lobby:" + anna.user.partition(":")[2]
    asked = {f"search for {word}": (*found_by(anna, word),) for word in SEARCHED}
    asked |= {
        "who is anna": anna.get("account", "whoami"),
        "alias": anna.get("directory", "room", alias)["room_id"],
        "public rooms": plain(anna.get("publicRooms")),
        "people called writer": sorted(
            each["user_id"] for each in anna.post("user_directory", "search", search_term="writer", limit=50)["results"]
        ),
        "people called Bert": anna.post("user_directory", "search", search_term="Bert ü")["results"],
        "push rules": anna.get("pushrules", ""),
        "notifications": plain(anna.get("notifications", limit=50)),
        "tags": anna.get("user", anna.user, "rooms", lobby, "tags"),
        "direct": anna.get("user", anna.user, "account_data", "m.direct"),
        "filter": anna.get("user", anna.user, "filter", "0"),
        "visibility": anna.get("directory", "list", "room", lobby),
        "picture": anna.call(
            "GET", "/_matrix/client/v1/media/download/" + there["picture"].removeprefix("mxc://"), raw=True
        ),
        "threads": plain(anna.call("GET", path("rooms", lobby, "threads").replace("v3", "v1"))),
    }
    return {question: str(answer) for question, answer in asked.items()}


def found_by(person, word):
    """The ids of the events that a search finds, from the newest on, and how many the server counts."""
    keys = ["content.body", "content.name", "content.topic"]
    asked = {"search_term": word, "order_by": "recent", "keys": keys, "filter": {"limit": 20}}
    found, query = [], {}
    while True:
        page = person.call("POST", path("search"), {"search_categories": {"room_events": asked}}, query=query)
        page = page["search_categories"]["room_events"]
        found += [each["result"]["event_id"] for each in page["results"]]
        if not page.get("next_batch"):
            return hashlib.sha256(" ".join(found).encode()).hexdigest()[:12], len(found), page["count"]
        query = {"next_batch": page["next_batch"]}


# ----------------------------------------------------------------------------------------- its own calls in Postgres


def use():
    """What people do, each as one line of JSON: what, and the error."""
    there = known()
    for step in STEPS:
        error = ""
        try:
            step(there)
        except BaseException as found:
            error = "".join(traceback.format_exception(found)[-3:])
        print(json.dumps({"step": step.__doc__.rstrip("."), "error": error}), flush=True)


def messages(there):
    """A message is sent, read by another one's sync that waits for it, and found by search."""
    anna, bert, lobby = there["people"]["anna"], there["people"]["bert"], there["rooms"]["lobby"]
    since = bert.get("sync", timeout=0)["next_batch"]
    before = found_by(anna, "zebra")
    event = anna.say(lobby, "use 1", "a new zebra")
    news = bert.get("sync", since=since, timeout=10_000)
    events = news["rooms"]["join"][lobby]["timeline"]["events"]
    assert [each["event_id"] for each in events] == [event], events
    assert history(bert, lobby)[-1]["event_id"] == event
    assert found_by(anna, "zebra")[1] == before[1] + 1


def clients_that_come_back(there):
    """What is new comes with the sync that goes on from what was read on SQLite."""
    anna, dora, lobby = there["people"]["anna"], there["people"]["dora"], there["rooms"]["lobby"]
    since = there["last"]["anna"]
    dora.put("sendToDevice", "test.use", "come back", messages={anna.user: {anna.device: {"at": 0}}})
    event = dora.say(lobby, "come back", "since then")
    dora.post("rooms", lobby, "receipt", "m.read", event)
    anna.put("user", anna.user, "account_data", "test.back", at=0)
    news = anna.get("sync", since=since, timeout=0)
    joined = news["rooms"]["join"][lobby]
    assert [each["type"] for each in news["to_device"]["events"]] == ["test.use"], news.get("to_device")
    assert event in {each["event_id"] for each in joined["timeline"]["events"]}
    assert any(event in each["content"] for each in joined["ephemeral"]["events"])
    assert "test.back" in {each["type"] for each in news["account_data"]["events"]}


def every_stream(there):
    """What is new of each kind comes with the sync that goes on from the last one."""
    anna, bert, lobby = there["people"]["anna"], there["people"]["bert"], there["rooms"]["lobby"]
    event = history(anna, lobby)[-1]["event_id"]
    to_device = {anna.user: {anna.device: {"at": 1}}}
    acts = {
        "account data": lambda: anna.put("user", anna.user, "account_data", "test.use", at=1),
        "a room's": lambda: anna.put("user", anna.user, "rooms", lobby, "account_data", "test.use", at=1),
        "tags": lambda: anna.put("user", anna.user, "rooms", lobby, "tags", "use", order=0.5),
        "receipts": lambda: bert.post("rooms", lobby, "receipt", "m.read", event),
        "messages to devices": lambda: bert.put("sendToDevice", "test.use", "use", messages=to_device),
        "keys": lambda: keys(bert),
        "push rules": lambda: anna.put("pushrules", "global", "content", "use", actions=["notify"], pattern="use"),
        "messages": lambda: bert.say(lobby, "each", "each"),
    }
    for what, act in acts.items():
        since = anna.get("sync", timeout=0)["next_batch"]
        act()
        news = anna.get("sync", since=since, timeout=5_000)
        assert {"account_data", "rooms", "to_device", "device_lists"} & news.keys(), f"nothing came of {what}: {news}"


def rooms_and_people(there):
    """New people, also those with a number, log in, make rooms, invite and join."""
    anna = there["people"]["anna"]
    new, numbered, guest = register("newcomer"), register(), register(guest=True)
    old = {each.user for each in there["people"].values()}
    assert not {new.user, numbered.user, guest.user} & old
    again = login("newcomer")
    room = again.post(
        "createRoom", preset="public_chat", visibility="public", room_alias_name="new", invite=[anna.user]
    )["room_id"]
    for person in (anna, numbered):
        person.post("join", room)
        person.say(room, "hello", "hello")
    assert len(again.get("rooms", room, "joined_members")["joined"]) == 3
    until(lambda: anna.post("user_directory", "search", search_term="newcomer")["results"])
    found = anna.post("user_directory", "search", search_term="newcomer")["results"]
    assert [each["user_id"] for each in found] == [new.user]
    assert room in {each["room_id"] for each in anna.get("publicRooms")["chunk"]}


def old_transactions(there):
    """What was sent before the move is not sent again under the same transaction."""
    anna, lobby = there["people"]["anna"], there["rooms"]["lobby"]
    events = history(anna, lobby)
    sent = next(each for each in events if each["sender"] == anna.user and "transaction_id" in each.get("unsigned", {}))
    again = anna.say(lobby, sent["unsigned"]["transaction_id"], "another text")
    assert again == sent["event_id"] and len(history(anna, lobby)) == len(events)


def changes(there):
    """State, profiles, redactions, leaving, and logging out."""
    anna, bert, lobby = there["people"]["anna"], there["people"]["bert"], there["rooms"]["lobby"]
    anna.put("rooms", lobby, "state", "m.room.topic", topic="another topic")
    assert bert.get("rooms", lobby, "state", "m.room.topic")["topic"] == "another topic"
    anna.put("profile", anna.user, "displayname", displayname="Anna anew")
    # Synapse tells the rooms in the background.
    until(lambda: bert.get("rooms", lobby, "joined_members")["joined"][anna.user]["display_name"] == "Anna anew")
    event = bert.say(lobby, "use 2", "gone soon")
    bert.put("rooms", lobby, "redact", event, "use 3")
    assert bert.get("rooms", lobby, "event", event)["content"] == {}
    dora = there["people"]["dora"]
    dora.post("rooms", lobby, "leave")
    assert lobby not in dora.get("joined_rooms")["joined_rooms"]
    other = login("dora")
    other.post("logout")
    refused(401, lambda: other.get("account", "whoami"))


def forbidden(there):
    """What was forbidden is."""
    anna, clara = there["people"]["anna"], there["people"]["clara"]
    refused(403, lambda: clara.say(there["rooms"]["board"], "use 4", "not a member"))
    refused(403, lambda: clara.put("rooms", there["rooms"]["lobby"], "state", "m.room.name", name="mine"))
    refused(400, lambda: register("anna"))
    refused(400, lambda: anna.post("createRoom", room_alias_name="lobby"))


def until(look):
    """Wait for what the server does in the background."""
    end = time.monotonic() + 120
    while not look():
        assert time.monotonic() < end, "it has not done it"
        time.sleep(0.05)


def refused(code, call):
    """The server must refuse it, with a code."""
    try:
        call()
    except RefusedError as error:
        if error.code != code:
            raise
        return
    raise AssertionError("it was not refused")


STEPS = [
    clients_that_come_back, every_stream, messages, rooms_and_people, old_transactions, changes, forbidden,
]  # fmt: skip

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fill"]:
            fill()
        case ["write", given_seed, given_count]:
            write(int(given_seed), int(given_count))
        case ["wait", given_seed, given_path]:
            wait(int(given_seed), given_path)
        case ["look", given_path]:
            with open(given_path, "wb") as file:
                pickle.dump((seen(), answers()), file)
        case ["use"]:
            use()
