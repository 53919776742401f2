"""Times in words."""

from datetime import UTC, datetime, timedelta

MINUTE, HOUR, DAY = 60, 3600, 86400


def ago(moment: datetime) -> str:
    """How long ago a moment was: "12 s ago", "3 min ago", "16 h ago", "2 days ago", and from 30 days on the date."""
    seconds = int((datetime.now(UTC) - moment).total_seconds())
    if seconds < MINUTE:
        return f"{max(seconds, 0)} s ago"
    if seconds < HOUR:
        return f"{seconds // MINUTE} min ago"
    if seconds < 2 * DAY:
        return f"{seconds // HOUR} h ago"
    return f"{seconds // DAY} days ago" if seconds < 30 * DAY else f"{moment:%Y-%m-%d}"


def duration(seconds: float) -> str:
    """How long something takes: "1.2 s", and from a minute on hours, minutes and seconds, as "0:01:20"."""
    return f"{seconds:.1f} s" if seconds < MINUTE else str(timedelta(seconds=round(seconds)))
