"""HTTP client options that keep a server from redirecting into this machine or its network (SSRF).

All addresses of a source belong to one class: public, private or loopback. It is the class of the
host that the user named. The address is checked when the socket is created, which covers redirects
and DNS rebinding; a check of host names would be simpler and easy to evade. Reserved addresses,
such as those of cloud metadata services, are never contacted.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from functools import lru_cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from iclora.errors import BadInput
from iclora.redact import redact_url

if TYPE_CHECKING:
    import aiohttp
    import yarl

AddressClass = Literal["public", "private", "loopback", "reserved"]

MAX_REDIRECTS = 5

_WEB = ("http", "https")
_REDIRECTS = (301, 302, 303, 307, 308)
_RESERVED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local; metadata of AWS, Azure, Google, Oracle and others
        "fe80::/10",  # link-local
        "fd00:ec2::/32",  # AWS
        "fd20:ce::/32",  # Google
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure
        "192.0.0.192/32",  # Oracle
        "240.0.0.0/4",  # no host has one
        "::/96",  # IPv4 addresses in a form that is no longer used
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_CONNECT_SECONDS = 30
_SILENT_SECONDS = 60
"""Seconds without data until a server is given up; the duration of a download is not limited."""


_MAX_LISTING_BYTES = 1 << 25
"""Maximum size of an HTML page that is parsed as a directory listing; more than 100,000 links."""


class EndlessListing(BadInput):
    """Error for a directory listing that is too long to be one."""


class ForbiddenAddress(BadInput):
    """Error for an address that a source must not lead to."""


class _WrongClassError(OSError):
    """Error for a socket to another class; an ``OSError``, so that other addresses are tried."""

    def __init__(self, actual: AddressClass, allowed: AddressClass) -> None:
        # One text for all: aiohappyeyeballs turns several different ones into a plain OSError.
        super().__init__(errno.EACCES, "address of another class")
        self.actual = actual
        self.allowed = allowed


def class_of(address: str) -> AddressClass:
    """Classifies an IP address; an IPv4 address inside an IPv6 address counts as itself."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else inner or ip
    if ip.is_loopback or ip.is_unspecified:
        return "loopback"
    if ip.is_multicast or any(ip in network for network in _RESERVED):
        return "reserved"
    return "public" if ip.is_global else "private"


@lru_cache(maxsize=1 << 12)
def _class_of_host(host: str) -> AddressClass:
    """Classifies a host that the user named.

    The first answer counts for this process. If the addresses differ in class, the first of
    public, private and loopback counts: a public host must not lead into a network.

    Raises:
        OSError: the host has no address.
    """
    infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    classes = {class_of(str(info[4][0])) for info in infos}
    order: tuple[AddressClass, ...] = ("public", "private", "loopback", "reserved")
    return next(name for name in order if name in classes)


def web_options(location: str) -> dict[str, Any]:
    """Makes fsspec's options for a location, which restrict the addresses of its web server.

    Args:
        location: a URL, or a chain of them; for other protocols there are no options.

    Raises:
        ForbiddenAddress: the location names a reserved address.
        OSError: the host has no address.
    """
    links = location.split("::")
    options: dict[str, Any] = {}
    for link in links:
        scheme, mark, _ = link.partition("://")
        if not mark or scheme not in _WEB:
            continue
        host = urlsplit(link).hostname or ""
        allowed = _class_of_host(host)
        if allowed == "reserved":
            raise ForbiddenAddress(f"{host} is a reserved address")
        own = options_within(allowed)
        options |= own if len(links) == 1 else {scheme: own}
    return options


def options_within(allowed: AddressClass) -> dict[str, Any]:
    """Makes options of fsspec's ``HTTPFileSystem`` that allow addresses of one class."""
    # aiohttp also counts the redirect that exceeds the limit.
    return {"get_client": _client_within(allowed), "max_redirects": MAX_REDIRECTS + 1}


@lru_cache
def _client_within(allowed: AddressClass) -> Any:
    """Makes a client factory; one per class, so that fsspec shares connections within a class."""

    async def client(**_: Any) -> aiohttp.ClientSession:
        import aiohttp

        return aiohttp.ClientSession(
            response_class=_bounded_response(),
            connector=aiohttp.TCPConnector(socket_factory=partial(_create_socket, allowed=allowed)),
            middlewares=(_follow_carefully,),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS
            ),
        )

    return client


@lru_cache
def _bounded_response() -> Any:
    """Makes a response class whose ``text``, which fsspec parses as a listing, is bounded."""
    import aiohttp

    class BoundedResponse(aiohttp.ClientResponse):
        async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
            data = bytearray()
            async for chunk in self.content.iter_chunked(1 << 16):
                data += chunk
                if len(data) > _MAX_LISTING_BYTES:
                    self.close()
                    if "Content-Type" not in self.headers:
                        return ""  # a file of unknown type
                    raise EndlessListing("its listing is longer than 32 MiB")
            self._body = bytes(data)
            return await super().text(encoding, errors)

    return BoundedResponse


def _create_socket(info: aiohttp.AddrInfoType, allowed: AddressClass) -> socket.socket:
    family, kind, protocol, _, address = info
    actual = class_of(str(address[0]))
    if actual != allowed:
        raise _WrongClassError(actual, allowed)
    return socket.socket(family, kind, protocol)


async def _follow_carefully(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Checks each request of a chain of redirects; aiohttp drops credentials between hosts."""
    import aiohttp

    try:
        response = await handler(request)
    except aiohttp.ClientConnectorError as error:
        wrong = error.os_error
        if isinstance(wrong, _WrongClassError):
            raise ForbiddenAddress(
                f"it leads to {redact_url(str(request.url))}, which has a {wrong.actual} address; "
                f"from the named host, only {wrong.allowed} addresses may be reached"
            ) from error
        raise
    target = response.headers.get("Location")
    if target and response.status in _REDIRECTS:
        try:
            check_redirect(request.url, target)
        except ForbiddenAddress:
            response.close()
            raise
    return response


def check_redirect(url: yarl.URL, target: str) -> None:
    """Checks the protocol of a redirect's target.

    Raises:
        ForbiddenAddress: the redirect leads from HTTPS to HTTP, or to another protocol.
    """
    import yarl

    try:
        scheme = url.join(yarl.URL(target)).scheme
    except ValueError:  # not a URL, which aiohttp reports
        return
    if scheme not in _WEB or (url.scheme == "https" and scheme == "http"):
        raise ForbiddenAddress(f"it leads from {url.scheme} to {scheme}")


def is_missing(error: Exception) -> bool:
    """Checks if an error means HTTP 404; fsspec also raises FileNotFoundError for other ones."""
    import aiohttp

    root = _root_of(error)
    if isinstance(root, aiohttp.ClientResponseError):
        return root.status == HTTPStatus.NOT_FOUND
    return isinstance(error, FileNotFoundError) and not isinstance(root, aiohttp.ClientError)


def describe(error: Exception) -> str:
    """Describes an error between a client and a server; other errors describe themselves."""
    import aiohttp

    root = _root_of(error)
    if isinstance(root, aiohttp.TooManyRedirects):
        return f"more than {MAX_REDIRECTS} redirects"
    if isinstance(root, aiohttp.ClientResponseError):  # its own text quotes the URL
        return f"the server's answer is {root.status} {root.message}"
    if isinstance(root, TimeoutError):
        return str(root) or "no answer in time"
    return str(root if isinstance(root, aiohttp.ClientError) else error)


def _root_of(error: BaseException) -> BaseException:
    while isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error
