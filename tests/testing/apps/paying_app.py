"""An app whose code names a server that is not there."""

import asyncio
import os
import time
import urllib.request

from celery import Celery

from aijobs import ProgressTask

app = Celery("paying_app", broker="redis://localhost:1/0", backend="redis://localhost:1/0")


def pay(what, bill):
    with open(bill, "a") as file:  # noqa: PTH123
        file.write(f"{what}\n")


@app.task(base=ProgressTask, bind=True)
def ingest(self, texts, bill):
    self.run_step("extract", pay, "extract", bill)
    with self.step("embed"):
        for text in self.track(texts, resume=True):
            pay(text, bill)
            self.emit(text)
    return len(texts)


@app.task(base=ProgressTask, bind=True)
async def ingest_async(self, texts, bill):
    async def pay_async(what):
        await asyncio.sleep(0)
        pay(what, bill)

    await self.run_step("extract", pay_async, "extract")
    with self.step("embed"):
        for text in self.track(texts, resume=True):
            await pay_async(text)
            self.emit(text)
    return len(texts)


@app.task(base=ProgressTask, bind=True)
def sleep(self, seconds):
    self.log("going to sleep")
    self.progress(1, 2)
    time.sleep(seconds)


@app.task(base=ProgressTask)
def environment(name):
    return os.environ.get(name)


@app.task(base=ProgressTask)
def fetch(url):
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()


@app.task(base=ProgressTask)
def shout():
    print("I AM THE TASK", flush=True)
    raise ValueError("loud")
