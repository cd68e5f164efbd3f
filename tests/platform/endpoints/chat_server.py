"""A real HTTP server that answers chat completions, from a real model if asked to, with faults on request."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = Callable[[dict[str, Any]], dict[str, Any]]
"""A completion for a request's body."""


def completion(text: str, **more: Any) -> dict[str, Any]:
    """One choice, with its usage: a token for each word."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 50, "completion_tokens": len(text.split())}
    return {"object": "chat.completion", "choices": [choice | more], "usage": usage}


@dataclass(frozen=True)
class Fault:
    """What a request gets instead of an answer. is_cut: the connection ends within the content."""

    status: int = 200
    content: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    is_cut: bool = False


@dataclass
class ChatServer:
    """State: `faults`, given to the next requests; `bodies` and `keys` of all; `at_once`, the most at a time."""

    answer: Answer
    faults: list[Fault] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    at_once: int = 0
    url: str = ""
    _here: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, body: dict[str, Any], key: str | None) -> Fault | None:
        with self._lock:
            self.bodies.append(body)
            self.keys.append(key)
            self._here += 1
            self.at_once = max(self.at_once, self._here)
            return self.faults.pop(0) if self.faults else None

    def leave(self) -> None:
        with self._lock:
            self._here -= 1


@contextmanager
def serving(answer: Answer, port: int = 0) -> Iterator[ChatServer]:
    """The server, on a port of its own or on this one."""
    state = ChatServer(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fault = state.take(body, self.headers["Authorization"])
            try:
                if self.path != "/v1/chat/completions":
                    fault = Fault(404, self.path.encode())
                self._send(fault or Fault(content=json.dumps(state.answer(body)).encode()))
            finally:
                state.leave()

        def _send(self, fault: Fault) -> None:
            self.send_response(fault.status)
            for name, value in fault.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(fault.content) + 100 * fault.is_cut))
            self.end_headers()
            self.wfile.write(fault.content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def language_model(folder: Path) -> Answer:
    """What a model of a folder says, greedily, with log probabilities where they are asked for."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    lock = threading.Lock()

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        text = tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        said: list[int] = []
        told = []
        with lock, torch.no_grad():
            read, past = ids, None
            while len(said) < body["max_tokens"]:
                found = model(torch.tensor([read]), past_key_values=past, use_cache=True, logits_to_keep=1)
                past, logprobs = found.past_key_values, found.logits[0, -1].log_softmax(-1)
                values, tokens = logprobs.topk(body.get("top_logprobs", 1))
                if int(tokens[0]) == tokenizer.eos_token_id:
                    break
                top = [
                    {"token": tokenizer.decode([token]), "logprob": value}
                    for token, value in zip(tokens.tolist(), values.tolist(), strict=True)
                ]
                said.append(int(tokens[0]))
                read = said[-1:]
                told.append(top[0] | {"top_logprobs": top})
        of_tokens = {"content": told} if body.get("logprobs") else None
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(said)}
        return completion(str(tokenizer.decode(said)), logprobs=of_tokens) | {"usage": usage}

    return answer
