"""A short way to a Redis server: commands and scripts over redis-py's connections, without the rest of its client.

The client of redis-py costs more per command than the command itself; a worker sends several for each job.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError
from redis.retry import Retry

from aijobs.store.scripts import Script


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
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._exchange(self._connect(), words)
        try:
            return self._exchange(connection, words)
        except RedisConnectionError:
            # The server closed it while it was idle, as a restart does; the others were closed as well.
            self.close()
            return self._exchange(self._connect(), words)

    def close(self) -> None:
        """Closes the idle connections."""
        while self._idle:
            self._idle.pop().disconnect()

    def _connect(self) -> Any:
        connection = self.pool.connection_class(**self._options)
        # Connecting by itself, with its first command, it would not ask the sentinels where the server is.
        connection.connect()
        return connection

    def _exchange(self, connection: Any, words: Sequence[Any]) -> Any:
        try:
            connection.send_command(*words)
            reply = connection.read_response()
        except ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:
            # An answer that is still to come must not be taken for that to the next command.
            connection.disconnect()
            raise
        self._idle.append(connection)
        return reply
