"""`?` as on SQLite, so that one SQL projection serves both stores; psycopg itself wants `%s`."""

import re
from functools import lru_cache

# What may hold a question mark that stands for no value: texts, quoted names, dollar quotes, comments.
_PASSED = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | \$(\w*)\$.*?\$\1\$ | --[^\n]* | /\*.*?\*/ | (?P<mark>\?) | (?P<percent>%)""",
    re.VERBOSE | re.DOTALL,
)


@lru_cache(maxsize=1024)
def translated_placeholders(sql: str) -> str:
    """The statement as psycopg takes it."""
    return _PASSED.sub(_translate, sql)


def _translate(found: "re.Match[str]") -> str:
    if found["mark"]:
        return "%s"
    return found[0].replace("%", "%%")
