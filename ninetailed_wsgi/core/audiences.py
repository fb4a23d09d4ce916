"""The set of published audiences: which of them a visitor belongs to now, and why.

Source: spec section 5. Rules are compiled once. A decision reads no history, only the few entries that `count` keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import compress
from typing import Any, NamedTuple

from ninetailed_wsgi.core.counters import Counter, SeenEvent, digest
from ninetailed_wsgi.core.expressions import Expression, joined
from ninetailed_wsgi.core.problems import ContentError, Problems, Remark
from ninetailed_wsgi.core.rules import DAY, Facts, Predicate, Rule, compile_rule

__all__ = ["Audience", "AudienceSet", "ContentError", "Facts", "Group", "compile_audience"]

# Deeper than any author nests; a bound keeps hostile content from exhausting the interpreter's stack.
DEEPEST_NESTING = 50

# The member of a profile's counts that names the counters for which they were kept.
COUNTED_FOR = "set"


class Group(NamedTuple):
    """Rules and groups: ``any`` (at least one) or ``all`` of them must hold. A group without rules never holds."""

    kind: str
    nodes: tuple[Node, ...]


Node = Group | Rule


class Audience(NamedTuple):
    """One compiled audience.

    Attributes:
        root: its rules as authored, compiled.
        decide: whether a visitor belongs to it.
        counters: what its page and track rules count.
        text: its rules as written: audiences with the same text hold for the same visitors.
        remarks: what is valid but unusual.
    """

    id: str
    name: str
    root: Node
    decide: Predicate
    counters: tuple[Counter, ...]
    text: str
    remarks: tuple[Remark, ...] = ()


def compile_audience(id: str, name: str, rules: object) -> Audience:
    """Compile an audience's rules.

    Args:
        rules: ``{"any": [{"all": [rule, ...]}, ...]}``; ``any`` and ``all`` may be nested in any way. ``None`` and
            ``{}`` match nobody.

    Raises:
        ContentError: with every problem of these rules.
    """
    problems = Problems()
    empty = rules is None or rules == {}
    root = Group("any", ()) if empty else _compile_node(rules, "", 0, problems)
    problems.raise_any()
    assert root is not None  # a part is missing only if a problem was noted
    if not _rules(root):
        problems.remark("note", "", "has no rules: nobody belongs to this audience")
    counters = tuple(rule.counter for rule in _rules(root) if rule.counter)
    code = Expression("facts")
    decide = code.function(_expression(root, code))
    return Audience(id, name, root, decide, counters, repr(rules), tuple(problems.remarks))


class AudienceSet:
    """All audiences of one environment, sorted by id ignoring case. Immutable, shared by all threads.

    This class defines a profile's ``counts``, a JSON object that maps counter keys to entries. The caller stores it,
    passes it back, and replaces it with ``{}`` when it merges two histories.
    """

    def __init__(self, audiences: Iterable[Audience], *, history_events: int = 500, history_days: int = 365) -> None:
        """Index the audiences' counters by the events that they count.

        Args:
            history_events: how many of a profile's newest events count, of all types together.
            history_days: how many days an event counts; an event exactly that old still counts.

        Raises:
            ValueError: two audiences have the same id.
        """
        self.audiences = tuple(sorted(audiences, key=lambda audience: (audience.id.casefold(), audience.id)))
        if len({audience.id for audience in self.audiences}) < len(self.audiences):
            raise ValueError("two audiences have the same id")
        self._history_events = history_events
        self._history_ms = history_days * DAY
        self._comparison: tuple[AudienceSet, frozenset[str], AudienceSet | None] | None = None
        self._ids = tuple(audience.id for audience in self.audiences)
        # Audiences with the same rules are decided once.
        distinct = {audience.text: audience for audience in self.audiences}
        places = {text: place for place, text in enumerate(distinct)}
        self._decisions = tuple(audience.decide for audience in distinct.values())
        self._decide = _joint_decision(distinct.values())
        self._places = {audience.id: places[audience.text] for audience in self.audiences}
        self._shared = len(distinct) < len(self.audiences)
        counters = {counter.key: counter for audience in self.audiences for counter in audience.counters}
        self._counted_for = digest(" ".join(sorted(counters))) if counters else ""
        self._page_counters = tuple(counter for counter in counters.values() if counter.event_type == "page")
        tracks = [counter for counter in counters.values() if counter.event_type == "track"]
        self._any_track_counters = tuple(counter for counter in tracks if counter.event_name is None)
        self._track_counters = {
            name: tuple(counter for counter in tracks if counter.event_name in (name, None))
            for name in {counter.event_name for counter in tracks if counter.event_name is not None}
        }

    def count(self, counts: dict[str, Any], ordinal: int, at: int, event: Mapping[str, Any]) -> None:
        """Add one applied event to ``counts`` if a rule counts it; the cost does not depend on the history.

        Args:
            counts: of the profile.
            ordinal: of the event, higher than any before.
            at: time of the event, milliseconds; it may be earlier than the time of the previous event.
            event: as it was sent.
        """
        counters = self._counters_for(event)
        if not counters:
            return
        view = SeenEvent(event)
        for counter in counters:
            if counter.counts(view):
                entries = counts.get(counter.key, ())
                counts[counter.key] = counter.keep(entries, ordinal, at, ordinal - self._history_events + 1)

    def missing(self, counts: Mapping[str, Any]) -> bool:
        """Return whether ``counts`` were kept for counters other than those of this set, so `recount` is needed."""
        return bool(counts.get(COUNTED_FOR, "") != self._counted_for)

    def recount(self, counts: dict[str, Any], history: Iterable[tuple[int, int, Mapping[str, Any]]]) -> None:
        """Recompute ``counts`` from the kept history, for exactly the counters of this set.

        Args:
            history: ``(ordinal, at, event)`` of every kept event, including those just applied.
        """
        counts.clear()
        for ordinal, at, event in sorted(history, key=lambda entry: entry[0]):
            self.count(counts, ordinal, at, event)
        if self._counted_for:
            counts[COUNTED_FOR] = self._counted_for

    def counts_for(
        self,
        counts: Mapping[str, Any],
        other: AudienceSet,
        history: Callable[[], Iterable[tuple[int, int, Mapping[str, Any]]]],
    ) -> Mapping[str, Any]:
        """Return the ``counts`` that `recount` would give, derived from those that another set kept.

        Reads the history only for counters that the other set does not have.

        Args:
            counts: of the profile; they do not change.
            other: the set that kept them.
            history: reads the history in the form that `recount` takes.
        """
        if not self.missing(counts):
            return counts
        if other.missing(counts):
            whole: dict[str, Any] = {}
            self.recount(whole, history())
            return whole
        shared, more = self._beyond(other)
        shared_counts = {key: counts[key] for key in shared if key in counts}
        if more is None:
            return shared_counts
        added: dict[str, Any] = {}
        more.recount(added, history())
        return {**shared_counts, **added}

    def reads_history(self, other: AudienceSet) -> bool:
        """Return whether this set counts something that another one does not."""
        return self._beyond(other)[1] is not None

    def _beyond(self, other: AudienceSet) -> tuple[frozenset[str], AudienceSet | None]:
        """Return the counters that both sets have, and a set of those that only this one has."""
        if self._comparison is None or self._comparison[0] is not other:
            theirs = {counter.key for audience in other.audiences for counter in audience.counters}
            mine = {counter.key: counter for audience in self.audiences for counter in audience.counters}
            more = tuple(counter for key, counter in mine.items() if key not in theirs)
            nobody = Audience("", "", Group("any", ()), lambda facts: False, more, "")
            days = self._history_ms // DAY
            beyond = AudienceSet([nobody], history_events=self._history_events, history_days=days) if more else None
            self._comparison = (other, frozenset(mine.keys() & theirs), beyond)
        return self._comparison[1:]

    def matched(self, facts: Facts) -> list[str]:
        """Return the ids of the audiences that a visitor belongs to now, sorted ignoring case."""
        self._bound(facts)
        holds_by_place = self._decide(facts)
        return list(
            compress(
                self._ids, map(holds_by_place.__getitem__, self._places.values()) if self._shared else holds_by_place
            )
        )

    def holds(self, facts: Facts, id: str) -> bool:
        """Return whether a visitor belongs now to the audience with this id."""
        self._bound(facts)
        place = self._places.get(id)
        return place is not None and self._decisions[place](facts)

    def explain(self, facts: Facts) -> list[dict[str, Any]]:
        """Explain each audience: its groups and rules, each with its result, the value found and the value wanted.

        Returns:
            ``{"id", "name", "matched", "groups"}`` for each audience. A group is ``{"held", "rules"}``, a rule
            ``{"type", "held", "found", "wanted"}``; ``"at_least": true`` in it means that more events may count than
            are kept. With deeper nesting, a group with ``"kind"`` stands in place of a rule.
        """
        self._bound(facts)
        return [_explain_audience(audience, facts) for audience in self.audiences]

    def _bound(self, facts: Facts) -> None:
        first = facts.next_ordinal - self._history_events
        facts.first_ordinal = first if first > facts.first_kept else facts.first_kept
        facts.oldest = facts.now - self._history_ms

    def _counters_for(self, event: Mapping[str, Any]) -> tuple[Counter, ...]:
        kind = event.get("type")
        if kind == "page":
            return self._page_counters
        if kind != "track":
            return ()
        name = event.get("event")
        any_name = self._any_track_counters
        return self._track_counters.get(name, any_name) if isinstance(name, str) else any_name


def _compile_node(node: object, path: str, depth: int, problems: Problems) -> Node | None:
    if not isinstance(node, dict):
        problems.add(path or "rules", node, "an object with any, all or type")
        return None
    kinds = [kind for kind in ("any", "all") if kind in node]
    if not kinds:
        return compile_rule(node, path or "rules", problems)
    if len(kinds) > 1 or depth > DEEPEST_NESTING:
        expected = "either any or all" if len(kinds) > 1 else f"at most {DEEPEST_NESTING} groups inside each other"
        problems.add(path or "rules", node, expected)
        return None
    kind = kinds[0]
    place = f"{path}.{kind}" if path else kind
    if (items := node[kind]) is None:
        problems.add(place, items, "a list")
    children = enumerate(problems.items(place, items))
    nodes = [_compile_node(item, f"{place}[{index}]", depth + 1, problems) for index, item in children]
    return Group(kind, tuple(item for item in nodes if item is not None))


def _joint_decision(audiences: Iterable[Audience]) -> Callable[[Facts], tuple[bool, ...]]:
    """Return one function that decides all audiences; one call per audience would cost a quarter of the time."""
    code = Expression("facts")
    decide: Callable[[Facts], tuple[bool, ...]] = code.function(
        f"({''.join(f'{_expression(audience.root, code)}, ' for audience in audiences)})"
    )
    return decide


def _expression(node: Node, code: Expression) -> str:
    if isinstance(node, Rule):
        return node.expression(code)
    return joined([_expression(item, code) for item in node.nodes], node.kind)


def _holds(node: Node, facts: Facts) -> bool:
    if isinstance(node, Rule):
        return node.holds(node.fact(facts))
    holds = any if node.kind == "any" else all
    return bool(node.nodes) and holds(_holds(item, facts) for item in node.nodes)


def _rules(node: Node) -> list[Rule]:
    return [node] if isinstance(node, Rule) else [rule for item in node.nodes for rule in _rules(item)]


def _explain_audience(audience: Audience, facts: Facts) -> dict[str, Any]:
    root = audience.root
    groups = root.nodes if isinstance(root, Group) and root.kind == "any" else (root,)
    return {
        "id": audience.id,
        "name": audience.name,
        "matched": audience.decide(facts),
        "groups": [_explain_group(node, facts) for node in groups],
    }


def _explain_group(node: Node, facts: Facts) -> dict[str, Any]:
    """Explain one alternative of an audience; a single rule or inner group counts as a group."""
    nodes = node.nodes if isinstance(node, Group) and node.kind == "all" else (node,)
    return {"held": _holds(node, facts), "rules": [_explain_node(item, facts) for item in nodes]}


def _explain_node(node: Node, facts: Facts) -> dict[str, Any]:
    if isinstance(node, Group):
        rules = [_explain_node(item, facts) for item in node.nodes]
        return {"kind": node.kind, "held": _holds(node, facts), "rules": rules}
    fact = node.fact(facts)
    result = {"type": node.type, "held": node.holds(fact), "found": fact, "wanted": node.words}
    if node.counter is not None and isinstance(fact, int) and fact >= node.counter.enough:
        result["at_least"] = True
    return result
