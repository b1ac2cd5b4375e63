from __future__ import annotations

import pytest

from serving.api.middleware.request_metrics import api_of


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/chat/completions", "chat"),
        ("/v1/responses/resp_1/cancel", "responses"),
        ("/v1/messages/count_tokens", "messages"),
        ("/backends/register", "admin"),
        ("/queue/status", "admin"),
        ("/v1/chatter", "other"),
        ("/v1/modelsx", "other"),
    ],
)
def test_paths_belong_to_the_apis_of_the_metrics(path: str, api: str) -> None:
    assert api_of(path) == api
