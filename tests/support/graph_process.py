"""A program on LangGraph: graphs with a checkpointer, and what it knows of their threads.

``python -m tests.support.graph_process sqlite|aiosqlite|postgres PLACE fill|look|goon``: ``fill`` runs all graphs up to
where they wait or fail; ``look`` prints all that the checkpointer has of each thread, as the program sees it; ``goon``
prints that, and what comes of it when it answers what is waited for and goes on, without what is new with each run.
"""

from __future__ import annotations

import asyncio
import json
import operator
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt

from tests.support.graph_models import Order

#: While it is set, the node that fails does not.
MENDED = "GRAPH_MENDED"


def joined(state: list[Any], writes: Sequence[list[Any]]) -> list[Any]:
    return [*(state or []), *(each for write in writes for each in write)]


class State(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]
    parts: Annotated[list[Any], operator.add]
    seen: Annotated[list[Any], DeltaChannel(joined, snapshot_frequency=3)]
    steps: int
    order: Order
    ratio: float
    text: str


def talk(state: State) -> Any:
    steps = state.get("steps", 0) + 1
    return {
        "steps": steps,
        "seen": [steps, Order(0, 0.5)],
        "messages": [AIMessage(f"step {steps}", id=f"m{steps}")],
        "order": Order(steps, steps / 3),
    }


def strange(state: State) -> Any:
    return {"ratio": 1e300, "text": "a\0b \u2028", "parts": [b"\0\xff", {1, 2}, (1, 2), {3: "x"}, -0.0, 2**62, None]}


def ask(state: State) -> Any:
    answer = interrupt({"what": "how many?", "order": Order(1, 2.5)})
    again = interrupt("sure?")
    return {"parts": [answer, again]}


def sibling(state: State) -> Any:
    return {"parts": ["the sibling was here"]}


def fails(state: State) -> Any:
    if MENDED not in os.environ:
        raise ValueError("not today")
    return {"parts": ["mended"]}


def split(state: State) -> Any:
    return [Send("part", {"steps": number}) for number in range(3)]


def part(state: State) -> Any:
    return {"parts": [state["steps"] * 10]}


def graphs(saver: Any) -> dict[str, Any]:
    def made(*edges: tuple[str, Any, str], sub: Any = None) -> Any:
        builder = StateGraph(State)
        nodes = {
            "talk": talk,
            "strange": strange,
            "ask": ask,
            "sibling": sibling,
            "fails": fails,
            "part": part,
            "sub": sub,
        }
        for start, to, _ in edges:
            for name in (start, *([to] if isinstance(to, str) else [])):
                if name in nodes and name not in builder.nodes:
                    builder.add_node(name, nodes[name])
        for start, to, _ in edges:
            if callable(to):
                builder.add_conditional_edges(start, to, ["part"])
            else:
                builder.add_edge(start, to)
        return builder

    inner = made((START, "talk", ""), ("talk", "ask", ""), ("ask", END, "")).compile()
    builders = {
        "talk": made((START, "talk", ""), ("talk", END, "")),
        "strange": made((START, "strange", ""), ("strange", "talk", ""), ("talk", END, "")),
        "ask": made((START, "talk", ""), ("talk", "ask", ""), ("ask", END, "")),
        "sub": made((START, "sub", ""), ("sub", "talk", ""), ("talk", END, ""), sub=inner),
        "fails": made((START, "sibling", ""), (START, "fails", ""), ("sibling", END, ""), ("fails", END, "")),
        "send": made((START, "talk", ""), ("talk", split, ""), ("part", "ask", ""), ("ask", END, "")),
    }
    return {name: builder.compile(checkpointer=saver) for name, builder in builders.items()}


def threads() -> list[tuple[str, str]]:
    return [
        (name, f"{name} {number}") for name in ("talk", "strange", "ask", "sub", "fails", "send") for number in (1, 2)
    ]


def first(name: str) -> Any:
    return {"messages": [HumanMessage(f"hello {name}", id="first")]}


def config(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}, "metadata": {"of": thread}}


def fill(found: dict[str, Any]) -> None:
    for name, thread in threads():
        for _ in range(4 if name == "talk" else 1):
            try:
                found[name].invoke(first(name), config(thread))
            except ValueError:
                assert name == "fails"
    history = [each.config for each in found["talk"].get_state_history(config("talk 2"))]
    found["talk"].update_state(history[4], {"steps": 100})  # a fork
    found["ask"].invoke(Command(resume=3), config("ask 2"))  # the second question waits


async def afill(found: dict[str, Any]) -> None:
    for name, thread in threads():
        for _ in range(4 if name == "talk" else 1):
            try:
                await found[name].ainvoke(first(name), config(thread))
            except ValueError:
                assert name == "fails"


def shown(snapshot: Any) -> Any:
    tasks = [
        {
            "id": task.id,
            "name": task.name,
            "path": repr(task.path),
            "error": repr(task.error),
            "interrupts": repr(task.interrupts),
            "result": repr(task.result),
            "state": shown(task.state) if hasattr(task.state, "tasks") else repr(task.state),
        }
        for task in snapshot.tasks
    ]
    return {
        "values": {name: repr(value) for name, value in sorted(snapshot.values.items())},
        "next": list(snapshot.next),
        "config": snapshot.config,
        "parent": snapshot.parent_config,
        "metadata": snapshot.metadata,
        "created": snapshot.created_at,
        "tasks": tasks,
    }


def look(found: dict[str, Any]) -> Any:
    return {
        thread: {
            "now": shown(found[name].get_state(config(thread), subgraphs=True)),
            "history": [shown(each) for each in found[name].get_state_history(config(thread))],
        }
        for name, thread in threads()
    }


def goon(found: dict[str, Any]) -> Any:
    before = look(found)
    os.environ[MENDED] = "1"
    came: dict[str, Any] = {}
    for name, thread in threads():
        if name == "strange":
            continue  # PostgresSaver cannot keep its text
        given: list[Any] = [None] if name == "fails" else [first(name)] if name == "talk" else []
        if not given:
            given = [Command(resume="yes")] * sum(
                len(task.interrupts) > 0 for task in found[name].get_state(config(thread)).tasks
            )
        for each in given:
            found[name].invoke(each, config(thread))
        while found[name].get_state(config(thread)).next:
            found[name].invoke(Command(resume="again"), config(thread))
        found[name].invoke(first(name), config(thread))
        history = list(found[name].get_state_history(config(thread)))
        came[thread] = [[repr(sorted(each.values.items())), list(each.next), each.metadata] for each in history]
    return before, came


@contextmanager
def saver_of(kind: str, place: str) -> Iterator[Any]:
    # Without a warning for each class that it does not know.
    serde = JsonPlusSerializer(allowed_msgpack_modules=[("tests.support.graph_models", "Order")])
    if kind == "postgres":
        with PostgresSaver.from_conn_string(place) as postgres:
            postgres.serde = serde
            yield postgres
    else:
        with SqliteSaver.from_conn_string(place) as sqlite:
            sqlite.serde = serde
            sqlite.conn.execute("PRAGMA synchronous=OFF")
            yield sqlite


async def asynchronously(place: str) -> None:
    async with AsyncExitStack() as stack:
        saver = await stack.enter_async_context(AsyncSqliteSaver.from_conn_string(place))
        await saver.conn.execute("PRAGMA synchronous=OFF")
        await afill(graphs(saver))


def main() -> None:
    kind, place, what = sys.argv[1:]
    if kind == "aiosqlite":
        asyncio.run(asynchronously(place))
        return
    with saver_of(kind, place) as saver:
        done: Any = {"fill": fill, "look": look, "goon": goon}[what](graphs(saver))
        json.dump(done, sys.stdout)


if __name__ == "__main__":
    main()
