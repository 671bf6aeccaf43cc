"""A slow evaluator, one flow at a time, written from the API texts and nothing else.

It works on the raw documents, shares no code with the engine, and says ``True``, ``False`` or ``None`` (not known) at
each step. An outcome of one side is the set of results that are possible: ``{"allow"}``, ``{"deny"}`` or both.
``touched`` collects the edge cases that the last flow met, by number, and by number and clause ("11 mapped").

Sources: types.go of networking/v1 (NetworkPolicy), apis/v1alpha1 and v1alpha2 of network-policy-api, the rule types of
Cilium's policy API; where those are silent, the options that the engine states.
"""

from __future__ import annotations

import itertools

from reference_cluster import ALLOW, DENY, FOREVER, TRANSPORTS, Doc, Settings, Thing, Timed, both, either, plain_ip
from reference_rules import Context, Rules, isolating, priority_of, specs_of, tier_of, types_of


class Reference(Rules):
    """Verdicts of policy documents over a history of cluster documents."""

    def __init__(
        self, policies: list[Doc], cluster: list[Timed], settings: Settings | None = None, *, refuse: bool = True
    ) -> None:
        self.settings = settings or Settings()
        self.policies = [doc for doc in policies if not refuse or not malformed(doc)]
        self.cluster = cluster
        self.touched: set[str] = set()
        self.matched: set[tuple[str, str, str, int]] = set()
        self.of_kind: dict[str, list[Timed]] = {}
        for item in cluster:
            self.of_kind.setdefault(item.doc["kind"], []).append(item)
        self.listed = [(doc, spec) for doc in self.policies for spec in specs_of(doc)]
        self._pods: list[Thing] | None = None
        self._memory = {}

    # -- one flow

    def verdict(self, flow: Doc) -> tuple[str, set[str], set[str]]:
        """(verdict, outcome of egress, outcome of ingress)."""
        self.touched = set()
        self.matched = set()
        first, last = flow.get("first_seen", 0), flow.get("last_seen", 0)
        window = (first, last) if last else (0, FOREVER - 1)
        sources = self.at(flow["src"], window, flow.get("name"))
        targets = self.targets(flow, window)
        pairs = [(s, t) for s in sources for t in targets if self.overlap(s, t, window)]
        pairs = pairs or [(s, t) for s in sources for t in targets]
        out: list[set[str]] = []
        into: list[set[str]] = []
        certain = True
        for source, target in pairs:
            source, target = self.families(source, target)
            e, i = self.pair(flow, source, target)
            if target.sides in ("both", "egress"):
                out.append(e)
            if target.sides in ("both", "ingress"):
                into.append(i)
            certain &= target.sides == "both" and (e == {DENY} or i == {DENY})
        egress: set[str] = set().union(*out) or {ALLOW}
        ingress: set[str] = set().union(*into) or {ALLOW}
        word = name_of(egress, ingress, certain)
        self.met(30, word)
        return word, egress, ingress

    def overlap(self, a: Thing, b: Thing, window: tuple[int, int]) -> bool:
        return max(a.since, b.since, window[0]) <= min(a.until - 1, b.until - 1, window[1])

    def families(self, source: Thing, target: Thing) -> tuple[Thing, Thing]:
        """A dual-stack pod speaks the family of the other end, where that has one."""

        def only(mine: Thing, theirs: Thing) -> Thing:
            families = {plain_ip(ip).version for ip in theirs.ips}
            if len(families) == 1 and len({plain_ip(ip).version for ip in mine.ips}) == 2:
                self.met(11, "dual stack")
                kept = tuple(ip for ip in mine.ips if plain_ip(ip).version in families)
                return Thing(**{**mine.__dict__, "ips": kept})
            return mine

        narrowed = only(source, target)
        return narrowed, only(target, narrowed)

    def pair(self, flow: Doc, source: Thing, target: Thing) -> tuple[set[str], set[str]]:
        if source.kind == "self" or target.kind == "self":
            self.met(20, "own pod")
            return {ALLOW}, {ALLOW}
        if source.identity and source.identity == target.identity:
            self.met(20, "own pod")
            return {ALLOW}, {ALLOW}
        if not flow.get("oriented", True):
            self.met(21)
            concerned = any(self.selects_any(end) for end in (source, target))
            return ({ALLOW, DENY}, {ALLOW, DENY}) if concerned else ({ALLOW}, {ALLOW})
        if (source.labels or {}).get("role") == "ingress-controller":
            self.met(24)  # rules see the proxy; whom it speaks for is not in the flow
        port = target.port or flow.get("port", 0)
        word = flow.get("protocol", "TCP")
        if flow.get("established"):
            self.met(26, self.settings.established)
            if self.settings.established == "allowed":
                return {ALLOW}, {ALLOW}
        egress = self.side("egress", source, target, target, word, port)
        hidden = Thing("nobody", names=None) if target.hides else source
        if target.hides:
            self.met(23)
        ingress = self.side("ingress", target, hidden, target, word, port)
        return egress, ingress

    # -- one side of a connection

    def selects_any(self, thing: Thing) -> bool:
        if thing.kind not in ("pod", "nobody"):
            return False
        return any(
            self.selects(doc, spec, thing) is not False and self.matters(doc, spec, d)
            for doc, spec in self.listed
            for d in ("ingress", "egress")
        )

    def matters(self, doc: Doc, spec: Doc, direction: str) -> bool:
        """Whether a policy can say anything about a direction at all."""
        if doc["kind"] == "NetworkPolicy":
            return direction in types_of(spec)
        denies = doc["kind"].startswith("Cilium") and spec.get(direction + "Deny")
        return bool(spec.get(direction) or denies) or direction in isolating(doc, spec)

    def side(self, direction: str, me: Thing, peer: Thing, target: Thing, word: str, port: int) -> set[str]:
        """What may happen to a connection at ``me``, whose other end is ``peer``; ``target`` owns the port."""
        if me.kind not in ("pod", "nobody"):
            return {ALLOW}  # what is no pod of the cluster is not subject to policies
        chosen = []
        for doc, spec in self.listed:
            if not self.matters(doc, spec, direction):
                continue
            selected = self.selects(doc, spec, me)
            if selected is not False:
                chosen.append((doc, spec, selected))
        if not chosen:
            return {ALLOW}
        if len(chosen) > 1:
            self.met(5)
        if word not in TRANSPORTS:
            self.met(17, "ICMP")
        if word == "SCTP":
            self.met(17, "SCTP")
        own: bool | None = False
        if direction == "ingress" and peer.kind == "node":
            own = None if not me.node or not self.is_node(peer.node) else peer.node == me.node
            self.met(20, {True: "own node", False: "another node", None: "some node"}[own])
        context = Context(direction, me, peer, target, word, port, self.dns_patterns(chosen, direction))
        return self.tiers(chosen, context, own)

    def is_node(self, name: str) -> bool:
        return any(i.doc["metadata"]["name"] == name for i in self.of_kind.get("Node", [])) or any(
            (i.doc.get("spec") or {}).get("nodeName") == name for i in self.of_kind.get("Pod", [])
        )

    def tiers(self, chosen: list[tuple[Doc, Doc, bool | None]], context: Context, own: bool | None) -> set[str]:
        outcome = {ALLOW}
        outcome = self.ordered("Baseline", chosen, context, outcome)
        outcome = self.developer(chosen, context, own, outcome)
        return self.ordered("Admin", chosen, context, outcome)

    def ordered(
        self, tier: str, chosen: list[tuple[Doc, Doc, bool | None]], context: Context, below: set[str]
    ) -> set[str]:
        mine = [c for c in chosen if tier_of(c[0]) == tier]
        outcome = set(below)
        for priority in sorted({priority_of(c[0]) for c in mine}, reverse=True):
            level = [self.first(c, context) for c in mine if priority_of(c[0]) == priority]
            found: set[str] = set()
            for result in level:
                for action in result - {"none"}:
                    found |= below if action == "pass" else {action}
            if all("none" in result for result in level):
                found |= outcome
            outcome = found
        return outcome

    def first(self, chosen: tuple[Doc, Doc, bool | None], context: Context) -> set[str]:
        """Actions that the first matching rule may have."""
        doc, spec, selected = chosen
        found: set[str] = set()
        settled = False
        for number, rule in enumerate(spec.get(context.direction) or []):
            match = both(self.admin_peers(rule, context), self.admin_ports(doc, rule, context))
            if match is False:
                continue
            self.note(doc, context.direction, number, match)
            found.add({"Accept": ALLOW, "Allow": ALLOW, "Deny": DENY, "Pass": "pass"}[rule["action"]])
            if match is True:
                settled = True
                break
        if not settled or selected is None:
            found.add("none")
        return found

    def note(self, doc: Doc, section: str, number: int, match: bool | None) -> None:
        if match is True:
            self.matched.add((doc["kind"], doc["metadata"]["name"], section, number))

    def developer(
        self,
        chosen: list[tuple[Doc, Doc, bool | None]],
        context: Context,
        own: bool | None,
        below: set[str],
    ) -> set[str]:
        """Possible worlds: every policy that may select does or does not, every rule that may match does or not."""
        mine = [c for c in chosen if tier_of(c[0]) == "Developer"]
        states = {(own is True, False, False)} | ({(True, False, False)} if own is None else set())
        for doc, spec, selected in mine:
            effects = self.effects(doc, spec, context)
            if selected is None:
                effects = effects | {(False, False, False)}
            states = {(a or x, d or y, i or z) for (a, d, i), (x, y, z) in itertools.product(states, effects)}
        outcome: set[str] = set()
        for allowed, denied, isolated in states:
            if denied:
                outcome.add(DENY)
            elif allowed:
                outcome.add(ALLOW)
            elif isolated:
                outcome.add(DENY)
            else:
                outcome |= below
        return outcome

    def effects(self, doc: Doc, spec: Doc, context: Context) -> set[tuple[bool, bool, bool]]:
        """(an allow rule matches, a deny rule matches, isolates), in each possible world."""
        isolates = context.direction in isolating(doc, spec)
        allow: bool | None = False
        deny: bool | None = False
        sections = [(context.direction, False)]
        if doc["kind"].startswith("Cilium"):
            sections.append((context.direction + "Deny", True))
        for section, denies in sections:
            for number, rule in enumerate(spec.get(section) or []):
                if doc["kind"] == "NetworkPolicy":
                    match = self.np_rule(doc, rule, context)
                else:
                    match = self.cilium_rule(doc, rule, context)
                self.note(doc, section, number, match)
                if denies:
                    deny = either(deny, match)
                else:
                    allow = either(allow, match)
        if doc["kind"] == "NetworkPolicy" and context.word not in TRANSPORTS:
            allow = {"allowed": True, "unknown": None}.get(self.settings.icmp, allow)  # outside its API
        worlds = itertools.product(
            [allow] if allow is not None else [True, False], [deny] if deny is not None else [True, False]
        )
        return {(a, d, isolates) for a, d in worlds}


def name_of(egress: set[str], ingress: set[str], certain: bool) -> str:
    """The verdict: a denial on a side is certain only if every possibility denies there."""
    if egress == {DENY} and ingress == {DENY}:
        return "denied-both"
    if egress == {DENY}:
        return "denied-egress"
    if ingress == {DENY}:
        return "denied-ingress"
    if certain:
        return "denied-both"
    return "allowed" if egress == ingress == {ALLOW} else "unknown"


def malformed(doc: Doc) -> bool:
    """What the API server refuses, of the mistakes that the strategies make."""
    for spec in specs_of(doc):
        if doc["kind"] != "NetworkPolicy":
            continue
        if bad_selector(spec.get("podSelector")):
            return True
        for direction, key in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(direction) or []:
                rule = rule or {}
                if any(bad_peer(peer) for peer in rule.get(key) or []) or any(
                    bad_port(p) for p in rule.get("ports") or []
                ):
                    return True
    return False


def bad_selector(selector: Doc | None) -> bool:
    for item in (selector or {}).get("matchExpressions") or []:
        if item["operator"] not in ("In", "NotIn", "Exists", "DoesNotExist"):
            return True
        if (item["operator"] in ("In", "NotIn")) != bool(item.get("values")):
            return True
    return False


def bad_peer(peer: Doc | None) -> bool:
    known = ("podSelector", "namespaceSelector", "ipBlock")
    present = {key for key, value in (peer or {}).items() if value is not None and key in known}
    if not present or ("ipBlock" in present and len(present) > 1):
        return True
    if "ipBlock" in present:
        return False
    return any(bad_selector((peer or {}).get(key)) for key in ("podSelector", "namespaceSelector"))


def bad_port(port: Doc) -> bool:
    end = port.get("endPort")
    if end is None:
        return False
    return not isinstance(port.get("port"), int) or end < port["port"]
