"""The RFC 9162 tree over leaves: its root stands for the first events of a log in their order (design D13)."""

import hashlib


class Tree:
    """Grows by one leaf hash at a time, and keeps as many hashes as its size has one-bits."""

    def __init__(self) -> None:
        self.size = 0
        self._whole: list[bytes] = []  # roots of whole subtrees, the largest first

    def add(self, leaf: bytes) -> None:
        size = self.size
        while size & 1:
            leaf = _node(self._whole.pop(), leaf)
            size >>= 1
        self._whole.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """SHA-256 over all leaves added so far; of none, that of nothing."""
        if not self._whole:
            return hashlib.sha256().digest()
        root = self._whole[-1]
        for left in reversed(self._whole[:-1]):
            root = _node(left, root)
        return root


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
