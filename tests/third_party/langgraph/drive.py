"""The real LangGraph server with a real human-in-the-loop middleware is answered by the real program."""

import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from throwaway import Site, TOKEN, check, free_port, post, wait_for  # noqa: E402

POLICIES = """
@id("work") @reason("fine") permit (principal, action, resource);
@id("no-deletion") @reason("deletions are not for agents") forbid (principal, action, resource)
when { resource == Tool::"langgraph/-/delete_everything" };
@id("small-payments") @decision("modify") @priority("80") @reason("at most 100")
@modify("[{\\"op\\":\\"replace\\",\\"path\\":\\"/amount\\",\\"value\\":100}]")
forbid (principal, action, resource) when { resource == Tool::"langgraph/-/pay" };
"""


def main():
    port = free_port()
    graphs = f"http://127.0.0.1:{port}"
    connectors = (
        f'[connectors.langgraph]\napi_base = "{graphs}"\ntokens = {{ server = {{ env = "DRIVER_TOKEN" }} }}\n'
    )
    site = Site(connectors, POLICIES, [f"127.0.0.1:{port}"])
    hook = f"{site.url}/hooks/langgraph"
    here = pathlib.Path(__file__).parent
    (site.dir / "graph.py").write_text((here / "graph.py").read_text())
    (site.dir / "langgraph.json").write_text(json.dumps({
        "dependencies": ["."], "graphs": {"agent": "./graph.py:agent"},
        "webhooks": {
            "headers": {"authorization": f"Bearer {TOKEN}"},
            "url": {"disable_loopback": False, "require_https": False}},
    }))
    command = [
        pathlib.Path(sys.executable).parent / "langgraph", "dev", "--host", "127.0.0.1", "--port", str(port),
        "--no-browser", "--no-reload", "--config", site.dir / "langgraph.json",
    ]
    environment = {**os.environ, "LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1"}
    log = open(site.dir / "langgraph.log", "wb")
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=site.dir)
    try:
        site.start()
        wait_for(f"{graphs}/ok")

        def outcome(names):
            """What the tools returned, once the thread has come to rest."""
            _, thread = post(f"{graphs}/threads", {})
            run = {"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": names}]}, "webhook": hook}
            post(f"{graphs}/threads/{thread['thread_id']}/runs", run)
            for _ in range(300):
                time.sleep(0.2)
                with urllib.request.urlopen(f"{graphs}/threads/{thread['thread_id']}/state") as answer:
                    state = json.load(answer)
                messages = (state.get("values") or {}).get("messages") or []
                if messages and messages[-1].get("content") == "done":
                    return {m["name"]: m["content"] for m in messages if m["type"] == "tool"}
            return f"still waiting; logs in {site.dir}"

        seen = outcome("send_mail")
        check("an allowed call runs", seen == {"send_mail": "sent to bob@partner.example"}, seen)
        seen = outcome("delete_everything")
        check("a denied call does not", "deletions are not for agents" in str(seen) and "deleted" not in str(seen), seen)
        seen = outcome("pay send_mail delete_everything")
        check("a changed call runs changed", isinstance(seen, dict) and "paid 100" in seen.get("pay", ""), seen)
        check("beside one that runs as it is", seen.get("send_mail") == "sent to bob@partner.example", seen)
        check("and one that does not", "deleted" not in seen.get("delete_everything", "deleted"), seen)
        site.stop()
        _, thread = post(f"{graphs}/threads", {})
        run = {"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": "pay"}]}, "webhook": hook}
        post(f"{graphs}/threads/{thread['thread_id']}/runs", run)
        time.sleep(5)
        with urllib.request.urlopen(f"{graphs}/threads/{thread['thread_id']}/state") as answer:
            waits = [task["interrupts"] for task in json.load(answer)["tasks"]]
        check("without Countersign the thread waits", any(waits), waits)
    finally:
        site.stop()
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
