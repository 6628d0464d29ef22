"""The tree over leaves, with the values that Certificate Transparency's own implementations are tested with."""

import hashlib
import random

from everlog.store.tree import Tree

INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_the_roots_are_those_of_certificate_transparency() -> None:
    tree = Tree()
    roots = [tree.root().hex()]
    for data in INPUTS:
        tree.add(hashlib.sha256(b"\x00" + bytes.fromhex(data)).digest())
        roots.append(tree.root().hex())
    assert (roots, tree.size) == (ROOTS, 8)


def test_every_size_has_the_root_that_the_definition_gives() -> None:
    source = random.Random(9162)
    leaves = [source.randbytes(32) for _ in range(200)]
    tree = Tree()
    for size, leaf in enumerate(leaves, 1):
        tree.add(leaf)
        assert tree.root() == defined(leaves[:size])


def defined(leaves: list[bytes]) -> bytes:
    """RFC 9162, 2.1.1, word by word."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + defined(leaves[:k]) + defined(leaves[k:])).digest()
