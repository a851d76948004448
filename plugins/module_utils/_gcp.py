# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module utility is PRIVATE to the collection.

"""One engine that brings an object of a Google API into a wanted state.

A module describes its object by a class made from Resource; run_module() does the rest: credentials, reading, comparing, check mode,
diff, writing, waiting. Google's field names and resource names are kept as they are.
"""

from __future__ import annotations

import json
import os
import re
import time
import traceback
import typing as t
from urllib.parse import quote, urljoin, urlsplit

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib
from ansible_collections.selfhost.prefect.plugins.module_utils._connection import USER_AGENT, explain_connection_error

try:
    import google.auth
    import google.auth.exceptions
    import google.auth.transport.requests
    import google.oauth2.credentials
    import requests
except ImportError:
    IMPORT_ERROR: str | None = traceback.format_exc()
else:
    IMPORT_ERROR = None

Json = dict[str, t.Any]

# Seconds for one request; what takes longer is an operation.
REQUEST_TIMEOUT = 60
# Pauses before the same request again. Another operation on the same object may take minutes, and so may one's own.
BACKOFF = (1.0, 2.0, 4.0, 8.0, 16.0)
POLLING = (0.5, 1.0, 2.0, 4.0, 8.0)
BUSY_PAUSE = 10.0
# Seconds after which a person who waits is told, for what and for how long.
PATIENCE = 30.0
# Seconds that Google may take to tell all its servers of a new account, a role, or an API that was enabled.
SPREADING = 120

PROJECT_ID = re.compile(r"^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$")
# Google's names of "somebody else is at it": Cloud SQL, Compute Engine, and the APIs with google.rpc statuses.
BUSY = {"operationInProgress", "resourceNotReady", "ABORTED"}
API_DISABLED = {"SERVICE_DISABLED", "accessNotConfigured"}
FORBIDDEN = {"PERMISSION_DENIED", "IAM_PERMISSION_DENIED", "forbidden", "notAuthorized"}
UNKNOWN_ACCOUNT = re.compile(r"Service account \S+ does not exist")
EXHAUSTED = {"RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "quotaExceeded", "rateLimitExceeded"}


class Api(t.NamedTuple):
    """Where an API is, and the predefined role that has every right that the modules need."""

    endpoint: str
    role: str


# By gcloud's names, which CLOUDSDK_API_ENDPOINT_OVERRIDES_* uses too.
APIS = {
    "cloudresourcemanager": Api("https://cloudresourcemanager.googleapis.com/", "roles/resourcemanager.projectIamAdmin"),
    "compute": Api("https://compute.googleapis.com/compute/v1/", "roles/compute.networkAdmin"),
    "iam": Api("https://iam.googleapis.com/", "roles/iam.serviceAccountAdmin"),
    "run": Api("https://run.googleapis.com/", "roles/run.admin"),
    "secretmanager": Api("https://secretmanager.googleapis.com/", "roles/secretmanager.admin"),
    "servicenetworking": Api("https://servicenetworking.googleapis.com/", "roles/compute.networkAdmin"),
    "serviceusage": Api("https://serviceusage.googleapis.com/", "roles/serviceusage.serviceUsageAdmin"),
    "sql": Api("https://sqladmin.googleapis.com/", "roles/cloudsql.admin"),
}


class GcpError(Exception):
    """What went wrong, as one sentence to show to a person: the problem and its remedy.

    reasons: Google's own names for it. pending: nothing is wrong so far, but Google has not finished.
    """

    pending = False

    def __init__(self, problem: str, remedy: str = "", status: int | None = None, reasons: t.Iterable[str] = ()) -> None:
        super().__init__(f"{problem}: {remedy}." if remedy else f"{problem}.")
        self.status = status
        self.reasons = frozenset(reasons)


class PendingError(GcpError):
    """Google takes longer than the timeout, and goes on by itself."""

    pending = True


# Options and credentials


def gcp_argument_spec() -> dict[str, Json]:
    """Options of every module for Google Cloud (doc fragment _gcp), in google.cloud's words."""
    return {
        "project": {"type": "str", "required": True, "fallback": (env_fallback, ["GCP_PROJECT"])},
        "auth_kind": {
            "type": "str",
            "choices": ["application", "serviceaccount", "machineaccount", "accesstoken"],
            "default": "application",
            "fallback": (env_fallback, ["GCP_AUTH_KIND"]),
        },
        "service_account_file": {"type": "path", "fallback": (env_fallback, ["GCP_SERVICE_ACCOUNT_FILE"])},
        "service_account_contents": {"type": "jsonarg", "no_log": True, "fallback": (env_fallback, ["GCP_SERVICE_ACCOUNT_CONTENTS"])},
        "service_account_email": {"type": "str", "fallback": (env_fallback, ["GCP_SERVICE_ACCOUNT_EMAIL"])},
        "access_token": {"type": "str", "no_log": True, "fallback": (env_fallback, ["GCP_ACCESS_TOKEN"])},
        "scopes": {
            "type": "list",
            "elements": "str",
            "default": ["https://www.googleapis.com/auth/cloud-platform"],
            "fallback": (env_fallback, ["GCP_SCOPES"]),
        },
        "timeout": {"type": "int", "default": 1800},
    }


def make_credentials(params: Json) -> t.Any:
    """Make google-auth's credentials of a module's parameters; nothing is sent for it but by auth_kind application."""
    kind, scopes = params["auth_kind"], params["scopes"]
    if kind == "accesstoken":
        if not params["access_token"]:
            raise GcpError("access_token is missing, and auth_kind is accesstoken", "give what `gcloud auth print-access-token` prints")
        return counted(google.oauth2.credentials.Credentials(params["access_token"]), params["project"])
    if kind == "machineaccount":
        from google.auth import compute_engine

        return compute_engine.Credentials(params["service_account_email"] or "default")
    if kind == "serviceaccount":
        return service_account_credentials(params["service_account_file"], params["service_account_contents"], scopes)
    try:
        found = google.auth.default(scopes=scopes)[0]
    except google.auth.exceptions.GoogleAuthError as exc:
        raise GcpError(
            f"auth_kind is application, and there are no application default credentials ({first_words(exc)})",
            "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS, or choose another auth_kind",
        ) from exc
    return counted(found, params["project"]) if isinstance(found, google.oauth2.credentials.Credentials) else found


def counted(credentials: t.Any, project: str) -> t.Any:
    """Have what a person asks counted as the project's ("About the quota project").

    Where a path names no project, Google else takes the one of the program that the person signed in with, or whatever project was last set
    there. A service account's own project counts; it has what it needs there, and need not have the right to use another's quota.
    """
    return credentials.with_quota_project(os.environ.get("GOOGLE_CLOUD_QUOTA_PROJECT") or project)


def service_account_credentials(path: str | None, contents: str | None, scopes: list[str]) -> t.Any:
    """Read a service account's key from a file or from what was given."""
    if bool(path) == bool(contents):
        number = "both" if path else "neither"
        raise GcpError(f"auth_kind is serviceaccount, and {number} of service_account_file and service_account_contents is set", "give one of them")
    from google.oauth2 import service_account

    option = "service_account_file" if path else "service_account_contents"
    try:
        if path:
            with open(path, encoding="utf-8") as stream:
                contents = stream.read()
        return service_account.Credentials.from_service_account_info(json.loads(contents or ""), scopes=scopes)
    except OSError as exc:
        raise GcpError(f"service_account_file {path} cannot be read ({exc.strerror})", "give the path of a key file on the controller") from exc
    except (ValueError, AttributeError, google.auth.exceptions.GoogleAuthError) as exc:
        # What is wrong with a key is not said, because it could quote the key.
        raise GcpError(f"{option} holds no key of a service account", "give the JSON that Google made with the key, unchanged") from exc


def first_words(exc: Exception) -> str:
    """Give what an exception of google-auth says; its further arguments hold whole responses."""
    return str(exc.args[0] if exc.args else type(exc).__name__).partition("\n")[0].strip().rstrip(".")


# Talking


def show(text: str) -> None:
    """Show a person what goes on. A module has no means to; the action that runs it in Ansible's own process puts its own here."""


class Wait:
    """Sleeps between two looks at something, and says now and then that it is still waited for."""

    def __init__(self) -> None:
        self.began = self.told = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def sleep(self, seconds: float, what: str) -> None:
        time.sleep(seconds)
        if time.monotonic() - self.told >= PATIENCE:
            self.told = time.monotonic()
            show(f"Waiting for {what}, {self.seconds:.0f} s so far")


class GcpClient:
    """Requests to Google's APIs. Paths begin with the API's version, but for compute's, whose endpoint ends in it."""

    def __init__(self, credentials: t.Any, project: str, timeout: float, check_mode: bool, tell: t.Callable[[str], t.Any]) -> None:
        self.project = project
        self.timeout = timeout
        self.check_mode = check_mode
        self.tell = tell
        self.principal = str(getattr(credentials, "service_account_email", ""))
        # A token that was given cannot be renewed, so what Google says to it is what a person should read.
        fixed = isinstance(credentials, google.oauth2.credentials.Credentials) and not credentials.refresh_token
        self._session = google.auth.transport.requests.AuthorizedSession(credentials, **({"refresh_status_codes": ()} if fixed else {}))
        self._session.headers["User-Agent"] = USER_AGENT

    @staticmethod
    def quote(name: str) -> str:
        """Make a name fit to be a part of a path."""
        return quote(name, safe="")

    def get(self, api: str, path: str, *, method: str = "GET", body: Json | None = None, **query: t.Any) -> Json | None:
        """Read an object; None where there is none. Some are read by POST."""
        try:
            return self.request(api, method, path, body=body, query=query)
        except GcpError as exc:
            if exc.status == 404:
                return None
            # A dry run before the first one, which enables the API.
            if self.check_mode and exc.reasons & API_DISABLED:
                self.tell(f"{exc} Until then, this goes on as if nothing were there.")
                return None
            raise

    def list(self, api: str, path: str, items: str, **query: t.Any) -> list[t.Any]:
        """Read all the pages of a list; one of nothing that exists is empty."""
        found: list[t.Any] = []
        page = self.get(api, path, **query) or {}
        found += page.get(items, [])
        while page.get("nextPageToken"):
            page = self.request(api, "GET", path, query={**query, "pageToken": page["nextPageToken"]})
            found += page.get(items, [])
        return found

    def write(self, api: str, method: str, path: str, body: Json | None = None, **query: t.Any) -> Json:
        """Change something, and wait until Google has done so."""
        answer = self.request(api, method, path, body=body, query=query)
        if str(answer.get("kind")).endswith("#operation") or re.search(r"(^|/)operations/[^/]+$", str(answer.get("name"))):
            answer = self.wait(api, path, answer)
        return answer

    def wait(self, api: str, path: str, operation: Json) -> Json:
        """Wait for an operation that path has started; its three kinds differ in where they are and how they say that they are done."""
        if api == "sql":
            where = f"v1/projects/{operation['targetProject']}/operations/{operation['name']}"
        elif api == "compute":
            where = re.sub(r"^.*/(?=projects/)", "", operation["selfLink"])
        else:
            where = f"{path.partition('/')[0]}/{operation['name']}"
        wait, pauses = Wait(), list(POLLING)
        while not (operation.get("done") or operation.get("status") == "DONE"):
            if wait.seconds > self.timeout:
                raise PendingError(
                    f"{where} has not finished within {self.timeout} s, and goes on at Google",
                    "run this again, which waits for it, or set a longer timeout",
                )
            wait.sleep(pauses.pop(0) if len(pauses) > 1 else pauses[0], where)
            operation = self.request(api, "GET", where)
        error = operation.get("error") or {}
        faults = error.get("errors") or ([error] if error else [])
        if faults:
            words = "; ".join(str(fault.get("message") or fault.get("code")).rstrip(".") for fault in faults)
            reasons = {str(fault.get("code")) for fault in faults} | error_reasons(error)
            raise GcpError(f"{api}: {words}", self._remedy(api, reasons, words, error), reasons=reasons)
        return operation

    def request(self, api: str, method: str, path: str, *, body: Json | None = None, query: Json | None = None, wait_while_busy: bool = True) -> Json:
        """Send one request, again after a passing failure, and give back the JSON of the answer."""
        wait, pauses = Wait(), list(BACKOFF)
        while True:
            try:
                return self._send(api, method, path, body, query or {})
            except GcpError as exc:
                # Who lacks the right to have it counted as the project's may still look at most things. gcloud goes on without, too.
                if "USER_PROJECT_DENIED" in exc.reasons and self._session.credentials.quota_project_id:
                    self._session.credentials = self._session.credentials.with_quota_project(None)
                    continue
                busy = wait_while_busy and exc.status in (400, 409) and bool(exc.reasons & BUSY)
                # What may have arrived is sent again only if it does no harm twice.
                passing = exc.status in ((429, 503) if method == "POST" else (429, 500, 502, 503, 504)) or ("unreachable" in exc.reasons and method != "POST")
                pause = BUSY_PAUSE if busy else pauses.pop(0) if passing and pauses else 0
                if busy and wait.seconds + pause > self.timeout:
                    raise PendingError(f"another operation takes longer than {self.timeout} s ({str(exc).rstrip('.')})", "run this again later") from exc
                if not pause or wait.seconds + pause > self.timeout:
                    raise
                why = str(exc).rstrip(".")
            wait.sleep(pause, f"an answer to {method} {path} ({why})")

    def insist(self, attempt: t.Callable[[], Json], passes: t.Callable[[GcpError], bool]) -> Json:
        """Try again, for a while, what fails only until all of Google knows what was just made or allowed."""
        wait, pauses = Wait(), list(BACKOFF)
        while True:
            try:
                return attempt()
            except GcpError as exc:
                pause = pauses.pop(0) if len(pauses) > 1 else pauses[0]
                if not passes(exc) or wait.seconds + pause > min(SPREADING, self.timeout):
                    raise
                why = str(exc).rstrip(".")
            # Why, as it may be a mistake after all.
            wait.sleep(pause, f"all of Google to know what is new ({why})")

    def _send(self, api: str, method: str, path: str, body: Json | None, query: Json) -> Json:
        endpoint = api_endpoint(api)
        url = f"{endpoint.rstrip('/')}/{path}"
        try:
            response = self._session.request(method, url, params=query, json=body, timeout=REQUEST_TIMEOUT, allow_redirects=False)
        except google.auth.exceptions.RefreshError as exc:
            raise GcpError(f"Google refused the credentials ({first_words(exc)})", "renew the credentials, or give others") from exc
        except google.auth.exceptions.GoogleAuthError as exc:
            raise GcpError(f"no access token could be had ({first_words(exc)})", "look at auth_kind, and at the way to Google's token service") from exc
        except requests.RequestException as exc:
            problem, remedy, kind = explain_connection_error(root_cause(exc), endpoint)
            remedy = "trust its authority by REQUESTS_CA_BUNDLE" if kind == "tls" else remedy
            raise GcpError(f"{method} {url}: {problem}", remedy, reasons=["unreachable"]) from exc
        if response.ok:
            try:
                return t.cast(Json, response.json()) if response.content else {}
            except ValueError:
                raise GcpError(f"{method} {url}: the answer is not Google's JSON", "look for a proxy in between, or correct the endpoint") from None
        raise self._error(api, f"{method} {url}", response)

    def _error(self, api: str, request: str, response: t.Any) -> GcpError:
        try:
            error = response.json()["error"]
            message = str(error["message"])
        except (ValueError, KeyError, TypeError):
            return GcpError(f"{request}: HTTP {response.status_code}, without Google's words for it", status=response.status_code)
        violations = [f"{item.get('field')}: {item.get('description')}" for part in error.get("details", ()) for item in part.get("fieldViolations", ())]
        words = "; ".join([message.partition("\n")[0].rstrip("."), *violations])
        reasons = error_reasons(error)
        return GcpError(f"{request}: HTTP {response.status_code}: {words}", self._remedy(api, reasons, message, error), response.status_code, reasons)

    def _remedy(self, api: str, reasons: set[str], message: str, error: Json) -> str:
        """Say what helps against an error of Google's, where that is known."""
        who = f"serviceAccount:{self.principal}" if "@" in self.principal else "the account in use"
        if "requires a quota project" in message:
            return f"grant roles/serviceusage.serviceUsageConsumer in {self.project} to {who}"
        if reasons & API_DISABLED:
            service = error_metadata(error).get("service") or APIS[api].endpoint.split("/")[2]
            consumer = str(error_metadata(error).get("consumer") or self.project).removeprefix("projects/")
            remedy = f"enable the API by `gcloud services enable {service} --project {consumer}`, and give it some minutes"
            return remedy if consumer == self.project else f"{remedy}; what these credentials ask counts as that project's"
        if reasons & FORBIDDEN:
            return self._grant(api, message, error, who)
        if reasons & EXHAUSTED:
            return f"wait, or ask for a greater quota on the quotas page of {self.project}"
        if "UNAUTHENTICATED" in reasons:
            return "renew the credentials, or give others; an access token lasts an hour"
        return "create it first, or correct its name" if UNKNOWN_ACCOUNT.search(message) else ""

    def _grant(self, api: str, message: str, error: Json, who: str) -> str:
        if "actas" in message.lower():
            return f"grant roles/iam.serviceAccountUser on that service account to {who}"
        permission = error_metadata(error).get("permission") or "".join(re.findall(r"(?:[Pp]ermission|Required) '([a-z]+\.[\w.]+)'", message)[:1])
        if api == "servicenetworking" and permission.startswith("compute."):
            # It is not the caller who lacks it: Google gives its own account this role some time after the API was enabled, or never.
            agent = "service-NUMBER@service-networking.iam.gserviceaccount.com, with the number of the network's project"
            return f"grant roles/servicenetworking.serviceAgent in that project to serviceAccount:{agent}"
        return f"grant {APIS[api].role}{f' (or what else holds {permission})' if permission else ''} in {self.project} to {who}"


def api_endpoint(api: str) -> str:
    """Say where an API is: as with gcloud, an address alone stands for the host, and one with a path for all before the methods' paths."""
    own = APIS[api].endpoint
    override = os.environ.get(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api.upper()}") or own
    return override if urlsplit(override).path.strip("/") else urljoin(override, urlsplit(own).path)


def root_cause(exc: BaseException) -> BaseException:
    """Find the exception that requests and urllib3 have wrapped."""
    while exc.__cause__ or exc.__context__:
        exc = t.cast(BaseException, exc.__cause__ or exc.__context__)
    return exc


def error_reasons(error: Json) -> set[str]:
    """Gather the names that Google gives an error, in its old format and its new one."""
    numbers = {7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED", 10: "ABORTED", 16: "UNAUTHENTICATED", 401: "UNAUTHENTICATED"}
    parts = [error.get("status"), numbers.get(t.cast(int, error.get("code")))]
    parts += [part.get("reason") for part in (*error.get("errors", ()), *error.get("details", ()))]
    return {str(part) for part in parts if part}


def error_metadata(error: Json) -> Json:
    """Give what Google's ErrorInfo says beside its reason."""
    return t.cast(Json, next((detail["metadata"] for detail in error.get("details", ()) if detail.get("metadata")), {}))


# Comparing


def seen(wanted: t.Any, current: t.Any, unordered: dict[str, str] | None = None, name: str = "") -> t.Any:
    """Tell what of wanted is there, in wanted's own words: equal to wanted if, and only if, nothing has to change.

    What wanted does not name is the server's business. Lists replace each other, so they count as a whole. unordered names those whose
    order means nothing, with the field that identifies an item ("" where the items are plain). None in wanted wants nothing to be there.
    """
    if isinstance(wanted, dict):
        have = current if isinstance(current, dict) else {}
        parts = {key: seen(value, have.get(key), unordered, key) for key, value in wanted.items()}
        return {key: part for key, part in parts.items() if part is not None or wanted[key] is None}
    if isinstance(wanted, list):
        items = current if isinstance(current, list) else []
        if name in (unordered or {}):
            items = in_order_of(wanted, items, (unordered or {})[name])
        return [seen(value, item, unordered) for value, item in zip(wanted, items)] if len(items) == len(wanted) else items
    return wanted if same(wanted, current) else current


def in_order_of(wanted: list[t.Any], items: list[t.Any], field: str) -> list[t.Any]:
    def identity(item: t.Any) -> str:
        return comparable(item.get(field) if isinstance(item, dict) else item)

    order = [identity(item) for item in wanted]
    return sorted(items, key=lambda item: order.index(identity(item)) if identity(item) in order else len(order))


def same(wanted: t.Any, current: t.Any) -> bool:
    """Compare two plain values. Google leaves out what is empty, zero or false, writes int64 as text, and full URLs for names."""
    if current is None:
        return not wanted
    if isinstance(wanted, bool) or isinstance(current, bool):
        return wanted is current
    return comparable(wanted) == comparable(current)


def comparable(value: t.Any) -> str:
    return re.sub(r"^https?://.+?/(?=projects/)", "", str(value))


def given(value: t.Any) -> t.Any:
    """Drop the options that were not given, at every depth."""
    if isinstance(value, dict):
        return {key: given(part) for key, part in value.items() if part is not None}
    return [given(part) for part in value] if isinstance(value, list) else value


def overlaid(current: t.Any, wanted: t.Any) -> t.Any:
    """Give what current would be with wanted written over it."""
    if isinstance(current, dict) and isinstance(wanted, dict):
        return {**current, **{key: overlaid(current.get(key), value) for key, value in wanted.items()}}
    return wanted


# Bringing into the wanted state


class Resource:
    """One object at Google, as it is wanted (None: not at all). A module says what is particular about its kind."""

    api: str
    # Lists whose order means nothing, with the field that identifies an item ("" where the items are plain).
    unordered: t.ClassVar[dict[str, str]] = {}
    # What a new object gets where wanted says nothing else.
    defaults: t.ClassVar[Json] = {}

    def __init__(self, client: GcpClient, name: str, path: str, wanted: Json | None) -> None:
        self.client = client
        self.name = name
        self.path = path
        self.absent = wanted is None
        self.wanted: Json = wanted or {}
        # What is there, and what of it is as wanted: known once it has been read.
        self.current: Json | None = None
        self.before: Json = {}

    def read(self) -> Json | None:
        """Give the object, or None."""
        return self.client.get(self.api, self.path)

    def is_settled(self, current: Json) -> bool:  # noqa: ARG002 -- for those that override it
        """Say whether no operation on it is under way that some earlier run may have started."""
        return True

    def compare(self, current: Json) -> Json:
        """Tell what of wanted is there, as seen() does."""
        return t.cast(Json, seen(self.wanted, current, self.unordered))

    def changes(self) -> Json:
        """Give what of wanted has to be written to an object that exists."""
        return differing(self.wanted, self.before)

    # Called only if something would change.

    def check(self) -> None:
        """Raise GcpError for what Google would refuse."""

    def missing(self) -> list[str]:
        """Name, in sentences, what has to be there first and is not."""
        return []

    def rehearse(self) -> None:
        """Have Google validate the change where its API can: this is check mode."""

    def create(self) -> None:
        """Make the object."""
        raise NotImplementedError

    def update(self) -> None:
        """Change what differs."""
        self.client.write(self.api, "PATCH", self.path, self.changes())

    def delete(self) -> None:
        """Delete it."""
        self.client.write(self.api, "DELETE", self.path)

    # Called at the end of a run.

    def finish(self, current: Json) -> None:
        """Raise GcpError if what is there does not work."""


def differing(wanted: Json, before: Json) -> Json:
    """Give those keys of wanted that are not so before."""
    return {key: value for key, value in wanted.items() if key not in before or before[key] != value}


def read_settled(resource: Resource) -> Json | None:
    """Read the object, and wait for what another run has left under way."""
    wait = Wait()
    current = resource.read()
    while current is not None and not resource.is_settled(current) and not resource.client.check_mode:
        if wait.seconds > resource.client.timeout:
            raise PendingError(f"{resource.name} has been changing for {resource.client.timeout} s", "look at it in Google's console, or set a longer timeout")
        wait.sleep(BUSY_PAUSE, f"{resource.name} to be as an earlier change will have it")
        current = resource.read()
    return current


def converge(resource: Resource) -> Json:
    """Bring an object into its wanted state. In check mode nothing is written, and the result is the same."""
    check_mode = resource.client.check_mode
    current = resource.current = read_settled(resource)
    if current is None and not resource.absent:
        resource.wanted = overlaid(resource.defaults, resource.wanted)
    elif current is not None:
        resource.before = resource.compare(current)
    changed = (current is None) != resource.absent or resource.before != resource.wanted
    diff = {
        "before": {"name": resource.name, **resource.before} if current is not None else {},
        "after": {"name": resource.name, **resource.wanted} if not resource.absent else {},
    }
    if changed:
        current = write_changes(resource)
    if current is not None and not check_mode:
        resource.finish(current)
    return {"changed": changed, "diff": diff, "resource": current or {}}


def write_changes(resource: Resource) -> Json | None:
    """Create, change or delete the object, and give what is there then; in check mode, what would be."""
    resource.check()
    problems = resource.missing()
    if resource.client.check_mode:
        for problem in problems:
            resource.client.tell(problem)
        # Google would not validate what refers to things that the run makes first.
        if not problems:
            resource.rehearse()
        return None if resource.absent else t.cast(Json, overlaid(resource.current or {}, resource.wanted))
    if problems:
        raise GcpError(" ".join(problems).rstrip("."))
    if resource.absent:
        resource.delete()
        return None
    if resource.current is None:
        resource.create()
    else:
        resource.update()
    return read_settled(resource)


# Who may do what


def converge_members(client: GcpClient, api: str, path: str, roles: t.Collection[str], *, members: t.Iterable[str], state: str) -> Json:
    """Grant roles on path to members, take them from them (absent), or leave them to them alone (exclusive).

    Bindings with a condition are others' business and stay as they are.
    """
    wanted = set(members)

    def attempt() -> Json:
        policy = _read_policy(client, api, path)
        bindings: dict[str, set[str]] = {}
        conditional = []
        for item in policy.get("bindings", []):
            if "condition" in item:
                conditional.append(item)
            else:
                bindings.setdefault(item["role"], set()).update(item["members"])
        before = {role: bindings.get(role, set()) for role in roles}
        after = {role: {"present": have | wanted, "absent": have - wanted, "exclusive": wanted}[state] for role, have in before.items()}
        diff = {side: {role: sorted(have) for role, have in found.items()} for side, found in (("before", before), ("after", after))}
        result = {"changed": before != after, "diff": diff}
        if result["changed"] and not client.check_mode:
            policy["bindings"] = [{"role": role, "members": sorted(have)} for role, have in {**bindings, **after}.items() if have] + conditional
            client.request(api, "POST", f"{path}:setIamPolicy", body={"policy": policy}, wait_while_busy=False)
        return result

    # Somebody else has changed the policy since it was read: its etag is another one now. Or an account is too new for IAM to know it.
    return client.insist(attempt, lambda exc: exc.status == 409 or (exc.status == 400 and bool(UNKNOWN_ACCOUNT.search(str(exc)))))


def _read_policy(client: GcpClient, api: str, path: str) -> Json:
    # Version 3 shows bindings with conditions; to write back what an older one shows would take the conditions away.
    # Of what a dry run has not made, there is no policy.
    ways: dict[str, Json] = {
        "cloudresourcemanager": {"method": "POST", "body": {"options": {"requestedPolicyVersion": 3}}},
        "iam": {"method": "POST", "options.requestedPolicyVersion": 3},
    }
    policy = client.get(api, f"{path}:getIamPolicy", **ways.get(api, {"options.requestedPolicyVersion": 3})) or {}
    return {**policy, "version": 3}


# Running


def run_module(run: t.Callable[[AnsibleModule, GcpClient], Json], argument_spec: Json, **options: t.Any) -> None:
    """Be a module's main(): run(module, client) gives the result or raises GcpError."""
    module = AnsibleModule(argument_spec={**gcp_argument_spec(), **argument_spec}, supports_check_mode=True, **options)
    if IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("google-auth and requests"), exception=IMPORT_ERROR)
    try:
        project = module.params["project"]
        if not PROJECT_ID.match(project):
            raise GcpError(f"project is {project!r}, which is no project ID", "write the ID, as `gcloud projects list` shows it, not the name or the number")
        client = GcpClient(make_credentials(module.params), project, module.params["timeout"], module.check_mode, module.warn)
        result = run(module, client)
    except GcpError as exc:
        module.fail_json(msg=str(exc), pending=exc.pending)
    module.exit_json(**result)
