"""Reads file names whose archive does not say in which charset they are.

All names of an archive are judged together, because one short name fits many charsets. The
charsets are those that computers in use write into zips without saying so. charset-normalizer
answers for prose and needs some lines of it; names have one or two letters, so its answer counts
for little beside how common the letters are that a charset would give: GB 2312, Big5 and JIS X
0208 each have a first level of common characters, and letters of one word are of one script.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_ENOUGH_BYTES = 20_000
_WEIGHT_OF_LIBRARY = 0.3
_CHAOS_WHEN_REJECTED = 0.2
"""The library's own threshold: what it does not name is at least as messy."""

# The syllables that make up three quarters of written Korean; of the 2,350 in EUC-KR, which lie
# in the order of the alphabet, where common and rare ones stand side by side.
_HANGUL = frozenset(
    "가각간갈감갑강개객거건걸검것게격견결경계고곡곤골공과관광교구국군굴권귀규균그극근글금급기긴"
    "길김깃까깨꼬꽃꾸꿀끈끼나낙난날남낮내냉너널네넥넷녀년노녹논놀농높놓뇌누눈늘능니다닥단달닭담"
    "답당대댕더덕덩데뎅도독돈돌동돼되됨두둑둘둠둥뒤드든들등디딸땅때또뚜띠라락란람랑래랙랜램량러"
    "럭런럼레렉렌려력련령로록론료룡루룸류륙률르른름릎리릭린림립릿링마막만말맑맘맛망매맥맨머먹먼"
    "멍메면명모목몰몸못몽묘무문물뮤미믹민밀및밑바박반발밤밥방배백뱀버번벌범법벗벚베벨벼벽변별병"
    "보복본볼봄봇봉부북분불뷰브블비빈빌빗빨빵뿌사산살삼상새색샌샐샘생샤서석선설섬성세셀셋셔소속"
    "손솜송쇠쇼수숙순술숨숲슈스슨슬습승시식신실싫심십싱싸쓰쓴씨아안알암압앙앞애액앵야약양어억언"
    "얼엄업없엉에엘여역연열염엽영옆예오옥온올옷와완왕외왼요욕용우운울움웃웅원월웨위윈윗유육윤율"
    "으은을음응의이익인일임입잇있잎자작잔잘잠잡장재쟁저적전절점접정젖제젤조족존종좋좌죄주죽준줄"
    "중쥐즈증지직진질짐집짝짧쪽찌찍차착찬참창채책처천철첫청체초촉촌총최추축춘출춤충츠치친칠침카"
    "칼캐캔캠커컵켓켜코콘콜콤콩쿠퀴큐크큰클키킨킹타탁탄탈탑탕태택탱터테텐텔토톤톱통퇴투튜튤트특"
    "티틱틸팀팅파판팔팡팥패팬퍼페펜펭편평폐포폭폰폴표푸풀품풍프플피핀필핑하학한할함합항해핸햄햇"
    "행향허헌험헤헬혁현혈형호혹혼홈홍화환활황회획효후훈휘휴흑흙희흰"
)


@dataclass(frozen=True, kw_only=True)
class _Charset:
    """A charset, and the bytes of its common characters when it has two for a letter."""

    codec: str
    called: str
    common: re.Pattern[bytes] | None = None
    known: re.Pattern[bytes] | None = None


# Equal scores are settled by this order.
_CHARSETS = (
    _Charset(codec="cp437", called=""),
    _Charset(codec="cp850", called="Western European (code page 850)"),
    _Charset(codec="cp1252", called="Latin-1"),
    _Charset(codec="cp866", called="Cyrillic (code page 866)"),
    _Charset(codec="cp1251", called="Cyrillic (Windows-1251)"),
    _Charset(
        codec="cp932",
        called="Shift-JIS",
        common=re.compile(
            rb"[\x88-\x97][\x40-\xfc]|\x98[\x40-\x72]|[\x82\x83][\x40-\xfc]|\x81\x5b"
        ),
        known=re.compile(rb"[\x81\x98-\x9f\xe0-\xea][\x40-\xfc]"),
    ),
    _Charset(
        codec="cp949",
        called="EUC-KR",
        known=re.compile(rb"[\xb0-\xc8][\xa1-\xfe]"),
    ),
    _Charset(
        codec="gb18030",
        called="GBK",
        common=re.compile(rb"[\xb0-\xd7][\xa1-\xfe]"),
        known=re.compile(rb"[\xa1-\xa3\xd8-\xf7][\xa1-\xfe]"),
    ),
    _Charset(
        codec="cp950",
        called="Big5",
        common=re.compile(rb"[\xa4-\xc6][\x40-\x7e\xa1-\xfe]"),
        known=re.compile(rb"[\xa1-\xa3\xc9-\xf9][\x40-\x7e\xa1-\xfe]"),
    ),
)


def decoded(names: Sequence[bytes]) -> tuple[list[str], str | None]:
    """Reads names that are in no stated charset.

    Args:
        names: The names as they stand in the archive. Those that are UTF-8 are read so.

    Returns:
        The names as text, and a sentence on the charset if one had to be guessed.
    """
    texts, called = guessed(names)
    return texts, f"File names were read as {called}." if called else None


def guessed(names: Sequence[bytes]) -> tuple[list[str], str]:
    """Reads names or lines as `decoded` does.

    Returns:
        The texts, and what the charset is called if one had to be guessed, else "". A byte that
        is nothing in the charset becomes a replacement character.
    """
    foreign = [name for name in dict.fromkeys(names) if not name.isascii()]
    others = [name for name in foreign if not _is_utf8(name)]
    if not others:
        return [name.decode() for name in names], ""
    # One program wrote them all: where half of them are no UTF-8, the rest only looks so.
    is_mixed = 2 * len(others) < len(foreign)
    charset = _best(others if is_mixed else foreign)
    texts = [
        name.decode()
        if name.isascii() or (is_mixed and _is_utf8(name))
        else name.decode(charset.codec, "replace")
        for name in names
    ]
    return texts, charset.called


def _is_utf8(name: bytes) -> bool:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return False
    return not any(unicodedata.category(letter) == "Cn" for letter in text)


def _best(names: Sequence[bytes]) -> _Charset:
    """Returns the charset in which the names read best; cp437 reads anything."""
    words = _words(names)
    chaos = _chaos(b"\n".join(words))
    fitting = [charset for charset in _CHARSETS if _fits(words, charset)]
    return max(
        fitting or _CHARSETS[:1],
        key=lambda charset: (
            _plausibility(words, charset)
            - _WEIGHT_OF_LIBRARY * chaos.get(charset.codec, _CHAOS_WHEN_REJECTED)
        ),
    )


def _words(names: Sequence[bytes]) -> list[bytes]:
    """Returns the distinct folder and file names that are not plain English letters."""
    parts = dict.fromkeys(
        part for name in names for part in _split(name) if part and not part.isascii()
    )
    sizes = itertools.accumulate(len(part) for part in parts)
    return [part for part, end in zip(parts, sizes, strict=True) if end - len(part) < _ENOUGH_BYTES]


def _split(name: bytes) -> list[bytes]:
    # Not at back-slashes: in Shift-JIS, GBK and Big5 they are the second half of some letters.
    return name.split(b"/")


def _fits(words: Sequence[bytes], charset: _Charset) -> bool:
    try:
        for word in words:
            word.decode(charset.codec)
    except UnicodeDecodeError:
        return False
    return True


def _chaos(text: bytes) -> dict[str, float]:
    """Returns how messy charset-normalizer finds the text in each charset, 0 to 1."""
    from charset_normalizer import from_bytes

    codecs = [charset.codec for charset in _CHARSETS]
    return {match.encoding: match.chaos for match in from_bytes(text, cp_isolation=codecs)}


def _plausibility(words: Sequence[bytes], charset: _Charset) -> float:
    """Returns how likely a person would have named files so, 0 to 1, as a mean over letters."""
    judged = [grade for word in words for grade in _grades(word, charset)]
    return sum(judged) / max(len(judged), 1)


def _grades(word: bytes, charset: _Charset) -> list[float]:
    text = word.decode(charset.codec)
    if charset.known is None:
        return [
            grade
            for run in re.findall(r"[^\W\d_]+|[^\x00-\x7f]", text)
            if not run.isascii()
            for grade in _alphabetic(run)
        ]
    return [
        _ideographic(letter, text[:at][-1:], charset)
        for at, letter in enumerate(text)
        if not letter.isascii()
    ]


_MEETS_LATIN = 0.4
_RARE, _UNCOMMON = 0.05, 0.4


def _ideographic(letter: str, before: str, charset: _Charset) -> float:
    code = letter.encode(charset.codec)
    meets = _MEETS_LATIN if before.isascii() and before.isalpha() else 1.0
    if len(code) != 2:
        return 0.0 if charset.codec == "gb18030" else _RARE  # half-width kana
    if charset.common is not None and charset.common.fullmatch(code):
        return meets
    if charset.common is None and letter in _HANGUL:
        return meets
    assert charset.known is not None
    return (_UNCOMMON if charset.known.fullmatch(code) else _RARE) * meets


_VOWELS = frozenset("аеёиоуыэюя")
_NO_LETTER = frozenset("ƒªº")
"""Signs that count as letters of the Latin script and do not stand in words."""


def _alphabetic(run: str) -> list[float]:
    """Grades the letters of one word beyond ASCII."""
    foreign = [letter for letter in run if not letter.isascii()]
    scripts = {unicodedata.name(letter, "?").split()[0] for letter in run}
    if len(scripts) > 1 or not run.isalpha() or not _NO_LETTER.isdisjoint(run):
        return [_RARE] * len(foreign)
    has_case = run in (run.lower(), run.upper(), run.capitalize())
    grade = (1.0 if has_case else _UNCOMMON) * _GRADERS.get(scripts.pop(), _greek)(run)
    return [grade] * len(foreign)


def _latin(run: str) -> float:
    # Accents are the exception in a word: a run of them is another script misread.
    share = sum(not letter.isascii() for letter in run) / len(run)
    return min(1.0, 1.7 - 1.4 * share) if len(run) > 1 else 1.0


def _cyrillic(run: str) -> float:
    return 1.0 if len(run) > 1 and not _VOWELS.isdisjoint(run.lower()) else _UNCOMMON


def _greek(_: str) -> float:
    return _RARE  # the few Greek letters of cp437 are signs of mathematics


_GRADERS: dict[str, Callable[[str], float]] = {"LATIN": _latin, "CYRILLIC": _cyrillic}
