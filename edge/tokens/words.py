"""What `wattgate token` says to people, in English and Chinese."""

from collections.abc import Mapping
from typing import Final

LANGUAGES: Final = ("en", "zh")

_ENGLISH: Final[Mapping[str, str]] = {
    "key": "decoder key {decoder_key}",
    "issued": "{token}",
    "issued_section": "{token}  section {section}",
    "issued_count": "{token}  count {count}",
    "refused": "{token}  refused: {reason}",
    "credit": "{token}  {what} {amount}, issued {issued_at}",
    "management": "{token}  {what} {value}, issued {issued_at}",
    "test": "{token}  test or display, any meter",
    "section": "{token}  key change, section {section} of 4",
    "changed": "{token}  key change, section {section} of 4: the key is changed",
    "paygo": "{token}  {what} {value}, count {count}",
    "paygo_plain": "{token}  {what}, count {count}",
    "reason.crc": "wrong digit, or another meter's token",
    "reason.malformed": "not the digits of a token",
    "reason.expired_key": "the key has expired",
    "reason.used": "used before",
    "reason.old": "too old",
    "reason.unknown": "not known to this meter",
    "credit.0": "electricity",
    "credit.1": "water",
    "credit.2": "gas",
    "credit.3": "time",
    "unit.0": "kWh",
    "unit.1": "m3",
    "unit.2": "m3",
    "unit.3": "min",
    "management.0": "power limit, W:",
    "management.1": "clear credit, register",
    "management.2": "tariff rate",
    "management.5": "clear tamper condition",
    "management.6": "phase unbalance limit, W:",
    "paygo.ADD_TIME": "add",
    "paygo.SET_TIME": "set to",
    "paygo.DISABLE_PAYG": "unlock for good",
    "paygo.COUNTER_SYNC": "synchronise the counter",
}

_CHINESE: Final[Mapping[str, str]] = {
    "key": "解码密钥 {decoder_key}",
    "issued": "{token}",
    "issued_section": "{token}  第 {section} 段",
    "issued_count": "{token}  计数 {count}",
    "refused": "{token}  被拒绝:{reason}",
    "credit": "{token}  {what} {amount},签发于 {issued_at}",
    "management": "{token}  {what} {value},签发于 {issued_at}",
    "test": "{token}  测试或显示,适用于任何电表",
    "section": "{token}  密钥更换,第 {section} 段,共 4 段",
    "changed": "{token}  密钥更换,第 {section} 段,共 4 段:密钥已更换",
    "paygo": "{token}  {what} {value},计数 {count}",
    "paygo_plain": "{token}  {what},计数 {count}",
    "reason.crc": "数字有误,或不是本表的代码",
    "reason.malformed": "不是有效的代码数字",
    "reason.expired_key": "密钥已过期",
    "reason.used": "已使用过",
    "reason.old": "代码过旧",
    "reason.unknown": "本表不认识该代码",
    "credit.0": "电量",
    "credit.1": "用水",
    "credit.2": "燃气",
    "credit.3": "时间",
    "unit.0": "kWh",
    "unit.1": "m3",
    "unit.2": "m3",
    "unit.3": "分钟",
    "management.0": "功率上限(W)",
    "management.1": "清除余额,寄存器",
    "management.2": "费率",
    "management.5": "清除窃电告警",
    "management.6": "相间功率不平衡上限(W)",
    "paygo.ADD_TIME": "增加",
    "paygo.SET_TIME": "设为",
    "paygo.DISABLE_PAYG": "永久解锁",
    "paygo.COUNTER_SYNC": "同步计数器",
}

_WORDS: Final = {"en": _ENGLISH, "zh": _CHINESE}


def language_of(environment: Mapping[str, str]) -> str:
    """The language that LC_ALL, LC_MESSAGES or LANG asks for; English where it is none of ours."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(name):
            return "zh" if environment[name].lower().startswith("zh") else "en"
    return "en"


def sentence(language: str, key: str, **values: object) -> str:
    """The sentence of a key with its values filled in."""
    return _WORDS[language][key].format(**values)
