"""What the settings must be: a kind, a range, and words for whoever gave another value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from tlcore.errors import ConfigError

_Settings = TypeVar("_Settings")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What one setting must be.

    Attributes:
        kind: `int`, `float` (which a whole number may stand for), `bool` or `str`.
        valid: Tells whether a value of that kind is in its range.
        wanted: The range in words.
        hint: What to do about another value.
    """

    kind: type
    valid: Callable[[Any], bool]
    wanted: str
    hint: str

    def check(self, name: str, value: Any, *, setting: str = "") -> None:
        """Refuses a value of another kind or out of range.

        Args:
            name: What the message calls it, with underscores for spaces.
            value: What it was set to.
            setting: Its dotted name among the settings of a run, where that is not `name`.

        Raises:
            ConfigError: It is; the message has the name and the value.
        """
        # No range holds NaN or infinity: comparisons with them are false.
        if not self._is_of_kind(value) or not self.valid(value):
            raise ConfigError(
                f"{name.replace('_', ' ')} must be {self.wanted}, but it is {str(value)[:40]}.",
                hint=self.hint,
                setting=setting or name,
            )

    def _is_of_kind(self, value: Any) -> bool:
        if self.kind is float:
            return isinstance(value, int | float) and not isinstance(value, bool)
        return isinstance(value, self.kind) and (self.kind is bool or not isinstance(value, bool))


def one_of(choices: Mapping[str, str], hint: str) -> Rule:
    """Returns the rule that a setting is a key of `choices`."""
    return Rule(kind=str, valid=choices.__contains__, wanted=f"one of {list(choices)}", hint=hint)


def on_or_off(hint: str) -> Rule:
    """Returns the rule that a setting is true or false."""
    return Rule(kind=bool, valid=lambda v: True, wanted="true or false", hint=hint)


def read_settings(cls: type[_Settings], values: Mapping[str, Any]) -> _Settings:
    """Makes settings from JSON values; those that are missing get their defaults.

    Raises:
        ConfigError: A setting is unknown, or of another kind.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"Settings must have names, but they are {str(values)[:40]}.",
            hint="The file is damaged; start a new run.",
        )
    unknown = sorted(set(values) - {entry.name for entry in fields(cls)})  # type: ignore[arg-type]
    if unknown:
        raise ConfigError(
            f"This version does not know the setting {unknown[0]!r}.",
            hint="The run was made by another version; start it again with this one.",
        )
    return cls(**values)
