"""Text without credentials: every URL and every error that is printed, logged or stored passes through here first.

`public_url` is a pure function of the URL, so it may enter names and keys: a link that is signed anew each day keeps
its name. `redacted` also knows the forms of common keys and the secrets in this process's environment.
"""

import os
import re

HIDDEN = "***"

_SECRET_NAMES = (
    r"x-amz-[\w-]+|x-goog-[\w-]+|awsaccesskeyid|aws_access_key_id|aws_secret_access_key|aws_session_token|googleaccessid|"
    r"key-pair-id|policy|signature|sig|credential|(?:access|api|account|secret|private|session|security)[-_]?(?:key|token)s?"
    r"(?:[-_]?id)?|sas[-_]?token|refresh[-_]?token|id[-_]?token|token|secret|client[-_]?secret|password|passwd|pwd|auth|"
    r"authorization|connection[-_]?string"
)
_USER = re.compile(
    r"(?i)\b(https?|ftps?|sftp|ssh|smb|webdavs?)://[^/\s@'\"<>]+@|\b([a-z][a-z0-9+.-]*)://[^/\s@'\"<>:]*:[^/\s@'\"<>]*@"
)
_QUERY = re.compile(rf"(?i)([?&;](?:{_SECRET_NAMES})=)[^&;#\s'\"<>)\]]*|([?&;]key=)AIza[\w-]{{20,}}")
_FORMS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (
        re.compile(
            r"(?i)\b((?:aws_)?(?:secret_?access_?key|access_?key(?:_?id)?|session_?token|secret(?:_?key)?|account_?key|"
            r"api_?key|sas_?token|refresh_?token|client_?secret|private_?key|token|password|passwd)['\"]?\s*[=:]\s*['\"]?)"
            r"[^\s'\",;&}){]{6,}"
        ),
        rf"\1{HIDDEN}",
    ),
    # A URL's user and password without its scheme, as botocore quotes them for a bucket's name.
    (re.compile(r"(?<![\w/])[^\s/@:'\"<>(]{3,}:[^\s/@:'\"<>]{8,}@"), f"{HIDDEN}:{HIDDEN}@"),
    (re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[0-9A-Z]{16}\b"), HIDDEN),
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}\b|\bgh[pousr]_[A-Za-z0-9]{20,}\b|\bya29\.[\w-]{20,}"), HIDDEN),
    (re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}"), HIDDEN),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), HIDDEN),
)
_SECRET_VARIABLE = re.compile(
    r"(?i)(?:secret|token(?!iz)|password|passwd|access_?key|api_?key|account_?key|connection_?string)(?!.*_(?:file|path|dir|url)$)"
)
_SHORTEST_SECRET = 8


def public_url(url: str) -> str:
    """The URL with user, password and signature hidden; what tells one object from another stays."""
    return _QUERY.sub(
        lambda found: (found[1] or found[2]) + HIDDEN,
        _USER.sub(lambda found: f"{found[1] or found[2]}://{HIDDEN}@", url),
    )


def redacted(text: object) -> str:
    """`text` (a URL, a message, a traceback) with every credential that can be told as one hidden."""
    shown = public_url(str(text))
    for form, instead in _FORMS:
        shown = form.sub(instead, shown)
    for secret in _environment_secrets():
        shown = shown.replace(secret, HIDDEN)
    return shown


def _environment_secrets() -> list[str]:
    found = {
        value for name, value in os.environ.items() if len(value) >= _SHORTEST_SECRET and _SECRET_VARIABLE.search(name)
    }
    return sorted(found, key=len, reverse=True)
