from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from serving.api.openai.chat.request import ChatCompletionRequest
from serving.api.wire.field_rules import FIELD_RULES

if TYPE_CHECKING:
    from tests.http_server import Served


async def document(served: Served) -> dict[str, Any]:
    reply = await served.http.get("/openapi.json")
    assert reply.status_code == 200
    found: dict[str, Any] = reply.json()
    return found


async def test_the_page_works_without_any_other_host(served: Served) -> None:
    reply = await served.http.get("/docs")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/html")
    assert re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", reply.text) == []
    assert "connect-src 'self'" in reply.headers["content-security-policy"]
    assert '"openapi.json"' in reply.text


@pytest.mark.needs("node")
async def test_the_pages_script_is_valid(served: Served, tmp_path: Path) -> None:
    script = (await served.http.get("/docs")).text.split("<script>")[1].split("</script>")[0]
    (tmp_path / "page.js").write_text(script)
    subprocess.run(["node", "--check", str(tmp_path / "page.js")], check=True)  # noqa: ASYNC221  # milliseconds


async def test_every_route_is_described(served: Served) -> None:
    paths = (await document(served))["paths"]
    assert set(paths) == {
        "/v1/chat/completions",
        "/v1/completions",
        "/tokenize",
        "/v1/tokenize",
        "/detokenize",
        "/v1/detokenize",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/files",
        "/v1/files/{file_id}",
        "/v1/files/{file_id}/content",
        "/v1/batches",
        "/v1/batches/{batch_id}",
        "/v1/batches/{batch_id}/cancel",
        "/v1/responses",
        "/v1/responses/{response_id}",
        "/v1/responses/{response_id}/cancel",
        "/v1/responses/{response_id}/input_items",
        "/v1/responses/input_tokens",
        "/v1/responses/compact",
        "/v1/conversations",
        "/v1/conversations/{conversation_id}",
        "/v1/conversations/{conversation_id}/items",
        "/v1/conversations/{conversation_id}/items/{item_id}",
        "/health",
        "/ready",
        "/version",
        "/metrics",
        "/backends",
        "/backends/register",
        "/backends/{name}",
        "/queue/status",
        "/admin/models",
        "/admin/models/{name}/{change}",
        "/admin/usage",
        "/admin/adapters",
        "/admin/adapters/{name}",
        "/status",
    }
    assert all(operation.get("summary") for path in paths.values() for operation in path.values())


async def test_the_chat_request_is_described_field_by_field(served: Served) -> None:
    found = await document(served)
    body = found["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = found["components"]["schemas"][body["$ref"].split("/")[-1]]
    known = {rule.name for place in ("conversation", "generation", "chat") for rule in FIELD_RULES[place]}
    assert set(schema["properties"]) == {*ChatCompletionRequest.model_fields, *known}
    assert schema["properties"]["prediction"]["description"] == "Accepted; changes nothing."
    assert schema["properties"]["use_beam_search"]["description"].startswith("Not supported.")
    assert set(schema["required"]) == {"model", "messages"}
    assert "additionalProperties" not in schema


async def test_every_reference_leads_somewhere(served: Served) -> None:
    found = await document(served)
    text = (await served.http.get("/openapi.json")).text
    for reference in set(re.findall(r'"\$ref":"([^"]+)"', text)):
        node: Any = found
        for key in reference.removeprefix("#/").split("/"):
            node = node[key]
    assert "422" not in text


async def test_a_request_that_is_described_as_right_is_right(served: Served) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    found = await document(served)
    schema = {"$ref": "#/components/schemas/ChatCompletionRequest", "components": found["components"]}
    request = {
        "model": "demo",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello!"}]}],
        "stop": "x",
        "temperature": None,
    }
    jsonschema.validate(request, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**request, "temperature": 3}, schema)
    jsonschema.validate({**request, "foo": 3}, schema)
