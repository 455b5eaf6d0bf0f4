"""What the model is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agent.chat import Message

#: How many questions a plan has at most.
QUESTIONS = 4

_PLAN = f"""You plan how to answer a question from a small library of notes.
Break it into two to {QUESTIONS} questions that can be looked up one by one.
Answer with JSON alone: {{"questions": ["…", "…"]}}"""

_LOOK_UP = """You answer one question from a small library of notes, which you read with the tool `search`.
Answer in two to four sentences, from what the tool has found and from nothing else, and name the files in brackets,
as in [reliability.md]. If the notes do not say it, say that."""

_WRITE = """You write a short report in Markdown that answers a question from findings.
Use the findings and nothing else. Begin with the answer, then give each finding a section, and keep the names of files
in brackets as they are."""

#: The one tool, in the words of the OpenAI API.
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Finds the passages of the notes that fit a query best.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string", "description": "Words to look for."}},
            "required": ["query"],
            "additionalProperties": False,
        },
    },
}


def plan(question: str, contents: Mapping[str, Sequence[str]]) -> list[Message]:
    """Asks for the questions that have to be looked up."""
    return _ask(_PLAN, question, "Contents of the library", contents)


def look_up(question: str) -> list[Message]:
    """Asks for the answer to one question."""
    return [Message(role="system", content=_LOOK_UP), Message(role="user", content=question)]


def write(question: str, findings: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Asks for the report."""
    return _ask(_WRITE, question, "Findings", findings)


def _ask(system: str, question: str, name: str, material: Any) -> list[Message]:
    text = f"Question: {question}\n\n{name}: {json.dumps(material, ensure_ascii=False)}"
    return [Message(role="system", content=system), Message(role="user", content=text)]
