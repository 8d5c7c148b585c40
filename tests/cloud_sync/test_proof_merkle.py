"""The tree of RFC 6962 against published vectors and any tree of up to 200 leaves.

The vectors are facts of the Certificate Transparency project (github.com/google/certificate-transparency,
cpp/merkletree/merkle_tree_test.cc; the same in github.com/google/trillian, testonly/compact_merkle_tree.go):
the inputs, kSHA256Roots, the inclusion paths and the consistency proofs.
"""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.proof.merkle import EMPTY_ROOT, consistency_path, grew, includes, inclusion_path, leaf_hash, root_of

LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
# (index, size): path
INCLUSION = {
    (0, 1): (),
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
    (1, 5): (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}
# (size before, size): path
CONSISTENCY = {
    (1, 1): (),
    (1, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}


def from_hex(path: tuple[str, ...]) -> list[bytes]:
    return [bytes.fromhex(digest) for digest in path]


@pytest.mark.parametrize("size", range(9))
def test_root_is_the_published_one_for_every_size(size: int) -> None:
    assert root_of(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_path_is_the_published_one_and_holds(index: int, size: int) -> None:
    path = from_hex(INCLUSION[index, size])
    assert inclusion_path(LEAVES[:size], index) == path
    assert includes(bytes.fromhex(ROOTS[size]), size, index, LEAVES[index], path)


@pytest.mark.parametrize(("size_before", "size"), CONSISTENCY)
def test_consistency_path_is_the_published_one_and_holds(size_before: int, size: int) -> None:
    path = from_hex(CONSISTENCY[size_before, size])
    assert consistency_path(LEAVES[:size], size_before) == path
    assert grew(size_before, bytes.fromhex(ROOTS[size_before]), size, bytes.fromhex(ROOTS[size]), path)


def test_a_node_is_no_leaf() -> None:
    """RFC 6962 2.1: without the prefix a node could be shown as a leaf with the same hash."""
    pair = root_of([b"a"]) + root_of([b"b"])
    assert leaf_hash(pair) != root_of([b"a", b"b"])
    assert leaf_hash(b"") != EMPTY_ROOT == hashlib.sha256(b"").digest()


LEAF_LISTS = st.integers(1, 200).map(lambda size: [b"leaf %d" % number for number in range(size)])
LEAF_LISTS |= st.lists(st.binary(max_size=40), min_size=1, max_size=40, unique=True)


@given(LEAF_LISTS, st.data())
def test_every_leaf_of_any_tree_is_shown_and_no_other_thing_is(leaves: list[bytes], data: st.DataObject) -> None:
    size, root = len(leaves), root_of(leaves)
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_path(leaves, index)
    assert includes(root, size, index, leaves[index], path)
    assert not includes(root, size, index, leaves[index] + b"\0", path)
    assert not includes(root, size, size, leaves[index], path)
    assert not includes(root, size, index, leaves[index], [*path, root])
    other = data.draw(st.integers(0, size - 1))
    assert includes(root, size, other, leaves[index], path) == (other == index)
    if path:
        position, bit = data.draw(st.integers(0, len(path) - 1)), data.draw(st.integers(0, 255))
        flipped = int.from_bytes(path[position], "big") ^ 1 << bit
        path[position] = flipped.to_bytes(32, "big")
        assert not includes(root, size, index, leaves[index], path)
        assert not includes(root, size, index, leaves[index], path[:-1])


@given(LEAF_LISTS, st.data())
def test_any_tree_is_shown_to_have_grown_from_each_smaller_one(leaves: list[bytes], data: st.DataObject) -> None:
    size, root = len(leaves), root_of(leaves)
    before = data.draw(st.integers(1, size))
    root_before, path = root_of(leaves[:before]), consistency_path(leaves, before)
    assert grew(before, root_before, size, root, path)
    assert grew(0, EMPTY_ROOT, size, root, [])
    assert not grew(before, root_before, size, root, [*path, root])
    assert not grew(size + 1, root_before, size, root, path)
    if path:
        assert not grew(before, root_before, size, root, path[:-1])
        assert not grew(before, root_before, size, root, [*path[:-1], bytes(32)])


@given(LEAF_LISTS, st.data())
def test_a_changed_leaf_is_no_growth(leaves: list[bytes], data: st.DataObject) -> None:
    """The operator rewrites an old leaf and shows the best path there is: the new tree's own."""
    before = data.draw(st.integers(1, len(leaves)))
    rewritten = list(leaves)
    rewritten[data.draw(st.integers(0, before - 1))] += b"!"
    path = consistency_path(rewritten, before)
    assert not grew(before, root_of(leaves[:before]), len(leaves), root_of(rewritten), path)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=9), st.data())
def test_path_of_any_hashes_never_shows_a_leaf_that_is_not_there(leaves: list[bytes], data: st.DataObject) -> None:
    path = data.draw(st.lists(st.binary(min_size=32, max_size=32), max_size=6))
    index = data.draw(st.integers(-2, 12))
    assert not includes(root_of(leaves), len(leaves), index, b"not a leaf", path)
