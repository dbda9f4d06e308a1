"""What A2A clients are told when something is not done: the codes of JSON-RPC 2.0 and of A2A (1.0 §5.4)."""

from __future__ import annotations

from typing import Any

from aster.errors import AsterError, Conflict, InvalidInput, NotFound

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
TASK_NOT_FOUND, TASK_NOT_CANCELABLE, PUSH_NOT_SUPPORTED = -32001, -32002, -32003
UNSUPPORTED_OPERATION, CONTENT_TYPE_NOT_SUPPORTED = -32004, -32005
VERSION_NOT_SUPPORTED = -32009
REASONS = {
    TASK_NOT_FOUND: "TASK_NOT_FOUND",
    TASK_NOT_CANCELABLE: "TASK_NOT_CANCELABLE",
    PUSH_NOT_SUPPORTED: "PUSH_NOTIFICATION_NOT_SUPPORTED",
    UNSUPPORTED_OPERATION: "UNSUPPORTED_OPERATION",
    CONTENT_TYPE_NOT_SUPPORTED: "CONTENT_TYPE_NOT_SUPPORTED",
    VERSION_NOT_SUPPORTED: "VERSION_NOT_SUPPORTED",
}


class Refused(Exception):
    """One request that is answered with an error; `why` is Aster's own code for it, `status` what HTTP says."""

    def __init__(self, code: int, message: str, *, why: str = "", status: int = 200) -> None:
        super().__init__(message)
        self.code, self.message, self.why, self.status = code, message, why, status

    @classmethod
    def of(cls, error: AsterError) -> Refused:
        match error:
            case NotFound():
                code = TASK_NOT_FOUND
            case InvalidInput():
                code = INVALID_PARAMS
            case Conflict():
                code = UNSUPPORTED_OPERATION
            case _:
                code = INTERNAL_ERROR
        return cls(code, error.message, why=error.code)

    def body(self, request_id: str | int | None) -> dict[str, Any]:
        """A JSON-RPC error. A2A's own carry a google.rpc.ErrorInfo (A2A 1.0 §9.5)."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.code in REASONS:
            info = {
                "reason": REASONS[self.code],
                "domain": "a2a-protocol.org",
                "metadata": {"code": self.why} if self.why else {},
            }
            error["data"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", **info}]
        return {"jsonrpc": "2.0", "id": request_id, "error": error}


def invalid(message: str) -> Refused:
    return Refused(INVALID_PARAMS, message)
