"""NUL, which JSON strings may hold and PostgreSQL keeps in no text: keys come back with it, messages show it."""

_STANDS_FOR_NUL = "\ufdd0"  # of the characters that Unicode leaves to programs for their own use


def kept(key: str) -> str:
    """A key as it is stored, and asked for."""
    return key.replace("\0", _STANDS_FOR_NUL)


def given(key: str) -> str:
    """A stored key as it was given to us."""
    return key.replace(_STANDS_FOR_NUL, "\0")


def shown(message: str) -> str:
    """A text for people, with all that PostgreSQL refuses spelled out."""
    return message.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
