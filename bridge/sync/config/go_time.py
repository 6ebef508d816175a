"""Times as Go's templates print them: `Format` with a layout made of the reference time."""

from __future__ import annotations

import re
from datetime import datetime

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TOKEN = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|2006|_2(?!006)|002|0[1-6]|15|PM|pm|"
    r"[Z-]07:00:00|[Z-]070000|[Z-]07:00|[Z-]0700|[Z-]07|[.,]0+(?![0-9])|[.,]9+(?![0-9])|[1-5]"
)
DEFAULT_LAYOUT = "2006-01-02 15:04:05.999999999 -0700 MST"
"""What a time without a format is printed with."""


def format_time(moment: datetime, layout: str) -> str:
    """Return a time, which has a zone, in a layout of Go's package `time`."""
    return _TOKEN.sub(lambda matched: _shown(moment, matched[0]), layout)


def month_name(number: int) -> str:
    """Return the name of a month from 1 to 12."""
    return _MONTHS[number - 1]


def day_name(moment: datetime) -> str:
    """Return the name of the day of the week."""
    return _DAYS[moment.weekday()]


def _shown(moment: datetime, token: str) -> str:
    hour = (moment.hour + 11) % 12 + 1
    simple = {
        "January": month_name(moment.month),
        "Jan": month_name(moment.month)[:3],
        "Monday": day_name(moment),
        "Mon": day_name(moment)[:3],
        "MST": moment.tzname() or "",
        "2006": f"{moment.year:04}",
        "_2": f"{moment.day:2}",
        "002": f"{moment.timetuple().tm_yday:03}",
        "01": f"{moment.month:02}",
        "02": f"{moment.day:02}",
        "03": f"{hour:02}",
        "04": f"{moment.minute:02}",
        "05": f"{moment.second:02}",
        "06": f"{moment.year % 100:02}",
        "15": f"{moment.hour:02}",
        "PM": "PM" if moment.hour >= 12 else "AM",
        "pm": "pm" if moment.hour >= 12 else "am",
        "1": str(moment.month),
        "2": str(moment.day),
        "3": str(hour),
        "4": str(moment.minute),
        "5": str(moment.second),
    }
    if token in simple:
        return simple[token]
    if token[0] in ".,":
        return _fraction(moment, token)
    return _offset(moment, token)


def _fraction(moment: datetime, token: str) -> str:
    digits = f"{moment.microsecond:06}000"[: len(token) - 1].ljust(len(token) - 1, "0")
    if token[1] == "9":
        digits = digits.rstrip("0")
        return token[0] + digits if digits else ""
    return token[0] + digits


def _offset(moment: datetime, token: str) -> str:
    delta = moment.utcoffset()
    seconds = int(delta.total_seconds()) if delta is not None else 0
    if token[0] == "Z" and seconds == 0:
        return "Z"
    sign = "-" if seconds < 0 else "+"
    hours, rest = divmod(abs(seconds), 3600)
    parts = [f"{hours:02}", f"{rest // 60:02}", f"{rest % 60:02}"]
    wanted = len(token.replace(":", "")) // 2
    return sign + (":" if ":" in token else "").join(parts[:wanted])
