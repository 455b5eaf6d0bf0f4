"""The Celery app and its task. Start a worker with `celery -A agent.worker worker --pool asyncio`."""

from __future__ import annotations

import asyncio
from typing import Annotated

from celery import Celery
from pydantic import Field

from agent.chat import ChatClient
from agent.config import Settings
from agent.notes import open_library
from agent.research import Report, Researcher
from aijobs import AGENT, ProgressTask

settings = Settings.from_env()
celery_app = Celery("agent", broker=settings.redis_url, backend=settings.redis_url)

Question = Annotated[
    str,
    Field(
        min_length=3,
        max_length=1_000,
        description="What is to be found out.",
        examples=["What happens to a running job when its worker is killed?"],
    ),
]


@celery_app.task(base=ProgressTask, bind=True, **AGENT.options())
async def research(self: ProgressTask, question: Question) -> Report:
    """Answers a question from the notes: plans, looks things up, and streams a report."""
    # Reading files would hold up the other jobs of the process.
    library = await asyncio.to_thread(open_library, settings.notes)
    async with ChatClient(settings) as chat:
        return await Researcher(self, chat, library).research(question)
