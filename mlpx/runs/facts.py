"""What ``run.json`` says of a run beside its settings and metrics; whatever has an odd type counts as absent."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from mlpx.runs.reading import moment_of

T = TypeVar("T")


@dataclass(frozen=True)
class Facts:
    """What ``run.json`` says, under the names that it has there; a text that is absent is empty."""

    ended: datetime | None
    exit_code: int | None
    command: str
    summary: str
    error: str
    warnings: list[str]
    verdict: str
    verdicts: Mapping[str, int]
    device: str
    device_name: str
    threads: int | None
    versions: Mapping[str, str]
    commit: str
    is_dirty: bool
    host: str

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Facts":
        """What ``document``, the content of ``run.json``, says."""

        def get(name: str, kind: type[T]) -> T | None:
            return _of_type(document.get(name), kind)

        def text(name: str) -> str:
            return get(name, str) or ""

        git = get("git", dict) or {}
        return cls(
            ended=_moment(text("ended")),
            exit_code=get("exit_code", int),
            command=text("command"),
            summary=text("summary"),
            error=text("error"),
            warnings=[warning for warning in get("warnings", list) or [] if isinstance(warning, str)],
            verdict=text("verdict"),
            verdicts=_only(get("verdicts", dict), int),
            device=text("device"),
            device_name=text("device_name"),
            threads=get("threads", int),
            versions=_only(get("versions", dict), str),
            commit=_of_type(git.get("commit"), str) or "",
            is_dirty=git.get("dirty") is True,
            host=text("host"),
        )

    def as_json(self) -> dict[str, Any]:
        """The facts as JSON has them; what is absent is ``None``, but for verdicts, which not all experiments have."""
        verdicts = {"verdict": self.verdict, "verdicts": dict(self.verdicts)}
        return {
            "ended": self.ended.isoformat(timespec="milliseconds") if self.ended else None,
            "exit_code": self.exit_code,
            "summary": self.summary or None,
            **{name: value for name, value in verdicts.items() if value},
            "error": self.error or None,
            "warnings": self.warnings,
            "command": self.command or None,
            "device": self.device or None,
            "device_name": self.device_name or None,
            "threads": self.threads,
            "versions": dict(self.versions) or None,
            "git": {"commit": self.commit, "dirty": self.is_dirty} if self.commit else None,
            "host": self.host or None,
        }


def _of_type(value: object, kind: type[T]) -> T | None:
    """``value`` if it is of that type; a boolean is no number."""
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _only(table: Mapping[str, Any] | None, kind: type[T]) -> dict[str, T]:
    """The entries whose values are of that type."""
    return {name: value for name, value in (table or {}).items() if _of_type(value, kind) is not None}


def _moment(text: str) -> datetime | None:
    with suppress(ValueError):
        return moment_of(text)
    return None
