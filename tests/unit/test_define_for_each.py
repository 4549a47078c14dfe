"""ForEach: what it goes over, what its body sees, and what is seen of it from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from saga import Choice, ForEach, Parallel, Sleep, Step
from saga.language.binding import Values, _bound
from saga.language.for_each import ForEachTerms

from .definitions import Definition, function_of, lacks, named, refused, step, taking
from .helpers import task_of


@dataclass
class User:
    email: str
    orders: list[int]


@dataclass
class Tenant:
    users: list[User]
    name: str
    first: User
    tags: set[str] = field(default_factory=set)
    pairs: tuple[int, ...] = ()
    maybe: list[User] | None = None
    rows: Sequence[User] = ()


def invite(user: User, index: int) -> str: ...


USERS: dict[str, Any] = {"name": "invitations", "item": "user"}


def test_a_body_sees_the_element_and_its_index_and_each_other_step_of_it():
    found = Definition(
        ForEach("input.users", [step(invite), taking("invite: str, user, name", "greet")], **USERS), input=Tenant
    )
    assert found.doc == [
        {
            "for_each": "invitations",
            "over": "input.users",
            "item": "user",
            "body": [{"step": "invite", "task": "shop.invite"}, {"step": "greet", "task": "shop.greet"}],
        }
    ]
    assert found.sources("invite") == {"user": ("item", "invitations", ()), "index": ("index", "invitations", ())}
    assert found.sources("greet") == {
        "invite": ("step", "invite", ()),
        "user": ("item", "invitations", ()),
        "name": ("input", "", ("name",)),
    }


def test_an_undo_sees_the_element_too():
    found = Definition(
        ForEach(
            "input.users",
            [step(invite, compensate=task_of(function_of("invite, user, index, error", "undo")))],
            **USERS,
        )
    )
    assert found.sources("invite", "undos")["user"] == ("item", "invitations", ())


def test_bind_and_paths_reach_into_an_element():
    mail = taking("to: str", "mail", bind={"to": "user.email"})
    inner = ForEach("user.orders", [taking("order: int, user", "ship")], name="orders", item="order")
    found = Definition(ForEach("input.users", [mail, inner], **USERS), input=Tenant)
    assert found.sources("mail") == {"to": ("item", "invitations", ("email",))}
    assert found.sources("ship") == {"order": ("item", "orders", ()), "user": ("item", "invitations", ())}
    assert found.doc[0]["body"][1]["over"] == "user.orders"
    assert found.types == {"invitations": list[list[Any]]}


def test_index_is_that_of_the_innermost():
    inner = ForEach("user.orders", [taking("index: int", "ship")], name="orders", item="order")
    found = Definition(ForEach("input.users", [inner, taking("index: int", "last")], **USERS))
    assert found.sources("ship") == {"index": ("index", "orders", ())}
    assert found.sources("last") == {"index": ("index", "invitations", ())}


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ([step(invite)], list[str]),
        ([Sleep("user.at", name="rest")], list[datetime]),
        ([Parallel(step("a"))], list[type(None)]),
        ([Choice("user.kind", {"x": []}, name="kind")], list[Any]),
    ],
)
def test_its_result_is_the_list_of_those_of_the_last_item(last: list[Any], kind: Any):
    found = Definition(ForEach("input.users", last, **USERS))
    assert list(found.types) == ["invitations"]
    assert found.types["invitations"] == kind


def test_the_list_fits_what_takes_it():
    body = ForEach("input.users", [step(invite)], **USERS)
    Definition(body, taking("invitations: list[str]"))
    assert "never fits" in refused(body, taking("invitations: str"))
    assert "may not fit" in str(Definition(body, taking("invitations: list[int]")).builder.ground.warnings)


def test_an_element_fits_what_takes_it():
    text = refused(ForEach("input.users", [taking("user: int")], **USERS), input=Tenant)
    assert (
        lacks(text, ["parameter 'user' takes int", "the element of ForEach 'invitations' is User", "never fits"]) == []
    ), text
    text = refused(ForEach("input.users", [taking("index: list")], **USERS), input=Tenant)
    assert "the index in ForEach 'invitations'" in text


def test_a_step_of_the_body_is_not_visible_outside():
    text = refused(ForEach("input.users", [step(invite)], **USERS), taking("invite"))
    assert (
        lacks(
            text, ["saga 'shop', step 'subject': parameter 'invite'", "ForEach 'invitations'", "the list 'invitations'"]
        )
        == []
    )
    text = refused(ForEach("input.users", [step(invite)], **USERS), Choice("invite.x", {"a": []}, name="c"))
    assert lacks(text, ["Choice 'c': on='invite.x'", "the list 'invitations'"]) == [], text


def test_the_element_is_not_visible_outside():
    text = refused(ForEach("input.users", [step(invite)], **USERS), taking("user"), input=Tenant)
    assert "nothing provides parameter 'user'" in text


@pytest.mark.parametrize(
    ("construct", "words"),
    [
        (ForEach("input.users", []), ["a ForEach has no name by itself", "name="]),
        (ForEach("input.users", [], name="f"), ["ForEach 'f'", "its body is empty"]),
        (ForEach("input.users", step("a"), name="f"), ["body=Step", "expected a list of steps"]),  # type: ignore[arg-type]
        (ForEach("input.name", [step("a")], name="f"), ["over='input.name' is str, which is no list"]),
        (ForEach("input.first", [step("a")], name="f"), ["over='input.first' is User, which is no list"]),
        (ForEach("input.user", [step("a")], name="f"), ["no field 'user'", "did you mean 'users'?"]),
        (ForEach(["a"], [step("a")], name="f"), ["over=['a'] expected a path"]),  # type: ignore[arg-type]
        (ForEach("input.users", [step("a")], name="f", limit=0), ["limit=0", "1 or more"]),
        (ForEach("input.users", [step("a")], name="f", limit=-1), ["limit=-1"]),
        (ForEach("input.users", [step("a")], name="f", limit=True), ["limit=True"]),
        (ForEach("input.users", [step("a")], name="f", limit="3"), ["limit='3'"]),  # type: ignore[arg-type]
        (ForEach("input.users", [step("a")], name="f", item="name"), ["'name' would hide the input field", "item="]),
        (ForEach("input.users", [step("a")], name="f", item="a"), ["'a' would hide the step", "item="]),
        (ForEach("input.users", [step("a")], name="f", item="f"), ["'f' would hide the ForEach", "item="]),
        (ForEach("input.users", [step("a")], name="f", item="error"), ["item='error'", "reserved"]),
        (ForEach("input.users", [step("a")], name="f", item="index"), ["item='index'", "reserved"]),
        (ForEach("input.users", [step("a")], name="f", item="a b"), ["item='a b'", "name of a parameter"]),
        (ForEach("input.users", [step("index")], name="f"), ["'index' would hide the step", "rename"]),
        (
            ForEach("input.users", [ForEach("item.orders", [step("a")], name="g")], name="f"),
            ["ForEach 'g'", "'item' would hide the element of ForEach 'f'", "item="],
        ),
        (ForEach("input.users", [Step(task_of(named("go")), pivot=True)], name="f"), ["step 'go'", "inside a ForEach"]),
    ],
)
def test_a_for_each_is_refused_with_what_is_wrong(construct: ForEach, words: list[str]):
    text = refused(construct, input=Tenant)
    assert lacks(text, ["saga 'shop'", *words]) == [], text


@pytest.mark.parametrize("path", ["input.users", "users", "input.tags", "input.pairs", "input.maybe", "input.rows"])
def test_whatever_is_a_list_as_json_is_gone_over(path: str):
    Definition(ForEach(path, [step("a")], name="f"), input=Tenant)


def test_two_that_stand_beside_each_other_may_call_their_elements_alike():
    Definition(ForEach("input.a", [step("a")], name="f"), ForEach("input.b", [step("b")], name="g"))


def test_the_field_gone_over_is_required_and_one_that_the_body_would_hide_is_refused():
    found = Definition(ForEach("input.users", [taking("user, size")], **USERS))
    assert found.builder.required_fields() == {"size": "subject", "users": "invitations"}
    for hidden in ("user", "index"):
        text = refused(taking(hidden), ForEach("input.users", [step("a")], **USERS))
        assert (
            lacks(text, ["step 'subject'", f"the input field {hidden!r}", "ForEach 'invitations' would hide"]) == []
        ), text


def test_what_only_the_definition_says_is_its_limit():
    found = Definition(ForEach("input.users", [step("a")], **USERS, limit=10))
    assert found.walk.terms == {"invitations": ForEachTerms(10)}


def test_elements_and_indexes_come_as_their_types():
    found = Definition(ForEach("input.users", [step(invite), taking("user", "plain"), taking("to", bind={"to": "user.email"})], **USERS),
                       input=Tenant)  # fmt: skip
    values = Values({}, {}, {}, {"invitations": {"email": "a@b.c", "orders": [1]}}, {"invitations": 3})
    assert bound(found, "invite", values) == {"user": User("a@b.c", [1]), "index": 3}
    assert bound(found, "plain", values) == {"user": User("a@b.c", [1])}
    assert bound(found, "subject", values) == {"to": "a@b.c"}


def bound(found: Definition, name: str, values: Values) -> dict[str, Any]:
    job = found.walk.actions[name]
    return _bound(job.task, job.wires, values)
