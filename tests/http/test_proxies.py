"""Which proxy requests go through: the one that was set, or that of the environment, as curl reads it."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise.backends._http.proxies import Proxy, environment_proxy
from partwise.errors import InvalidInput

HOST = "examplebucket.oss-cn-hangzhou.aliyuncs.com"


@pytest.mark.parametrize(
    ("url", "host", "port", "authorization"),
    [
        ("http://proxy.example.com:3128", "proxy.example.com", 3128, None),
        ("http://proxy.example.com:3128/", "proxy.example.com", 3128, None),
        ("proxy.example.com:3128", "proxy.example.com", 3128, None),
        ("HTTP://proxy:3128", "proxy", 3128, None),
        ("http://proxy", "proxy", 1080, None),
        ("http://[::1]:3128", "::1", 3128, None),
        ("http://user:p%40ss@proxy:1", "proxy", 1, "Basic dXNlcjpwQHNz"),
        ("http://user@proxy:1", "proxy", 1, "Basic dXNlcjo="),
        ("user:p%40ss@proxy:1", "proxy", 1, "Basic dXNlcjpwQHNz"),
    ],
)
def test_a_proxy_is_parsed_from_a_url(url, host, port, authorization):
    proxy = Proxy.parse(url)
    assert (proxy.host, proxy.port, proxy.authorization) == (host, port, authorization)


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "http://",
        "http://u:hunter2@h:x",
        "http://u:hunter2@h:0",
        "http://u:hunter2@h:99999",
        "http://h/hunter2",
        "http://h:1?hunter2",
        "http://h:1#hunter2",
        "http://h ost:1",
        "http://[::1:hunter2",
        "http://u:hunter2@h\u2100:1",
        "https://u:hunter2@h:1",
        "socks5://u:hunter2@h:1",
        "socks5h://u:hunter2@h:1",
        "ftp://u:hunter2@h:1",
    ],
)
def test_an_invalid_proxy_is_refused_and_not_shown(url):
    with pytest.raises(InvalidInput, match="proxy='http://host:port'") as raised:
        Proxy.parse(url, "HTTPS_PROXY")
    assert str(raised.value).startswith("the proxy in the environment variable HTTPS_PROXY is invalid")
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))
    assert raised.value.__cause__ is None
    assert "hunter2" not in repr(raised.value.__context__)


@pytest.mark.parametrize("scheme", ["https", "socks4", "socks5", "socks5h"])
def test_other_kinds_of_proxies_are_not_supported(scheme):
    with pytest.raises(InvalidInput, match=f"{scheme}:// proxies are not supported"):
        Proxy.parse(f"{scheme}://h:1")


@given(st.text(max_size=60))
def test_arbitrary_text_is_a_proxy_or_refused(text):
    for url in (text, f"http://{text}", f"http://user:{text}@host:1"):
        try:
            proxy = Proxy.parse(url)
        except InvalidInput:
            continue
        assert proxy.host
        assert 1 <= proxy.port <= 65535


def test_a_password_that_is_not_utf_8_is_sent_byte_for_byte():
    assert Proxy.parse("http://u:\udcff@h:1").authorization == "Basic dTr/"


def test_the_repr_does_not_contain_the_password():
    proxy = Proxy.parse("http://user:hunter2@host:1")
    assert proxy.authorization is not None
    assert "hunter2" not in repr(proxy)
    assert proxy.authorization.removeprefix("Basic ") not in repr(proxy)
    assert set(proxy.secrets) == {"hunter2", proxy.authorization.removeprefix("Basic ")}


# --- the environment -------------------------------------------------------------------------------------------------


def named(environment, scheme="https", host=HOST):
    proxy = environment_proxy(scheme, host, environment)
    return None if proxy is None else (proxy.host, proxy.variable)


@pytest.mark.parametrize(
    ("scheme", "environment", "expected"),
    [
        ("https", {}, None),
        ("https", {"https_proxy": "http://a:1"}, ("a", "https_proxy")),
        ("https", {"HTTPS_PROXY": "http://a:1"}, ("a", "HTTPS_PROXY")),
        ("https", {"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, ("a", "https_proxy")),
        ("https", {"https_proxy": "", "HTTPS_PROXY": "http://b:1"}, ("b", "HTTPS_PROXY")),
        ("https", {"http_proxy": "http://a:1"}, None),
        ("http", {"http_proxy": "http://a:1"}, ("a", "http_proxy")),
        ("http", {"https_proxy": "http://a:1"}, None),
        # A CGI server sets it from a header of its client.
        ("http", {"HTTP_PROXY": "http://a:1"}, None),
        ("https", {"all_proxy": "http://a:1"}, ("a", "all_proxy")),
        ("http", {"ALL_PROXY": "a:1"}, ("a", "ALL_PROXY")),
        ("http", {"all_proxy": "a:1", "ALL_PROXY": "b:1"}, ("a", "all_proxy")),
        ("https", {"https_proxy": "http://a:1", "all_proxy": "http://b:1"}, ("a", "https_proxy")),
    ],
)
def test_the_variables_are_read_as_by_curl(scheme, environment, expected):
    assert named(environment, scheme) == expected


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.8.9.10", "::1"])
def test_this_machine_is_reached_directly(host):
    assert named({"all_proxy": "http://a:1"}, host=host) is None


@pytest.mark.parametrize(
    ("exceptions", "host", "direct"),
    [
        ("*", HOST, True),
        (" * ", HOST, True),
        (HOST, HOST, True),
        ("aliyuncs.com", HOST, True),
        (".aliyuncs.com", HOST, True),
        ("ALIYUNCS.COM", HOST, True),
        ("aliyuncs.com.", HOST, True),
        ("aliyuncs.com", f"{HOST}.", True),
        ("other.com,aliyuncs.com", HOST, True),
        ("other.com aliyuncs.com", HOST, True),
        ("other.com , aliyuncs.com", HOST, True),
        ("yuncs.com", HOST, False),
        ("other.com", HOST, False),
        ("x." + HOST, HOST, False),
        ("aliyuncs.com:443", HOST, False),
        ("", HOST, False),
        (",,.,", HOST, False),
        ("*.aliyuncs.com", HOST, False),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.7/24", "192.0.2.8", True),
        ("192.0.3.0/24", "192.0.2.7", False),
        ("2.7", "192.0.2.7", False),
        ("192.0.2.0/99", "192.0.2.7", False),
        ("2001:db8::/32", "2001:db8::5", True),
        ("[2001:db8::5]", "2001:db8::5", True),
        ("2001:DB8:0::5", "2001:db8::5", True),
        ("192.0.2.0/24", "2001:db8::5", False),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_exceptions_are_matched_as_by_curl(name, exceptions, host, direct):
    assert (named({"https_proxy": "http://a:1", name: exceptions}, host=host) is None) is direct


def test_no_proxy_in_lower_case_takes_precedence():
    environment = {"https_proxy": "http://a:1", "no_proxy": "other.com", "NO_PROXY": "*"}
    assert named(environment) == ("a", "https_proxy")


def test_a_proxy_that_is_not_used_is_not_validated():
    assert named({"https_proxy": "socks5://h:1"}, host="localhost") is None
    assert named({"https_proxy": "socks5://h:1", "no_proxy": "*"}) is None


@given(st.text(max_size=40), st.text(max_size=40))
def test_arbitrary_exceptions_are_accepted(exceptions, host):
    assert named({"https_proxy": "http://a:1", "no_proxy": exceptions}, host=host or "h") in (
        None,
        ("a", "https_proxy"),
    )
