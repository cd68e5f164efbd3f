"""Which encoding a text is in, found from its bytes."""

import pytest

from behaviorlm.inspection.text_encodings import decoded

TEXTS = {
    "cp1252": "user;aktion\n1;Öffnen der Straße – é\n2;Prüfen\n",
    "cp1251": "кто;что\n1;открыть приложение\n2;купить\n",
    "shift_jis": "ユーザー;行動\n1;購入する\n2;検索する\n",
    "euc_jp": "ユーザー;行動\n1;購入する\n2;検索する\n",
    "gb18030": "用户;行为\n1;打开应用\n2;购买商品\n",
    "euc_kr": "사용자;행동\n1;앱을 엽니다\n2;구매합니다\n",
    "utf-16-le": "user;action\n1;open\n2;buy\n",
    "utf-16-be": "user;action\n1;open\n2;buy\n",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_an_encoding_is_named_where_nothing_says_it(encoding: str) -> None:
    text, choice = decoded((TEXTS[encoding] * 40).encode(encoding))
    assert choice is not None
    assert choice.value == encoding
    assert text == TEXTS[encoding] * 40


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_the_bytes_say_themselves_needs_no_key(encoding: str) -> None:
    text, choice = decoded(TEXTS["cp1251"].encode(encoding))
    assert choice is None
    assert text == TEXTS["cp1251"]


def test_bytes_may_end_inside_of_a_character() -> None:
    text, choice = decoded("añé".encode()[:-1])
    assert (text, choice) == ("añ", None)
