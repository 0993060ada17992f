"""Tasks and projects: what every store answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from mirror.core.errors import ConfigError, ConstraintError, StorageError
from mirror.storage.dashboard import Tasks
from mirror.storage.models.dashboard import TASKS, Task
from mirror.storage.operations.tasks import PRIORITIES, STATUSES, Priority, Status
from tests.support.clock import Clock
from tests.support.storage import Stores, set_columns


@pytest.fixture
def tasks(stores: Stores) -> Tasks:
    return stores.tasks


@pytest.fixture
def clock(stores: Stores) -> Clock:
    return stores.clock


@pytest.fixture
def ids(stores: Stores) -> list[str]:
    """The ids of the next tasks, to be set by the test."""
    coming: list[str] = []
    runner: Any = stores.memory._runner
    original = runner.context.new_id
    runner.context = replace(runner.context, new_id=lambda: coming.pop(0) if coming else original())
    return coming


def titles(found: list[Task] | tuple[Task, ...]) -> list[str]:
    return [task.title for task in found]


def must(task: Task | None) -> Task:
    assert task is not None
    return task


# -- create, get ---------------------------------------------------------------------------------------


def test_what_is_created_is_what_is_read(tasks: Tasks) -> None:
    parent = tasks.create(title="the whole")
    made = tasks.create(
        title="Write the report",
        description="of the year",
        priority="high",
        source="agent",
        assignee="ada",
        due_at=1_800_000_000_123,
        agent_id="argent",
        channel_id="c1",
        parent_task_id=parent.id,
        team_id="t1",
        tags=["work", "ü"],
        metadata={"type": "x", "n": [1, 2.5, None, {"deep": True}]},
    )
    assert tasks.get(made.id) == made
    assert (made.status, made.tags, made.due_at) == ("pending", ("work", "ü"), 1_800_000_000_123)
    assert made.created_at == made.updated_at and made.started_at is made.completed_at is made.session_id is None


def test_what_is_not_given_has_the_original_defaults(tasks: Tasks) -> None:
    made = tasks.create(title="plain")
    assert tasks.get(made.id) == made
    assert (made.status, made.priority, made.source) == ("pending", "normal", "user")
    assert made.tags is None and made.metadata is None and made.depends_on == ()
    assert made.agent_id is None and made.assignee is None


def test_no_tags_and_an_empty_list_of_them_differ(tasks: Tasks) -> None:
    assert must(tasks.get(tasks.create(title="none", tags=[]).id)).tags == ()
    assert must(tasks.get(tasks.create(title="none", metadata={}).id)).metadata == {}


@pytest.mark.parametrize("field", ["description", "assignee", "agent_id", "channel_id", "parent_task_id", "team_id"])
def test_an_empty_text_is_no_value(tasks: Tasks, field: str) -> None:
    made = tasks.create(title="x", **{field: ""})
    assert getattr(made, field) is None and tasks.get(made.id) == made


def test_a_due_time_of_zero_is_none(tasks: Tasks) -> None:
    assert tasks.create(title="x", due_at=0).due_at is None


def test_a_task_that_depends_on_others_begins_blocked(tasks: Tasks) -> None:
    first = tasks.create(title="first")
    second = tasks.create(title="second", depends_on=[first.id])
    assert second.status == "blocked" and tasks.get(second.id) == second
    assert tasks.create(title="third", depends_on=[]).status == "pending"


def test_a_task_about_another_agent(tasks: Tasks) -> None:
    made = tasks.create(title="for another", agent_id="somebody else")
    assert must(tasks.get(made.id)).agent_id == "somebody else"


@pytest.mark.parametrize("text", ["a'b", 'quo"te', "100%_sure", "\\", "línea\nnew", "日本語 🎉", " a "])
def test_texts_are_kept_exactly(tasks: Tasks, text: str) -> None:
    made = tasks.create(title=text, description=text, tags=[text], metadata={text: text})
    found = must(tasks.get(made.id))
    assert (found.title, found.description, found.tags, found.metadata) == (text, text, (text,), {text: text})


def test_what_is_not_there(tasks: Tasks) -> None:
    for nobody in ("", "abc", "no such task", "00000000-0000-0000-0000-000000000000", "x" * 100, "%", "____", "a%%%"):
        assert tasks.get(nobody) is None
        assert tasks.update(nobody, title="x") is None
        assert tasks.delete(nobody) is False
        assert tasks.start(nobody) is tasks.complete(nobody) is tasks.block(nobody) is tasks.fail(nobody) is None
        done = tasks.complete_and_resolve(nobody)
        assert done.task is None and done.unblocked_tasks == ()
        assert tasks.get_project_with_children(nobody) is None


# -- ids cut short -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [4, 5, 8, 35, 36])
def test_a_short_id_is_enough_if_no_other_begins_so(tasks: Tasks, ids: list[str], length: int) -> None:
    ids += ["12345678-0000-4000-8000-000000000001", "abcdef12-0000-4000-8000-000000000002"]
    made, _ = tasks.create(title="one"), tasks.create(title="two")
    assert tasks.get(made.id[:length]) == made


def test_three_characters_are_not_enough(tasks: Tasks, ids: list[str]) -> None:
    ids += ["12345678-0000-4000-8000-000000000001"]
    tasks.create(title="one")
    assert tasks.get("123") is None


def test_a_short_id_of_several_is_an_error_and_nothing_happens(tasks: Tasks, ids: list[str]) -> None:
    ids += [f"abcd{n}000-0000-4000-8000-00000000000{n}" for n in range(3)]
    made = [tasks.create(title=str(n)) for n in range(3)]
    for call in (
        lambda: tasks.get("abcd"),
        lambda: tasks.update("abcd", title="x"),
        lambda: tasks.delete("abcd"),
        lambda: tasks.start("abcd"),
        lambda: tasks.complete("abcd"),
        lambda: tasks.complete_and_resolve("abcd"),
        lambda: tasks.block("abcd"),
        lambda: tasks.fail("abcd"),
        lambda: tasks.get_project_with_children("abcd"),
    ):
        with pytest.raises(StorageError, match="give more of the id"):
            call()
    assert [tasks.get(task.id) for task in made] == made
    assert tasks.get("abcd1") == made[1]


def test_an_id_that_others_begin_with(tasks: Tasks, ids: list[str]) -> None:
    ids += ["task-12", "task-1", "task-123"]
    made = {task.id: task for task in (tasks.create(title="x") for _ in range(3))}
    assert tasks.get("task-1") == made["task-1"] and tasks.get("task-12") == made["task-12"]
    with pytest.raises(StorageError):
        tasks.get("task")


def test_a_short_id_is_taken_exactly(tasks: Tasks, ids: list[str]) -> None:
    ids += ["a_cd5678-0000-4000-8000-000000000001", "abcd5678-0000-4000-8000-000000000002"]
    one, two = tasks.create(title="one"), tasks.create(title="two")
    assert tasks.get("a_cd") == one and tasks.get("abcd") == two
    assert tasks.get("a%cd") is None and tasks.get("_bcd") is None and tasks.get("ABCD") is None


def test_writes_take_short_ids(tasks: Tasks, ids: list[str]) -> None:
    ids += ["12345678-0000-4000-8000-000000000001"]
    made = tasks.create(title="one")
    assert must(tasks.update("12345", title="two")).title == "two"
    assert must(tasks.start("12345")).status == "in_progress"
    assert must(tasks.block("12345", "why")).status == "blocked"
    assert must(tasks.complete("12345")).id == made.id
    assert tasks.delete("12345") and tasks.get(made.id) is None


# -- update --------------------------------------------------------------------------------------------


def test_update_leaves_alone_what_is_not_given(tasks: Tasks) -> None:
    made = tasks.create(title="a", description="b", assignee="c", due_at=5, tags=["d"], metadata={"e": 1}, team_id="f")
    changed = must(tasks.update(made.id, title="z"))
    assert changed.title == "z" and changed.updated_at > made.updated_at
    unchanged = ("description", "assignee", "due_at", "tags", "metadata", "team_id", "status", "created_at")
    assert all(getattr(changed, name) == getattr(made, name) for name in unchanged)
    assert tasks.get(made.id) == changed


@pytest.mark.parametrize("field", ["description", "assignee", "due_at", "tags", "metadata", "team_id"])
def test_update_with_none_takes_a_value_away(tasks: Tasks, field: str) -> None:
    made = tasks.create(title="a", description="b", assignee="c", due_at=5, tags=["d"], metadata={"e": 1}, team_id="f")
    changed = must(tasks.update(made.id, **{field: None}))
    assert getattr(changed, field) is None and tasks.get(made.id) == changed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "new"),
        ("description", "new"),
        ("priority", "urgent"),
        ("assignee", "new"),
        ("due_at", 1_900_000_000_001),
        ("depends_on", ("x", "y")),
        ("team_id", "new"),
        ("tags", ("p", "q")),
        ("metadata", {"type": "new", "list": [1]}),
    ],
)
def test_update_sets_each_field(tasks: Tasks, field: str, value: Any) -> None:
    made = tasks.create(title="a", metadata={"gone": True})
    changed = must(tasks.update(made.id, **{field: value}))
    assert getattr(changed, field) == value and tasks.get(made.id) == changed


def test_update_clears_dependencies(tasks: Tasks) -> None:
    made = tasks.create(title="a", depends_on=["x"])
    assert must(tasks.update(made.id, depends_on=None)).depends_on == ()
    assert must(tasks.update(made.id, depends_on=[])).depends_on == ()


def test_a_task_has_a_title(tasks: Tasks) -> None:
    made = tasks.create(title="a")
    with pytest.raises((ConfigError, ConstraintError)):
        tasks.update(made.id, title=None)  # type: ignore[arg-type]
    assert tasks.get(made.id) == made


@pytest.mark.parametrize("status", get_args(Status))
def test_the_times_of_a_status(tasks: Tasks, status: Status) -> None:
    made = tasks.create(title="a")
    changed = must(tasks.update(made.id, status=status))
    assert changed.status == status
    assert (changed.started_at is not None) == (status == "in_progress")
    assert (changed.completed_at is not None) == (status in ("completed", "failed", "cancelled"))
    assert (changed.started_at or changed.completed_at or changed.updated_at) == changed.updated_at


def test_a_task_starts_again_when_it_was_pending_again(tasks: Tasks) -> None:
    made = tasks.create(title="a")
    first = must(tasks.start(made.id))
    assert must(tasks.start(made.id)).started_at == first.started_at
    tasks.update(made.id, status="pending")
    again = must(tasks.start(made.id))
    assert again.started_at is not None and first.started_at is not None and again.started_at > first.started_at


def test_a_blocked_task_that_goes_on_has_a_start(tasks: Tasks) -> None:
    made = tasks.create(title="a")
    tasks.block(made.id, "wait")
    assert must(tasks.start(made.id)).started_at is not None


# -- delete --------------------------------------------------------------------------------------------


def test_delete(tasks: Tasks) -> None:
    made = tasks.create(title="a")
    assert tasks.delete(made.id) is True
    assert tasks.get(made.id) is None and tasks.list() == [] and tasks.delete(made.id) is False


def test_a_task_with_parts_cannot_be_deleted(tasks: Tasks) -> None:
    whole = tasks.create(title="whole")
    part = tasks.create(title="part", parent_task_id=whole.id)
    with pytest.raises(ConstraintError, match="a subtask"):
        tasks.delete(whole.id)
    assert tasks.get(whole.id) == whole
    assert tasks.delete(part.id) and tasks.delete(whole.id)


def test_metadata_is_what_is_read(tasks: Tasks) -> None:
    made = tasks.create(title="a", metadata={"t": (1, 2)})
    assert made.metadata == {"t": [1, 2]} and tasks.get(made.id) == made


def test_a_parent_must_be_there(tasks: Tasks) -> None:
    with pytest.raises(ConstraintError, match="parent"):
        tasks.create(title="a", parent_task_id="nobody")
    assert tasks.list() == []


# -- list ----------------------------------------------------------------------------------------------


@pytest.fixture
def some(tasks: Tasks) -> dict[str, Task]:
    """Tasks by title."""
    made = [
        tasks.create(title="plain"),
        tasks.create(title="urgent", priority="urgent", source="agent", assignee="ada"),
        tasks.create(title="high", priority="high", source="channel", channel_id="c1"),
        tasks.create(title="low", priority="low", source="schedule", agent_id="argent", tags=["home"]),
        tasks.create(title="background", priority="background", source="heartbeat", tags=["home", "work"]),
        tasks.create(title="due", due_at=1000, team_id="t1", tags=["homework"]),
        tasks.create(title="due later", due_at=2000, metadata={"type": "note"}),
        tasks.create(title="project", metadata={"type": "project"}, agent_id="other"),
    ]
    return {task.title: task for task in made}


def test_by_urgency_then_by_due_time_then_the_newest_first(tasks: Tasks, some: dict[str, Task]) -> None:
    """The original sorts the names of the priorities: urgent, normal, low, high, background."""
    assert titles(tasks.list()) == [
        "urgent", "high", "due", "due later", "project", "plain", "low", "background"
    ]  # fmt: skip


def test_the_order_of_priorities(tasks: Tasks) -> None:
    for priority in ("low", "background", "normal", "urgent", "high"):
        tasks.create(title=priority, priority=priority)
    assert titles(tasks.list()) == list(PRIORITIES)


def test_a_priority_that_nobody_knows_comes_last(tasks: Tasks) -> None:
    set_columns(tasks, TASKS, tasks.create(title="strange").id, {"priority": "asap"})
    tasks.create(title="background", priority="background")
    assert titles(tasks.list()) == ["background", "strange"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"status": "pending"}, 8),
        ({"status": ["pending", "blocked"]}, 8),
        ({"status": "completed"}, 0),
        ({"status": []}, 0),
        ({"priority": "high"}, ["high"]),
        ({"priority": ["background", "urgent"]}, ["urgent", "background"]),
        ({"priority": "normal"}, ["due", "due later", "project", "plain"]),
        ({"source": "agent"}, ["urgent"]),
        ({"source": ["agent", "channel", "heartbeat"]}, ["urgent", "high", "background"]),
        ({"assignee": "ada"}, ["urgent"]),
        ({"assignee": "nobody"}, []),
        ({"assignee": None}, 7),
        ({"agent_id": "argent"}, ["low"]),
        ({"agent_id": "other"}, ["project"]),
        ({"channel_id": "c1"}, ["high"]),
        ({"team_id": "t1"}, ["due"]),
        ({"tags": ["home"]}, ["low", "background"]),
        ({"tags": ["work"]}, ["background"]),
        ({"tags": ["work", "homework"]}, ["due", "background"]),
        ({"tags": []}, 8),
        ({"tags": ["hom"]}, []),
        ({"tags": ["%"]}, []),
        ({"tags": ["h_me"]}, []),
        ({"tags": ["HOME"]}, []),
        ({"tags": ['home","work']}, []),
        ({"due_before": 1000}, ["due"]),
        ({"due_before": 999}, []),
        ({"due_before": 0}, []),
        ({"due_before": 2000}, ["due", "due later"]),
        ({"due_after": 2000}, ["due later"]),
        ({"due_after": 0}, ["due", "due later"]),
        ({"due_after": 1001, "due_before": 1999}, []),
        ({"is_project": True}, ["project"]),
        ({"is_project": False}, ["urgent", "high", "due", "due later", "plain", "low", "background"]),
        ({"parent_task_id": "nobody"}, []),
        ({"limit": 2}, ["urgent", "high"]),
        ({"limit": 2, "offset": 2}, ["due", "due later"]),
        ({"offset": 6}, ["low", "background"]),
        ({"limit": 0}, []),
        ({"limit": 100, "offset": 100}, []),
        ({"priority": "normal", "assignee": None, "is_project": False, "limit": 2}, ["due", "due later"]),
        ({"source": "agent", "priority": "low"}, []),
    ],
)
def test_each_filter(tasks: Tasks, some: dict[str, Task], given: dict[str, Any], expected: list[str] | int) -> None:
    found = tasks.list(**given)
    assert (len(found) if isinstance(expected, int) else titles(found)) == expected
    assert all(task == some[task.title] for task in found)


def test_the_parts_of_a_task(tasks: Tasks) -> None:
    whole = tasks.create(title="whole")
    parts = [tasks.create(title=f"part {n}", parent_task_id=whole.id) for n in range(3)]
    assert tasks.list(parent_task_id=whole.id) == parts[::-1]


def test_more_than_a_hundred_tasks_are_listed(tasks: Tasks) -> None:
    """The original's Postgres stops at 100 where SQLite does not."""
    for n in range(120):
        tasks.create(title=str(n))
    assert len(tasks.list()) == 120


# -- start, complete, block, fail ----------------------------------------------------------------------


def test_start(tasks: Tasks) -> None:
    made = tasks.create(title="a")
    started = must(tasks.start(made.id))
    assert started.status == "in_progress" and started.started_at == started.updated_at
    assert tasks.get(made.id) == started


def test_start_with_an_open_dependency_blocks(tasks: Tasks) -> None:
    first = tasks.create(title="first")
    second = tasks.create(title="second", depends_on=[first.id], metadata={"kept": 1})
    refused = must(tasks.start(second.id))
    assert refused.status == "blocked" and refused.started_at is None
    assert refused.metadata == {"kept": 1, "blockedReason": "Waiting on dependencies"}
    tasks.complete(first.id)
    assert must(tasks.start(second.id)).status == "in_progress"


def test_a_dependency_that_is_not_there_is_open(tasks: Tasks) -> None:
    assert must(tasks.start(tasks.create(title="a", depends_on=["gone"]).id)).status == "blocked"
    first = tasks.create(title="first")
    second = tasks.create(title="second", depends_on=[first.id])
    tasks.delete(first.id)
    assert must(tasks.start(second.id)).status == "blocked"


@pytest.mark.parametrize("status", ["pending", "in_progress", "blocked", "failed", "cancelled"])
def test_only_a_completed_dependency_is_resolved(tasks: Tasks, status: Status) -> None:
    first = tasks.create(title="first")
    tasks.update(first.id, status=status)
    assert must(tasks.start(tasks.create(title="second", depends_on=[first.id]).id)).status == "blocked"


def test_a_dependency_may_be_named_by_a_short_id(tasks: Tasks, ids: list[str]) -> None:
    ids += ["12345678-0000-4000-8000-000000000001"]
    first = tasks.create(title="first")
    second = tasks.create(title="second", depends_on=["12345678"])
    assert must(tasks.start(second.id)).status == "blocked"
    tasks.complete(first.id)
    assert must(tasks.start(second.id)).status == "in_progress"


def test_complete(tasks: Tasks) -> None:
    made = tasks.create(title="a")
    done = must(tasks.complete(made.id))
    assert done.status == "completed" and done.completed_at == done.updated_at and done.started_at is None
    assert tasks.get(made.id) == done


def test_complete_and_resolve_returns_what_it_unblocks(tasks: Tasks) -> None:
    first, other = tasks.create(title="first"), tasks.create(title="other")
    one = tasks.create(title="one", depends_on=[first.id])
    both = tasks.create(title="both", depends_on=[first.id, other.id])
    free = tasks.create(title="free")
    done = tasks.complete_and_resolve(first.id)
    assert done.task == tasks.get(first.id) and titles(done.unblocked_tasks) == ["one"]
    assert done.unblocked_tasks[0] == tasks.get(one.id)
    assert must(tasks.get(one.id)).status == "pending" and must(tasks.get(both.id)).status == "blocked"
    assert titles(tasks.complete_and_resolve(other.id).unblocked_tasks) == ["both"]
    assert tasks.complete_and_resolve(free.id).unblocked_tasks == ()


def test_complete_unblocks_too(tasks: Tasks) -> None:
    first = tasks.create(title="first")
    second = tasks.create(title="second", depends_on=[first.id])
    tasks.complete(first.id)
    assert must(tasks.get(second.id)).status == "pending"


def test_update_to_completed_unblocks_nothing(tasks: Tasks) -> None:
    first = tasks.create(title="first")
    second = tasks.create(title="second", depends_on=[first.id])
    tasks.update(first.id, status="completed")
    assert must(tasks.get(second.id)).status == "blocked"


def test_tasks_of_other_teams_are_unblocked(tasks: Tasks) -> None:
    """The original's Postgres looks in the same team only."""
    first = tasks.create(title="first", team_id="t1")
    second = tasks.create(title="second", team_id="t2", depends_on=[first.id])
    third = tasks.create(title="third", depends_on=[first.id])
    assert {task.id for task in tasks.complete_and_resolve(first.id).unblocked_tasks} == {second.id, third.id}


def test_only_blocked_tasks_are_unblocked(tasks: Tasks) -> None:
    first = tasks.create(title="first")
    second = tasks.create(title="second", depends_on=[first.id])
    tasks.update(second.id, status="cancelled")
    assert tasks.complete_and_resolve(first.id).unblocked_tasks == ()
    assert must(tasks.get(second.id)).status == "cancelled"


def test_an_unblocked_task_says_no_more_why_it_was_blocked(tasks: Tasks) -> None:
    first = tasks.create(title="first")
    second = tasks.create(title="second", depends_on=[first.id], metadata={"kept": 1})
    tasks.start(second.id)
    tasks.complete(first.id)
    assert must(tasks.get(second.id)).metadata == {"kept": 1}


def test_an_id_within_another_is_no_dependency(tasks: Tasks, ids: list[str]) -> None:
    ids += ["task-1", "task-10"]
    one, ten = tasks.create(title="1"), tasks.create(title="10")
    waits = tasks.create(title="waits", depends_on=[ten.id])
    assert tasks.complete_and_resolve(one.id).unblocked_tasks == ()
    assert titles(tasks.complete_and_resolve(ten.id).unblocked_tasks) == [waits.title]


def test_a_chain_is_unblocked_step_by_step(tasks: Tasks) -> None:
    chain = [tasks.create(title="0")]
    for n in range(1, 4):
        chain.append(tasks.create(title=str(n), depends_on=[chain[-1].id]))
    for n, task in enumerate(chain):
        assert must(tasks.start(task.id)).status == "in_progress"
        assert titles(tasks.complete_and_resolve(task.id).unblocked_tasks) == ([str(n + 1)] if n < 3 else [])


def test_a_task_that_depends_on_itself_stays_as_it_is(tasks: Tasks, ids: list[str]) -> None:
    ids += ["self-1234"]
    made = tasks.create(title="a", depends_on=["self-1234"])
    assert must(tasks.start(made.id)).status == "blocked"
    assert tasks.complete_and_resolve(made.id).unblocked_tasks == ()
    assert must(tasks.get(made.id)).status == "completed"


def test_block_keeps_the_metadata(tasks: Tasks) -> None:
    """The original's Postgres has the reason in another member, and nothing else."""
    made = tasks.create(title="a", metadata={"kept": [1]})
    blocked = must(tasks.block(made.id, "no key"))
    assert blocked.status == "blocked" and blocked.metadata == {"kept": [1], "blockedReason": "no key"}
    assert tasks.get(made.id) == blocked and blocked.completed_at is None
    assert must(tasks.block(made.id)).metadata == {"kept": [1]}


def test_fail_keeps_the_metadata(tasks: Tasks) -> None:
    made = tasks.create(title="a", metadata={"kept": [1]})
    failed = must(tasks.fail(made.id, "broke"))
    assert failed.status == "failed" and failed.metadata == {"kept": [1], "failureReason": "broke"}
    assert failed.completed_at == failed.updated_at and tasks.get(made.id) == failed


def test_block_and_fail_without_metadata_or_reason(tasks: Tasks) -> None:
    made = tasks.create(title="a")
    assert must(tasks.block(made.id)).metadata == {}
    assert must(tasks.fail(made.id)).metadata == {}


# -- search --------------------------------------------------------------------------------------------


@pytest.fixture
def library(tasks: Tasks) -> Tasks:
    tasks.create(title="Buy apples", description="at the market", tags=["shopping"])
    tasks.create(title="Buy pears", description="green pears, ripe pears")
    tasks.create(title="Call Ada", description="about the market")
    return tasks


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("apples", {"Buy apples"}),
        ("APPLES", {"Buy apples"}),
        ("market", {"Buy apples", "Call Ada"}),
        ("buy market", {"Buy apples", "Buy pears", "Call Ada"}),
        ("shopping", {"Buy apples"}),
        ("unknown", set()),
        ("unknown pears", {"Buy pears"}),
        ("", set()),
        ("   ", set()),
        ('"', set()),
        ("pears AND (", {"Buy pears"}),
        ("title:pears*", {"Buy pears"}),
        ("NEAR(pears", {"Buy pears"}),
        ("pears -market", {"Buy pears", "Buy apples", "Call Ada"}),
    ],
)
def test_search(library: Tasks, query: str, expected: set[str]) -> None:
    """No text is a syntax error, as it is with the original."""
    assert set(titles(library.search(query))) == expected


def test_search_has_the_best_first_and_a_limit(library: Tasks) -> None:
    assert titles(library.search("green ripe pears market"))[0] == "Buy pears"
    assert len(library.search("market", limit=1)) == 1 and library.search("market", limit=0) == []
    for n in range(30):
        library.create(title=f"many {n}")
    assert len(library.search("many")) == 20 and len(library.search("many", limit=100)) == 30


def test_search_follows_changes(library: Tasks) -> None:
    [found] = library.search("apples")
    library.update(found.id, title="Buy plums")
    assert library.search("apples") == [] and titles(library.search("plums")) == ["Buy plums"]
    library.delete(found.id)
    assert library.search("plums") == []


def test_search_finds_no_ids(tasks: Tasks, ids: list[str]) -> None:
    ids += ["abcd1234-0000-4000-8000-000000000001"]
    tasks.create(title="a")
    assert tasks.search("abcd1234") == []


# -- counts, overdue -----------------------------------------------------------------------------------


def test_counts(tasks: Tasks) -> None:
    assert tasks.get_counts() == dict.fromkeys(STATUSES, 0)
    for status in ("completed", "completed", "failed", "pending"):
        tasks.update(tasks.create(title="a").id, status=status)  # type: ignore[arg-type]
    assert tasks.get_counts() == dict.fromkeys(STATUSES, 0) | {"completed": 2, "failed": 1, "pending": 1}


def test_overdue(tasks: Tasks, clock: Clock) -> None:
    now = int(clock.now.timestamp() * 1000)
    made = {
        name: tasks.create(title=name, due_at=due)
        for name, due in (("past", now - 1000), ("soon", now + 60_000), ("never", None))
    }
    for status in ("in_progress", "blocked", "completed"):
        tasks.update(tasks.create(title=status, due_at=now - 2000).id, status=status)  # type: ignore[arg-type]
    assert titles(tasks.get_overdue()) == ["in_progress", "past"]
    clock.forward(minutes=2)
    assert titles(tasks.get_overdue()) == ["in_progress", "past", "soon"]
    assert made["never"] in tasks.list()


# -- projects ------------------------------------------------------------------------------------------


def test_a_project(tasks: Tasks) -> None:
    made = tasks.create_project(
        title="House",
        description="all of it",
        priority="high",
        tags=["home"],
        agent_id="argent",
        tasks=[{"title": "walls"}, {"title": "roof", "priority": "low", "source": "user", "agent_id": "other"}],
    )
    assert (made.task_count, made.completed_count, titles(made.tasks)) == (2, 0, ["walls", "roof"])
    assert made.project.metadata == {"type": "project"} and made.project.source == "agent"
    walls, roof = made.tasks
    assert walls.parent_task_id == roof.parent_task_id == made.project.id
    assert (walls.source, walls.agent_id, walls.priority) == ("agent", "argent", "normal")
    assert (roof.source, roof.agent_id, roof.priority) == ("user", "other", "low")
    assert tasks.get_project_with_children(made.project.id) == made
    assert tasks.get(walls.id) == walls and tasks.get(roof.id) == roof


def test_the_tasks_of_a_project_stay_in_order(tasks: Tasks) -> None:
    made = tasks.create_project(title="p", tasks=[{"title": str(n)} for n in range(30)])
    found = tasks.get_project_with_children(made.project.id)
    assert found is not None and titles(found.tasks) == [str(n) for n in range(30)]


def test_the_source_of_a_project_is_its_tasks(tasks: Tasks) -> None:
    made = tasks.create_project(title="p", source="channel", tasks=[{"title": "a"}, {"title": "b", "source": "job"}])
    assert [task.source for task in (made.project, *made.tasks)] == ["channel", "channel", "job"]


def test_a_task_of_a_project_that_depends_on_another_is_blocked(tasks: Tasks) -> None:
    made = tasks.create_project(title="p", tasks=[{"title": "a", "depends_on": ["x"], "due_at": 5, "tags": ["t"]}])
    assert (made.tasks[0].status, made.tasks[0].due_at, made.tasks[0].tags) == ("blocked", 5, ("t",))


@pytest.mark.parametrize("bad", [{}, {"titel": "a"}, {"title": "a", "status": "completed"}])
def test_a_project_is_created_whole_or_not_at_all(tasks: Tasks, bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        tasks.create_project(title="p", tasks=[{"title": "good"}, bad])
    with pytest.raises((ConfigError, ConstraintError)):
        tasks.create_project(title="p", tasks=[{"title": "good"}, {"title": None}])
    assert tasks.list() == []


def test_an_empty_project(tasks: Tasks) -> None:
    made = tasks.create_project(title="p", tasks=[])
    assert made.tasks == () and tasks.get_project_with_children(made.project.id) == made


def test_projects_are_counted(tasks: Tasks) -> None:
    one = tasks.create_project(title="one", tasks=[{"title": "a"}, {"title": "b"}, {"title": "c"}], agent_id="x")
    two = tasks.create_project(title="two", tasks=[])
    tasks.create(title="no project", metadata={"type": "other"})
    tasks.complete(one.tasks[0].id)
    tasks.fail(one.tasks[1].id)
    found = tasks.list_projects()
    assert [(each.project.title, each.task_count, each.completed_count) for each in found] == [
        ("two", 0, 0), ("one", 3, 1)
    ]  # fmt: skip
    assert all(each.tasks == () for each in found) and found[0].project == two.project
    counted = tasks.get_project_with_children(one.project.id)
    assert counted is not None and (counted.task_count, counted.completed_count) == (3, 1)
    assert [each.project.title for each in tasks.list_projects(agent_id="x")] == ["one"]
    assert [each.project.title for each in tasks.list_projects(limit=1)] == ["two"]
    assert tasks.list_projects(status="completed") == [] and len(tasks.list_projects(status=["pending"])) == 2


def test_a_project_by_a_short_id_has_its_tasks(tasks: Tasks, ids: list[str]) -> None:
    """With the original it has none."""
    ids += ["12345678-0000-4000-8000-000000000001"]
    made = tasks.create_project(title="p", tasks=[{"title": "a"}])
    assert tasks.get_project_with_children("12345678") == made


def test_any_task_with_parts_can_be_read_as_a_project(tasks: Tasks) -> None:
    whole = tasks.create(title="whole")
    tasks.create(title="part", parent_task_id=whole.id)
    found = tasks.get_project_with_children(whole.id)
    assert found is not None and found.project == whole and titles(found.tasks) == ["part"]


def test_parts_of_parts_are_not_the_projects(tasks: Tasks) -> None:
    made = tasks.create_project(title="p", tasks=[{"title": "a"}])
    tasks.create(title="deep", parent_task_id=made.tasks[0].id)
    assert tasks.get_project_with_children(made.project.id) == made


def test_a_new_task_has_a_known_priority() -> None:
    assert set(get_args(Priority)) == set(PRIORITIES) and set(get_args(Status)) == set(STATUSES)
