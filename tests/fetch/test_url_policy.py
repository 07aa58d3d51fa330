"""The strict parser, redirects, and which addresses are public."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cspine.core.errors import UrlNotAllowedError
from cspine.fetch.url_policy import AllowList, Target, follow_redirect, is_public, parse_url
from support.hostile_urls import ANSWERED, NOT_PUBLIC, NOT_PUBLIC_V6


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://example.org", Target("http", "example.org", 80, "/")),
        ("HTTPS://Example.ORG/a/b.png?x=1#y", Target("https", "example.org", 443, "/a/b.png?x=1")),
        ("http://example.org?x", Target("http", "example.org", 80, "/?x")),
        ("http://93.184.215.14:8080/", Target("http", "93.184.215.14", 8080, "/")),
        ("http://[2606:2800::0001]/", Target("http", "2606:2800::1", 80, "/")),
        ("http://xn--exmple-cua.org/ä%20", Target("http", "xn--exmple-cua.org", 80, "/%C3%A4%20")),
        ("http://a_b.example.org/@x/", Target("http", "a_b.example.org", 80, "/@x/")),
    ],
)
def test_a_plain_url_is_taken_apart(url: str, target: Target):
    assert parse_url(url) == target


@pytest.mark.parametrize("address", [*NOT_PUBLIC, *NOT_PUBLIC_V6])
def test_an_address_that_is_not_public(address: str):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:2800:21f::1", "2a00::1"])
def test_a_public_address(address: str):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("url", ANSWERED)
def test_what_browsers_quote_is_quoted(url: str):
    target = parse_url(url)
    assert (target.host, target.port, target.resource) == ("example.org", 80, ANSWERED[url])


def test_a_signed_url_may_have_8192_characters():
    url = "https://example.org/a?signature=" + "b" * 8160
    assert len(url) == 8192
    assert parse_url(url).resource.endswith("b" * 8160)
    with pytest.raises(UrlNotAllowedError, match=r"at most 8192 characters\. Received: 8193"):
        parse_url(url + "b")


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/b", "http://a.org:80/b"),
        ("b", "http://a.org:80/x/b"),
        ("?q", "http://a.org:80/x/y?q"),
        ("//b.org/c", "http://b.org:80/c"),
        ("https://b.org/", "https://b.org:443/"),
        ("../b/./c/..", "http://a.org:80/b/"),
        ("/../../b?..", "http://a.org:80/b?.."),
        ("/é", "http://a.org:80/%C3%A9"),
        ("/a b{c}", "http://a.org:80/a%20b%7Bc%7D"),
    ],
)
def test_where_a_redirect_leads(location: str, url: str):
    target = follow_redirect(parse_url("http://a.org/x/y?z"), location)
    assert target.origin + target.resource == url


@pytest.mark.parametrize(
    "location", ["http://a.org/", "//user@b.org/", "file:///etc/passwd", "\\\\b.org", "/a\tb"]
)
def test_a_redirect_that_is_refused(location: str):
    with pytest.raises(UrlNotAllowedError):
        follow_redirect(parse_url("https://a.org/x"), location)


def test_the_allow_list_names_hosts_with_or_without_a_port():
    allow = AllowList.of(("127.0.0.1:9697", "Images.Local", "[::1]:9000"))
    assert allow.names(parse_url("http://127.0.0.1:9697/a"))
    assert not allow.names(parse_url("http://127.0.0.1:9698/a"))
    assert allow.names(parse_url("https://images.local/a"))
    assert not allow.names(parse_url("http://images.local:22/a"))
    assert allow.names(parse_url("http://[0:0::1]:9000/a"))


@settings(max_examples=300)
@given(st.text(max_size=60) | st.text("ht:/p@[]0127.xa\\#?%", max_size=40))
def test_whatever_is_sent_the_parser_answers_or_refuses(text: str):
    try:
        target = parse_url("http://" + text)
    except UrlNotAllowedError:
        return
    assert parse_url(target.origin + target.resource) == target


@pytest.mark.parametrize(
    ("url", "address", "opens"),
    [
        ("http://inner.local/a", "10.0.0.7", True),
        ("http://inner.local/a", "fd00::7", True),
        ("http://inner.local/a", "169.254.169.254", False),
        ("http://inner.local/a", "::ffff:169.254.169.254", False),
        ("http://inner.local/a", "fe80::1", False),
        ("http://inner.local/a", "fd00:ec2::254", False),
        ("http://inner.local/a", "168.63.129.16", False),
        ("http://other.local/a", "10.0.0.7", False),
        ("http://169.254.169.254/a", "169.254.169.254", True),
    ],
)
def test_a_listed_name_leads_inside_but_to_no_metadata(url: str, address: str, opens: bool):
    allow = AllowList.of(("inner.local", "169.254.169.254"))
    assert allow.opens(parse_url(url), ipaddress.ip_address(address)) == opens
