"""The Merkle tree of RFC 6962 section 2.1: root, inclusion and consistency proofs, and their checks.

A leaf is any bytes; a hash is 32 bytes SHA-256; leaf and node hashes are told apart by their
first byte, 0 and 1. The empty tree's root is SHA-256 of nothing. Checks are those of RFC 9162
(2.1.3.2 and 2.1.4.2), which need no tree: only the sizes, the roots and the proof.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a leaf as it stands in the tree."""
    return hashlib.sha256(b"\0" + leaf).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The Merkle tree hash over leaves in their order (MTH)."""
    return _root([leaf_hash(leaf) for leaf in leaves])


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """What shows that the leaf at `index` is in the tree over `leaves` (PATH)."""
    assert 0 <= index < len(leaves)
    return _path([leaf_hash(leaf) for leaf in leaves], index)


def consistency_path(leaves: Sequence[bytes], size_before: int) -> list[bytes]:
    """What shows that the tree over the first `size_before` leaves only grew into this one (PROOF)."""
    assert 0 < size_before <= len(leaves)
    return _subproof([leaf_hash(leaf) for leaf in leaves], size_before, complete=True)


def includes(root: bytes, size: int, index: int, leaf: bytes, path: Sequence[bytes]) -> bool:
    """Whether the path shows that `leaf` is at `index` of the tree with this size and root."""
    if not 0 <= index < size:
        return False
    position, last, digest = index, size - 1, leaf_hash(leaf)
    for sibling in path:
        if last == 0:
            return False
        if position & 1 or position == last:
            digest = _node(sibling, digest)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            digest = _node(digest, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and digest == root


def grew(size_before: int, root_before: bytes, size: int, root: bytes, path: Sequence[bytes]) -> bool:
    """Whether the path shows that the tree of `size` begins with the one of `size_before`: nothing changed, only added.

    Every tree begins with the empty one, which needs no path (RFC 6962 defines none).
    """
    if not 0 <= size_before <= size:
        return False
    if size_before == 0:
        return root_before == EMPTY_ROOT and not path
    if size_before == size:
        return root_before == root and not path
    nodes = _steps(size_before, root_before, path)
    position, last = size_before - 1, size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    first = next(nodes, None)
    if first is None:
        return False
    before = after = first
    for sibling in nodes:
        if last == 0:
            return False
        if position & 1 or position == last:
            before, after = _node(sibling, before), _node(sibling, after)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            after = _node(after, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and before == root_before and after == root


def _steps(size_before: int, root_before: bytes, path: Sequence[bytes]) -> Iterator[bytes]:
    """The path; a whole tree of 2^n leaves is its own first node and is left out of it."""
    if size_before & (size_before - 1) == 0:
        yield root_before
    yield from path


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _root(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return EMPTY_ROOT
    if len(hashes) == 1:
        return hashes[0]
    middle = _split(len(hashes))
    return _node(_root(hashes[:middle]), _root(hashes[middle:]))


def _path(hashes: Sequence[bytes], index: int) -> list[bytes]:
    if len(hashes) == 1:
        return []
    middle = _split(len(hashes))
    if index < middle:
        return [*_path(hashes[:middle], index), _root(hashes[middle:])]
    return [*_path(hashes[middle:], index - middle), _root(hashes[:middle])]


def _subproof(hashes: Sequence[bytes], size_before: int, *, complete: bool) -> list[bytes]:
    if size_before == len(hashes):
        return [] if complete else [_root(hashes)]
    middle = _split(len(hashes))
    if size_before <= middle:
        return [*_subproof(hashes[:middle], size_before, complete=complete), _root(hashes[middle:])]
    return [*_subproof(hashes[middle:], size_before - middle, complete=False), _root(hashes[:middle])]
