"""Random texts of a grammar: xgrammar's matcher walked token by token, as an engine would, without a model."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

import numpy
import xgrammar

from serving.harmony import vocabulary

_END = b"<end>"
_MOST_TOKENS = 1000


@functools.cache
def _tokens() -> tuple[bytes, ...]:
    """Every byte, and tokens of the model's that JSON is made of."""
    fit = set('{}[]":, \\-.0123456789eEtrufalsnabcdxyz_é\u4e2d')
    texts = [token for token in vocabulary.token_table()[:150_000] if token and 1 < len(token) <= 6]
    several = [token for token in texts if set(token.decode(errors="replace")) <= fit][:400]
    return (*(bytes([byte]) for byte in range(256)), *several, _END)


@functools.cache
def _compiler() -> xgrammar.GrammarCompiler:
    tokens = list(_tokens())
    info = xgrammar.TokenizerInfo(
        tokens, vocab_type=xgrammar.VocabType.RAW, vocab_size=len(tokens), stop_token_ids=[len(tokens) - 1]
    )
    return xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)


def samples(grammar: str, count: int, seed: int) -> Iterator[str]:
    """`count` texts that a grammar lets through, each ended where it may end; too long ones are given up."""
    compiled = _compiler().compile_grammar(grammar)
    chance = random.Random(seed)
    for _ in range(count):
        text = _walk(xgrammar.GrammarMatcher(compiled), chance)
        if text is not None:
            yield text


def matches(grammar: str, text: str) -> bool:
    """Whether a grammar lets a text through, whole."""
    matcher = xgrammar.GrammarMatcher(_compiler().compile_grammar(grammar))
    return matcher.accept_string(text) and matcher.accept_token(len(_tokens()) - 1)


@functools.cache
def _kinds() -> tuple[numpy.ndarray, numpy.ndarray]:
    """For each token its first byte, and whether it ends something."""
    tokens = _tokens()
    closing = [token == _END or (len(token) == 1 and token in b'"}],') for token in tokens]
    return numpy.array([token[0] for token in tokens]), numpy.array(closing)


def _walk(matcher: xgrammar.GrammarMatcher, chance: random.Random) -> str | None:
    tokens = _tokens()
    firsts, closing = _kinds()
    mask = xgrammar.allocate_token_bitmask(1, len(tokens))
    bits = mask.numpy().view(numpy.uint8)
    written = b""
    for step in range(_MOST_TOKENS):
        matcher.fill_next_token_bitmask(mask)
        allowed = numpy.unpackbits(bits, bitorder="little")[: len(tokens)].nonzero()[0]
        assert len(allowed), f"nothing may follow {written!r}"
        # Long strings and lists find nothing more than short ones.
        ends = allowed[closing[allowed]]
        if len(ends) and chance.random() < min(0.3 + step / 60, 0.95):
            allowed = ends
        else:
            # Tokens that begin with the same byte have together the chance of one.
            first = firsts[allowed]
            allowed = allowed[first == chance.choice(numpy.unique(first))]
        token = int(chance.choice(allowed))
        assert matcher.accept_token(token)
        if token == len(tokens) - 1:
            return written.decode()
        written += tokens[token]
    return None
