"""Which proxy requests go through: the one that was given, or the environment's, as curl reads it."""

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
def test_a_proxy_is_given_by_a_url(url, host, port, authorization):
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
def test_what_can_not_be_a_proxy_is_refused_without_being_shown(url):
    with pytest.raises(InvalidInput, match="a proxy is given as http://host:port") as raised:
        Proxy.parse(url, "HTTPS_PROXY")
    assert str(raised.value).startswith("HTTPS_PROXY can't be used")
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))
    assert raised.value.__cause__ is None
    assert "hunter2" not in repr(raised.value.__context__)


@pytest.mark.parametrize("scheme", ["https", "socks4", "socks5", "socks5h"])
def test_a_proxy_of_another_kind_is_named_as_not_supported(scheme):
    with pytest.raises(InvalidInput, match=f"{scheme}:// are not supported"):
        Proxy.parse(f"{scheme}://h:1")


@given(st.text(max_size=60))
def test_any_text_is_a_proxy_or_refused(text):
    for url in (text, f"http://{text}", f"http://user:{text}@host:1"):
        try:
            proxy = Proxy.parse(url)
        except InvalidInput:
            continue
        assert proxy.host
        assert 1 <= proxy.port <= 65535


def test_a_password_that_is_not_utf_8_is_sent_as_the_bytes_that_the_environment_had():
    assert Proxy.parse("http://u:\udcff@h:1").authorization == "Basic dTr/"


def test_no_password_is_in_a_repr():
    proxy = Proxy.parse("http://user:hunter2@host:1")
    assert proxy.authorization is not None
    assert "hunter2" not in repr(proxy)
    assert proxy.authorization.removeprefix("Basic ") not in repr(proxy)
    assert set(proxy.secrets) == {"hunter2", proxy.authorization.removeprefix("Basic ")}


# --- the environment -------------------------------------------------------------------------------------------------


def named(environment, scheme="https", host=HOST):
    proxy = environment_proxy(scheme, host, environment)
    return None if proxy is None else (proxy.host, proxy.source)


@pytest.mark.parametrize(
    ("scheme", "environment", "found"),
    [
        ("https", {}, None),
        ("https", {"https_proxy": "http://a:1"}, ("a", "https_proxy")),
        ("https", {"HTTPS_PROXY": "http://a:1"}, ("a", "HTTPS_PROXY")),
        ("https", {"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, ("a", "https_proxy")),
        ("https", {"https_proxy": "", "HTTPS_PROXY": "http://b:1"}, ("b", "HTTPS_PROXY")),
        ("https", {"http_proxy": "http://a:1"}, None),
        ("http", {"http_proxy": "http://a:1"}, ("a", "http_proxy")),
        ("http", {"https_proxy": "http://a:1"}, None),
        # A web server makes it of what its client sends.
        ("http", {"HTTP_PROXY": "http://a:1"}, None),
        ("https", {"all_proxy": "http://a:1"}, ("a", "all_proxy")),
        ("http", {"ALL_PROXY": "a:1"}, ("a", "ALL_PROXY")),
        ("http", {"all_proxy": "a:1", "ALL_PROXY": "b:1"}, ("a", "all_proxy")),
        ("https", {"https_proxy": "http://a:1", "all_proxy": "http://b:1"}, ("a", "https_proxy")),
    ],
)
def test_the_environment_names_a_proxy_as_for_curl(scheme, environment, found):
    assert named(environment, scheme) == found


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.8.9.10", "::1"])
def test_this_machine_is_reached_without_the_environments_proxy(host):
    assert named({"all_proxy": "http://a:1"}, host=host) is None


@pytest.mark.parametrize(
    ("exceptions", "host", "spared"),
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
def test_hosts_are_spared_as_curl_spares_them(name, exceptions, host, spared):
    assert (named({"https_proxy": "http://a:1", name: exceptions}, host=host) is None) is spared


def test_the_exceptions_in_lower_case_go_before_those_in_upper_case():
    environment = {"https_proxy": "http://a:1", "no_proxy": "other.com", "NO_PROXY": "*"}
    assert named(environment) == ("a", "https_proxy")


def test_a_proxy_that_is_not_asked_is_not_looked_at():
    assert named({"https_proxy": "socks5://h:1"}, host="localhost") is None
    assert named({"https_proxy": "socks5://h:1", "no_proxy": "*"}) is None


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_exceptions_are_read(exceptions, host):
    environment_proxy("https", host or "h", {"https_proxy": "http://a:1", "no_proxy": exceptions})
