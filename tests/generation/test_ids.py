from __future__ import annotations

import re

from serving.generation.ids import mint_call_id


def test_call_ids_have_openai_form_and_differ() -> None:
    ids = {mint_call_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"call_[A-Za-z0-9]{24}", call_id) for call_id in ids)
