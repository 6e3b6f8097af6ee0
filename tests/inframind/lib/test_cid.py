import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.cid import (
    DAG_PB,
    MAX_DIRECTORY_ENTRIES,
    RAW,
    Cid,
    FileBuilder,
    Node,
    directory,
    directory_tree,
    parse_cid,
)
from inframind.lib.dagpb import decode_node, decode_unixfs

_EMPTY_FILE = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
_HELLO = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
_EMPTY_DIRECTORY = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"

# What js-ipfs (ipfs-unixfs-importer 17.1.1) gives: chunk bytes, fan-out, bytes of content, CID.
_VECTORS = [
    (1, 3, 30, "bafybeibno4imvgndc5yf7q67pseyr6sqbgwsdxj6mwkqu25wh3mhhkb7sm"),
    (1, 3, 28, "bafybeieb266hjueupt2qm6ncdux24w4du3mp2weojkbb7mrcvjbdqzrbyi"),
    (1, 3, 27, "bafybeie453lvsxokudxzj3eeq6ocvtnbntosd5wu6ne2d3qiyr3vrjab6i"),
    (1, 2, 9, "bafybeietraz4mxcs765sz5zeiamcwc6agbedct5be2ognazotq6uwscrfm"),
    (10, 1024, 10240, "bafybeidurfw7wav2uyn6uxacliaytgxlmaj32n3rkdym6vrvotu7uysi3e"),
    (10, 1024, 10241, "bafybeia4uonk4kj3zmm2rk3xz7vsz4ac2v7wdmseo2gceciile5awrx3bu"),
    (7, 1024, 21505, "bafybeigzkisbtb5qppeyvgoasjog4rrb3nlv722zzai7iy3xvmo7rmhrgy"),
    (1048576, 1024, 5242880, "bafybeieskuujlqljjg5c7b74slnyodqpw7csmfodnlkraw7ydverpkbvva"),
    (1048576, 1024, 10485763, "bafybeiakld32o6eoguinaddnlsxwvfkmp2oni4rxqrqtvy4gzpbnthbkmm"),
]


def _pattern(size: int) -> bytes:
    return bytes(index * 7 % 251 for index in range(size))


def _ignore(cid: Cid, block: bytes) -> None:
    """Blocks are not needed."""


def _file(data: bytes, **options: int) -> Node:
    builder = FileBuilder(_ignore, **options)
    builder.feed(data)
    return builder.finish()


def test_known_cids_of_small_content() -> None:
    assert str(_file(b"").cid) == _EMPTY_FILE
    assert str(_file(b"hello world").cid) == _HELLO
    assert str(directory([], _ignore).cid) == _EMPTY_DIRECTORY


@pytest.mark.parametrize(("chunk_bytes", "fan_out", "size", "cid"), _VECTORS)
def test_cids_of_many_chunks_are_those_of_js_ipfs(
    chunk_bytes: int, fan_out: int, size: int, cid: str
) -> None:
    assert str(_file(_pattern(size), chunk_bytes=chunk_bytes, fan_out=fan_out).cid) == cid


def test_a_tree_has_the_cid_that_kubo_gives() -> None:
    content = {
        "a.txt": b"hi",
        "B/z": b"",
        "B/y/ü.bin": b"x" * 600,
        "b.txt": b"q",
        'c d/%41"x': b"1",
    }
    tree = directory_tree([(path, _file(data)) for path, data in content.items()], _ignore)
    assert str(tree.cid) == "bafybeicgck2ulbhaigob7lfr3kcvkropfspolr2y3pimfyiudlt5lvipni"
    assert tree.size_bytes == sum(map(len, content.values()))


@given(st.binary(max_size=400), st.lists(st.integers(0, 400)), st.integers(1, 50))
def test_how_the_bytes_arrive_does_not_matter(
    data: bytes, cuts: list[int], chunk_bytes: int
) -> None:
    builder = FileBuilder(_ignore, chunk_bytes=chunk_bytes, fan_out=3)
    places = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(places):
        builder.feed(data[start:end])
    assert builder.finish() == _file(data, chunk_bytes=chunk_bytes, fan_out=3)


@given(st.binary(max_size=300), st.integers(1, 20), st.integers(2, 5))
def test_the_emitted_blocks_hold_the_content_and_hash_to_their_cids(
    data: bytes, chunk_bytes: int, fan_out: int
) -> None:
    blocks: dict[bytes, bytes] = {}

    def keep(cid: Cid, block: bytes) -> None:
        assert cid.matches(block)
        blocks[bytes(cid)] = block

    def read(cid: bytes) -> bytes:
        if Cid.from_bytes(cid).codec == RAW:
            return blocks[cid]
        links, record = decode_node(blocks[cid])
        content = b"".join(read(link.cid) for link in links)
        assert decode_unixfs(record).file_size_bytes == len(content)
        return content

    builder = FileBuilder(keep, chunk_bytes=chunk_bytes, fan_out=fan_out)
    builder.feed(data)
    assert read(bytes(builder.finish().cid)) == data


def test_directories_ignore_order_and_refuse_what_ipfs_would_shard() -> None:
    leaf = _file(b"x")
    assert directory([("a", leaf), ("b", leaf)], _ignore) == directory(
        [("b", leaf), ("a", leaf)], _ignore
    )
    entries = [(f"f{number}", leaf) for number in range(MAX_DIRECTORY_ENTRIES + 1)]
    assert directory(entries[1:], _ignore).size_bytes == MAX_DIRECTORY_ENTRIES
    with pytest.raises(ValueError, match="999 are allowed"):
        directory(entries, _ignore)
    with pytest.raises(ValueError, match="too long"):
        directory([(f"{number:0255d}", leaf) for number in range(900)], _ignore)


@pytest.mark.parametrize("names", [["a", "a"], [""], ["."], [".."], ["a/b"]])
def test_directories_refuse_names_that_are_not_file_names(names: list[str]) -> None:
    with pytest.raises(ValueError):
        directory([(name, _file(b"")) for name in names], _ignore)


def test_a_cid_is_read_from_base32_and_base58_as_the_same_bytes() -> None:
    base58 = "zdj7WWeQ43G6JJvLWQWZpyHuAMq6uYWRjkBXFad11vE2LHhQ7"
    read = parse_cid(base58)
    assert read == parse_cid(str(read))
    assert read.codec == DAG_PB
    assert str(read) == "bafybeiasb5vpmaounyilfuxbd3lryvosl4yefqrfahsb2esg46q6tu6y5q"


@pytest.mark.parametrize(
    "text",
    ["", "b", "x", "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG", _HELLO.upper(), _HELLO[:-1],
     _HELLO[:-1] + "f", _HELLO + "a", "b" + "a" * 500, "z0OIl", "bafé", "mAVUSI", f" {_HELLO}",
     "bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"],
)  # fmt: skip
def test_what_is_not_a_usable_cid_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="CID"):
        parse_cid(text)


@given(st.sampled_from([RAW, DAG_PB]), st.binary(max_size=50))
def test_text_and_bytes_of_a_cid_read_back(codec: int, block: bytes) -> None:
    cid = Cid.of(codec, block)
    assert parse_cid(str(cid)) == cid
    assert Cid.from_bytes(bytes(cid)) == cid


@given(st.binary(max_size=200))
def test_any_bytes_are_a_node_or_a_value_error(data: bytes) -> None:
    for read in (decode_node, decode_unixfs, Cid.from_bytes):
        try:
            read(data)
        except ValueError:
            continue
