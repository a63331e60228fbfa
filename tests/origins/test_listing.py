import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote_plus
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import botocore.handlers
import botocore.parsers
import botocore.session
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncfetch.origins.listing import (
    MAX_PAGE_BYTES,
    ListedObject,
    MalformedPage,
    Page,
    parse_page,
)
from tests.soak import examples

NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
DATE = datetime(2024, 5, 1, 17, 50, 30, tzinfo=UTC)

# What AWS answers.
AWS = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><Prefix>a+b/</Prefix>\
<NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken><KeyCount>3</KeyCount>\
<MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
<Contents><Key>a+b/caf%C3%A9%26.jpg</Key><LastModified>2024-05-01T17:50:30.000Z</LastModified>\
<ETag>&quot;70ee1738b6b21e2c8a43f3a5ab0eee71&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm>\
<ChecksumType>FULL_OBJECT</ChecksumType><Size>5368709121</Size><StorageClass>STANDARD</StorageClass></Contents>\
<Contents><Key>a+b/d%2Be.jpg</Key><LastModified>2024-05-01T17:50:30.000Z</LastModified>\
<ETag>&quot;9c8af9a76df052144598c115ef33e511-2&quot;</ETag><Size>0</Size><StorageClass>GLACIER</StorageClass></Contents>\
<CommonPrefixes><Prefix>a+b/%C3%A9/</Prefix></CommonPrefixes></ListBucketResult>"""

# What rclone's server answers.
RCLONE = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <Name>b</Name>
  <IsTruncated>false</IsTruncated>
  <Prefix></Prefix>
  <MaxKeys>1000</MaxKeys>
  <Contents>
    <Key>a+b%2Bc.txt</Key>
    <LastModified>2024-05-01T17:50:30Z</LastModified>
    <ETag>764efa883dda1e11db47671c4a3bbd9e</ETag>
    <Size>3</Size>
    <StorageClass>STANDARD</StorageClass>
  </Contents>
  <Contents>
    <Key>%C3%A9.txt</Key>
    <LastModified>2024-05-01T17:50:30Z</LastModified>
    <ETag></ETag>
    <Size>3</Size>
    <StorageClass>STANDARD</StorageClass>
  </Contents>
  <EncodingType>url</EncodingType>
  <KeyCount>2</KeyCount>
</ListBucketResult>"""


def document(*elements: str, attributes: str = NAMESPACE) -> bytes:
    return f"<ListBucketResult{attributes}>{''.join(elements)}</ListBucketResult>".encode()


def entry(
    key: str = "key", date: str = "2024-05-01T17:50:30.000Z", etag: str = "&quot;e&quot;", size: str = "7"
) -> str:
    fields = f"<Key>{key}</Key><LastModified>{date}</LastModified><ETag>{etag}</ETag><Size>{size}</Size>"
    return f"<Contents>{fields}</Contents>"


def test_a_page_of_aws() -> None:
    assert parse_page(AWS) == Page(
        [
            ListedObject("a b/café&.jpg", 5_368_709_121, "70ee1738b6b21e2c8a43f3a5ab0eee71", DATE, "STANDARD"),
            ListedObject("a b/d+e.jpg", 0, "9c8af9a76df052144598c115ef33e511-2", DATE, "GLACIER"),
        ],
        ["a b/é/"],
        "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=",
    )
    assert parse_page(bytearray(AWS)) == parse_page(memoryview(AWS)) == parse_page(AWS)


def test_a_page_of_rclone_which_tells_its_encoding_after_the_keys() -> None:
    assert parse_page(RCLONE) == Page(
        [
            ListedObject("a b+c.txt", 3, "764efa883dda1e11db47671c4a3bbd9e", DATE, "STANDARD"),
            ListedObject("é.txt", 3, None, DATE, "STANDARD"),
        ],
        [],
        None,
    )


@pytest.mark.parametrize(
    "page",
    [
        document(),
        document(attributes=""),
        b"<ListBucketResult/>",
        "\ufeff<ListBucketResult/>".encode(),
        document("<IsTruncated>false</IsTruncated><NextContinuationToken>left over</NextContinuationToken>"),
    ],
)
def test_a_page_without_objects(page: bytes) -> None:
    assert parse_page(page) == Page([], [], None)


@pytest.mark.parametrize(
    "attributes", ["", NAMESPACE, ' xmlns="http://elsewhere/"', ' xmlns="" xmlns:xsi="http://elsewhere/" xsi:a="b"']
)
def test_namespaces_do_not_matter(attributes: str) -> None:
    page = document(entry(), "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>", attributes=attributes)
    assert parse_page(page) == Page([ListedObject("key", 7, "e", DATE)], ["p/"], None)


def test_a_namespace_with_a_prefix() -> None:
    page = document(entry(), "<IsTruncated>false</IsTruncated>", attributes="")
    page = re.sub(rb"<(/?)(\w)", rb"<\1s3:\2", page).replace(b"Result>", b'Result xmlns:s3="http://s3/">', 1)
    assert page.startswith(b'<s3:ListBucketResult xmlns:s3="http://s3/"><s3:Contents><s3:Key>')
    assert parse_page(page).objects == [ListedObject("key", 7, "e", DATE)]


@pytest.mark.parametrize(
    "contents",
    [
        "<Size>7</Size><ETag>&quot;e&quot;</ETag><LastModified>2024-05-01T17:50:30Z</LastModified><Key>key</Key>",
        "<Owner><ID>x</ID><Key>other</Key></Owner><Key>key</Key><Size>7</Size><ETag>e</ETag>"
        "<LastModified>2024-05-01T17:50:30Z</LastModified>",
        "<Key>key</Key><LastModified>2024-05-01T19:50:30+02:00</LastModified><ETag>&#34;e&#x22;</ETag><Size>7</Size>"
        "<New><Size>8</Size></New><StorageClass>STANDARD</StorageClass><RestoreStatus/>",
        '<Key a="b">key</Key><LastModified>2024-05-01T17:50:30</LastModified><ETag>"e"</ETag><Size>7</Size>',
        "<Key><![CDATA[key]]></Key><!-- <Key>no</Key> --><LastModified>2024-05-01T17:50:30Z</LastModified>"
        "<ETag>e</ETag><Size>7</Size>",
        "<Key>k<!-- -->e<?y?>y</Key><LastModified>2024-05-01T17:50:30Z</LastModified><ETag>e</ETag><Size>7</Size>",
        "<Key>&#107;ey</Key>\r\n\t<LastModified>2024-05-01T17:50:30Z</LastModified><ETag>e</ETag><Size>7</Size>",
    ],
)
def test_entries_of_any_shape(contents: str) -> None:
    expected = ListedObject("key", 7, "e", DATE, "STANDARD" if "StorageClass" in contents else None)
    odd = f"<Contents>{contents}</Contents>"
    assert parse_page(document(odd)).objects == [expected]
    mixed = document(entry("a"), odd, "<CommonPrefixes><Prefix>p</Prefix></CommonPrefixes>", entry("z"))
    assert [one.key for one in parse_page(mixed).objects] == ["a", "key", "z"]


def test_entries_and_prefixes_in_turns_keep_their_order() -> None:
    prefix = "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>".format
    page = parse_page(document(entry("b"), prefix("c/"), entry("d"), prefix("a/"), entry("e")))
    assert [one.key for one in page.objects] == ["b", "d", "e"]
    assert page.prefixes == ["c/", "a/"]


@pytest.mark.parametrize(
    ("written", "etag"),
    [
        ("&quot;abc-2&quot;", "abc-2"),
        ('"abc"', "abc"),
        ("abc", "abc"),
        ("W/&quot;abc&quot;", "W/abc"),
        ('W/"abc"', "W/abc"),
        ("&#34;abc&#34;", "abc"),
        ("", None),
        ("&quot;&quot;", None),
        ("&quot;", '"'),
    ],
)
def test_etags_lose_their_quotes_however_they_are_written(written: str, etag: str | None) -> None:
    assert parse_page(document(entry(etag=written))).objects[0].etag == etag
    assert parse_page(document(entry(etag=written), entry("&amp;"))).objects[0].etag == etag


def test_what_lies_outside_the_list_of_entries_is_not_an_entry() -> None:
    for outside in (f"<!-- {entry()} -->", f"<Note><![CDATA[{entry()}]]></Note>", f"<?note {entry()}?>"):
        assert parse_page(document(outside)).objects == []
        assert [one.key for one in parse_page(document(outside, entry("a"))).objects] == ["a"]
        assert [one.key for one in parse_page(document(entry("a"), outside)).objects] == ["a"]
    with pytest.raises(MalformedPage, match="outside"):
        parse_page(document(f"<Deeper>{entry()}</Deeper>"))
    assert [one.key for one in parse_page(document("<scanned/>", entry("a"), "<scanned/>")).objects] == ["a"]


def test_percent_signs_are_kept_where_the_page_says_nothing_of_an_encoding() -> None:
    prefix = "<CommonPrefixes><Prefix>%41+/</Prefix></CommonPrefixes>"
    assert parse_page(document(entry("a+%42"), prefix)) == Page([ListedObject("a+%42", 7, "e", DATE)], ["%41+/"], None)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (b"", "well-formed"),
        (b"not xml", "well-formed"),
        (b"<html><body>Bad gateway</body></html>", "document of <html>"),
        (b"<Error><Code>SlowDown</Code></Error>", "document of <Error>"),
        (document() + b"<again/>", "well-formed"),
        (b"</Contents>" + document(entry()), "well-formed"),
        (document("</Contents><Contents>"), "well-formed"),
        (document(entry().replace("</Key>", "")), "well-formed"),
        (document(entry("a&b")), "well-formed"),
        (document(entry("a]]>b")), "well-formed"),
        (document(entry("a\x01b")), "well-formed"),
        (document(entry("a\x00b")), "well-formed"),
        (document(entry("a\uffffb")), "well-formed"),
        (document(entry("&undefined;")), "well-formed"),
        (document(entry("a<b/>c")), "<Key> holds an element"),
        (document(entry()).replace(b"key", b"k\xffy"), "not UTF-8"),
        (document(entry()).decode().encode("utf-16"), "not UTF-8"),
        (document(entry("")), "no key"),
        (document("<Contents><Size>1</Size></Contents>"), "no key"),
        (document("<Contents><Key>k</Key></Contents>"), "size of 'k' is ''"),
        (document(entry(size="-1")), "size of 'key' is '-1'"),
        (document(entry(size="1e3")), "size"),
        (document(entry(size="٣")), "size"),
        (document(entry(size="9" * 20)), "size"),
        (document(entry(date="yesterday")), "'yesterday' is not a date"),
        (document("<EncodingType>url</EncodingType>", entry("a%FF")), "does not decode"),
        (document("<IsTruncated>true</IsTruncated>", entry()), "without a token"),
        (document("<a>" * 200_001 + "</a>" * 200_001), "tags"),
        (document("<a " + " ".join(f"a{n}='1'" for n in range(200_001)) + "/>"), "attributes"),
        (b" " * (MAX_PAGE_BYTES + 1), "at most"),
    ],
)
def test_what_is_no_page_is_refused_and_says_why(page: bytes, said: str) -> None:
    with pytest.raises(MalformedPage, match=said):
        parse_page(page)


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE ListBucketResult [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE ListBucketResult [<!ENTITY b SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE ListBucketResult SYSTEM "http://127.0.0.1/x.dtd">',
        "<!DOCTYPE ListBucketResult>",
    ],
)
@pytest.mark.parametrize("key", ["&b;", "key"])
@pytest.mark.parametrize(
    "encoding", ["", '<?xml version="1.0" encoding="UTF-16"?>', '<?xml version="1.0" encoding="x"?>']
)
def test_document_types_are_refused_and_with_them_all_entities(declaration: str, key: str, encoding: str) -> None:
    with pytest.raises(MalformedPage, match="document type"):
        parse_page(f"{encoding}{declaration}".encode() + document(entry(key)))


def test_another_declared_encoding_is_not_believed() -> None:
    page = b'<?xml version="1.0" encoding="latin-1"?>' + document(entry("é"))
    assert parse_page(page).objects[0].key == "é"


@pytest.mark.parametrize("page", [AWS, RCLONE, document(entry("&amp;"))], ids=["aws", "rclone", "entity"])
def test_a_page_cut_off_anywhere_is_refused(page: bytes) -> None:
    for stop in range(len(page)):
        with pytest.raises(MalformedPage):
            parse_page(page[:stop])


class Written(NamedTuple):
    """An object, and how its page writes it."""

    key: str
    size: int
    etag: str
    date: datetime
    quote: str
    layout: int
    storage_class: str | None = "STANDARD"


# What XML 1.0 can hold, but for what it changes: line ends. The odd ones are often there.
characters = st.one_of(
    st.sampled_from("&<>\"'+%/ ]\t.~é😀"),
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"),
)
dates = st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda date: date.replace(microsecond=date.microsecond // 1000 * 1000)
)
classes = st.sampled_from(["STANDARD", "DEEP_ARCHIVE", None])
written = st.builds(
    Written,
    st.text(characters, min_size=1, max_size=30),
    st.integers(0, 2**63 - 1),
    st.text("0123456789abcdef-", min_size=1, max_size=40),
    dates,
    st.sampled_from(["&quot;", '"', "&#34;", ""]),
    st.integers(0, 3),
    classes,
)
plain = st.builds(
    Written,
    st.text("abc/+%. é", min_size=1, max_size=30),
    st.integers(0, 2**63 - 1),
    st.text("0123456789abcdef-", min_size=1, max_size=40),
    dates,
    st.sampled_from(["&quot;", ""]),
    st.integers(0, 1),
    classes,
)


def page_of(objects: list[Written], prefixes: list[str], token: str, encoded: bool, namespace: bool) -> bytes:
    write = quote_plus if encoded else str
    parts = [
        f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>",
        f"<NextContinuationToken>{escape(token)}</NextContinuationToken>" if token else "",
        "<EncodingType>url</EncodingType>" if encoded else "",
    ]
    for one in objects:
        fields = [
            f"<Key>{escape(write(one.key))}</Key>",
            f"<LastModified>{one.date:%Y-%m-%dT%H:%M:%S}.{one.date.microsecond // 1000:03}Z</LastModified>",
            f"<ETag>{one.quote}{one.etag}{one.quote}</ETag>",
            f"<Size>{one.size}</Size>",
            f"<StorageClass>{one.storage_class}</StorageClass>" if one.storage_class else "",
        ]
        if one.layout > 1:
            fields = [*fields[one.layout :], "<Owner><ID>1</ID></Owner>", *fields[: one.layout]]
        parts.append(f"<Contents>{('' if one.layout % 2 else chr(10) + '    ').join(fields)}</Contents>")
    parts += [f"<CommonPrefixes><Prefix>{escape(write(prefix))}</Prefix></CommonPrefixes>" for prefix in prefixes]
    return document(*parts, attributes=NAMESPACE if namespace else "")


@settings(max_examples=examples(150), deadline=None)
@given(
    objects=st.lists(written, max_size=6) | st.lists(plain, max_size=6),
    prefixes=st.lists(st.text(characters, min_size=1, max_size=20), max_size=3),
    token=st.text(characters, max_size=20),
    encoded=st.booleans(),
    namespace=st.booleans(),
)
@example([Written("a", 1, "e", DATE, "&quot;", 0)], ["p"], "", True, True)
@example([Written("]]>", 1, "e", DATE, "", 0)], [], "", False, True)
def test_pages_come_back_as_they_were_written_and_as_botocore_reads_them(
    objects: list[Written], prefixes: list[str], token: str, encoded: bool, namespace: bool
) -> None:
    body = page_of(objects, prefixes, token, encoded, namespace)
    page = parse_page(body)
    assert page == Page(
        [ListedObject(o.key, o.size, o.etag, o.date, o.storage_class) for o in objects], prefixes, token or None
    )
    theirs = read_by_botocore(body)
    assert [(o.key, o.size, o.etag, o.last_modified, o.storage_class) for o in page.objects] == [
        (one["Key"], one["Size"], one["ETag"].strip('"'), one["LastModified"], one.get("StorageClass"))
        for one in theirs.get("Contents", [])
    ]
    assert page.prefixes == [one["Prefix"] for one in theirs.get("CommonPrefixes", [])]
    assert (page.next_token or None) == (theirs.get("NextContinuationToken") if theirs["IsTruncated"] else None)


OPERATION = botocore.session.Session().get_service_model("s3").operation_model("ListObjectsV2")


def read_by_botocore(body: bytes) -> dict[str, Any]:
    response = {"headers": {}, "body": body, "status_code": 200}
    parsed: dict[str, Any] = botocore.parsers.create_parser("rest-xml").parse(response, OPERATION.output_shape)
    botocore.handlers.decode_list_object_v2(parsed, {"encoding_type_auto_set": True})
    return parsed


@settings(max_examples=examples(200), deadline=None)
@given(st.data())
def test_damaged_pages_are_refused_or_read_as_elementtree_reads_them(data: st.DataObject) -> None:
    page = bytearray(data.draw(st.sampled_from([AWS, RCLONE])))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(page) - 1))
        kind = data.draw(st.sampled_from(["delete", "replace", "double"]))
        length = data.draw(st.integers(1, 30))
        if kind == "delete":
            del page[at : at + length]
        elif kind == "replace":
            page[at] = data.draw(st.sampled_from(b"<>&;/\"'! \x00\xffaC0"))
        else:
            page[at:at] = page[at : at + length]
    try:
        read = parse_page(page)
    except MalformedPage:
        return
    root = ElementTree.fromstring(bytes(page).decode())
    space = root.tag.removesuffix("ListBucketResult")
    sizes = [int(one.findtext(f"{space}Size", "")) for one in root.findall(f"{space}Contents")]
    assert [one.size for one in read.objects] == sizes
    assert len(read.prefixes) == len(root.findall(f"{space}CommonPrefixes"))


def test_dates_are_aware_whatever_the_server_wrote() -> None:
    for date, expected in (
        ("2024-05-01T17:50:30.123Z", DATE + timedelta(milliseconds=123)),
        ("2024-05-01T17:50:30.123456789Z", DATE + timedelta(microseconds=123456)),
        ("2024-05-01T17:50:30", DATE),
        ("", None),
    ):
        assert parse_page(document(entry(date=date))).objects[0].last_modified == expected
