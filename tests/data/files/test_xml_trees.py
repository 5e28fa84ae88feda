from __future__ import annotations

import re
from pathlib import Path

import pytest

from synreal.data.files.xml_trees import parse_xml
from synreal.errors import DataError

PATH = Path("a.xml")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "größe 螺栓"),
        ("utf-8-sig", "größe 螺栓"),
        ("utf-16", "größe 螺栓"),
        ("gb2312", "螺栓"),
        ("GBK", "螺栓"),
        ("shift_jis", "ボルト"),
        ("euc-kr", "볼트"),
        ("big5", "螺栓"),
        ("windows-1252", "größe – €"),
        ("windows-1251", "болт"),
        ("iso-8859-1", "größe"),
    ],
)
@pytest.mark.parametrize("quote", ["'", '"'])
def test_the_declared_encoding_is_read(encoding: str, text: str, quote: str) -> None:
    declared = encoding.removesuffix("-sig")
    raw = f"<?xml version={quote}1.0{quote} encoding={quote}{declared}{quote}?><a>{text}</a>".encode(encoding)
    assert parse_xml(raw, PATH).text == text


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (
            "<a>größe</a>".encode("latin-1"),
            "a.xml declares no encoding and is not in utf-8: byte 0xf6 at 5. Save it as",
        ),
        ("<?xml version='1.0' encoding='utf-8'?><a>螺栓</a>".encode("gbk"), "says it is in utf-8 and is not in utf-8"),
        (b"<?xml version='1.0' encoding='klingon'?><a/>", "says it is in klingon, an encoding that is not known"),
        (b"<?xml version='1.0' encoding='base64'?><a/>", "says it is in base64, an encoding that is not known"),
        (b"<a>", "a.xml is not XML: no element found"),
    ],
)
def test_another_encoding_is_no_truncation(raw: bytes, said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        parse_xml(raw, PATH)


def test_entities_are_refused_in_any_encoding() -> None:
    raw = "<?xml version='1.0' encoding='gbk'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>".encode("gbk")
    with pytest.raises(DataError, match="declares the entity 'b'"):
        parse_xml(raw, PATH)
