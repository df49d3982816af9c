"""An agent whose model calls the tool that the user names, and then stops."""

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool


@tool
def send_mail(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


@tool
def pay(amount: int) -> str:
    """Pay an amount."""
    return f"paid {amount}"


@tool
def delete_everything(path: str) -> str:
    """Delete everything."""
    return f"deleted {path}"


CALLS = {"send_mail": {"to": "bob@partner.example"}, "pay": {"amount": 500}, "delete_everything": {"path": "/"}}


class Model(BaseChatModel):
    @property
    def _llm_type(self):
        return "fake"

    def bind_tools(self, tools, **_):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **_):
        if isinstance(messages[-1], ToolMessage):
            message = AIMessage("done")
        else:
            names = str(messages[-1].content).split()
            message = AIMessage("", tool_calls=[{"name": n, "args": CALLS[n], "id": f"call_{n}"} for n in names])
        return ChatResult(generations=[ChatGeneration(message=message)])


agent = create_agent(
    Model(),
    [send_mail, pay, delete_everything],
    middleware=[HumanInTheLoopMiddleware(interrupt_on={name: True for name in CALLS})],
)
