"""The registry: one verb, three mouths (command line, Slack, MQTT). Pure.

`parse` reads the words of a person, `check` the arguments that came over the wire; both end in the same
arguments, or in CommandError("bad_arguments") whose text says what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from agent.commands.payload import Args, Value, check_text
from agent.config.units import Duration
from agent.errors import CommandError

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
_PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Argument(msgspec.Struct, frozen=True):
    """One word of a verb; with `rest`, all the words that are left. Texts must match `pattern` in full.

    A `duration` is written "2h" and travels in seconds, between `least` and `most`.
    """

    name: str
    expected: str
    pattern: re.Pattern[str] | None = None
    kind: Literal["text", "duration"] = "text"
    least: float = MINUTE
    most: float = 30 * DAY
    optional: bool = False
    rest: bool = False

    def read(self, word: str) -> Value:
        """From what a person wrote."""
        if self.kind == "text":
            return self.check(word)
        try:
            return self.check(float(Duration.parse(word)))
        except (ValueError, CommandError):
            raise self._refused(word) from None  # in the person's own words, not in seconds

    def check(self, value: Value) -> Value:
        if self.kind == "duration":
            if isinstance(value, str) or not self.least <= value <= self.most:
                raise self._refused(value)
            return value
        if not isinstance(value, str) or not value.isprintable() or value.startswith("-"):
            raise self._refused(value)
        if self.pattern is not None and not self.pattern.fullmatch(value):
            raise self._refused(value)
        return value

    def _refused(self, value: Value) -> CommandError:
        return CommandError("bad_arguments", f"{self.name}: expected {self.expected}, not {str(value)[:60]!r}")


class Verb(msgspec.Struct, frozen=True):
    """`danger`: asked for twice. `where` it runs. `open`: further `key=value` words are the job's own parameters."""

    name: str
    summary: str
    arguments: tuple[Argument, ...] = ()
    where: Literal["host", "collector"] = "host"
    danger: bool = False
    open: bool = False

    @property
    def usage(self) -> str:
        """The words as one writes them: `silence MATCH DURATION REASON…`."""
        words = [self.name]
        for argument in self.arguments:
            word = argument.name.upper() + ("…" if argument.rest else "")
            words.append(f"[{word}]" if argument.optional else word)
        return " ".join([*words, "[KEY=VALUE…]"] if self.open else words)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_METRIC = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+){1,4}(\{[^{}]{1,200}\})?")
_MATCH = re.compile(r"[^$`;|&<>\"'\\]{1,200}")
_THRESHOLD = re.compile(r"[^$`;|&<>\"'\\]{1,120}")
_REASON = re.compile(r".{1,300}")
_SILENCE = re.compile(r"sil_[0-9a-z]{1,40}")
_INCIDENT = re.compile(r"inc_[0-9a-z]{1,40}")


_PROBE = Argument("name", "the name of a probe, or an incident's id", _NAME)
_JOB = Argument("name", "the name of a job", _NAME)
_INCIDENT_ID = Argument("id", "an incident's id, inc_…", _INCIDENT)
_DURATION = Argument("duration", 'a duration from "1m" to "30d"', kind="duration")


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("status", "health, open incidents and how the agent does"),
        Verb("top", "the processes that use the most CPU and memory"),
        Verb("probe", "run one probe now", (_PROBE,)),
        Verb(
            "advise",
            "what a plugin finds out when asked (read-only)",
            (
                Argument("plugin", "the name of a probe", _NAME),
                Argument("action", "one of the plugin's actions", _NAME, optional=True),
                Argument("about", "what the action is about, such as a mount", _MATCH, optional=True),
            ),
        ),
        Verb(
            "silence",
            "hold incidents back for a time",
            (
                Argument("match", "key=glob[,key=glob], a threshold's name or an incident's id", _MATCH),
                _DURATION,
                Argument("reason", "why, in at most 300 characters", _REASON, rest=True),
            ),
        ),
        Verb("unsilence", "end a silence", (Argument("id", "a silence's id, sil_…", _SILENCE),)),
        Verb("silences", "the silences that hold"),
        Verb("ack", "say that somebody looks after an incident", (_INCIDENT_ID,)),
        Verb("snooze", "no reminders of an incident for a time", (_INCIDENT_ID, _DURATION)),
        Verb(
            "explain",
            "why a threshold judges as it does",
            (Argument("threshold", "a threshold's name", _THRESHOLD, rest=True),),
        ),
        Verb("job", "run a job of this host's jobs.toml", (_JOB,), danger=True, open=True),
        Verb("help", "these lines", where="collector"),
        Verb("hosts", "all hosts and how they do", where="collector"),
        Verb("incidents", "what is open", where="collector"),
        Verb(
            "graph",
            "a metric as a picture",
            (
                Argument("metric", "a metric's name such as cpu.used_percent", _METRIC),
                Argument("span", 'a duration from "5m" to "30d"', kind="duration", least=5 * MINUTE, optional=True),
            ),
            where="collector",
        ),
        Verb(
            "who",
            "who did what",
            (Argument("about", "a host, a person or a verb", _MATCH, optional=True, rest=True),),
            where="collector",
        ),
    )
}


def find(name: str) -> Verb:
    """CommandError("unknown_verb") with what was meant."""
    verb = VERBS.get(name)
    if verb is None:
        import difflib  # noqa: PLC0415 - only when there is a fault

        close = difflib.get_close_matches(name[:40], VERBS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(VERBS)}"
        raise CommandError("unknown_verb", f"no verb {name[:40]!r}; {hint}")
    return verb


def parse(verb: str, words: Sequence[str], usage: str = "") -> Args:
    """The arguments that a person's words say; CommandError tells what is wrong and how the verb is used.

    `usage`: how it is written where it was, if other words come before these.
    """
    known = find(verb)
    try:
        return _parsed(known, list(words))
    except CommandError as error:
        raise CommandError(error.code, f"{error.detail}; usage: {usage or known.usage}") from None


def _parsed(verb: Verb, left: list[str]) -> Args:
    args: Args = {}
    for argument in verb.arguments:
        if not left:
            if argument.optional:
                continue
            raise CommandError("bad_arguments", f"{argument.name} is missing; expected {argument.expected}")
        word = " ".join(left) if argument.rest else left[0]
        left = [] if argument.rest else left[1:]
        args[argument.name] = argument.read(word)
    if verb.open:
        return args | _parameters(left, args)
    if left:
        raise CommandError("bad_arguments", f"nothing is expected after it, not {left[0][:60]!r}")
    return args


def check(verb: str, args: Args) -> Args:
    """What came over the wire, argument for argument; nothing is converted, nothing unknown is let through."""
    known = find(verb)
    own = {argument.name: argument for argument in known.arguments}
    for name, value in args.items():
        if name in own:
            own[name].check(value)
        elif known.open:
            _parameter(name, value)
        else:
            raise CommandError("bad_arguments", f"{verb} has no argument {name[:40]!r}")
    for argument in known.arguments:
        if not argument.optional and argument.name not in args:
            raise CommandError("bad_arguments", f"{argument.name} is missing; expected {argument.expected}")
    return args


def _parameters(words: list[str], taken: Args) -> Args:
    found: Args = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name in taken or name in found:
            raise CommandError("bad_arguments", f"expected key=value, each key once, not {word[:60]!r}")
        found[name] = _parameter(name, value)
    return found


def _parameter(name: str, value: Value) -> Value:
    """A job's own parameter. Its pattern stands in jobs.toml, on the host; this holds for all of them."""
    if not _PARAMETER.fullmatch(name):
        raise CommandError("bad_arguments", f"{name[:40]!r} is no name of a parameter")
    if not isinstance(value, str) or value.startswith("-"):
        raise CommandError("bad_arguments", f'{name}: expected a text that does not begin with "-"')
    check_text(name, value, 200)
    return value
