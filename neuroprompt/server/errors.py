"""What goes wrong, in one shape for each dialect: OpenAI's, unless a route's own dialect says another.

    raise Problem(503, "the generator is down", "generator_down", retry_after=5)

A router of another dialect puts the function that writes its bodies into `DIALECTS`, under its paths' prefix.
"""

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from starlette.responses import JSONResponse


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: Of HTTP.
        message: For a person, one line; what came in the request is in it only where the asker is helped by it.
        code: For a program, in snake_case.
        retry_after: In how many seconds it is worth asking again.
    """

    def __init__(self, status: int, message: str, code: str, retry_after: int | None = None):
        super().__init__(status, message, code, retry_after)  # as they are, so that it can be pickled
        self.status, self.message, self.code, self.retry_after = status, message, code, retry_after

    def __str__(self) -> str:
        return self.message

    def response(self, path: str) -> JSONResponse:
        """In the dialect of this path."""
        write = next((write for prefix, write in DIALECTS.items() if path.startswith(prefix)), _openai)
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.status == 413:
            headers["Connection"] = "close"  # or the rest of the body would be read, to the end
        return JSONResponse(write(self), self.status, headers)


def _openai(problem: Problem) -> dict:
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(problem.status) or ("server_error" if problem.status >= 500 else "invalid_request_error")
    return {"error": {"message": problem.message, "type": kind, "code": problem.code}}


DIALECTS: dict[str, Callable[[Problem], dict]] = {}
"""How an error's body is written, by the beginning of the path."""


def refusal(error: ValueError) -> Problem:
    """A request that cannot be met, as the library says why."""
    return Problem(422, " ".join(str(error).split()), "invalid_request")


def refuse_excess(counts: Mapping[str, tuple[int, int]]) -> None:
    """Refuse (422) where there is more of something than the operator allows: by its name how much, and at most."""
    for what, (count, most) in counts.items():
        if count > most:
            raise refusal(ValueError(f"{count:,} {what} are too many: at most {most:,}"))


@contextmanager
def refusing() -> Iterator[None]:
    """Make every ValueError of what a request asks for its refusal."""
    try:
        yield
    except ValueError as error:
        raise refusal(error) from None


def fault(error: Exception) -> Problem:
    """A mistake of ours. Its kind and places are logged, without its message, which may quote a prompt."""
    places = "".join(traceback.format_tb(error.__traceback__))
    print(f"{places}{type(error).__name__}", file=sys.stderr, flush=True)
    return Problem(500, "this request could not be answered: the server's log says where it failed", "failed")
