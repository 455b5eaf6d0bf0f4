"""Tasks that end in all the ways there are."""

from celery import Celery
from celery.exceptions import Ignore, Reject
from pydantic import BaseModel

from aijobs import LLM_CALL, ProgressTask
from aijobs.testing import rate_limited, unauthorized

app = Celery("parity_app", broker="redis://localhost:1/0", backend="redis://localhost:1/0")


class Page(BaseModel):
    number: int


def task(**options):
    return app.task(base=ProgressTask, bind=True, **options)


@task()
def succeed(self, page: Page) -> Page:
    with self.step("read"):
        self.emit("a")
        self.emit({"b": float("nan")})
        self.log("noted", kind=object)
    return Page(number=page.number + 1)


@task()
def fail(self):
    raise LookupError("no such page; api_key=sk-abcdefgh12345678")


@task()
def be_odd(self):
    return object()


@task(max_retries=2)
def retry(self, size):
    if size > 1:
        raise self.retry(args=(size // 2,), countdown=0.01, exc=LookupError("too large"))
    return size


@task(autoretry_for=(KeyError,), max_retries=1, default_retry_delay=0.01)
def retry_in_vain(self):
    raise KeyError("gone")


@task(**LLM_CALL.options())
def wait(self):
    self.emit("begun")
    if not getattr(self.request, "aijobs_waits", 0):
        raise rate_limited(retry_after=0.5).exception()
    return "fine"


@task(**LLM_CALL.but(retry_for=(Exception,)).options())
def ask_with_wrong_key(self):
    raise unauthorized().exception()


@task()
def reject(self):
    raise Reject("not mine")


@task()
def ignore(self):
    raise Ignore("enough")


@task(ignore_result=True)
def keep_quiet(self):
    return 1


@task()
def be_killed(self):
    self.run_step("first", int)
    with self.step("second"):
        self.emit("again")
