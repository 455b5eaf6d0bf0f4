"""What the fake provider answers: made of the words of the prompt, and the same for the same prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from agent.chat import Function, Message, ToolCall
from agent.fake_script import Kind
from agent.notes import words

#: How many questions a plan has, the one that was asked included.
QUESTIONS = 3
#: How many sentences an answer has at most.
SENTENCES = 3

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z“\"'(])")
_TOKEN = re.compile(r"\s*\S{1,8}|\s+$")


def kind_of(messages: Sequence[Message], *, json_wanted: bool, tools: bool, stream: bool) -> Kind:
    """What the agent is doing with this call."""
    if json_wanted:
        return "plan"
    if messages[-1].role == "tool":
        return "answer"
    if tools:
        return "look_up"
    return "report" if stream else "other"


def answer(kind: Kind, messages: Sequence[Message]) -> Message:
    """The answer of a kind."""
    asked = next((message.content or "" for message in messages if message.role == "user"), "")
    if kind == "look_up":
        return Message(role="assistant", tool_calls=[_search(asked)])
    if kind == "plan":
        text = json.dumps({"questions": list(_questions(*_split(asked)))})
    elif kind == "answer":
        text = _from_passages(asked, json.loads(messages[-1].content or "[]"))
    elif kind == "report":
        text = "\n\n".join(_report(*_split(asked)))
    else:
        text = "This provider is for demonstrations: it only answers what the research agent asks."
    return Message(role="assistant", content=text)


def tokens(text: str) -> list[str]:
    """A text in pieces as small as a model's tokens; together they are the text."""
    return _TOKEN.findall(text)


def _split(prompt: str) -> tuple[str, Any]:
    """The question, and the JSON after it."""
    question, _, material = prompt.removeprefix("Question: ").partition("\n\n")
    try:
        return question, json.loads(material.partition(": ")[2])
    except ValueError:
        return question, {}


def _questions(question: str, contents: dict[str, list[str]]) -> Iterator[str]:
    """The question itself, and the headings that have the most words of it."""
    yield question
    headings = [(file, heading) for file, found in contents.items() for heading in found if " " in heading]
    best = sorted(headings, key=lambda one: -_fit(question, one[1]))
    for file, heading in best[: QUESTIONS - 1]:
        yield f"What do the notes in {file} say about “{heading}”?"


def _search(question: str) -> ToolCall:
    quoted = re.search("“(.+)”", question)
    arguments = json.dumps({"query": quoted[1] if quoted else question}, ensure_ascii=False)
    return ToolCall(id=f"call_{len(question)}", function=Function(name="search", arguments=arguments))


def _from_passages(question: str, passages: list[dict[str, str]]) -> str:
    """The sentences that fit best, in the order in which they were found."""
    found = [(one["source"], sentence) for one in passages for sentence in _SENTENCE.split(one["text"])]
    found = [one for one in dict.fromkeys(found) if one[1].endswith((".", "!"))]
    best = sorted(found, key=lambda one: -_fit(question, one[1]))[:SENTENCES]
    if not best:
        return "The notes do not say anything about it."
    return " ".join(f"{sentence} [{source}]" for source, sentence in found if (source, sentence) in best)


def _report(question: str, findings: list[dict[str, Any]]) -> Iterator[str]:
    """The paragraphs of a report."""
    yield f"# {question}"
    if findings:
        yield f"**In short:** {findings[0]['answer'].partition('] ')[0]}".removesuffix("]") + "]"
    for finding in findings:
        yield f"## {finding['question']}"
        yield finding["answer"]
    if sources := dict.fromkeys(source for finding in findings for source in finding["sources"]):
        yield "## Sources"
        yield "\n".join(f"- {source}" for source in sources)


def _fit(question: str, text: str) -> float:
    """How many words of the question a text has; of two with the same, the shorter one fits better."""
    wanted, there = set(words(question)), words(text)
    return len(wanted.intersection(there)) - len(there) / 1_000
