"""Text of a wanted length in tokens, made without a tokenizer: words that are one token each with a blank before."""

from __future__ import annotations

from random import Random

_WORDS = (
    "about above across act add after again against age ago air all almost alone along also always among animal "
    "another answer any appear area arm around ask autumn back bad ball bank base be bear beat beauty because "
    "become bed been before began begin behind best better between big bird black blood blue board boat body book "
    "both box boy bring brother brought brown build building burn business busy buy call came car care carry case "
    "cat catch cause center certain chair change child children choose circle city class clean clear clock close "
    "cloud coast cold color come common compare complete contain control cook cool copy corn corner cost could "
    "count country course cover cross cry current cut dance dark day dead deal decide deep develop did differ "
    "direct discover dog door double down draw dream dress drive drop dry during each early earth ease east eat "
    "edge egg eight either end enemy energy engine enough enter equal evening event ever every example expect "
    "experience eye face fact fair fall family famous far farm fast father fear feel feet few field fight figure "
    "fill final find fine finger finish fire first fish floor flow flower fly follow food foot force forest form "
    "forward found four free fresh friend front fruit full game garden gas gather gave general gentle girl give "
    "glad glass gold gone good govern grass gray great green ground group grow half hand happen happy hard hat "
    "have head hear heart heat heavy held help"
)

WORDS = tuple(_WORDS.split())
"""Each with a blank before it is one token of o200k_harmony, gpt-oss's vocabulary; about one in most others."""


def filler(random: Random, tokens: int) -> str:
    """Text of `tokens` words; as many tokens of o200k when a blank or a word comes before."""
    return " ".join(random.choices(WORDS, k=tokens))
