"""A short way to a Redis server: commands and scripts over redis-py's connections, without the rest of its client.

The client of redis-py costs more per command than the command itself; a worker sends several for each job, and an API
at least one for each request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from itertools import chain
from typing import Any

import redis.asyncio.retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from aijobs._tasks import stop
from aijobs.store.scripts import Script

#: So many commands go out together at most, and have to be answered within one time-out.
MOST_TOGETHER = 500
#: When so many wait for the server, it takes too little for one more.
MOST_WAITING = 20_000

#: A command as it is sent, and who waits for its answer.
_Command = tuple[bytes, list["asyncio.Future[Any]"]]


class Line:
    """Idle connections of one process; each exchange takes one, or makes one, and gives it back.

    Args:
        pool: a redis-py connection pool, which knows how connections are made; it is asked neither to hold nor to count
            them, since it would count those that are gone as well.
        **options: of the connections, other than the pool's.
    """

    def __init__(self, pool: Any, **options: Any) -> None:
        self.pool = pool
        self._options = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0), **options}
        self._idle: deque[Any] = deque()

    def run(self, script: Script, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        """Executes a script, by its digest where the server knows it.

        Raises:
            redis.RedisError: no connection, no answer, or an error in the script.
        """
        try:
            return self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return self.call("EVAL", script.text, len(keys), *keys, *arguments)

    def call(self, *words: Any) -> Any:
        """Sends one command and gives its raw reply.

        Raises:
            redis.RedisError: no connection, no answer, or an error as the answer.
        """
        return self._converse(_exchange, words)

    def run_all(self, calls: Sequence[tuple[Script, Sequence[Any], Sequence[Any]]]) -> list[Any]:
        """Executes scripts together; what goes wrong with one of them stands in the place of its reply.

        Raises:
            redis.RedisError: no connection, or no answer.
        """
        commands = [_pack("EVALSHA", script.sha, len(keys), *keys, *arguments) for script, keys, arguments in calls]
        replies: list[Any] = self._converse(_exchange_all, commands)
        for place, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                replies[place] = self.run(*calls[place])
        return replies

    def close(self) -> None:
        """Closes the idle connections."""
        while self._idle:
            self._idle.pop().disconnect()

    def _connect(self) -> Any:
        connection = self.pool.connection_class(**self._options)
        # Connecting by itself, with its first command, it would not ask the sentinels where the server is.
        connection.connect()
        return connection

    def _converse(self, exchange: Callable[[Any, Sequence[Any]], Any], what: Sequence[Any]) -> Any:
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._keep(self._connect(), exchange, what)
        try:
            return self._keep(connection, exchange, what)
        except RedisConnectionError:
            # The server closed it while it was idle, as a restart does; the others were closed as well.
            self.close()
            return self._keep(self._connect(), exchange, what)

    def _keep(self, connection: Any, exchange: Callable[[Any, Sequence[Any]], Any], what: Sequence[Any]) -> Any:
        """Makes an exchange, after which the connection is idle again."""
        try:
            reply = exchange(connection, what)
        except ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:
            # An answer that is still to come must not be taken for that to the next command.
            connection.disconnect()
            raise
        self._idle.append(connection)
        return reply


class AsyncLine:
    """One connection of an event loop, shared by everything that asks: what is asked meanwhile goes out together.

    So many requests cost few round trips. An answer that does not come fails whatever waits, since those behind it in
    the line would not be answered any sooner.

    Args:
        pool: an asyncio connection pool of redis-py, which knows how connections are made.
        timeout: seconds for the answers to what went out together, connecting included.
    """

    def __init__(self, pool: Any, timeout: float) -> None:
        # The time-out here covers many answers at once; one for each would cost more than reading it.
        options = {"socket_timeout": None, "retry": redis.asyncio.retry.Retry(NoBackoff(), 0)}
        self._pool = pool
        self._options = {**pool.connection_kwargs, **options}
        self._timeout = timeout
        self._connection: Any = None
        self._waiting: deque[_Command] = deque()
        self._sent: Sequence[_Command] = ()
        #: Of those that wait, who asked for what others may share.
        self._shared: dict[bytes, list[asyncio.Future[Any]]] = {}
        self._carrier: asyncio.Task[None] | None = None

    async def run(self, script: Script, keys: Sequence[Any], arguments: Sequence[Any], *, shared: bool = False) -> Any:
        """Executes a script, by its digest where the server knows it.

        A `shared` script only reads: when the same is asked several times before it is sent, it is sent once.

        Raises:
            redis.RedisError: no connection, or an error in the script.
            TimeoutError: no answer in time.
        """
        try:
            return await self._ask(_pack("EVALSHA", script.sha, len(keys), *keys, *arguments), shared)
        except NoScriptError:
            return await self._ask(_pack("EVAL", script.text, len(keys), *keys, *arguments), shared)

    async def aclose(self) -> None:
        """Closes the connection; what still waits for an answer gets none."""
        if self._carrier is not None:
            await stop(self._carrier)
        # A task that is cancelled before it has begun does nothing at all.
        self._fail(RedisConnectionError("the connection was closed"))
        await self._hang_up(at_once=False)

    def _ask(self, command: bytes, shared: bool) -> asyncio.Future[Any]:
        answer = asyncio.get_running_loop().create_future()
        if shared and command in self._shared:
            self._shared[command].append(answer)
            return answer
        if len(self._waiting) >= MOST_WAITING:
            raise RedisConnectionError(f"{MOST_WAITING} commands are waiting for it already")
        answers = [answer]
        self._waiting.append((command, answers))
        if shared:
            self._shared[command] = answers
        if self._carrier is None or self._carrier.done():
            # It serves all who ask, so it has nothing of the context of the one who asked first.
            self._carrier = asyncio.create_task(self._carry(), name="aijobs-store", context=Context())
        return answer

    async def _carry(self) -> None:
        """Sends what waits, until nothing does."""
        try:
            while self._waiting:
                self._sent = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
                # What is sent now may be answered before a write that somebody makes in the meantime.
                self._shared.clear()
                async with asyncio.timeout(self._timeout):
                    await self._exchange_again(self._sent)
        except (RedisError, OSError) as error:
            self._fail(error)
        finally:
            self._fail(RedisConnectionError("the connection was closed"))

    def _fail(self, error: Exception) -> None:
        """Tells all who still wait that there will be no answer."""
        _tell(chain(self._sent, self._waiting), lambda answer: answer.set_exception(error))
        self._waiting.clear()
        self._shared.clear()

    async def _exchange_again(self, batch: Sequence[_Command]) -> None:
        if self._connection is not None:
            # When the server closed it while it was idle, as a restart does, a new one is tried.
            with contextlib.suppress(RedisConnectionError):
                return await self._exchange(batch)
        self._connection = await self._connected()
        return await self._exchange([one for one in batch if not all(answer.done() for answer in one[1])])

    async def _connected(self) -> Any:
        connection = self._pool.connection_class(**self._options)
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _exchange(self, batch: Sequence[_Command]) -> None:
        connection = self._connection
        try:
            await connection.send_packed_command([b"".join(command for command, _ in batch)])
            for command in batch:
                await _receive(connection, command)
        except BaseException:
            # An answer that is still to come must not be taken for that to the next command.
            await self._hang_up()
            raise

    async def _hang_up(self, *, at_once: bool = True) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=at_once)


def _exchange(connection: Any, words: Sequence[Any]) -> Any:
    connection.send_command(*words)
    return connection.read_response()


def _exchange_all(connection: Any, commands: Sequence[bytes]) -> list[Any]:
    connection.send_packed_command(commands)
    return [_reply_or_error(connection) for _ in commands]


def _reply_or_error(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _pack(*words: Any) -> bytes:
    """A command as the protocol (RESP) has it."""
    data = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(data) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in data)


async def _receive(connection: Any, command: _Command) -> None:
    try:
        reply = await connection.read_response(disconnect_on_error=False)
    except ResponseError as error:
        refusal = error
        _tell([command], lambda answer: answer.set_exception(refusal))
    else:
        _tell([command], lambda answer: answer.set_result(reply))


def _tell(commands: Iterable[_Command], how: Callable[[asyncio.Future[Any]], Any]) -> None:
    """Tells all who still wait; who asked may have left."""
    for _, answers in commands:
        for answer in answers:
            if not answer.done():
                how(answer)
