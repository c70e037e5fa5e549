"""How S3 is reached: by the standard AWS variables or a profile's files, the same way by every client that reads or writes the lake.

Each client finds the keys itself, so that none passes through us. obstore alone knows no profiles: it is given what botocore finds.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from feature_definitions.errors import TRANSIENT, UserError
from feature_definitions.layout import S3

if TYPE_CHECKING:
    from obstore.store import S3Credential

_ROLES = frozenset({"assume-role-with-web-identity", "container-role", "iam-role"})
"""Keys that every client fetches and renews itself, from what a machine or a container is given; botocore's names."""
_OF_SOME = {"AWS_ENDPOINT": "AWS_ENDPOINT_URL", "AWS_DEFAULT_PROFILE": "AWS_PROFILE"}
"""Variables that only some of the clients read, and those that all read."""
_FRESH = timedelta(minutes=5)
"""So long what botocore finds is used before it is asked again; it renews keys ten minutes before they end."""

Keys = Literal["variables", "profile", "role"]


class S3Fault(UserError):
    """S3 refuses, is not there, or does not know the bucket: the message says which, and what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """Where S3 is, and where the keys come from: one object as long as the variables stay the same.

    `endpoint` is None for Amazon's own, `region` None where nobody says it.
    """

    endpoint: str | None
    region: str | None
    keys: Keys
    provider: "Callable[[], S3Credential] | None" = field(default=None, repr=False)
    """What obstore asks for keys, where it does not find them itself."""

    @property
    def is_plain(self) -> bool:
        """Whether the endpoint speaks HTTP without TLS, as its URL says."""
        return self.endpoint is not None and self.endpoint.startswith("http://")


def is_remote(path: str) -> bool:
    """Whether a path is one on S3."""
    return path.startswith(S3)


def split(path: str) -> tuple[str, str]:
    """The bucket and the key of a path on S3."""
    bucket, _, key = path.removeprefix(S3).partition("/")
    return bucket, key.rstrip("/")


def reach() -> Reach:
    """How S3 is reached from here; raises S3Fault where no keys or no region are said."""
    names = ("HOME", *(name for name in os.environ if name.startswith("AWS_")))
    return _reach(tuple(sorted((name, os.environ[name]) for name in names if os.environ.get(name))))


def options(found: Reach) -> dict[str, str]:
    """What delta-rs must be told beside the variables. A version of a table is put only where there is none, whatever they say."""
    said = {"AWS_CONDITIONAL_PUT": "etag", "AWS_REGION": str(found.region)}
    said |= {} if found.endpoint is None else {"AWS_ENDPOINT_URL": found.endpoint}
    said |= {"AWS_ALLOW_HTTP": "true"} if found.is_plain else {}
    return said | ({"AWS_FORCE_CREDENTIAL_LOAD": "true"} if found.keys == "profile" else {})


def client(found: Reach) -> Any:
    """boto3's client, for what the others cannot do."""
    import boto3

    return boto3.session.Session().client("s3", endpoint_url=found.endpoint, region_name=found.region)


@lru_cache(maxsize=8)
def _reach(variables: tuple[tuple[str, str], ...]) -> Reach:
    said = dict(variables)
    for name, instead in _OF_SOME.items():
        if name in said:
            raise S3Fault(f"the variable {name} is read by some programs only, so that others look elsewhere; set {instead} instead")
    keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= said.keys()
    endpoint = said.get("AWS_ENDPOINT_URL_S3") or said.get("AWS_ENDPOINT_URL")
    region = said.get("AWS_REGION") or said.get("AWS_DEFAULT_REGION")
    if keys and ((endpoint and region) or not _has_files(said)):
        return _checked(Reach(endpoint, region, "variables"))
    return _checked(_by_files(endpoint, region))


def _has_files(said: Mapping[str, str]) -> bool:
    """Whether a file may say something about a profile."""
    named = {"AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"}
    return not named.isdisjoint(said) or any(Path(said.get("HOME", "~"), ".aws", name).is_file() for name in ("config", "credentials"))


def _by_files(endpoint: str | None, region: str | None) -> Reach:
    """What botocore finds: in the files of profiles, or of what the machine or the container is given."""
    import botocore.session
    from botocore.exceptions import BotoCoreError

    session = botocore.session.Session()
    try:
        profile, found = session.get_scoped_config(), session.get_credentials()
    except BotoCoreError as error:
        raise S3Fault(f"S3 cannot be reached: {error}; correct AWS_PROFILE or the files in ~/.aws") from None
    if found is None:
        raise S3Fault(
            "S3 wants keys, and there are none: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile of "
            "~/.aws/credentials"
        )
    service = session.full_config.get("services", {}).get(profile.get("services"), {}).get("s3", {})
    endpoint = endpoint or service.get("endpoint_url") or profile.get("endpoint_url")
    region = region or profile.get("region")
    if found.method == "env":
        return Reach(endpoint, region, "variables")
    return Reach(endpoint, region, "role" if found.method in _ROLES else "profile", _provider(found))


def _provider(found: Any) -> "Callable[[], S3Credential]":
    """The keys that botocore has now, which it renews when they end."""

    def keys() -> "S3Credential":
        now = found.get_frozen_credentials()
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.now(UTC) + _FRESH,
        }

    return keys


def _checked(found: Reach) -> Reach:
    """With a region: an endpoint of one's own takes any, Amazon's does not."""
    if found.endpoint is not None and not found.endpoint.startswith(("http://", "https://")):
        raise S3Fault(f"AWS_ENDPOINT_URL is {found.endpoint!r}; write a URL, like https://s3.example.com or http://127.0.0.1:9000")
    if found.region is not None:
        return found
    if found.endpoint is None:
        raise S3Fault("the bucket's region is not said; set AWS_REGION, like AWS_REGION=eu-central-1, or `region` in the profile")
    return Reach(found.endpoint, "us-east-1", found.keys, found.provider)


# ------------------------------------------------------------------------------------------------------------------------ faults

_FAULTS: tuple[tuple[str, str], ...] = (
    ("NoSuchBucket|NO_SUCH_BUCKET|UnknownStoreException", "there is no bucket {bucket} {at}; make it, or correct the name"),
    ("ExpiredToken|RequestExpired", "S3 refuses the keys for bucket {bucket} {at}, because they have ended; get new ones"),
    ("RequestTimeTooSkewed", "S3 refuses what is asked of bucket {bucket} {at}, because this machine's clock is wrong; set it right"),
    (
        "InvalidAccessKeyId|SignatureDoesNotMatch|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|401 Unauthorized|XAdminUserNotFound",
        "S3 does not know the keys given for bucket {bucket} {at}; correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile",
    ),
    (
        "AccessDenied|403 Forbidden|ACCESS_DENIED|Forbidden",
        "S3 refuses what is asked of bucket {bucket} {at}: the keys may not do it, or are wrong; correct them or their policy (docs/s3.md)",
    ),
    (
        "AuthorizationHeaderMalformed|PermanentRedirect|incorrectly configured region|301 Moved Permanently|HTTP status 301|AWSRedirect",
        "bucket {bucket} lies in another region than {region}; set AWS_REGION to its own",
    ),
    ("[Uu]nable to (load|locate) credentials|NoAwsCredentials|NoCredentials", "S3 wants keys for bucket {bucket} {at}, and there are none"),
    (
        "[Cc]ertificate|CERTIFICATE|SSL|InvalidContentType|unable to find valid certification path",
        "the endpoint {endpoint} has no TLS certificate that is trusted here; correct AWS_ENDPOINT_URL, or have its certificate trusted",
    ),
    (
        "SlowDown|SLOW_DOWN|50[0234] (Internal|Bad|Service|Gateway)|ServiceUnavailable",
        f"S3 answers {{at}} again and again that it cannot answer now; run the same command later: {TRANSIENT}",
    ),
    (
        "error sending request|[Cc]onnect|dns error|timed out|not resolve|NETWORK_CONNECTION|UnknownHost",
        f"S3 does not answer {{at}}; see whether it runs and can be reached from here, and whether AWS_ENDPOINT_URL is right; {TRANSIENT}",
    ),
)
_OF_S3 = re.compile(r"Generic S3 error|AWS Error|S3Exception|fs\.s3a|awssdk|botocore")
"""What the errors of obstore and delta-rs, of pyarrow, of Java and of boto3 say of themselves."""
_STATUS = re.compile(r"[45]\d\d [A-Z][A-Za-z ]+")
_BUCKET = re.compile(r"s3a://([a-z0-9.-]+)|bucket '([a-z0-9.-]+)'|https?://[^/\s]+/([a-z0-9.-]+)[/?]")


def fault(error: BaseException, path: str) -> S3Fault:
    """What a client's error about a path means, in one sentence; the clients say it in many lines, each in its own way."""
    bucket, _ = split(path)
    known = _known(str(error), bucket)
    if known is not None:
        return known
    status = _STATUS.search(str(error))
    first = status[0] if status else (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return S3Fault(f"S3 failed when it was asked for bucket {bucket}: {first}")


def explained(error: BaseException) -> S3Fault | None:
    """What an error means that some client raised in the middle of other work, or that another came of; None if it is not of S3."""
    seen: BaseException | None = error
    while seen is not None:
        text = f"{type(seen).__module__} {seen}"
        if _OF_S3.search(text):
            named = _BUCKET.search(text)
            return _known(text, next(filter(None, named.groups())) if named else "of the lake")
        seen = seen.__cause__ or seen.__context__
    return None


def _known(said: str, bucket: str) -> S3Fault | None:
    try:
        found = reach()
    except S3Fault as problem:
        return problem
    at = "at Amazon" if found.endpoint is None else f"at {found.endpoint}"
    text = next((text for signs, text in _FAULTS if re.search(signs, said)), None)
    told = {"bucket": bucket, "at": at, "region": found.region, "endpoint": found.endpoint or "of Amazon"}
    return None if text is None else S3Fault(text.format(**told))
