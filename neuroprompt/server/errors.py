"""What goes wrong, in one shape for each dialect: OpenAI's, unless a route's own dialect says another.

    raise Problem(503, "the generator is down", "generator_down", retry_after=5)

A router of another dialect puts the function that writes its bodies into `DIALECTS`, under its paths' prefix.
"""

from collections.abc import Callable

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
        return JSONResponse(write(self), self.status, headers)


def _openai(problem: Problem) -> dict:
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(problem.status) or ("server_error" if problem.status >= 500 else "invalid_request_error")
    return {"error": {"message": problem.message, "type": kind, "code": problem.code}}


DIALECTS: dict[str, Callable[[Problem], dict]] = {}
"""How an error's body is written, by the beginning of the path."""
