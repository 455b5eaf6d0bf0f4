"""Who may do what: the caller's identity, and what it opens."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from fastapi import Depends, Request
from fastapi.params import Depends as Dependency

from aijobs.http.problems import FORBIDDEN, JOB_NOT_FOUND, Problem
from aijobs.http.render import View, base_path
from aijobs.http.schemas import PLAIN, WITH_ADMINS, Documents
from aijobs.job import Job

#: What a caller wants: `read` covers the job, its events and lists, `result` its result.
Action = Literal["submit", "read", "result", "cancel", "retry"]

#: Decides on one action; the job is None for `submit`.
Authorize = Callable[[Action, str | None, Job | None], bool | Awaitable[bool]]

_OWNER = "aijobs.owner"
_ADMIN = "aijobs.admin"


class Access:
    """Decides which jobs a request may see.

    Args:
        owner: a FastAPI dependency that returns the caller's id; without it all jobs are everybody's.
        authorize: finer rules on top.
        admin: a FastAPI dependency that returns whether the caller is an admin, who sees all jobs and all of them;
            without it nobody is one.
    """

    def __init__(
        self,
        owner: Callable[..., Any] | None,
        authorize: Authorize | None,
        admin: Callable[..., Any] | None = None,
    ) -> None:
        self._owner = owner
        self._authorize = authorize
        self._admin = admin

    @property
    def has_admins(self) -> bool:
        """Whether anybody can be an admin."""
        return self._admin is not None

    @property
    def documents(self) -> Documents:
        """The shapes of jobs in OpenAPI."""
        return WITH_ADMINS if self.has_admins else PLAIN

    def dependencies(self) -> list[Dependency]:
        """What routes need that ask who the caller is."""
        admin = [] if self._admin is None else [Depends(_remember_admin(Depends(self._admin)))]
        owner = [] if self._owner is None else [Depends(_remember_owner(Depends(self._owner)))]
        return [*admin, *owner]

    def owner(self, request: Request) -> str | None:
        """The caller's id, whom new jobs belong to; None when nobody asks for one."""
        owner: str | None = request.scope.get(_OWNER)
        return owner

    def is_admin(self, request: Request) -> bool:
        """Whether the caller is an admin."""
        return bool(request.scope.get(_ADMIN, False))

    def view(self, request: Request, depth: int) -> View:
        """How the caller sees jobs.

        Args:
            request: of the caller.
            depth: how many segments its path has below the router, see `base_path`.
        """
        return View(base_path(request, depth), self.is_admin(request))

    def sees_all(self, request: Request) -> bool:
        """Whether the caller sees the jobs of everybody."""
        return self._owner is None or self.is_admin(request)

    def owner_seen(self, request: Request) -> str | None:
        """Whose jobs the caller sees; None means everybody's."""
        return None if self.sees_all(request) else self.owner(request)

    def owner_asked_for(self, request: Request, owner: str | None) -> str | None:
        """Whose jobs to list; None means everybody's.

        Args:
            request: of the caller.
            owner: whose jobs the caller asked for, if anybody's in particular.

        Raises:
            Problem: 403 to others than admins, since a job does not show them whose it is.
        """
        if owner is None:
            return self.owner_seen(request)
        if not self.is_admin(request):
            raise Problem(FORBIDDEN, "Leave owner out: only admins may choose whose jobs they list.")
        return owner

    async def check_admin(self, request: Request) -> None:
        """Lets an admin pass.

        Raises:
            Problem: 403.
        """
        if not self.is_admin(request):
            raise _forbidden()

    async def check_submission(self, request: Request) -> None:
        """Lets a submission pass.

        Raises:
            Problem: 403.
        """
        if not await self._allows("submit", request, None):
            raise _forbidden()

    async def visible(self, request: Request, job: Job | None) -> Job:
        """The job, when it exists and the caller may see it.

        Raises:
            Problem: 404, which does not tell a job of somebody else from no job at all.
        """
        if job is None or not await self.may_read(request, job):
            raise job_not_found()
        return job

    async def may_read(self, request: Request, job: Job) -> bool:
        """Whether the caller may see a job."""
        if not self.sees_all(request) and job.owner != self.owner(request):
            return False
        return await self._allows("read", request, job)

    def decides_on_jobs(self, request: Request) -> bool:
        """Whether single jobs of the caller may be ruled out."""
        return self._authorize is not None and not self.is_admin(request)

    async def check(self, action: Action, request: Request, job: Job) -> None:
        """Lets an action on a visible job pass.

        Raises:
            Problem: 403.
        """
        if not await self._allows(action, request, job):
            raise _forbidden()

    async def _allows(self, action: Action, request: Request, job: Job | None) -> bool:
        if self._authorize is None or self.is_admin(request):
            return True
        verdict = self._authorize(action, self.owner(request), job)
        return await verdict if inspect.isawaitable(verdict) else verdict


def job_not_found() -> Problem:
    """What is said of unknown jobs and of other owners' jobs alike."""
    return Problem(JOB_NOT_FOUND, "No job has this id: it was never submitted here, or its retention has passed.")


def _remember_owner(caller: Any) -> Callable[..., Awaitable[None]]:
    async def remember_owner(request: Request, identity: Any = caller) -> None:
        if identity is not None and identity != "":
            request.scope[_OWNER] = str(identity)
        elif not request.scope.get(_ADMIN):
            # Nobody in particular must never mean everybody.
            raise Problem(FORBIDDEN, "This caller has no identity, so it has no jobs.")

    return remember_owner


def _remember_admin(verdict: Any) -> Callable[..., Awaitable[None]]:
    async def remember_admin(request: Request, is_admin: Any = verdict) -> None:
        request.scope[_ADMIN] = bool(is_admin)

    return remember_admin


def _forbidden() -> Problem:
    return Problem(FORBIDDEN, "This caller may not do that.")
