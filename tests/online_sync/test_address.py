"""What HEADWATER_REDIS_URL may say, and how each mistake in it is told, without the password."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from online_sync import address
from online_sync.address import Address, Login, StoreAddressError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("redis://", Address((("localhost", 6379),))),
        ("redis://:a@b@host/3", Address((("host", 6379),), db=3, login=Login(None, "a@b"))),
        ("redis://me:a%2Fb%23c%40d@[::1]:7/0", Address((("::1", 7),), login=Login("me", "a/b#c@d"))),
        ("redis://host?db=2&client_name=sync", Address((("host", 6379),), db=2, client_name="sync")),
        ("unix://me:word@/run/redis.sock?db=4", Address((), "/run/redis.sock", db=4, login=Login("me", "word"))),
        (
            "redis+sentinel://me:word@one,two:7/shop/5?sentinel_username=you&sentinel_password=w%26rd",
            Address((("one", 26379), ("two", 7)), None, "shop", 5, Login("me", "word"), Login("you", "w&rd")),
        ),
        ("rediss://host", Address((("host", 6379),), tls={"ssl_cert_reqs": "required", "ssl_check_hostname": True})),
        ("rediss+sentinel://s/m?ssl_check_hostname=no",
         Address((("s", 26379),), None, "m", tls={"ssl_cert_reqs": "required", "ssl_check_hostname": False})),
        ("rediss://host?ssl_cert_reqs=none", Address((("host", 6379),), tls={"ssl_cert_reqs": "none", "ssl_check_hostname": False})),
    ],
)  # fmt: skip
def test_a_url_says_the_servers_the_user_and_what_is_by_tls(url: str, meant: Address) -> None:
    assert address.read(url) == meant


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:6379", "redis://user:password@host"),
        ("redis://:s3cret@host:port", "cannot be read"),
        ("redis://:s3cret@host:99999", "cannot be read"),
        ("redis://:s3/cret@host", "percent-encode"),
        ("redis://:s3cret@one,two", r"redis\+sentinel://host:26379,other:26379/service/0"),
        ("redis+sentinel://:s3cret@one,two", "names no service of its Sentinels"),
        ("redis://:s3cret@host/first", "names the database 'first'"),
        ("redis://:s3cret@host?socket_timeout=3", "the option 'socket_timeout', which is not known; known are db"),
        ("redis://:s3cret@host?ssl_check_hostname=no", "has ssl_check_hostname, but no TLS: begin it with rediss"),
        ("rediss://:s3cret@host?ssl_ca_certs=/none.pem", "names the file /none.pem by ssl_ca_certs, and there is none"),
        ("rediss://:s3cret@host?ssl_cert_reqs=maybe", "is required or none"),
        ("rediss://:s3cret@host?ssl_check_hostname=maybe", "is true or false"),
    ],
)
def test_a_mistake_is_told_and_the_password_is_not(url: str, said: str) -> None:
    with pytest.raises(StoreAddressError, match=said) as raised:
        address.read(url)
    assert "s3" not in str(raised.value)


def test_the_files_of_tls_are_found(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    found = address.read(f"rediss://host?ssl_ca_certs={tmp_path}/ca.pem").tls
    assert found is not None
    assert found["ssl_ca_certs"] == str(tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://:s3cret@host", "host:6379"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
        ("redis+sentinel://:s3cret@one,two:7/shop?sentinel_password=s3cret", "shop (Sentinels: one:26379, two:7)"),
    ],
)
def test_messages_name_the_store_and_no_password_is_shown(url: str, named: str) -> None:
    found = address.read(url)
    assert str(found) == named
    assert "s3cret" not in repr(found)
