"""Recurring jobs: what Postgres answers, and what SQLite says of them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from mirror.core.config.settings import StorageSettings
from mirror.core.errors import ConfigError, StorageError, UnsupportedError
from mirror.storage.jobs import AsyncJobs, Jobs
from mirror.storage.models.dashboard import Task
from mirror.storage.models.jobs import JobAssignment, JobTemplate
from mirror.storage.operations import job_tasks as making
from mirror.storage.operations.base import Operation
from mirror.storage.operations.job_runs import MOST_REVIEWS
from mirror.storage.operations.jobs import STAGES, Stage
from mirror.storage.routing import Health, OnPostgres, Routes
from tests.support.clock import Clock
from tests.support.storage import Stores, on_sqlite
from tests.support.tables_of_postgres import TablesOfPostgres, tables_of_postgres

MINUTE = 60_000
JobStores = Stores | TablesOfPostgres


@pytest.fixture(params=["tables", "postgres"])
def job_stores(request: pytest.FixtureRequest, folder: Path) -> Iterator[JobStores]:
    """On Postgres, and on tables of the same columns in a file."""
    if request.param == "postgres":
        yield request.getfixturevalue("postgres_stores")
    else:
        yield from tables_of_postgres(folder)


@pytest.fixture
def jobs(job_stores: JobStores) -> Jobs:
    return job_stores.jobs


@pytest.fixture
def clock(job_stores: JobStores) -> Clock:
    return job_stores.clock


@pytest.fixture
def template(jobs: Jobs) -> JobTemplate:
    return jobs.create_template(
        "Triage", "Read new tickets.", description="First line", sop="One by one.", tags=["support"]
    )


@pytest.fixture
def assignment(jobs: Jobs, template: JobTemplate) -> JobAssignment:
    return jobs.create_assignment(template.id, "ada", cadence_minutes=60)


def now(clock: Clock) -> int:
    return int(clock.now.timestamp() * 1000)


def job_tasks(stores: JobStores) -> list[Task]:
    return stores.tasks.list(source="job")


# -- SQLite --------------------------------------------------------------------------------------------


def test_there_are_eighteen_methods() -> None:
    names = [name for name in vars(Jobs) if not name.startswith("_")]
    assert len(names) == 18 and names == [name for name in vars(AsyncJobs) if not name.startswith("_")]


@pytest.mark.parametrize("name", [name for name in vars(Jobs) if not name.startswith("_")])
def test_sqlite_says_what_is_missing(folder: Path, name: str) -> None:
    for stores in on_sqlite(folder):
        method = getattr(stores.jobs, name)
        needed = [
            each.name
            for each in list(inspect.signature(method).parameters.values())[1:]
            if each.default is inspect.Parameter.empty
        ]
        with pytest.raises(UnsupportedError) as error:
            method(**dict.fromkeys(needed, "x"))
        assert name in str(error.value) and "storage.backend" in error.value.next_step and not error.value.retryable


# -- templates -----------------------------------------------------------------------------------------


def test_a_template(jobs: Jobs) -> None:
    made = jobs.create_template(
        name=" Tier 1 ",
        department_id="support",
        description=" ",
        role_prompt=" Act. ",
        sop="How",
        success_definition="Done",
        default_mode="live",
        default_stage="limited-live",
        tools_allow=["a", "b", "a"],
        tools_deny=["c"],
        relationship_contract={"relationshipObjective": "trust", "trustPriorities": ["x"]},
        tags=["t", "t"],
        metadata={"n": 1},
    )
    assert jobs.get_template(made.id) == made
    assert (made.name, made.role_prompt, made.description) == ("Tier 1", "Act.", None)
    assert (made.tools_allow, made.tags) == (("a", "b"), ("t",))


@pytest.mark.parametrize(
    ("given", "mode", "stage"),
    [
        ({}, "simulate", "simulate"),
        ({"default_mode": "live"}, "live", "live"),
        ({"default_mode": "simulate"}, "simulate", "simulate"),
        ({"default_stage": "shadow"}, "simulate", "shadow"),
        ({"default_stage": "limited-live"}, "live", "limited-live"),
        ({"default_mode": "simulate", "default_stage": "live"}, "simulate", "live"),
    ],
)
def test_the_mode_and_the_stage_of_a_template(jobs: Jobs, given: dict[str, Any], mode: str, stage: str) -> None:
    made = jobs.create_template("t", "r", **given)
    assert (made.default_mode, made.default_stage) == (mode, stage)


def test_templates_the_last_changed_first(jobs: Jobs) -> None:
    one, two = jobs.create_template("one", "r"), jobs.create_template("two", "r")
    assert jobs.list_templates() == [two, one]
    changed = jobs.update_template(one.id, name="uno")
    assert jobs.list_templates() == [changed, two]


def test_update_a_template(jobs: Jobs, template: JobTemplate) -> None:
    changed = jobs.update_template(
        template.id, name=" ", role_prompt="New", description=None, sop=None, tags=None, tools_allow=["x", "x"],
        metadata={"a": 1}, default_stage="live", department_id="d",
    )  # fmt: skip
    assert changed is not None and jobs.get_template(template.id) == changed
    assert (changed.name, changed.role_prompt, changed.description, changed.sop) == ("Triage", "New", None, None)
    assert (changed.tags, changed.tools_allow, changed.metadata) == ((), ("x",), {"a": 1})
    assert (changed.default_stage, changed.default_mode, changed.department_id) == ("live", "live", "d")
    assert changed.created_at == template.created_at and changed.updated_at > template.updated_at
    kept = jobs.update_template(template.id, default_mode="simulate", default_stage="limited-live")
    assert kept is not None and kept.default_mode == "simulate" and kept.metadata == {"a": 1}


def test_what_is_not_there(jobs: Jobs, assignment: JobAssignment) -> None:
    assert jobs.get_template("x") is jobs.update_template("x", name="y") is None
    assert jobs.get_assignment("x") is jobs.update_assignment("x", title="y") is None
    assert jobs.review_run("x", "approved") is jobs.complete_run_for_task("x", "completed") is None
    assert jobs.get_context_for_task("x") is None
    with pytest.raises(StorageError, match="no such template"):
        jobs.create_assignment("x", "ada")
    assert jobs.list_assignments() == [assignment]


# -- assignments ---------------------------------------------------------------------------------------


def test_an_assignment(jobs: Jobs, template: JobTemplate, clock: Clock) -> None:
    made = jobs.create_assignment(template.id, " ada ")
    assert jobs.get_assignment(made.id) == made
    assert (made.agent_id, made.title, made.cadence_minutes, made.enabled) == ("ada", "Triage", 1440, True)
    assert (made.execution_mode, made.deployment_stage, made.promotion_state) == ("simulate", "simulate", "draft")
    assert made.review_required and made.next_run_at == made.created_at and made.last_run_at is None


def test_an_assignment_with_all_that_can_be_given(jobs: Jobs, template: JobTemplate) -> None:
    made = jobs.create_assignment(
        template.id, "ada", title="Mine", enabled=False, cadence_minutes=5, execution_mode="simulate",
        deployment_stage="live", promotion_state="in-review", scope_limit=" notes ", review_required=False,
        next_run_at=1_900_000_000_123, metadata={"eventTriggers": ["x"]},
    )  # fmt: skip
    assert jobs.get_assignment(made.id) == made
    assert (made.title, made.enabled, made.cadence_minutes, made.execution_mode) == ("Mine", False, 5, "simulate")
    assert (made.deployment_stage, made.scope_limit, made.next_run_at) == ("live", "notes", 1_900_000_000_123)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_sets_the_mode(jobs: Jobs, stage: Stage) -> None:
    template = jobs.create_template("t", "r", default_stage=stage)
    made = jobs.create_assignment(template.id, "ada")
    mode = "live" if stage in ("limited-live", "live") else "simulate"
    assert (made.deployment_stage, made.execution_mode) == (stage, mode)
    other = jobs.create_assignment(jobs.create_template("u", "r").id, "ada")
    changed = jobs.update_assignment(other.id, deployment_stage=stage)
    assert changed is not None and (changed.deployment_stage, changed.execution_mode) == (stage, mode)


@pytest.mark.parametrize("minutes", [0, -5, 2**31, 1.5, True, None])
def test_no_cadence(jobs: Jobs, template: JobTemplate, minutes: Any) -> None:
    assignment = jobs.create_assignment(template.id, "ada")
    assert assignment.cadence_minutes == 1440
    with pytest.raises(ConfigError):
        jobs.create_assignment(template.id, "ada", cadence_minutes=minutes)
    with pytest.raises(ConfigError):
        jobs.update_assignment(assignment.id, cadence_minutes=minutes)


def test_update_an_assignment(jobs: Jobs, assignment: JobAssignment) -> None:
    changed = jobs.update_assignment(
        assignment.id, enabled=False, cadence_minutes=1, promotion_state="held", scope_limit="x",
        review_required=False, next_run_at=None, title=" ", metadata={"a": 1},
    )  # fmt: skip
    assert changed is not None and jobs.get_assignment(assignment.id) == changed
    assert (changed.enabled, changed.cadence_minutes, changed.next_run_at) == (False, 1, None)
    assert (changed.title, changed.scope_limit, changed.review_required) == ("Triage", "x", False)
    again = jobs.update_assignment(assignment.id, scope_limit=None, title="New")
    assert again is not None and (again.scope_limit, again.title, again.metadata) == (None, "New", {"a": 1})


def test_assignments_of_an_agent(jobs: Jobs, template: JobTemplate, assignment: JobAssignment) -> None:
    other = jobs.create_assignment(template.id, "bob", enabled=False)
    assert jobs.list_assignments() == [other, assignment]
    assert jobs.list_assignments(agent_id="ada") == [assignment] == jobs.list_assignments(enabled=True)
    assert jobs.list_assignments(agent_id="bob", enabled=True) == []
    assert jobs.list_assignments(enabled=False) == [other]


# -- tasks that are due --------------------------------------------------------------------------------


def test_a_due_assignment_gets_a_task_and_a_run(
    job_stores: JobStores, jobs: Jobs, template: JobTemplate, assignment: JobAssignment
) -> None:
    at = assignment.created_at + 5
    assert jobs.ensure_due_tasks(now=at) == 1
    [task] = job_tasks(job_stores)
    assert (task.title, task.status, task.priority, task.assignee) == ("Triage", "pending", "normal", "ada")
    assert (task.agent_id, task.tags, task.created_at) == ("ada", ("support",), at)
    assert task.due_at == at + 60 * MINUTE and task.description is not None
    assert "Read new tickets." in task.description and "One by one." in task.description
    assert task.metadata is not None and task.metadata["jobAssignmentId"] == assignment.id
    [run] = jobs.list_runs(assignment_id=assignment.id)
    assert (run.task_id, run.status, run.review_status, run.agent_id) == (task.id, "running", "pending", "ada")
    context = jobs.get_context_for_task(task.id)
    assert context is not None and context.template == template and context.assignment.id == assignment.id
    assert (context.assignment.next_run_at, context.assignment.last_run_at) == (at + 60 * MINUTE, at)


def test_a_task_of_no_job_has_no_context(job_stores: JobStores, jobs: Jobs) -> None:
    for metadata in (None, {}, {"jobAssignmentId": 5}, {"jobAssignmentId": "gone"}):
        task = job_stores.tasks.create(title="a", metadata=metadata)
        assert jobs.get_context_for_task(task.id) is None


def test_none_is_made_before_it_is_due(jobs: Jobs, assignment: JobAssignment) -> None:
    at = assignment.created_at
    assert jobs.ensure_due_tasks(now=at - 1) == 0
    assert jobs.ensure_due_tasks(now=at) == 1 and jobs.ensure_due_tasks(now=at) == 0


def test_none_is_made_while_the_last_is_not_finished(
    job_stores: JobStores, jobs: Jobs, assignment: JobAssignment
) -> None:
    at = assignment.created_at
    assert jobs.ensure_due_tasks(now=at) == 1
    later = at + 60 * MINUTE
    assert jobs.ensure_due_tasks(now=later) == 0
    waits = jobs.get_assignment(assignment.id)
    assert waits is not None and waits.next_run_at == later + 60 * MINUTE
    assert waits.last_run_at == at, "it has not run since"
    [task] = job_tasks(job_stores)
    job_stores.tasks.complete(task.id)
    assert jobs.ensure_due_tasks(now=later) == 0
    assert jobs.ensure_due_tasks(now=later + 60 * MINUTE) == 1
    assert len(job_tasks(job_stores)) == len(jobs.list_runs()) == 2


def test_only_what_is_enabled_and_the_agents(jobs: Jobs, template: JobTemplate, clock: Clock) -> None:
    jobs.create_assignment(template.id, "ada", enabled=False)
    jobs.create_assignment(template.id, "bob")
    never = jobs.create_assignment(template.id, "eve")
    jobs.update_assignment(never.id, next_run_at=None)
    assert jobs.ensure_due_tasks(agent_id="ada") == 0
    assert jobs.ensure_due_tasks(agent_id="bob") == 1
    assert jobs.ensure_due_tasks() == 1, "without a time it is due at once"


def test_programs_that_ask_at_the_same_time_get_one_task(
    job_stores: JobStores, jobs: Jobs, template: JobTemplate
) -> None:
    for _ in range(10):
        jobs.create_assignment(template.id, "ada", metadata={"eventTriggers": ["e"]}, cadence_minutes=1)
    for n in range(4):
        jobs.enqueue_event("e", idempotency_key=str(n))
    at = jobs.list_assignments()[0].created_at + MINUTE
    with ThreadPoolExecutor(8) as threads:
        due = [threads.submit(jobs.ensure_due_tasks, now=at) for _ in range(8)]
        events = [threads.submit(jobs.ensure_event_tasks, now=at) for _ in range(8)]
        made = sum(each.result() for each in due) + sum(each.result().created_tasks for each in events)
    found = job_tasks(job_stores)
    of = [task.metadata["jobAssignmentId"] for task in found if task.metadata]
    assert made == len(found) == len(set(of)) == 10
    assert sum(each.result().processed_events for each in events) == 4
    assert len(jobs.list_runs()) == 10 and jobs.list_events(processed=False) == []


# -- runs ----------------------------------------------------------------------------------------------


def test_a_run(job_stores: JobStores, jobs: Jobs, assignment: JobAssignment) -> None:
    task = job_stores.tasks.create(title="a")
    made = jobs.create_run(assignment.id, assignment.template_id, "ada", task.id, "live")
    assert jobs.list_runs() == [made]
    assert (made.deployment_stage, made.review_status, made.status) == ("live", "approved", "running")
    other = jobs.create_run(
        assignment_id=assignment.id, template_id=assignment.template_id, agent_id="ada", task_id=task.id,
        execution_mode="simulate", deployment_stage="shadow", review_status="held", reviewed_by="eve", reviewed_at=5,
        status="blocked", summary="s", blockers="b", metadata={"a": 1},
    )  # fmt: skip
    assert jobs.list_runs() == [other, made] and jobs.list_runs(limit=1) == [other]
    assert jobs.list_runs(task_id=task.id, assignment_id=assignment.id) == [other, made]
    assert jobs.list_runs(task_id="x") == jobs.list_runs(assignment_id="x") == []


def test_a_run_is_completed(job_stores: JobStores, jobs: Jobs, assignment: JobAssignment) -> None:
    jobs.ensure_due_tasks(now=assignment.created_at)
    [task] = job_tasks(job_stores)
    done = jobs.complete_run_for_task(task.id, "blocked", summary="s", blockers="b", metadata={"a": 1})
    assert done is not None and jobs.list_runs() == [done]
    assert (done.status, done.summary, done.blockers, done.metadata) == ("blocked", "s", "b", {"a": 1})
    assert done.ended_at is not None and done.ended_at >= done.started_at
    assert jobs.complete_run_for_task(task.id, "completed") is None, "it runs no more"


def test_the_newest_run_of_a_task_is_completed(jobs: Jobs, job_stores: JobStores, assignment: JobAssignment) -> None:
    task = job_stores.tasks.create(title="a")
    common = (assignment.id, assignment.template_id, "ada", task.id, "simulate")
    old = jobs.create_run(*common, summary="kept", metadata={"kept": 1})
    new = jobs.create_run(*common)
    for expected in (new, old):
        done = jobs.complete_run_for_task(task.id, "completed")
        assert done is not None and (done.id, done.summary, done.metadata) == (
            expected.id, expected.summary, expected.metadata,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "target", "expected"),
    [
        ("simulate", None, "shadow"),
        ("shadow", None, "limited-live"),
        ("limited-live", None, "live"),
        ("live", None, "live"),
        ("simulate", "live", "live"),
        ("live", "shadow", "shadow"),
    ],
)
def test_promote(jobs: Jobs, assignment: JobAssignment, stage: Stage, target: Stage | None, expected: Stage) -> None:
    jobs.update_assignment(assignment.id, deployment_stage=stage, enabled=False)
    run = jobs.create_run(assignment.id, assignment.template_id, "ada", _task(jobs), "simulate")
    reviewed = jobs.review_run(run.id, "approved", "eve", "good", "promote", target)
    assert reviewed is not None and jobs.list_runs() == [reviewed]
    assert (reviewed.review_status, reviewed.reviewed_by) == ("approved", "eve") and reviewed.reviewed_at is not None
    after = jobs.get_assignment(assignment.id)
    assert after is not None and (after.deployment_stage, after.promotion_state) == (expected, "approved-next-stage")
    assert after.enabled and after.review_required == (expected != "live")
    assert after.execution_mode == ("live" if expected in ("live", "limited-live") else "simulate")


def test_hold_and_roll_back(jobs: Jobs, assignment: JobAssignment) -> None:
    jobs.update_assignment(assignment.id, deployment_stage="live", review_required=False)
    run = jobs.create_run(assignment.id, assignment.template_id, "ada", _task(jobs), "live")
    jobs.review_run(run.id, "held", action="hold")
    held = jobs.get_assignment(assignment.id)
    assert held is not None and (held.promotion_state, held.deployment_stage) == ("held", "live")
    assert held.review_required and held.enabled
    jobs.review_run(run.id, "rolled-back", action="rollback")
    back = jobs.get_assignment(assignment.id)
    assert back is not None and (back.promotion_state, back.deployment_stage) == ("rolled-back", "simulate")
    assert back.review_required and not back.enabled and back.execution_mode == "simulate"


def test_a_review_without_an_action_leaves_the_assignment(jobs: Jobs, assignment: JobAssignment) -> None:
    run = jobs.create_run(assignment.id, assignment.template_id, "ada", _task(jobs), "simulate")
    jobs.review_run(run.id, "approved")
    assert jobs.get_assignment(assignment.id) == assignment


def test_the_last_reviews_are_kept(jobs: Jobs, assignment: JobAssignment) -> None:
    run = jobs.create_run(assignment.id, assignment.template_id, "ada", _task(jobs), "simulate", metadata={"kept": 1})
    for n in range(MOST_REVIEWS + 3):
        jobs.review_run(run.id, "held", notes=str(n))
    [found] = jobs.list_runs()
    assert found.metadata["kept"] == 1 and found.metadata["review"]["notes"] == str(MOST_REVIEWS + 2)
    assert [entry["notes"] for entry in found.metadata["reviewHistory"]] == [str(n) for n in range(3, MOST_REVIEWS + 3)]


def _task(jobs: Jobs) -> str:
    from mirror.storage.dashboard import Tasks

    return Tasks(jobs._runner).create(title="a").id


# -- tools ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "mode", "scope", "denied"),
    [
        ("simulate", "simulate", None, {"atera_ticket", "message", "send_payload"}),
        ("shadow", "simulate", None, {"atera_ticket", "message", "send_payload"}),
        ("shadow", "live", None, {"atera_ticket", "message", "send_payload"}),
        ("simulate", "live", None, {"atera_ticket", "message", "send_payload"}),
        ("live", "simulate", None, {"atera_ticket", "message", "send_payload"}),
        ("limited-live", "live", None, {"message", "send_payload"}),
        ("limited-live", "live", "internal notes only", {"message", "send_payload"}),
        ("limited-live", "live", "no outbound messages", {"message", "send_payload"}),
        ("limited-live", "live", "Customer-facing outbound messaging allowed", set()),
        ("live", "live", None, set()),
    ],
)
def test_the_tools_of_a_stage(
    jobs: Jobs, template: JobTemplate, stage: Stage, mode: Any, scope: str | None, denied: set[str]
) -> None:
    made = jobs.create_assignment(template.id, "ada", deployment_stage=stage, execution_mode=mode, scope_limit=scope)
    policy = jobs.resolve_session_tool_policy_for_assignment(made, template)
    assert policy.tools_allow is None and set(policy.tools_deny or ()) == denied
    assert policy.tools_deny is None or policy.tools_deny


def test_the_tools_of_a_template(jobs: Jobs) -> None:
    template = jobs.create_template("t", "r", tools_allow=["a"], tools_deny=["message", "z"], default_stage="live")
    made = jobs.create_assignment(template.id, "ada")
    policy = jobs.resolve_session_tool_policy_for_assignment(made, template)
    assert (policy.tools_allow, policy.tools_deny) == (("a",), ("message", "z"))


# -- events --------------------------------------------------------------------------------------------


def test_an_event_with_a_key_is_taken_once(jobs: Jobs) -> None:
    first = jobs.enqueue_event(
        " ticket.updated ", "manual", idempotency_key="k", target_agent_id="ada", payload={"t": 1}, metadata={"m": 2}
    )
    again = jobs.enqueue_event("ticket.updated", "manual", idempotency_key="k", payload={"t": 2})
    assert first.accepted and not again.accepted and again.event == first.event
    assert jobs.list_events() == [first.event] and first.event.event_type == "ticket.updated"
    assert first.event.payload == {"t": 1} and first.event.processed_at is None
    for _ in range(2):
        assert jobs.enqueue_event("x", "webhook").accepted
    assert len(jobs.list_events()) == 3


def test_what_an_event_must_have(jobs: Jobs) -> None:
    with pytest.raises(ConfigError):
        jobs.enqueue_event("  ")
    with pytest.raises(ConfigError):
        jobs.enqueue_event("x", "unknown")  # type: ignore[arg-type]
    assert jobs.enqueue_event("x").event.source == "system"


def test_events_are_listed(jobs: Jobs) -> None:
    made = [jobs.enqueue_event(kind).event for kind in ("a", "b", "a")]
    assert jobs.list_events() == made[::-1] and jobs.list_events(event_type="a") == [made[2], made[0]]
    assert jobs.list_events(limit=1) == [made[2]] and jobs.list_events(processed=True) == []
    assert jobs.list_events(processed=False) == made[::-1]


def test_an_event_makes_tasks(job_stores: JobStores, jobs: Jobs, template: JobTemplate) -> None:
    far = 2_000_000_000_000
    made = jobs.create_assignment(
        template.id, "ada", next_run_at=far, metadata={"eventTriggers": ["ticket.updated"]}, cadence_minutes=60
    )
    jobs.create_assignment(template.id, "bob", next_run_at=far, metadata={"eventTriggers": ["other"]})
    jobs.create_assignment(template.id, "eve", next_run_at=far)
    event = jobs.enqueue_event("ticket.updated", "manual", payload={"ticket": "55335"}).event
    at = event.created_at + 7
    result = jobs.ensure_event_tasks(now=at)
    assert (result.processed_events, result.created_tasks) == (1, 1)
    [task] = job_tasks(job_stores)
    assert task.title == "Triage [ticket.updated]" and task.due_at == at and task.assignee == "ada"
    assert task.description is not None and "55335" in task.description
    assert task.metadata is not None and task.metadata["jobEventId"] == event.id
    [run] = jobs.list_runs()
    assert run.metadata == {"triggerType": "event", "triggerEventType": "ticket.updated", "eventId": event.id}
    after = jobs.get_assignment(made.id)
    assert after is not None and (after.next_run_at, after.last_run_at) == (at + 60 * MINUTE, at)
    [done] = jobs.list_events(processed=True)
    assert done.processed_at == at and json.loads(done.outcome or "") == {
        "matchedAssignments": 1, "skippedOpenTask": 0, "createdTasks": 1,
    }  # fmt: skip
    assert jobs.ensure_event_tasks(now=at).processed_events == 0


def test_an_event_makes_no_task_while_the_last_is_not_finished(jobs: Jobs, template: JobTemplate) -> None:
    jobs.create_assignment(template.id, "ada", next_run_at=2_000_000_000_000, metadata={"eventTriggers": ["e"]})
    for _ in range(3):
        jobs.enqueue_event("e")
    result = jobs.ensure_event_tasks()
    assert (result.processed_events, result.created_tasks) == (3, 1)
    outcomes = [json.loads(event.outcome or "")["skippedOpenTask"] for event in jobs.list_events()]
    assert sorted(outcomes) == [0, 1, 1]


def test_an_event_for_an_agent(job_stores: JobStores, jobs: Jobs, template: JobTemplate) -> None:
    for agent in ("ada", "bob"):
        jobs.create_assignment(template.id, agent, metadata={"eventTriggers": ["e"]})
    jobs.enqueue_event("e", target_agent_id="bob")
    assert jobs.ensure_event_tasks().created_tasks == 1
    assert [task.assignee for task in job_tasks(job_stores)] == ["bob"]


def test_an_agent_that_asks_takes_no_event_from_others(
    job_stores: JobStores, jobs: Jobs, template: JobTemplate
) -> None:
    """With the original, events are gone for all agents but the one that asks."""
    for agent in ("ada", "bob"):
        jobs.create_assignment(template.id, agent, metadata={"eventTriggers": ["e", "f"]})
    jobs.enqueue_event("f", target_agent_id="bob")
    jobs.enqueue_event("e")
    result = jobs.ensure_event_tasks(agent_id="ada")
    assert (result.processed_events, result.created_tasks) == (1, 2)
    assert {task.assignee for task in job_tasks(job_stores)} == {"ada", "bob"}
    assert [event.event_type for event in jobs.list_events(processed=False)] == ["f"]


def test_the_oldest_events_first_and_so_many(jobs: Jobs) -> None:
    made = [jobs.enqueue_event("e").event for _ in range(5)]
    assert jobs.ensure_event_tasks(limit=2).processed_events == 2
    assert jobs.list_events(processed=False) == made[:1:-1]


def test_what_is_no_list_of_triggers_triggers_nothing(jobs: Jobs, template: JobTemplate) -> None:
    for triggers in ("e", {"e": 1}, None, [1, None]):
        jobs.create_assignment(template.id, "ada", metadata={"eventTriggers": triggers})
    jobs.create_assignment(template.id, "ada", enabled=False, metadata={"eventTriggers": ["e"]})
    jobs.enqueue_event("e")
    assert jobs.ensure_event_tasks().created_tasks == 0


@pytest.mark.parametrize("operation", [making.ensure_due_tasks, making.ensure_event_tasks])
def test_beside_a_mirror_no_tasks_are_written_to_postgres(operation: Operation[..., Any]) -> None:
    """They would not be in the dashboard's file, and the mirror would find them in its table."""
    both = StorageSettings(backend="dual", read_from="postgres", write_to=("sqlite", "postgres"))
    with pytest.raises(UnsupportedError, match="the mirror carries"):
        next(Routes(lambda: both, {}, Health()).steps(operation))
    alone = structs.replace(both, backend="postgres", write_to=("postgres",))
    assert next(Routes(lambda: alone, {}, Health()).steps(operation)) == OnPostgres(None)
