"""The real LiteLLM proxy, before a model that is faked on loopback, asks the real program."""

import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from throwaway import Site, TOKEN, check, free_port, post, wait_for  # noqa: E402

POLICIES = """
@id("work") @reason("fine") permit (principal, action, resource);
@id("no-deletion") @reason("deletions are not for agents") forbid (principal, action, resource)
when { resource == Tool::"litellm/-/delete_everything" };
"""
KEY = "sk-driver-2f7d1c9be0a84a4f9f0e"
CONNECTORS = '[connectors.litellm]\ntokens = { proxy = { env = "DRIVER_TOKEN" } }\n'


class Model(http.server.BaseHTTPRequestHandler):
    """Calls the tool that the user's last word names."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        tool = asked["messages"][-1]["content"].split()[-1]
        call = {"id": f"call_{tool}", "type": "function", "function": {"name": tool, "arguments": '{"to": "bob@partner.example"}'}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        answer = {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake",
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    model_port, proxy_port = free_port(), free_port()
    model = http.server.ThreadingHTTPServer(("127.0.0.1", model_port), Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    site = Site(CONNECTORS, POLICIES)
    config = {
        "model_list": [{"model_name": "fake", "litellm_params": {
            "model": "openai/fake", "api_base": f"http://127.0.0.1:{model_port}/v1", "api_key": "none"}}],
        "guardrails": [{"guardrail_name": "countersign", "litellm_params": {
            "guardrail": "generic_guardrail_api", "mode": ["pre_call", "post_call"],
            "api_base": f"{site.url}/hooks/litellm", "api_key": TOKEN, "default_on": True,
            "unreachable_fallback": "fail_closed", "fail_on_error": True}}],
        "general_settings": {"master_key": KEY},
    }
    (site.dir / "litellm.yaml").write_text(json.dumps(config))
    litellm = pathlib.Path(sys.executable).parent / "litellm"
    log = open(site.dir / "litellm.log", "wb")
    command = [litellm, "--config", site.dir / "litellm.yaml", "--host", "127.0.0.1", "--port", str(proxy_port)]
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    proxy = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        site.start()
        base = f"http://127.0.0.1:{proxy_port}"
        wait_for(f"{base}/health/liveliness")
        tool = lambda name: {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
        ask = lambda name: post(f"{base}/v1/chat/completions", {
            "model": "fake", "messages": [{"role": "user", "content": f"call {name}"}], "tools": [tool(name)]},
            {"authorization": f"Bearer {KEY}"})
        status, answer = ask("send_mail")
        calls = status == 200 and answer["choices"][0]["message"]["tool_calls"]
        check("an allowed call reaches the client", calls and calls[0]["function"]["name"] == "send_mail", answer)
        status, answer = ask("delete_everything")
        said = json.dumps(answer)
        check("a denied call does not", status >= 400 and "delete" not in said.replace("deletions", ""), answer)
        check("and the client is told why", "deletions are not for agents" in said, answer)
        seen = site.metrics()
        check("both were decided", 'verdict="ALLOW"' in seen and 'verdict="DENY"' in seen, seen)
        site.stop()
        status, answer = ask("send_mail")
        check("without Countersign nothing passes", status >= 400, answer)
    finally:
        site.stop()
        proxy.terminate()
        proxy.wait()


if __name__ == "__main__":
    main()
