# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Refusals in Google's own shape (Google Cloud APIs, "Errors"; AIP-193)."""

from __future__ import annotations

import typing as t

STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}
REASON = {
    400: "invalid",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    409: "conflict",
    412: "conditionNotMet",
    429: "rateLimitExceeded",
    500: "backendError",
    503: "backendError",
}


class GoogleError(Exception):
    """An answer other than success. `reason` is what the older APIs say (compute, sqladmin), `status` what the newer ones do."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str = "",
        status: str = "",
        details: t.Sequence[dict[str, t.Any]] = (),
        headers: t.Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or REASON.get(code, "invalid")
        self.status = status or STATUS.get(code, "UNKNOWN")
        self.details = list(details)
        self.headers = dict(headers or {})

    def body(self, *, with_errors: bool) -> dict[str, t.Any]:
        error: dict[str, t.Any] = {"code": self.code, "message": self.message}
        if with_errors:
            error["errors"] = [{"message": self.message, "domain": "global", "reason": self.reason}]
        if self.details or not with_errors:
            error["status"] = self.status
        if self.details:
            error["details"] = self.details
        return {"error": error}


def error_info(reason: str, domain: str, **metadata: str) -> dict[str, t.Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": domain, "metadata": metadata}


def bad_request(violations: t.Iterable[tuple[str, str]]) -> dict[str, t.Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": field, "description": text} if field else {"description": text} for field, text in violations],
    }
