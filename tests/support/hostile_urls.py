"""URLs that must never be fetched, made from the ways in which such services have been misled."""

import ipaddress

NOT_PUBLIC = (
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.254", "100.64.0.1", "100.100.100.200",
    "100.127.255.254", "127.0.0.1", "127.0.0.2", "127.255.255.254", "169.254.0.1",
    "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.254", "192.0.0.1",
    "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "192.168.255.254", "198.18.0.1",
    "198.19.255.254", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
    "255.255.255.255", "168.63.129.16",
)  # fmt: skip
NOT_PUBLIC_V6 = (
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1",
    "::ffff:7f00:1", "::ffff:8.8.8.8", "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1",
    "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "3fff::1", "5f00::1",
    "fc00::1", "fd00:ec2::254", "fd12:3456:789a::1", "fe80::1", "fec0::1", "ff02::1", "ff05::2",
    "4000::1", "a000::1",
)  # fmt: skip


def _octets(address: str) -> list[int]:
    return list(ipaddress.IPv4Address(address).packed)


def spellings(address: str) -> list[str]:
    """Ways in which some parser reads `address`, none of them its plain decimal spelling."""
    a, b, c, d = _octets(address)
    number = int(ipaddress.IPv4Address(address))
    return [
        str(number), hex(number), f"0{number:o}", f"{a}.{(b << 16) + (c << 8) + d}",
        f"{a}.{b}.{(c << 8) + d}", f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"0{a}.{b}.{c}.{d}", f"{a}.{b}.{c}.{d}.",
        f"{a:03}.{b:03}.{c:03}.{d:03}", f"0x{a:x}.{b}.{c}.{d}", f"{a}.{b}.{c}.0x{d:x}",
        f"{a}%2e{b}%2e{c}%2e{d}", f"{a}。{b}。{c}。{d}", f"{a + 256}.{b}.{c}.{d}",
    ]  # fmt: skip


AMBIGUOUS = (
    "", " ", "http:", "http://", "http:///", "http://?", "http://#", "http:/example.org/a",
    "http:example.org", "//example.org/a", "/etc/passwd", "example.org", "example.org/a.png",
    "http://user@example.org/", "http://user:password@example.org/", "http://@example.org/",
    "http://:@example.org/", "http://example.org@127.0.0.1/", "http://127.0.0.1@example.org/",
    "http://example.org%40127.0.0.1/", "http://example.org:80@127.0.0.1/",
    "http://example.org:@127.0.0.1/", "http://a@b@127.0.0.1/",
    "http://example.org\\@127.0.0.1/", "http://127.0.0.1\\.example.org/", "http:\\\\127.0.0.1\\",
    "http://example.org\\", "http:/\\127.0.0.1/", "\\\\127.0.0.1\\share",
    "http://example.org/\r\nHost: 127.0.0.1", "http://example.org/\n", "http://example.org/\t",
    "http://exam\tple.org/", "http://exam\nple.org/", "http://example.org\r\n/", "\thttp://a.org/",
    " http://example.org/", "http://example.org/ ", "http://example.org/a b", "http://exa mple.org",
    "http://example.org/\x00", "http://example.org\x00.evil.org/", "http://example.org/\x7f",
    "http://example.org/%0d%0aa:%", "http://example.org/%", "http://example.org/%zz",
    "http://example.org./", "http://example.org../", "http://.example.org/", "http://example..org/",
    "http://-example.org/", "http://example-.org/", "http://" + "a" * 64 + ".org/",
    "http://" + ".".join(["a" * 60] * 5) + "/", "http://example.org/" + "a" * 2048,
    "http://example.org:/", "http://example.org:0/", "http://example.org:65536/",
    "http://example.org:99999/", "http://example.org:-80/", "http://example.org:+80/",
    "http://example.org:80:80/", "http://example.org:8 0/", "http://example.org:0x50/",
    "http://example.org:٨٠/", "http://example.org:22/", "http://example.org:25/",
    "http://example.org:6379/", "http://example.org:9200/", "http://example.org:2375/",
    "http://exämple.org/", "http://ｅxample.org/", "http://①②⑦.⓪.⓪.①/", "http://еxample.org/",
    "http://example。org/", "http://exam\u200bple.org/", "http://\u202eexample.org/",
    "http://examp\u212ale.org/", "http://example.org\uff0f@127.0.0.1/",
    "http://[::1", "http://::1/", "http://[::1]]/", "http://[[::1]]/", "http://[::1%25eth0]/",
    "http://[fe80::1%eth0]/", "http://[fe80::1%251]/", "http://[127.0.0.1]/", "http://[]/",
    "http://[:]/", "http://[::g]/", "http://[1::2::3]/", "http://[v1.fe80::1]/",
    "http://[::ffff:127.1]/", "http://[::1].example.org/", "http://[::1]example.org/",
    "http://example.org/\ud800", 'http://example.org/"', "http://example.org/<a>",
    "http://example.org/^", "http://example.org/`", "http://example.org/{a}",
    "http://example.org#\\@127.0.0.1/", "http://example.org/#\n",
    "http://!/", "http://*/", "http://%31%32%37.0.0.1/", "http://127.0.0.1%00.example.org/",
)  # fmt: skip

OTHER_SCHEMES = tuple(
    f"{scheme}127.0.0.1/a"
    for scheme in (
        "ftp://", "file://", "file:///", "gopher://", "dict://", "ldap://", "ldaps://", "tftp://",
        "sftp://", "ssh://", "jar:http://", "netdoc://", "php://", "data://", "ws://", "wss://",
        "smb://", "imap://", "telnet://", "unix://", "s3://", "gs://", "view-source:http://",
        "javascript:", "data:image/png;base64,", "url:http://", "http+unix://", "httpx://", "htt://",
        "https:", "https//", "HTTP:/",
    )
)  # fmt: skip

NAMES = {
    "localhost": ["127.0.0.1"],
    "localhost.localdomain": ["127.0.0.1", "::1"],
    "ip6-localhost": ["::1"],
    "127.0.0.1.nip.test": ["127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "metadata.test": ["169.254.169.254"],
    "mixed.test": ["93.184.215.14", "127.0.0.1"],
    "mixed6.test": ["93.184.215.14", "::1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "nat64.test": ["64:ff9b::7f00:1"],
    "scoped.test": ["fe80::1%eth0"],
    "zero.test": ["0.0.0.0"],
    "cgnat.test": ["100.64.0.1"],
    "multicast.test": ["224.0.0.1"],
    "private.test": ["10.0.0.1"],
    "_internal.test": ["192.168.0.1"],
}

HOSTILE = tuple(dict.fromkeys(
    [f"http://{address}/" for address in NOT_PUBLIC]
    + [f"https://{address}/latest/meta-data/" for address in NOT_PUBLIC[:12]]
    + [f"http://[{address}]/" for address in NOT_PUBLIC_V6]
    + [f"http://{text}/" for a in ("127.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.0.1")
       for text in spellings(a)]
    + [f"{scheme}://{name}/a.png" for name in NAMES for scheme in ("http", "HTTPS")]
    + list(AMBIGUOUS) + list(OTHER_SCHEMES)
))  # fmt: skip
