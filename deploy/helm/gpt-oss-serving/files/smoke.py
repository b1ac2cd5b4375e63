"""One streaming chat and one look at the metrics, with nothing but the standard library. Prints what it found.

BASE_URL, MODEL, METRICS_URL and, where keys are asked for, API_KEY and METRICS_KEY come from the environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from http.client import HTTPResponse

READY_S = float(os.environ.get("READY_S", "600"))
ANSWER_S = 300


def request(url: str, key: str | None, body: object = None) -> HTTPResponse:
    """The reply; raises OSError, urllib.error.HTTPError included."""
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = "Bearer " + key
    data = None if body is None else json.dumps(body).encode()
    reply: HTTPResponse = urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=ANSWER_S)
    return reply


def wait_until_ready(base: str) -> None:
    """Return once every model's engines answer."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            request(base + "/ready", None).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"FAILED: {base}/ready is not ready after {READY_S:g} s: {error}")
            time.sleep(2)


def chat(base: str, model: str, key: str | None) -> None:
    """Ask, and look for a stream of both channels with an end."""
    body = {
        "model": model,
        "stream": True,
        "reasoning_effort": "low",
        "max_tokens": 2000,
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    }
    texts = {"reasoning": "", "content": ""}
    chunks, finished, done = 0, None, False
    with request(base + "/v1/chat/completions", key, body) as reply:
        for line in reply:
            if not line.startswith(b"data: "):
                continue
            data = line[len(b"data: ") :].strip()
            if data == b"[DONE]":
                done = True
                break
            event = json.loads(data)
            if "error" in event:
                sys.exit(f"FAILED: the stream ended with {event['error']}")
            chunks += 1
            for choice in event["choices"]:
                finished = choice.get("finish_reason") or finished
                for name in texts:
                    texts[name] += choice["delta"].get(name) or ""
    print(f"chat: {chunks} chunks, {len(texts['reasoning'])} characters of reasoning, finish_reason {finished}")
    print(f"answer: {texts['content'][:200]}")
    if not done or finished is None:
        sys.exit("FAILED: the stream broke off")
    if chunks < 3:
        sys.exit("FAILED: the answer came in one piece; something on the way holds streams back")
    if not texts["content"]:
        sys.exit("FAILED: no final channel")
    if not texts["reasoning"] and os.environ.get("EXPECT_REASONING", "1") == "1":
        sys.exit("FAILED: no analysis channel")


def metrics(url: str, key: str | None) -> None:
    """Look for our metrics."""
    with request(url, key) as reply:
        names = {line.split(b"{")[0].split(b" ")[0] for line in reply if line.strip() and not line.startswith(b"#")}
    ours = sum(name.startswith(b"serving_") for name in names)
    engines = sum(name.startswith(b"vllm:") for name in names)
    print(f"metrics: {ours} names of serving's, {engines} of vLLM's")
    if not ours:
        sys.exit("FAILED: no serving_ metrics")


def main() -> None:
    """Ends with status 1 and the reason at the first thing that is wrong."""
    base = os.environ["BASE_URL"]
    try:
        wait_until_ready(base)
        chat(base, os.environ["MODEL"], os.environ.get("API_KEY"))
        metrics(os.environ["METRICS_URL"], os.environ.get("METRICS_KEY"))
    except urllib.error.HTTPError as error:
        sys.exit(f"FAILED: {error.url} answered {error.code}: {error.read(500).decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"FAILED: {error}")
    print("PASSED")


if __name__ == "__main__":
    main()
