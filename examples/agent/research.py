"""The agent: plans, looks things up with a tool, writes. Each call that costs money is a step that is paid once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from pydantic import BaseModel, Field, ValidationError

from agent import prompts
from agent.chat import BadAnswer, ChatClient, Message, Reply, ToolCall, Usage
from agent.notes import Library
from aijobs import ProgressTask

#: How often the model may use its tool for one question.
TURNS = 3


class Plan(BaseModel):
    """The questions to look up, and what it cost to think of them."""

    questions: Annotated[list[str], Field(min_length=1)]
    usage: Usage = Usage()


class Finding(TypedDict):
    """The answer to one of them."""

    question: str
    answer: str
    #: The files that were read for it.
    sources: list[str]


class Found(BaseModel):
    """What the tool gave."""

    message: Message
    files: list[str] = []


class Report(TypedDict):
    """The result of the job."""

    question: str
    report: str
    sources: list[str]
    #: What all calls cost together, those of earlier attempts included.
    prompt_tokens: int
    completion_tokens: int


@dataclass(slots=True)
class Researcher:
    """One question's research."""

    task: ProgressTask
    chat: ChatClient
    library: Library
    usage: Usage = field(default_factory=Usage)

    async def research(self, question: str) -> Report:
        """Answers a question.

        Raises:
            ConnectionError, httpx.TransportError: the endpoint cannot be reached, or broke off.
            Refused: it answered with an error.
            BadAnswer: what it, or the model, said makes no sense.
        """
        self.task.emit({"question": question})
        plan: Plan = await self.task.run_step("plan", self._plan, question)
        self.usage += plan.usage
        total = len(plan.questions) + 2
        self.task.emit({"plan": plan.questions})
        self.task.progress(1, total)
        findings: list[Finding] = []
        for number, part in enumerate(plan.questions, start=1):
            findings.append(await self._look_up(number, part))
            self.task.emit({"finding": findings[-1]})
            self.task.progress(number + 1, total)
        return await self._write(question, findings)

    async def _plan(self, question: str) -> Plan:
        messages = prompts.plan(question, self.library.contents())
        reply = await self.chat.ask(messages, response_format={"type": "json_object"})
        try:
            plan = Plan.model_validate_json(reply.message.content or "")
        except ValidationError as error:
            raise BadAnswer("The model made no plan: its answer is not the JSON it was asked for.") from error
        plan = Plan(questions=plan.questions[: prompts.QUESTIONS], usage=reply.usage)
        self.task.log(f"Planned {len(plan.questions)} questions", tokens=reply.usage.completion_tokens)
        return plan

    async def _look_up(self, number: int, question: str) -> Finding:
        """A conversation with the model, which may use its tool in each turn but the last."""
        messages = prompts.look_up(question)
        sources: list[str] = []
        for turn in range(TURNS + 1):
            tools: dict[str, Any] = {"tools": [prompts.SEARCH]} if turn < TURNS else {}
            # A name of its own for each call: by it a later attempt finds what it gave.
            name = f"question {number}, call {turn + 1}"
            reply: Reply = await self.task.run_step(name, self._ask, messages, tools)
            self.usage += reply.usage
            messages.append(reply.message)
            if not reply.message.tool_calls:
                break
            for place, call in enumerate(reply.message.tool_calls, start=1):
                found: Found = await self.task.run_step(f"{name}, search {place}", self._use, call)
                messages.append(found.message)
                sources.extend(file for file in found.files if file not in sources)
        return Finding(question=question, answer=messages[-1].content or "", sources=sources)

    async def _ask(self, messages: Sequence[Message], tools: dict[str, Any]) -> Reply:
        return await self.chat.ask(messages, **tools)

    async def _use(self, call: ToolCall) -> Found:
        """Uses the tool; a model that asks for nonsense is told so, and may try again."""
        try:
            query = str(json.loads(call.function.arguments)["query"])
        except (ValueError, KeyError, TypeError):
            return Found(message=_tool(call, 'search takes {"query": "…"}.'))
        passages = self.library.search(query)
        files = list(dict.fromkeys(passage.source for passage in passages))
        self.task.log(f"Searched the notes for “{query}”", found=", ".join(files))
        content = json.dumps([passage.to_dict() for passage in passages], ensure_ascii=False)
        return Found(message=_tool(call, content), files=files)

    async def _write(self, question: str, findings: Sequence[Finding]) -> Report:
        self.task.log("Writing the report")
        with self.task.step("report"):
            stream = self.chat.stream(prompts.write(question, findings))
            text = await self.task.stream(stream)
        self.usage += stream.usage
        return Report(
            question=question,
            report=text,
            sources=list(dict.fromkeys(source for finding in findings for source in finding["sources"])),
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
        )


def _tool(call: ToolCall, content: str) -> Message:
    return Message(role="tool", tool_call_id=call.id, content=content)
