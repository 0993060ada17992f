"""Hot state on a real server: agents' state, presence, the dashboard's channel, context of channels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from mirror.core.errors import ConfigError, HotAwayError, HotFullError, HotStateError
from mirror.hot import presence
from mirror.hot.agents import AgentState
from mirror.hot.connection import Address, address, get_redis_client
from mirror.hot.dashboard import Event
from mirror.hot.facade import HotState, get_hot_state
from mirror.hot.names import Names
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until


@pytest.fixture
def raw(valkey: Address) -> redis.Redis:
    return get_redis_client(valkey)


def test_state_is_what_the_original_reads(hot: HotState, raw: redis.Redis) -> None:
    assert hot.agents.get("ada") is None
    hot.agents.set("ada", status="processing", last_activity="2026-11-29T06:47:00.123Z", current_valence=-0.5)
    hot.agents.set("ada", last_activity="2026-11-29T06:48:00.000Z", current_mood='glad "so"\n', current_arousal=1)
    assert raw.hgetall("agent:state:ada") == {
        "status": "processing",
        "lastActivity": "2026-11-29T06:48:00.000Z",
        "currentValence": "-0.5",
        "currentArousal": "1",
        "currentMood": 'glad "so"\n',
    }
    assert json.loads(str(raw.get("agent:ada:state"))) == {
        "status": "processing",
        "lastActivity": "2026-11-29T06:48:00.000Z",
        "currentValence": -0.5,
        "currentArousal": 1,
        "currentMood": 'glad "so"\n',
    }
    assert hot.agents.get("ada") == AgentState(
        "processing", "2026-11-29T06:48:00.000Z", 'glad "so"\n', current_valence=-0.5, current_arousal=1
    )
    assert hot.agents.delete("ada")
    assert not hot.agents.delete("ada")
    assert raw.keys("*") == []


def test_state_that_another_program_wrote(hot: HotState, raw: redis.Redis) -> None:
    """What is no number is no number, in the JSON a text; fields that are not ours stay."""
    for text in ("NaN", "", "0x10", "01", "1.", ".5", "1e", "-"):
        raw.hset("agent:state:ada", mapping={"currentValence": text, "colour": "red"})
        hot.agents.set("ada", last_activity="")
        assert json.loads(str(raw.get("agent:ada:state"))) == {
            "lastActivity": "",
            "currentValence": text,
            "colour": "red",
        }
    for text in ("-12", "0", "0.25", "1e-7", "-3.5E+10"):
        raw.hset("agent:state:ada", "currentValence", text)
        hot.agents.set("ada", last_activity="")
        assert json.loads(str(raw.get("agent:ada:state")))["currentValence"] == float(text)
    raw.hset("agent:state:ada", "currentValence", "NaN")
    assert hot.agents.get("ada") == AgentState("offline", "", others={"colour": "red"})


def test_arguments_that_readers_would_not_understand(hot: HotState) -> None:
    for wrong in ("", "state", "presence", "a b", "a:b", "{a}", "a\n", "x" * 129):
        with pytest.raises(ConfigError, match="make the name of a key"):
            hot.agents.set(wrong)
    with pytest.raises(ConfigError, match="no status"):
        hot.agents.set("ada", status="asleep")  # type: ignore[arg-type]
    for number in (float("nan"), float("inf"), True, "1"):
        with pytest.raises(ConfigError, match="current_valence"):
            hot.agents.set("ada", current_valence=number)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="UTF-8"):
        hot.agents.set("ada", current_mood="\ud800")
    with pytest.raises(ConfigError, match="no kind"):
        hot.dashboard.publish("other", "ada", {})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="JSON"):
        hot.dashboard.publish("mood_change", "ada", {"at": object()})
    with pytest.raises(ConfigError, match="summary is empty"):
        hot.context.append("ada", session_key="s", summary=" ")


def test_a_key_that_is_used_for_something_else(hot: HotState, raw: redis.Redis) -> None:
    raw.set("agent:state:ada", "text")
    with pytest.raises(HotStateError) as raised:
        hot.agents.set("ada", status="idle")
    assert (raised.value.code, raised.value.reply, raised.value.retryable) == ("hot", "WRONGTYPE", False)
    assert raw.get("agent:ada:state") is None


def test_bytes_that_are_no_text_are_kept(hot: HotState, raw: redis.Redis) -> None:
    raw.execute_command("HSET", "agent:state:ada", "currentMood", b"\xff\xfe")
    state = hot.agents.get("ada")
    assert state is not None
    assert state.current_mood is not None
    assert state.current_mood.encode("utf-8", "surrogateescape") == b"\xff\xfe"


def test_prefixes(valkey: Address, raw: redis.Redis) -> None:
    with get_hot_state(valkey, Names().with_prefix("two:")) as hot:
        hot.agents.set("ada", status="idle")
        hot.presence.beat("ada")
        hot.family.send("ada", "observation", "{}", "bob")
        hot.family.reader("ada").read()
        hot.context.append("ada", session_key="s", summary="hello")
        with hot.locks.take("heartbeat:ada"):
            assert all(str(name).startswith("two:") for name in raw.keys("*"))
        assert hot.presence.online() == ["ada"]
        assert len(raw.keys("two:*")) >= 8


def test_presence(hot: HotState, raw: redis.Redis) -> None:
    assert hot.presence.online() == []
    with hot.presence.keep("ada"):
        assert raw.get("agent:presence:ada") == "1"
        assert 0 < int(raw.ttl("agent:presence:ada")) <= 30
        assert hot.presence.is_online("ada")
        hot.presence.beat("bob", seconds=0.05)
        # The original writes no sorted set; its agents are known once they have read messages.
        raw.set("agent:presence:eve", "1", ex=30)
        assert hot.presence.is_online("eve")
        hot.family.reader("eve").read()
        until(lambda: hot.presence.online() == ["ada", "eve"])
        until(lambda: raw.zrange("agents:online", 0, -1) == ["ada"] or not hot.presence.online())
    assert hot.presence.online() == ["eve"]
    assert raw.zcard("agents:online") == 0


def test_presence_is_renewed_by_a_thread(hot: HotState, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the key was deleted meanwhile, as by FLUSHALL."""
    monkeypatch.setattr(presence, "EVERY", 0.02)
    with hot.presence.keep("ada"):
        for _ in range(3):
            raw.flushdb()
            until(lambda: hot.presence.online() == ["ada"])


def test_dashboard(hot: HotState, raw: redis.Redis) -> None:
    assert hot.dashboard.publish("mood_change", "ada", {"mood": "é"}) == 0
    with hot.dashboard.listen() as listener:
        raw.publish("channel:dashboard", "no JSON")
        raw.publish("channel:dashboard", "[1]")
        assert hot.dashboard.publish("mood_change", "ada", {"mood": "é"}) == 1
        assert listener.get(60) == Event("mood_change", "ada", {"mood": "é"})
        assert listener.get(0) is None
        heard = raw.pubsub()
        heard.subscribe("channel:dashboard")
        until(lambda: heard.get_message(timeout=1))
        hot.dashboard.publish("task_update", "ada", {"id": 7})
        said = until(lambda: heard.get_message(timeout=1))
        assert json.loads(said["data"]) == {"type": "task_update", "agentId": "ada", "data": {"id": 7}}
        heard.close()
        assert next(iter(listener)) == Event("task_update", "ada", {"id": 7})


def test_context_of_channels(hot: HotState, raw: redis.Redis) -> None:
    for number in range(300):
        hot.context.append("Ada L.", session_key=f"s{number % 2}", summary=f" {number} ", timestamp_ms=1000 + number)
    assert 50 <= int(raw.xlen("agent:cross_channel_log:ada-l")) <= 160
    for kept in ("agent:cross_channel_log:ada-l", "agent:shared_context:ada-l"):
        assert 86_000 < int(raw.ttl(kept)) <= 86_400
    found = hot.context.read("Ada L.", limit=3, exclude_session_key="s1")
    assert [(event.summary, event.timestamp_ms, event.session_key) for event in found] == [
        ("294", 1294, "s0"),
        ("296", 1296, "s0"),
        ("298", 1298, "s0"),
    ]
    assert hot.context.shared("ada-l")["lastSummary"] == "299"
    raw.xadd("agent:cross_channel_log:ada-l", {"other": "1"})
    assert [event.summary for event in hot.context.read("ada-l", limit=1)] == ["299"]
    with pytest.raises(ConfigError, match="limit"):
        hot.context.read("ada-l", limit=26)


def test_memory_is_full() -> None:
    """Who is online stays so, messages are read and acknowledged, locks are kept; what needs memory says so."""
    with ValkeyServer(**{"maxmemory-policy": "noeviction"}) as server:
        at = server.address()
        with get_hot_state(at) as hot, server.client(at) as raw:
            raw.set("filler", "x" * (2 << 20))
            hot.presence.beat("ada")
            hot.family.send("ada", "alert", {"n": 1}, "bob")
            hot.family.send("ada", "alert", {"n": 2}, "bob")
            lock = hot.locks.take("heartbeat:ada", 1.0)
            reader = hot.family.reader("bob", tries=1)
            [first, second] = reader.read()
            raw.config_set("maxmemory", "1mb")
            assert int(raw.info("memory")["used_memory"]) > 1 << 20
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                raw.set("agent:presence:ada", "1", ex=30)
            hot.presence.beat("ada")
            hot.presence.beat("new")
            assert hot.presence.online() == ["ada", "new"]
            for write in (
                lambda: hot.agents.set("ada", status="idle"),
                lambda: hot.family.send("ada", "alert", {}),
                lambda: hot.family.reader("eve").read(),
                lambda: hot.locks.take("other"),
                lambda: hot.context.append("ada", session_key="s", summary="x"),
            ):
                with pytest.raises(HotFullError) as raised:
                    write()
                assert (raised.value.code, raised.value.reply, raised.value.retryable) == ("hot.full", "OOM", True)
            assert not raw.exists("agent:state:ada", "agent:ada:state")
            reader.acknowledge(first)
            assert reader.fail(second, "no room") == "dead"
            assert [letter.reason for letter in hot.family.dead_letters()] == ["no room"]
            before = lock.fence
            assert lock.held
            assert lock.release()
            raw.config_set("maxmemory", 0)
            with hot.locks.take("heartbeat:ada") as again:
                assert again.fence > before


def test_configuration(folder: Path, valkey: Address) -> None:
    config = folder / "mirror.json"
    config.write_text("{}")
    assert address(config, {}) == Address("127.0.0.1", 6380, 0)
    config.write_text(json.dumps({"storage": {"redis": {"port": valkey.port, "db": valkey.db}}}))
    with get_hot_state(config) as hot:
        hot.agents.set("ada", status="idle")
    config.write_text(json.dumps({"storage": {"redis": {"host": "/run/redis.sock"}}}))
    at = address(config, {"MIRROR_REDIS_PASSWORD": "s3cret", "MIRROR_REDIS_USERNAME": "u"})
    assert (at.place, at.username, at.password) == ("redis /run/redis.sock/0", "u", "s3cret")
    assert "s3cret" not in repr(at)
    with pytest.raises(ConfigError):
        address(config, {"MIRROR_REDIS_USERNAME": "u"})


def test_a_unix_socket(folder: Path) -> None:
    path = folder / "valkey.sock"
    with ValkeyServer(unixsocket=str(path)), get_hot_state(Address(str(path))) as hot:
        hot.agents.set("ada", status="idle")
        assert hot.agents.get("ada") is not None
        with hot.dashboard.listen():
            assert hot.dashboard.publish("agent_status", "ada", {}) == 1


def test_passwords_are_in_no_error(folder: Path) -> None:
    with ValkeyServer() as server:
        server.client().config_set("requirepass", "s3cret")
        for password, reply in ((None, "NOAUTH"), ("wr0ng", "WRONGPASS")):
            with get_hot_state(Address(port=server.port, password=password)) as hot:
                with pytest.raises(HotStateError) as raised:
                    hot.agents.get("ada")
                assert (raised.value.reply, raised.value.retryable) == (reply, False)
                told = f"{raised.value} {raised.value.to_dict()} {raised.value.__cause__!r}"
                assert "wr0ng" not in told
                assert "s3cret" not in told
        with get_hot_state(Address(port=server.port, password="s3cret")) as hot:
            hot.agents.set("ada", status="idle")


def test_nobody_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with get_hot_state(Address(str(folder / "none.sock"))) as hot:
        hot._runner._patience = 0.1
        with pytest.raises(HotAwayError) as raised:
            hot.agents.get("ada")
        with pytest.raises(HotAwayError):
            hot.dashboard.publish("agent_status", "ada", {})
        with pytest.raises(HotAwayError):
            hot.dashboard.listen()
        with pytest.raises(HotAwayError):
            hot.family.reader("ada").read(wait=1)
    assert raised.value.retryable
    assert str(folder / "none.sock") in str(raised.value)
