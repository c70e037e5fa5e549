"""What an online store that fails is said to do, and what to do about it."""

import re

import redis
import redis.asyncio.sentinel
import redis.sentinel

from online_sync.address import Address

_EACH_SENTINEL = re.compile(r"> - \w+:(\w+)")
"""The error of a Sentinel, as redis-py says it beside the client that met it."""
_STAYS = "what was written stays, and the next sync goes on"

_BY_TLS = {
    "CERTIFICATE_VERIFY_FAILED": (
        "shows a certificate that is not trusted ({reason}): name the file of its authority by ssl_ca_certs, and the host as the "
        "certificate names it"
    ),
    "CERTIFICATE_REQUIRED": "wants a certificate of ours: name its files by ssl_certfile and ssl_keyfile in HEADWATER_REDIS_URL",
    "WRONG_VERSION_NUMBER": "speaks no TLS at this port: begin HEADWATER_REDIS_URL with redis instead of rediss, or name its port for TLS",
    "RECORD_LAYER_FAILURE": "speaks no TLS at this port: begin HEADWATER_REDIS_URL with redis instead of rediss, or name its port for TLS",
}

_ENDS = ("Connection closed by server", "EOF occurred", "Connection reset", "Broken pipe")


def said(error: Exception, at: Address) -> str:
    """What a store does, by what redis-py raised; it follows on the store's name, and shows no password."""
    reason = str(error).partition("\n")[0] or type(error).__name__
    if at.tls is not None and "ssl_certfile" not in at.tls and any(sign in reason for sign in _ENDS):
        reason = "CERTIFICATE_REQUIRED"  # a server that asks for one in vain ends the connection, and mostly that is all that is heard
    for sign, sentence in _BY_TLS.items():
        if sign in reason.upper().replace(" ", "_"):
            return sentence.format(reason=reason.rpartition("] ")[2].partition(" (_ssl")[0])
    match error:
        case redis.AuthenticationError():
            return _not_let_in(reason)
        case redis.BusyLoadingError():
            return "is still loading its data; try again in a moment"
        case redis.sentinel.MasterNotFoundError() | redis.asyncio.sentinel.MasterNotFoundError():
            return _without_primary(reason, sentinels=len(at.hosts))
        case redis.ResponseError():
            return _refused(error, reason)
        case redis.exceptions.ClusterError() | redis.exceptions.RedisClusterException():
            return _of_a_cluster(reason)
        case redis.TimeoutError() | TimeoutError():
            hint = "" if at.tls is None else " (it may speak no TLS at this port: then begin HEADWATER_REDIS_URL with redis)"
            return f"does not answer in time{hint}; {_STAYS}"
    return f"does not answer: {reason}"


def _not_let_in(reason: str) -> str:
    if "required" in reason:
        return "wants a password: write it into HEADWATER_REDIS_URL, like redis://:password@host:6379/0"
    return "refuses the user or the password in HEADWATER_REDIS_URL"


def _refused(error: redis.ResponseError, reason: str) -> str:
    """What was refused for its user, or for a state of the store."""
    if isinstance(error, redis.exceptions.NoPermissionError) or "ACL failure" in reason:  # the latter of a command in a script
        return f"does not let this user do what is needed: {reason}"
    if isinstance(error, redis.ReadOnlyError):
        return "is a replica that takes no writes; name its primary in HEADWATER_REDIS_URL"
    if "used memory > 'maxmemory'" in reason:
        return f"is full: it has used the memory that its maxmemory allows. Allow more; {_STAYS}"
    if "DB index is out of range" in reason:
        return "has no database of the number that HEADWATER_REDIS_URL ends with; most have 0 to 15"
    if "MISCONF" in reason:
        return "takes no writes because it cannot save to its disk; look into its log"
    if "Not enough good replicas" in reason:
        return f"takes no writes because too few of its replicas keep up (min-replicas-to-write); {_STAYS}"
    if "CLUSTERDOWN" in reason or "Hash slot not served" in reason:
        return f"belongs to a cluster that is not whole: {reason}"
    return f"does not answer: {reason}"


def _of_a_cluster(reason: str) -> str:
    """What redis-py says of a cluster; a key that is sent from server to server has exhausted its TTL."""
    if "TTL" in reason:
        return f"belongs to a cluster whose servers do not agree which of them has a key; look into its log, and try again; {_STAYS}"
    return f"belongs to a cluster that is not whole: {reason}"


def _without_primary(reason: str, *, sentinels: int) -> str:
    """Why it is not known who the primary is, by the errors of those of the Sentinels that did not answer."""
    errors = _EACH_SENTINEL.findall(reason)
    if "AuthenticationError" in errors:
        return "has Sentinels that want a user or a password of their own: sentinel_username and sentinel_password in HEADWATER_REDIS_URL"
    if len(errors) >= sentinels:
        return "has Sentinels that do not answer, so it is not known which server is its primary; see whether they run"
    return "has no primary that its Sentinels see alive: a failover takes some seconds, so try again; else the service's name may be wrong"
